//! TensorBoard's event files: `Event` messages (tensorflow `event.proto`, `summary.proto`, `tensor.proto`)
//! in TFRecord framing, which is, little-endian:
//!
//! ```text
//! u64 length | u32 masked CRC-32C of the length | bytes | u32 masked CRC-32C of the bytes
//! ```

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use prost::Message;

use super::records::Record;

/// What a file begins with. From version 2 on, readers drop what a [`EventFile::restart`] makes void.
const FILE_VERSION: &str = "brain.Event:2";

/// `SessionLog.SessionStatus.START`.
const START: i32 = 1;
/// `DataType.DT_STRING`.
const DT_STRING: i32 = 7;
/// `DataClass.DATA_CLASS_TENSOR`.
const DATA_CLASS_TENSOR: i32 = 2;

#[derive(Clone, PartialEq, Message)]
struct Event {
    /// Seconds since 1970.
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(oneof = "What", tags = "3, 5, 7")]
    what: Option<What>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum What {
    #[prost(string, tag = "3")]
    FileVersion(String),
    #[prost(message, tag = "5")]
    Summary(Summary),
    #[prost(message, tag = "7")]
    SessionLog(SessionLog),
}

#[derive(Clone, PartialEq, Message)]
struct SessionLog {
    #[prost(int32, tag = "1")]
    status: i32,
}

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<SummaryValue>,
}

#[derive(Clone, PartialEq, Message)]
struct SummaryValue {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(message, optional, tag = "9")]
    metadata: Option<Metadata>,
    #[prost(oneof = "Content", tags = "2, 8")]
    content: Option<Content>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Content {
    #[prost(float, tag = "2")]
    SimpleValue(f32),
    #[prost(message, tag = "8")]
    Tensor(TensorProto),
}

#[derive(Clone, PartialEq, Message)]
struct Metadata {
    #[prost(message, optional, tag = "1")]
    plugin_data: Option<PluginData>,
    #[prost(int32, tag = "4")]
    data_class: i32,
}

#[derive(Clone, PartialEq, Message)]
struct PluginData {
    #[prost(string, tag = "1")]
    plugin_name: String,
}

/// A vector of one text.
#[derive(Clone, PartialEq, Message)]
struct TensorProto {
    #[prost(int32, tag = "1")]
    dtype: i32,
    #[prost(message, optional, tag = "2")]
    tensor_shape: Option<Shape>,
    #[prost(bytes = "vec", repeated, tag = "8")]
    string_val: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
struct Shape {
    #[prost(message, repeated, tag = "2")]
    dim: Vec<Dim>,
}

#[derive(Clone, PartialEq, Message)]
struct Dim {
    #[prost(int64, tag = "1")]
    size: i64,
}

/// TFRecord's checksum: a CRC-32C, rotated and shifted, so that one over data that holds others is sound.
#[must_use]
pub fn masked_crc(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes)
        .rotate_right(15)
        .wrapping_add(0xa282_ead8)
}

/// One event file, written to its end.
#[derive(Debug)]
pub struct EventFile {
    path: PathBuf,
    file: File,
}

impl EventFile {
    /// Makes a new file.
    ///
    /// # Errors
    /// It is there already, or cannot be written.
    pub fn create(path: &Path, time: f64) -> io::Result<Self> {
        let file = OpenOptions::new()
            .append(true)
            .create_new(true)
            .open(path)?;
        let mut this = Self {
            path: path.to_owned(),
            file,
        };
        this.event(time, 0, What::FileVersion(FILE_VERSION.to_owned()))?;
        Ok(this)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Says that the run goes on at `step`: what earlier files have of this step and later ones is void.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn restart(&mut self, time: f64, step: u64) -> io::Result<()> {
        self.event(time, step, What::SessionLog(SessionLog { status: START }))
    }

    /// Writes a text, shown as Markdown.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn text(&mut self, time: f64, tag: &str, text: &str) -> io::Result<()> {
        let value = SummaryValue {
            tag: format!("{tag}/text_summary"),
            metadata: Some(Metadata {
                plugin_data: Some(PluginData {
                    plugin_name: "text".to_owned(),
                }),
                data_class: DATA_CLASS_TENSOR,
            }),
            content: Some(Content::Tensor(TensorProto {
                dtype: DT_STRING,
                tensor_shape: Some(Shape {
                    dim: vec![Dim { size: 1 }],
                }),
                string_val: vec![text.as_bytes().to_vec()],
            })),
        };
        let summary = Summary { value: vec![value] };
        self.event(time, 0, What::Summary(summary))
    }

    /// Writes scalars, as float32.
    ///
    /// # Errors
    /// The file cannot be written. What follows would not be read: go on in another file.
    pub fn scalars(&mut self, records: &[Record]) -> io::Result<()> {
        let mut bytes = Vec::new();
        for record in records {
            let value = record.values.iter().map(|(tag, value)| SummaryValue {
                tag: tag.clone(),
                metadata: None,
                content: Some(Content::SimpleValue(*value as f32)),
            });
            let summary = Summary {
                value: value.collect(),
            };
            frame(
                &mut bytes,
                record.time,
                record.step(),
                What::Summary(summary),
            );
        }
        self.file.write_all(&bytes)
    }

    /// Makes what was written durable.
    ///
    /// # Errors
    /// It cannot be made so.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// The open file.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    fn event(&mut self, time: f64, step: u64, what: What) -> io::Result<()> {
        let mut bytes = Vec::new();
        frame(&mut bytes, time, step, what);
        self.file.write_all(&bytes)
    }
}

fn frame(bytes: &mut Vec<u8>, time: f64, step: u64, what: What) {
    let event = Event {
        wall_time: time,
        step: i64::try_from(step).unwrap_or(i64::MAX),
        what: Some(what),
    }
    .encode_to_vec();
    let length = (event.len() as u64).to_le_bytes();
    bytes.extend(length);
    bytes.extend(masked_crc(&length).to_le_bytes());
    bytes.extend(&event);
    bytes.extend(masked_crc(&event).to_le_bytes());
}
