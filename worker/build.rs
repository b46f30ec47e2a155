//! Lets `rocket-worker` find libtorch without LD_LIBRARY_PATH: first beside itself, as in a run's
//! bundle, then where it was built against. Embeds which sources it is built from.

include!("../common/build_identity.rs");

fn main() {
    if let Ok(lib) = std::env::var("DEP_TCH_DISTRIBUTED_LIBTORCH_LIB") {
        println!("cargo::rustc-link-arg=-Wl,-rpath,$ORIGIN/lib:$ORIGIN/../lib:{lib}");
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
