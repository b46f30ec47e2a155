//! A machine but the first of several: starts this machine's ranks in every attempt that machine 0
//! announces, and tells how they end. It decides nothing.

use std::ffi::OsString;
use std::process::Child;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use rocket_common::error::{Error, Result};
use rocket_common::events::{self, Status};
use rocket_common::host;
use rocket_common::protocol::{self, ExitRecord, ProcessEnd, StopReason};
use rocket_common::run_dir::{Attempt, RunDir};

use super::children::{Groups, Ranks, end_of};
use super::leftovers;
use super::machines::{self, Announcement, BEAT, Presence};
use crate::requests;

/// Spacing of looks at this machine's ranks.
const TICK: Duration = Duration::from_millis(200);
/// Spacing of looks at the events, which say when the run is over.
const SETTLED: Duration = Duration::from_secs(3);

static ASKED: AtomicBool = AtomicBool::new(false);

extern "C" fn on_signal(_signal: nix::libc::c_int) {
    ASKED.store(true, Ordering::SeqCst);
}

/// Stays until the run is over, another share takes this one's place, or a signal asks it to leave:
/// then the run is asked to save, and goes on when the machine has a share again.
///
/// # Errors
/// The run directory cannot be read or written for the machine's first beat.
pub(crate) fn share(run: &RunDir, node_rank: u32) -> Result<()> {
    let action = SigAction::new(
        SigHandler::Handler(on_signal),
        SaFlags::SA_RESTART,
        SigSet::empty(),
    );
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        // SAFETY: the handler only stores to an atomic, which is async-signal-safe.
        unsafe { sigaction(signal, &action) }
            .map_err(|error| Error::io("catch signals for", run.path(), error.into()))?;
    }
    let presence = Presence::new();
    presence.write(run, node_rank)?;
    println!(
        "machine {node_rank} is there (process {} on {})",
        presence.pid, presence.host
    );
    let mut share = Share {
        run,
        node_rank,
        presence,
        done: None,
        working: None,
        leaving: false,
    };
    let why = share.stay();
    if let Some(working) = &share.working {
        working.groups.kill();
    }
    println!("machine {node_rank} leaves: {why}");
    Ok(())
}

struct Share<'a> {
    run: &'a RunDir,
    node_rank: u32,
    presence: Presence,
    /// The last attempt that this machine has nothing more to do for.
    done: Option<u32>,
    working: Option<Working>,
    leaving: bool,
}

/// An attempt whose ranks run here.
struct Working {
    attempt: Attempt,
    groups: Groups,
    children: Vec<(u32, Child)>,
    asked: bool,
    saved: bool,
}

impl Share<'_> {
    fn stay(&mut self) -> &'static str {
        let (mut beaten, mut looked) = (Instant::now(), Instant::now());
        loop {
            std::thread::sleep(TICK);
            if beaten.elapsed() >= BEAT {
                beaten = Instant::now();
                if !self.beat() {
                    return "another share of this machine has taken its place";
                }
            }
            if ASKED.swap(false, Ordering::SeqCst) {
                self.ask_for_a_stop();
            }
            // What cannot be read now is read the next time.
            if let Err(error) = self.work() {
                eprintln!("warning: {error}");
            }
            if self.working.is_none() {
                if self.leaving {
                    return "it was asked to";
                }
                if looked.elapsed() >= SETTLED {
                    looked = Instant::now();
                    if is_over(self.run) {
                        return "the run is over";
                    }
                }
            }
        }
    }

    /// Shows that it is there; `false` if another one is.
    fn beat(&mut self) -> bool {
        if let Some(found) = Presence::read(self.run, self.node_rank)
            && found.token != self.presence.token
        {
            return false;
        }
        self.presence.beat += 1;
        if let Err(error) = self.presence.write(self.run, self.node_rank) {
            eprintln!("warning: {error}");
        }
        true
    }

    /// The first signal has the run save; a second one leaves at once.
    fn ask_for_a_stop(&mut self) {
        match &self.working {
            Some(working) if self.leaving => working.groups.kill(),
            Some(working) => {
                if let Err(error) = requests::stop(&working.attempt, StopReason::Preempted) {
                    eprintln!("warning: {error}");
                }
            }
            None => {}
        }
        self.leaving = true;
    }

    fn work(&mut self) -> Result<()> {
        let highest = self.run.highest_attempt()?;
        if let Some(working) = &mut self.working {
            if highest > Some(working.attempt.number()) {
                working.groups.kill();
            }
            working.look()?;
            if working.children.is_empty() {
                self.done = Some(working.attempt.number());
                self.working = None;
            }
            return Ok(());
        }
        if self.leaving {
            return Ok(());
        }
        if let Some(number) = highest
            && highest > self.done
        {
            let attempt = self.run.attempt(number);
            if let Some(announcement) = Announcement::read(&attempt)? {
                self.begin(attempt, &announcement)?;
            }
        }
        Ok(())
    }

    fn begin(&mut self, attempt: Attempt, announcement: &Announcement) -> Result<()> {
        let ended = leftovers::end(self.run.path(), attempt.number());
        if ended > 0 {
            println!("ended {ended} processes that earlier attempts left behind");
        }
        let ranks = announcement.ranks(self.node_rank);
        if !machines::first_start(&attempt, self.node_rank)? {
            // A share before this one started them, and they died with it.
            self.done = Some(attempt.number());
            for (rank, _) in ranks {
                if protocol::read_exit(&attempt, rank)?.is_none() {
                    record(&attempt, rank, ProcessEnd::Signal(Signal::SIGKILL as i32))?;
                }
            }
            return Ok(());
        }
        let os = |text: &String| OsString::from(text);
        let argv: Vec<OsString> = announcement.argv.iter().map(os).collect();
        let env: Vec<(OsString, OsString)> = announcement
            .env
            .iter()
            .map(|(name, value)| (os(name), os(value)))
            .collect();
        let here = announcement.cwd.is_dir();
        let own = Ranks {
            run: self.run,
            attempt: &attempt,
            world_size: announcement.world_size,
            per_node: announcement.ranks_per_node,
            argv: &argv,
            env: &env,
            without: announcement.without.clone(),
            cwd: if here {
                announcement.cwd.clone()
            } else {
                self.run.path().to_path_buf()
            },
            master_addr: announcement.master_addr.clone(),
            master_port: announcement.master_port,
        };
        let mut working = Working {
            groups: Groups::new(self.run, &attempt),
            attempt: attempt.clone(),
            children: Vec::new(),
            asked: false,
            saved: false,
        };
        for (rank, local_rank) in ranks {
            let child = own.command(rank, local_rank).and_then(|mut command| {
                command
                    .spawn()
                    .map_err(|error| own.not_started(rank, error))
            });
            match child {
                Ok(child) => {
                    working.groups.add(rank, Some(child.id()));
                    working.children.push((rank, child));
                }
                Err(error) => {
                    eprintln!("error: {error}");
                    // A shell's word for a program that cannot be started.
                    record(&attempt, rank, ProcessEnd::Code(127))?;
                }
            }
        }
        println!(
            "attempt {} has {} ranks here",
            attempt.number(),
            working.children.len()
        );
        self.working = Some(working);
        Ok(())
    }
}

impl Working {
    /// Tells of ranks that have ended, and carries orders out.
    fn look(&mut self) -> Result<()> {
        let mut index = 0;
        while let Some((rank, child)) = self.children.get_mut(index) {
            let rank = *rank;
            let ended = child
                .try_wait()
                .map_err(|error| Error::io("wait for a rank of", self.attempt.dir(), error))?;
            let Some(status) = ended else {
                index += 1;
                continue;
            };
            // Removed only after the record is there: a full disk is tried again.
            record(&self.attempt, rank, end_of(status))?;
            self.children.remove(index);
            self.groups.ended(rank);
        }
        let orders = protocol::read_orders(&self.attempt)?;
        if orders.stacks && !std::mem::replace(&mut self.saved, true) {
            self.groups.save_stacks();
        }
        if orders.term && !std::mem::replace(&mut self.asked, true) {
            self.groups.signal(Signal::SIGTERM);
        }
        if orders.kill && !self.children.is_empty() {
            self.groups.kill();
        }
        Ok(())
    }
}

fn record(attempt: &Attempt, rank: u32, end: ProcessEnd) -> Result<()> {
    let node = host::name();
    protocol::write_exit(attempt, rank, &ExitRecord { end, node })
}

/// Whether nothing will be started any more unless somebody resumes the run.
fn is_over(run: &RunDir) -> bool {
    run.is_done()
        || events::read(run).is_ok_and(|found| {
            matches!(
                events::derive(&found).status,
                Status::Finished | Status::Failed | Status::Cancelled
            )
        })
}
