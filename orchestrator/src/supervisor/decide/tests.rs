//! The table, row by row.

use super::*;

const POLICY: Policy = Policy {
    max_crashes: 3,
    max_node_failures: 2,
    max_idle_time_limits: 2,
    requeue: true,
};
const FRESH: History = History {
    crashes: 0,
    node_failures: 0,
    time_limits: 0,
    blamed: None,
    best_step: 0,
    step: 0,
};
const STUCK: History = History {
    crashes: 3,
    node_failures: 0,
    time_limits: 0,
    blamed: None,
    best_step: 40,
    step: 40,
};
const PROGRESSED: History = History {
    crashes: 3,
    node_failures: 0,
    time_limits: 0,
    blamed: None,
    best_step: 40,
    step: 41,
};

fn failed(kind: ExitKind) -> Ending {
    Ending::Failed {
        rank: 1,
        kind,
        cause: "words".into(),
        hint: Some("advice".into()),
    }
}

fn crash() -> Ending {
    Ending::Crashed {
        rank: 1,
        cause: "rank 1 was killed".into(),
    }
}

fn hang() -> Ending {
    Ending::Hung {
        rank: 1,
        cause: "rank 1 stood still".into(),
    }
}

fn without(nodes: &[String]) -> String {
    if nodes.is_empty() {
        String::new()
    } else {
        format!(" without {}", nodes.join(","))
    }
}

/// An action in a few words.
fn short(action: &Action) -> String {
    match action {
        Action::Finish => "finish".into(),
        Action::Relaunch { after, crashes, .. } => {
            format!("relaunch after {} s, {crashes} crashes", after.as_secs())
        }
        Action::Requeue { exclude, .. } => format!("requeue{}", without(exclude)),
        Action::Resubmit { exclude, .. } => format!("resubmit{}", without(exclude)),
        Action::Yield { .. } => "yield".into(),
        Action::Stop { reason, .. } => format!("stop {reason:?}"),
        Action::Fail { kind, .. } => format!("fail {kind:?}"),
        Action::Leave => "leave".into(),
    }
}

#[test]
fn every_failure_of_a_rank_has_its_row() {
    use ExitKind as K;
    let again = [
        "relaunch after 1 s, 1 crashes",
        "fail Internal",
        "relaunch after 1 s, 1 crashes",
    ];
    let again_d = [
        "relaunch after 1 s, 1 crashes",
        "fail Distributed",
        "relaunch after 1 s, 1 crashes",
    ];
    let again_ok = [
        "relaunch after 1 s, 1 crashes",
        "fail Ok",
        "relaunch after 1 s, 1 crashes",
    ];
    for kind in K::ALL {
        let expected = match kind {
            K::Ok => again_ok.map(String::from),
            K::Internal => again.map(String::from),
            K::Distributed => again_d.map(String::from),
            K::Fenced => ["leave"; 3].map(String::from),
            K::Usage
            | K::Experiment
            | K::Data
            | K::NotFinite
            | K::Checkpoint
            | K::Pin
            | K::Parity => [(); 3].map(|()| format!("fail {kind:?}")),
        };
        let got = [FRESH, STUCK, PROGRESSED]
            .map(|history| short(&decide(&failed(kind), &Place::local(), &history, &POLICY)));
        assert_eq!(got, expected, "{kind:?}");
    }
}

#[test]
fn the_other_endings_have_theirs() {
    use StopReason as R;
    let stop = |reason, killed| Ending::Stopped { reason, killed };
    let not_started = Ending::NotStarted {
        kind: ExitKind::Pin,
        cause: "c".into(),
        hint: None,
    };
    #[rustfmt::skip]
    let table: &[(Ending, History, &str)] = &[
        (Ending::Finished,            FRESH,      "finish"),
        (Ending::Finished,            STUCK,      "finish"),
        (Ending::Fenced,              FRESH,      "leave"),
        (not_started,                 FRESH,      "fail Pin"),
        (stop(R::Cancelled, true),    FRESH,      "stop Cancelled"),
        (stop(R::Cancelled, false),   STUCK,      "stop Cancelled"),
        (stop(R::Preempted, true),    FRESH,      "relaunch after 0 s, 0 crashes"),
        (stop(R::Preempted, false),   FRESH,      "relaunch after 0 s, 0 crashes"),
        (stop(R::Preempted, true),    STUCK,      "relaunch after 0 s, 3 crashes"),
        (stop(R::Preempted, true),    PROGRESSED, "relaunch after 0 s, 0 crashes"),
        (stop(R::TimeLimit, true),    FRESH,      "relaunch after 0 s, 0 crashes"),
        (stop(R::Signal, true),       FRESH,      "relaunch after 0 s, 0 crashes"),
        (crash(),                     FRESH,      "relaunch after 1 s, 1 crashes"),
        (crash(),                     STUCK,      "fail Internal"),
        (crash(),                     PROGRESSED, "relaunch after 1 s, 1 crashes"),
        (hang(),                      FRESH,      "relaunch after 1 s, 1 crashes"),
        (hang(),                      STUCK,      "fail Internal"),
    ];
    for (ending, history, expected) in table {
        assert_eq!(
            short(&decide(ending, &Place::local(), history, &POLICY)),
            *expected,
            "{ending:?} {history:?}"
        );
    }
}

#[test]
fn crashes_without_progress_use_up_the_budget_and_progress_refills_it() {
    let mut history = FRESH;
    let mut story = Vec::new();
    for step in [5, 5, 9, 9, 9, 9, 9] {
        history.step = step;
        let action = decide(&crash(), &Place::local(), &history, &POLICY);
        history = history.after(&action);
        story.push(short(&action));
    }
    assert_eq!(
        story,
        [
            "relaunch after 1 s, 1 crashes",
            "relaunch after 4 s, 2 crashes",
            "relaunch after 1 s, 1 crashes",
            "relaunch after 4 s, 2 crashes",
            "relaunch after 16 s, 3 crashes",
            "fail Internal",
            "fail Internal",
        ]
    );
}

#[test]
fn words_say_what_happened_and_what_comes() {
    let relaunch = decide(&crash(), &Place::local(), &FRESH, &POLICY);
    let Action::Relaunch { why, .. } = relaunch else {
        panic!("{relaunch:?}")
    };
    assert_eq!(why, "rank 1 was killed; relaunch 1 of 3 in 1 s");
    let fail = decide(
        &crash(),
        &Place::local(),
        &FRESH,
        &Policy {
            max_crashes: 0,
            ..POLICY
        },
    );
    let Action::Fail { cause, hint, .. } = fail else {
        panic!("{fail:?}")
    };
    assert_eq!(
        cause,
        "rank 1 was killed; given up: no relaunch is allowed (cluster.max_crashes: 0)"
    );
    assert!(hint.is_some());
    let fail = decide(
        &failed(ExitKind::NotFinite),
        &Place::local(),
        &FRESH,
        &POLICY,
    );
    assert_eq!(
        fail,
        Action::Fail {
            kind: ExitKind::NotFinite,
            cause: "words".into(),
            hint: Some("advice".into())
        }
    );
}

#[test]
fn waits_grow_and_are_bounded() {
    let waits: Vec<u64> = (1..=8).map(|n| backoff(n).as_secs()).collect();
    assert_eq!(waits, [1, 4, 16, 64, 256, 300, 300, 300]);
    assert_eq!(backoff(u32::MAX).as_secs(), 300);
}

#[test]
fn under_a_scheduler_the_place_decides_too() {
    use StopReason as R;
    let stop = |reason| Ending::Stopped {
        reason,
        killed: false,
    };
    let at = |fate: Fate, sick: &[&str]| Place {
        scheduled: true,
        fate,
        sick: sick.iter().map(|node| (*node).to_owned()).collect(),
        node: Some("n2".into()),
        leaving: None,
    };
    let over = |over| at(Fate::Over(over), &[]);
    let runs = || at(Fate::Runs, &[]);
    let blamed = History {
        crashes: 1,
        blamed: Some("n2".into()),
        ..FRESH
    };
    let unlucky = History {
        node_failures: 2,
        time_limits: 2,
        ..FRESH
    };
    let lucky = History {
        step: 1,
        ..unlucky.clone()
    };
    let silent = || at(Fate::Unknown("w".into()), &[]);
    #[rustfmt::skip]
    let table: Vec<(Ending, Place, &History, &str)> = vec![
        (Ending::Finished,        over(Over::Preempted),            &FRESH,   "finish"),
        (Ending::Finished,        over(Over::Cancelled),            &FRESH,   "finish"),
        (Ending::Fenced,          at(Fate::Requeued, &["n1"]),      &FRESH,   "leave"),
        (stop(R::Preempted),      runs(),                           &FRESH,   "requeue"),
        (stop(R::Signal),         at(Fate::Preempting, &[]),        &FRESH,   "requeue"),
        (stop(R::Preempted),      at(Fate::Requeued, &[]),          &FRESH,   "yield"),
        (stop(R::Preempted),      over(Over::Preempted),            &FRESH,   "resubmit"),
        (stop(R::Signal),         over(Over::Cancelled),            &FRESH,   "stop Cancelled"),
        (stop(R::Cancelled),      runs(),                           &FRESH,   "stop Cancelled"),
        (stop(R::TimeLimit),      runs(),                           &FRESH,   "requeue"),
        (stop(R::TimeLimit),      runs(),                           &unlucky, "fail Usage"),
        (stop(R::TimeLimit),      runs(),                           &lucky,   "requeue"),
        (stop(R::Preempted),      runs(),                           &unlucky, "requeue"),
        (crash(),                 runs(),                           &FRESH,   "relaunch after 1 s, 1 crashes"),
        (crash(),                 silent(),                         &FRESH,   "relaunch after 1 s, 1 crashes"),
        (crash(),                 runs(),                           &STUCK,   "fail Internal"),
        (crash(),                 runs(),                           &blamed,  "requeue without n2"),
        (crash(),                 at(Fate::Runs, &["n1"]),          &FRESH,   "requeue without n1"),
        (crash(),                 at(Fate::Runs, &["n1"]),          &unlucky, "fail Distributed"),
        (crash(),                 at(Fate::Runs, &["n1"]),          &lucky,   "requeue without n1"),
        (crash(),                 at(Fate::Preempting, &[]),        &STUCK,   "requeue"),
        (crash(),                 at(Fate::Requeued, &["n1"]),      &STUCK,   "yield"),
        (crash(),                 over(Over::Cancelled),            &FRESH,   "stop Cancelled"),
        (crash(),                 over(Over::Preempted),            &STUCK,   "resubmit"),
        (crash(),                 over(Over::TimeLimit),            &FRESH,   "resubmit"),
        (crash(),                 over(Over::TimeLimit),            &unlucky, "fail Usage"),
        (crash(),                 over(Over::NodeFailure),          &FRESH,   "resubmit"),
        (hang(),                  runs(),                           &blamed,  "requeue without n2"),
        (failed(ExitKind::NotFinite), at(Fate::Preempting, &[]),    &FRESH,   "fail NotFinite"),
        (failed(ExitKind::Distributed), at(Fate::Preempting, &[]),  &STUCK,   "requeue"),
    ];
    for (ending, place, history, expected) in table {
        assert_eq!(
            short(&decide(&ending, &place, history, &POLICY)),
            expected,
            "{ending:?} {place:?} {history:?}"
        );
    }
    let fixed = Policy {
        requeue: false,
        ..POLICY
    };
    let action = decide(&stop(R::TimeLimit), &runs(), &FRESH, &fixed);
    assert_eq!(short(&action), "resubmit");
}

#[test]
fn with_a_stop_pending_a_crash_is_no_reason_to_start_again_here() {
    let at = |scheduled, fate, leaving| Place {
        scheduled,
        fate,
        sick: Vec::new(),
        node: Some("n2".into()),
        leaving,
    };
    let limit = Some(StopReason::TimeLimit);
    let term = Some(StopReason::Signal);
    let silent = || Fate::Unknown("w".into());
    let blamed = History {
        crashes: 1,
        blamed: Some("n2".into()),
        ..FRESH
    };
    #[rustfmt::skip]
    let table: Vec<(Ending, Place, &History, &str)> = vec![
        (crash(), at(true,  Fate::Runs,                  limit), &FRESH,  "requeue"),
        (crash(), at(true,  Fate::Runs,                  term),  &FRESH,  "requeue"),
        (hang(),  at(true,  Fate::Runs,                  limit), &FRESH,  "requeue"),
        (crash(), at(true,  silent(),                    limit), &FRESH,  "requeue"),
        (crash(), at(true,  Fate::Requeued,              term),  &FRESH,  "yield"),
        (crash(), at(true,  Fate::Over(Over::Cancelled), term),  &FRESH,  "stop Cancelled"),
        (crash(), at(true,  Fate::Runs,                  limit), &blamed, "requeue without n2"),
        (crash(), at(true,  Fate::Runs,                  limit), &STUCK,  "fail Internal"),
        (crash(), at(false, Fate::Runs,                  limit), &FRESH,  "relaunch after 1 s, 1 crashes"),
        (failed(ExitKind::Data), at(true, Fate::Runs,    limit), &FRESH,  "fail Data"),
        (Ending::Finished, at(true, Fate::Runs,          limit), &FRESH,  "finish"),
    ];
    for (ending, place, history, expected) in table {
        assert_eq!(
            short(&decide(&ending, &place, history, &POLICY)),
            expected,
            "{ending:?} {place:?} {history:?}"
        );
    }
    let fixed = Policy {
        requeue: false,
        ..POLICY
    };
    let action = decide(&crash(), &at(true, Fate::Runs, limit), &FRESH, &fixed);
    let Action::Resubmit { exclude, why } = action else {
        panic!("{action:?}")
    };
    assert!(exclude.is_empty());
    assert_eq!(why, "rank 1 was killed; the time limit is near");
}

#[test]
fn a_time_limit_after_progress_is_not_an_idle_one() {
    use rocket_common::events::{Event, EventKind};
    let started = || Event::new(EventKind::AttemptStarted { world_size: 2 });
    let limit = |step| {
        let reason = StopReason::TimeLimit;
        Event::new(EventKind::Stopped { reason }).step(step)
    };
    let count = |events: &[Event]| crate::supervisor::history_of(events).time_limits;
    assert_eq!(count(&[started(), limit(5)]), 0);
    assert_eq!(count(&[started(), limit(5), started(), limit(5)]), 1);
    let idle = [
        started(),
        limit(5),
        started(),
        limit(5),
        started(),
        limit(5),
    ];
    assert_eq!(count(&idle), 2);
    let again = [&idle[..], &[started(), limit(6)]].concat();
    assert_eq!(count(&again), 0);
}

#[test]
fn the_events_charge_no_crash_for_nodes_that_were_taken() {
    use rocket_common::events::{Event, EventKind};
    let started = || Event::new(EventKind::AttemptStarted { world_size: 2 });
    let failed = || {
        let kind = EventKind::RankFailed {
            rank: 1,
            exit: None,
            signal: Some(15),
        };
        Event::new(kind).nodes(vec!["n2".into()])
    };
    let again = |excused| Event::new(EventKind::Requeued).excused(excused);
    let lost = |excused| Event::new(EventKind::SupervisorLost).excused(excused);
    let excluded = || Event::new(EventKind::NodeExcluded).nodes(vec!["n2".into()]);
    let count = |events: &[Event]| {
        let history = crate::supervisor::history_of(events);
        (history.crashes, history.node_failures, history.blamed)
    };
    let n2 = || Some("n2".to_owned());
    let crash = || vec![started(), failed(), again(false)];
    let taken = || vec![started(), failed(), again(true)];
    let table = [
        (crash(), (1, 0, n2())),
        (taken(), (0, 0, None)),
        ([taken(), taken(), taken()].concat(), (0, 0, None)),
        ([crash(), taken(), taken()].concat(), (1, 0, n2())),
        ([taken(), crash(), crash()].concat(), (2, 0, n2())),
        // The relaunch has counted it; the nodes were taken later.
        (
            vec![started(), failed(), again(false), again(true)],
            (1, 0, n2()),
        ),
        // A lost node has a budget of its own.
        (
            vec![started(), failed(), excluded(), again(true)],
            (0, 1, None),
        ),
        (
            vec![started(), failed(), excluded(), again(false)],
            (1, 1, n2()),
        ),
        // Nobody has said what followed.
        (vec![started(), failed()], (1, 0, n2())),
        (vec![started(), lost(false)], (1, 0, None)),
        (vec![started(), lost(true)], (0, 0, None)),
        (vec![started(), failed(), lost(true)], (0, 0, None)),
        (
            vec![started(), failed(), started(), lost(true)],
            (1, 0, n2()),
        ),
    ];
    for (events, expected) in table {
        assert_eq!(count(&events), expected, "{events:?}");
    }
}

#[test]
fn a_place_that_is_taken_or_lost_excuses_a_failure() {
    let at = |fate, sick: &[&str]| Place {
        scheduled: true,
        fate,
        sick: sick.iter().map(|node| (*node).to_owned()).collect(),
        ..Place::local()
    };
    assert!(!Place::local().excuses());
    assert!(!at(Fate::Unknown("w".into()), &[]).excuses());
    assert!(at(Fate::Runs, &["n1"]).excuses());
    for fate in [
        Fate::Preempting,
        Fate::Requeued,
        Fate::Over(Over::Preempted),
    ] {
        assert!(at(fate.clone(), &[]).excuses(), "{fate:?}");
    }
}

#[test]
fn time_limits_of_a_program_that_counts_no_steps_are_no_idle_ones() {
    let limit = Ending::Stopped {
        reason: StopReason::TimeLimit,
        killed: false,
    };
    let history = |best_step| History {
        time_limits: 9,
        best_step,
        ..FRESH
    };
    let of = |history: &History, is_program| {
        let policy = POLICY.of(history, is_program);
        matches!(
            decide(&limit, &Place::local(), history, &policy),
            Action::Fail { .. }
        )
    };
    assert!(
        !of(&history(0), true),
        "much may have been done before them"
    );
    assert!(of(&history(5), true), "it counts steps, and makes none");
    assert!(of(&history(0), false));
}
