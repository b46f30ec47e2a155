//! A sweep on a real Slurm: never more points at once than are allowed, whatever becomes of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use support::Text;
use support::slurm::{Job, Site};

const POINTS: usize = 12;
const AT_ONCE: usize = 4;
/// Fails for good.
const BAD: usize = 6;
/// Are preempted: they alone are on node n4. The first is queued again; the second may not be, and is
/// submitted anew by its supervisor.
const PREEMPTED: [usize; 2] = [5, 7];

/// One point takes one CPU of one node; without the limit, all of them would run at once.
fn sweep() -> String {
    let list = |of: &dyn Fn(usize) -> String| (0..POINTS).map(of).collect::<Vec<_>>().join(", ");
    let node = |point: usize| match point {
        point if PREEMPTED.contains(&point) => "n4".to_owned(),
        point => format!("n{}", point % 3 + 1),
    };
    format!(
        "name: point
command: [./point.sh]
notify: {{webhooks: [$HOOK]}}
cluster:
  backend: slurm
  partition: low
  nodes: 1
  gpus_per_node: 0
  tasks_per_node: 1
  cpus_per_task: 1
  time: 10
  max_crashes: 0
sweep:
  name: twelve
  max_running: {AT_ONCE}
  zip:
    cluster.env.POINT: [{}]
    cluster.extra.nodelist: [{}]
    cluster.requeue: [{}]
",
        list(&|point| format!("\"{point}\"")),
        list(&node),
        list(&|point| (point != PREEMPTED[1]).to_string())
    )
}

#[test]
fn twelve_points_of_which_four_run_at_once() {
    let Some(site) = Site::new(1, &[("CLUSTER_GRACE", "5"), ("CLUSTER_KILL_WAIT", "2")]) else {
        return;
    };
    let (project, cluster) = (site.project(), site.cluster());
    project.write("sweep.yaml", &sweep());
    project.write(
        "point.sh",
        &format!(
            "#!/bin/sh\ncase $POINT-$ROCKET_ATTEMPT in {}-0|{}-0) exec sleep 100;; esac\nsleep 2\n[ $POINT != {BAD} ]\n",
            PREEMPTED[0], PREEMPTED[1]
        ),
    );
    let script = project.path().join("point.sh");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("executable");
    project.commit("A sweep");
    let hook = Hook::start();
    let mut command = project.command("rocket");
    command
        .args(["submit", "sweep.yaml"])
        .env("HOOK", &hook.url);
    let said = command.output().expect("rocket starts").ok();
    assert!(said.contains("points     12"), "{said}");

    let start = Instant::now();
    let mut most = 0;
    let mut taken = None;
    let mut last = start;
    loop {
        let running = running(&site);
        most = most.max(running.len());
        assert!(most <= AT_ONCE, "{most} run at once\n{}", cluster.report());
        if taken.is_none() && on(&running, "n4") == 2 && attempted(&site) {
            taken = Some(cluster.occupy("n4", 1));
        }
        if last.elapsed() > Duration::from_secs(2) {
            last = Instant::now();
            let states = status(&site)["states"].clone();
            if states["finished"] == POINTS - 1 {
                assert_eq!(states["failed"], 1, "{states}");
                break;
            }
        }
        assert!(
            start.elapsed() < Duration::from_secs(200),
            "the sweep does not end: {:#}\n{}",
            status(&site)["states"],
            cluster.report()
        );
        std::thread::sleep(Duration::from_millis(150));
    }
    assert_eq!(most, AT_ONCE, "never so many ran as may");
    assert!(taken.is_some(), "nothing was preempted");

    // By Slurm's own record: in each lane, each started when the one before it was over.
    let mut lanes: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    for job in cluster.jobs().values().filter(|job| is_point(job)) {
        let times = (job["StartTime"].clone(), job["EndTime"].clone());
        lanes.entry(job["JobName"].clone()).or_default().push(times);
    }
    assert_eq!(lanes.len(), AT_ONCE, "{lanes:#?}");
    let jobs: usize = lanes.values().map(Vec::len).sum();
    assert_eq!(jobs, POINTS + 1, "one was submitted anew: {lanes:#?}");
    for times in lanes.values_mut() {
        times.sort();
        for pair in times.windows(2) {
            assert!(pair[0].1 <= pair[1].0, "two of a lane at once: {times:#?}");
        }
    }

    // The preempted points went on; the failed one held nobody up.
    let status = status(&site);
    let runs = status["runs"].as_array().expect("runs");
    let attempts: Vec<u64> = runs
        .iter()
        .map(|run| run["attempt"].as_u64().expect("an attempt"))
        .collect();
    let again: BTreeSet<usize> = (0..POINTS).filter(|point| attempts[*point] > 0).collect();
    assert_eq!(again, BTreeSet::from(PREEMPTED), "{attempts:?}");
    assert_eq!(runs[BAD]["status"], "failed");

    // Everybody who wanted to know was told.
    let told = |event: &str| hook.points(event);
    let asked = Instant::now();
    while told("finished").len() < POINTS - 1 && asked.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(told("failed"), [BAD]);
    assert_eq!(told("preempted"), PREEMPTED);
    assert_eq!(told("finished").len(), POINTS - 1);

    // A resumed point is of its lane again, and one that is there is not submitted twice.
    let said = project.rocket(&["sweep", "resume", "twelve"]).ok();
    assert!(said.contains("11 finished"), "{said}");
    let resumed = cluster.jobs().into_values().rfind(is_point);
    let resumed = resumed.expect("a job");
    assert!(lanes.contains_key(&resumed["JobName"]), "{resumed:#?}");
    let output = project.rocket(&["submit", "sweep.yaml"]);
    assert!(output.err().contains("there is a sweep 'twelve' already"));
    let said = project
        .rocket(&["sweep", "extend", "twelve", "sweep.yaml"])
        .ok();
    assert!(said.contains("every point is there"), "{said}");
    let said = project.rocket(&["sweep", "cancel", "twelve", "--now"]).ok();
    assert!(said.contains("were over"), "{said}");
}

fn is_point(job: &Job) -> bool {
    job["JobName"].starts_with("twelve-lane")
}

/// Nodes of the points that Slurm says are running.
fn running(site: &Site) -> Vec<String> {
    let text = site
        .cluster()
        .run(
            "squeue",
            &["--noheader", "--states=RUNNING", "--format=%j %N"],
        )
        .ok();
    let points = text.lines().filter(|line| line.starts_with("twelve-lane"));
    points.map(str::to_owned).collect()
}

fn on(running: &[String], node: &str) -> usize {
    running.iter().filter(|line| line.ends_with(node)).count()
}

/// Whether the points that are to be preempted have their ranks.
fn attempted(site: &Site) -> bool {
    let runs = site.project().path().join("runs");
    PREEMPTED.iter().all(|point| {
        let begin = format!("point-POINT{point}-");
        fs::read_dir(&runs).expect("runs").flatten().any(|entry| {
            let is_it = entry.file_name().to_string_lossy().starts_with(&begin);
            is_it && entry.path().join("attempts/000/ranks/0.log").exists()
        })
    })
}

/// A server that takes whatever is posted.
struct Hook {
    url: String,
    posts: Arc<Mutex<Vec<Value>>>,
}

impl Hook {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}/", listener.local_addr().expect("an address"));
        let posts = Arc::new(Mutex::new(Vec::new()));
        let got = Arc::clone(&posts);
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut text = Vec::new();
                let mut block = [0; 4096];
                // Head and body: the body is one JSON object, which is whole when it can be read.
                let post = loop {
                    let count = stream.read(&mut block).unwrap_or(0);
                    text.extend_from_slice(&block[..count]);
                    let said = String::from_utf8_lossy(&text);
                    let body = said.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
                    let post = body.and_then(|body| serde_json::from_str(&body).ok());
                    if post.is_some() || count == 0 {
                        break post;
                    }
                };
                let _ = stream.write_all(
                    b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
                );
                got.lock().expect("unpoisoned").extend(post);
            }
        });
        Self { url, posts }
    }

    /// The points that something was posted of.
    fn points(&self, event: &str) -> Vec<usize> {
        let posts = self.posts.lock().expect("unpoisoned");
        let of = posts.iter().filter(|post| post["event"] == event);
        let mut points: Vec<usize> = of
            .map(|post| post["sweep"]["point"].as_u64().expect("a point") as usize)
            .collect();
        points.sort_unstable();
        points
    }
}

fn status(site: &Site) -> Value {
    let text = site
        .project()
        .rocket(&["sweep", "status", "twelve", "--json"])
        .ok();
    serde_json::from_str(&text).expect("JSON")
}
