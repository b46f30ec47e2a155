//! An ordinary user of this machine, and the programs at a place that they can reach.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::Text;

/// Made when missing, and left.
const NAME: &str = "rocket-test";

/// Somebody who is not root.
#[derive(Debug, Clone)]
pub struct User {
    uid: u32,
    gid: u32,
    home: PathBuf,
}

impl User {
    /// The user for tests, with an empty home of this test's own.
    ///
    /// # Panics
    /// There is none and none can be made (only root can).
    #[must_use]
    pub fn ordinary(home: &Path) -> Self {
        let id = |flag| {
            let output = Command::new("id").args([flag, NAME]).output();
            output.expect("id starts").out().trim().parse::<u32>().ok()
        };
        if id("-u").is_none() {
            let made = Command::new("useradd")
                .args(["--system", "--shell", "/bin/sh", "--user-group"])
                .args(["--home-dir", "/nonexistent", NAME])
                .output()
                .expect("useradd starts");
            // Another test may have been quicker.
            assert!(id("-u").is_some(), "no user {NAME}: {}", made.err());
        }
        let (uid, gid) = id("-u").zip(id("-g")).expect("the user has ids");
        let user = Self {
            uid,
            gid,
            home: home.to_path_buf(),
        };
        fs::create_dir_all(home).expect("a home");
        user.own(home);
        user
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        NAME
    }

    /// The home folder.
    #[must_use]
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// Lets a program run as them: their rights, their home, nothing of the environment around the test.
    pub fn become_in(&self, command: &mut Command) {
        // As root, this also drops the supplementary groups.
        command
            .uid(self.uid)
            .gid(self.gid)
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("LANG", "C.UTF-8")
            .env("HOME", &self.home)
            .env("USER", NAME)
            .env("LOGNAME", NAME);
    }

    /// Gives them a file or a folder with all that is in it.
    ///
    /// # Panics
    /// The file system refuses.
    pub fn own(&self, path: &Path) {
        chown(path, Some(self.uid), Some(self.gid)).expect("given");
        if path.is_dir() {
            for entry in fs::read_dir(path).expect("read").flatten() {
                self.own(&entry.path());
            }
        }
    }
}

/// Puts `rocket` and `rocket-worker`, with what they load beside them, where every user can read them: a
/// clone may lie below a home that is closed to others. Hard links where possible. Gives their folder.
///
/// # Panics
/// The programs were not built, or the file system refuses.
pub(super) fn place_programs(folder: &Path) -> PathBuf {
    let (bin, lib) = (folder.join("bin"), folder.join("lib"));
    for folder in [&bin, &lib] {
        fs::create_dir(folder).expect("a folder");
    }
    let built = crate::binaries();
    for name in ["rocket", "rocket-worker"] {
        let from = built.join(name).canonicalize().expect("the program");
        place(&from, &bin.join(name));
    }
    // Rows like "libc10.so => /path/libc10.so (0x...)". Those of the system are everybody's.
    let loaded = Command::new("ldd")
        .arg(built.join("rocket-worker"))
        .env_remove("LD_LIBRARY_PATH")
        .output()
        .expect("ldd starts")
        .ok();
    for line in loaded.lines() {
        let Some((name, rest)) = line.trim().split_once(" => ") else {
            continue;
        };
        let path = rest.split(" (").next().unwrap_or_default();
        if !path.starts_with("/lib") && !path.starts_with("/usr/lib") {
            let from = Path::new(path).canonicalize().expect("a library");
            place(&from, &lib.join(name));
        }
    }
    bin
}

/// A temporary folder that everybody can enter.
pub(super) fn open_folder(prefix: &str) -> TempDir {
    let dir = tempfile::Builder::new()
        .prefix(prefix)
        .tempdir()
        .expect("a temporary folder");
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("opened");
    dir
}

fn place(from: &Path, to: &Path) {
    let readable = fs::metadata(from).expect("there").permissions().mode() & 0o004 != 0;
    if !readable || fs::hard_link(from, to).is_err() {
        fs::copy(from, to).expect("copied");
        let mode = fs::metadata(to).expect("there").permissions().mode() | 0o555;
        fs::set_permissions(to, fs::Permissions::from_mode(mode)).expect("opened");
    }
}
