//! What a run computed, and whether another computed the same to the bit.

use std::collections::BTreeMap;
use std::fs;

use rocket_common::checkpoint;
use rocket_common::error::{Error, Result};
use rocket_common::exit::ExitKind;
use rocket_common::run_dir::RunDir;
use serde_json::{Map, Value};

/// Fields of `metrics.jsonl` that tell of the machine and not of the numbers.
const MACHINE: [&str; 6] = [
    "samples_per_second",
    "wait_share",
    "wait_seconds",
    "bytes_read",
    "resident_bytes",
    "time",
];
/// The section of a checkpoint that tells of the run's course, with its times and attempts.
const COURSE: &str = "state";

/// What a run computed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Numbers {
    /// Losses, gradient norm and learning rate of each step as they were printed.
    pub steps: BTreeMap<u64, Map<String, Value>>,
    /// SHA-256 of weights and optimiser state in the last checkpoint, by section.
    pub sections: BTreeMap<String, String>,
}

impl Numbers {
    /// Reads them from a finished run.
    ///
    /// # Errors
    /// It has no whole checkpoint of its last step, or no metrics.
    pub fn read(run: &RunDir, last: u64) -> Result<Self> {
        // Read back against its checksums: what is compared is what is on the disk.
        let found = checkpoint::verify(&run.checkpoints_dir().join(checkpoint::dir_name(last)))?;
        let path = run.metrics_path();
        let text = fs::read_to_string(&path).map_err(|error| Error::io("read", &path, error))?;
        let steps = parse(&text);
        if steps.is_empty() {
            return Err(Error::new(
                ExitKind::Data,
                format!("'{}' holds no step", path.display()),
            ));
        }
        Ok(Self {
            steps,
            sections: found
                .manifest()
                .sections
                .iter()
                .filter(|section| section.name != COURSE)
                .map(|section| (section.name.clone(), section.sha256.clone()))
                .collect(),
        })
    }

    /// Where another run first differs from this one, in words.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Option<String> {
        for (step, wanted) in &self.steps {
            let Some(found) = other.steps.get(step) else {
                return Some(format!("step {step} is missing from metrics.jsonl"));
            };
            let differs = wanted
                .iter()
                .find(|(name, value)| found.get(*name) != Some(value));
            if let Some((name, wanted)) = differs {
                let found = found.get(name).unwrap_or(&Value::Null);
                return Some(format!(
                    "step {step}: {name} is {found} in place of {wanted}"
                ));
            }
            if let Some(name) = found.keys().find(|name| !wanted.contains_key(*name)) {
                return Some(format!("step {step}: {name} is new"));
            }
        }
        if let Some(step) = other
            .steps
            .keys()
            .find(|step| !self.steps.contains_key(step))
        {
            return Some(format!("step {step} is one too many"));
        }
        let names = self.sections.keys().chain(other.sections.keys());
        for name in names {
            if self.sections.get(name) != other.sections.get(name) {
                return Some(format!("'{name}' of the last checkpoint differs"));
            }
        }
        None
    }
}

/// Steps of training in `metrics.jsonl`. One that was done twice counts as it was done last.
fn parse(text: &str) -> BTreeMap<u64, Map<String, Value>> {
    text.lines()
        .filter_map(|line| {
            let Ok(Value::Object(mut fields)) = serde_json::from_str(line) else {
                return None;
            };
            if fields.get("kind").and_then(Value::as_str) == Some("eval") {
                return None;
            }
            let step = fields.get("step").and_then(Value::as_u64)?;
            MACHINE.iter().for_each(|name| {
                fields.remove(*name);
            });
            Some((step, fields))
        })
        .collect()
}

/// The last step in `metrics.jsonl`, 0 if there is none.
#[must_use]
pub(super) fn last_step(run: &RunDir) -> u64 {
    let text = fs::read_to_string(run.metrics_path()).unwrap_or_default();
    text.lines()
        .rev()
        .find_map(|line| {
            let fields: Value = serde_json::from_str(line).ok()?;
            fields.get("step")?.as_u64()
        })
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STRAIGHT: &str = r#"{"kind":"train","step":1,"loss":2.5,"lr":0.1,"samples_per_second":10.0}
{"kind":"train","step":2,"loss":2.25,"lr":0.2,"samples_per_second":11.0}
"#;

    fn numbers(text: &str, model: &str) -> Numbers {
        Numbers {
            steps: parse(text),
            sections: [("model".to_owned(), model.to_owned())].into(),
        }
    }

    #[test]
    fn machines_may_differ_and_numbers_may_not() {
        let straight = numbers(STRAIGHT, "aa");
        let slower = STRAIGHT.replace("11.0", "3.0");
        assert_eq!(straight.difference(&numbers(&slower, "aa")), None);
        let repeated = format!("{slower}{}", STRAIGHT.lines().last().unwrap());
        assert_eq!(straight.difference(&numbers(&repeated, "aa")), None);
        for (text, model, wanted) in [
            (
                STRAIGHT.replace("2.25", "2.2500001"),
                "aa",
                "step 2: loss is 2.2500001 in place of 2.25",
            ),
            (
                STRAIGHT.lines().next().unwrap().to_owned(),
                "aa",
                "step 2 is missing from metrics.jsonl",
            ),
            (
                format!("{STRAIGHT}{{\"kind\":\"train\",\"step\":3}}\n"),
                "aa",
                "step 3 is one too many",
            ),
            (
                STRAIGHT.replace("\"lr\":0.2,", ""),
                "aa",
                "step 2: lr is null in place of 0.2",
            ),
            (
                STRAIGHT.to_owned(),
                "bb",
                "'model' of the last checkpoint differs",
            ),
        ] {
            assert_eq!(
                straight.difference(&numbers(&text, model)).as_deref(),
                Some(wanted)
            );
        }
        let mut without = numbers(STRAIGHT, "aa");
        without.sections.clear();
        assert!(straight.difference(&without).is_some() && without.difference(&straight).is_some());
    }
}
