use super::{About, Explained, explain};

fn of(reason: &str) -> Explained {
    explain(
        reason,
        &About {
            job: Some("7"),
            ..About::default()
        },
    )
}

/// Every reason of Slurm 22.05 to 25.11.
const ALL: &str = include_str!("reasons.txt");

#[test]
fn every_reason_has_words_of_its_own() {
    for reason in ALL
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        let found = of(reason);
        assert!(
            !found.words.contains("Slurm says"),
            "{reason} is not explained"
        );
        assert!(!found.words.ends_with('.'), "{reason}: {}", found.words);
        assert!(!found.held || found.stuck, "{reason} is held but not stuck");
        assert!(
            !found.stuck || found.action.is_some(),
            "{reason} is stuck, and nothing is said to do"
        );
    }
}

#[test]
fn an_unknown_reason_is_shown_as_it_is() {
    let found = of("MoonPhase");
    assert_eq!(found.words, "Slurm says: MoonPhase");
    assert!(!found.held && !found.stuck && found.action.is_none());
    assert!(of("QOSMaxMoonPerUser").words.contains("QOSMaxMoonPerUser"));
}

#[test]
fn holds_say_how_to_release() {
    for reason in [
        "JobHeldUser",
        "JobHeldAdmin",
        "JobHoldMaxRequeue",
        "launch failed requeued held",
        "launch_failed_requeued_held",
        "(launch failed requeued held)",
        "job requeued in held state",
        "job_requeued_in_special_exit_state",
    ] {
        let found = of(reason);
        assert!(found.held, "{reason}");
        assert!(
            found
                .action
                .as_deref()
                .unwrap_or_default()
                .contains("scontrol release 7"),
            "{reason}"
        );
    }
    for reason in [
        "Resources",
        "Priority",
        "BeginTime",
        "Dependency",
        "PartitionDown",
    ] {
        let found = of(reason);
        assert!(!found.held && !found.stuck, "{reason}");
    }
}

#[test]
fn the_wait_after_a_requeue_is_told_from_a_hold() {
    let about = About {
        job: Some("7"),
        start: Some("2026-03-01T10:00:00"),
        restarts: 2,
    };
    assert_eq!(
        explain("BeginTime", &about).words,
        "it was requeued, and Slurm waits until its old credentials have expired (cred_expire, 120 s by default): it starts at 2026-03-01T10:00:00 at the earliest"
    );
    assert_eq!(
        explain("JobHoldMaxRequeue", &about).words,
        "Slurm requeued it too often, 2 times in all (MaxBatchRequeue, 5 by default) and holds it; each preemption, lost node or failed launch counts"
    );
    let unknown = About {
        start: Some("Unknown"),
        ..about
    };
    assert!(!explain("Resources", &unknown).words.contains("Unknown"));
}

#[test]
fn words_of_a_selection() {
    let text: String = [
        "Resources",
        "DependencyNeverSatisfied",
        "ReqNodeNotAvail, UnavailableNodes:n[1-2]",
        "ReqNodeNotAvail(Unavailable:n3)",
        "ReqNodeNotAvail,_Reserved_for_maintenance",
        "ReqNodeNotAvail, May be reserved for other job",
        "Nodes_required_for_job_are_DOWN,_DRAINED_or_reserved_for_jobs_in_higher_priority_partitions",
        "PartitionTimeLimit",
        "AssocGrpGRES",
        "AssocGrpCPUMinutesLimit",
        "AssocGrpGRESRunMinutes",
        "AssocMaxJobsLimit",
        "AssocMaxWallDurationPerJobLimit",
        "QOSMaxGRESPerUser",
        "QOSMinGRES",
        "MaxGRESPerAccount",
    ]
    .map(|reason| {
        let found = of(reason);
        format!("{reason}\n  {}\n  {}\n", found.words, found.action.unwrap_or_else(|| "-".into()))
    })
    .concat();
    insta::assert_snapshot!(text);
}
