//! Every flag of the original's command lines, and what becomes of it here.

/// What becomes of a flag.
#[derive(Debug, Clone, Copy)]
pub(super) enum Fate {
    /// Its value is this key's.
    Key(&'static str),
    /// The same, of a key that holds text.
    Text(&'static str),
    /// Its two values are this key's list.
    Pair(&'static str),
    /// A switch: this key has this value.
    Set(&'static str, &'static str),
    /// The derivation has a rule of its own for it. `true`: it has a value.
    Own(bool),
    /// It decides nothing here. `true`: it has a value.
    Nothing(bool, &'static str),
    /// What it asks for is not done. `true`: it has a value.
    Refused(bool, &'static str),
}

impl Fate {
    /// How many values follow the flag.
    pub(super) fn values(self) -> usize {
        match self {
            Self::Key(_) | Self::Text(_) => 1,
            Self::Pair(_) => 2,
            Self::Set(..) => 0,
            Self::Own(value) | Self::Nothing(value, _) | Self::Refused(value, _) => value.into(),
        }
    }
}

/// A flag and its fate.
#[derive(Debug)]
pub(super) struct Flag {
    /// With its dashes.
    pub(super) name: &'static str,
    pub(super) fate: Fate,
}

const DEAD: &str = "has no effect in the original";
const LAUNCHER: &str = "is found out by whoever starts the ranks";
const UNPAIRED: &str = "unpaired images are not trained on: the original joins them to batches whose captions they outnumber, which fails";
const WITHOUT_UNPAIRED: &str = "is read with --semi-paired alone";

/// In the order of the original's parsers: main.py, then run_with_submitit.py.
#[rustfmt::skip]
pub(super) const FLAGS: &[Flag] = {
    use Fate::{Key, Nothing, Own, Pair, Refused, Set, Text};
    const fn flag(name: &'static str, fate: Fate) -> Flag {
        Flag { name, fate }
    }
    &[
        flag("--dataset", Key("data.dataset")),
        flag("--root", Text("data.root")),
        flag("--metadata", Text("data.metadata")),
        flag("--metadata-unpaired", Nothing(true, WITHOUT_UNPAIRED)),
        flag("--bpe-path", Nothing(true, "names the vocabulary, which is part of rocket-worker")),
        flag("--output-dir", Nothing(true, "names a folder; runs have folders of their own (--runs)")),
        flag("--model", Text("model.name")),
        flag("--attn-layer", Nothing(true, "chooses a kernel; the fastest of the device is taken")),
        flag("--no-share-token", Nothing(false, DEAD)),
        flag("--semi-paired", Refused(false, UNPAIRED)),
        flag("--unpaired-ratio", Nothing(true, WITHOUT_UNPAIRED)),
        flag("--embed-dim", Key("model.embed_dim")),
        flag("--clip-hidden-dim", Key("model.clip_hidden_dim")),
        flag("--ssl-scale", Nothing(true, DEAD)),
        flag("--ssl-temp", Nothing(true, DEAD)),
        flag("--resume", Own(true)),
        flag("--init-text-encoder", Text("model.init_text_encoder")),
        flag("--detach-proj", Set("model.detach_proj", "true")),
        flag("--momentum", Set("model.momentum", "true")),
        flag("--momentum-tau", Key("model.momentum_tau")),
        flag("--transformer-layers", Key("model.transformer_layers")),
        flag("--clip-proj-type", Key("model.clip_proj_type")),
        flag("--cl2l-txt-proj-type", Key("model.cl2l_txt_proj_type")),
        flag("--cl2l-img-proj-type", Key("model.cl2l_img_proj_type")),
        flag("--separate-proj", Set("model.separate_proj", "true")),
        flag("--separate-proj-child", Set("model.separate_proj_child", "true")),
        flag("--barlip-proj-dim", Key("model.barlip_proj_dim")),
        flag("--barlip-hidden-dim", Key("model.barlip_hidden_dim")),
        flag("--barlip-lamb", Key("train.barlip_lamb")),
        flag("--barlip-scale-loss", Key("train.barlip_scale_loss")),
        flag("--swalip-proj-dim", Key("model.swalip_proj_dim")),
        flag("--swalip-hidden-dim", Key("model.swalip_hidden_dim")),
        flag("--swalip-num-proto", Key("model.swalip_num_proto")),
        flag("--swalip-temperature", Key("model.swalip_temperature")),
        flag("--swalip-learn-temperature", Set("model.swalip_learn_temperature", "true")),
        flag("--sk-iters", Key("train.sk_iters")),
        flag("--target-epsilon", Key("train.target_epsilon")),
        flag("--swalip-freeze-proto-iters", Key("train.swalip_freeze_proto_iters")),
        flag("--swalip-no-shared-proto", Set("model.swalip_no_shared_proto", "true")),
        flag("--swalip-weight", Key("train.swalip_weight")),
        flag("--siamlip-proj-dim", Key("model.siamlip_proj_dim")),
        flag("--siamlip-hidden-dim", Key("model.siamlip_hidden_dim")),
        flag("--siamlip-no-last-bn", Set("model.siamlip_no_last_bn", "true")),
        flag("--num-augs", Key("augment.num_augs")),
        flag("--multicrop-resize", Key("augment.multicrop_resize")),
        flag("--multicrop-max-scale", Key("augment.multicrop_max_scale")),
        flag("--weak-min-scale", Key("augment.weak_min_scale")),
        flag("--blur-prob", Key("augment.blur_prob")),
        flag("--solarize-prob", Key("augment.solarize_prob")),
        flag("--grayscale-prob", Key("augment.grayscale_prob")),
        flag("--byol-augment", Set("augment.byol_augment", "true")),
        flag("--weak-augment", Set("augment.weak_augment", "true")),
        flag("--strong-augment", Set("augment.strong_augment", "true")),
        flag("--randaugment", Set("augment.randaugment", "true")),
        flag("--caption-sampling", Key("data.caption_sampling")),
        flag("--text-dropout-prob", Key("text.text_dropout_prob")),
        flag("--text-drop-path-prob", Key("text.text_drop_path_prob")),
        flag("--label-smoothing", Key("train.label_smoothing")),
        flag("--text-augment", Set("text.text_augment", "true")),
        flag("--clean-before-augment", Set("text.clean_before_augment", "true")),
        flag("--no-text-augment-prob", Key("text.no_text_augment_prob")),
        flag("--remove-stopwords-prob", Key("text.remove_stopwords_prob")),
        flag("--synonym-replacement-prob", Key("text.synonym_replacement_prob")),
        flag("--random-swap-prob", Key("text.random_swap_prob")),
        flag("--random-deletion-prob", Key("text.random_deletion_prob")),
        flag("--epochs", Key("train.epochs")),
        flag("--warmup-epochs", Key("optim.warmup_epochs")),
        flag("--start-epoch", Own(true)),
        flag("--batch-size", Key("train.batch_size")),
        flag("--lr", Key("optim.lr")),
        flag("--lr-start", Key("optim.lr_start")),
        flag("--lr-end", Key("optim.lr_end")),
        flag("--update-freq", Key("train.update_freq")),
        flag("--wd", Key("optim.wd")),
        flag("--betas", Pair("optim.betas")),
        flag("--eps", Key("optim.eps")),
        flag("--eval-freq", Key("eval.eval_freq")),
        flag("--disable-amp", Set("train.precision", "float32")),
        flag("--loss-avg-or-sum", Own(true)),
        flag("--checkpoint-grad", Set("train.checkpoint_grad", "true")),
        flag("--print-freq", Key("train.print_freq")),
        flag("--workers", Key("data.workers")),
        flag("--workers-unpaired", Nothing(true, WITHOUT_UNPAIRED)),
        flag("--evaluate", Refused(false, "it trains nothing; 'rocket-worker eval' evaluates a checkpoint")),
        flag("--world-size", Nothing(true, LAUNCHER)),
        flag("--rank", Nothing(true, LAUNCHER)),
        flag("--local_rank", Nothing(true, LAUNCHER)),
        flag("--dist-url", Nothing(true, LAUNCHER)),
        flag("--dist-backend", Nothing(true, "is NCCL on GPUs and Gloo elsewhere")),
        flag("--seed", Key("seed")),
        flag("--gpu", Nothing(true, LAUNCHER)),
        flag("--wandb", Set("track.wandb", "{project: clip-rocket}")),
        flag("--offline", Nothing(false, "is how runs are recorded always; 'wandb sync' brings them to a server")),
        flag("--name", Own(true)),
        flag("--ngpus", Key("cluster.gpus_per_node")),
        flag("--nodes", Key("cluster.nodes")),
        flag("--timeout", Text("cluster.time")),
        flag("--job_dir", Nothing(true, "names a folder; runs have folders of their own (--runs)")),
        flag("--partition", Text("cluster.partition")),
        flag("--use_volta32", Nothing(false, "asks for nodes by a name of the original's cluster; name yours with cluster.constraint")),
        flag("--comment", Text("cluster.comment")),
    ]
};

/// The one flag that has a short form.
pub(super) const SHORT: (&str, &str) = ("-j", "--workers");
