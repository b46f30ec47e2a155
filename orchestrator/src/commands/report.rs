//! `rocket report`.

use std::path::PathBuf;
use std::process::ExitCode;

use rocket_common::atomic;
use rocket_common::error::{Error, Result};
use rocket_common::exit::ExitKind;

use crate::backend::Backends;
use crate::runs::Runs;
use crate::{output, report};

/// Write a page about runs: curves, scores, history, configuration, code; one file, which works offline
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Runs, sweeps, or patterns such as 'cl2l-*'
    #[arg(value_name = "RUN", required = true)]
    queries: Vec<String>,
    /// The page to write
    #[arg(short, long, value_name = "FILE", default_value = "report.html")]
    output: PathBuf,
    /// Title of the page [default: the run, or how many there are]
    #[arg(long, value_name = "TEXT")]
    title: Option<String>,
    /// Print the curves' data as JSON, and write no page
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args, runs: &Runs) -> Result<ExitCode> {
    let backends = Backends::default();
    let mut facts = Vec::new();
    let found = report::select(runs, &args.queries)?;
    for run in &found {
        match report::Facts::read(run, &backends) {
            Ok(read) => facts.push(read),
            // One damaged run must not hide the others.
            Err(error) if found.len() > 1 => eprintln!("warning: run {}: {error}", run.id()),
            Err(error) => return Err(error),
        }
    }
    if facts.is_empty() {
        return Err(Error::new(
            ExitKind::Usage,
            "none of these runs can be read".to_owned(),
        ));
    }
    let data = report::data(&facts);
    if args.json {
        let text = serde_json::to_string(&data)
            .map_err(|error| Error::new(ExitKind::Internal, error.to_string()))?;
        output::print(&format!("{text}\n"))?;
        return Ok(ExitCode::SUCCESS);
    }
    let title = args.title.clone().unwrap_or_else(|| match &facts[..] {
        [one] => one.view.run.clone(),
        many => match &args.queries[..] {
            [query] => format!("{query}: {} runs", many.len()),
            _ => format!("{} runs", many.len()),
        },
    });
    let page = report::render(&title, &facts, &data)?;
    atomic::write(&args.output, page.as_bytes())?;
    output::print(&format!("{}\n", args.output.display()))?;
    Ok(ExitCode::SUCCESS)
}
