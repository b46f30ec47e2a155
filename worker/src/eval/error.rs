//! What can be wrong with an evaluation, each as a sentence that says what to do.

use std::path::PathBuf;

use rocket_common::exit::ExitKind;

/// Why an evaluation cannot run, or cannot be believed.
#[derive(Debug, thiserror::Error)]
pub enum EvalError {
    /// A file or folder cannot be opened, listed or written.
    #[error("{}: cannot {what}: {cause}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried, as a verb with its object.
        what: &'static str,
        /// The system's answer.
        cause: std::io::Error,
    },
    /// A file is not JSON, or holds a key twice.
    #[error("{}:{line}:{column}: this is not valid JSON: {problem}; mend the file at that place", file.display())]
    Json {
        /// The file.
        file: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// What the parser met.
        problem: String,
    },
    /// A file is JSON, but not of the form that is needed. All problems of the file at once.
    #[error("{}", problems.iter().map(|p| format!("{}: {p}", file.display())).collect::<Vec<_>>().join("\n"))]
    Form {
        /// The file.
        file: PathBuf,
        /// One sentence per problem, each naming its entry.
        problems: Vec<String>,
    },
    /// A set that a file does not know.
    #[error("{}: there is no entry '{set}'; it has {known}. Choose one of these or add '{set}' to the file", file.display())]
    UnknownSet {
        /// The file that was asked.
        file: PathBuf,
        /// The set that was asked for.
        set: String,
        /// The entries there are, for reading.
        known: String,
    },
    /// Class names or prompts that nobody gives.
    #[error(
        "there are no {what} of '{set}': {} and they are not among the published ones that rocket carries. Add '{set}' to the file",
        match known { Some(known) => format!("{} has {known},", file.display()), None => format!("there is no file {},", file.display()) }
    )]
    NotListed {
        /// Class names or prompts.
        what: &'static str,
        /// The set.
        set: String,
        /// The file that was asked.
        file: PathBuf,
        /// The entries there are, for reading; none without the file.
        known: Option<String>,
    },
    /// A set of type special that has no published binary format.
    #[error(
        "{}: entry '{set}': type 'special' is for sets in a binary format of their own, which are {known}; \
         set the type to 'imagefolder' or 'filelist'", file.display()
    )]
    NotSpecial {
        /// The catalog.
        file: PathBuf,
        /// The set.
        set: String,
        /// The sets that are, for reading.
        known: String,
    },
    /// A file of a set is not there, or none of those that would do.
    #[error(
        "{}: entry '{set}': there is {} {}; {advice}",
        file.display(), if paths.len() == 1 { "no file" } else { "none of the files" },
        paths.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", ")
    )]
    MissingFile {
        /// The catalog.
        file: PathBuf,
        /// The set.
        set: String,
        /// The places that were looked at.
        paths: Vec<PathBuf>,
        /// What to do.
        advice: String,
    },
    /// A file that is not in its published format, or says another thing than the labels.
    #[error("{}: {problem}", file.display())]
    Malformed {
        /// The file.
        file: PathBuf,
        /// What is wrong and what to do.
        problem: String,
    },
    /// The folder of a set is not there.
    #[error(
        "{}: entry '{set}': there is no folder {}; {advice}",
        file.display(), folder.display()
    )]
    MissingFolder {
        /// The catalog.
        file: PathBuf,
        /// The set.
        set: String,
        /// The folder.
        folder: PathBuf,
        /// What to do.
        advice: String,
    },
    /// The folders of an imagefolder set are not its classes.
    #[error("{}: the class folders of '{set}' do not match its labels in {labels}:\n  {}\n{advice}", folder.display(), differences.join("\n  "))]
    Classes {
        /// Folder that holds the class folders.
        folder: PathBuf,
        /// The set.
        set: String,
        /// Where the labels stand.
        labels: String,
        /// One sentence per difference.
        differences: Vec<String>,
        /// What to do.
        advice: String,
    },
    /// Class folders without an image.
    #[error(
        "{}: no image in {} of '{set}': {}; add images ({extensions}) or remove the class from folders and labels",
        folder.display(), if classes.len() == 1 { "a class folder" } else { "class folders" }, classes.join(", ")
    )]
    EmptyClasses {
        /// Folder that holds the class folders.
        folder: PathBuf,
        /// The set.
        set: String,
        /// The empty folders.
        classes: Vec<String>,
        /// File name endings that count as images.
        extensions: &'static str,
    },
    /// An image of the set cannot be read. A score over fewer images would not be the set's score.
    #[error("{}: this image of the evaluation set cannot be read: {cause}; replace it or remove it from the set", path.display())]
    Image {
        /// The image.
        path: PathBuf,
        /// Why.
        cause: String,
    },
    /// Embeddings that cannot be compared.
    #[error(
        "the {what} of head {head} hold NaN or infinity, so that '{set}' cannot be scored; the weights of this checkpoint are not usable"
    )]
    NotFinite {
        /// Which embeddings.
        what: &'static str,
        /// The head.
        head: &'static str,
        /// The set.
        set: String,
    },
    /// The ranks together did not see each sample exactly once.
    #[error(
        "the ranks scored {seen} samples of '{set}', which has {samples}: they do not see the same files; check that every node mounts the same data"
    )]
    SampleCount {
        /// The set.
        set: String,
        /// Samples the set has.
        samples: usize,
        /// Samples that were scored.
        seen: i64,
    },
    /// A rank broke off before all classes had their embeddings.
    #[error("the evaluation of '{set}' was broken off")]
    Interrupted {
        /// The set.
        set: String,
    },
    /// The model failed.
    #[error("the model failed on the {what} of '{set}': {cause}")]
    Model {
        /// What was encoded.
        what: &'static str,
        /// The set.
        set: String,
        /// Why.
        cause: String,
    },
    /// A sum over ranks failed.
    #[error("summing the figures of '{set}' over the ranks failed: {cause}")]
    Reduce {
        /// The set.
        set: String,
        /// Why.
        cause: String,
    },
}

impl EvalError {
    /// The exit code that tells the supervisor whether another try is worth anything.
    #[must_use]
    pub fn kind(&self) -> ExitKind {
        match self {
            Self::Json { .. } | Self::Form { .. } | Self::UnknownSet { .. } => ExitKind::Experiment,
            Self::NotListed { .. } | Self::NotSpecial { .. } => ExitKind::Experiment,
            Self::MissingFile { .. } | Self::Malformed { .. } => ExitKind::Data,
            Self::Io { .. } | Self::Image { .. } | Self::MissingFolder { .. } => ExitKind::Data,
            Self::Classes { .. } | Self::EmptyClasses { .. } => ExitKind::Data,
            Self::SampleCount { .. } => ExitKind::Data,
            Self::Interrupted { .. } => ExitKind::Internal,
            Self::NotFinite { .. } => ExitKind::NotFinite,
            Self::Model { .. } => ExitKind::Internal,
            Self::Reduce { .. } => ExitKind::Distributed,
        }
    }
}

/// `1 image`, `2 images`.
#[must_use]
pub fn number_of(count: usize, one: &str, more: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { more })
}

/// Names for reading: the first few, and how many more there are.
pub(super) fn some_of<S: AsRef<str>>(names: &[S]) -> String {
    const SHOWN: usize = 12;
    if names.is_empty() {
        return "none".to_owned();
    }
    let shown: Vec<_> = names
        .iter()
        .take(SHOWN)
        .map(|n| format!("'{}'", n.as_ref()))
        .collect();
    match names.len().checked_sub(SHOWN) {
        Some(more) if more > 0 => format!("{} and {more} more", shown.join(", ")),
        _ => shown.join(", "),
    }
}

impl From<EvalError> for rocket_common::error::Error {
    fn from(error: EvalError) -> Self {
        Self::new(error.kind(), error.to_string())
    }
}
