//! The messages of a `.wandb` file that are written here (field numbers of `wandb_internal.proto`).

use prost::Message;
use rocket_common::host;
use serde_json::Value;

use super::super::story::Story;

/// The oldest client that can read these records.
const MIN_CONSUMER: &str = "0.40.0";

#[derive(Clone, PartialEq, Message)]
pub(super) struct Record {
    /// Count of records, from 1.
    #[prost(int64, tag = "1")]
    pub(super) num: i64,
    #[prost(oneof = "RecordType", tags = "2, 3, 17, 18, 21, 26")]
    pub(super) what: Option<RecordType>,
    #[prost(message, optional, tag = "200")]
    pub(super) info: Option<RecordInfo>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(super) enum RecordType {
    #[prost(message, tag = "2")]
    History(HistoryRecord),
    #[prost(message, tag = "3")]
    Summary(SummaryRecord),
    #[prost(message, tag = "17")]
    Run(Box<RunRecord>),
    #[prost(message, tag = "18")]
    Exit(RunExitRecord),
    #[prost(message, tag = "21")]
    Header(HeaderRecord),
    #[prost(message, tag = "26")]
    Environment(Box<EnvironmentRecord>),
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct RecordInfo {
    #[prost(string, tag = "1")]
    pub(super) stream_id: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct HeaderRecord {
    #[prost(message, optional, tag = "1")]
    pub(super) version_info: Option<VersionInfo>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct VersionInfo {
    #[prost(string, tag = "1")]
    pub(super) producer: String,
    #[prost(string, tag = "2")]
    pub(super) min_consumer: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct RunRecord {
    #[prost(string, tag = "1")]
    pub(super) run_id: String,
    #[prost(string, tag = "2")]
    pub(super) entity: String,
    #[prost(string, tag = "3")]
    pub(super) project: String,
    #[prost(message, optional, tag = "4")]
    pub(super) config: Option<ConfigRecord>,
    #[prost(string, tag = "6")]
    pub(super) run_group: String,
    #[prost(string, tag = "8")]
    pub(super) display_name: String,
    #[prost(string, repeated, tag = "10")]
    pub(super) tags: Vec<String>,
    #[prost(string, tag = "13")]
    pub(super) host: String,
    #[prost(message, optional, tag = "17")]
    pub(super) start_time: Option<Time>,
    #[prost(message, optional, tag = "21")]
    pub(super) git: Option<GitRepoRecord>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct GitRepoRecord {
    #[prost(string, tag = "2")]
    pub(super) commit: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ConfigRecord {
    #[prost(message, repeated, tag = "1")]
    pub(super) update: Vec<ConfigItem>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ConfigItem {
    #[prost(string, tag = "1")]
    pub(super) key: String,
    #[prost(string, tag = "16")]
    pub(super) value_json: String,
}

impl ConfigItem {
    pub(super) fn new(key: &str, value: &Value) -> Self {
        Self {
            key: key.to_owned(),
            value_json: value.to_string(),
        }
    }
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct HistoryRecord {
    #[prost(message, repeated, tag = "1")]
    pub(super) item: Vec<HistoryItem>,
    #[prost(message, optional, tag = "2")]
    pub(super) step: Option<HistoryStep>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct HistoryStep {
    #[prost(int64, tag = "1")]
    pub(super) num: i64,
}

/// A name may hold dots and slashes: it is one key, as a path of one part.
#[derive(Clone, PartialEq, Message)]
pub(super) struct HistoryItem {
    #[prost(string, repeated, tag = "2")]
    pub(super) nested_key: Vec<String>,
    #[prost(string, tag = "16")]
    pub(super) value_json: String,
}

impl HistoryItem {
    pub(super) fn new(key: &str, value: &Value) -> Self {
        Self {
            nested_key: vec![key.to_owned()],
            value_json: value.to_string(),
        }
    }
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct SummaryRecord {
    #[prost(message, repeated, tag = "1")]
    pub(super) update: Vec<SummaryItem>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct SummaryItem {
    #[prost(string, repeated, tag = "2")]
    pub(super) nested_key: Vec<String>,
    #[prost(string, tag = "16")]
    pub(super) value_json: String,
}

impl SummaryItem {
    pub(super) fn new(key: &str, value: &Value) -> Self {
        Self {
            nested_key: vec![key.to_owned()],
            value_json: value.to_string(),
        }
    }
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct RunExitRecord {
    #[prost(int32, tag = "1")]
    pub(super) exit_code: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct EnvironmentRecord {
    #[prost(string, tag = "1")]
    os: String,
    #[prost(message, optional, tag = "3")]
    started_at: Option<Time>,
    #[prost(string, tag = "6")]
    program: String,
    #[prost(message, optional, tag = "9")]
    git: Option<GitRepoRecord>,
    #[prost(string, tag = "11")]
    root: String,
    #[prost(string, tag = "12")]
    host: String,
    #[prost(string, tag = "13")]
    username: String,
    #[prost(string, tag = "199")]
    writer_id: String,
}

/// `google.protobuf.Timestamp`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Time {
    #[prost(int64, tag = "1")]
    pub(super) seconds: i64,
    #[prost(int32, tag = "2")]
    pub(super) nanos: i32,
}

/// Seconds since 1970 as a message.
pub(super) fn timestamp(time: f64) -> Time {
    let seconds = time.floor();
    Time {
        seconds: seconds as i64,
        nanos: ((time - seconds) * 1e9) as i32,
    }
}

/// What a file begins with.
pub(super) fn header() -> HeaderRecord {
    HeaderRecord {
        version_info: Some(VersionInfo {
            producer: format!("rocket-{}", env!("CARGO_PKG_VERSION")),
            min_consumer: MIN_CONSUMER.to_owned(),
        }),
    }
}

/// Where the run was.
pub(super) fn environment(story: &Story, started: f64) -> EnvironmentRecord {
    EnvironmentRecord {
        os: std::env::consts::OS.to_owned(),
        started_at: Some(timestamp(started)),
        program: "rocket-worker".to_owned(),
        git: Some(GitRepoRecord {
            commit: story.commit.clone(),
        }),
        root: story.run.path().display().to_string(),
        host: host::name(),
        username: story.user.clone(),
        writer_id: story.run_id.clone(),
    }
}
