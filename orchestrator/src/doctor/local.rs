//! This machine: the runs root and what is under it, git, the trainer. Tested with real files by two
//! processes of this program.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::statvfs::statvfs;
use rocket_common::atomic;
use rocket_common::host;
use serde::Serialize;

use super::finding::Finding;
use super::judge::{Between, judge};
use super::probe::{self, Found};
use crate::bundle;
use crate::runs;

/// Longest time that two processes on one machine may take.
const LIMIT: Duration = Duration::from_secs(150);

/// File systems that one machine has for itself.
const OWN: [&str; 9] = [
    "ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "tmpfs", "overlay", "f2fs",
];

/// What is known of this machine.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Local {
    /// Its name.
    pub host: String,
    /// The runs root.
    pub root: PathBuf,
    /// Kind of its file system.
    pub file_system: Option<String>,
    /// Options that it is mounted with.
    pub mount_options: Option<String>,
    /// Free space for users.
    pub free_bytes: Option<u64>,
    /// Version of libtorch that the trainer loads.
    pub libtorch: Option<String>,
    /// What the two processes found.
    pub probes: Vec<Found>,
    /// All that, judged.
    pub findings: Vec<Finding>,
}

impl Local {
    /// Whether the runs root can be written.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        !self.probes.is_empty()
    }

    fn starts_worker(&self) -> bool {
        let workers = self.probes.iter().filter_map(|found| found.worker.as_ref());
        workers.into_iter().any(|worker| worker.version.is_some())
    }
}

/// Looks at this machine. `slurm`: runs would be on other machines than this one.
#[must_use]
pub fn look(root: &Path, rocket: &Path, slurm: bool) -> Local {
    let mut local = Local {
        host: host::name(),
        root: root.to_path_buf(),
        ..Local::default()
    };
    if let Err(error) = runs::make_root(root) {
        local.findings.push(
            Finding::problem(error.to_string())
                .advice("name a folder that you may write with --runs DIR or in ROCKET_RUNS"),
        );
        local.findings.extend(git());
        return local;
    }
    file_system(&mut local, slurm);
    let worker = bundle::find_worker(rocket);
    match probe_here(root, rocket, worker.as_deref().ok()) {
        Ok(found) => {
            local.findings.extend(judge(&found, Between::Processes));
            local.probes = found;
        }
        Err(words) => local.findings.push(Finding::problem(format!(
            "the runs root '{}' cannot be used: {words}",
            root.display()
        ))),
    }
    local.findings.extend(git());
    match worker {
        // One that does not start is said already.
        Ok(worker) if local.starts_worker() => libtorch(&mut local, &worker),
        Ok(_) => {}
        Err(error) => local.findings.push(
            Finding::warning(error.to_string())
                .advice("only experiments with 'command:' can be submitted without it"),
        ),
    }
    local
}

fn file_system(local: &mut Local, slurm: bool) {
    let root = local.root.display().to_string();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mount = mount_of(&mounts, &local.root);
    if let Ok(stat) = statvfs(&local.root) {
        let free = stat.blocks_available() * stat.fragment_size();
        local.free_bytes = Some(free);
        let gib = free as f64 / f64::from(1 << 30);
        let kind = mount
            .as_ref()
            .map_or("an unknown file system", |mount| &mount.kind);
        let text = format!("the runs root '{root}' is on {kind} with {gib:.0} GiB free");
        local.findings.push(if gib < 20.0 {
            Finding::warning(text).advice("a run keeps 3 checkpoints by default (train.keep_last, train.keep_best) of the model and the optimiser")
        } else {
            Finding::ok(text)
        });
        if stat.files() > 0 && stat.files_available() < 10_000 {
            local.findings.push(Finding::warning(format!(
                "only {} more files can be made there",
                stat.files_available()
            )));
        }
    }
    let Some(mount) = mount else { return };
    if slurm && OWN.contains(&mount.kind.as_str()) {
        local.findings.push(
            Finding::warning(format!(
                "{} is a file system of this machine alone, unless it is exported: nodes that do not see '{root}' cannot run anything from it",
                mount.kind
            ))
            .advice("'rocket doctor --job' tries it; name a shared folder with --runs DIR or in ROCKET_RUNS"),
        );
    }
    if mount
        .options
        .split(',')
        .any(|option| matches!(option, "nolock" | "local_lock=all"))
    {
        local.findings.push(Finding::note(
            "locks are not shared between machines there (nolock, local_lock); rocket needs none",
        ));
    }
    local.file_system = Some(mount.kind);
    local.mount_options = Some(mount.options);
}

/// The kind of file system that a path is on, if only this machine has it (unless it is exported).
pub(crate) fn own_file_system(path: &Path) -> Option<String> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let mount = mount_of(&mounts, path)?;
    OWN.contains(&mount.kind.as_str()).then_some(mount.kind)
}

/// A mount.
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    kind: String,
    options: String,
}

/// The mount that a path is on, from `/proc/self/mountinfo` (proc(5)): the longest mount point that
/// the path begins with; of equal ones the last, which hides those before.
fn mount_of(mountinfo: &str, path: &Path) -> Option<Mount> {
    let mut best: Option<(usize, Mount)> = None;
    for line in mountinfo.lines() {
        let Some((left, right)) = line.split_once(" - ") else {
            continue;
        };
        let point = left.split(' ').nth(4).unwrap_or_default();
        let point = unescape(point);
        let mut right = right.split(' ');
        let (kind, super_options) = (
            right.next().unwrap_or_default(),
            right.nth(1).unwrap_or_default(),
        );
        let own = left.split(' ').nth(5).unwrap_or_default();
        if path.starts_with(&point)
            && best
                .as_ref()
                .is_none_or(|(length, _)| point.len() >= *length)
        {
            best = Some((
                point.len(),
                Mount {
                    kind: kind.to_owned(),
                    options: format!("{own},{super_options}"),
                },
            ));
        }
    }
    best.map(|(_, mount)| mount)
}

/// Spaces and the like are octal in mountinfo.
fn unescape(text: &str) -> String {
    ["\\040 ", "\\011\t", "\\012\n", "\\134\\"]
        .iter()
        .fold(text.to_owned(), |text, pair| {
            text.replace(&pair[..4], &pair[4..])
        })
}

/// Runs two processes of this program against a folder of the runs root.
fn probe_here(root: &Path, rocket: &Path, worker: Option<&Path>) -> Result<Vec<Found>, String> {
    let dir = make_folder(root)?;
    let result = run_two(&dir, rocket, worker);
    let _ = fs::remove_dir_all(&dir);
    result
}

/// A new folder for one examination.
pub(super) fn make_folder(root: &Path) -> Result<PathBuf, String> {
    let dir = root.join(format!(".doctor-{}", atomic::unique()));
    fs::create_dir(&dir).map_err(|error| error.to_string())?;
    Ok(dir)
}

fn run_two(dir: &Path, rocket: &Path, worker: Option<&Path>) -> Result<Vec<Found>, String> {
    let mut children = Vec::new();
    for rank in 0..2 {
        let mut command = Command::new(rocket);
        command.args(["doctor", "--probe"]).arg(dir);
        if let Some(worker) = worker {
            command.arg("--probe-worker").arg(worker);
        }
        let child = command
            .env(probe::RANK, rank.to_string())
            .env(probe::SIZE, "2")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| error.to_string())?;
        children.push(child);
    }
    let start = Instant::now();
    while children
        .iter_mut()
        .any(|child| matches!(child.try_wait(), Ok(None)))
    {
        // One that failed leaves the other waiting.
        let failed = children
            .iter_mut()
            .any(|child| matches!(child.try_wait(), Ok(Some(status)) if !status.success()));
        if failed || start.elapsed() > LIMIT {
            for child in &mut children {
                let _ = child.kill();
            }
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let mut words = Vec::new();
    for child in children {
        let output = child
            .wait_with_output()
            .map_err(|error| error.to_string())?;
        let text = String::from_utf8_lossy(&output.stderr);
        words.extend(
            text.lines()
                .filter_map(|line| line.strip_prefix("error: "))
                .map(str::to_owned),
        );
        if !output.status.success() && words.is_empty() {
            words.push(format!("a probe ended with {}", output.status));
        }
    }
    if !words.is_empty() {
        return Err(words.join("; "));
    }
    (0..2)
        .map(|rank| {
            atomic::read_json(&dir.join(probe::result_name(rank)))
                .map_err(|error| error.to_string())
        })
        .collect()
}

fn git() -> Vec<Finding> {
    let version = |program: &str| {
        let output = Command::new(program).arg("--version").output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        output.status.success().then_some(text)
    };
    match version("git") {
        Some(text) => vec![Finding::ok(text)],
        None => vec![
            Finding::note("there is no git program here; rocket pins without it")
                .advice("'rocket submit --build' and files kept in git-lfs need it"),
        ],
    }
}

/// What the trainer loads, and the version beside it.
/// Beside lib/ lies `build-version` in libtorch's archives, and `version.py` in its Python packages.
fn libtorch_version(top: &Path) -> Option<String> {
    if let Ok(version) = fs::read_to_string(top.join("build-version")) {
        return Some(version);
    }
    let text = fs::read_to_string(top.join("version.py")).ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("__version__ = "))?;
    Some(line.trim_matches(['\'', '"', ' ']).to_owned())
}

fn libtorch(local: &mut Local, worker: &Path) {
    let libraries = match bundle::libraries(worker) {
        Ok(libraries) => libraries,
        Err(error) => {
            local.findings.push(Finding::warning(error.to_string()));
            return;
        }
    };
    let Some((_, path)) = libraries
        .iter()
        .find(|(name, _)| name.starts_with("libtorch"))
    else {
        local.findings.push(Finding::note(
            "the trainer brings no libtorch of its own: it loads the system's",
        ));
        return;
    };
    let version = path
        .parent()
        .and_then(Path::parent)
        .and_then(libtorch_version);
    // The CPU library asks for CUDA's runtime too, and does nothing with it.
    let cuda = libraries
        .keys()
        .any(|name| name.starts_with("libtorch_cuda") || name.starts_with("libc10_cuda"));
    let text = format!(
        "the trainer loads libtorch {} {}",
        version
            .as_deref()
            .map_or("of an unknown version", str::trim),
        if cuda { "with CUDA" } else { "without CUDA" }
    );
    local.libtorch = version.map(|text| text.trim().to_owned());
    local.findings.push(if cuda {
        Finding::ok(text)
    } else {
        Finding::note(text)
            .advice("it trains on CPUs; 'make setup ROCKET_CUDA=1' fetches the one for GPUs")
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
21 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,errors=remount-ro
40 21 0:40 / /home rw,relatime shared:2 - nfs4 server:/home rw,vers=4.2,local_lock=none
41 40 0:41 / /home/a\\040b rw - lustre mgs@tcp:/scratch rw,flock
";

    #[test]
    fn the_longest_mount_point_wins() {
        let kind = |path: &str| mount_of(MOUNTS, Path::new(path)).unwrap().kind;
        assert_eq!(kind("/srv/runs"), "ext4");
        assert_eq!(kind("/home/me/runs"), "nfs4");
        assert_eq!(kind("/homes/me/runs"), "ext4");
        assert_eq!(kind("/home/a b/runs"), "lustre");
        let nfs = mount_of(MOUNTS, Path::new("/home")).unwrap();
        assert_eq!(nfs.options, "rw,relatime,rw,vers=4.2,local_lock=none");
    }
}
