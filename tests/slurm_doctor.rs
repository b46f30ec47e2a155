//! `rocket doctor` on a real cluster: what it reads, what a job sees on nodes, and what it says when
//! things are not as a run needs them.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Output};
use std::time::Instant;

use serde_json::Value;
use support::Text;
use support::slurm::Site;

/// Runs `rocket doctor --json` as the user, and gives what it says and its exit code.
fn doctor(site: &Site, args: &[&str]) -> (Value, Option<i32>) {
    let mut command = site.project().command("rocket");
    command.args(["doctor", "--json"]).args(args);
    read(&command.output().expect("rocket starts"))
}

fn read(output: &Output) -> (Value, Option<i32>) {
    let value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}{}", output.out(), output.err()));
    (value, output.status.code())
}

/// The words of all findings of a list with a level.
fn words(findings: &Value, level: &str) -> String {
    let list = findings.as_array().expect("findings").iter();
    list.filter(|finding| finding["level"] == level)
        .map(|finding| format!("{}\n", finding["words"].as_str().expect("words")))
        .collect()
}

fn partition<'a>(said: &'a Value, name: &str) -> &'a Value {
    let mut all = said["slurm"]["partitions"]
        .as_array()
        .expect("partitions")
        .iter();
    all.find(|one| one["name"] == name).expect("the partition")
}

fn contains(text: &str, wanted: &[&str]) {
    for part in wanted {
        assert!(text.contains(part), "'{part}' is not said:\n{text}");
    }
}

#[test]
fn doctor_reads_the_contract_and_looks_at_nodes() {
    let Some(site) = Site::new(4, &[("CLUSTER_GRACE", "20"), ("CLUSTER_KILL_WAIT", "7")]) else {
        return;
    };
    let (said, code) = doctor(&site, &["--job"]);
    let text = format!("{said:#}");
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(said["works"], true);

    let low = &partition(&said, "low")["contract"];
    contains(low["preempted_by"].as_str().expect("words"), &["'high'"]);
    contains(
        low["warning"].as_str().expect("words"),
        &["20 s (GraceTime)", "7 s later"],
    );
    contains(
        low["then"].as_str().expect("words"),
        &["rocket requeues the job", "5 s at the earliest"],
    );
    let settings = low["settings"].as_array().expect("settings");
    let grace = settings
        .iter()
        .find(|one| one["key"] == "cluster.stop_grace_seconds");
    let grace: u64 = grace.expect("a grace")["value"]
        .as_str()
        .expect("text")
        .parse()
        .expect("a number");
    assert!((10..20).contains(&grace), "{grace}");
    let low0 = words(&partition(&said, "low0")["contract"]["findings"], "warning");
    contains(&low0, &["GraceTime=0", "7 s to save"]);
    let lowc = &partition(&said, "lowc")["contract"];
    contains(
        &words(&lowc["findings"], "warning"),
        &["PreemptMode=CANCEL"],
    );
    contains(lowc["then"].as_str().expect("words"), &["rocket heal"]);
    assert!(partition(&said, "high")["contract"]["warning"].is_null());
    assert_eq!(partition(&said, "low")["groups"][0]["gpus"], 8);
    assert_eq!(partition(&said, "low")["groups"][0]["nodes"], 4);

    // Two processes here, and one on each of two nodes, have tried the same.
    for findings in [&said["local"]["findings"], &said["job"]["findings"]] {
        let fine = words(findings, "ok");
        contains(
            &fine,
            &[
                "rename() replaces",
                "link() lets exactly one win",
                "the trainer starts",
            ],
        );
        assert_eq!(words(findings, "problem"), "");
    }
    let probes = said["job"]["probes"].as_array().expect("probes");
    let nodes: Vec<&str> = probes
        .iter()
        .map(|one| one["machine"]["node"].as_str().expect("a node"))
        .collect();
    assert_eq!(nodes, ["n1", "n2"]);
    contains(
        &words(&said["job"]["findings"], "ok"),
        &["n2 reaches the first node"],
    );

    // Nothing is left in the runs root but what a run uses as well.
    let runs = site.project().path().join("runs");
    let left: Vec<String> = fs::read_dir(&runs)
        .expect("the runs root")
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with(".doctor"))
        .collect();
    assert!(left.is_empty(), "{left:?}");

    // A partition that is not there, a queue that does not move.
    let (said, code) = doctor(&site, &["--job", "--partition", "no-such"]);
    assert_eq!(code, Some(1));
    contains(
        &words(&said["job"]["findings"], "problem"),
        &["not taken", "partition"],
    );
    let important = site.cluster().occupy("4", 30);
    let (said, code) = doctor(&site, &["--job", "--partition", "low", "--wait", "3"]);
    assert_eq!(
        code,
        Some(0),
        "a full queue is no problem of the place: {said:#}"
    );
    contains(
        &words(&said["job"]["findings"], "warning"),
        &["had not started", "cancelled"],
    );
    site.cluster().run("scancel", &[&important.to_string()]);
    let job: u32 = said["job"]["job"]
        .as_str()
        .expect("a job")
        .parse()
        .expect("a number");
    assert_eq!(site.cluster().job(job)["JobState"], "CANCELLED");

    unshared_root(&site);
    silent_controller(&site);
}

/// A folder that this machine sees alone: mounted where the nodes' processes do not look.
fn unshared_root(site: &Site) {
    let dir = site.user().home().join("alone");
    fs::create_dir(&dir).expect("a folder");
    site.user().own(&dir);
    let owner = fs::metadata(&dir).expect("there");
    let script = format!(
        "mount -t tmpfs -o mode=700,uid={uid},gid={gid} tmpfs '{dir}' && \
         exec setpriv --reuid={uid} --regid={gid} --clear-groups \
         rocket --runs '{dir}' doctor --json --job",
        uid = owner.uid(),
        gid = owner.gid(),
        dir = dir.display(),
    );
    let own = site.project().command("rocket");
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "sh", "-c", &script])
        .current_dir("/")
        .env_clear();
    for (name, value) in own.get_envs() {
        if let Some(value) = value {
            command.env(name, value);
        }
    }
    // The bundle need not hold libtorch for this.
    command.env("ROCKET_WORKER", "/nonexistent/rocket-worker");
    let (said, code) = read(&command.output().expect("unshare starts"));
    assert_eq!(code, Some(1), "{said:#}");
    contains(
        &words(&said["job"]["findings"], "problem"),
        &["do not see the runs root"],
    );
    contains(&words(&said["local"]["findings"], "warning"), &["tmpfs"]);
}

/// While the controller is away, everything else is said, and soon.
fn silent_controller(site: &Site) {
    site.cluster().stop_slurmctld();
    let start = Instant::now();
    let (said, code) = doctor(site, &[]);
    let seconds = start.elapsed().as_secs();
    site.cluster().start_slurmctld();
    assert_eq!(code, Some(0), "{said:#}");
    assert_eq!(said["slurm"]["controller_up"], false);
    contains(
        &words(&said["slurm"]["findings"], "warning"),
        &["does not answer"],
    );
    contains(
        &words(&said["local"]["findings"], "ok"),
        &["link() lets exactly one win"],
    );
    assert!(seconds < 25, "{seconds} s");
}
