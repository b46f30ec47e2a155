//! A sweep on a real Slurm: never more points at once than are allowed, whatever becomes of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::Text;
use support::slurm::{Job, Site};

const POINTS: usize = 12;
const AT_ONCE: usize = 4;
/// Fails for good.
const BAD: usize = 6;
/// Is preempted: it alone is on node n4.
const PREEMPTED: usize = 5;

/// One point takes one CPU of one node; without the limit, all of them would run at once.
fn sweep() -> String {
    let list = |of: &dyn Fn(usize) -> String| (0..POINTS).map(of).collect::<Vec<_>>().join(", ");
    let node = |point: usize| match point {
        PREEMPTED => "n4".to_owned(),
        point => format!("n{}", point % 3 + 1),
    };
    format!(
        "name: point
command: [./point.sh]
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
",
        list(&|point| format!("\"{point}\"")),
        list(&node)
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
            "#!/bin/sh\nif [ $POINT = {PREEMPTED} ] && [ $ROCKET_ATTEMPT = 0 ]; then exec sleep 100; fi\nsleep 2\n[ $POINT != {BAD} ]\n"
        ),
    );
    let script = project.path().join("point.sh");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("executable");
    project.commit("A sweep");
    let said = project.rocket(&["submit", "sweep.yaml"]).ok();
    assert!(
        said.contains("12 points") || said.contains("points     12"),
        "{said}"
    );

    let start = Instant::now();
    let mut most = 0;
    let mut taken = None;
    let mut last = start;
    loop {
        let running = running(&site);
        most = most.max(running.len());
        assert!(most <= AT_ONCE, "{most} run at once\n{}", cluster.report());
        if taken.is_none() && on(&running, "n4") && attempted(&site) {
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
    for times in lanes.values_mut() {
        times.sort();
        assert_eq!(times.len(), POINTS / AT_ONCE, "{times:#?}");
        for pair in times.windows(2) {
            assert!(pair[0].1 <= pair[1].0, "two of a lane at once: {times:#?}");
        }
    }

    // The preempted point went on as the same job; the failed one held nobody up.
    let status = status(&site);
    let runs = status["runs"].as_array().expect("runs");
    let attempts: Vec<u64> = runs
        .iter()
        .map(|run| run["attempt"].as_u64().expect("an attempt"))
        .collect();
    let again: BTreeSet<usize> = (0..POINTS).filter(|point| attempts[*point] > 0).collect();
    assert_eq!(again, BTreeSet::from([PREEMPTED]), "{attempts:?}");
    assert_eq!(runs[BAD]["status"], "failed");

    // A resumed point is of its lane again, and one that is there is not submitted twice.
    let said = project.rocket(&["sweep", "resume", "twelve"]).ok();
    assert!(said.contains("11 finished"), "{said}");
    let resumed = cluster.jobs().into_values().filter(is_point).last();
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

fn on(running: &[String], node: &str) -> bool {
    running.iter().any(|line| line.ends_with(node))
}

/// Whether the point that is to be preempted has its ranks.
fn attempted(site: &Site) -> bool {
    let runs = site.project().path().join("runs");
    let found = fs::read_dir(runs).expect("runs").flatten().any(|entry| {
        let name = entry.file_name();
        let is_it = name
            .to_string_lossy()
            .starts_with(&format!("point-POINT{PREEMPTED}-"));
        is_it && entry.path().join("attempts/000/ranks/0.log").exists()
    });
    found
}

fn status(site: &Site) -> Value {
    let text = site
        .project()
        .rocket(&["sweep", "status", "twelve", "--json"])
        .ok();
    serde_json::from_str(&text).expect("JSON")
}
