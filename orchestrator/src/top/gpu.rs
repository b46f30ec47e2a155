//! What GPUs of this machine do, as `nvidia-smi` tells.

use std::time::Duration;

use crate::slurm::Client;

/// Longer than a healthy driver takes.
const PATIENCE: Duration = Duration::from_secs(5);
const PROGRAM: &str = "nvidia-smi";

/// A process on a GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Use {
    /// The process.
    pub(super) pid: u32,
    /// Number of the GPU.
    pub(super) index: u32,
    /// How busy the GPU is, in percent; absent where the driver does not tell (MIG).
    pub(super) utilisation: Option<u32>,
    /// Memory of the whole GPU that is in use, and that it has, in MiB.
    pub(super) used_mib: Option<u64>,
    pub(super) total_mib: Option<u64>,
}

/// Every process on every GPU of this machine.
///
/// # Errors
/// Why that is not known, in words.
pub(super) fn ask() -> Result<Vec<Use>, String> {
    if Client::find(PROGRAM).is_none() {
        return Err("no figures: nvidia-smi is not on this machine's PATH".into());
    }
    let client = Client::new(PATIENCE);
    let query = |what: &str| {
        client
            .run(PROGRAM, [what, "--format=csv,noheader,nounits"])
            .map_err(|failure| format!("no figures: nvidia-smi says: {}", failure.words))
    };
    let gpus = query("--query-gpu=uuid,index,utilization.gpu,memory.used,memory.total")?;
    let processes = query("--query-compute-apps=pid,gpu_uuid")?;
    Ok(parse(&gpus, &processes))
}

fn parse(gpus: &str, processes: &str) -> Vec<Use> {
    let fields = |line: &str| -> Vec<String> {
        line.split(',')
            .map(|field| field.trim().to_owned())
            .collect()
    };
    let gpus: Vec<Vec<String>> = gpus.lines().map(fields).collect();
    let of = |line: &str| {
        let [pid, uuid] = <[String; 2]>::try_from(fields(line)).ok()?;
        let gpu = gpus.iter().find(|gpu| gpu.first() == Some(&uuid))?;
        Some(Use {
            pid: pid.parse().ok()?,
            index: gpu.get(1)?.parse().ok()?,
            utilisation: gpu.get(2)?.parse().ok(),
            used_mib: gpu.get(3)?.parse().ok(),
            total_mib: gpu.get(4)?.parse().ok(),
        })
    };
    processes.lines().filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_are_found_on_their_gpu() {
        let gpus = "GPU-aa, 0, 97, 61234, 143771\nGPU-bb, 1, [N/A], [N/A], 143771\n";
        let processes = "4711, GPU-bb\n4712, GPU-aa\n[Not Found], GPU-aa\n9, GPU-cc\n";
        let of = |pid, index, utilisation, used_mib| Use {
            pid,
            index,
            utilisation,
            used_mib,
            total_mib: Some(143_771),
        };
        assert_eq!(
            parse(gpus, processes),
            [of(4711, 1, None, None), of(4712, 0, Some(97), Some(61_234))]
        );
        assert_eq!(parse("", "No running processes found\n"), []);
    }
}
