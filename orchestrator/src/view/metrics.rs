//! Reading `metrics.jsonl`: `{"kind": "train" | "eval", "step": n, <name>: <number>, ...}` a line.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;

use rocket_common::error::{Error, Result};
use rocket_common::run_dir::RunDir;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};

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
    /// When steps of training were recorded, in seconds since 1970.
    pub(crate) recorded: Vec<Point>,
}

/// Reads the curves of a run. Torn lines are skipped; a step that was done twice, since a run went on
/// from an earlier checkpoint, counts as it was done last.
pub(crate) fn read(run: &RunDir) -> Result<Series> {
    let path = run.metrics_path();
    let failed = |error| Error::io("read", &path, error);
    let mut series = Series::default();
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(series);
        }
        Err(error) => return Err(failed(error)),
    };
    let mut reader = BufReader::with_capacity(1 << 18, file);
    let mut line = Vec::new();
    loop {
        line.clear();
        if reader.read_until(b'\n', &mut line).map_err(failed)? == 0 {
            return Ok(series);
        }
        series.add(&line);
    }
}

/// Curves of a run as they grow: only what is new is read. A file that was cut, since an attempt goes on
/// from an earlier step, is read anew.
#[derive(Debug, Default)]
pub(crate) struct Growing {
    series: Series,
    inode: u64,
    offset: u64,
}

impl Growing {
    /// The curves as they are now.
    pub(crate) fn read(&mut self, run: &RunDir) -> Result<&Series> {
        let path = run.metrics_path();
        let failed = |error| Error::io("read", &path, error);
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
            {
                *self = Self::default();
                return Ok(&self.series);
            }
            Err(error) => return Err(failed(error)),
        };
        let metadata = file.metadata().map_err(failed)?;
        if metadata.ino() != self.inode || metadata.len() < self.offset {
            *self = Self {
                inode: metadata.ino(),
                ..Self::default()
            };
        }
        file.seek(SeekFrom::Start(self.offset)).map_err(failed)?;
        let mut reader = BufReader::with_capacity(1 << 18, file);
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = reader.read_until(b'\n', &mut line).map_err(failed)?;
            if line.last() != Some(&b'\n') {
                // Half a line is read again when it is whole.
                return Ok(&self.series);
            }
            self.offset += read as u64;
            self.series.add(&line);
        }
    }
}

impl Series {
    /// Whether nothing was measured yet.
    pub(crate) fn is_empty(&self) -> bool {
        self.train.is_empty() && self.eval.is_empty()
    }

    /// The curve of a name, of training before evaluation.
    pub(crate) fn curve(&self, name: &str) -> Option<&Vec<Point>> {
        self.train.get(name).or_else(|| self.eval.get(name))
    }

    fn add(&mut self, line: &[u8]) {
        let Ok(Line {
            train,
            step: Some(step),
            time,
            values,
        }) = serde_json::from_slice(line)
        else {
            return;
        };
        let curves = if train {
            &mut self.train
        } else {
            &mut self.eval
        };
        for (name, value) in &values {
            // Looked up before it is inserted: a name is allocated once and not in every line.
            let curve = match curves.get_mut(name.as_ref()) {
                Some(curve) => curve,
                None => curves.entry(name.clone().into_owned()).or_default(),
            };
            while curve.last().is_some_and(|(last, _)| *last >= step) {
                curve.pop();
            }
            curve.push((step, *value));
        }
        if let (true, Some(time)) = (train, time) {
            while self.recorded.last().is_some_and(|(last, _)| *last >= step) {
                self.recorded.pop();
            }
            self.recorded.push((step, time));
        }
        if train {
            self.last.truncate(values.len());
            for (index, (name, value)) in values.into_iter().enumerate() {
                match self.last.get_mut(index) {
                    Some(old) if old.0 == name => old.1 = value,
                    Some(old) => *old = (name.into_owned(), value),
                    None => self.last.push((name.into_owned(), value)),
                }
            }
        }
    }
}

/// One line, read without a tree of values: a long run has a million of them.
struct Line<'a> {
    train: bool,
    step: Option<u64>,
    time: Option<f64>,
    values: Vec<(Cow<'a, str>, f64)>,
}

impl<'de> Deserialize<'de> for Line<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(LineVisitor)
    }
}

struct LineVisitor;

impl<'de> Visitor<'de> for LineVisitor {
    type Value = Line<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a line of metrics")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut line = Line {
            train: true,
            step: None,
            time: None,
            values: Vec::with_capacity(16),
        };
        while let Some(Name(name)) = map.next_key()? {
            match name.as_ref() {
                "kind" => line.train = map.next_value::<Name<'_>>()?.0 != "eval",
                // When it was, and not how it went.
                "time" => line.time = map.next_value::<Number>()?.0,
                "step" => line.step = map.next_value::<Number>()?.0.map(|step| step as u64),
                _ => {
                    if let Some(value) = map.next_value::<Number>()?.0 {
                        line.values.push((name, value));
                    }
                }
            }
        }
        Ok(line)
    }
}

/// A text, borrowed where it holds no escapes; anything else is an empty one.
struct Name<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = Name<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(V)
    }
}

/// A number, or nothing where there is something else: `null` stands for what is not finite.
struct Number(Option<f64>);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = Number;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }
            fn visit_f64<E>(self, value: f64) -> Result<Number, E> {
                Ok(Number(Some(value)))
            }
            fn visit_u64<E>(self, value: u64) -> Result<Number, E> {
                Ok(Number(Some(value as f64)))
            }
            fn visit_i64<E>(self, value: i64) -> Result<Number, E> {
                Ok(Number(Some(value as f64)))
            }
            fn visit_bool<E>(self, _: bool) -> Result<Number, E> {
                Ok(Number(None))
            }
            fn visit_str<E>(self, _: &str) -> Result<Number, E> {
                Ok(Number(None))
            }
            fn visit_unit<E>(self) -> Result<Number, E> {
                Ok(Number(None))
            }
            fn visit_seq<A: serde::de::SeqAccess<'de>>(
                self,
                mut seq: A,
            ) -> Result<Number, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Number(None))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Number, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Number(None))
            }
        }
        deserializer.deserialize_any(V)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_as_it_grows_and_anew_when_it_was_cut() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("r-01234567");
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join("run.json"), "").unwrap();
        let run = RunDir::open(&path).unwrap();
        let mut growing = Growing::default();
        let mut losses = |text: Option<&str>| {
            if let Some(text) = text {
                std::fs::write(run.metrics_path(), text).unwrap();
            }
            let series = growing.read(&run).unwrap();
            series.train.get("loss").cloned().unwrap_or_default()
        };
        assert_eq!(losses(None), []);
        let one = r#"{"step":1,"loss":3.0}"#;
        let two = r#"{"step":2,"loss":2.0}"#;
        assert_eq!(losses(Some(&format!("{one}\n{}", &two[..9]))), [(1, 3.0)]);
        assert_eq!(
            losses(Some(&format!("{one}\n{two}\n"))),
            [(1, 3.0), (2, 2.0)]
        );
        assert_eq!(losses(None), [(1, 3.0), (2, 2.0)]);
        assert_eq!(losses(Some(&format!("{one}\n"))), [(1, 3.0)]);
    }

    #[test]
    fn steps_done_again_count_once_and_torn_lines_not_at_all() {
        let mut series = Series::default();
        for line in [
            r#"{"kind":"train","step":1,"time":100.5,"loss":3.0}"#,
            r#"{"kind":"train","step":2,"time":101.5,"loss":2.0}"#,
            r#"{"kind":"train","step":3,"loss":1.0,"scale":null,"more":[1,{"a":2}]}"#,
            r#"{"kind":"train","st"#,
            r#"{"kind":"train","step":2,"loss":2.5,"lr":0.1}"#,
            r#"{"kind":"eval","step":2,"z_\u0074op1":0.2}"#,
            "[1]",
        ] {
            series.add(line.as_bytes());
        }
        assert_eq!(series.train["loss"], [(1, 3.0), (2, 2.5)]);
        assert_eq!(series.recorded, [(1, 100.5), (2, 101.5)]);
        assert_eq!(series.eval["z_top1"], [(2, 0.2)]);
        assert_eq!(series.train.len(), 2);
        assert_eq!(
            series.last,
            [("loss".to_owned(), 2.5), ("lr".to_owned(), 0.1)]
        );
    }
}
