//! `command:` on a real Slurm: a program in Python over two nodes, preempted and gone on with.

use std::fs;

use support::slurm::Site;

const EXPERIMENT: &str = "\
name: program
command: [python3, tools/program.py]
cluster:
  backend: slurm
  partition: low
  nodes: 2
  gpus_per_node: 0
  tasks_per_node: 2
  cpus_per_task: 1
  time: 10
  extra: {nodelist: 'n1,n2'}
";

#[test]
fn ranks_of_two_nodes_meet_and_go_on_after_preemption() {
    let Some(site) = Site::new(1, &[("CLUSTER_GRACE", "20"), ("CLUSTER_KILL_WAIT", "2")]) else {
        return;
    };
    let (project, cluster) = (site.project(), site.cluster());
    let text = fs::read_to_string(support::root().join("tests/programs/plain.py"));
    project.write("tools/program.py", &text.expect("the program"));
    project.commit("A program");
    project.write("program.yaml", EXPERIMENT);
    // By the user, whose folder it is.
    let made = project.command("mkdir").arg("runs").status();
    assert!(made.expect("mkdir starts").success());
    project.write("runs/hold", "");
    let run = site.run(&project.rocket(&["submit", "program.yaml"]));
    let log = |attempt: u32, rank: u32| {
        let path = run
            .dir
            .join(format!("attempts/{attempt:03}/ranks/{rank}.log"));
        fs::read_to_string(path).unwrap_or_default()
    };
    run.wait("the ranks to meet", |_| {
        (0..4).all(|rank| log(0, rank).contains("from 0"))
    });
    assert!(log(0, 0).contains("met 4 ranks"), "{}", log(0, 0));
    assert!(
        log(0, 3).contains("place RANK=3 WORLD_SIZE=4 LOCAL_RANK=1 LOCAL_WORLD_SIZE=2 GROUP_RANK=1 GROUP_WORLD_SIZE=2"),
        "{}",
        log(0, 3)
    );

    // Somebody more important wants the nodes.
    let guest = cluster.occupy("n1", 1);
    run.wait("the ranks to leave", |_| {
        (0..4).all(|rank| log(0, rank).contains("stopped at "))
    });
    fs::remove_file(project.path().join("runs/hold")).expect("removed");
    cluster.wait_for_end(guest);
    run.finished();
    assert!(
        log(1, 0).contains("met 4 ranks") && log(1, 0).ends_with("done\n"),
        "{}",
        log(1, 0)
    );
    assert!(!log(1, 2).contains("from 0\n"), "{}", log(1, 2));
}
