//! `--build`: the programs from the pinned commit, in a clean checkout.

use std::path::{Path, PathBuf};
use std::process::Command;

use git2::Repository;
use git2::build::CheckoutBuilder;
use rocket_common::error::{Error, Result};
use rocket_common::exit::ExitKind;

use crate::pin::{self, Pinned, Source, git_error};

/// Programs that were built.
pub(crate) struct Built {
    /// The orchestrator.
    pub(crate) rocket: PathBuf,
    /// The trainer.
    pub(crate) worker: PathBuf,
}

/// Checks the commit out under `<runs>/builds` and builds it there. Dependencies are compiled once
/// for all commits.
///
/// # Errors
/// The tree does not hold the sources, or cargo fails.
pub(crate) fn build(source: &Source, pinned: &Pinned, root: &Path) -> Result<Built> {
    let wanted = ["Cargo.toml", "orchestrator/src", "worker/src"];
    let ids = pin::ids(source.repository(), pinned.tree, &wanted)?;
    if ids.iter().any(Option::is_none) {
        return Err(Error::new(
            ExitKind::Usage,
            "the pinned commit does not hold the sources of rocket, so --build has nothing to build",
        ));
    }
    let checkout = root.join("builds").join("src");
    check_out(&root.join(pin::STORE), pinned, &checkout)?;
    let target = root.join("builds").join("target");
    eprintln!(
        "building commit {} in '{}' ...",
        &pinned.commit.to_string()[..12],
        checkout.display()
    );
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args([
            "build",
            "--release",
            "--locked",
            "--bin",
            "rocket",
            "--bin",
            "rocket-worker",
        ])
        .current_dir(&checkout)
        .env("CARGO_TARGET_DIR", &target);
    // The checkout has no set-up of its own; the user's clone has.
    let libtorch = source.root().join(".build/libtorch");
    if std::env::var_os("LIBTORCH").is_none() && libtorch.exists() {
        cargo.env("LIBTORCH", libtorch);
    }
    let status = cargo.status().map_err(|error| {
        Error::io("run", Path::new("cargo"), error)
            .hint("install Rust, or build elsewhere and submit without --build")
    })?;
    if !status.success() {
        return Err(
            Error::new(ExitKind::Internal, format!("cargo build failed ({status})"))
                .hint("its messages are above; the commit does not build as it is"),
        );
    }
    let bin = |name: &str| target.join("release").join(name);
    Ok(Built {
        rocket: bin("rocket"),
        worker: bin("rocket-worker"),
    })
}

fn check_out(store: &Path, pinned: &Pinned, into: &Path) -> Result<()> {
    let failed = |error: git2::Error| git_error("check the pinned commit out", &error);
    let repo = if into.join(".git").exists() {
        Repository::open(into).map_err(failed)?
    } else {
        Repository::init(into).map_err(failed)?
    };
    // Objects are read where they are.
    let alternates = repo.path().join("objects/info/alternates");
    std::fs::write(
        &alternates,
        format!("{}\n", store.join("objects").display()),
    )
    .map_err(|error| Error::io("write", &alternates, error))?;
    let repo = Repository::open(into).map_err(failed)?;
    repo.set_head_detached(pinned.commit).map_err(failed)?;
    let mut options = CheckoutBuilder::new();
    options.force().remove_untracked(true);
    repo.checkout_head(Some(&mut options)).map_err(failed)
}
