//! Looking through a data set before it is trained on: what is missing, broken, cut short, tiny, twice
//! there or without words, and how fast it can be read.

mod examine;
mod letters;
mod looks;
mod repeats;
mod report;
mod scan;
mod sheet;
mod times;

pub use examine::Problem;
pub use report::{CheckReport, ProblemReport, ProblemSample, Throughput};
pub use scan::{CheckOptions, Stage};
pub use sheet::Sheet;

use super::source::Source;

/// Looks at all samples of a data set, or at some. Memory: about 36 bytes a sample, and what
/// may be held of pictures at one time. `say` is told now and then how far it is.
pub fn check(
    dataset: &str,
    source: &dyn Source,
    options: CheckOptions,
    mut say: impl FnMut(Stage) + Send,
) -> CheckReport {
    let found = scan::scan(source, options, &mut say);
    CheckReport::new(dataset, source, options, found)
}
