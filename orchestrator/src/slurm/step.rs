//! The job step that the ranks of an attempt are: one `srun`, and the records that the launchers on
//! the nodes leave.

use std::fs::OpenOptions;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rocket_common::error::{Error, Result};
use rocket_common::exit::ExitKind;
use rocket_common::experiment::Cluster;
use rocket_common::protocol::{self, Orders, env};
use rocket_common::run_dir::Attempt;
use tokio::process::{Child, Command};
use tokio::sync::mpsc::{self, UnboundedSender};

use crate::backend::{Control, Launch, RankExit, Running, records};
use crate::bundle;
use crate::supervisor::Exit;

/// Spacing of looks at the records; one read of a directory each.
const LOOK: Duration = Duration::from_millis(500);
/// How long `srun` is left after the last rank, before it is ended.
const SRUN_GRACE: Duration = Duration::from_secs(15);
/// How late a record may be seen.
const LATE: Duration = Duration::from_secs(3);
/// After the end of one rank of the trainer, `srun` kills the others; the supervisor does so earlier
/// and better informed, so this is for when there is none any more.
const WAIT_SECONDS: u64 = 900;

/// Starts the ranks on all nodes of the allocation. `master` is the address of the first node.
///
/// # Errors
/// `srun` cannot be started.
pub(super) fn launch(
    launch: &Launch<'_>,
    cluster: &Cluster,
    rocket: &Path,
    master: &str,
    port: Option<u16>,
) -> Result<Running> {
    let log = launch.attempt.dir().join("srun.log");
    let out = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&log)
        .map_err(|error| Error::io("write", &log, error))?;
    let err = out
        .try_clone()
        .map_err(|error| Error::io("write", &log, error))?;
    let mut command = Command::new("srun");
    command
        .args(arguments(launch, cluster))
        .arg(rocket)
        .args(["rank", "--attempt"])
        .arg(launch.attempt.number().to_string())
        .arg(launch.run.path())
        .arg("--")
        .args(&launch.argv);
    for name in &launch.without {
        command.env_remove(name);
    }
    command
        .envs(launch.env.iter().map(|(name, value)| (name, value)))
        .env(env::MASTER_ADDR, master)
        .env(env::RUN_DIR, launch.run.path())
        .env(env::ATTEMPT, launch.attempt.number().to_string());
    match port {
        Some(port) => command.env(env::MASTER_PORT, port.to_string()),
        None => command.env_remove(env::MASTER_PORT),
    };
    command
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(err)
        // Its own group: Slurm's signals to the batch step go to all of it, and SIGTERM would make
        // srun kill ranks that are saving.
        .process_group(0);
    let child = command.spawn().map_err(|error| {
        Error::io("start the ranks with", Path::new("srun"), error).with_kind(ExitKind::Distributed)
    })?;
    let pid = Arc::new(AtomicI32::new(
        child
            .id()
            .and_then(|pid| i32::try_from(pid).ok())
            .unwrap_or_default(),
    ));
    let (sender, exits) = mpsc::unbounded_channel();
    let watch = Watch {
        attempt: launch.attempt.clone(),
        world_size: launch.world_size,
        pid: Arc::clone(&pid),
    };
    tokio::spawn(watch.until_all_ended(child, sender));
    Ok(Running {
        exits,
        control: Box::new(Step {
            attempt: launch.attempt.clone(),
            orders: Orders::default(),
            pid,
        }),
    })
}

/// Options of `srun`. What the job was given is given again, since srun did not inherit
/// `--cpus-per-task` from 22.05 to 23.02, and inherits `--export`, which would leave the ranks
/// without the environment that the set-up lines made.
fn arguments(launch: &Launch<'_>, cluster: &Cluster) -> Vec<String> {
    let wait = if launch.choose_port { 0 } else { WAIT_SECONDS };
    let mut arguments = vec![
        format!("--nodes={}", cluster.nodes),
        format!("--ntasks={}", launch.world_size),
        format!("--ntasks-per-node={}", cluster.ranks_per_node()),
        // Ranks of a node are neighbours: LOCAL_RANK is then the rank's place within its node.
        "--distribution=block".into(),
        format!("--cpus-per-task={}", cluster.cpus_per_task),
        "--kill-on-bad-exit=1".into(),
        format!("--wait={wait}"),
        "--mpi=none".into(),
        "--export=ALL".into(),
        format!("--chdir={}", launch.cwd.display()),
    ];
    if cluster.gpus_per_node > 0 {
        arguments.push(format!("--gpus-per-node={}", cluster.gpus_per_node));
        // Every rank sees all GPUs of its node, as NCCL needs for direct copies between them, and
        // takes the one of its LOCAL_RANK.
        arguments.push("--gpu-bind=none".into());
    }
    for (name, flag) in &cluster.srun_extra {
        arguments.push(flag.option(name));
    }
    arguments
}

struct Watch {
    attempt: Attempt,
    world_size: u32,
    pid: Arc<AtomicI32>,
}

impl Watch {
    /// Reports each rank's end once. The last one is held back until `srun` is gone, so that the next
    /// attempt finds the nodes free.
    async fn until_all_ended(self, mut srun: Child, sender: UnboundedSender<RankExit>) {
        let mut open: Vec<u32> = (0..self.world_size).collect();
        let mut held = None;
        let mut all_ended: Option<Instant> = None;
        let mut ended: Option<Instant> = None;
        let mut tick = tokio::time::interval(LOOK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let gone = tokio::select! {
                status = srun.wait(), if ended.is_none() => {
                    tracing::info!("srun ended: {status:?}");
                    self.pid.store(0, Ordering::SeqCst);
                    true
                }
                _ = tick.tick() => false,
            };
            for exit in records::collect(&self.attempt, &mut open) {
                if let Some(before) = held.replace(exit) {
                    let _ = sender.send(before);
                }
            }
            if gone {
                ended.get_or_insert_with(Instant::now);
            }
            // What a launcher wrote last may be seen here a moment later, on a network file system.
            if ended.is_some_and(|at| open.is_empty() || at.elapsed() > LATE) {
                break;
            }
            if open.is_empty() {
                let since = *all_ended.get_or_insert_with(|| {
                    // Launchers of failed ranks wait for their peers' last words.
                    order(
                        &self.attempt,
                        &Orders {
                            kill: true,
                            ..Orders::default()
                        },
                    );
                    Instant::now()
                });
                if since.elapsed() > SRUN_GRACE {
                    end(&self.pid);
                }
            }
        }
        held.into_iter()
            .chain(open.into_iter().map(|rank| RankExit {
                rank,
                exit: Exit::Unknown,
            }))
            .for_each(|exit| {
                let _ = sender.send(exit);
            });
    }
}

fn order(attempt: &Attempt, orders: &Orders) {
    if let Err(error) = protocol::write_orders(attempt, orders) {
        tracing::warn!("{error}");
    }
}

/// SIGTERM makes srun kill its step, by way of the nodes, also while the controller is away.
fn end(pid: &AtomicI32) {
    let pid = pid.load(Ordering::SeqCst);
    if pid > 0 {
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
    }
}

struct Step {
    attempt: Attempt,
    orders: Orders,
    pid: Arc<AtomicI32>,
}

impl Control for Step {
    fn ended(&mut self, _rank: u32) {}

    fn signal(&mut self, signal: Signal) {
        match signal {
            Signal::SIGKILL => self.kill(),
            _ => {
                self.orders.term = true;
                order(&self.attempt, &self.orders);
            }
        }
    }

    fn save_stacks(&mut self) {
        self.orders.stacks = true;
        order(&self.attempt, &self.orders);
    }

    fn kill(&mut self) {
        if !std::mem::replace(&mut self.orders.kill, true) {
            order(&self.attempt, &self.orders);
        }
        end(&self.pid);
    }
}

/// The program that `srun` starts for each rank.
pub(super) fn rocket(bundle_dir: &Path) -> std::path::PathBuf {
    bundle_dir.join(bundle::ROCKET)
}
