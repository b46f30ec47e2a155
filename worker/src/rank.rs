//! Who this process is among the ranks, and its files in the attempt's directory.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use rocket_common::protocol::env as names;

/// A rank's place, read from its environment (see [`rocket_common::protocol::env`]).
#[derive(Debug, Clone)]
pub struct RankContext {
    /// Global rank.
    pub rank: u32,
    /// Number of ranks, W.
    pub world_size: u32,
    /// Rank within its node.
    pub local_rank: u32,
    /// The run directory.
    pub run_dir: PathBuf,
    /// Number of the attempt.
    pub attempt: u32,
    /// Folder of the pinned tree's files; the run directory's `pin` if not set.
    pub pin_dir: PathBuf,
    /// Host that other ranks reach rank 0 by.
    pub master_addr: String,
    /// Fixed port of the store; `None` lets rank 0 choose and publish one.
    pub master_port: Option<u16>,
}

impl RankContext {
    /// Reads the environment.
    ///
    /// # Errors
    /// Names the variable that is missing or is no number.
    pub fn from_env() -> Result<Self> {
        let context = Self {
            rank: number(names::RANK)?,
            world_size: number(names::WORLD_SIZE)?,
            local_rank: number(names::LOCAL_RANK)?,
            run_dir: PathBuf::from(text(names::RUN_DIR)?),
            attempt: number(names::ATTEMPT)?,
            pin_dir: std::env::var_os(names::PIN_DIR).map_or_else(
                || {
                    std::env::var_os(names::RUN_DIR)
                        .map_or_else(PathBuf::new, |dir| PathBuf::from(dir).join("pin"))
                },
                PathBuf::from,
            ),
            master_addr: std::env::var(names::MASTER_ADDR)
                .unwrap_or_else(|_| "127.0.0.1".to_owned()),
            master_port: match std::env::var(names::MASTER_PORT) {
                Ok(port) => {
                    Some(parse::<u16>(names::MASTER_PORT, &port)?).filter(|port| *port != 0)
                }
                Err(_) => None,
            },
        };
        if context.rank >= context.world_size {
            bail!(
                "{}={} is not below {}={}",
                names::RANK,
                context.rank,
                names::WORLD_SIZE,
                context.world_size
            );
        }
        Ok(context)
    }

    /// Whether this rank speaks and writes for all.
    #[must_use]
    pub fn is_lead(&self) -> bool {
        self.rank == 0
    }
}

fn text(name: &str) -> Result<String> {
    std::env::var(name).with_context(|| {
        format!("{name} is not set: rocket-worker train is started by 'rocket submit', one process per rank")
    })
}

fn parse<T: std::str::FromStr>(name: &str, value: &str) -> Result<T>
where
    T::Err: std::error::Error + Send + Sync + 'static,
{
    value
        .parse()
        .with_context(|| format!("{name}={value} is not a number in range"))
}

fn number(name: &str) -> Result<u32> {
    parse(name, &text(name)?)
}
