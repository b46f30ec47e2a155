//! Compiles the C++ shim against the libtorch that torch-sys has found.

use std::env;
use std::path::{Path, PathBuf};
use std::process::exit;

/// The only libtorch that this crate and tch 0.26 are made for.
const TORCH_VERSION: [u32; 3] = [2, 13, 0];

const SOURCES: [&str; 9] = [
    "store",
    "process_group",
    "functional",
    "reducer",
    "batch_norm",
    "checkpoint",
    "amp",
    "optim",
    "scaler",
];

fn main() {
    println!("cargo::rerun-if-changed=cpp");
    println!("cargo::rerun-if-env-changed=LIBTORCH");
    let Some(lib) = env::var_os("DEP_TCH_LIBTORCH_LIB").map(PathBuf::from) else {
        fail("torch-sys did not say where libtorch lies; set LIBTORCH to the folder of a libtorch")
    };
    let root = lib.parent().unwrap_or(&lib).to_path_buf();
    check_version(&root);

    let mut build = cc::Build::new();
    build
        .cpp(true)
        .std("c++20")
        .pic(true)
        .warnings(false)
        .define("USE_C10D_GLOO", None)
        .define("_GLIBCXX_USE_CXX11_ABI", "1")
        .include(root.join("include"))
        .include(root.join("include/torch/csrc/api/include"))
        .include("cpp/gloo_declarations");
    for name in SOURCES {
        build.file(format!("cpp/{name}.cpp"));
    }
    build.compile("tch_distributed_shim");

    println!("cargo::rustc-link-search=native={}", lib.display());
    println!("cargo::rustc-link-lib=torch_cpu");
    println!("cargo::rustc-link-lib=c10");
    // Link arguments reach this package's own tests and examples only. A package with binaries reads
    // the metadata below in its build script as DEP_TCH_DISTRIBUTED_LIBTORCH_LIB.
    println!("cargo::rustc-link-arg=-Wl,-rpath,{}", lib.display());
    println!("cargo::metadata=libtorch_lib={}", lib.display());
}

/// Ends the build with one sentence, unless `root` holds exactly the wanted version.
fn check_version(root: &Path) {
    let header = root.join("include/torch/headeronly/version.h");
    let wanted = TORCH_VERSION.map(|n| n.to_string()).join(".");
    let Ok(text) = std::fs::read_to_string(&header) else {
        fail(&format!(
            "{} is not a libtorch {wanted}: it has no file include/torch/headeronly/version.h; \
             set LIBTORCH to the folder of a libtorch {wanted}",
            root.display()
        ))
    };
    let part = |name: &str| {
        let key = format!("#define TORCH_VERSION_{name} ");
        text.lines()
            .find_map(|line| line.strip_prefix(&key)?.trim().parse::<u32>().ok())
    };
    let found = [part("MAJOR"), part("MINOR"), part("PATCH")];
    if found != TORCH_VERSION.map(Some) {
        let found = found
            .map(|n| n.map_or("?".into(), |n| n.to_string()))
            .join(".");
        fail(&format!(
            "the libtorch in {} is version {found}, but version {wanted} is needed; \
             set LIBTORCH to the folder of a libtorch {wanted}",
            root.display()
        ));
    }
}

fn fail(message: &str) -> ! {
    println!("cargo::error={message}");
    exit(1)
}
