//! Attempts are claimed by exactly one.

mod support;

use std::process::{Command, Stdio};
use std::sync::Barrier;
use std::thread;

use rocket_common::run_dir::{Claim, RunDir};

/// Set in child processes: the run directory to claim in.
const CHILD: &str = "ROCKET_TEST_CLAIM_IN";
const RACERS: usize = 20;

#[test]
fn of_twenty_threads_one_wins_each_number() {
    let root = tempfile::tempdir().unwrap();
    let run = support::run(root.path(), "demo");
    for number in 0..20 {
        let start = Barrier::new(RACERS);
        let winners: usize = thread::scope(|scope| {
            let race = || {
                start.wait();
                let claim = Claim::of_this_process(None);
                let won = run.try_claim(number, &claim).unwrap().is_some();
                if won {
                    assert_eq!(run.claim_of(number).unwrap().unwrap(), claim);
                }
                usize::from(won)
            };
            let racers: Vec<_> = (0..RACERS).map(|_| scope.spawn(race)).collect();
            racers.into_iter().map(|racer| racer.join().unwrap()).sum()
        });
        assert_eq!(winners, 1, "attempt {number}");
    }
    // Losers leave nothing behind.
    let names = std::fs::read_dir(run.attempts_dir()).unwrap().count();
    assert_eq!(names, 2 * 20);
}

#[test]
fn twenty_processes_get_twenty_numbers() {
    if let Some(run) = std::env::var_os(CHILD) {
        let run = RunDir::open(run).unwrap();
        let claim = Claim::of_this_process(Some("7".into()));
        let attempt = run.claim_attempt(&claim).unwrap();
        assert_eq!(run.claim_of(attempt.number()).unwrap(), Some(claim));
        assert!(attempt.ranks_dir().is_dir());
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let run = support::run(root.path(), "demo");
    let children: Vec<_> = (0..RACERS)
        .map(|_| {
            Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "twenty_processes_get_twenty_numbers"])
                .env(CHILD, run.path())
                .stdout(Stdio::null())
                .spawn()
                .unwrap()
        })
        .collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(run.attempts().unwrap().len(), RACERS);
    assert_eq!(run.highest_attempt().unwrap(), Some(RACERS as u32 - 1));
    let claims = (0..RACERS as u32).map(|number| run.claim_of(number).unwrap().unwrap());
    let mut tokens: Vec<_> = claims.clone().map(|claim| claim.token).collect();
    tokens.sort();
    tokens.dedup();
    assert_eq!(tokens.len(), RACERS);
    // They have ended, and that can be seen; this process has not.
    assert!(claims.clone().all(|claim| claim.is_alive() == Some(false)));
    assert_eq!(Claim::of_this_process(None).is_alive(), Some(true));
    assert!(run.fence_check(RACERS as u32 - 1).is_ok());
    assert!(run.fence_check(RACERS as u32 - 2).is_err());
}

#[test]
fn a_claim_without_a_directory_still_fences() {
    let root = tempfile::tempdir().unwrap();
    let run = support::run(root.path(), "demo");
    let attempt = run.claim_attempt(&Claim::of_this_process(None)).unwrap();
    assert!(run.fence_check(attempt.number()).is_ok());
    // The claimant died between its claim and its directory.
    std::fs::write(run.attempts_dir().join("001.claim"), "").unwrap();
    assert!(run.fence_check(0).is_err());
    let next = run.claim_attempt(&Claim::of_this_process(None)).unwrap();
    assert_eq!(next.number(), 2);
}

#[test]
fn what_cannot_be_seen_permits_nothing() {
    let root = tempfile::tempdir().unwrap();
    let run = support::run(root.path(), "demo");
    std::fs::remove_dir_all(run.attempts_dir()).unwrap();
    let error = run.fence_check(0).unwrap_err();
    assert!(error.message().contains("no such file"), "{error}");
}
