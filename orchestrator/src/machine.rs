//! What a run computed on, as far as its checkpoints tell: with the experiment and the programs it is what
//! bit-identical numbers depend on.

use rocket_common::checkpoint;
use rocket_common::error::Result;
use rocket_common::run_dir::{Machine, Manifest, RunDir};

/// Of a run, by its latest checkpoint that can be read; of an imported one as it was told then.
///
/// # Errors
/// The folder of checkpoints cannot be read.
pub(crate) fn of_run(run: &RunDir, manifest: &Manifest) -> Result<Option<Machine>> {
    for (_, dir) in checkpoint::list(&run.checkpoints_dir())? {
        if let Ok(checkpoint) = checkpoint::open(&dir) {
            let info = &checkpoint.manifest().info;
            let libtorch = info.versions.get("libtorch");
            return Ok(Some(Machine {
                world_size: info.world_size,
                threads: info.threads,
                processor: info.processor.clone(),
                libtorch: libtorch.cloned().unwrap_or_default(),
            }));
        }
    }
    let imported = manifest.imported.as_ref();
    Ok(imported.and_then(|imported| imported.machine.clone()))
}
