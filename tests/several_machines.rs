//! Without a scheduler: ranks on several machines, and ranks that another launcher starts.
//!
//! The machines are two network namespaces joined by a cable (veth), which needs root; elsewhere they
//! are two shares on this one, which meet at an address of the loopback other than the usual.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use serde_json::Value;
use support::{Project, Text, run_id};

const STEPS: u64 = 240;
/// Far above what any step of a test needs on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(120);
/// How soon a superseded rank must be gone: it looks every second.
const SOON: Duration = Duration::from_secs(20);

/// Four ranks, two per machine.
const OVERRIDES: [&str; 8] = [
    "cluster.tasks_per_node=2",
    "train.batch_size=2",
    "train.bucket_cap_mb=0.02",
    "train.print_freq=1",
    "train.checkpoint_every=40 steps",
    "text.text_augment=true",
    "text.synonym_replacement_prob=0",
    "text.text_dropout_prob=0.1",
];

/// Two places to run programs in.
struct Machines {
    namespaces: Option<[String; 2]>,
}

/// Addresses within the cable between the namespaces.
const ADDRESSES: [&str; 2] = ["10.213.77.1", "10.213.77.2"];

impl Machines {
    fn new() -> Self {
        let names = ["a", "b"].map(|end| format!("rocket-{}-{end}", std::process::id()));
        let mut machines = Self {
            namespaces: Some(names),
        };
        if machines.connect().is_none() {
            machines.remove();
            eprintln!("note: no network namespaces here; two shares of one machine stand in");
            machines.namespaces = None;
        }
        machines
    }

    fn connect(&self) -> Option<()> {
        let [a, b] = self.namespaces.as_ref()?;
        ip(&["netns", "add", a])?;
        ip(&["netns", "add", b])?;
        let cable = [
            "link", "add", "cable", "netns", a, "type", "veth", "peer", "name", "cable", "netns", b,
        ];
        ip(&cable)?;
        for (name, address) in [a, b].into_iter().zip(ADDRESSES) {
            let address = format!("{address}/24");
            ip(&["-n", name, "address", "add", &address, "dev", "cable"])?;
            ip(&["-n", name, "link", "set", "cable", "up"])?;
            ip(&["-n", name, "link", "set", "lo", "up"])?;
        }
        Some(())
    }

    fn remove(&self) {
        for name in self.namespaces.iter().flatten() {
            let _ = ip(&["netns", "delete", name]);
        }
    }

    /// Address of machine 0.
    fn master(&self) -> &'static str {
        match self.namespaces {
            Some(_) => ADDRESSES[0],
            None => "127.0.0.2",
        }
    }

    /// A program of `project` on a machine.
    fn command(&self, project: &Project, machine: usize, program: &Path) -> Command {
        match &self.namespaces {
            Some(names) => {
                let mut command = project.command("ip");
                command
                    .args(["netns", "exec", &names[machine]])
                    .arg(program);
                command
            }
            None => project.command(&program.to_string_lossy()),
        }
    }

    /// `rocket submit` of the experiment on a machine.
    fn submit(&self, project: &Project, machine: usize) -> Command {
        let mut command = self.command(project, machine, &support::binaries().join("rocket"));
        command.args([
            "submit",
            "exp.yaml",
            "--again",
            "--backend",
            "local",
            "--nodes",
            "2",
        ]);
        command.args([
            "--node-rank",
            &machine.to_string(),
            "--master-addr",
            self.master(),
        ]);
        for value in OVERRIDES {
            command.args(["--set", value]);
        }
        command
    }
}

impl Drop for Machines {
    fn drop(&mut self) {
        self.remove();
    }
}

fn ip(args: &[&str]) -> Option<()> {
    let done = Command::new("ip").args(args).output().ok()?;
    done.status.success().then_some(())
}

/// Submits the experiment to this machine alone, or to nobody.
fn submit_here(project: &Project, more: &[&str]) -> PathBuf {
    let mut args = vec!["submit", "exp.yaml", "--again", "--set", "cluster.nodes=2"];
    args.extend(["--backend", "local"]);
    for value in &OVERRIDES {
        args.extend(["--set", value]);
    }
    args.extend(more);
    let said = project.rocket(&args).ok();
    run_dir(project, &said)
}

fn run_dir(project: &Project, said: &str) -> PathBuf {
    project.path().join("runs").join(run_id(said))
}

fn finished(project: &Project, run: &Path) {
    project.wait_for(&run.to_string_lossy(), "finish", |status| {
        assert_ne!(status["status"], "failed", "{status:#}");
        status["status"] == "finished"
    });
}

/// Checksums of the final weights and optimiser state.
fn final_state(run: &Path) -> BTreeMap<String, String> {
    let manifest = json(&run.join(format!("checkpoints/step-{STEPS:08}/manifest.json")));
    let sections = manifest["sections"].as_array().expect("sections");
    let text = |section: &Value, key: &str| section[key].as_str().expect("text").to_owned();
    sections
        .iter()
        .filter(|section| section["name"] != "state")
        .map(|section| (text(section, "name"), text(section, "sha256")))
        .collect()
}

fn json(path: &Path) -> Value {
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&bytes).expect("JSON")
}

/// Steps of the training records, in the order of the file.
fn steps(run: &Path) -> Vec<u64> {
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap_or_default();
    text.lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|line| line["kind"] == "train")
        .filter_map(|line| line["step"].as_u64())
        .collect()
}

fn wait(what: &str, limit: Duration, mut there: impl FnMut() -> bool) {
    let start = Instant::now();
    while !there() {
        assert!(
            start.elapsed() < limit,
            "no {what} within {} s",
            limit.as_secs()
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Names of events in the order of time.
fn events(run: &Path) -> Vec<Value> {
    let mut all: Vec<Value> = fs::read_dir(run.join("events"))
        .expect("events")
        .flatten()
        .flat_map(|entry| {
            let text = fs::read_to_string(entry.path()).expect("events");
            let lines = text
                .lines()
                .map(|line| serde_json::from_str(line).expect("JSON"));
            lines.collect::<Vec<Value>>()
        })
        .collect();
    all.sort_by_key(|event| event["time"].as_str().map(str::to_owned));
    all
}

#[test]
fn two_machines_train_as_one_and_a_share_may_die() {
    let project = Project::new(STEPS);
    let alone = submit_here(&project, &[]);
    finished(&project, &alone);
    let wanted = final_state(&alone);

    let machines = Machines::new();
    // The second machine comes first: it waits for the run.
    let share = || {
        let mut command = machines.submit(&project, 1);
        let name = format!(
            "share-{}.out",
            std::time::UNIX_EPOCH.elapsed().map_or(0, |t| t.as_millis())
        );
        let out = File::create(project.path().join("runs").join(name)).expect("a file");
        command.stderr(out.try_clone().expect("a file")).stdout(out);
        command.spawn().expect("rocket starts")
    };
    let mut first = share();
    let said = machines
        .submit(&project, 0)
        .output()
        .expect("rocket starts")
        .ok();
    let run = run_dir(&project, &said);
    assert!(first.wait().expect("waited").success());
    wait("step 60", PATIENCE, || steps(&run).last() >= Some(&60));

    // Its ranks die with it; nothing is started in its place but by a person.
    let presence = run.join("machines/1.json");
    let pid = json(&presence)["pid"].as_i64().expect("a pid");
    kill("KILL", i32::try_from(pid).expect("a pid"));
    let mut second = share();
    assert!(second.wait().expect("waited").success());
    finished(&project, &run);
    assert_eq!(
        final_state(&run),
        wanted,
        "weights differ from those of one machine"
    );
    assert_eq!(steps(&run), (1..=STEPS).collect::<Vec<_>>());
    let attempts = run.join("attempts");
    assert!(
        attempts.join("001/launch.json").is_file(),
        "the run was relaunched"
    );
    let record = json(&attempts.join("000/ranks/3.exit.json"));
    assert_eq!(record["signal"], 9, "{record}");
    let record = json(&attempts.join("001/ranks/3.exit.json"));
    assert_eq!(record["code"], 0, "{record}");
    if machines.namespaces.is_some() {
        let host = json(&attempts.join("001/rendezvous.json"))["host"].clone();
        assert_eq!(host, ADDRESSES[0]);
    }
    // The share leaves by itself.
    let out = run.join("machines/1.out");
    wait("end of the share", SOON, || {
        fs::read_to_string(&out).is_ok_and(|text| text.contains("the run is over"))
    });
}

fn kill(signal: &str, pid: i32) {
    let status = Command::new("kill")
        .args(["-s", signal, &pid.to_string()])
        .status();
    assert!(
        status.expect("kill starts").success(),
        "process {pid} was gone already"
    );
}

/// Whether a process has come so far as to catch SIGTERM (proc(5), `SigCgt`).
fn catches_sigterm(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let caught = caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    caught.is_some_and(|mask| mask & 1 << (15 - 1) != 0)
}

/// Ranks that a launcher like torchrun would start.
struct Ranks {
    children: Vec<Child>,
    logs: Vec<PathBuf>,
}

impl Ranks {
    fn start(project: &Project, run: &Path, port: u16, which: &[u32], name: &str) -> Self {
        let mut ranks = Self {
            children: Vec::new(),
            logs: Vec::new(),
        };
        let bundle = json(&run.join("run.json"))["bundle"].clone();
        let files = bundle["files"].as_object().expect("files");
        let worker = files.keys().find(|name| name.ends_with("rocket-worker"));
        let worker = Path::new(bundle["dir"].as_str().expect("a folder"))
            .join(worker.expect("the worker is in the bundle"));
        for rank in which {
            let log = run.join(format!("by-hand-{name}-{rank}.log"));
            let out = File::create(&log).expect("a log");
            let mut command = project.command(&worker.to_string_lossy());
            command.arg("train").arg("--run").arg(run);
            for (name, value) in [
                ("RANK", rank.to_string()),
                ("WORLD_SIZE", "4".to_owned()),
                ("LOCAL_RANK", (rank % 2).to_string()),
                ("MASTER_ADDR", "127.0.0.2".to_owned()),
                ("MASTER_PORT", port.to_string()),
                ("OMP_NUM_THREADS", "1".to_owned()),
            ] {
                command.env(name, value);
            }
            command.stderr(out.try_clone().expect("a log")).stdout(out);
            ranks
                .children
                .push(command.spawn().expect("the worker starts"));
            ranks.logs.push(log);
        }
        ranks
    }

    /// How each ended.
    fn ends(&mut self, limit: Duration) -> Vec<ExitStatus> {
        let mut ends = vec![None; self.children.len()];
        wait("end of the ranks", limit, || {
            for (child, end) in self.children.iter_mut().zip(&mut ends) {
                if end.is_none() {
                    *end = child.try_wait().expect("waited");
                }
            }
            ends.iter().all(Option::is_some)
        });
        ends.into_iter().flatten().collect()
    }

    fn codes(&mut self, limit: Duration) -> Vec<Option<i32>> {
        self.ends(limit).iter().map(ExitStatus::code).collect()
    }

    fn said(&self) -> String {
        let text = |log: &PathBuf| fs::read_to_string(log).unwrap_or_default();
        self.logs.iter().map(text).collect()
    }
}

impl Drop for Ranks {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

#[test]
fn ranks_of_another_launcher_claim_attempts_and_ghosts_leave() {
    let project = Project::new(STEPS);
    let alone = submit_here(&project, &[]);
    let run = submit_here(&project, &["--no-start"]);
    assert!(
        run.join("pin/labels.json").is_file(),
        "the pinned files are not prepared"
    );
    finished(&project, &alone);

    // A signal while the ranks wait for each other is followed at once.
    let port = free_port();
    let mut early = Ranks::start(&project, &run, port, &[1, 2], "early");
    for child in &early.children {
        wait("handler of SIGTERM", PATIENCE, || {
            catches_sigterm(child.id())
        });
        kill("TERM", i32::try_from(child.id()).expect("a pid"));
    }
    assert_eq!(early.codes(SOON), [Some(0); 2], "{}", early.said());
    assert!(!run.join("attempts/000").exists(), "no attempt was made");

    // Asked to stop by a signal at one rank: all save the same step. One of SIGCONT does nothing.
    let all = [0, 1, 2, 3];
    let mut first = Ranks::start(&project, &run, port, &all, "first");
    wait("step 20", PATIENCE, || steps(&run).last() >= Some(&20));
    let pid = i32::try_from(first.children[2].id()).expect("a pid");
    kill("CONT", pid);
    kill("TERM", pid);
    assert_eq!(first.codes(SOON), [Some(0); 4], "{}", first.said());
    let ends: Vec<Value> = (0..4)
        .map(|rank| json(&run.join(format!("attempts/000/ranks/{rank}.end.json"))))
        .collect();
    for end in &ends {
        assert_eq!(
            (&end["outcome"], &end["stop"]),
            (&"stopped".into(), &"signal".into())
        );
        assert_eq!(end["step"], ends[0]["step"]);
    }

    // Attempt 1 goes on from there; while it lives, somebody starts attempt 2 elsewhere.
    let from = ends[0]["step"].as_u64().expect("a step");
    let mut ghosts = Ranks::start(&project, &run, port, &all, "ghosts");
    wait("steps of attempt 1", PATIENCE, || {
        steps(&run).last() >= Some(&(from + 20))
    });
    let claim = run.join("attempts/002.claim");
    let mut second = Ranks::start(&project, &run, free_port(), &all, "second");
    wait("attempt 2", PATIENCE, || claim.exists());
    let codes = ghosts.codes(SOON);
    assert_eq!(
        codes,
        [Some(9); 4],
        "superseded ranks leave as such:\n{}",
        ghosts.said()
    );
    assert_eq!(second.codes(PATIENCE), [Some(0); 4], "{}", second.said());
    assert_eq!(steps(&run), (1..=STEPS).collect::<Vec<_>>());
    assert_eq!(
        final_state(&run),
        final_state(&alone),
        "weights differ from those of the supervisor's ranks"
    );
    let status = project.status(&run.to_string_lossy());
    assert_eq!(status["status"], "finished", "{status:#}");
    let claimed: Vec<u64> = events(&run)
        .iter()
        .filter(|event| event["event"] == "attempt_started")
        .filter_map(|event| event["attempt"].as_u64())
        .collect();
    assert_eq!(claimed, [0, 1, 2]);

    // Once it is complete, another start is nothing to do.
    let mut after = Ranks::start(&project, &run, port, &all, "after");
    assert_eq!(after.codes(SOON), [Some(0); 4], "{}", after.said());
    assert!(!run.join("attempts/003").exists());
}

#[test]
fn a_place_that_makes_no_sense_is_explained() {
    let project = Project::new(STEPS);
    let run = submit_here(&project, &["--no-start"]);
    let worker = support::binaries().join("rocket-worker");
    let refused = |vars: &[(&str, &str)]| {
        let mut command = project.command(&worker.to_string_lossy());
        command
            .arg("train")
            .arg("--run")
            .arg(&run)
            .envs(vars.iter().copied());
        let output = command.output().expect("the worker starts");
        assert!(!output.status.success());
        (output.status.code(), output.err())
    };
    let (code, text) = refused(&[("RANK", "0")]);
    assert_eq!(code, Some(2));
    assert!(
        text.contains("WORLD_SIZE, MASTER_ADDR and MASTER_PORT are not set"),
        "{text}"
    );
    assert!(
        text.contains("hint: ") && text.contains("torchrun"),
        "{text}"
    );
    let meeting = [
        ("MASTER_ADDR", "127.0.0.1"),
        ("MASTER_PORT", "1"),
        ("LOCAL_RANK", "0"),
    ];
    let (code, text) = refused(&[&[("RANK", "0"), ("WORLD_SIZE", "3")][..], &meeting].concat());
    assert_eq!(code, Some(3));
    assert!(
        text.contains("WORLD_SIZE=3 ranks were started, but the run's experiment has 4"),
        "{text}"
    );
    assert!(!run.join("attempts/000").exists());
}
