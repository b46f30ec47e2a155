//! The bundle: which libraries belong to it, and that what was copied still runs alone.
#![allow(missing_docs)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

fn cc(args: &[&str], folder: &Path) {
    let output = Command::new("cc")
        .args(args)
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// A program that loads `liba` by its search path, which loads `libb` by its own.
fn program(folder: &Path, path_tags: &str) {
    fs::create_dir_all(folder.join("torch")).unwrap();
    fs::write(folder.join("b.c"), "int b(void) { return 42; }").unwrap();
    fs::write(
        folder.join("a.c"),
        "int b(void); int a(void) { return b(); }",
    )
    .unwrap();
    fs::write(
        folder.join("main.c"),
        "int a(void); int main(void) { return a(); }",
    )
    .unwrap();
    cc(
        &[
            "-shared",
            "-fPIC",
            "-o",
            "torch/libb.so.1",
            "b.c",
            "-Wl,-soname,libb.so.1",
        ],
        folder,
    );
    cc(
        &[
            "-shared",
            "-fPIC",
            "-o",
            "torch/liba.so",
            "-Wl,-soname,liba.so",
            "a.c",
            "torch/libb.so.1",
            "-Wl,-rpath,$ORIGIN",
        ],
        folder,
    );
    let rpath = format!(
        "-Wl,{path_tags},-rpath,$ORIGIN/../lib:{}",
        folder.join("torch").display()
    );
    cc(
        &[
            "-o",
            "worker",
            "main.c",
            "torch/liba.so",
            "-Ltorch",
            &rpath,
            "-Wl,-rpath-link,torch",
        ],
        folder,
    );
}

#[test]
fn what_the_worker_loads_is_found_copied_and_enough() {
    for tags in ["--enable-new-dtags", "--disable-new-dtags"] {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path();
        program(folder, tags);
        let found = rocket::bundle::libraries(&folder.join("worker")).unwrap();
        assert!(
            !found.keys().any(|name| name.starts_with("libc.")),
            "{found:?}"
        );
        assert!(!found.is_empty(), "{tags}");
        let rocket = folder.join("rocket");
        fs::write(&rocket, "#!/bin/sh\n").unwrap();
        let store = folder.join("bundles");
        let bundle = rocket::bundle::make(&store, &rocket, Some(&folder.join("worker"))).unwrap();
        let again = rocket::bundle::make(&store, &rocket, Some(&folder.join("worker"))).unwrap();
        assert_eq!(bundle, again, "kept by content");
        fs::remove_dir_all(folder.join("torch")).unwrap();
        let status = Command::new(bundle.dir.join("bin/rocket-worker"))
            .status()
            .unwrap();
        assert_eq!(
            status.code(),
            Some(42),
            "{tags}: the bundle runs without the original"
        );
        rocket::bundle::verify(&bundle).unwrap();

        let library = bundle.dir.join(
            bundle
                .files
                .keys()
                .find(|name| name.starts_with("lib/"))
                .unwrap(),
        );
        fs::set_permissions(&library, fs::Permissions::from_mode(0o644)).unwrap();
        let mut bytes = fs::read(&library).unwrap();
        bytes[100] ^= 1;
        fs::write(&library, bytes).unwrap();
        let error = rocket::bundle::verify(&bundle).unwrap_err();
        assert!(error.message().contains("changed after submit"), "{error}");
        fs::remove_file(&library).unwrap();
        let error = rocket::bundle::verify(&bundle).unwrap_err();
        assert!(error.message().contains("is gone since submit"), "{error}");
    }
}

/// A libtorch with CUDA: nothing asks for `libtorch_cuda.so`, yet it belongs to the bundle, with what it
/// asks for, what that opens by name, and the trainer's own part for NCCL.
#[test]
fn what_the_worker_opens_by_name_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    for sub in ["torch/lib", "nvidia/cudnn/lib"] {
        fs::create_dir_all(folder.join(sub)).unwrap();
    }
    fs::write(folder.join("one.c"), "int one(void) { return 1; }").unwrap();
    fs::write(
        folder.join("main.c"),
        "int one(void); int main(void) { return one(); }",
    )
    .unwrap();
    let library = |path: &str, with: &[&str]| {
        let name = path.rsplit('/').next().unwrap();
        let soname = format!("-Wl,--no-as-needed,-soname,{name}");
        let rpath = "-Wl,--disable-new-dtags,-rpath,$ORIGIN/../../nvidia/cudnn/lib:$ORIGIN";
        let args = ["-shared", "-fPIC", "-o", path, &soname, rpath, "one.c"];
        cc(&[&args, with].concat(), folder);
    };
    library("torch/lib/libtorch_cpu.so", &[]);
    library("nvidia/cudnn/lib/libcudnn.so.9", &[]);
    library("nvidia/cudnn/lib/libcudnn_ops.so.9", &[]);
    library("nvidia/cudnn/lib/libother.so.1", &[]);
    let rpath = format!("-Wl,-rpath,{}", folder.join("torch/lib").display());
    cc(
        &[
            "-o",
            "worker",
            "main.c",
            "torch/lib/libtorch_cpu.so",
            &rpath,
        ],
        folder,
    );
    fs::write(folder.join("libtch_distributed_nccl.so"), "NCCL").unwrap();
    let rocket = folder.join("rocket");
    fs::write(&rocket, "#!/bin/sh\n").unwrap();
    let names = || {
        let store = folder.join("bundles");
        let bundle = rocket::bundle::make(&store, &rocket, Some(&folder.join("worker"))).unwrap();
        bundle.files.into_keys().collect::<Vec<_>>()
    };
    let plain = ["bin/rocket", "bin/rocket-worker", "lib/libtorch_cpu.so"];
    assert_eq!(names(), plain, "without CUDA nothing more");

    library(
        "torch/lib/libtorch_cuda.so",
        &[
            "nvidia/cudnn/lib/libcudnn.so.9",
            "torch/lib/libtorch_cpu.so",
        ],
    );
    let mut wanted = plain.to_vec();
    wanted.extend([
        "lib/libcudnn.so.9",
        "lib/libcudnn_ops.so.9",
        "lib/libtch_distributed_nccl.so",
        "lib/libtorch_cuda.so",
    ]);
    wanted.sort_unstable();
    assert_eq!(names(), wanted);
}
