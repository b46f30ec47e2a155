//! How the ranks of an attempt find each other.
//!
//! Under a supervisor rank 0 binds a free port, so that no two attempts can clash, and publishes it in
//! the attempt's directory, so that none can find a stale one. Under any other launcher the ranks meet
//! at `MASTER_ADDR:MASTER_PORT`, where rank 0 tells which attempt it has claimed.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rocket_common::error::Error;
use rocket_common::exit::ExitKind;
use rocket_common::protocol::{self, Rendezvous};
use rocket_common::run_dir::{Claim, RunDir};
use tch::Device;
use tch_distributed::{GlooOptions, NcclOptions, ProcessGroup, Store};

use super::{address, events, guard};
use crate::rank::{Meeting, Place, RankContext, Server};

/// How often a rank looks for what rank 0 publishes.
const POLL: Duration = Duration::from_millis(20);
/// How often it looks again at what turned out to be stale.
const RETRY: Duration = Duration::from_millis(200);
/// How long a port may stay taken: a superseded attempt's rank 0 notices within seconds, and leaves.
const PORT_PATIENCE: Duration = Duration::from_secs(20);

/// What [`enter`] found.
pub enum Entered {
    /// A place in an attempt.
    Attempt(RankContext, Option<Store>),
    /// The run is complete: there is nothing to do.
    Done,
}

/// Finds out which attempt this process belongs to. Without a supervisor, rank 0 claims the next one,
/// which fences off every process of an earlier one, and the others hear of it.
///
/// # Errors
/// Kind [`ExitKind::Distributed`] when the ranks do not come together within `timeout`.
pub fn enter(place: &Place, run: &RunDir, timeout: Duration) -> Result<Entered> {
    match &place.meeting {
        Meeting::Supervised { attempt, .. } => {
            let context = RankContext::new(place, *attempt);
            Ok(Entered::Attempt(context, None))
        }
        Meeting::Unsupervised {
            port,
            server,
            generation,
        } => {
            let desk = Desk {
                place,
                run,
                port: *port,
                serves: *server == Server::RankZero,
                key: format!("rocket/{}/{generation}/attempt", run.id()),
                timeout,
            };
            if place.rank == 0 {
                desk.claim()
            } else {
                desk.ask()
            }
        }
    }
}

/// Where rank 0 tells the others the attempt.
struct Desk<'a> {
    place: &'a Place,
    run: &'a RunDir,
    port: u16,
    /// Whether rank 0 serves the store itself.
    serves: bool,
    key: String,
    timeout: Duration,
}

/// Told in place of a number.
const DONE: &str = "done";

impl Desk<'_> {
    fn claim(&self) -> Result<Entered> {
        if self.run.is_done() {
            if self.place.world_size > 1 {
                let store = self.connect(self.serves)?;
                store.set(&self.key, DONE.as_bytes())?;
                self.wait_until_heard(&store);
            }
            return Ok(Entered::Done);
        }
        // The claim comes first: it makes a rank 0 that still holds the port leave.
        let attempt = self.run.claim_attempt(&Claim::of_this_process(None))?;
        let context = RankContext::new(self.place, attempt.number());
        events::started(self.run, &context);
        let store = self.serve()?;
        store.set(&self.key, attempt.number().to_string().as_bytes())?;
        Ok(Entered::Attempt(context, Some(store)))
    }

    /// A server that leaves at once would be gone before the others have asked.
    fn wait_until_heard(&self, store: &Store) {
        let start = Instant::now();
        let others = i64::from(self.place.world_size) - 1;
        while start.elapsed() < PORT_PATIENCE.min(self.timeout)
            && store.add(&self.heard(), 0).is_ok_and(|sum| sum < others)
        {
            std::thread::sleep(POLL);
        }
    }

    fn heard(&self) -> String {
        format!("{}/heard", self.key)
    }

    fn serve(&self) -> Result<Store> {
        let start = Instant::now();
        loop {
            match self.connect(self.serves) {
                Err(error)
                    if start.elapsed() < PORT_PATIENCE
                        && format!("{error:#}").contains("in use") =>
                {
                    std::thread::sleep(RETRY);
                }
                result => return result,
            }
        }
    }

    fn connect(&self, serve: bool) -> Result<Store> {
        let host = &self.place.master_addr;
        let world = self.place.world_size as usize;
        Store::tcp(host, self.port, world, serve, self.timeout).with_context(|| {
            let port = self.port;
            if serve {
                format!("cannot serve the meeting of the ranks at MASTER_ADDR:MASTER_PORT, {host}:{port}")
            } else {
                format!("cannot reach the meeting of the ranks at MASTER_ADDR:MASTER_PORT, {host}:{port}")
            }
        })
    }

    fn ask(&self) -> Result<Entered> {
        let start = Instant::now();
        let mut store = self.connect(false)?;
        loop {
            let left = self.timeout.saturating_sub(start.elapsed());
            if left.is_zero() {
                return Err(Error::new(
                    ExitKind::Distributed,
                    format!(
                        "rank 0 told of no new attempt at {}:{} within {} s",
                        self.place.master_addr,
                        self.port,
                        self.timeout.as_secs()
                    ),
                )
                .hint("see what rank 0 printed")
                .into());
            }
            match store.get_within(&self.key, Some(left)) {
                Ok(told) if told == DONE.as_bytes() => {
                    let _ = store.add(&self.heard(), 1);
                    return Ok(Entered::Done);
                }
                Ok(told) => {
                    let number = std::str::from_utf8(&told).ok().and_then(|n| n.parse().ok());
                    if let Some(number) = number
                        && self.is_new(number)?
                    {
                        return Ok(Entered::Attempt(
                            RankContext::new(self.place, number),
                            Some(store),
                        ));
                    }
                    std::thread::sleep(RETRY);
                }
                // The store was that of an earlier rank 0, which has left meanwhile.
                Err(tch_distributed::Error::Distributed(_)) => {
                    std::thread::sleep(RETRY);
                    store = self.connect(false)?;
                }
                Err(error) => {
                    return Err(error).context("rank 0 did not tell which attempt it claimed");
                }
            }
        }
    }

    /// Whether the attempt is not one that an earlier start of this rank was part of, whose number was
    /// left in a store that outlived it.
    fn is_new(&self, attempt: u32) -> Result<bool> {
        match self.run.fence_check(attempt) {
            Err(error) if error.kind() == ExitKind::Fenced => return Ok(false),
            result => result?,
        }
        let beat = protocol::read_heartbeat(&self.run.attempt(attempt), self.place.rank)?;
        Ok(beat.is_none())
    }
}

/// Joins the ranks of this attempt into one process group. `store` is the one in which [`enter`] met
/// them.
///
/// # Errors
/// Kind [`ExitKind::Distributed`] when a rank does not come within `timeout`, kind
/// [`ExitKind::Fenced`] when a newer attempt exists.
pub fn join(
    place: &Place,
    context: &RankContext,
    run: &RunDir,
    store: Option<Store>,
    device: Device,
    timeout: Duration,
) -> Result<ProcessGroup> {
    let store = match (store, &place.meeting) {
        (Some(store), _) => store,
        (
            None,
            Meeting::Supervised {
                port: Some(port), ..
            },
        ) => {
            let (host, world) = (&place.master_addr, context.world_size as usize);
            Store::tcp(host, *port, world, context.is_lead(), timeout)
                .with_context(|| format!("cannot meet the other ranks at {host}:{port}"))?
        }
        (None, _) if context.is_lead() => publish(place, context, run, timeout)?,
        (None, _) => find(context, run, timeout)?,
    };
    let options = GlooOptions::new(timeout).name(format!("attempt-{}", context.attempt));
    let options = address::choose(&place.master_addr, context, &store, options)?;
    let (rank, world) = (context.rank as usize, context.world_size as usize);
    let group = match device {
        Device::Cuda(device) => {
            let options = NcclOptions {
                gloo: options.clone(),
                ..NcclOptions::new(device, timeout)
            };
            ProcessGroup::nccl(&store, rank, world, &options)
        }
        _ => ProcessGroup::gloo(&store, rank, world, &options),
    }
    .with_context(|| match &options.endpoint {
        tch_distributed::Endpoint::Address(own) => {
            format!("cannot connect to the other ranks from {own}")
        }
        tch_distributed::Endpoint::Interface(name) => {
            format!("cannot connect to the other ranks over the interface {name}")
        }
        tch_distributed::Endpoint::HostName => "cannot connect to the other ranks".to_owned(),
    })?;
    guard::met();
    Ok(group)
}

fn publish(place: &Place, context: &RankContext, run: &RunDir, timeout: Duration) -> Result<Store> {
    let host = &place.master_addr;
    let store = Store::tcp(host, 0, context.world_size as usize, true, timeout)
        .with_context(|| format!("cannot listen on {host}"))?;
    let rendezvous = Rendezvous {
        host: host.clone(),
        port: store.port(),
        attempt: context.attempt,
    };
    protocol::publish_rendezvous(run, &rendezvous)?;
    Ok(store)
}

fn find(context: &RankContext, run: &RunDir, timeout: Duration) -> Result<Store> {
    let attempt = run.attempt(context.attempt);
    let started = Instant::now();
    let mut pause = POLL;
    loop {
        if let Some(found) = protocol::read_rendezvous(&attempt)? {
            return Store::tcp(
                &found.host,
                found.port,
                context.world_size as usize,
                false,
                timeout,
            )
            .with_context(|| format!("cannot reach rank 0 at {}:{}", found.host, found.port));
        }
        if started.elapsed() > timeout {
            return Err(Error::new(
                ExitKind::Distributed,
                format!(
                    "rank 0 published no rendezvous within {} s",
                    timeout.as_secs()
                ),
            )
            .hint("see rank 0's log in the attempt's directory")
            .into());
        }
        std::thread::sleep(pause);
        // Many ranks look at one shared file system, and a rank 0 that is late may be very late.
        pause = (pause * 5 / 4).min(Duration::from_secs(1));
    }
}
