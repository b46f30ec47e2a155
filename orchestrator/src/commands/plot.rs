//! `rocket plot`.

use std::path::PathBuf;
use std::process::ExitCode;

use rocket_common::error::{Error, Result};
use rocket_common::exit::ExitKind;

use crate::backend::Backends;
use crate::report::{self, PlotOptions};
use crate::runs::Runs;
use crate::view::Axis;
use crate::{output, view};

/// Draw curves of runs, as PNG or SVG
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Runs, sweeps, or patterns such as 'cl2l-*'
    #[arg(value_name = "RUN", required = true)]
    queries: Vec<String>,
    /// The picture to write; its ending, .png or .svg, decides its form
    #[arg(short, long, value_name = "FILE", default_value = "curves.png")]
    output: PathBuf,
    /// A metric to draw, or a pattern such as '*top1'; one panel each [default: the loss and the scores]
    #[arg(short, long = "metric", value_name = "NAME")]
    metrics: Vec<String>,
    /// What the curves are drawn over
    #[arg(short, long, value_enum, default_value_t = Axis::Step)]
    x: Axis,
    /// Smooth with this weight of the past, from 0 to below 1; the curves as they are stay visible behind
    #[arg(long, value_name = "WEIGHT", default_value_t = 0.0)]
    smooth: f64,
    /// A logarithmic axis of values
    #[arg(long)]
    log: bool,
    /// Draw runs that differ only in their seed as their mean, in a band of one standard deviation
    #[arg(long)]
    group: bool,
    /// Print the data of the picture as JSON, and draw nothing
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args, runs: &Runs) -> Result<ExitCode> {
    if !(0.0..1.0).contains(&args.smooth) {
        return Err(Error::new(
            ExitKind::Usage,
            format!("--smooth {} is not a weight from 0 to below 1", args.smooth),
        )
        .hint("0.9 smooths a little, 0.99 much"));
    }
    let form = view::Form::of(&args.output)?;
    let found = report::select(runs, &args.queries)?;
    let backends = Backends::default();
    let facts = found
        .iter()
        .map(|run| report::Facts::read(run, &backends))
        .collect::<Result<Vec<_>>>()?;
    if facts.iter().all(|facts| facts.series.is_empty()) {
        let (what, id) = match &facts[..] {
            [one] => (format!("run {} has", one.view.run), one.view.run.as_str()),
            _ => ("these runs have".to_owned(), ""),
        };
        return Err(
            Error::new(ExitKind::Usage, format!("{what} no metrics yet"))
                .hint(format!("rocket status {id}").trim_end().to_owned()),
        );
    }
    let picture = report::picture(
        &facts,
        &PlotOptions {
            metrics: &args.metrics,
            axis: args.x,
            smooth: args.smooth,
            log: args.log,
            group: args.group,
        },
    )?;
    if args.json {
        let text = serde_json::to_string(&picture)
            .map_err(|error| Error::new(ExitKind::Internal, error.to_string()))?;
        output::print(&format!("{text}\n"))?;
        return Ok(ExitCode::SUCCESS);
    }
    view::plot(&picture, form, &args.output)?;
    output::print(&format!("{}\n", args.output.display()))?;
    Ok(ExitCode::SUCCESS)
}
