//! What the page says of one run, in words.

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use super::Facts;
use super::scores::{self, ErrorTable, ScoreRow, ScoreTable};
use super::summary::{Summary, is_score};
use crate::goodput::Goodput;
use crate::pin;
use crate::view::{duration, event_line, number, thin, time};

/// Events that the page lists; of a run with more the last ones.
const EVENTS: usize = 300;
/// Values of a sparkline.
const SPARK: usize = 60;

/// One run on the page.
#[derive(Debug, Serialize)]
pub(super) struct RunSections {
    id: String,
    name: String,
    state: String,
    cause: Option<String>,
    hint: Option<String>,
    commit: String,
    submitted: String,
    started: String,
    ended: String,
    cards: Vec<Card>,
    /// Path of the loss in a box of 120 x 28.
    spark: Option<String>,
    loss: String,
    score: String,
    score_name: String,
    steps: String,
    rate: String,
    wall: String,
    /// Where the time went, once it is known.
    goodput: Option<GoodputSection>,
    attempts: Vec<AttemptRow>,
    events: Vec<EventRow>,
    events_left_out: usize,
    checkpoints: Vec<CheckpointRow>,
    score_tables: Vec<ScoreTable>,
    scores: Vec<ScoreRow>,
    errors: Vec<ErrorTable>,
    identity: Vec<(String, String)>,
    log: Vec<String>,
}

#[derive(Debug, Serialize)]
struct GoodputSection {
    /// In a sentence.
    words: String,
    uses: Vec<UseRow>,
}

#[derive(Debug, Serialize)]
struct UseRow {
    /// Its name, which is its colour.
    name: &'static str,
    words: &'static str,
    time: String,
    /// Share of the whole time, in percent.
    share: String,
}

#[derive(Debug, Serialize)]
struct Card {
    label: String,
    value: String,
    note: String,
}

#[derive(Debug, Serialize)]
struct AttemptRow {
    number: u32,
    started: String,
    lasted: String,
    ranks: u32,
    nodes: String,
    job: String,
    step: String,
    ending: String,
    cause: String,
}

#[derive(Debug, Serialize)]
struct EventRow {
    time: String,
    attempt: String,
    line: String,
}

#[derive(Debug, Serialize)]
struct CheckpointRow {
    name: String,
    created: String,
    size: String,
    attempt: String,
    scores: String,
    wrong: Option<String>,
}

pub(super) fn sections(facts: &Facts) -> RunSections {
    let view = &facts.view;
    let loss = facts.series.train.get("loss");
    let loss = loss.and_then(|curve| Summary::of("loss", curve, 50));
    let score = main_score(facts);
    let when = |moment: Option<Timestamp>| moment.map_or_else(dash, time);
    let left_out = facts.events.len().saturating_sub(EVENTS);
    let steps = match view.total_steps {
        Some(total) => format!("{} of {total}", view.step),
        None => view.step.to_string(),
    };
    RunSections {
        id: view.run.clone(),
        name: view.name.clone(),
        state: view.status.to_string(),
        cause: view.cause.clone(),
        hint: view.hint.clone(),
        commit: view.commit.clone(),
        submitted: when(view.submitted),
        started: when(view.started),
        ended: when(view.ended),
        cards: cards(facts, loss.as_ref(), score.as_ref(), &steps),
        spark: spark(facts),
        loss: loss.as_ref().map_or_else(dash, |loss| number(loss.last)),
        score: score
            .as_ref()
            .and_then(|(_, score)| Some(percent(score.best?)))
            .unwrap_or_else(dash),
        score_name: score.map(|(name, _)| name).unwrap_or_default(),
        steps: view.step.to_string(),
        rate: facts.throughput().map_or_else(dash, number),
        wall: facts.wall_seconds().map_or_else(dash, seconds),
        goodput: facts.goodput.as_ref().map(goodput),
        attempts: attempts(facts),
        events: facts.events[left_out..]
            .iter()
            .map(|event| EventRow {
                time: time(event.time),
                attempt: event.attempt.map(|n| n.to_string()).unwrap_or_default(),
                line: event_line(event),
            })
            .collect(),
        events_left_out: left_out,
        checkpoints: checkpoints(facts),
        score_tables: ScoreTable::all(&facts.results),
        scores: scores::rows(facts),
        errors: facts.details.iter().map(ErrorTable::of).collect(),
        identity: identity(facts),
        log: facts.log.clone(),
    }
}

/// The score that is shown where there is room for one: the first top-1 of head z.
fn main_score(facts: &Facts) -> Option<(String, Summary)> {
    let eval = &facts.series.eval;
    let first = eval
        .iter()
        .find(|(name, _)| name.ends_with("z_top1"))
        .or(eval.iter().find(|(name, _)| is_score(name)))?;
    Some((first.0.clone(), Summary::of(first.0, first.1, 1)?))
}

fn cards(
    facts: &Facts,
    loss: Option<&Summary>,
    score: Option<&(String, Summary)>,
    steps: &str,
) -> Vec<Card> {
    let mut cards = Vec::new();
    let mut card = |label: &str, value: String, note: String| {
        cards.push(Card {
            label: label.to_owned(),
            value,
            note,
        });
    };
    if let Some((name, score)) = score {
        let best = score.best.unwrap_or(score.last);
        card(
            "best score",
            percent(best),
            format!("{name} at step {}", score.best_step.unwrap_or_default()),
        );
        card(
            "last score",
            percent(score.last),
            format!("{name} at step {}", score.last_step),
        );
    }
    if let Some(loss) = loss {
        let best = loss.best.map_or_else(dash, number);
        let step = loss.best_step.unwrap_or_default();
        card(
            "last loss",
            number(loss.last),
            format!("best {best} at step {step}"),
        );
    }
    let epoch = facts
        .series
        .train
        .get("epoch")
        .and_then(|curve| curve.last());
    let epoch = epoch.map_or(String::new(), |(_, epoch)| format!("epoch {epoch:.2}"));
    card("steps", steps.to_owned(), epoch);
    if let Some(rate) = facts.throughput() {
        let ranks = facts.view.world_size.unwrap_or_default();
        let per_rank = number(rate / f64::from(ranks.max(1)));
        card(
            "samples/s",
            number(rate),
            format!("median; {per_rank} a rank, {ranks} ranks"),
        );
    }
    if let Some(goodput) = &facts.goodput {
        let on_nodes = 100.0 * goodput.share_on_nodes();
        card(
            "goodput",
            format!("{:.1} %", 100.0 * goodput.share()),
            format!("on nodes {on_nodes:.1} %"),
        );
    }
    if let Some(wall) = facts.wall_seconds() {
        let attempts = match facts.attempts.len() {
            1 => "1 attempt".to_owned(),
            n => format!("{n} attempts"),
        };
        card("wall time", seconds(wall), attempts);
    }
    cards
}

fn goodput(goodput: &Goodput) -> GoodputSection {
    let wall = goodput.wall();
    GoodputSection {
        words: format!(
            "{:.1} % of {} went into steps that count; of the time on nodes {:.1} %.",
            100.0 * goodput.share(),
            seconds(wall),
            100.0 * goodput.share_on_nodes()
        ),
        uses: goodput
            .uses()
            .map(|(of, time)| UseRow {
                name: of.name(),
                words: of.words(),
                time: seconds(time),
                share: format!("{:.1}", 100.0 * time / wall),
            })
            .collect(),
    }
}

fn attempts(facts: &Facts) -> Vec<AttemptRow> {
    facts
        .attempts
        .iter()
        .map(|attempt| {
            let lasted = attempt.started.duration_until(attempt.last_event);
            AttemptRow {
                number: attempt.number,
                started: time(attempt.started),
                lasted: seconds(lasted.as_secs_f64().max(0.0)),
                ranks: attempt.world_size,
                nodes: attempt.nodes.join(", "),
                job: attempt.job.clone().unwrap_or_else(dash),
                step: attempt.step.map_or_else(dash, |step| step.to_string()),
                ending: attempt.ending.as_deref().unwrap_or("-").replace('_', " "),
                cause: attempt.cause.clone().unwrap_or_default(),
            }
        })
        .collect()
}

fn checkpoints(facts: &Facts) -> Vec<CheckpointRow> {
    facts
        .checkpoints
        .iter()
        .map(|checkpoint| match &checkpoint.manifest {
            Ok(manifest) => CheckpointRow {
                name: checkpoint.name.clone(),
                created: time(manifest.created),
                size: bytes(manifest.bytes()),
                attempt: manifest.info.attempt.to_string(),
                scores: manifest
                    .info
                    .metrics
                    .iter()
                    .map(|(name, value)| format!("{name} {}", percent(value * 100.0)))
                    .collect::<Vec<_>>()
                    .join(", "),
                wrong: None,
            },
            Err(wrong) => CheckpointRow {
                name: checkpoint.name.clone(),
                created: dash(),
                size: dash(),
                attempt: dash(),
                scores: String::new(),
                wrong: Some(wrong.clone()),
            },
        })
        .collect()
}

/// What the run is, to the bit.
fn identity(facts: &Facts) -> Vec<(String, String)> {
    let manifest = &facts.manifest;
    let changes = if manifest.snapshot {
        " with the changes of the work tree"
    } else {
        ""
    };
    let mut rows = vec![
        ("commit", manifest.commit.clone()),
        ("ref", pin::ref_name(&manifest.run_id)),
        ("made from", format!("{}{changes}", manifest.parent_commit)),
        ("programs", facts.programs()),
        ("recipe", manifest.recipe_hash.clone()),
        ("experiment (SHA-256)", manifest.experiment_sha256.clone()),
        (
            "experiment file",
            manifest.experiment_path.display().to_string(),
        ),
        ("repository", manifest.repo.display().to_string()),
        ("run directory", facts.view.dir.display().to_string()),
        (
            "submitted by",
            format!("{}@{}", manifest.user, manifest.host),
        ),
        ("backend", format!("{:?}", manifest.backend).to_lowercase()),
    ];
    if let Some(ranks) = facts.view.world_size {
        rows.push(("ranks", ranks.to_string()));
    }
    if let Some(info) = facts
        .checkpoints
        .iter()
        .find_map(|c| Some(&c.manifest.as_ref().ok()?.info))
    {
        rows.push(("processor", info.processor.clone()));
        rows.push(("threads a rank", info.threads.to_string()));
    }
    let mut rows: Vec<(String, String)> = rows
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
    for (name, version) in &manifest.versions {
        rows.push((format!("version of {name}"), version.clone()));
    }
    rows
}

/// The loss as a small path.
fn spark(facts: &Facts) -> Option<String> {
    let curve = facts.series.train.get("loss")?;
    let points = thin(curve, SPARK / 2);
    let (first, last) = (points.first()?.0, points.last()?.0);
    let span = (last - first).max(1) as f64;
    let finite = || {
        points
            .iter()
            .map(|(_, value)| *value)
            .filter(|value| value.is_finite())
    };
    let (low, high) = (
        finite().fold(f64::MAX, f64::min),
        finite().fold(f64::MIN, f64::max),
    );
    let height = (high - low).max(f64::MIN_POSITIVE);
    let mut path = String::new();
    for (step, value) in points.iter().filter(|(_, value)| value.is_finite()) {
        let x = 2.0 + 116.0 * (step - first) as f64 / span;
        let y = 25.0 - 22.0 * (value - low) / height;
        path.push_str(&format!(
            "{}{x:.1} {y:.1}",
            if path.is_empty() { "M" } else { "L" }
        ));
    }
    (!path.is_empty()).then_some(path)
}

pub(super) fn percent(value: f64) -> String {
    format!("{value:.2} %")
}

fn seconds(seconds: f64) -> String {
    duration(Duration::from_secs_f64(seconds))
}

fn bytes(bytes: u64) -> String {
    match bytes {
        0..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.2} GB", bytes as f64 / 1e9),
    }
}

pub(super) fn dash() -> String {
    "-".to_owned()
}
