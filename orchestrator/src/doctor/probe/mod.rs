//! What processes find out together about a folder that they share and about the machines they are
//! on: two of them on a login node, or one on each node of a short job. They meet by files in that
//! folder alone, which is what is tested.

mod files;
mod machine;
mod net;

pub use files::{Files, Link, Rename};
pub use machine::{Gpu, Machine, Worker, check_worker};
pub use net::Net;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rocket_common::atomic;
use rocket_common::error::{Error, Result};
use rocket_common::exit::ExitKind;
use serde::{Deserialize, Serialize};

/// How long others are waited for: network file systems may hide a new file for a minute.
const PATIENCE: Duration = Duration::from_secs(100);

/// A process's place among those that probe together.
#[derive(Debug, Clone)]
pub struct Place {
    /// The shared folder.
    pub dir: PathBuf,
    /// Its number, from 0.
    pub rank: u32,
    /// How many there are.
    pub size: u32,
}

/// What one process found out.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Found {
    /// Its number.
    pub rank: u32,
    /// Where it ran.
    pub machine: Machine,
    /// The shared folder.
    pub files: Files,
    /// The way to the first of them.
    pub net: Option<Net>,
    /// The trainer, where there is one.
    pub worker: Option<Worker>,
}

impl Place {
    /// Of a process of `srun`, or of one that was told by variables of its own.
    ///
    /// # Errors
    /// Neither told it.
    pub fn of_environment(dir: &Path) -> Result<Self> {
        let number = |names: [&str; 2]| {
            names
                .iter()
                .find_map(|name| std::env::var(name).ok()?.parse::<u32>().ok())
                .ok_or_else(|| {
                    Error::new(
                        ExitKind::Usage,
                        format!(
                            "a probe is started by 'rocket doctor' or by srun: {} is not set",
                            names[0]
                        ),
                    )
                })
        };
        Ok(Self {
            dir: dir.to_path_buf(),
            rank: number([RANK, "SLURM_PROCID"])?,
            size: number([SIZE, "SLURM_NTASKS"])?.max(1),
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Waits until every process has come here.
    fn barrier(&self, name: &str) -> Result<()> {
        atomic::write_unsynced(&self.path(&format!("at-{name}.{}", self.rank)), b"")?;
        for other in 0..self.size {
            self.wait_for(&format!("at-{name}.{other}"))?;
        }
        Ok(())
    }

    /// Waits until a file is seen.
    fn wait_for(&self, name: &str) -> Result<()> {
        let path = self.path(name);
        let start = Instant::now();
        while !path.exists() {
            if start.elapsed() > PATIENCE {
                return Err(Error::new(
                    ExitKind::Distributed,
                    format!(
                        "'{}' was not seen within {} s: the other process did not start, or the folder is not shared with its machine",
                        path.display(),
                        PATIENCE.as_secs()
                    ),
                ));
            }
            // A look at the folder makes NFS ask the server anew.
            let _ = std::fs::read_dir(&self.dir).map(Iterator::count);
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }
}

/// Variable with a local probe's number.
pub const RANK: &str = "ROCKET_PROBE_RANK";
/// Variable with the number of local probes.
pub const SIZE: &str = "ROCKET_PROBE_SIZE";

/// Name of the file with what a process found out.
#[must_use]
pub fn result_name(rank: u32) -> String {
    format!("result.{rank}.json")
}

/// Name of the file that a process leaves at its start, before it meets the others.
#[must_use]
pub fn hello_name(rank: u32) -> String {
    format!("hello.{rank}.json")
}

/// Probes, and leaves what was found in the folder.
///
/// # Errors
/// The folder cannot be written, or the others are not met.
pub fn run(place: &Place, worker: Option<&Path>) -> Result<()> {
    let machine = Machine::look();
    atomic::write_json(&place.path(&hello_name(place.rank)), &machine)?;
    let server = net::serve(place)?;
    place.barrier("start")?;
    let found = Found {
        rank: place.rank,
        net: net::measure(place),
        files: files::probe(place)?,
        worker: worker.map(machine::check_worker),
        machine,
    };
    atomic::write_json(&place.path(&result_name(place.rank)), &found)?;
    // Whoever serves stays until everybody has asked.
    let end = place.barrier("end");
    drop(server);
    end
}
