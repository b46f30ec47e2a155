//! Settings: what holds for a user (`~/.config/rocket/config.yaml`) or a repository (`rocket.yaml`)
//! and not for one experiment. They say where runs are and what a cluster is called and wants; what
//! decides numbers comes from the experiment alone.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::cluster::Cluster;
use super::diagnostic::{Diagnostic, Place, Report, SETTINGS};
use super::notify::{self, Notify};
use super::profile::{Here, Profile};
use super::schema;
use super::sections::Experiment;
use super::tree::{self, Entry, Node, Value, join};
use crate::run_dir::suggest;

/// A file of settings.
#[derive(Debug, Clone, Copy)]
pub struct SettingsFile<'a> {
    /// The file as it is shown to people.
    pub name: &'a str,
    /// Its text.
    pub text: &'a str,
    /// What relative paths in it are relative to; without it they are refused.
    pub base: Option<&'a Path>,
}

/// Settings of all files.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Lowest first.
    files: Vec<Read>,
}

/// One file, read.
#[derive(Debug, Clone, Default)]
struct Read {
    name: String,
    runs: Option<PathBuf>,
    default_cluster: Option<String>,
    profiles: Vec<Profile>,
    notify: Option<Notify>,
}

/// Keys of a file.
const KEYS: [&str; 4] = ["runs", "default_cluster", "clusters", "notify"];

/// What a reader of one file needs.
pub(super) struct Reader<'a> {
    pub(super) base: Option<&'a Path>,
    pub(super) environment: &'a dyn Fn(&str) -> Option<String>,
    pub(super) report: &'a mut Report,
}

impl Settings {
    /// Reads files of settings, the lowest first: what a later one says wins.
    ///
    /// # Errors
    /// Every mistake that could be found, in the order of the files.
    pub fn read(
        files: &[SettingsFile<'_>],
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, Vec<Diagnostic>> {
        let mut report = Report::default();
        let mut settings = Self::default();
        for (index, file) in files.iter().enumerate() {
            let mut reader = Reader {
                base: file.base,
                environment,
                report: &mut report,
            };
            let mut read = reader.file(SETTINGS + index, file.text);
            read.name = file.name.to_owned();
            settings.files.push(read);
        }
        settings.check_default(files, &mut report);
        if report.is_empty() {
            return Ok(settings);
        }
        Err(report.into_diagnostics("", &[], &settings.names()))
    }

    /// Files, as they are shown.
    pub(super) fn names(&self) -> Vec<String> {
        self.files.iter().map(|file| file.name.clone()).collect()
    }

    /// A default must name a profile of this file or of one that is read with it.
    fn check_default(&self, files: &[SettingsFile<'_>], report: &mut Report) {
        for (index, read) in self.files.iter().enumerate() {
            let Some(default) = &read.default_cluster else {
                continue;
            };
            if self.profiles(default).next().is_none() {
                let root = tree::load(files[index].text).ok();
                let mut place =
                    root.map_or_else(Place::default, |root| root.place_of("default_cluster"));
                place.origin = SETTINGS + index;
                let unknown = self.unknown_profile(default);
                report.add(place, format!("'default_cluster' {unknown}"));
            }
        }
    }

    /// Profiles of a name, the highest first.
    fn profiles<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Profile> {
        let files = self.files.iter().rev();
        files.flat_map(move |file| file.profiles.iter().filter(move |one| one.name == name))
    }

    /// Names of all profiles, in alphabetical order.
    #[must_use]
    pub fn profile_names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self
            .files
            .iter()
            .flat_map(|file| &file.profiles)
            .map(|profile| profile.name.as_str())
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Whether a profile asks for the name of the Slurm cluster.
    #[must_use]
    pub fn asks_for_cluster(&self) -> bool {
        let mut profiles = self.files.iter().flat_map(|file| &file.profiles);
        profiles.any(|profile| profile.matches.cluster.is_some())
    }

    /// What is said of a profile that does not exist.
    fn unknown_profile(&self, name: &str) -> String {
        let names = self.profile_names();
        let known = match (suggest(name, names.iter().copied()), names.is_empty()) {
            (Some(meant), _) => format!("; did you mean '{meant}'?"),
            (None, true) => "; the settings have no 'clusters'".to_owned(),
            (None, false) => format!("; the settings have {}", names.join(", ")),
        };
        format!(
            "names the profile '{}', which does not exist{known}",
            name.escape_debug()
        )
    }

    /// The profile of a place: the one that matches it, else the default one.
    ///
    /// # Errors
    /// Two match.
    pub fn profile_of(&self, here: &Here) -> Result<Option<&str>, String> {
        let names = self.profile_names();
        let matches = |name: &&&str| {
            // The highest file that says how to know a cluster again decides.
            let mut profiles = self.profiles(name);
            let saying = profiles.find(|profile| profile.matches.says_something());
            saying.is_some_and(|profile| profile.matches.fits(here))
        };
        let matching: Vec<&str> = names.iter().filter(matches).copied().collect();
        match matching.as_slice() {
            [] => {
                let mut defaults = self.files.iter().rev();
                Ok(defaults.find_map(|file| file.default_cluster.as_deref()))
            }
            [one] => Ok(self
                .profiles(one)
                .next()
                .map(|profile| profile.name.as_str())),
            [one, other, ..] => Err(format!(
                "the profiles '{one}' and '{other}' both match this machine ({here}); say which with 'cluster.profile', or change their 'match'"
            )),
        }
    }

    /// Where runs are, if a file says so: what the higher file says wins, and within a file what the
    /// profile of this place says.
    ///
    /// # Errors
    /// Two profiles match.
    pub fn runs(&self, here: &Here) -> Result<Option<PathBuf>, String> {
        let profile = self.profile_of(here)?;
        let said = self.files.iter().rev().find_map(|file| {
            let mut profiles = file.profiles.iter();
            let own = profiles.find(|one| Some(one.name.as_str()) == profile);
            own.and_then(|own| own.runs.clone())
                .or_else(|| file.runs.clone())
        });
        Ok(said)
    }

    /// Who is told of every run, by each file.
    pub fn notify(&self) -> impl Iterator<Item = &Notify> {
        self.files.iter().filter_map(|file| file.notify.as_ref())
    }

    /// Fills in what the profile of an experiment says under what the experiment says, and real
    /// partitions for their aliases. Gives the profile.
    pub(super) fn apply(
        &self,
        root: &mut Node,
        here: &Here,
        report: &mut Report,
    ) -> Option<String> {
        let scalar = |key: &str| match root.get(key).filter(|node| !node.is_null()) {
            Some(Node {
                value: Value::Scalar { text, .. },
                ..
            }) => Some(text.clone()),
            _ => None,
        };
        let named = scalar("cluster.profile");
        let place = root.place_of("cluster.profile");
        let name = match named {
            Some(name) if self.profiles(&name).next().is_none() => {
                let unknown = self.unknown_profile(&name);
                report.add(place, format!("'cluster.profile' {unknown}"));
                return None;
            }
            Some(name) => name,
            // Nothing of a cluster concerns it.
            None if scalar("cluster.backend").as_deref() == Some("local") => return None,
            None => match self.profile_of(here) {
                Ok(name) => name?.to_owned(),
                Err(two) => {
                    report.add(root.place_of("cluster"), two);
                    return None;
                }
            },
        };
        let profiles: Vec<&Profile> = self.profiles(&name).collect();
        for profile in &profiles {
            for entry in &profile.defaults {
                fill(root, entry);
            }
        }
        let mut partitions: BTreeMap<&str, &str> = BTreeMap::new();
        for (alias, partition) in profiles.iter().flat_map(|profile| &profile.partitions) {
            partitions.entry(alias).or_insert(partition);
        }
        if let Some(node) = root.get_mut("cluster.partition")
            && let Value::Scalar { text, .. } = &mut node.value
        {
            let real = |name: &str| {
                partitions
                    .get(name.trim())
                    .copied()
                    .unwrap_or(name)
                    .to_owned()
            };
            *text = text.split(',').map(real).collect::<Vec<_>>().join(",");
        }
        Some(name)
    }
}

/// Puts a default into `cluster`, under what is there. Groups with free keys are filled key by key.
fn fill(root: &mut Node, entry: &Entry) {
    let path = join("cluster", &entry.key);
    match root.get_mut(&path) {
        None => {
            // `cluster` may hold something else than keys, which is said elsewhere.
            let _ = root.set(&path, entry.place, entry.node.clone());
        }
        Some(node) => {
            if let (Value::Map(there), Value::Map(defaults)) = (&mut node.value, &entry.node.value)
            {
                for default in defaults {
                    if !there.iter().any(|one| one.key == default.key) {
                        there.push(default.clone());
                    }
                }
            }
        }
    }
}

impl Reader<'_> {
    fn file(&mut self, origin: usize, text: &str) -> Read {
        let mut read = Read::default();
        let mut root = match tree::load(text) {
            Ok(root) => root,
            Err((place, message)) => {
                self.report.add(Place { origin, ..place }, message);
                return read;
            }
        };
        root.set_origin(origin);
        if root.is_null() {
            return read;
        }
        if !matches!(root.value, Value::Map(_)) {
            let message = "settings are a group of keys such as 'runs: /shared/runs'";
            self.report.add(root.place, message);
            return read;
        }
        root.report_duplicates("", self.report);
        for entry in root.entries() {
            match entry.key.as_str() {
                "runs" => read.runs = self.path("runs", &entry.node),
                "default_cluster" => {
                    read.default_cluster = self.text("default_cluster", &entry.node)
                }
                "clusters" => read.profiles = self.group("clusters", &entry.node, Self::profile),
                "notify" => read.notify = self.notify(entry),
                key => {
                    let words = unknown("", key, &KEYS);
                    self.report.add(entry.place, words);
                }
            }
        }
        read
    }

    /// Judged as an experiment's. The user's own file is not kept in git, and may hold an address.
    fn notify(&mut self, entry: &Entry) -> Option<Notify> {
        let mut node = entry.node.clone();
        schema::clean::<Notify>(&mut node, "notify", self.report);
        let notify = schema::read::<Notify>(&node).ok()?;
        notify::check(&notify, Some(&entry.node), self.base.is_some(), self.report);
        Some(notify)
    }

    /// Each entry of a group.
    pub(super) fn group<T>(
        &mut self,
        path: &str,
        node: &Node,
        mut read: impl FnMut(&mut Self, &str, &Entry) -> T,
    ) -> Vec<T> {
        match &node.value {
            Value::Map(entries) => entries
                .iter()
                .map(|entry| read(self, &join(path, &entry.key), entry))
                .collect(),
            _ if node.is_null() => Vec::new(),
            _ => {
                let message = format!("'{path}' must be a group of keys");
                self.report.add(node.place, message);
                Vec::new()
            }
        }
    }

    pub(super) fn text(&mut self, path: &str, node: &Node) -> Option<String> {
        let wrong = match &node.value {
            _ if node.is_null() => return None,
            Value::Scalar { text, .. } if text.trim().is_empty() => "is empty; leave it out",
            Value::Scalar { text, .. } if text.chars().any(char::is_control) => {
                "holds a line break or another control character"
            }
            Value::Scalar { text, .. } => return Some(text.clone()),
            _ => "must be a text",
        };
        self.report.add(node.place, format!("'{path}' {wrong}"));
        None
    }

    /// A path with its variables and `~/` filled in, absolute.
    pub(super) fn path(&mut self, path: &str, node: &Node) -> Option<PathBuf> {
        let text = self.text(path, node)?;
        let text = match text.strip_prefix("~/") {
            Some(rest) => format!("$HOME/{rest}"),
            None => text,
        };
        let wrong = match super::rules::expand(&text, self.environment) {
            Ok(text) => match (Path::new(&text), self.base) {
                (given, _) if given.is_absolute() => return Some(given.to_path_buf()),
                (given, Some(base)) => return Some(base.join(given)),
                (_, None) => format!("must be an absolute path, not '{text}'"),
            },
            Err(wrong) => wrong,
        };
        self.report.add(node.place, format!("'{path}' {wrong}"));
        None
    }
}

/// The sentence about a key that is no setting.
pub(super) fn unknown(path: &str, key: &str, known: &[&str]) -> String {
    let place = match path {
        "" => "the settings".to_owned(),
        _ => format!("'{path}'"),
    };
    let said = format!("unknown key '{key}' in {place}");
    let plain = key.replace('-', "_");
    if let Some(meant) = suggest(&plain, known.iter().copied()) {
        return format!("{said}; did you mean '{meant}'?");
    }
    if plain == "cluster" || schema::keys::<Cluster>().contains(&plain.as_str()) {
        return format!(
            "{said}; what holds for a cluster is in 'clusters: {{<name>: {{defaults: ...}}}}'"
        );
    }
    if schema::keys::<Experiment>().contains(&plain.as_str()) {
        return format!("{said}; what decides numbers comes from the experiment alone");
    }
    format!("{said}; its keys are {}", known.join(", "))
}
