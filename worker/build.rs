//! Lets `rocket-worker` find libtorch without LD_LIBRARY_PATH: first beside itself, as in a run's
//! bundle, then where it was built against.

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if let Ok(lib) = env::var("DEP_TCH_DISTRIBUTED_LIBTORCH_LIB") {
        println!("cargo::rustc-link-arg=-Wl,-rpath,$ORIGIN/lib:$ORIGIN/../lib:{lib}");
    }
}
