//! Machine 0 of several: the supervisor's hands. It waits until every machine has its share, tells them
//! what to start, starts its own ranks, and hears from the others' records how theirs end.

use std::ffi::OsString;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use rocket_common::error::Result;
use rocket_common::events::{Event, EventKind, EventWriter};
use rocket_common::protocol::{self, Heartbeat, Orders, Phase};
use rocket_common::run_dir::{Attempt, RunDir};
use tokio::sync::mpsc::{self, UnboundedSender};

use super::children::{Groups, Ranks};
use super::machines::{Announcement, BEAT, GONE, Machines, Roll};
use super::{Control, Launch, RankExit, Running, children, records};
use crate::supervisor::Exit;

/// Spacing of looks at the records; one read of a directory each.
const LOOK: Duration = Duration::from_millis(500);
/// A share that was told to kill its ranks, and stands still for so long, will not.
const STILL: Duration = Duration::from_secs(5);
/// How long a share that lives may take to kill its ranks.
const KILL_GRACE: Duration = Duration::from_secs(60);
/// Spacing of signs of life for ranks that wait for their machine.
const SIGN: Duration = Duration::from_secs(5);
/// Waiting for that long is worth a word.
const WORTH_SAYING: Duration = Duration::from_secs(3);

/// Starts the ranks of an attempt over all machines. Returns before they are started.
///
/// # Errors
/// The ranks cannot be shared by the machines.
pub(super) fn launch(
    launch: &Launch<'_>,
    machines: &Machines,
    port: Option<u16>,
) -> Result<Running> {
    let announcement = Announcement::new(launch, machines, port)?;
    let shared = Arc::new(Mutex::new(Shared {
        groups: Groups::new(launch.run, launch.attempt),
        orders: Orders::default(),
        killed: None,
    }));
    let (sender, exits) = mpsc::unbounded_channel();
    let conductor = Conductor {
        run: launch.run.clone(),
        attempt: launch.attempt.clone(),
        argv: launch.argv.clone(),
        env: launch.env.clone(),
        roll: Roll::new(machines.nodes),
        announcement,
        shared: Arc::clone(&shared),
        sender,
    };
    // On the supervisor's only thread, to whose life the ranks are tied.
    tokio::spawn(conductor.conduct());
    Ok(Running {
        exits,
        control: Box::new(Reins(shared)),
    })
}

/// What the supervisor's wishes and the ranks' ends meet in.
struct Shared {
    groups: Groups,
    orders: Orders,
    killed: Option<Instant>,
}

impl Shared {
    fn order(&mut self, change: impl FnOnce(&mut Orders)) {
        let before = self.orders.clone();
        change(&mut self.orders);
        if self.orders != before
            && let Err(error) = protocol::write_orders(&self.groups.attempt, &self.orders)
        {
            tracing::warn!("{error}");
        }
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Reins(Arc<Mutex<Shared>>);

impl Control for Reins {
    fn ended(&mut self, rank: u32) {
        lock(&self.0).groups.ended(rank);
    }

    fn signal(&mut self, signal: Signal) {
        let mut shared = lock(&self.0);
        shared.order(|orders| orders.term = true);
        shared.groups.signal(signal);
    }

    fn save_stacks(&mut self) {
        let mut shared = lock(&self.0);
        shared.order(|orders| orders.stacks = true);
        shared.groups.save_stacks();
    }

    fn kill(&mut self) {
        let mut shared = lock(&self.0);
        shared.order(|orders| orders.kill = true);
        shared.killed.get_or_insert_with(Instant::now);
        shared.groups.kill();
    }
}

struct Conductor {
    run: RunDir,
    attempt: Attempt,
    argv: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    announcement: Announcement,
    roll: Roll,
    shared: Arc<Mutex<Shared>>,
    sender: UnboundedSender<RankExit>,
}

impl Conductor {
    async fn conduct(mut self) {
        let all: Vec<u32> = (0..self.announcement.world_size).collect();
        if let Some(why) = self.wait_for_all().await {
            self.tell(all, why);
            return;
        }
        if let Err(error) = self.announcement.publish(&self.run, &self.attempt) {
            tracing::warn!("{error}");
            self.tell(all, Exit::Unknown);
            return;
        }
        for (rank, local_rank) in self.announcement.ranks(0) {
            if let Err(error) = self.start(rank, local_rank) {
                tracing::error!("{error}");
                // A shell's word for a program that cannot be started.
                self.tell([rank], Exit::Code(127));
            }
        }
        let own = self.announcement.ranks_per_node;
        let mut open: Vec<u32> = all.into_iter().filter(|rank| *rank >= own).collect();
        while !open.is_empty() {
            tokio::time::sleep(LOOK).await;
            for exit in records::collect(&self.attempt, &mut open) {
                let _ = self.sender.send(exit);
            }
            let now = Instant::now();
            self.roll.look(&self.run, now);
            let lost = self.lost(&open, now);
            open.retain(|rank| !lost.contains(rank));
            self.tell(lost, Exit::Unknown);
        }
    }

    /// Tells the supervisor that ranks are gone.
    fn tell(&self, ranks: impl IntoIterator<Item = u32>, exit: Exit) {
        for rank in ranks {
            let _ = self.sender.send(RankExit { rank, exit });
        }
    }

    /// Waits until every machine has its share. Gives what ends the waiting otherwise.
    async fn wait_for_all(&mut self) -> Option<Exit> {
        let start = Instant::now();
        let (mut said, mut signs, mut signed) = (false, 0, None::<Instant>);
        loop {
            if lock(&self.shared).killed.is_some() {
                return Some(Exit::Signal(Signal::SIGKILL as i32));
            }
            // Nothing runs that would have to be saved.
            if protocol::read_control(&self.attempt).is_ok_and(|control| control.stop.is_some()) {
                return Some(Exit::Signal(Signal::SIGTERM as i32));
            }
            let now = Instant::now();
            self.roll.look(&self.run, now);
            let absent = self.roll.absent(now, GONE);
            if absent.is_empty() {
                return None;
            }
            if !said && start.elapsed() > WORTH_SAYING {
                said = true;
                self.say_who_is_absent(&absent);
            }
            if signed.is_none_or(|signed| signed.elapsed() >= SIGN) {
                signed = Some(now);
                signs += 1;
                self.sign(signs);
            }
            tokio::time::sleep(BEAT / 2).await;
        }
    }

    /// Heartbeats of ranks that are not started yet, since waiting for a machine is no hang.
    fn sign(&self, beat: u64) {
        let beat = Heartbeat {
            beat,
            pid: std::process::id(),
            phase: Phase::Starting,
            step: 0,
            total_steps: 0,
            epoch: 0.0,
            samples_per_second: 0.0,
            resident_bytes: 0,
        };
        for rank in 0..self.announcement.world_size {
            if let Err(error) = protocol::write_heartbeat(&self.attempt, rank, &beat) {
                tracing::warn!("{error}");
            }
        }
    }

    fn say_who_is_absent(&self, absent: &[u32]) {
        let numbers: Vec<String> = absent.iter().map(ToString::to_string).collect();
        let which = match &numbers[..] {
            [one] => format!("machine {one}"),
            many => format!("machines {}", many.join(", ")),
        };
        let cause = format!("the run waits for {which}");
        tracing::info!("{cause}");
        let event = Event::new(EventKind::Note)
            .attempt(self.attempt.number())
            .cause(cause)
            .hint("start the same 'rocket submit' there with its --node-rank");
        if let Err(error) = EventWriter::new(&self.run, "machines").append(event) {
            tracing::warn!("{error}");
        }
    }

    fn start(&self, rank: u32, local_rank: u32) -> Result<()> {
        let ranks = Ranks {
            run: &self.run,
            attempt: &self.attempt,
            world_size: self.announcement.world_size,
            per_node: self.announcement.ranks_per_node,
            argv: &self.argv,
            env: &self.env,
            without: self.announcement.without.clone(),
            cwd: self.announcement.cwd.clone(),
            master_addr: self.announcement.master_addr.clone(),
            master_port: self.announcement.master_port,
        };
        let mut child = tokio::process::Command::from(ranks.command(rank, local_rank)?)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| ranks.not_started(rank, error))?;
        lock(&self.shared).groups.add(rank, child.id());
        let sender = self.sender.clone();
        tokio::spawn(async move {
            let end = child.wait().await.map(children::end_of);
            let exit = end.map_or(Exit::Unknown, records::exit_of);
            let _ = sender.send(RankExit { rank, exit });
        });
        Ok(())
    }

    /// Ranks of which nothing more will be heard: their machine stands still.
    fn lost(&self, open: &[u32], now: Instant) -> Vec<u32> {
        let killed = lock(&self.shared).killed;
        if killed.is_some_and(|killed| now - killed > KILL_GRACE) {
            return open.to_vec();
        }
        let told = killed.is_some_and(|killed| now - killed > STILL);
        let absent = self.roll.absent(now, if told { STILL } else { GONE });
        let of = |rank: u32| rank / self.announcement.ranks_per_node.max(1);
        let lost = open.iter().copied();
        lost.filter(|rank| absent.contains(&of(*rank))).collect()
    }
}
