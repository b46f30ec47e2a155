//! Evaluation sets that need no files of class names and prompts.

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
