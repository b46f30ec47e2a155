//! Lets `rocket-worker` find libtorch without LD_LIBRARY_PATH: first beside itself, as in a run's
//! bundle, then where it was built against. Embeds which sources it is built from.

use std::path::Path;

include!("../common/build_identity.rs");

fn main() {
    if let Ok(lib) = std::env::var("DEP_TCH_DISTRIBUTED_LIBTORCH_LIB") {
        println!("cargo::rustc-link-arg=-Wl,-rpath,$ORIGIN/lib:$ORIGIN/../lib:{lib}");
    }
    if let Ok(object) = std::env::var("DEP_TCH_DISTRIBUTED_NCCL") {
        println!("cargo::rerun-if-changed={object}");
        if let Err(error) = beside_the_program(Path::new(&object)) {
            println!("cargo::warning={object} could not be put beside rocket-worker: {error}");
        }
    }
    build_identity(&[
        "Cargo.toml",
        "Cargo.lock",
        "common/Cargo.toml",
        "common/build_identity.rs",
        "common/src",
        "worker/Cargo.toml",
        "worker/build.rs",
        "worker/src",
        "worker/tch-distributed/Cargo.toml",
        "worker/tch-distributed/build.rs",
        "worker/tch-distributed/cpp",
        "worker/tch-distributed/src",
    ]);
}

/// Puts NCCL's part where the program will lie and look for it. By a rename: a trainer that runs may have
/// the old one open.
fn beside_the_program(object: &Path) -> std::io::Result<()> {
    let out = std::env::var_os("OUT_DIR").ok_or(std::io::ErrorKind::NotFound)?;
    // <profile>/build/<package>/out
    let profile = Path::new(&out).ancestors().nth(3);
    let name = object.file_name();
    let (Some(profile), Some(name)) = (profile, name) else {
        return Err(std::io::ErrorKind::NotFound.into());
    };
    let aside = Path::new(&out).join(name);
    std::fs::copy(object, &aside)?;
    std::fs::rename(aside, profile.join(name))
}
