//! `labels.json` and `templates.json` in the original's formats: per set, class names in order
//! (a name, or a list of synonyms), and prompts with `{}` in place of the name.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::catalog::kind_of;
use super::error::{EvalError, some_of};
use super::json::{self, Entries};
use super::published;

/// Class names of every set: those of a file, and behind it those that are published.
#[derive(Debug, Clone)]
pub struct Labels(Listed);

/// Prompts of every set: those of a file, and behind it those that are published.
#[derive(Debug, Clone)]
pub struct Templates(Listed);

/// Where the names or prompts of a set come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A file of the user's.
    File(PathBuf),
    /// The lists that the worker carries.
    Published,
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(file) => write!(f, "{}", file.display()),
            Self::Published => f.write_str("rocket's own list"),
        }
    }
}

/// A file with one list per set, if there is one.
#[derive(Debug, Clone)]
struct Listed {
    file: PathBuf,
    /// None: the file does not exist.
    sets: Option<Vec<(String, Value)>>,
}

/// Names of one class: at least one, none of them empty.
pub type Names = Vec<String>;

/// The texts that stand for the classes of a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompts {
    /// Per class, one text per template and name.
    pub by_class: Vec<Vec<String>>,
}

impl Listed {
    fn load(file: &Path) -> Result<Self, EvalError> {
        let sets: Entries<Value> = json::read(file)?;
        Ok(Self {
            file: file.to_owned(),
            sets: Some(sets.0),
        })
    }

    fn load_if_there(file: &Path) -> Result<Self, EvalError> {
        if file.exists() {
            return Self::load(file);
        }
        Ok(Self {
            file: file.to_owned(),
            sets: None,
        })
    }

    /// A set's list, the file's before the published one.
    fn list(
        &self,
        set: &str,
        published: Option<&'static Value>,
        what: &'static str,
    ) -> Result<(&[Value], Origin), EvalError> {
        let own = self.sets.iter().flatten().find(|(name, _)| name == set);
        let (value, origin) = match (own, published) {
            (Some((_, value)), _) => (value, Origin::File(self.file.clone())),
            (None, Some(value)) => (value, Origin::Published),
            (None, None) => {
                let known: Vec<_> = self.sets.iter().flatten().map(|(name, _)| name).collect();
                return Err(EvalError::NotListed {
                    what,
                    set: set.to_owned(),
                    file: self.file.clone(),
                    known: self.sets.as_ref().map(|_| some_of(&known)),
                });
            }
        };
        let problem = match value {
            Value::Array(list) if !list.is_empty() => return Ok((list.as_slice(), origin)),
            Value::Array(_) => format!("entry '{set}': the list of {what} is empty"),
            other => format!(
                "entry '{set}': {} stands where a list of {what} is needed",
                kind_of(other)
            ),
        };
        self.form(vec![problem], (Default::default(), origin))
    }

    fn form<T>(&self, problems: Vec<String>, good: T) -> Result<T, EvalError> {
        if problems.is_empty() {
            return Ok(good);
        }
        Err(EvalError::Form {
            file: self.file.clone(),
            problems,
        })
    }
}

impl Labels {
    /// Reads the file. Sets are checked when they are asked for, so that an unused one harms nobody.
    ///
    /// # Errors
    /// The file is missing or not a JSON object.
    pub fn load(file: &Path) -> Result<Self, EvalError> {
        Listed::load(file).map(Self)
    }

    /// Reads the file if it exists; without it, the published names are all there is.
    ///
    /// # Errors
    /// The file is not a JSON object.
    pub fn load_if_there(file: &Path) -> Result<Self, EvalError> {
        Listed::load_if_there(file).map(Self)
    }

    /// Names of the classes of a set, in order, and where they stand.
    ///
    /// # Errors
    /// The set is neither in the file nor published, or is not a list of names.
    pub fn of(&self, set: &str) -> Result<(Vec<Names>, Origin), EvalError> {
        let (list, origin) = self.0.list(set, published::labels(set), "class names")?;
        let mut problems = Vec::new();
        let mut classes = Vec::new();
        for (i, label) in list.iter().enumerate() {
            let names: Vec<&Value> = match label {
                Value::Array(names) => names.iter().collect(),
                name => vec![name],
            };
            if names.is_empty() {
                problems.push(format!("entry '{set}': class {i} has no name; give it one"));
            }
            let mut good = Names::new();
            for name in names {
                match name {
                    Value::String(name) if !name.trim().is_empty() => good.push(name.clone()),
                    other => problems.push(format!(
                        "entry '{set}': class {i} is named by {}; write a name, or a list of names",
                        kind_of(other)
                    )),
                }
            }
            classes.push(good);
        }
        self.0.form(problems, (classes, origin))
    }
}

impl Templates {
    /// Reads the file. Sets are checked when they are asked for.
    ///
    /// # Errors
    /// The file is missing or not a JSON object.
    pub fn load(file: &Path) -> Result<Self, EvalError> {
        Listed::load(file).map(Self)
    }

    /// Reads the file if it exists; without it, the published prompts are all there is.
    ///
    /// # Errors
    /// The file is not a JSON object.
    pub fn load_if_there(file: &Path) -> Result<Self, EvalError> {
        Listed::load_if_there(file).map(Self)
    }

    /// The published prompts of a set.
    #[must_use]
    pub fn published(set: &str) -> Option<Vec<Template>> {
        let list = published::templates(set)?.as_array()?;
        let parse = |text: &Value| Template::parse(text.as_str()?).ok();
        list.iter().map(parse).collect()
    }

    /// The prompts of a set, and where they stand.
    ///
    /// # Errors
    /// The set is neither in the file nor published, or a prompt has no place for a class name.
    pub fn of(&self, set: &str) -> Result<(Vec<Template>, Origin), EvalError> {
        let (list, origin) = self.0.list(set, published::templates(set), "prompts")?;
        let mut problems = Vec::new();
        let mut templates = Vec::new();
        for (i, value) in list.iter().enumerate() {
            let parsed = match value {
                Value::String(text) => Template::parse(text),
                other => Err(format!("is {}; write a string", kind_of(other))),
            };
            match parsed {
                Ok(template) => templates.push(template),
                Err(problem) => problems.push(format!("entry '{set}': prompt {i} {problem}")),
            }
        }
        self.0.form(problems, (templates, origin))
    }
}

/// A prompt with at least one place for a class name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// Text between the places.
    pieces: Vec<String>,
}

impl Template {
    /// Parses a prompt as Python's `str.format` with one argument reads it: `{}` or `{0}` is the
    /// class name, `{{` and `}}` are braces.
    ///
    /// # Errors
    /// There is no place for the name, or a brace that means neither.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut pieces = vec![String::new()];
        let mut unnumbered = 0;
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            let (before, from) = rest.split_at(at);
            let last = pieces.len() - 1;
            pieces[last].push_str(before);
            if let Some(after) = from.strip_prefix("{{").or_else(|| from.strip_prefix("}}")) {
                pieces[last].push_str(&from[..1]);
                rest = after;
            } else if let Some(after) = from.strip_prefix("{}") {
                unnumbered += 1;
                pieces.push(String::new());
                rest = after;
            } else if let Some(after) = from.strip_prefix("{0}") {
                pieces.push(String::new());
                rest = after;
            } else {
                return Err(format!(
                    "'{text}' has a brace that is no place for the class name; write '{{}}' there, \
                     or double the brace"
                ));
            }
        }
        let last = pieces.len() - 1;
        pieces[last].push_str(rest);
        match (pieces.len() - 1, unnumbered) {
            (0, _) => Err(format!(
                "'{text}' has no place for the class name; write '{{}}' there"
            )),
            (places, n) if n > 0 && (n > 1 || places > n) => Err(format!(
                "'{text}' has '{{}}' more than once; write '{{0}}' at each place"
            )),
            _ => Ok(Self { pieces }),
        }
    }

    /// The prompt for one name.
    #[must_use]
    pub fn fill(&self, name: &str) -> String {
        self.pieces.join(name)
    }
}

impl Prompts {
    /// Every template with every name of each class, templates outermost.
    #[must_use]
    pub fn new(labels: &[Names], templates: &[Template]) -> Self {
        let class = |names: &Names| -> Vec<String> {
            templates
                .iter()
                .flat_map(|t| names.iter().map(|name| t.fill(name)))
                .collect()
        };
        Self {
            by_class: labels.iter().map(class).collect(),
        }
    }
}
