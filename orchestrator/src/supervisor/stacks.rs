//! What a process that stands still is doing: kept before it is killed.
//!
//! No signal is sent to it: a program may use any of them itself, as NCCL does, and one that hangs in
//! the kernel would not answer. `/proc` tells of every thread where in the kernel it waits (proc(5));
//! a debugger, where one is installed and allowed to look, where in the program.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use rocket_common::error::{Error, Result};

/// How long all debuggers together may take.
const DEBUGGERS: Duration = Duration::from_secs(20);
/// Processes that are looked at: the one that is named, and what it has started.
const MOST_PROCESSES: usize = 32;

/// Programs that print the stacks of a process, the best first, and their arguments before its id.
const PROGRAMS: [(&str, &[&str]); 2] = [
    ("eu-stack", &["--pid"]),
    (
        "gdb",
        &[
            "-nx",
            "-batch",
            "-iex",
            "set debuginfod enabled off",
            "-ex",
            "thread apply all backtrace 64",
            "--pid",
        ],
    ),
];
/// Prints the stacks of Python programs.
const PYTHON: (&str, &[&str]) = ("py-spy", &["dump", "--pid"]);

/// Writes what process `pid` and those that it has started are doing to a file, within about twenty
/// seconds: name, state, and place in the kernel of each thread, and the stacks of the program if
/// `eu-stack`, `gdb` or (for Python) `py-spy` is there.
///
/// # Errors
/// The file cannot be written. That little could be seen is said in it.
pub fn save(pid: u32, path: &Path) -> Result<()> {
    let failed = |error| Error::io("write", path, error);
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).map_err(failed)?;
    }
    let mut file = File::create(path).map_err(failed)?;
    let deadline = Instant::now() + DEBUGGERS;
    let processes = family(pid);
    for &pid in &processes {
        file.write_all(threads(pid).as_bytes()).map_err(failed)?;
    }
    for &pid in &processes {
        let text = debug(pid, &file, deadline);
        file.write_all(text.as_bytes()).map_err(failed)?;
    }
    Ok(())
}

/// A process and its descendants.
fn family(pid: u32) -> Vec<u32> {
    let mut found = vec![pid];
    let mut next = 0;
    while let Some(&pid) = found.get(next) {
        next += 1;
        for task in tasks(pid) {
            // The file exists on kernels with CONFIG_PROC_CHILDREN.
            let children = fs::read_to_string(task.join("children")).unwrap_or_default();
            let children = children
                .split_whitespace()
                .filter_map(|id| id.parse::<u32>().ok());
            found.extend(children.take(MOST_PROCESSES.saturating_sub(found.len())));
        }
    }
    found
}

fn tasks(pid: u32) -> Vec<PathBuf> {
    let mut tasks: Vec<PathBuf> = fs::read_dir(format!("/proc/{pid}/task"))
        .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default();
    let id = |path: &PathBuf| path.file_name()?.to_str()?.parse::<u32>().ok();
    tasks.sort_by_key(id);
    tasks
}

/// What `/proc` tells of every thread of a process.
fn threads(pid: u32) -> String {
    let tasks = tasks(pid);
    if tasks.is_empty() {
        return format!("process {pid} is gone\n\n");
    }
    let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let command = String::from_utf8_lossy(&command).replace('\0', " ");
    let mut text = format!(
        "process {pid} with {} threads: {}\n\n",
        tasks.len(),
        command.trim()
    );
    for task in tasks {
        let read = |name: &str| {
            let value = fs::read_to_string(task.join(name)).unwrap_or_default();
            value.trim().to_owned()
        };
        let status = read("status");
        let state = status
            .lines()
            .find_map(|line| line.strip_prefix("State:"))
            .unwrap_or("unknown")
            .trim();
        let id = task.file_name().unwrap_or_default().to_string_lossy();
        text.push_str(&format!("thread {id} '{}': {state}", read("comm")));
        match read("wchan").as_str() {
            "" | "0" => {}
            place => text.push_str(&format!(", waits in {place}")),
        }
        match read("syscall").as_str() {
            "" | "running" => {}
            call => text.push_str(&format!(", system call {call}")),
        }
        text.push('\n');
        // Only root may read it on most systems.
        for line in read("stack").lines() {
            text.push_str(&format!("    {line}\n"));
        }
    }
    text.push('\n');
    text
}

/// Has debuggers write to `out` until one succeeds. Returns what there is to say about them.
fn debug(pid: u32, out: &File, deadline: Instant) -> String {
    if !Path::new(&format!("/proc/{pid}")).exists() {
        return String::new();
    }
    let python = fs::read_link(format!("/proc/{pid}/exe"))
        .is_ok_and(|exe| exe.to_string_lossy().contains("python"));
    let programs = python.then_some(PYTHON).into_iter().chain(PROGRAMS);
    let mut said = String::new();
    for (name, arguments) in programs {
        let Some(program) = find(name) else {
            continue;
        };
        match trace(&program, arguments, pid, out, deadline) {
            Ok(()) => return said + "\n",
            Err(why) => said.push_str(&format!("{name} did not show process {pid}: {why}\n")),
        }
    }
    if said.is_empty() {
        said = format!(
            "the program's own stacks of process {pid} are not shown: neither eu-stack nor gdb is installed\n"
        );
    }
    said
}

fn find(name: &str) -> Option<PathBuf> {
    let path: OsString = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
}

/// Runs a debugger on a process, and ends it at the deadline.
fn trace(
    program: &Path,
    arguments: &[&str],
    pid: u32,
    out: &File,
    deadline: Instant,
) -> std::result::Result<(), String> {
    let words = |error: std::io::Error| error.to_string();
    let mut child = Command::new(program)
        .args(arguments)
        .arg(pid.to_string())
        .stdin(Stdio::null())
        .stdout(out.try_clone().map_err(words)?)
        .stderr(out.try_clone().map_err(words)?)
        .process_group(0)
        .spawn()
        .map_err(words)?;
    loop {
        match child.try_wait().map_err(words)? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => return Err(status.to_string()),
            None if Instant::now() >= deadline => {
                let _ =
                    i32::try_from(child.id()).map(|id| killpg(Pid::from_raw(id), Signal::SIGKILL));
                let _ = child.wait();
                return Err(format!("not done within {} s", DEBUGGERS.as_secs()));
            }
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_thread_of_a_sleeping_program_is_shown() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("stacks/0.txt");
        let mut child = Command::new("sh")
            .args(["-c", "sleep 60 & wait"])
            .process_group(0)
            .spawn()
            .unwrap();
        let start = Instant::now();
        // The fork is there before it is the program.
        let sleeps = |pid: &u32| threads(*pid).contains("'sleep': S (sleeping)");
        while !family(child.id()).iter().any(sleeps) && start.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(5));
        }
        let saved = save(child.id(), &path);
        let group = Pid::from_raw(i32::try_from(child.id()).unwrap());
        killpg(group, Signal::SIGKILL).unwrap();
        child.wait().unwrap();
        saved.unwrap();
        let text = fs::read_to_string(path).unwrap();
        assert!(text.contains("'sleep': S (sleeping)"), "{text}");
        assert!(text.contains("with 1 threads: sleep 60"), "{text}");
    }

    #[test]
    fn a_process_that_is_gone_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.txt");
        save(u32::MAX, &path).unwrap();
        let text = fs::read_to_string(path).unwrap();
        assert_eq!(text, format!("process {} is gone\n\n", u32::MAX));
    }
}
