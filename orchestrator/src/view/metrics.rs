//! Reading `metrics.jsonl`: `{"kind": "train" | "eval", "step": n, <name>: <number>, ...}` a line.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind};

use rocket_common::error::{Error, Result};
use rocket_common::run_dir::RunDir;
use serde_json::Value;

/// A value of a step.
pub(crate) type Point = (u64, f64);

/// Curves by name, in the order of their steps.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Series {
    /// Of training.
    pub(crate) train: BTreeMap<String, Vec<Point>>,
    /// Of evaluations.
    pub(crate) eval: BTreeMap<String, Vec<Point>>,
    /// The last line of training, in its own order.
    pub(crate) last: Vec<(String, f64)>,
}

/// Reads the curves of a run. Torn lines are skipped; a step that was done twice, since a run went on
/// from an earlier checkpoint, counts as it was done last.
pub(crate) fn read(run: &RunDir) -> Result<Series> {
    let path = run.metrics_path();
    let failed = |error| Error::io("read", &path, error);
    let mut series = Series::default();
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(series),
        Err(error) => return Err(failed(error)),
    };
    for line in BufReader::new(file).split(b'\n') {
        series.add(&line.map_err(failed)?);
    }
    Ok(series)
}

impl Series {
    fn add(&mut self, line: &[u8]) {
        let Ok(Value::Object(fields)) = serde_json::from_slice(line) else {
            return;
        };
        let Some(step) = fields.get("step").and_then(Value::as_u64) else {
            return;
        };
        let train = fields.get("kind").and_then(Value::as_str) != Some("eval");
        let curves = if train {
            &mut self.train
        } else {
            &mut self.eval
        };
        let values: Vec<(String, f64)> = fields
            .iter()
            .filter(|(name, _)| !matches!(name.as_str(), "step" | "kind"))
            .filter_map(|(name, value)| Some((name.clone(), value.as_f64()?)))
            .collect();
        for (name, value) in &values {
            let curve = curves.entry(name.clone()).or_default();
            while curve.last().is_some_and(|(last, _)| *last >= step) {
                curve.pop();
            }
            curve.push((step, *value));
        }
        if train {
            self.last = values;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_done_again_count_once_and_torn_lines_not_at_all() {
        let mut series = Series::default();
        for line in [
            r#"{"kind":"train","step":1,"loss":3.0}"#,
            r#"{"kind":"train","step":2,"loss":2.0}"#,
            r#"{"kind":"train","step":3,"loss":1.0}"#,
            r#"{"kind":"train","st"#,
            r#"{"kind":"train","step":2,"loss":2.5,"lr":0.1}"#,
            r#"{"kind":"eval","step":2,"z_top1":0.2}"#,
        ] {
            series.add(line.as_bytes());
        }
        assert_eq!(series.train["loss"], [(1, 3.0), (2, 2.5)]);
        assert_eq!(series.eval["z_top1"], [(2, 0.2)]);
        assert_eq!(
            series.last,
            [("loss".to_owned(), 2.5), ("lr".to_owned(), 0.1)]
        );
    }
}
