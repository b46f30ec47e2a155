//! Settings as files: the user's `config.yaml` and the repository's `rocket.yaml`. What they may say
//! is in `rocket_common::experiment`.

mod cluster_name;

use std::io;
use std::path::{Path, PathBuf};

use rocket_common::error::{Error, Result};
use rocket_common::exit::ExitKind;
use rocket_common::experiment::{Here, Settings, SettingsFile};
use rocket_common::host;

/// The settings of a repository, at its top.
pub(crate) const FILE: &str = "rocket.yaml";

/// Settings, and the place that their profiles are matched with.
#[derive(Debug, Default)]
pub(crate) struct Configuration {
    pub(crate) settings: Settings,
    pub(crate) here: Here,
}

impl Configuration {
    /// Of this user, and of the repository at `top`.
    ///
    /// # Errors
    /// Every fault of the files at once, each as an `error:` line of its own.
    pub(crate) fn read(top: Option<&Path>) -> Result<Self> {
        let user = user_file().map(|path| (path.display().to_string(), path, None));
        let repository = top.map(|top| (FILE.to_owned(), top.join(FILE), Some(top)));
        let mut found = Vec::new();
        for (name, path, base) in user.into_iter().chain(repository) {
            if let Some(text) = text_of(&path)? {
                found.push((name, text, base));
            }
        }
        let files: Vec<SettingsFile<'_>> = found
            .iter()
            .map(|(name, text, base)| SettingsFile {
                name,
                text,
                base: *base,
            })
            .collect();
        // Cron and batch systems may leave out what every login sets.
        let environment = |name: &str| {
            let found = std::env::var(name).ok();
            found.or_else(|| (name == "USER").then(crate::submit::user))
        };
        let settings = Settings::read(&files, &environment).map_err(|faults| {
            let lines: Vec<String> = faults.iter().map(ToString::to_string).collect();
            Error::new(ExitKind::Usage, lines.join("\nerror: "))
        })?;
        let cluster = settings
            .asks_for_cluster()
            .then(cluster_name::find)
            .flatten();
        let here = Here {
            cluster,
            host: host::name(),
        };
        Ok(Self { settings, here })
    }

    /// Of this user, and of the repository around the first of `places` that lies in one.
    ///
    /// # Errors
    /// As [`Configuration::read`].
    pub(crate) fn around(places: &[&Path]) -> Result<Self> {
        let top = places.iter().find_map(|place| top_of(place));
        Self::read(top.as_deref())
    }

    /// Where the settings say that runs are.
    ///
    /// # Errors
    /// Two profiles match this machine.
    pub(crate) fn runs(&self) -> Result<Option<PathBuf>> {
        self.settings.runs(&self.here).map_err(|two| {
            Error::new(ExitKind::Usage, two).hint("or name the folder of runs with --runs DIR")
        })
    }
}

/// Top of the work tree around a folder.
fn top_of(place: &Path) -> Option<PathBuf> {
    let repo = git2::Repository::discover(place).ok()?;
    repo.workdir().map(Path::to_path_buf)
}

/// `$XDG_CONFIG_HOME/rocket/config.yaml`, by default `~/.config/rocket/config.yaml`.
fn user_file() -> Option<PathBuf> {
    let folder = |name: &str| {
        let path = PathBuf::from(std::env::var_os(name)?);
        path.is_absolute().then_some(path)
    };
    let config = folder("XDG_CONFIG_HOME").or_else(|| Some(folder("HOME")?.join(".config")))?;
    Some(config.join("rocket/config.yaml"))
}

fn text_of(path: &Path) -> Result<Option<String>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(Error::io("read the settings in", path, error)),
    }
}
