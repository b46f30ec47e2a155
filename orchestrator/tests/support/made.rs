//! Run directories made by hand, of the shape that supervisor and trainer leave.
#![allow(dead_code, missing_docs, reason = "each test file uses a part of it")]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;

/// A run to be written.
pub(crate) struct Made {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) seed: u64,
    pub(crate) lr: &'static str,
    /// Recorded steps; one line each.
    pub(crate) steps: u64,
    /// From this step on the loss is another.
    pub(crate) differs_from: Option<u64>,
    pub(crate) sweep: Option<(&'static str, u64)>,
    pub(crate) cause: Option<String>,
    pub(crate) commit: String,
    pub(crate) parent: String,
}

impl Made {
    pub(crate) fn new(id: &str) -> Self {
        let name = rocket_common::run_dir::name_of_run_id(id).unwrap_or(id);
        Self {
            id: id.to_owned(),
            name: name.to_owned(),
            seed: 0,
            lr: "0.001",
            steps: 200,
            differs_from: None,
            sweep: None,
            cause: None,
            commit: "1".repeat(40),
            parent: "2".repeat(40),
        }
    }

    /// Writes it below a folder of runs.
    pub(crate) fn write(&self, root: &Path) -> PathBuf {
        let dir = root.join(&self.id);
        for part in [
            "events",
            "attempts/000/ranks",
            "attempts/001/ranks",
            "checkpoints",
            "eval",
        ] {
            fs::create_dir_all(dir.join(part)).unwrap();
        }
        let mut manifest = json!({
            "schema": 1, "run_id": self.id, "name": self.name, "commit": self.commit,
            "parent_commit": self.parent, "experiment_sha256": "e".repeat(64), "recipe_hash": "1-0000000000000000",
            "bundle": {"dir": format!("/runs/bundles/{}", "b".repeat(16)), "files": {}},
            "created": "2026-01-01T10:00:00Z", "user": "ada", "host": "login1",
            "versions": {"rocket": "0.1.0", "libtorch": "2.13.0"}, "backend": "local",
            "experiment_path": "/home/ada/code/exp.yaml", "repo": "/home/ada/code",
        });
        if let Some((id, point)) = self.sweep {
            manifest["sweep"] =
                json!({"id": id, "point": point, "set": {"seed": self.seed.to_string()}});
        }
        fs::write(dir.join("run.json"), manifest.to_string()).unwrap();
        fs::write(dir.join("experiment.yaml"), self.experiment()).unwrap();
        fs::write(dir.join("events/supervisor.jsonl"), self.events()).unwrap();
        fs::write(dir.join("metrics.jsonl"), self.metrics()).unwrap();
        self.score(&dir);
        if self.cause.is_none() {
            fs::write(dir.join("DONE"), "").unwrap();
        }
        dir
    }

    fn experiment(&self) -> String {
        format!(
            "name: {}\nseed: {}\nmodel: {{base: CL2L, vision: R50, child: CL2L}}\ndata: {{dataset: cc3m, root: /data/cc3m, metadata: /data/cc3m.npy}}\naugment: {{num_augs: 2}}\noptim: {{lr: {}}}\ntrain: {{epochs: 4, batch_size: 32}}\ncluster: {{backend: local, nodes: 1, tasks_per_node: 2, gpus_per_node: 0}}\n",
            self.name, self.seed, self.lr
        )
    }

    fn events(&self) -> String {
        let last = self.steps;
        let half = last / 2;
        let mut events = vec![
            json!({"time": "2026-01-01T10:00:00Z", "event": "submitted", "backend": "local"}),
            json!({"time": "2026-01-01T10:01:00Z", "event": "attempt_started", "world_size": 2, "attempt": 0, "job": "41", "nodes": ["n1"]}),
            json!({"time": "2026-01-01T10:03:00Z", "event": "restored", "attempt": 0, "step": 0}),
            json!({"time": "2026-01-01T10:30:30Z", "event": "checkpoint", "attempt": 0, "step": half, "name": format!("step-{half:08}"), "seconds": 12.0, "bytes": 912_345_678}),
            json!({"time": "2026-01-01T10:31:00Z", "event": "preempted", "attempt": 0, "step": half, "cause": "Slurm wants the nodes"}),
            json!({"time": "2026-01-01T10:32:00Z", "event": "requeued", "attempt": 0, "step": half, "cause": "preempted"}),
            json!({"time": "2026-01-01T10:40:00Z", "event": "attempt_started", "world_size": 2, "attempt": 1, "job": "41", "nodes": ["n2"]}),
            json!({"time": "2026-01-01T10:41:30Z", "event": "restored", "attempt": 1, "step": half, "name": format!("step-{half:08}")}),
            json!({"time": "2026-01-01T11:10:00Z", "event": "evaluated", "attempt": 1, "step": last, "metrics": {"emoji/z_top1": 0.101, "emoji/z_top5": 0.27}}),
        ];
        events.push(match &self.cause {
            Some(cause) => json!({"time": "2026-01-01T11:11:00Z", "event": "failed", "exit": "experiment", "attempt": 1, "step": last, "cause": cause, "hint": "<b>look</b>"}),
            None => json!({"time": "2026-01-01T11:11:00Z", "event": "finished", "attempt": 1, "step": last}),
        });
        let lines: Vec<String> = events.iter().map(ToString::to_string).collect();
        lines.join("\n") + "\n"
    }

    /// Every step a line, as with `print_freq: 1`; an evaluation every quarter.
    fn metrics(&self) -> String {
        let mut text = String::new();
        let quarter = (self.steps / 4).max(1);
        for step in 1..=self.steps {
            let share = step as f64 / self.steps as f64;
            let mut noise = ((step * 7919 + self.seed * 104_729) % 1000) as f64 / 1000.0 - 0.5;
            if self.differs_from.is_some_and(|from| step >= from) {
                noise += 0.125;
            }
            let loss = 7.5 * (-3.0 * share).exp() + 1.2 + 0.25 * noise;
            let _ = writeln!(
                text,
                "{{\"kind\":\"train\",\"step\":{step},\"epoch\":{},\"loss\":{loss},\"clip_loss\":{},\"cl2l_loss\":{},\"clip_acc\":{},\"lr\":{},\"grad_norm\":{},\"samples_per_second\":{},\"wait_share\":0.02,\"bad_samples\":0,\"resident_bytes\":1234567890}}",
                4.0 * share,
                loss * 0.4,
                loss * 0.6,
                55.0 * share + 6.0 * noise,
                1e-3 * (1.0 - share),
                2.0 + noise,
                420.0 + 30.0 * noise,
            );
            if step % quarter == 0 {
                let top1 = 10.1 * share;
                let _ = writeln!(
                    text,
                    "{{\"kind\":\"eval\",\"step\":{step},\"epoch\":{},\"emoji/z_top1\":{top1},\"emoji/z_top5\":{},\"emoji/h_top1\":{},\"emoji/h_top5\":{},\"emoji/zh_0.5_top1\":{top1}}}",
                    4.0 * share,
                    2.6 * top1,
                    0.8 * top1,
                    2.2 * top1,
                );
            }
        }
        text
    }

    fn score(&self, dir: &Path) {
        let head = |head: &str, top1: f64| json!({"head": head, "top1": top1, "top5": 2.6 * top1, "mean_per_class": 0.9 * top1, "top1_count": 101, "top5_count": 270});
        let result = json!({
            "dataset": "emoji", "step": self.steps, "checkpoint": "last", "classes": 1911, "samples": 1000, "chance": 0.052,
            "metric": "accuracy", "matched": "name", "absent_classes": 0, "heads": [head("z", 10.1), head("h", 8.08)],
        });
        fs::write(
            dir.join(format!("eval/emoji-step-{:08}.json", self.steps)),
            result.to_string(),
        )
        .unwrap();
    }
}
