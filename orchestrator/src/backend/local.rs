//! Child processes on this machine.

use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use nix::unistd::setsid;
use rocket_common::error::{Error, Result};
use rocket_common::experiment::BackendKind;
use rocket_common::host;
use rocket_common::run_dir::{Manifest, RunDir};
use tokio::sync::mpsc;

use super::children::{Groups, Ranks};
use super::machines::Machines;
use super::{
    Backend, Control, Handover, Launch, Liveness, Outlook, RankExit, Running, children, conductor,
    free_port, leftovers, records,
};
use crate::bundle;
use crate::supervisor::Exit;
use crate::sweep::turn;

/// What the detached supervisor prints outside its log, by name within the run directory.
const OUTPUT: &str = "supervisor.out";

/// Ranks as child processes of the supervisor, which is detached from the terminal.
#[derive(Debug, Clone, Copy, Default)]
pub struct Local;

impl Backend for Local {
    fn kind(&self) -> BackendKind {
        BackendKind::Local
    }

    fn submit(&self, handover: &Handover<'_>) -> Result<Option<String>> {
        let Handover { run, manifest, .. } = *handover;
        let program = manifest.bundle.dir.join(bundle::ROCKET);
        let arguments = [OsStr::new("supervise"), run.path().as_os_str()];
        detach(&program, &arguments, &run.path().join(OUTPUT))?;
        Ok(None)
    }

    fn nodes(&self) -> Vec<String> {
        vec![host::name()]
    }

    fn launch(&self, launch: &Launch<'_>) -> Result<Running> {
        let ended = leftovers::end(launch.run.path(), launch.attempt.number());
        if ended > 0 {
            tracing::warn!("ended {ended} processes that earlier attempts left behind");
        }
        if let Some(machines) = Machines::of(launch.run)? {
            let fixed = machines.master_port;
            let chosen = launch
                .choose_port
                .then(|| free_port("127.0.0.1"))
                .transpose()?;
            return conductor::launch(launch, &machines, fixed.or(chosen));
        }
        let ranks = Ranks {
            run: launch.run,
            attempt: launch.attempt,
            world_size: launch.world_size,
            per_node: launch.world_size,
            argv: &launch.argv,
            env: &launch.env,
            without: launch.without.iter().map(ToString::to_string).collect(),
            cwd: launch.cwd.clone(),
            master_addr: "127.0.0.1".to_owned(),
            master_port: launch
                .choose_port
                .then(|| free_port("127.0.0.1"))
                .transpose()?,
        };
        let mut children = Vec::new();
        for rank in 0..launch.world_size {
            let child = tokio::process::Command::from(ranks.command(rank, rank)?)
                // Children started so far are killed if this one fails.
                .kill_on_drop(true)
                .spawn()
                .map_err(|error| ranks.not_started(rank, error))?;
            children.push((rank, child));
        }
        let (sender, exits) = mpsc::unbounded_channel();
        let mut groups = Groups::new(launch.run, launch.attempt);
        for (rank, mut child) in children {
            groups.add(rank, child.id());
            let sender = sender.clone();
            tokio::spawn(async move {
                let end = child.wait().await.map(children::end_of);
                let exit = end.map_or(Exit::Unknown, records::exit_of);
                let _ = sender.send(RankExit { rank, exit });
            });
        }
        Ok(Running {
            exits,
            control: Box::new(Here(groups)),
        })
    }

    fn outlook(&self, run: &RunDir, manifest: &Manifest) -> Result<Outlook> {
        let of = |alive| match alive {
            Some(true) => Liveness::Alive,
            Some(false) => Liveness::Gone,
            None => Liveness::Unknown,
        };
        let mut outlook = Outlook::of(Liveness::Gone);
        if let Some(highest) = run.highest_attempt()? {
            let claim = run.claim_of(highest)?;
            outlook.liveness = of(claim.and_then(|claim| claim.is_alive()));
        }
        let limited = manifest.sweep.as_ref().filter(|sweep| sweep.lane.is_some());
        if let (Liveness::Gone, Some(sweep)) = (outlook.liveness, limited) {
            outlook.liveness = of(turn::is_waiting(run));
            let waits = outlook.liveness == Liveness::Alive;
            outlook.waiting = waits.then(|| turn::words(&sweep.id));
        }
        Ok(outlook)
    }
}

/// Starts a program that outlives this one, and prints to a file of the run.
///
/// # Errors
/// It cannot be started.
pub(crate) fn detach(program: &Path, arguments: &[&OsStr], output: &Path) -> Result<()> {
    let failed = |error| Error::io("write", output, error);
    if let Some(dir) = output.parent() {
        std::fs::create_dir_all(dir).map_err(failed)?;
    }
    let out = OpenOptions::new()
        .create(true)
        .append(true)
        .open(output)
        .map_err(failed)?;
    let err = out.try_clone().map_err(failed)?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(err);
    // SAFETY: setsid is async-signal-safe, and nothing is allocated.
    unsafe {
        // A session of its own: it survives the terminal, and gets no signal typed there.
        command.pre_exec(|| setsid().map(drop).map_err(std::io::Error::from));
    }
    command
        .spawn()
        .map(drop)
        .map_err(|error| Error::io("start", program, error))
}

/// The process groups of ranks that all run here.
struct Here(Groups);

impl Control for Here {
    fn ended(&mut self, rank: u32) {
        self.0.ended(rank);
    }

    fn signal(&mut self, signal: Signal) {
        self.0.signal(signal);
    }

    fn save_stacks(&mut self) {
        self.0.save_stacks();
    }

    fn kill(&mut self) {
        self.0.kill();
    }
}
