//! Synonyms out of WordNet's own files (`index.noun`, `data.noun`, `noun.exc` and so on; version 3.0), looked
//! up as NLTK does and written as EDA (arXiv 1901.11196) takes them.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

/// Where packages put the files: Debian's `wordnet-base`, a build from source, NLTK.
const PLACES: [&str; 4] = [
    "/usr/share/wordnet",
    "/usr/local/share/wordnet",
    "/usr/share/nltk_data/corpora/wordnet",
    "/usr/local/share/nltk_data/corpora/wordnet",
];
/// Names the folder, before those places.
const VARIABLE: &str = "WNSEARCHDIR";

/// What keeps WordNet from being read.
#[derive(Debug, thiserror::Error)]
pub enum WordNetError {
    /// Its files are nowhere.
    #[error(
        "WordNet is not in {0}; install the package wordnet-base, or give the folder of index.noun and data.noun in {VARIABLE}"
    )]
    Nowhere(String),
    /// A file cannot be read.
    #[error("cannot read '{}': {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A file is not as WordNet's are.
    #[error("'{}', line {line}, is not a line of WordNet", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
}

/// Endings of one part of speech, and what their lemmas end with.
type Endings = &'static [(&'static str, &'static str)];

/// Parts of speech: their files, and the rules that lead from a form to its lemma.
const PARTS: [(&str, Endings); 4] = [
    (
        "noun",
        &[
            ("s", ""),
            ("ses", "s"),
            ("ves", "f"),
            ("xes", "x"),
            ("zes", "z"),
            ("ches", "ch"),
            ("shes", "sh"),
            ("men", "man"),
            ("ies", "y"),
        ],
    ),
    (
        "verb",
        &[
            ("s", ""),
            ("ies", "y"),
            ("es", "e"),
            ("es", ""),
            ("ed", "e"),
            ("ed", ""),
            ("ing", "e"),
            ("ing", ""),
        ],
    ),
    ("adj", &[("er", ""), ("est", ""), ("er", "e"), ("est", "e")]),
    ("adv", &[]),
];

/// One part of speech.
#[derive(Debug)]
struct Part {
    endings: Endings,
    /// Lemma to places of its sets of synonyms in `data`.
    index: HashMap<String, Vec<usize>>,
    /// Irregular form to its lemmas.
    exceptions: HashMap<String, Vec<String>>,
    data: Vec<u8>,
}

/// WordNet, in memory (about 60 MB).
#[derive(Debug)]
pub struct WordNet(Vec<Part>);

fn read(path: &Path) -> Result<Vec<u8>, WordNetError> {
    std::fs::read(path).map_err(|source| WordNetError::Unreadable {
        path: path.to_owned(),
        source,
    })
}

/// Lines of a file that hold entries, with their numbers; the licence stands in front, indented.
fn entries(bytes: &[u8]) -> impl Iterator<Item = (usize, String)> {
    bytes
        .split(|byte| *byte == b'\n')
        .enumerate()
        .filter(|(_, line)| line.first().is_some_and(|byte| *byte != b' '))
        .map(|(number, line)| (number + 1, String::from_utf8_lossy(line).into_owned()))
}

impl Part {
    fn open(dir: &Path, name: &str, endings: Endings) -> Result<Self, WordNetError> {
        let path = dir.join(format!("index.{name}"));
        let mut index = HashMap::new();
        for (line, text) in entries(&read(&path)?) {
            let (lemma, places) = parse_index(&text).ok_or_else(|| WordNetError::Damaged {
                path: path.clone(),
                line,
            })?;
            index.insert(lemma, places);
        }
        let mut exceptions: HashMap<String, Vec<String>> = HashMap::new();
        for (_, text) in entries(&read(&dir.join(format!("{name}.exc")))?) {
            let mut words = text.split_whitespace().map(str::to_owned);
            if let Some(form) = words.next() {
                exceptions.insert(form, words.collect());
            }
        }
        Ok(Self {
            endings,
            index,
            exceptions,
            data: read(&dir.join(format!("data.{name}")))?,
        })
    }

    fn known(&self, forms: Vec<String>) -> Vec<String> {
        let mut seen = Vec::new();
        for form in forms {
            if self.index.contains_key(&form) && !seen.contains(&form) {
                seen.push(form);
            }
        }
        seen
    }

    fn detached(&self, forms: &[String]) -> Vec<String> {
        forms
            .iter()
            .flat_map(|form| {
                self.endings
                    .iter()
                    .filter_map(move |(old, new)| Some(format!("{}{new}", form.strip_suffix(old)?)))
            })
            .collect()
    }

    /// Lemmas of a form: an irregular form's own; else what the endings' rules give, applied until
    /// something is known.
    fn lemmas(&self, form: &str) -> Vec<String> {
        let own = vec![form.to_owned()];
        if let Some(irregular) = self.exceptions.get(form) {
            return self.known([own, irregular.clone()].concat());
        }
        let mut forms = self.detached(&own);
        let mut found = self.known([own, forms.clone()].concat());
        while found.is_empty() && !forms.is_empty() {
            forms = self.detached(&forms);
            found = self.known(forms.clone());
        }
        found
    }

    /// Words of the set of synonyms at a place.
    fn words(&self, place: usize) -> Vec<String> {
        let rest = self.data.get(place..).unwrap_or_default();
        let end = rest.iter().position(|byte| *byte == b'\n');
        let line = String::from_utf8_lossy(&rest[..end.unwrap_or(rest.len())]).into_owned();
        let mut fields = line.split(' ').skip(3);
        let count = fields
            .next()
            .and_then(|count| usize::from_str_radix(count, 16).ok());
        // Each word is followed by a number. "(p)" and the like mark where an adjective may stand.
        fields
            .step_by(2)
            .take(count.unwrap_or(0))
            .map(|word| word.split('(').next().unwrap_or(word).to_owned())
            .collect()
    }
}

/// `lemma pos sets pointers [pointer...] senses tagged place...`
fn parse_index(line: &str) -> Option<(String, Vec<usize>)> {
    let mut fields = line.split_ascii_whitespace();
    let lemma = fields.next()?.to_owned();
    let sets: usize = fields.nth(1)?.parse().ok()?;
    let pointers: usize = fields.next()?.parse().ok()?;
    let places: Vec<usize> = fields
        .skip(pointers + 2)
        .map(|place| place.parse().ok())
        .collect::<Option<_>>()?;
    (places.len() == sets).then_some((lemma, places))
}

impl WordNet {
    /// Reads the files of a folder.
    ///
    /// # Errors
    /// If a file is missing or damaged.
    pub fn open(dir: &Path) -> Result<Self, WordNetError> {
        let parts = PARTS.map(|(name, endings)| Part::open(dir, name, endings));
        Ok(Self(parts.into_iter().collect::<Result<_, _>>()?))
    }

    /// Reads the folder that `WNSEARCHDIR` names, or the first that a package has filled.
    ///
    /// # Errors
    /// If there is none, or its files are missing or damaged.
    pub fn find() -> Result<Self, WordNetError> {
        if let Some(dir) = std::env::var_os(VARIABLE) {
            return Self::open(Path::new(&dir));
        }
        let home = std::env::var_os("HOME").map(PathBuf::from);
        let home = home.map(|home| home.join("nltk_data/corpora/wordnet"));
        let places: Vec<PathBuf> = PLACES.iter().map(PathBuf::from).chain(home).collect();
        match places.iter().find(|dir| dir.join("index.noun").is_file()) {
            Some(dir) => Self::open(dir),
            None => {
                let all: Vec<String> = places.iter().map(|dir| dir.display().to_string()).collect();
                Err(WordNetError::Nowhere(all.join(", ")))
            }
        }
    }

    /// Synonyms of a word, sorted and without the word itself, in all its senses: in lower case, with
    /// blanks for underscores and hyphens, and without anything but a to z and blanks. So a synonym may be
    /// empty.
    #[must_use]
    pub fn synonyms(&self, word: &str) -> Vec<String> {
        let lower = word.to_lowercase();
        let mut all = BTreeSet::new();
        for part in &self.0 {
            for lemma in part.lemmas(&lower) {
                let places = part.index.get(&lemma).into_iter().flatten();
                let words = places.flat_map(|place| part.words(*place));
                all.extend(words.map(|word| plain(&word)));
            }
        }
        all.remove(word);
        all.into_iter().collect()
    }
}

fn plain(word: &str) -> String {
    word.replace(['_', '-'], " ")
        .to_lowercase()
        .chars()
        .filter(|letter| *letter == ' ' || letter.is_ascii_lowercase())
        .collect()
}
