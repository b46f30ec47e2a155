//! `rocket top` and `rocket status --watch` on a real pseudo-terminal.
#![allow(missing_docs)]

#[path = "support/made.rs"]
mod made;
#[path = "support/pty.rs"]
mod pty;
mod support;

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

use made::Made;
use nix::sys::signal::Signal;
use pty::{CURSOR, LEAVES, Pty};
use support::Env;

/// Two runs: one finished, one failed and newer.
fn env() -> Env {
    let env = Env::new();
    let runs = env.path("repo/runs");
    let dir = Made::new("alpha-11111111").write(&runs);
    fs::write(dir.join("attempts/001/ranks/0.log"), "alpha was here\n").unwrap();
    fs::write(dir.join("attempts/001/ranks/1.log"), "its other rank\n").unwrap();
    let mut failed = Made::new("beta-22222222");
    failed.cause = Some("the loss is not finite".into());
    let dir = failed.write(&runs);
    fs::write(dir.join("attempts/001/ranks/0.log"), "beta was there\n").unwrap();
    env
}

#[test]
fn runs_are_looked_at_and_the_terminal_is_given_back() {
    let env = env();
    let mut pty = Pty::start(env.rocket_command().arg("top"), 120, 40);
    pty.wait_for(&[
        "2 runs, 1 finished, 1 failed",
        "alpha was here",
        "samples_per_second",
        "loss",
    ]);
    assert!(!pty.is_cooked());
    pty.press("r");
    pty.wait_for(&["its other rank"]);
    pty.press("j");
    pty.wait_for(&["beta was there", "the loss is not finite"]);
    pty.press("?");
    pty.wait_for(&["any key closes this"]);
    pty.press("x");
    pty.press("c");
    pty.wait_for(&["beta-22222222 is failed: there is nothing to cancel"]);
    pty.press("/alp\r");
    pty.wait_for(&["'alp' (1/1)"]);
    pty.press("q");
    assert!(pty.end().success());
    let output = pty.output();
    assert!(
        output.contains(LEAVES) && output.contains(CURSOR),
        "{output:?}"
    );
    assert!(pty.is_cooked());
}

#[test]
fn a_signal_ends_it_in_order() {
    let env = env();
    let mut pty = Pty::start(env.rocket_command().arg("top"), 80, 24);
    pty.wait_for(&["alpha-11111111"]);
    pty.signal(Signal::SIGTERM);
    assert!(pty.end().success());
    assert!(pty.output().contains(LEAVES));
    assert!(pty.is_cooked());
}

#[test]
fn colours_can_be_switched_off() {
    let env = env();
    for (value, coloured) in [("", true), ("1", false)] {
        let mut command = env.rocket_command();
        let mut pty = Pty::start(command.arg("top").env("NO_COLOR", value), 100, 30);
        pty.wait_for(&["alpha was here"]);
        pty.press("q");
        pty.end();
        let output = pty.output();
        let found = output.split("\x1b[").skip(1).any(|rest| {
            let end = rest.find(|c: char| c.is_ascii_alphabetic());
            let (parameters, end) = rest.split_at(end.unwrap_or(rest.len()));
            // 30 to 38 and 40 to 48 choose a colour, 90 to 107 a bright one; 39 and 49 are none.
            let colour = |n: u32| matches!(n, 30..=38 | 40..=48 | 90..=107);
            let mut numbers = parameters.split(';').filter_map(|n| n.parse().ok());
            end.starts_with('m') && numbers.any(colour)
        });
        assert_eq!(found, coloured, "{output:?}");
    }
}

#[test]
fn a_run_is_cancelled_after_a_yes() {
    let env = Env::with_job("sleep 300 & wait", 1);
    let run = env.submit(&[]);
    env.wait_for_status(&run, "running");
    let mut pty = Pty::start(env.rocket_command().arg("top"), 100, 30);
    pty.wait_for(&["running"]);
    pty.press("c");
    pty.wait_for(&["y: yes"]);
    pty.press("n");
    pty.wait_for(&["nothing was done"]);
    assert_eq!(env.status(&run)["status"], "running");
    pty.press("c");
    pty.press("y");
    env.wait_for_status(&run, "cancelled");
    pty.press("q");
    assert!(pty.end().success());
}

#[test]
fn without_a_terminal_it_says_what_else_there_is() {
    let env = env();
    let said = env.rocket(&["top"]).fails();
    insta::assert_snapshot!(said.stderr, @r"
    error: rocket top draws on a terminal, and stdout is none
    hint: 'rocket status --watch' writes one block after the other
    ");
}

#[test]
fn status_is_shown_anew_in_place_until_ctrl_c() {
    let env = env();
    let mut command = env.rocket_command();
    let mut pty = Pty::start(command.args(["status", "--watch=1"]), 100, 12);
    pty.wait_for(&["every 1 s, Ctrl-C ends", "alpha-11111111"]);
    Made::new("gamma-33333333").write(&env.path("repo/runs"));
    pty.wait_for(&["gamma-33333333"]);
    pty.press("\x03");
    assert!(pty.end().success());
    let output = pty.output();
    let (_, after) = output.split_once(LEAVES).unwrap();
    // What was seen last stays on the ordinary screen.
    assert!(
        after.contains("gamma-33333333") && output.contains(CURSOR),
        "{output:?}"
    );
}

#[test]
fn status_is_written_block_after_block_until_nobody_reads() {
    let env = env();
    for (format, first) in [(None, "20"), (Some("--json"), "[{")] {
        let mut child = env
            .rocket_command()
            .args(["status", "--watch=1"])
            .args(format)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut firsts = 0;
        while firsts < 2 {
            let line = lines.next().unwrap().unwrap();
            firsts += usize::from(line.starts_with(first));
            assert!(!line.contains('\x1b'));
        }
        drop(lines);
        assert!(child.wait().unwrap().success());
    }
}
