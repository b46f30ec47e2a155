//! One machine: processors, memory, GPUs, and whether the trainer starts on it.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rocket_common::host;
use serde::{Deserialize, Serialize};

/// What a machine is.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Machine {
    /// Its name.
    pub host: String,
    /// Its name in Slurm, within a job.
    pub node: Option<String>,
    /// CPUs that this process may use.
    pub cpus: usize,
    /// Model of the processor.
    pub cpu_model: Option<String>,
    /// Memory in MiB.
    pub memory_mib: Option<u64>,
    /// GPUs as the driver tells.
    pub gpus: Vec<Gpu>,
    /// `/dev/nvidia<n>` files.
    pub gpu_devices: usize,
    /// `CUDA_VISIBLE_DEVICES`.
    pub visible: Option<String>,
}

/// A GPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gpu {
    /// Its model.
    pub name: String,
    /// Its memory, as `81559 MiB`.
    pub memory: String,
    /// Version of the driver.
    pub driver: String,
}

/// Whether the trainer starts.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Worker {
    /// Its own version; absent if it does not start.
    pub version: Option<String>,
    /// Why it does not start.
    pub error: Option<String>,
    /// Seconds until it had started and loaded its libraries.
    pub seconds: f64,
}

impl Machine {
    /// Looks at this one.
    #[must_use]
    pub fn look() -> Self {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let field = |text: &str, name: &str| {
            text.lines()
                .find(|line| line.starts_with(name))
                .and_then(|line| Some(line.split_once(':')?.1.trim().to_owned()))
        };
        Self {
            host: host::name(),
            node: std::env::var("SLURMD_NODENAME").ok(),
            cpus: std::thread::available_parallelism().map_or(0, usize::from),
            cpu_model: field(&cpuinfo, "model name").or_else(|| field(&cpuinfo, "CPU part")),
            memory_mib: field(&meminfo, "MemTotal")
                .and_then(|text| Some(text.split_whitespace().next()?.parse::<u64>().ok()? / 1024)),
            gpus: gpus(),
            gpu_devices: gpu_devices(),
            visible: std::env::var("CUDA_VISIBLE_DEVICES").ok(),
        }
    }

    /// What people know it by.
    #[must_use]
    pub fn name(&self) -> &str {
        self.node.as_deref().unwrap_or(&self.host)
    }
}

fn gpu_devices() -> usize {
    fs::read_dir("/dev").map_or(0, |entries| {
        entries
            .flatten()
            .filter(|entry| {
                let name = entry.file_name();
                name.to_str()
                    .and_then(|name| name.strip_prefix("nvidia"))
                    .is_some_and(|number| number.parse::<u32>().is_ok())
            })
            .count()
    })
}

fn gpus() -> Vec<Gpu> {
    let mut command = Command::new("nvidia-smi");
    command.args([
        "--query-gpu=name,memory.total,driver_version",
        "--format=csv,noheader",
    ]);
    let Ok((true, text)) = run(command, Duration::from_secs(20)) else {
        return Vec::new();
    };
    text.lines()
        .filter_map(|line| {
            let parts: Vec<&str> = line.split(", ").collect();
            let &[name, memory, driver] = &parts[..] else {
                return None;
            };
            Some(Gpu {
                name: name.into(),
                memory: memory.into(),
                driver: driver.into(),
            })
        })
        .collect()
}

/// Starts the trainer, which loads libtorch, as a rank would: without what would put other libraries
/// before its own.
#[must_use]
pub fn check_worker(worker: &Path) -> Worker {
    let mut command = Command::new(worker);
    command
        .arg("--version")
        .env_remove("LD_LIBRARY_PATH")
        .env_remove("LD_PRELOAD");
    let start = Instant::now();
    // Libraries of gigabytes on a cold network file system take their time.
    let result = run(command, Duration::from_secs(60));
    let seconds = start.elapsed().as_secs_f64();
    match result {
        Ok((true, text)) => Worker {
            version: Some(text.trim().to_owned()),
            error: None,
            seconds,
        },
        Ok((false, text)) => Worker {
            version: None,
            error: Some(text.lines().next().unwrap_or("it says nothing").to_owned()),
            seconds,
        },
        Err(error) => Worker {
            version: None,
            error: Some(error),
            seconds,
        },
    }
}

/// Runs a program to its end; gives whether it succeeded and what it printed (stdout, or stderr where
/// it failed).
fn run(mut command: Command, limit: Duration) -> Result<(bool, String), String> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| error.to_string())?;
    let start = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(_)) => break,
            Ok(None) if start.elapsed() > limit => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("no answer within {} s", limit.as_secs()));
            }
            Ok(None) => std::thread::sleep(Duration::from_millis(5)),
            Err(error) => return Err(error.to_string()),
        }
    }
    // A few lines, which fit into the pipe.
    let output = child
        .wait_with_output()
        .map_err(|error| error.to_string())?;
    let text = if output.status.success() {
        output.stdout
    } else {
        output.stderr
    };
    Ok((
        output.status.success(),
        String::from_utf8_lossy(&text).into_owned(),
    ))
}
