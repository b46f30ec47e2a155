//! What people are told about experiments that cannot run: every mistake, at its place.

use rocket_common::experiment::parse_with;

/// A file with nothing wrong.
const GOOD: &str = "\
name: demo
model:
  name: CL2L_R50_CL2L
data:
  root: images
  metadata: train.npy
";

/// What is said about a file.
fn told_with(text: &str, overrides: &[&str]) -> String {
    let overrides: Vec<String> = overrides.iter().map(|text| (*text).to_owned()).collect();
    let environment = |name: &str| (name == "DATA").then(|| "/data".to_owned());
    match parse_with("exp.yaml", text, &overrides, &environment) {
        Ok(_) => "nothing\n".to_owned(),
        Err(found) => found.iter().map(|one| format!("{one}\n")).collect(),
    }
}

fn told(text: &str) -> String {
    told_with(text, &[])
}

/// `GOOD` with more sections, or with a whole section replaced.
fn good_and(more: &str) -> String {
    format!("{GOOD}{more}")
}

/// What is said about each of many files, under its text.
fn told_each(files: &[&str]) -> String {
    let tell = |file: &&str| {
        let said = told(&good_and(file));
        format!(
            "{}\n    {}",
            file.trim_end(),
            said.trim_end().replace('\n', "\n    ")
        )
    };
    files.iter().map(tell).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_good_file_is_good() {
    assert_eq!(told(GOOD), "nothing\n");
}

#[test]
fn all_mistakes_of_a_file_at_once() {
    insta::assert_snapshot!(told(
        "name: demo
sede: 3
model:
  name: CL2L_R50_CL2L
  embed_dim: wide
data:
  root: images
  metadata: train.npy
  caption_sampling: mutli
augment:
  num_augs: -1
  blur_prob: 1.5
train:
  lable_smoothing: 0.1
  lr: 1e-3
  epochs: 2.5
  update_freq: 0
optim:
  lr: fast
  betas: [0.9]
cluster:
  nodes: 0
"
    ));
}

#[test]
fn unknown_keys_name_the_nearest() {
    insta::assert_snapshot!(told_each(&[
        "train: {lable_smoothing: 0.1}",
        "train: {label-smoothing: 0.1}",
        "train: {lr: 1e-3}",
        "train: {warmup_epoch: 1}",
        "optim: {learning_rate: 1}",
        "optim: {momentum: true}",
        "lr: 1e-3",
        "trian: {}",
        "train.epochs: 3",
        "track: {wanb: true}",
        "sweep: {optim.lr: [1, 2]}",
        "optim: {<<: {lr: 1}}",
        "zzz: 1",
        "123: 1",
    ]));
}

#[test]
fn wrong_types_say_what_is_wanted() {
    insta::assert_snapshot!(told_each(&[
        "optim: {lr: fast}",
        "optim: {lr: '3e-3'}",
        "optim: {lr: }",
        "optim: {lr: [1]}",
        "optim: {lr: .inf}",
        "optim: {lr: 1e999}",
        "optim: {betas: 0.9}",
        "optim: {betas: [0.9, high]}",
        "optim: {betas: [0.9, 1.0]}",
        "optim: 3",
        "train: [1, 2]",
        "train: {epochs: 2.5}",
        "train: {epochs: -2}",
        "train: {batch_size: 99999999999999999999}",
        "train: {gather_with_grad: yes}",
        "train: {gather_with_grad: 1}",
        "train: {loss_avg_or_sum: mean}",
        "train: {loss_avg_or_sum: summ}",
        "train: {loss_avg_or_sum: }",
        "train: {checkpoint_every: sometimes}",
        "train: {checkpoint_every: 0}",
        "train: {checkpoint_every: 0 minutes}",
        "train: {checkpoint_every: [1]}",
        "train: {checkpoint_every: 2.5}",
        "eval: {datasets: imagenet}",
        "augment: {multicrop_resize: '96'}",
        "eval: {datasets: [a, [b]]}",
        "eval: {datasets: [a, b, a]}",
        "eval: {datasets: [wds/pets], after: ['', ../x]}",
        "seed: -1",
        "seed: one",
        "cluster: {backend: sulrm}",
        "cluster: {nodes: 5000000000}",
    ]));
}

#[test]
fn ranges_and_contradictions() {
    insta::assert_snapshot!(told_each(&[
        "train: {batch_size: 0, keep_last: 0, threads: 0, label_smoothing: 1}",
        "augment: {blur_prob: -0.1, grayscale_prob: 2}",
        "augment: {multicrop_min_scale: 0.9, multicrop_max_scale: 0.5}",
        "augment: {weak_augment: true, strong_augment: true}",
        "augment: {byol_augment: true, num_augs: 3}",
        "text: {text_augment: true, synonym_replacement_prob: 0, random_swap_prob: 0, random_deletion_prob: 0}",
        "optim: {warmup_epochs: 30}",
        "cluster: {gpus_per_node: 0}",
        "cluster: {tasks_per_node: 9, device: cuda}",
        "cluster: {nodes: 4000000000, tasks_per_node: 4000000000}",
        "command: [python, train.py]",
        "command: []",
        "command: python",
    ]));
}

#[test]
fn what_cannot_be_said_to_slurm() {
    insta::assert_snapshot!(told_each(&[
        "cluster: {parition: low, qoss: x, time-limit: 3, mem_per_cpu: 4}",
        "cluster: {time: tomorrow}",
        "cluster: {time: 1:2:3:4}",
        "cluster: {time: 0}",
        "cluster: {time: }",
        "cluster: {time: 5}",
        "cluster: {time: 1, stop_grace_seconds: 55}",
        "cluster: {mem: lots}",
        "cluster: {mem: 400B}",
        "cluster: {mem: -1}",
        "cluster: {partition: ''}",
        "cluster: {partition: [low]}",
        "cluster:\n  account: \"a\\n#SBATCH --uid=0\"\n  qos: \"a\\0\"\n  comment: \"a\\rb\"",
        "cluster: {comment: rocket=abc}",
        "cluster: {use_volta32: true, constraint: 'a100|volta32gb'}",
        "cluster: {exclude: n1}",
        "cluster: {exclude: ['n[1-3]', 'n 4', '', n7, n7]}",
        "cluster: {mail_user: ada@example.org}",
        "cluster: {mail_type: [end, TIME_LIMIT_85]}",
        "cluster: {setup: ['module load cuda', ' #SBATCH --uid=0', \"a\\x07\"]}",
        "cluster: {setup: module load cuda}",
        "cluster: {env: {RANK: 1, SLURM_X: 2, 'a b': 3, 1A: 4, A: \"x\\ny\", B: }}",
        "cluster: {env: {WANDB_API_KEY: abc, MY_TOKEN: x, TOKENS: 3}}",
        "cluster: {env: {A.B: 1}}",
        "cluster: {env: [A]}",
        "cluster: {env: {OMP_NUM_THREADS: 4, LD_PRELOAD: x.so}}",
        "cluster: {secrets: [HF_TOKEN, HF_TOKEN, 'A=b', RANK]}",
        "cluster: {env: {A: 1}, secrets: [A]}",
        "cluster: {extra: {--exclusive: true, gpu_freq: high, Exclusive: true}}",
        "cluster: {extra: {output: x, part: low, no-requeue: true, mem-per-cpu: 4G, sig: x}, mem: 0}",
        "cluster: {extra: {exclusive: false, comm: x, switches: \"1\\n2\", nice: , licenses: [a]}}",
        "cluster: {extra: {gres: 'gpu:8'}}",
        "cluster: {extra: [exclusive]}",
        "cluster: {srun_extra: {kill-on-bad-exit: 0, cpu-bind: cores, --mpi: none}}",
        "cluster: {max_node_failures: -1, max_idle_time_limits: many, hang_minutes: 0}",
        "cluster: {requeue: no}",
        "cluster: {profile: ''}",
    ]));
}

#[test]
fn models() {
    let names = [
        "CL2L_R50_CL2P",
        "CL2L_R50",
        "cl2l_r50_cl2l",
        "SLIP_R50_CL2L",
        "CL2L_R51_CL2L",
        "CL2L_VITG14_CL2L",
        "CL2L_R50_CLIP",
        "CLIP_R50_CL2L",
        "CLIP_R50_BARLIP",
        "CL2L_R50_BARLIP",
        "CL2L_CNEXTT_CL2L",
        "CL2L_VITS16MOCO_CL2L",
        "CLIP_VITB32_CLIP",
        "CLIP_R50_SWALIPV1",
        "CL2L_VITB16AT384_SIAMLIP",
        "",
    ];
    let with = |model: &str| {
        let file = GOOD.replace("model:\n  name: CL2L_R50_CL2L\n", model);
        format!(
            "{}\n    {}",
            model.trim_end(),
            told(&file).trim_end().replace('\n', "\n    ")
        )
    };
    let named = names.map(|name| with(&format!("model: {{name: {name}}}\n")));
    let parts = [
        "",
        "model: {base: CL2L}",
        "model: {base: CL2L, vision: R50, child: CL2L}",
        "model: {base: CLIP, vision: R50, child: CL2L}",
        "model: {base: cl2l, vision: R50, child: CL2L}",
        "model: {base: CL2L, vision: R5O, child: CL2L}",
        "model: {base: CL2L, vision: CNEXTS, child: CL2L}",
        "model: {name: CL2L_R50_CL2L, vision: R50}",
        "model: {base: CL2L, vision: {arch: vit, width: 128, depth: 4, heads: 4, patch: 8, image_size: 32}, child: CL2L}",
        "model: {base: CL2L, vision: {arch: vit, width: 128, depth: 4, heads: 5, patch: 7, image_size: 32}, child: CL2L}",
        "model: {base: CL2L, vision: {arch: cnn, widht: 128, depth: deep, heads: 0, patch: 8}, child: CL2L}",
        "model: {base: CL2L, vision: {arch: vit, width: 128, depth: 4, heads: 4, patch: 8, image_size: 32, hidden: 0}, child: CL2L}",
        "model: {base: CL2L, vision: {arch: convnext, depths: [1, 1, 2, 1], widths: [8, 12, 16, 24], image_size: 32}, child: BARLIP}",
        "model: {base: CL2L, vision: {arch: convnext, depths: [1, 1, 2], widths: [8, 0, 16, 24], image_size: 16}, child: BARLIP}",
        "model: {base: CL2L, vision: {arch: convnxt, width: 3}, child: CL2L}",
        "model: {base: CL2L, vision: {arch: convnext, width: 3, depths: [0, 1, 1, 1], widths: [8, 12, 16, 24], image_size: 16}, child: CL2L}",
        "model: {base: CL2L, vision: [R50], child: CL2L}",
        "model: {base: CL2L, vision: 50, child: CL2L}",
        "model: {name: [CL2L_R50_CL2L]}",
        "model: {name: CL2L_R50_CL2L, transformer_heads: 7, vocab_size: 100, context_length: 32}",
        "model: {base: CL2L, vision: VITB16, child: CL2L}\naugment: {multicrop_resize: 96}",
    ];
    let parts = parts.map(|model| with(&format!("{model}\n")));
    insta::assert_snapshot!([named.as_slice(), &parts].concat().join("\n"));
}

/// A child whose loss cannot be what the file says.
#[test]
fn children_and_what_their_losses_rest_on() {
    let with = |name: &str, more: &str| {
        let file = GOOD.replace("model:\n  name: CL2L_R50_CL2L", name);
        let said = told(&format!("{file}{more}\n"));
        format!(
            "{name} {more}\n    {}",
            said.trim_end().replace('\n', "\n    ")
        )
    };
    let cases = [
        ("{name: CL2L_R50_SWALIP}", ""),
        ("{name: CL2L_R50_SWALIP}", "augment: {num_augs: 1}"),
        ("{name: CL2L_R50_SWALIP}", "train: {label_smoothing: 0.1}"),
        (
            "{name: CL2L_R50_SIAMLIP, momentum: true, momentum_tau: 0.9}",
            "",
        ),
        ("{name: CL2L_R50_SIAMLIP, momentum_tau: 0.9}", ""),
        ("{name: CLIP_R50_SWALIPV1, momentum: true}", ""),
        ("{name: CL2L_R50_BARLIP, momentum: true}", ""),
        ("{name: CL2L_R50_CL2L, momentum: true}", ""),
        ("{name: CLIP_R50_CLIP, detach_proj: true}", ""),
        (
            "{name: CLIP_R50_CLIP}",
            "train: {loss_avg_or_sum: sum, label_smoothing: 0.1}",
        ),
        ("{name: CL2L_R50_CL2L, detach_proj: true}", ""),
        (
            "{name: CL2L_R50_CL2L, detach_proj: true}",
            "augment: {num_augs: 0}",
        ),
        (
            "{name: CL2L_R50_BARLIP, siamlip_no_last_bn: true, barlip_proj_dim: 64}",
            "",
        ),
        (
            "{name: CL2L_R50_CL2L, separate_proj_child: true, barlip_proj_dim: 8192}",
            "train: {sk_iters: 5}",
        ),
        (
            "{name: CL2L_R50_SWALIP, swalip_num_proto: 10}",
            "train: {swalip_weight: 1, barlip_grad: corrected}",
        ),
        (
            "{name: CL2L_R50_CL2L, init_text_encoder: ''}",
            "train: {resume: $NOWHERE/x.pt}",
        ),
        ("{name: CL2L_R50_CL2L}", "train: {checkpoint_segments: 2}"),
        (
            "{name: CL2L_R50_CL2L}",
            "train: {checkpoint_grad: true, checkpoint_segments: 2, checkpoint_memory: 2 GB}",
        ),
        (
            "{name: CL2L_R50_CL2L}",
            "train: {checkpoint_grad: true, checkpoint_memory: lots, checkpoint_segments: 0}",
        ),
        (
            "{name: CL2L_R50_CL2L}",
            "train: {precision: half, disable_amp: true}",
        ),
        (
            "{name: CL2L_R50_CL2L, attn-layer: flash, semi_paired: true}",
            "",
        ),
    ];
    let told: Vec<String> = cases
        .iter()
        .map(|(name, more)| with(&format!("model: {name}"), more))
        .collect();
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn names_that_cannot_be_run_ids() {
    let names = [
        "''",
        "'a b'",
        "'../x'",
        "-x",
        "'$(rm)'",
        "\"a\\nb\"",
        "ü",
        "'a\"b'",
    ];
    let long = "x".repeat(101);
    let names = names.iter().copied().chain([long.as_str()]);
    let told: Vec<String> = names
        .map(|name| told(&GOOD.replace("demo", name)))
        .collect();
    insta::assert_snapshot!(told.concat());
}

#[test]
fn what_is_missing() {
    insta::assert_snapshot!(
        [
            "",
            "# nothing\n",
            "null\n",
            "name: demo\n",
            "name:\n",
            "name: x\ndata: {root: [a], metadata: ''}\n",
            "- a\n- b\n",
            "just text\n"
        ]
        .map(|text| format!("{text:?}\n{}", told(text)))
        .concat()
    );
}

#[test]
fn text_that_is_not_yaml() {
    let deep = format!("a: {}{}", "[".repeat(5000), "]".repeat(5000));
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..9 {
        let items = vec![format!("*a{}", level - 1); 10].join(", ");
        bomb.push_str(&format!("a{level}: &a{level} [{items}]\n"));
    }
    let files = [
        "name: demo\ntrain:\n\tepochs: 3\n",
        "name: [demo\n",
        "name: 'demo\n",
        "name: demo\n bad: 1\n",
        "name: demo\n---\nname: other\n",
        "name: &a [*a]\n",
        "name: *nobody\n",
        "? [a, b]\n: c\n",
        "name: demo\nname: other\nmodel: {name: CL2L_R50_CL2L, name: x}\n",
        "name: demo\u{0}\n",
    ];
    let mut told: Vec<String> = files
        .iter()
        .map(|text| format!("{text:?}\n{}", told(text)))
        .collect();
    told.push(format!("deep\n{}", self::told(&deep)));
    told.push(format!("bomb\n{}", self::told(&bomb)));
    insta::assert_snapshot!(told.concat());
}

#[test]
fn byte_order_marks_line_ends_and_aliases_are_read() {
    assert_eq!(told(&format!("\u{feff}{GOOD}")), "nothing\n");
    assert_eq!(told(&GOOD.replace('\n', "\r\n")), "nothing\n");
    assert_eq!(told(&format!("%YAML 1.2\n---\n{GOOD}")), "nothing\n");
    let with_mistake = format!("\u{feff}{GOOD}train: {{epohcs: 1}}\n").replace('\n', "\r\n");
    assert_eq!(
        told(&with_mistake),
        "exp.yaml:7:9: unknown key 'epohcs' in 'train'; did you mean 'epochs'?\n"
    );
    assert_eq!(
        told(&good_and("optim: {lr: &x 1e-3, lr_end: *x}\n")),
        "nothing\n"
    );
    assert_eq!(
        told(&good_and("optim: &o\n  lr: 1\ntrain: *o\n")),
        "exp.yaml:8:3: unknown key 'lr' in 'train'; did you mean 'optim.lr'?\n"
    );
}

#[test]
fn overrides() {
    let cases: &[&[&str]] = &[
        &["optim.lr=1e-2"],
        &["optim.lr=fast"],
        &["optim.lr"],
        &["optim.lrr=1"],
        &["lr=1"],
        &["=1"],
        &["optim..lr=1"],
        &["optim.lr=[1"],
        &["optim.lr="],
        &["optim.lr=1", "optim.lr=-1"],
        &["name.first=x"],
        &["optim=1"],
        &["optim={lr: 1, lr: 2}"],
        &["model.vision=R50"],
        &["data.root=$NOWHERE/x", "train.epochs=0"],
    ];
    let told: Vec<String> = cases
        .iter()
        .map(|set| {
            format!(
                "{}\n    {}",
                set.join(" "),
                told_with(GOOD, set).replace('\n', "\n    ")
            )
        })
        .collect();
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn variables_in_paths() {
    let files = [
        "$DATA/images",
        "${DATA}/images",
        "a$$b",
        "$NOWHERE/x",
        "${NOWHERE}",
        "${DATA",
        "a$",
        "$/x",
    ];
    let told: Vec<String> = files
        .iter()
        .map(|path| format!("{path}: {}", told(&GOOD.replace("images", path))))
        .collect();
    insta::assert_snapshot!(told.concat());
}

#[test]
fn nothing_that_anybody_types_ends_in_a_panic() {
    let whole =
        good_and("optim: {lr: 1e-3, betas: [0.9, 0.98]}\ntrain: {checkpoint_every: 5 minutes}\n");
    for end in 0..whole.len() {
        told(&whole[..end]);
        for insert in [
            "\t", ":", "[", "{", "'", "&a", "*a", "\u{0}", "-", "é", "?", "|", "!!str ",
        ] {
            told(&format!("{}{insert}{}", &whole[..end], &whole[end..]));
        }
    }
}
