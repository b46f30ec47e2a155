//! The sections of an experiment file. Keys keep the flag names of CLIP-rocket in snake_case, and
//! defaults are its defaults (arXiv 2305.08675, `main.py` of its code) unless a comment says why not.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::after::After;
use super::bytes::Bytes;
use super::cluster::Cluster;
use super::every::Every;
use super::notify::Notify;
use super::track::Track;
use super::vision::Vision;

/// One experiment, resolved: exactly what is stored, shown, hashed and run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Experiment {
    /// Name of the experiment; the run id begins with it.
    pub name: String,
    /// Seed of everything random.
    #[serde(default)]
    pub seed: u64,
    /// Model and projectors.
    #[serde(default)]
    pub model: Model,
    /// Data set and loader.
    #[serde(default)]
    pub data: Data,
    /// Views of an image.
    #[serde(default)]
    pub augment: Augment,
    /// Views of a caption.
    #[serde(default)]
    pub text: Text,
    /// AdamW and its learning-rate schedule.
    #[serde(default)]
    pub optim: Optim,
    /// Batches, losses, length, checkpoints.
    #[serde(default)]
    pub train: Train,
    /// Zero-shot evaluation.
    #[serde(default)]
    pub eval: Eval,
    /// Where it runs.
    #[serde(default)]
    pub cluster: Cluster,
    /// Where metrics go besides `metrics.jsonl`.
    #[serde(default)]
    pub track: Track,
    /// Who is told what becomes of it.
    #[serde(default)]
    pub notify: Notify,
    /// Any other program in place of the training sections: argv of each rank.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
}

/// Views that a model's base trains on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Base {
    /// One view.
    Clip,
    /// One weak view and `num_augs` strong ones.
    Cl2l,
}

/// What is added to the base's loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Child {
    /// CLIP's own loss.
    Clip,
    /// CL2L's own loss (CLIP-rocket).
    Cl2l,
    /// Barlow Twins between modalities.
    Barlip,
    /// SimSiam between modalities; BYOL with `momentum`.
    Siamlip,
    /// SwAV between modalities, the batch as prototypes.
    Swalip,
    /// SwAV between modalities, learnt prototypes.
    Swalipv1,
}

/// Projector between a tower and an embedding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProjType {
    /// One linear layer without bias.
    Linear,
    /// Linear, BN, ReLU, three times.
    Mlp,
}

/// `model:`. Either `name` (`<base>_<vision>_<child>`), or `base`, `vision` and `child`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Model {
    /// `CL2L_R50_CL2L` and the like. After resolution `base`, `vision` and `child` are set and this is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Views the base trains on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<Base>,
    /// Vision tower.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vision: Option<Vision>,
    /// Loss added.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub child: Option<Child>,
    /// Width of the shared embedding.
    pub embed_dim: i64,
    /// Hidden width of MLP projectors.
    pub clip_hidden_dim: i64,
    /// Projectors of the global (CLIP) embedding.
    pub clip_proj_type: ProjType,
    /// Text projector of the augmented views.
    pub cl2l_txt_proj_type: ProjType,
    /// Image projector of the augmented views.
    pub cl2l_img_proj_type: ProjType,
    /// Augmented views get projectors and a logit scale of their own.
    pub separate_proj: bool,
    /// Augmented views get heads of their own in the child's loss (BARLIP, SIAMLIP).
    pub separate_proj_child: bool,
    /// No gradient from the CLIP text projector into the text tower.
    pub detach_proj: bool,
    /// Targets come from a momentum encoder, the moving average of the model (SIAMLIP; then it is BYOLIP).
    pub momentum: bool,
    /// Share of its old value that a weight of the momentum encoder keeps at each step.
    pub momentum_tau: f64,
    /// Checkpoint whose text tower this one starts from, in the run directory's form or the original's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init_text_encoder: Option<PathBuf>,
    /// Width of BARLIP's embedding.
    pub barlip_proj_dim: i64,
    /// Hidden width of BARLIP's projectors.
    pub barlip_hidden_dim: i64,
    /// Width of SIAMLIP's embedding.
    pub siamlip_proj_dim: i64,
    /// Hidden width of SIAMLIP's projectors and predictors.
    pub siamlip_hidden_dim: i64,
    /// SIAMLIP's projectors end without batch norm.
    pub siamlip_no_last_bn: bool,
    /// Width of SWALIPV1's embedding.
    pub swalip_proj_dim: i64,
    /// Hidden width of SWALIPV1's projectors.
    pub swalip_hidden_dim: i64,
    /// Number of SWALIPV1's prototypes.
    pub swalip_num_proto: i64,
    /// SWALIPV1's modalities have prototypes of their own.
    pub swalip_no_shared_proto: bool,
    /// Temperature of SWALIPV1's logits.
    pub swalip_temperature: f64,
    /// SWALIPV1's temperature is trained.
    pub swalip_learn_temperature: bool,
    /// Blocks of the text tower.
    pub transformer_layers: i64,
    /// Width of the text tower.
    pub transformer_width: i64,
    /// Heads of the text tower.
    pub transformer_heads: i64,
    /// Tokens per caption.
    pub context_length: i64,
    /// Size of the token vocabulary.
    pub vocab_size: i64,
}

impl Default for Model {
    fn default() -> Self {
        Self {
            name: None,
            base: None,
            vision: None,
            child: None,
            embed_dim: 256,
            clip_hidden_dim: 4096,
            clip_proj_type: ProjType::Linear,
            cl2l_txt_proj_type: ProjType::Mlp,
            cl2l_img_proj_type: ProjType::Mlp,
            separate_proj: false,
            separate_proj_child: false,
            detach_proj: false,
            momentum: false,
            momentum_tau: 0.99,
            init_text_encoder: None,
            barlip_proj_dim: 8192,
            barlip_hidden_dim: 3000,
            siamlip_proj_dim: 128,
            siamlip_hidden_dim: 2048,
            siamlip_no_last_bn: false,
            swalip_proj_dim: 128,
            swalip_hidden_dim: 2048,
            swalip_num_proto: 3000,
            swalip_no_shared_proto: false,
            swalip_temperature: 0.1,
            swalip_learn_temperature: false,
            transformer_layers: 12,
            transformer_width: 512,
            transformer_heads: 8,
            context_length: 77,
            vocab_size: 49408,
        }
    }
}

/// Formats of training data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dataset {
    /// npy of dicts `image_id`, `captions`; images in one folder.
    Cc3m,
    /// npy of dicts `image_name`, `image_id`, `captions`.
    Cc12m,
    /// Pickle of tuples (id, title, description); images in zip archives.
    Yfcc15m,
    /// Several of these as one: `root` and `metadata` are lists joined by `---`, in the order cc3m, cc12m,
    /// yfcc15m, or each with its format before it (`redcaps=list.json`).
    MergedOpendata,
    /// JSON of COCO's captions; images in `train2017`.
    Coco,
    /// JSON of RedCaps' annotations; a folder of images for each subreddit.
    Redcaps,
    /// Tar shards of images and captions, named by a pattern such as `{0000..0331}.tar`.
    Webdataset,
    /// A folder of images for each class.
    Imagefolder,
    /// Lines of path and captions.
    Filelist,
}

impl Dataset {
    /// Between the paths of `merged_opendata`.
    pub const JOINT: &str = "---";

    /// The name in an experiment.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Cc3m => "cc3m",
            Self::Cc12m => "cc12m",
            Self::Yfcc15m => "yfcc15m",
            Self::MergedOpendata => "merged_opendata",
            Self::Coco => "coco",
            Self::Redcaps => "redcaps",
            Self::Webdataset => "webdataset",
            Self::Imagefolder => "imagefolder",
            Self::Filelist => "filelist",
        }
    }

    /// Every format.
    pub const ALL: [Self; 9] = [
        Self::Cc3m,
        Self::Cc12m,
        Self::Yfcc15m,
        Self::MergedOpendata,
        Self::Coco,
        Self::Redcaps,
        Self::Webdataset,
        Self::Imagefolder,
        Self::Filelist,
    ];

    /// The format of a name.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name() == name)
    }

    /// Whether the list is a file of samples; the others name archives, or folders alone.
    #[must_use]
    pub fn has_list(self) -> bool {
        !matches!(self, Self::Webdataset | Self::Imagefolder)
    }

    /// Whether the images lie below a folder that has to be named.
    #[must_use]
    pub fn has_root(self) -> bool {
        self != Self::Webdataset
    }
}

/// Which captions of an image the views are drawn from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CaptionSampling {
    /// One caption, all its views.
    Single,
    /// Each view from a caption of its own.
    Multi,
}

/// `data:`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Data {
    /// Format.
    pub dataset: Dataset,
    /// Folder of the images.
    pub root: PathBuf,
    /// The list of samples.
    pub metadata: PathBuf,
    /// The index of the list (`rocket-worker data prepare`), if it lies elsewhere than beside the list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<PathBuf>,
    /// Decoding threads per rank.
    pub workers: usize,
    /// How captions are drawn.
    pub caption_sampling: CaptionSampling,
    /// Largest share of unreadable samples before the run fails.
    pub max_bad: f64,
    /// Seconds that a read of a file may take before its file system counts as dead; 120 if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_timeout_seconds: Option<f64>,
    /// Decode large JPEGs at a half, a quarter or an eighth of their size where no crop loses by it:
    /// quicker, and other numbers.
    pub fast_decode: bool,
}

impl Data {
    /// How long a read of a file may take.
    #[must_use]
    pub fn read_timeout(&self) -> Duration {
        let seconds = self.read_timeout_seconds.unwrap_or(120.0);
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
    }
}

impl Default for Data {
    fn default() -> Self {
        Self {
            dataset: Dataset::Cc3m,
            root: PathBuf::new(),
            metadata: PathBuf::new(),
            index: None,
            workers: 10,
            caption_sampling: CaptionSampling::Single,
            max_bad: 0.01,
            read_timeout_seconds: None,
            fast_decode: false,
        }
    }
}

/// `augment:`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Augment {
    /// Strong views per image.
    pub num_augs: usize,
    /// Side of the strong views in pixels; the vision tower's image size if absent (224 for the named ones).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub multicrop_resize: Option<i64>,
    /// Smallest share of the area in a strong view (.08 in the reference, which has no flag for it).
    pub multicrop_min_scale: f64,
    /// Largest share of the area in a strong view.
    pub multicrop_max_scale: f64,
    /// Smallest share of the area in the weak view.
    pub weak_min_scale: f64,
    /// Probability of a Gaussian blur.
    pub blur_prob: f64,
    /// Probability of solarization.
    pub solarize_prob: f64,
    /// Probability of grayscale.
    pub grayscale_prob: f64,
    /// BYOL's asymmetric augmentations; overrides the probabilities.
    pub byol_augment: bool,
    /// All views weak.
    pub weak_augment: bool,
    /// All views strong.
    pub strong_augment: bool,
    /// The first view weak or strong at random.
    pub randaugment: bool,
}

impl Default for Augment {
    fn default() -> Self {
        Self {
            num_augs: 2,
            multicrop_resize: None,
            multicrop_min_scale: 0.08,
            multicrop_max_scale: 1.0,
            weak_min_scale: 0.5,
            blur_prob: 0.5,
            solarize_prob: 0.0,
            grayscale_prob: 0.2,
            byol_augment: false,
            weak_augment: false,
            strong_augment: false,
            randaugment: false,
        }
    }
}

/// `text:`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Text {
    /// EDA augmentation of the augmented captions.
    pub text_augment: bool,
    /// ftfy, html, whitespace and lower case before anything else.
    pub clean_before_augment: bool,
    /// Probability of leaving an augmented caption as it is.
    pub no_text_augment_prob: f64,
    /// Probability of removing stop words.
    pub remove_stopwords_prob: f64,
    /// Weight of synonym replacement.
    pub synonym_replacement_prob: f64,
    /// Weight of a random swap.
    pub random_swap_prob: f64,
    /// Weight of random deletion.
    pub random_deletion_prob: f64,
    /// Dropout in the text tower, augmented captions only.
    pub text_dropout_prob: f64,
    /// Stochastic depth in the text tower, augmented captions only.
    pub text_drop_path_prob: f64,
    /// Compute text only up to the longest caption of the batch.
    pub truncate: bool,
}

impl Default for Text {
    fn default() -> Self {
        Self {
            text_augment: false,
            clean_before_augment: false,
            no_text_augment_prob: 0.0,
            remove_stopwords_prob: 0.8,
            synonym_replacement_prob: 0.4,
            random_swap_prob: 0.4,
            random_deletion_prob: 0.2,
            text_dropout_prob: 0.0,
            text_drop_path_prob: 0.0,
            truncate: true,
        }
    }
}

/// `optim:`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Optim {
    /// Peak learning rate.
    pub lr: f64,
    /// Learning rate at the first step.
    pub lr_start: f64,
    /// Learning rate at the last step.
    pub lr_end: f64,
    /// Epochs of linear warm-up.
    pub warmup_epochs: f64,
    /// Weight decay.
    pub wd: f64,
    /// AdamW's betas.
    pub betas: [f64; 2],
    /// AdamW's epsilon.
    pub eps: f64,
}

impl Default for Optim {
    fn default() -> Self {
        Self {
            lr: 3e-3,
            lr_start: 1e-6,
            lr_end: 1e-5,
            warmup_epochs: 1.0,
            wd: 0.1,
            betas: [0.9, 0.98],
            eps: 1e-8,
        }
    }
}

/// How the two CL2L modality losses join.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LossAvgOrSum {
    /// Mean of the modalities.
    Avg,
    /// Sum of the modalities.
    Sum,
}

/// What BARLIP's gradient is over W ranks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BarlipGrad {
    /// 1/W of the true one, as the original's averaging over ranks makes it.
    Reference,
    /// The true one.
    Corrected,
}

/// What the `update_freq` micro-batches of a step share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accumulate {
    /// Their gradients alone: the negatives of a sample are those of its micro-batch.
    Micro,
    /// The loss too: negatives and loss are those of the whole step, by cached features (arXiv 2101.06983).
    Exact,
}

/// Type that forward and backward compute in; weights, losses and norms are float32 always.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// `fp16` on a GPU, `float32` on the CPU.
    Auto,
    /// No autocast.
    Float32,
    /// Autocast to bfloat16.
    Bf16,
    /// Autocast to float16, the loss scaled so that small gradients do not vanish.
    Fp16,
}

/// `train:`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Train {
    /// Passes over the data.
    pub epochs: u64,
    /// A fixed number of optimiser steps; if given, `epochs` does not count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_steps: Option<u64>,
    /// Samples per rank and micro-batch.
    pub batch_size: i64,
    /// Micro-batches per optimiser step.
    pub update_freq: u64,
    /// Label smoothing of the local CL2L terms.
    pub label_smoothing: f64,
    /// How the modalities' losses join.
    pub loss_avg_or_sum: LossAvgOrSum,
    /// Weight of the off-diagonal terms of BARLIP's loss.
    pub barlip_lamb: f64,
    /// Factor of BARLIP's loss.
    pub barlip_scale_loss: f64,
    /// Gradient of BARLIP's loss over several ranks.
    pub barlip_grad: BarlipGrad,
    /// Weight of SWALIP's and SWALIPV1's loss.
    pub swalip_weight: f64,
    /// Iterations of Sinkhorn-Knopp.
    pub sk_iters: u32,
    /// Entropy regularisation of Sinkhorn-Knopp.
    pub target_epsilon: f64,
    /// Optimiser steps in which SWALIPV1's prototypes stay as they are.
    pub swalip_freeze_proto_iters: u64,
    /// Gathered embeddings carry gradient on every rank (the reference's do not when W > 1).
    pub gather_with_grad: bool,
    /// What the micro-batches of a step share.
    pub accumulate: Accumulate,
    /// Type that forward and backward compute in.
    pub precision: Precision,
    /// On a GPU, only operations that give the same bits every time: needed there for a resumed run to equal
    /// an uninterrupted one to the bit. The CPU's always do.
    pub deterministic: bool,
    /// Recompute activations in backward: the vision tower's blocks, if no key below says otherwise.
    pub checkpoint_grad: bool,
    /// With `checkpoint_grad`: segments that each of both towers is cut into.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint_segments: Option<u64>,
    /// With `checkpoint_grad`: bytes that kept activations may take per rank; as few blocks are recomputed as
    /// that allows. `8GB` and the like.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint_memory: Option<Bytes>,
    /// Checkpoint to start from, in the run directory's form or the original's (`.pt`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resume: Option<PathBuf>,
    /// Steps between two lines of progress and of `metrics.jsonl`.
    pub print_freq: u64,
    /// Spacing of checkpoints.
    pub checkpoint_every: Every,
    /// Recent checkpoints kept.
    pub keep_last: usize,
    /// Best checkpoints kept, by z top-1.
    pub keep_best: usize,
    /// Threads of torch's CPU operators per rank. Part of the experiment, since sums depend on it.
    pub threads: usize,
    /// Size of a DDP gradient bucket in MB.
    pub bucket_cap_mb: f64,
    /// Minutes after which a collective gives up on a silent peer.
    pub collective_timeout_minutes: f64,
}

impl Default for Train {
    fn default() -> Self {
        Self {
            epochs: 25,
            max_steps: None,
            batch_size: 64,
            update_freq: 1,
            label_smoothing: 0.0,
            loss_avg_or_sum: LossAvgOrSum::Avg,
            barlip_lamb: 5e-3,
            barlip_scale_loss: 0.025,
            barlip_grad: BarlipGrad::Reference,
            swalip_weight: 0.2,
            sk_iters: 3,
            target_epsilon: 0.05,
            swalip_freeze_proto_iters: 100,
            gather_with_grad: false,
            accumulate: Accumulate::Micro,
            precision: Precision::Auto,
            deterministic: false,
            checkpoint_grad: false,
            checkpoint_segments: None,
            checkpoint_memory: None,
            resume: None,
            print_freq: 25,
            checkpoint_every: Every::Minutes(15.0),
            keep_last: 2,
            keep_best: 1,
            threads: 1,
            bucket_cap_mb: 25.0,
            collective_timeout_minutes: 10.0,
        }
    }
}

/// `eval:`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Eval {
    /// Epochs between two evaluations in training, whose end has one in any case; 0 for that one alone.
    pub eval_freq: u64,
    /// Names in the catalog that are evaluated in training; the first decides the best checkpoint.
    pub datasets: Vec<String>,
    /// The catalog of evaluation sets, in the pinned tree unless absolute.
    pub catalog: PathBuf,
    /// Class names by set.
    pub labels: PathBuf,
    /// Prompts by set.
    pub templates: PathBuf,
    /// Images per batch.
    pub batch_size: i64,
    /// Type that embeddings are computed in; `auto` is bfloat16 on a GPU and float32 on the CPU.
    pub precision: Precision,
    /// What is evaluated when the run has finished, by a job of its own.
    pub after: After,
}

impl Default for Eval {
    fn default() -> Self {
        Self {
            eval_freq: 1,
            datasets: Vec::new(),
            catalog: "dataset_catalog.json".into(),
            labels: "labels.json".into(),
            templates: "templates.json".into(),
            batch_size: 256,
            precision: Precision::Auto,
            after: After::None,
        }
    }
}
