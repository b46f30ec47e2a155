//! `dataset_catalog.json`: where evaluation sets lie. The original's format, an object of
//! `name: {path, type, train, test}`, with one optional key more, `classes`.

use std::path::{Path, PathBuf};

use rocket_common::experiment::set_name_problem;
use rocket_common::run_dir::suggest;
use serde_json::Value;

use super::error::{EvalError, some_of};
use super::json::{self, Entries};
use super::set::Split;

/// Types of evaluation sets that the format knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetKind {
    /// One folder of images per class.
    ImageFolder,
    /// npy files of paths and labels.
    FileList,
    /// Published binary formats, by name of the set.
    Special,
}

impl SetKind {
    const ALL: [Self; 3] = [Self::ImageFolder, Self::FileList, Self::Special];

    /// The name in the catalog.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ImageFolder => "imagefolder",
            Self::FileList => "filelist",
            Self::Special => "special",
        }
    }
}

/// An explicit order of class folders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClassOrder {
    /// Folder names in the order of the labels.
    Folders(Vec<String>),
    /// Label of each folder.
    Labels(Vec<(String, String)>),
}

/// Key `classes` of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClassesKey {
    /// Written in the catalog.
    Inline(ClassOrder),
    /// A JSON file, relative to the entry's `path`.
    File(String),
}

/// One set of the catalog, as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Name of the set.
    pub name: String,
    /// Root folder, variables not yet expanded.
    pub path: String,
    /// How it is stored.
    pub kind: SetKind,
    /// Split for training (linear probes), below `path`.
    pub train: Option<String>,
    /// Split that is scored, below `path`.
    pub test: Option<String>,
    /// Explicit order of the class folders.
    pub classes: Option<ClassesKey>,
}

/// A parsed catalog.
#[derive(Debug, Clone)]
pub struct Catalog {
    file: PathBuf,
    base: PathBuf,
    entries: Vec<Entry>,
}

impl Catalog {
    /// Reads a catalog. Relative paths of its entries are taken from `base`.
    ///
    /// # Errors
    /// The file is missing, is not JSON, or holds entries of another form: all of them are named.
    pub fn load(file: &Path, base: &Path) -> Result<Self, EvalError> {
        let raw: Entries<Value> = json::read(file)?;
        let mut entries = Vec::new();
        let mut problems = Vec::new();
        for (name, value) in &raw.0 {
            match Entry::parse(name, value) {
                Ok(entry) => entries.push(entry),
                Err(found) => {
                    problems.extend(found.into_iter().map(|p| format!("entry '{name}': {p}")));
                }
            }
        }
        if problems.is_empty() {
            Ok(Self {
                file: file.to_owned(),
                base: base.to_owned(),
                entries,
            })
        } else {
            Err(EvalError::Form {
                file: file.to_owned(),
                problems,
            })
        }
    }

    /// The file this was read from.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Entries in the order of the file.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The entry of a set.
    ///
    /// # Errors
    /// [`EvalError::UnknownSet`].
    pub fn entry(&self, name: &str) -> Result<&Entry, EvalError> {
        self.entries
            .iter()
            .find(|entry| entry.name == name)
            .ok_or_else(|| {
                let known: Vec<_> = self.entries.iter().map(|entry| &entry.name).collect();
                EvalError::UnknownSet {
                    file: self.file.clone(),
                    set: name.to_owned(),
                    known: some_of(&known),
                }
            })
    }

    /// The root folder of a set: environment variables expanded, relative paths from the base.
    ///
    /// # Errors
    /// A variable is not set, or `$` begins none.
    pub fn root(&self, entry: &Entry) -> Result<PathBuf, EvalError> {
        self.root_with(entry, |variable| std::env::var(variable).ok())
    }

    /// [`Catalog::root`] with the variables given.
    ///
    /// # Errors
    /// As [`Catalog::root`].
    pub fn root_with(
        &self,
        entry: &Entry,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<PathBuf, EvalError> {
        self.expanded(entry, "path", &entry.path, variable)
            .map(|path| self.base.join(path))
    }

    /// What an entry says of a split: a folder, or the beginning of files' names.
    ///
    /// # Errors
    /// The entry has no such key.
    pub fn split<'a>(&self, entry: &'a Entry, split: Split) -> Result<&'a str, EvalError> {
        let value = match split {
            Split::Train => &entry.train,
            Split::Test => &entry.test,
        };
        value.as_deref().ok_or_else(|| EvalError::Form {
            file: self.file.clone(),
            problems: vec![format!(
                "entry '{}': the key '{}' is missing; add it",
                entry.name,
                split.key()
            )],
        })
    }

    /// A path of an entry with its variables expanded; `key` is named in errors.
    pub(super) fn expanded(
        &self,
        entry: &Entry,
        key: &str,
        text: &str,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<PathBuf, EvalError> {
        expand(text, variable)
            .map(PathBuf::from)
            .map_err(|problem| EvalError::Form {
                file: self.file.clone(),
                problems: vec![format!("entry '{}': {key} '{text}': {problem}", entry.name)],
            })
    }
}

impl Entry {
    fn parse(name: &str, value: &Value) -> Result<Self, Vec<String>> {
        const KEYS: [&str; 5] = ["path", "type", "train", "test", "classes"];
        let Value::Object(object) = value else {
            return Err(vec![format!(
                "{} stands where an object with 'path' and 'type' is needed",
                kind_of(value)
            )]);
        };
        let mut problems: Vec<String> = set_name_problem(name).into_iter().collect();
        for key in object.keys().filter(|key| !KEYS.contains(&key.as_str())) {
            let (near, known) = (near(key, &KEYS), some_of(&KEYS));
            problems.push(format!("unknown key '{key}'; {near}the keys are {known}"));
        }
        let mut text = |key: &str, needed: bool| match object.get(key) {
            Some(Value::String(text)) if !text.is_empty() => Some(text.clone()),
            Some(Value::String(_)) => {
                problems.push(format!("'{key}' is empty; write a path or a name there"));
                None
            }
            Some(other) => {
                problems.push(format!("'{key}' is {}; write a string", kind_of(other)));
                None
            }
            None if needed => {
                problems.push(format!("the key '{key}' is missing; add it"));
                None
            }
            None => None,
        };
        let path = text("path", true);
        let kind_name = text("type", true);
        let train = text("train", false);
        let test = text("test", false);
        let kind = kind_name.and_then(|name| {
            let kind = SetKind::ALL.into_iter().find(|kind| kind.name() == name);
            if kind.is_none() {
                let names = SetKind::ALL.map(SetKind::name);
                let near = near(&name, &names);
                let known = some_of(&names);
                problems.push(format!(
                    "unknown type '{name}'; {near}the types are {known}"
                ));
            }
            kind
        });
        let missing = match kind {
            _ if object.contains_key("test") => None,
            Some(SetKind::ImageFolder) => Some(
                "the key 'test' is missing; name the folder below 'path' that holds the class \
                 folders ('.' if they lie in 'path' itself)",
            ),
            Some(SetKind::FileList) => Some(
                "the key 'test' is missing; name what precedes '_images.npy' and '_labels.npy' in \
                 the names of the files in 'path'",
            ),
            _ => None,
        };
        if let Some(missing) = missing {
            problems.push(missing.to_owned());
        }
        let classes = match object.get("classes") {
            None | Some(Value::Null) => None,
            Some(Value::String(file)) if !file.is_empty() => Some(ClassesKey::File(file.clone())),
            Some(value) => match ClassOrder::parse(value) {
                Ok(order) => Some(ClassesKey::Inline(order)),
                Err(problem) => {
                    problems.push(format!("'classes': {problem}"));
                    None
                }
            },
        };
        match (path, kind) {
            (Some(path), Some(kind)) if problems.is_empty() => Ok(Self {
                name: name.to_owned(),
                path,
                kind,
                train,
                test,
                classes,
            }),
            _ => Err(problems),
        }
    }
}

impl ClassOrder {
    /// Reads a list of folders in label order, or an object of folder: label.
    pub(super) fn parse(value: &Value) -> Result<Self, String> {
        let text = |value: &Value, what: &str| match value {
            Value::String(text) => Ok(text.clone()),
            other => Err(format!("{what} is {}; write a string", kind_of(other))),
        };
        match value {
            Value::Array(list) => list
                .iter()
                .enumerate()
                .map(|(i, folder)| text(folder, &format!("folder {i}")))
                .collect::<Result<_, _>>()
                .map(Self::Folders),
            Value::Object(object) => object
                .iter()
                .map(|(folder, label)| {
                    Ok((
                        folder.clone(),
                        text(label, &format!("the label of folder '{folder}'"))?,
                    ))
                })
                .collect::<Result<_, String>>()
                .map(Self::Labels),
            other => Err(format!(
                "{} stands where a list of folder names in label order, an object of \
                 folder: label, or the path of a JSON file with one of these is needed",
                kind_of(other)
            )),
        }
    }
}

/// `did you mean 'x'? `, if a name is near enough.
fn near(word: &str, names: &[&str]) -> String {
    suggest(word, names.iter().copied())
        .map_or_else(String::new, |name| format!("did you mean '{name}'? "))
}

/// A JSON value's type in words.
pub(super) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(text) if text.is_empty() => "an empty string",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// Expands `$NAME` and `${NAME}`; `$$` is a dollar sign. Unlike a shell, a variable that is not
/// set is an error: an empty string in a path would name another folder.
fn expand(text: &str, variable: impl Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
            continue;
        }
        let (name, after) = match rest.strip_prefix('{') {
            Some(inner) => inner
                .split_once('}')
                .ok_or("'${' is not closed; write '${NAME}'")?,
            None => {
                let end = rest
                    .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
                    .unwrap_or(rest.len());
                rest.split_at(end)
            }
        };
        if name.is_empty() {
            return Err("'$' begins no variable; write '$NAME', or '$$' for a dollar sign".into());
        }
        let value = variable(name).ok_or_else(|| {
            format!("the environment variable {name} is not set; set it, or write the path out")
        })?;
        out.push_str(&value);
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}
