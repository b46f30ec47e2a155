//! `rocket doctor`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use rocket_common::error::{Error, Result};
use rocket_common::exit::ExitKind;

use crate::doctor::cluster::Cluster;
use crate::doctor::job::{self, Request};
use crate::doctor::{Examination, local, probe};
use crate::output::Format;
use crate::runs::Runs;
use crate::slurm::Client;

/// Say what this cluster and its file system will do to a run, and which settings suit it
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Also look at nodes, by a job of a few seconds
    #[arg(long)]
    job: bool,
    /// Partition of that job [default: the cluster's default]
    #[arg(long, requires = "job", value_name = "NAME")]
    partition: Option<String>,
    /// Account of that job
    #[arg(long, requires = "job", value_name = "NAME")]
    account: Option<String>,
    /// QOS of that job
    #[arg(long, requires = "job", value_name = "NAME")]
    qos: Option<String>,
    /// Nodes of that job
    #[arg(long, requires = "job", value_name = "N", default_value_t = 2,
          value_parser = clap::value_parser!(u32).range(1..=64))]
    nodes: u32,
    /// Seconds that the job may wait in the queue
    #[arg(long, requires = "job", value_name = "SECONDS", default_value_t = 300)]
    wait: u64,
    #[command(flatten)]
    format: Format,
    /// Probe this folder together with the others (started by doctor itself)
    #[arg(long, hide = true, value_name = "DIR")]
    probe: Option<PathBuf>,
    /// The trainer that a probe tries
    #[arg(long, hide = true, requires = "probe", value_name = "FILE")]
    probe_worker: Option<PathBuf>,
}

pub(crate) fn run(args: &Args, runs: &Runs) -> Result<ExitCode> {
    if let Some(dir) = &args.probe {
        let place = probe::Place::of_environment(dir)?;
        probe::run(&place, args.probe_worker.as_deref())?;
        return Ok(ExitCode::SUCCESS);
    }
    let root = runs.root()?;
    let rocket = std::env::current_exe()
        .map_err(|error| Error::io("find", Path::new("/proc/self/exe"), error))?;
    // Somebody waits for the answer.
    let client = Client::new(Duration::from_secs(15));
    let cluster = Cluster::ask(&client);
    if args.job && cluster.is_none() {
        return Err(Error::new(
            ExitKind::Usage,
            "there is no Slurm on this machine ('sbatch' is not on PATH), so no job can look at nodes",
        )
        .hint("run this on a login node, or without --job"));
    }
    let local = local::look(&root, &rocket, cluster.is_some());
    let job = (args.job && local.is_usable())
        .then(|| look_at_nodes(args, &client, cluster.as_ref(), &root, &rocket));
    let cron = format!(
        "*/10 * * * * {} --runs {} heal > /dev/null",
        quoted(&rocket),
        quoted(&root)
    );
    let examination = Examination::new(cluster, local, job, cron);
    args.format.print(&examination)?;
    Ok(if examination.works {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn look_at_nodes(
    args: &Args,
    client: &Client,
    cluster: Option<&Cluster>,
    root: &Path,
    rocket: &Path,
) -> job::JobView {
    let request = Request {
        nodes: args.nodes,
        partition: args.partition.clone(),
        account: args.account.clone(),
        qos: args.qos.clone(),
        wait: Duration::from_secs(args.wait),
    };
    let view = cluster.and_then(|cluster| cluster.partition(args.partition.as_deref()));
    job::run(client, &request, view, root, rocket)
}

/// For a crontab, where a percent sign begins the input.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@".contains(c);
    if text.chars().all(plain) {
        return text;
    }
    format!("'{}'", text.replace('\'', r"'\''").replace('%', r"\%"))
}
