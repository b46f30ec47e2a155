//! The chosen run in detail: curves, ranks, GPUs, the end of a log.

use std::path::PathBuf;

use rocket_common::error::Result;
use rocket_common::experiment::{DeviceKind, Experiment};
use rocket_common::host;
use rocket_common::protocol::{self, Phase};
use rocket_common::run_dir::RunDir;

use super::gpu::{self, Use};
use crate::view::{Growing, RunView, Series, log_tail, thin};

/// Lines of a log.
const LOG_LINES: usize = 200;
/// Points of a curve: more than a terminal has dots.
const POINTS: usize = 400;

/// What is shown of the chosen run.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Detail {
    pub(super) run: String,
    /// The rank that is looked at.
    pub(super) rank: u32,
    /// The most telling first.
    pub(super) curves: Vec<Curve>,
    pub(super) ranks: Vec<Rank>,
    /// What is known of GPUs, if not for each rank: why not.
    pub(super) gpus: Option<String>,
    /// Where the log is.
    pub(super) log_name: String,
    pub(super) log: Vec<String>,
    /// What cannot be read.
    pub(super) trouble: Option<String>,
}

/// A metric over steps.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Curve {
    pub(super) name: String,
    pub(super) points: Vec<(f64, f64)>,
}

/// A rank as its heartbeat tells.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Rank {
    pub(super) rank: u32,
    /// `None` if it has not spoken yet.
    pub(super) phase: Option<&'static str>,
    pub(super) step: u64,
    pub(super) resident_bytes: u64,
    pub(super) gpu: Option<Use>,
}

/// Reads details, one run after the other; remembers the curves of the last one.
#[derive(Debug, Default)]
pub(super) struct Reader {
    path: PathBuf,
    curves: Growing,
    /// Why there are no figures of GPUs, where that does not change while the run is looked at.
    no_gpus: Option<String>,
}

impl Reader {
    /// A look at a run.
    pub(super) fn read(&mut self, view: &RunView, rank: u32) -> Result<Detail> {
        let run = RunDir::open(&view.dir)?;
        if self.path != run.path() {
            *self = Self {
                path: run.path().to_path_buf(),
                no_gpus: Experiment::read(&run.experiment_path())
                    .ok()
                    .and_then(|experiment| without_gpus(&experiment)),
                ..Self::default()
            };
        }
        let (curves, trouble) = match self.curves.read(&run) {
            Ok(series) => (curves(series), None),
            Err(error) => (Vec::new(), Some(error.to_string())),
        };
        let (mut ranks, pids) = ranks(&run, view);
        let gpus = self.gpus(view, &mut ranks, &pids);
        let (log_name, log) = match view.attempt {
            Some(number) => {
                let path = run.attempt(number).log_path(rank);
                let name = format!("attempt {number} rank {rank}");
                let missing = || vec!["this rank has written nothing yet".to_owned()];
                let lines = Some(log_tail(&path, LOG_LINES)).filter(|lines| !lines.is_empty());
                (name, lines.unwrap_or_else(missing))
            }
            None => ("log".to_owned(), vec!["it was not started yet".to_owned()]),
        };
        Ok(Detail {
            run: view.run.clone(),
            rank,
            curves,
            ranks,
            gpus,
            log_name,
            log,
            trouble,
        })
    }

    /// Fills in what GPUs do; says why where that is not known. Nothing is guessed: a figure belongs to a
    /// rank only if its process is on the GPU.
    fn gpus(&self, view: &RunView, ranks: &mut [Rank], pids: &[Option<u32>]) -> Option<String> {
        if let Some(words) = &self.no_gpus {
            return Some(words.clone());
        }
        if view.status.is_settled() || ranks.is_empty() {
            return Some("no rank runs".into());
        }
        let here = host::name();
        let elsewhere = |nodes: &[String]| !nodes.is_empty() && !nodes.contains(&here);
        if elsewhere(&view.nodes) {
            return Some(format!(
                "its ranks run on {}: nvidia-smi is asked on this machine alone",
                view.nodes.join(", ")
            ));
        }
        let used = match gpu::ask() {
            Ok(used) => used,
            Err(words) => return Some(words),
        };
        for (rank, pid) in ranks.iter_mut().zip(pids) {
            rank.gpu = used.iter().find(|gpu| Some(gpu.pid) == *pid).cloned();
        }
        let none = ranks.iter().all(|rank| rank.gpu.is_none());
        none.then(|| "nvidia-smi knows no process of these ranks".into())
    }
}

fn without_gpus(experiment: &Experiment) -> Option<String> {
    let cluster = &experiment.cluster;
    if cluster.gpus_per_node == 0 {
        Some("it uses no GPUs (cluster.gpus_per_node: 0)".into())
    } else if cluster.device == DeviceKind::Cpu {
        Some("it uses no GPUs (cluster.device: cpu)".into())
    } else {
        None
    }
}

/// Every rank of the current attempt, and their processes.
fn ranks(run: &RunDir, view: &RunView) -> (Vec<Rank>, Vec<Option<u32>>) {
    let Some(attempt) = view.attempt.map(|number| run.attempt(number)) else {
        return (Vec::new(), Vec::new());
    };
    (0..view.world_size.unwrap_or_default())
        .map(|rank| {
            let beat = protocol::read_heartbeat(&attempt, rank).ok().flatten();
            let pid = beat.as_ref().map(|beat| beat.pid);
            let row = Rank {
                rank,
                phase: beat.as_ref().map(|beat| phase(beat.phase)),
                step: beat.as_ref().map_or(0, |beat| beat.step),
                resident_bytes: beat.as_ref().map_or(0, |beat| beat.resident_bytes),
                gpu: None,
            };
            (row, pid)
        })
        .unzip()
}

fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Starting => "starting",
        Phase::Training => "training",
        Phase::Evaluating => "evaluating",
        Phase::Saving => "saving",
        Phase::Ending => "ending",
    }
}

/// The loss, an accuracy, the throughput, then scores and all else.
fn curves(series: &Series) -> Vec<Curve> {
    // Of several accuracies one is enough for the first row.
    let accuracy = series.train.keys().find(|name| name.contains("acc"));
    let weight = |name: &String, is_eval: bool| match name.as_str() {
        "loss" => 0,
        _ if Some(name) == accuracy && !is_eval => 1,
        "samples_per_second" => 2,
        of if of.ends_with("z_top1") => 3,
        "epoch" => 6,
        _ if is_eval => 5,
        _ => 4,
    };
    let train = series
        .train
        .iter()
        .map(|(name, curve)| (name, curve, false));
    let eval = series.eval.iter().map(|(name, curve)| (name, curve, true));
    let mut all: Vec<_> = train
        .chain(eval)
        .filter(|(name, ..)| !name.contains("zh_"))
        .map(|(name, curve, is_eval)| (weight(name, is_eval), name, curve))
        .collect();
    all.sort_by_key(|(weight, name, _)| (*weight, *name));
    all.into_iter()
        .map(|(_, name, curve)| Curve {
            name: name.clone(),
            points: thin(curve, POINTS / 2)
                .into_iter()
                .filter(|(_, value)| value.is_finite())
                .map(|(step, value)| (step as f64, value))
                .collect(),
        })
        .collect()
}
