//! Names of evaluation sets, and those that need no files of class names and prompts.

/// The paper's sets, in its order. The worker carries their class names and prompts; the orchestrator, which
/// does not, knows by this list that an experiment without files of its own can be scored.
pub const PUBLISHED_SETS: [&str; 23] = [
    "imagenet",
    "mnist",
    "food101",
    "cifar10",
    "cifar100",
    "cub200",
    "cars",
    "aircraft",
    "dtd",
    "pets",
    "caltech101",
    "flowers",
    "stl10",
    "eurosat",
    "resisc45",
    "gtsrb",
    "kitti_distance",
    "country211",
    "patch_camelyon",
    "ucf101_frames",
    "clevr_counts",
    "hateful_memes",
    "rendered_sst2",
];

/// Longest name of a set, in bytes: results are files named after it.
const MAX_SET_NAME: usize = 64;

/// What is wrong with the name of an evaluation set as a part of file names, if anything is.
#[must_use]
pub fn set_name_problem(name: &str) -> Option<String> {
    let bad = name.is_empty()
        || name.len() > MAX_SET_NAME
        || name.starts_with('.')
        || name.contains(|c: char| c == '/' || c.is_control());
    bad.then(|| {
        format!(
            "a set's name must be 1 to {MAX_SET_NAME} bytes, without '/' and not beginning with '.', since its results \
             are files of that name; not '{}'",
            name.escape_debug()
        )
    })
}
