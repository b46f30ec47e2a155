// Build identity: which sources a binary was built from, as git object ids of the working files.
//
// `include!`d by build scripts (a build script cannot depend on the crate it builds):
//
//     include!("../common/build_identity.rs");
//     fn main() { build_identity(&["common/src", "worker/src", "Cargo.lock"]); }
//
// It writes `$OUT_DIR/build_identity.json`, `ROCKET_BUILD_ID{"<path>":"<git object id>",...}END`,
// which the program includes as a text and uses somewhere, so that `rocket` finds it in the binary
// without running it. Ids are those that `git add` of the working files would give, so an edited file
// shows, committed or not. Not from a git checkout, or without git: an empty map.

/// Writes the identity of `paths` (relative to the workspace's root, files or folders).
fn build_identity(paths: &[&str]) {
    use std::path::{Path, PathBuf};

    let manifest = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let out = PathBuf::from(std::env::var_os("OUT_DIR").unwrap_or_default());
    let root = manifest
        .ancestors()
        .find(|folder| folder.join("Cargo.lock").exists())
        .unwrap_or(&manifest)
        .to_path_buf();
    println!("cargo::rerun-if-env-changed=GIT_DIR");
    for path in paths {
        println!("cargo::rerun-if-changed={}", root.join(path).display());
    }
    let ids = git_ids(&root, &out, paths).unwrap_or_default();
    let fields: Vec<String> = ids.iter().map(|(path, id)| format!("\"{path}\":\"{id}\"")).collect();
    let text = format!("ROCKET_BUILD_ID{{{}}}END", fields.join(","));
    if let Err(error) = std::fs::write(out.join("build_identity.json"), text) {
        println!("cargo::error=cannot write the build identity: {error}");
    }

    /// Object ids by a throw-away index and object folder: the repository is only read.
    fn git_ids(root: &Path, out: &Path, paths: &[&str]) -> Option<Vec<(String, String)>> {
        let index = out.join("identity.index");
        let objects = out.join("identity.objects");
        let _ = std::fs::remove_file(&index);
        std::fs::create_dir_all(&objects).ok()?;
        let top = git(root, &[], &["rev-parse", "--show-toplevel"])?;
        if Path::new(&top).canonicalize().ok()? != root.canonicalize().ok()? {
            return None;
        }
        let real = git(root, &[], &["rev-parse", "--path-format=absolute", "--git-path", "objects"])?;
        let env = [
            ("GIT_INDEX_FILE", index.as_os_str()),
            ("GIT_OBJECT_DIRECTORY", objects.as_os_str()),
            ("GIT_ALTERNATE_OBJECT_DIRECTORIES", real.as_ref()),
        ];
        let present: Vec<&str> =
            paths.iter().copied().filter(|path| root.join(path).exists()).collect();
        let mut add = vec!["add", "--all", "--"];
        add.extend(&present);
        git(root, &env, &add)?;
        let tree = git(root, &env, &["write-tree"])?;
        let ids = present
            .iter()
            .filter_map(|path| {
                let id = git(root, &env, &["rev-parse", &format!("{tree}:{path}")])?;
                Some(((*path).to_owned(), id))
            })
            .collect();
        let _ = std::fs::remove_file(&index);
        let _ = std::fs::remove_dir_all(&objects);
        Some(ids)
    }

    fn git(root: &Path, env: &[(&str, &std::ffi::OsStr)], args: &[&str]) -> Option<String> {
        let output = std::process::Command::new("git")
            .arg("-C")
            .arg(root)
            .args(args)
            .envs(env.iter().copied())
            .stderr(std::process::Stdio::null())
            .output()
            .ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }
}
