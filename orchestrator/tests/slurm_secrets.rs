//! Secrets: taken where a run is submitted, readable by their user alone, shown nowhere.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use rocket::slurm::secrets::{self, Secret};
use rocket_common::experiment::Cluster;

fn take(cluster: &Cluster, set: &[(&str, &str)]) -> Result<Vec<String>, String> {
    let set: BTreeMap<_, _> = set.iter().copied().collect();
    let lookup = |name: &str| set.get(name).map(|value| (*value).to_owned());
    secrets::take(cluster, lookup)
        .map(|taken| {
            taken
                .iter()
                .map(|secret| format!("{}={}", secret.name, secret.value))
                .collect()
        })
        .map_err(|error| format!("{error}; {}", error.hints().join("; ")))
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

fn secret(name: &str, value: &str) -> Secret {
    Secret {
        name: name.into(),
        value: value.into(),
    }
}

#[test]
fn what_is_taken() {
    let usual = Cluster::default();
    let named = |names: &[&str]| Cluster {
        secrets: Some(names.iter().map(|name| (*name).to_owned()).collect()),
        ..Cluster::default()
    };
    let set = [("WANDB_API_KEY", "k=1 $x"), ("MINE", "m"), ("HF_TOKEN", "")];
    assert_eq!(take(&usual, &set).unwrap(), ["WANDB_API_KEY=k=1 $x"]);
    assert_eq!(take(&usual, &[]).unwrap(), Vec::<String>::new());
    assert_eq!(take(&named(&["MINE"]), &set).unwrap(), ["MINE=m"]);
    assert_eq!(take(&named(&[]), &set).unwrap(), Vec::<String>::new());
    assert_eq!(
        take(&named(&["MINE", "HF_TOKEN"]), &set).unwrap_err(),
        "the environment variable 'HF_TOKEN' (cluster.secrets) is not set; set it where you submit, or take it out of 'cluster.secrets'"
    );
    assert_eq!(
        take(&named(&["MINE"]), &[("MINE", "a\nLD_PRELOAD=x")]).unwrap_err(),
        "the value of the secret 'MINE' has a line break in it; put it into a file, and the file's path into 'cluster.env'"
    );
    assert_eq!(format!("{:?}", secret("A", "hidden")), "A=...");
}

#[test]
fn they_are_kept_and_read_by_their_user_alone() {
    let temp = tempfile::tempdir().unwrap();
    let runs = temp.path();
    assert_eq!(secrets::read(runs, "demo-01234567").unwrap(), []);
    let first = [secret("A", "1"), secret("B", "x=y 'z' \u{e9}")];
    secrets::write(runs, "demo-01234567", &first).unwrap();
    let file = secrets::file(runs, "demo-01234567");
    assert_eq!(mode(&file), 0o600);
    assert_eq!(mode(file.parent().unwrap()), 0o700);
    assert_eq!(mode(&runs.join(".secrets")), 0o1777);
    assert_eq!(secrets::read(runs, "demo-01234567").unwrap(), first);
    // A later submission's take the place of the earlier one's, and none leave nothing.
    let second = [secret("A", "2")];
    secrets::write(runs, "demo-01234567", &second).unwrap();
    assert_eq!(secrets::read(runs, "demo-01234567").unwrap(), second);
    secrets::write(runs, "demo-01234567", &[]).unwrap();
    assert!(!file.exists());
    secrets::remove(runs, "demo-01234567").unwrap();
    let left: Vec<_> = fs::read_dir(file.parent().unwrap()).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_file_that_others_can_read_or_change_is_not_trusted() {
    let temp = tempfile::tempdir().unwrap();
    let runs = temp.path();
    secrets::write(runs, "a-01234567", &[secret("A", "1")]).unwrap();
    let file = secrets::file(runs, "a-01234567");
    let told = || secrets::read(runs, "a-01234567").unwrap_err().to_string();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    assert!(
        told().ends_with("holds secrets and is open to other users (mode 640)"),
        "{}",
        told()
    );
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&file, "A=1\nnonsense\n").unwrap();
    assert!(told().ends_with(":2: no NAME=value"), "{}", told());
    let other = runs.join("other");
    fs::write(&other, "A=1\n").unwrap();
    fs::remove_file(&file).unwrap();
    std::os::unix::fs::symlink(&other, &file).unwrap();
    assert!(told().ends_with("is a symbolic link"), "{}", told());

    let folder = file.parent().unwrap();
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
    let told = secrets::write(runs, "b-01234567", &[secret("A", "1")]).unwrap_err();
    assert!(
        told.to_string().contains("is open to other users"),
        "{told}"
    );
}
