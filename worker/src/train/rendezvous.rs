//! How the ranks of an attempt find each other. Rank 0 binds a free port, so that no two attempts
//! can clash, and publishes it in the attempt's directory, so that none can find a stale one.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rocket_common::error::Error;
use rocket_common::exit::ExitKind;
use rocket_common::protocol::{self, Rendezvous};
use rocket_common::run_dir::RunDir;
use tch_distributed::{GlooOptions, ProcessGroup, Store};

use crate::rank::RankContext;

/// How often a rank looks for what rank 0 publishes.
const POLL: Duration = Duration::from_millis(20);

/// Joins the ranks of this attempt into one process group.
///
/// # Errors
/// Kind [`ExitKind::Distributed`] when a rank does not come within `timeout`, kind
/// [`ExitKind::Fenced`] when a newer attempt exists.
pub fn join(context: &RankContext, run: &RunDir, timeout: Duration) -> Result<ProcessGroup> {
    let store = match context.master_port {
        Some(port) => {
            let world = context.world_size as usize;
            Store::tcp(
                &context.master_addr,
                port,
                world,
                context.is_lead(),
                timeout,
            )
            .with_context(|| {
                format!(
                    "cannot meet the other ranks at {}:{port}",
                    context.master_addr
                )
            })?
        }
        None if context.is_lead() => publish(context, run, timeout)?,
        None => find(context, run, timeout)?,
    };
    let mut options = GlooOptions::new(timeout);
    if let Some(interface) = interface(context) {
        options = options.interface(interface);
    }
    ProcessGroup::gloo(
        &store,
        context.rank as usize,
        context.world_size as usize,
        &options,
    )
    .context("cannot connect to the other ranks")
}

fn publish(context: &RankContext, run: &RunDir, timeout: Duration) -> Result<Store> {
    let store = Store::tcp(
        &context.master_addr,
        0,
        context.world_size as usize,
        true,
        timeout,
    )
    .with_context(|| format!("cannot listen on {}", context.master_addr))?;
    let rendezvous = Rendezvous {
        host: context.master_addr.clone(),
        port: store.port(),
        attempt: context.attempt,
    };
    protocol::publish_rendezvous(run, &rendezvous)?;
    Ok(store)
}

fn find(context: &RankContext, run: &RunDir, timeout: Duration) -> Result<Store> {
    let attempt = run.attempt(context.attempt);
    let started = Instant::now();
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
        std::thread::sleep(POLL);
    }
}

/// The network interface of Gloo: torch's own variable, else the loopback where all ranks are here.
fn interface(context: &RankContext) -> Option<String> {
    std::env::var("GLOO_SOCKET_IFNAME")
        .ok()
        .or_else(|| (context.master_addr == "127.0.0.1").then(|| "lo".to_owned()))
}
