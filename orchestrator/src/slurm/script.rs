//! Batch scripts, rendered from the templates of `templates/`, which are compiled in.

use std::path::Path;

use minijinja::{Value, context};
use rocket_common::error::{Error, Result};
use rocket_common::exit::ExitKind;
use rocket_common::experiment::Cluster;

pub use super::describe::describe;

use super::quote;

const JOB: &str = include_str!("../../../templates/job.sbatch.j2");
const SUCCESSOR: &str = include_str!("../../../templates/successor.sbatch.j2");

/// The largest script that Slurm takes.
const LARGEST: usize = 4 << 20;

/// Variables that a job is given from where it was submitted.
pub const EXPORTED: [&str; 8] = [
    "HOME",
    "LANG",
    "LOGNAME",
    "PATH",
    "SHELL",
    "SLURM_CONF",
    "TZ",
    "USER",
];

/// What stays besides in a job's environment: what Slurm, its prologs and the shell set.
const KEPT: [&str; 11] = [
    "SLURM*", "CUDA_*", "GPU_*", "ROCR_*", "ZE_*", "NVIDIA_*", "TMPDIR", "HOSTNAME", "PWD",
    "SHLVL", "_",
];

/// The batch script of one submission of a run.
#[derive(Debug, Clone)]
pub struct Script<'a> {
    /// What Slurm is asked for.
    pub cluster: &'a Cluster,
    /// The run, which names the job.
    pub run_id: &'a str,
    /// Names the job instead: of all jobs of one lane, Slurm runs one at a time.
    pub lane: Option<&'a str>,
    /// Its directory, absolute.
    pub run_dir: &'a Path,
    /// The pinned `rocket`, absolute.
    pub rocket: &'a Path,
    /// Number of the submission.
    pub submission: u32,
    /// By what the job is found again.
    pub token: &'a str,
    /// Nodes to stay away from, besides those that the experiment excludes.
    pub exclude: &'a [String],
}

/// The batch script of the small job that waits for a run's job and heals the run.
#[derive(Debug, Clone)]
pub struct Successor<'a> {
    /// What Slurm was asked for.
    pub cluster: &'a Cluster,
    /// The run.
    pub run_id: &'a str,
    /// Its directory, absolute.
    pub run_dir: &'a Path,
    /// The pinned `rocket`, absolute.
    pub rocket: &'a Path,
    /// The job that it waits for.
    pub after: u64,
    /// By what it is found again; stands in its comment as `rocket-successor=<token>`.
    pub token: &'a str,
}

/// The script of a submission.
///
/// # Errors
/// Kind [`ExitKind::Experiment`]: a value cannot be said in a script, named by its key; or the
/// script is larger than Slurm takes.
pub fn render(script: &Script<'_>) -> Result<String> {
    let cluster = script.cluster;
    let options: Vec<String> = cluster
        .extra
        .iter()
        .map(|(name, flag)| flag.option(name))
        .collect();
    let mut exclude = cluster.exclude.clone();
    for node in script.exclude {
        if !exclude.contains(node) {
            exclude.push(node.clone());
        }
    }
    let exclude = exclude.join(",");
    let constraint = cluster.features();
    // Where the name does not say it, the comment says which run it is.
    let words = [
        script.lane.map(|_| script.run_id),
        cluster.comment.as_deref(),
        Some(&format!("rocket={}", script.token)),
    ];
    let comment = words.into_iter().flatten().collect::<Vec<_>>().join(" ");
    let mail: Vec<&str> = cluster.mail_type.iter().map(|kind| kind.word()).collect();
    let run_dir = path_text("the run directory", script.run_dir)?;
    let rocket = path_text("the pinned program", script.rocket)?;
    let mut texts = vec![
        ("cluster.comment", comment.as_str()),
        ("cluster.exclude", exclude.as_str()),
        ("the run directory", run_dir),
        ("the pinned program", rocket),
        ("the run's name", script.run_id),
    ];
    // What the first submission waited for has happened, and Slurm forgets jobs: a later submission that
    // named them would be refused.
    let dependency = cluster
        .dependency
        .as_deref()
        .filter(|_| script.submission == 0);
    let dependency = join_dependencies(dependency, script.lane.is_some())?;
    let named = [
        ("cluster.partition", cluster.partition.as_deref()),
        ("cluster.account", cluster.account.as_deref()),
        ("cluster.qos", cluster.qos.as_deref()),
        ("cluster.constraint", constraint.as_deref()),
        ("cluster.reservation", cluster.reservation.as_deref()),
        ("cluster.dependency", dependency.as_deref()),
        ("cluster.mail_user", cluster.mail_user.as_deref()),
    ];
    texts.extend(
        named
            .into_iter()
            .filter_map(|(key, text)| Some((key, text?))),
    );
    texts.extend(
        options
            .iter()
            .map(|option| ("cluster.extra", option.as_str())),
    );
    for (key, text) in texts {
        quote::directive(text).map_err(|wrong| unsayable(key, &wrong))?;
    }
    for (name, value) in &cluster.env {
        quote::shell(value).map_err(|wrong| unsayable(&format!("cluster.env.{name}"), &wrong))?;
    }
    let kept: Vec<&str> = EXPORTED.iter().chain(&KEPT).copied().collect();
    let env: Vec<(&String, &String)> = cluster.env.iter().collect();
    fill(
        "job.sbatch.j2",
        JOB,
        context! {
            run_id => script.run_id,
            job_name => script.lane.unwrap_or(script.run_id),
            run_dir,
            rocket,
            submission => script.submission,
            nodes => cluster.nodes,
            tasks_per_node => cluster.ranks_per_node(),
            cpus_per_task => cluster.cpus_per_task,
            gpus_per_node => cluster.gpus_per_node,
            mem => cluster.mem.as_ref().map(ToString::to_string),
            time => cluster.time.as_ref().map(ToString::to_string),
            partition => cluster.partition,
            account => cluster.account,
            qos => cluster.qos,
            constraint,
            reservation => cluster.reservation,
            exclude,
            dependency,
            mail_type => mail.join(","),
            mail_user => cluster.mail_user,
            extra => options,
            comment,
            requeue => cluster.requeue,
            signal_seconds => cluster.signal_seconds(),
            exported => EXPORTED.join(","),
            kept => kept.join("|"),
            env,
            setup => cluster.setup,
        },
    )
}

/// What a job waits for: what it is told to, and in a lane all jobs of its name before it.
///
/// # Errors
/// Slurm knows "all of these" or "any of these", and not both together.
pub(crate) fn join_dependencies(given: Option<&str>, lane: bool) -> Result<Option<String>> {
    const SINGLETON: &str = "singleton";
    match (given, lane) {
        (given, false) => Ok(given.map(str::to_owned)),
        (None, true) => Ok(Some(SINGLETON.to_owned())),
        (Some(given), true) if given.contains('?') => Err(Error::new(
            ExitKind::Experiment,
            format!(
                "'cluster.dependency' is '{given}', any of several, which Slurm cannot join with 'max_running' of the sweep"
            ),
        )
        .hint("write all that are to be waited for, with commas")),
        (Some(given), true) => Ok(Some(format!("{given},{SINGLETON}"))),
    }
}

/// The script of a successor.
///
/// # Errors
/// As [`render`].
pub fn render_successor(successor: &Successor<'_>) -> Result<String> {
    let cluster = successor.cluster;
    fill(
        "successor.sbatch.j2",
        SUCCESSOR,
        context! {
            run_id => successor.run_id,
            job_name => format!("{}-successor", successor.run_id),
            run_dir => path_text("the run directory", successor.run_dir)?,
            rocket => path_text("the pinned program", successor.rocket)?,
            after => successor.after,
            partition => cluster.partition,
            account => cluster.account,
            qos => cluster.qos,
            reservation => cluster.reservation,
            comment => format!("rocket-successor={}", successor.token),
            exported => EXPORTED.join(","),
        },
    )
}

fn fill(name: &str, template: &str, values: Value) -> Result<String> {
    let text = quote::environment()
        .render_named_str(name, template, values)
        .map_err(|error| {
            let wrong = error.detail().unwrap_or("it cannot be rendered");
            Error::new(ExitKind::Experiment, format!("no batch script: {wrong}"))
        })?;
    if text.len() > LARGEST {
        let megabytes = text.len() as f64 / f64::from(1 << 20);
        return Err(Error::new(
            ExitKind::Experiment,
            format!("the batch script has {megabytes:.1} MB, and Slurm takes 4"),
        )
        .hint("put what 'cluster.setup' does into a file, and source that"));
    }
    Ok(text)
}

fn path_text<'a>(what: &str, path: &'a Path) -> Result<&'a str> {
    path.to_str().ok_or_else(|| {
        let shown = path.display();
        Error::new(
            ExitKind::Usage,
            format!(
                "{what}, '{shown}', has a name that is not UTF-8, which no batch script can say"
            ),
        )
    })
}

fn unsayable(key: &str, wrong: &str) -> Error {
    let message = format!("{key}: {wrong}, which no batch script can say");
    Error::new(ExitKind::Experiment, message)
}
