//! `rocket submit` without a scheduler: over several machines, or for another launcher.

use std::ffi::OsStr;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rocket_common::error::{Error, Result};
use rocket_common::events::{self, Status};
use rocket_common::exit::ExitKind;
use rocket_common::experiment::BackendKind;
use rocket_common::run_dir::{self, RunDir};

use crate::backend::local;
use crate::backend::machines::{Machines, Presence};
use crate::bundle;
use crate::pin::{self, Changes, Mode, Source};
use crate::runs::Runs;
use crate::{experiment, output, view};

/// How long a machine waits for machine 0 to submit the run.
const PATIENCE: Duration = Duration::from_secs(600);
const LOOK: Duration = Duration::from_millis(500);

/// Which machine of how many this is.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Several machines without a scheduler")]
pub(crate) struct Args {
    /// Share the run between N machines that see the same folder of runs (sets cluster.nodes): give
    /// the same command on each of them, with its --node-rank
    #[arg(long, value_name = "N", requires = "master_addr", value_parser = clap::value_parser!(u32).range(1..))]
    nodes: Option<u32>,
    /// Number of this machine, from 0; machine 0 supervises
    #[arg(long, value_name = "K", default_value_t = 0, requires = "nodes")]
    node_rank: u32,
    /// Address by which the other machines reach machine 0
    #[arg(long, value_name = "HOST", requires = "nodes")]
    master_addr: Option<String>,
    /// Port on machine 0 by which the ranks find each other [default: a free one]
    #[arg(long, value_name = "PORT", requires = "nodes", value_parser = clap::value_parser!(u16).range(1..))]
    master_port: Option<u16>,
}

impl Args {
    /// The overrides that these options are.
    pub(crate) fn sets(&self) -> Vec<String> {
        let nodes = self.nodes.iter();
        nodes
            .map(|nodes| format!("cluster.nodes={nodes}"))
            .collect()
    }

    /// Whether the run is shared between machines.
    pub(crate) fn is_used(&self) -> bool {
        self.nodes.is_some()
    }

    /// Refuses what makes no sense together.
    pub(crate) fn check(&self, backend: BackendKind) -> Result<()> {
        let Some(nodes) = self.nodes else {
            return Ok(());
        };
        let wrong = |message: String| Error::new(ExitKind::Usage, message);
        if backend == BackendKind::Slurm {
            return Err(wrong("--nodes is for machines without a scheduler, and this run goes to Slurm, which starts all nodes by itself".into())
                .hint("give cluster.nodes in the experiment, or submit with --backend local"));
        }
        if self.node_rank >= nodes {
            return Err(wrong(format!(
                "--node-rank {} is not below --nodes {nodes}",
                self.node_rank
            ))
            .hint("machines count from 0"));
        }
        Ok(())
    }

    /// The machine to join somebody else's run as; `None` for the one that submits.
    pub(crate) fn joins(&self) -> Option<u32> {
        (self.node_rank > 0).then_some(self.node_rank)
    }

    /// Tells the supervisor and the other machines.
    pub(crate) fn write(&self, run: &RunDir) -> Result<()> {
        let (Some(nodes), Some(master_addr)) = (self.nodes, &self.master_addr) else {
            return Ok(());
        };
        let machines = Machines {
            nodes,
            master_addr: master_addr.clone(),
            master_port: self.master_port,
        };
        machines.write(run)
    }
}

/// What decides which run is meant.
pub(crate) struct Which<'a> {
    pub(crate) experiment: &'a Path,
    pub(crate) sets: &'a [String],
    pub(crate) snapshot: bool,
    pub(crate) again: bool,
    pub(crate) follow: bool,
}

/// Finds the run that machine 0 submits from the same experiment at the same commit, and starts this
/// machine's share of it, detached from the terminal.
pub(crate) fn join(node_rank: u32, which: &Which<'_>, runs: &Runs) -> Result<ExitCode> {
    let (root, name, commit) = pinned(which, runs)?;
    let run = find(&root, &name, &commit, which.again)?;
    let id = run.id();
    let Some(machines) = Machines::of(&run)? else {
        return Err(Error::new(
            ExitKind::Usage,
            format!("run {id} was submitted for one machine"),
        )
        .hint("submit it there with the same --nodes and --master-addr, and --again"));
    };
    if node_rank >= machines.nodes {
        return Err(Error::new(
            ExitKind::Usage,
            format!(
                "run {id} has {} machines, and there is no machine {node_rank}",
                machines.nodes
            ),
        ));
    }
    let program = run.manifest()?.bundle.dir.join(bundle::ROCKET);
    let rank = node_rank.to_string();
    let arguments = [
        OsStr::new("share"),
        run.path().as_os_str(),
        OsStr::new("--node-rank"),
        OsStr::new(&rank),
    ];
    let out = run.path().join(format!("machines/{node_rank}.out"));
    let before = Presence::read(&run, node_rank);
    local::detach(&program, &arguments, &out)?;
    let start = Instant::now();
    while Presence::read(&run, node_rank).map(|one| one.token)
        == before.as_ref().map(|one| one.token.clone())
    {
        if start.elapsed() > Duration::from_secs(30) {
            return Err(Error::new(
                ExitKind::Internal,
                format!(
                    "the share of machine {node_rank} did not start; see '{}'",
                    out.display()
                ),
            ));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    output::print(&format!(
        "run {id}\n  directory  {}\n  machine    {node_rank} of {}\n",
        run.path().display(),
        machines.nodes
    ))?;
    if which.follow {
        view::wait_for_attempt(&run, None)?;
        return view::follow(&run);
    }
    Ok(ExitCode::SUCCESS)
}

/// Folder of runs, name, and commit of the experiment's pin: the same on every machine.
fn pinned(which: &Which<'_>, runs: &Runs) -> Result<(std::path::PathBuf, String, String)> {
    let (experiment, _profile) = experiment::load(which.experiment, which.sets)?;
    pin::check_name(&experiment.name)?;
    let path = which
        .experiment
        .canonicalize()
        .map_err(|error| Error::io("find", which.experiment, error))?;
    let folder = path.parent().unwrap_or(Path::new("/"));
    let source = Source::discover(&[Path::new("."), folder])?;
    let changes = Changes::find(&source, source.relative(&path).as_deref())?;
    let mode = if which.snapshot {
        Mode::Snapshot
    } else {
        changes.refuse()?;
        Mode::Head
    };
    let pinned = pin::create(
        &source,
        &changes,
        mode,
        &experiment.name,
        &experiment.to_yaml(),
    )?;
    let root = runs.of(&source)?;
    Ok((root, experiment.name, pinned.commit.to_string()))
}

/// Waits for the run, if it is not there or is not going on yet.
fn find(root: &Path, name: &str, commit: &str, again: bool) -> Result<RunDir> {
    let start = Instant::now();
    let mut said = false;
    loop {
        let first = run_dir::run_id(name, commit, None);
        let mut newest = None;
        for id in std::iter::once(first.clone())
            .chain((2..).map(|count| run_dir::run_id(name, commit, Some(count))))
        {
            let Ok(run) = RunDir::open(root.join(&id)) else {
                break;
            };
            newest = Some(run);
            if !again {
                break;
            }
        }
        let (waits, hint) = match &newest {
            None => (
                format!("run {first} is not in '{}' yet", root.display()),
                "submit it on machine 0, from the same commit and with the same options, over the same folder of runs",
            ),
            Some(run) => match events::derive(&events::read(run)?).status {
                Status::Finished if !again => {
                    return Err(Error::new(
                        ExitKind::Usage,
                        format!("run {} has finished: there is nothing left to do", run.id()),
                    )
                    .hint("run the experiment once more with --again, on every machine"));
                }
                status @ (Status::Finished | Status::Failed | Status::Cancelled) => (
                    format!("run {} is {status}", run.id()),
                    "resume it, or submit it with --again, on machine 0",
                ),
                _ => return RunDir::open(run.path()),
            },
        };
        if start.elapsed() > PATIENCE {
            return Err(Error::new(
                ExitKind::Usage,
                format!("{waits}, after {} minutes", PATIENCE.as_secs() / 60),
            )
            .hint(hint));
        }
        if !std::mem::replace(&mut said, true) {
            eprintln!(
                "note: {waits}: waiting for machine 0, for up to {} minutes",
                PATIENCE.as_secs() / 60
            );
        }
        std::thread::sleep(LOOK);
    }
}

/// What a person types into another launcher, once the run's directory is there.
pub(crate) fn launcher_lines(run: &RunDir, worker: &Path, nodes: u32, per_node: u32) -> String {
    let (worker, dir) = (quoted(worker), quoted(run.path()));
    let machines = if nodes == 1 {
        "--standalone".to_owned()
    } else {
        format!("--nnodes {nodes} --node-rank K --master-addr HOST --master-port PORT")
    };
    format!(
        "  next       start its {} ranks, each as\n               {worker} train --run {dir}\n             with RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT set, for instance by\n               torchrun {machines} --nproc-per-node {per_node} --no-python -- {worker} train --run {dir}\n",
        nodes.saturating_mul(per_node)
    )
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:,@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text;
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_quoted_where_a_shell_needs_it() {
        assert_eq!(quoted(Path::new("/a/b-1.x")), "/a/b-1.x");
        assert_eq!(quoted(Path::new("/a b/it's")), r"'/a b/it'\''s'");
    }
}
