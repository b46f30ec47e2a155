//! The cluster that the other Slurm tests rest on does what a real one does.

use std::time::Duration;

use support::Text;
use support::slurm::{Cluster, Site};

#[test]
fn a_cluster_preempts_and_leaves_nothing_behind() {
    let settings = [("CLUSTER_KILL_WAIT", "2")];
    let Some(cluster) = Cluster::start(&settings) else {
        return;
    };
    let submit = |args: &[&str]| -> u32 {
        let said = cluster.run(
            "sbatch",
            &[&["--parsable", "--output=/dev/null"], args].concat(),
        );
        said.ok().trim().parse().expect("a job id")
    };
    let runs = |job: &std::collections::BTreeMap<String, String>| job["JobState"] == "RUNNING";

    // Two nodes of eight ranks, taken by a more important job and given back.
    let job = submit(&[
        "--partition=low0",
        "--nodes=2",
        "--ntasks-per-node=8",
        "--gpus-per-node=8",
        "--requeue",
        "--wrap=srun sleep 1000",
    ]);
    cluster.wait_for_job(job, "start", runs);
    let important = cluster.occupy("4", 3);
    cluster.wait_for_job(important, "start", runs);
    assert_eq!(cluster.job(job)["JobState"], "PENDING");
    let again = cluster.wait_for_job(job, "second start", runs);
    assert_eq!(again["Restarts"], "1");

    // The controller goes and comes back.
    cluster.stop_slurmctld();
    let queue = cluster.run("timeout", &["3", "squeue"]);
    assert!(!queue.status.success(), "{}", queue.out());
    cluster.start_slurmctld();
    cluster.wait_for_job(job, "answer", runs);

    let (dir, conf) = (cluster.logs(), cluster.conf());
    drop(cluster);
    assert!(!dir.exists());
    std::thread::sleep(Duration::from_millis(200));
    let mine = format!("SLURM_CONF={}", conf.display());
    let left = std::fs::read_dir("/proc")
        .expect("/proc")
        .flatten()
        .filter(|process| {
            let environment = std::fs::read(process.path().join("environ")).unwrap_or_default();
            String::from_utf8_lossy(&environment).contains(&mine)
        })
        .count();
    assert_eq!(left, 0, "processes of the cluster live on");
}

#[test]
fn an_ordinary_user_works_on_it() {
    let Some(site) = Site::new(6, &[]) else {
        return;
    };
    let said = site
        .project()
        .command("sh")
        .args([
            "-c",
            "id -un; command -v rocket; rocket --version; touch mine; srun id -un; squeue",
        ])
        .output()
        .expect("sh starts")
        .ok();
    let names = said
        .lines()
        .filter(|line| *line == site.user().name())
        .count();
    assert_eq!(names, 2, "{said}");
    let worker = site
        .project()
        .command("rocket-worker")
        .arg("--version")
        .output()
        .expect("the trainer starts");
    worker.ok();
}
