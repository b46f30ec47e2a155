//! Compiles the C++ shim against the libtorch that torch-sys has found.

use std::env;
use std::path::{Path, PathBuf};
use std::process::exit;

/// The only libtorch that this crate and tch 0.26 are made for.
const TORCH_VERSION: [u32; 3] = [2, 13, 0];

const SOURCES: [&str; 12] = [
    "store",
    "process_group",
    "functional",
    "reducer",
    "batch_norm",
    "checkpoint",
    "amp",
    "optim",
    "scaler",
    "device",
    "nccl_loader",
    "unread",
];

fn main() {
    println!("cargo::rerun-if-changed=cpp");
    println!("cargo::rerun-if-env-changed=LIBTORCH");
    let Some(lib) = env::var_os("DEP_TCH_LIBTORCH_LIB").map(PathBuf::from) else {
        fail("torch-sys did not say where libtorch lies; set LIBTORCH to the folder of a libtorch")
    };
    let root = lib.parent().unwrap_or(&lib).to_path_buf();
    check_version(&root);

    let mut build = shim(&root);
    build
        .define("USE_C10D_GLOO", None)
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

    if let Some(headers) = cuda_headers(&root) {
        let object = nccl_object(&root, &headers);
        println!("cargo::rustc-env=TCH_DISTRIBUTED_NCCL_BUILT={object}");
        println!("cargo::metadata=nccl={object}");
    }
}

/// Folders of headers that NCCL's part needs: as the wheels of PyPI lay them beside torch, or as CUDA's
/// and NCCL's own packages do. None where a file is nowhere.
fn cuda_headers(root: &Path) -> Option<Vec<PathBuf>> {
    for name in ["CUDA_HOME", "NCCL_HOME"] {
        println!("cargo::rerun-if-env-changed={name}");
    }
    let of = |name: &str| env::var_os(name).map(|dir| PathBuf::from(dir).join("include"));
    let site = root.canonicalize().ok()?.parent()?.join("nvidia");
    let places: Vec<PathBuf> = [of("CUDA_HOME"), of("NCCL_HOME")]
        .into_iter()
        .flatten()
        .chain(
            [
                "cu13/include",
                "nccl/include",
                "cu12/include",
                "cuda_runtime/include",
            ]
            .map(|sub| site.join(sub)),
        )
        .chain(["/usr/local/cuda/include", "/usr/include"].map(PathBuf::from))
        .collect();
    // CUDA's own packages have the last one in a folder of its own.
    let places: Vec<PathBuf> = places
        .iter()
        .cloned()
        .chain(places.iter().map(|dir| dir.join("cccl")))
        .collect();
    let needed = [
        "cuda_runtime_api.h",
        "crt/host_defines.h",
        "nccl.h",
        "nv/target",
    ];
    // The folder too, so that headers that arrive later are seen.
    println!("cargo::rerun-if-changed={}", site.display());
    let mut found = Vec::new();
    for file in needed {
        let dir = places.iter().find(|dir| dir.join(file).is_file())?;
        println!("cargo::rerun-if-changed={}", dir.join(file).display());
        // The compiler looks in /usr/include anyway, and last.
        if !found.contains(dir) && dir != Path::new("/usr/include") {
            found.push(dir.clone());
        }
    }
    Some(found)
}

/// Compiles NCCL's part to a shared object, which asks for no library: all symbols are those of the process
/// that loads it.
fn nccl_object(root: &Path, headers: &[PathBuf]) -> String {
    let mut build = shim(root);
    build
        .define("USE_C10D_NCCL", None)
        .file("cpp/nccl/nccl.cpp");
    for dir in headers {
        build.include(dir);
    }
    // Last, behind the real ones.
    build.include("cpp/cuda_declarations");
    let objects = build.compile_intermediates();
    let Some(out) = env::var_os("OUT_DIR") else {
        fail("cargo did not say where to build")
    };
    let object = Path::new(&out).join("libtch_distributed_nccl.so");
    let linked = build
        .get_compiler()
        .to_command()
        .args(["-shared", "-Wl,-soname,libtch_distributed_nccl.so", "-o"])
        .arg(&object)
        .args(&objects)
        .status();
    if !linked.is_ok_and(|status| status.success()) {
        fail("libtch_distributed_nccl.so could not be linked; the compiler's words are above");
    }
    object.display().to_string()
}

/// What all C++ of this crate is compiled with.
fn shim(root: &Path) -> cc::Build {
    let mut build = cc::Build::new();
    build
        .cpp(true)
        .std("c++20")
        .pic(true)
        .warnings(false)
        // What takes time at run time is libtorch's; here it would only take time to compile.
        .opt_level(1)
        .debug(false)
        .define("_GLIBCXX_USE_CXX11_ABI", "1")
        .include(root.join("include"))
        .include(root.join("include/torch/csrc/api/include"));
    build
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
