//! Submissions: each hand-over of a run to the scheduler, numbered by a claim that only one can win.
//!
//! The intent is on the disk before the scheduler hears of it, with a token that the job carries: a
//! job whose submission was never confirmed (the client timed out, or died) is found by it, and a
//! job whose submission was given up finds that out itself when it starts.

use std::fs;
use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Claim, RunDir};
use crate::atomic;
use crate::error::{Error, Result};

/// `submissions/<n>.json`: a submission that is meant to happen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// Who submits. Its token is in the job's comment.
    pub claim: Claim,
    /// When, for people.
    pub time: Timestamp,
    /// Why: `submit`, `resume`, `heal`, ...
    pub why: String,
}

/// `submissions/<n>.job.json`: the scheduler's answer. Job numbers come again one day, so the time
/// and the cluster belong to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobRecord {
    /// The scheduler's cluster.
    #[serde(default)]
    pub cluster: String,
    /// The job.
    pub job: String,
    /// When it was known.
    pub time: Timestamp,
}

impl RunDir {
    /// Number of the highest submission.
    ///
    /// # Errors
    /// The directory cannot be read: nothing may then be concluded.
    pub fn highest_submission(&self) -> Result<Option<u32>> {
        let dir = self.submissions_dir();
        let failed = |error| Error::io("read", &dir, error);
        let entries = match fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(error) if atomic::is_absent(&error) => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let mut highest = None;
        for entry in entries {
            let name = entry.map_err(failed)?.file_name();
            let number = name.to_str().and_then(|name| name.strip_suffix(".json"));
            // `000.job` does not parse.
            highest = highest.max(number.and_then(|number| number.parse::<u32>().ok()));
        }
        Ok(highest)
    }

    /// Takes a submission's number; `false` if somebody else has it.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn claim_submission(&self, number: u32, intent: &Intent) -> Result<bool> {
        let dir = self.submissions_dir();
        fs::create_dir_all(&dir).map_err(|error| Error::io("create", &dir, error))?;
        atomic::create_json(&self.submission_file(number, "json"), intent)
    }

    /// What a submission was meant to be.
    ///
    /// # Errors
    /// It is there but cannot be read.
    pub fn intent(&self, number: u32) -> Result<Option<Intent>> {
        atomic::read_json_opt(&self.submission_file(number, "json"))
    }

    /// Notes the job of a submission; `false` if a job is noted already, which may be the same.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn record_job(&self, number: u32, record: &JobRecord) -> Result<bool> {
        atomic::create_json(&self.submission_file(number, "job.json"), record)
    }

    /// The job of a submission, if it is known.
    ///
    /// # Errors
    /// It is there but cannot be read.
    pub fn job_of(&self, number: u32) -> Result<Option<JobRecord>> {
        atomic::read_json_opt(&self.submission_file(number, "job.json"))
    }

    /// `submissions/<n>.sbatch`: the script of a submission.
    #[must_use]
    pub fn submission_script_path(&self, number: u32) -> PathBuf {
        self.submission_file(number, "sbatch")
    }

    fn submission_file(&self, number: u32, extension: &str) -> PathBuf {
        self.submissions_dir()
            .join(format!("{number:03}.{extension}"))
    }
}
