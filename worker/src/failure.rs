//! From an error to what people read, and to the exit code that tells the supervisor what to do.

use rocket_common::error::Error;
use rocket_common::exit::ExitKind;
use rocket_common::protocol::{EndRecord, Outcome};

use crate::data::LoadError;
use crate::data::source::SourceError;
use crate::eval::EvalError;
use crate::image::ViewsError;
use crate::model;
use crate::text::CaptionViewsError;

/// The kind of an error: the first in its chain that knows one.
#[must_use]
pub fn kind_of(error: &anyhow::Error) -> ExitKind {
    for cause in error.chain() {
        if let Some(error) = cause.downcast_ref::<Error>() {
            return error.kind();
        }
        if let Some(kind) = kind_of_room(cause) {
            return kind;
        }
    }
    ExitKind::Internal
}

/// What the rooms' own errors mean to the supervisor. A kind that is missing here is retried as if it
/// were a defect, so every error that a retry cannot mend belongs here.
fn kind_of_room(cause: &(dyn std::error::Error + 'static)) -> Option<ExitKind> {
    use tch_distributed::Error as Dist;

    // A peer can be lost within any operation whose gradient is a collective: tch keeps the text alone.
    let torch = cause.downcast_ref::<tch::TchError>();
    let torch = torch.map(|error| Dist::from_message(error.to_string()));
    if let Some(error) = cause.downcast_ref::<Dist>().or(torch.as_ref()) {
        return Some(match error {
            // Of the same batch every attempt would make the same.
            Dist::TooFewValues(_) => ExitKind::Experiment,
            error if error.is_fatal_for_group() => ExitKind::Distributed,
            _ => ExitKind::Internal,
        });
    }
    if let Some(error) = cause.downcast_ref::<EvalError>() {
        return Some(error.kind());
    }
    if let Some(error) = cause.downcast_ref::<LoadError>() {
        return Some(match error {
            LoadError::TooSmall { .. } => ExitKind::Experiment,
            LoadError::TooManyBad { .. } | LoadError::NoReplacement { .. } => ExitKind::Data,
            _ => ExitKind::Internal,
        });
    }
    if let Some(error) = cause.downcast_ref::<SourceError>() {
        return Some(match error {
            // Another node may reach it.
            SourceError::Stalled { .. }
            | SourceError::Thread { .. }
            | SourceError::Write { .. } => ExitKind::Internal,
            SourceError::Parts(_) => ExitKind::Experiment,
            _ => ExitKind::Data,
        });
    }
    if let Some(error) = cause.downcast_ref::<model::Error>() {
        return match error {
            model::Error::Load(_) => Some(ExitKind::Checkpoint),
            // What happened is in the source, further down the chain: a peer lost within a pass
            // is a lost peer.
            model::Error::Torch(_) | model::Error::Distributed(_) => None,
            model::Error::Unresolved(_)
            | model::Error::UnknownVision { .. }
            | model::Error::NotInThisVersion(_)
            | model::Error::Dimensions(_) => Some(ExitKind::Experiment),
        };
    }
    (cause.is::<ViewsError>() || cause.is::<CaptionViewsError>()).then_some(ExitKind::Experiment)
}

/// `error: <context>: <cause>` and a line for each hint.
#[must_use]
pub fn describe(error: &anyhow::Error) -> String {
    let mut text = format!("error: {}", sentence(error));
    for hint in hints(error) {
        text.push_str("\nhint: ");
        text.push_str(hint);
    }
    text
}

/// `<context>: <cause>`. What is behind an [`Error`] is in its words already.
fn sentence(error: &anyhow::Error) -> String {
    let mut words = Vec::new();
    for cause in error.chain() {
        words.push(cause.to_string());
        if cause.is::<Error>() {
            break;
        }
    }
    words.join(": ")
}

/// A rank's last words about an error after `step` steps.
#[must_use]
pub fn end_record(error: &anyhow::Error, step: u64) -> EndRecord {
    let hints: Vec<&str> = hints(error).map(String::as_str).collect();
    EndRecord {
        outcome: Outcome::Failed,
        kind: kind_of(error),
        step,
        stop: None,
        cause: Some(sentence(error)),
        hint: (!hints.is_empty()).then(|| hints.join("; ")),
    }
}

/// Whether the reader of our output went away, which is no error.
#[must_use]
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<std::io::Error>()
            .is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
    })
}

/// Makes a panic, which is a defect of ours, say so in a sentence.
pub fn print_panics_as_sentences() {
    std::panic::set_hook(Box::new(|info| {
        if crate::image::is_guarded() {
            return;
        }
        let message = info
            .payload()
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| info.payload().downcast_ref::<&str>().copied())
            .unwrap_or("no message");
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        eprintln!("error: internal error at {place}: {message}");
        eprintln!("hint: this is a defect of rocket-worker; please report it with the lines above");
    }));
}

fn hints(error: &anyhow::Error) -> impl Iterator<Item = &String> {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<Error>())
        .flat_map(Error::hints)
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn the_kind_and_the_hints_survive_context() {
        let error = Err::<(), _>(Error::new(ExitKind::Data, "no images").hint("mount the disk"))
            .context("cannot start")
            .expect_err("an error");
        assert_eq!(kind_of(&error), ExitKind::Data);
        assert_eq!(
            describe(&error),
            "error: cannot start: no images\nhint: mount the disk"
        );
        assert_eq!(
            end_record(&error, 3).hint.as_deref(),
            Some("mount the disk")
        );
    }

    #[test]
    fn a_reason_is_said_once() {
        let gone = std::io::Error::from(std::io::ErrorKind::NotFound);
        let error = Error::io("read", std::path::Path::new("list.tsv"), gone);
        let error = Err::<(), _>(error)
            .context("cannot start")
            .expect_err("an error");
        assert_eq!(
            describe(&error),
            "error: cannot start: cannot read 'list.tsv': no such file or directory"
        );
    }

    #[test]
    fn a_lost_peer_is_told_from_a_defect() {
        let lost = anyhow::Error::new(tch_distributed::Error::Timeout("rank 3".to_owned()));
        assert_eq!(kind_of(&lost), ExitKind::Distributed);
        assert_eq!(kind_of(&anyhow::anyhow!("?")), ExitKind::Internal);
        // Lost in a collective of a batch norm, that is within the model.
        let reset = tch_distributed::Error::Distributed("connection reset".to_owned());
        let within = anyhow::Error::new(model::Error::Distributed(reset));
        assert_eq!(kind_of(&within), ExitKind::Distributed);
        // Lost in the backward pass of a collective, of which tch hands on the text.
        let text = "distributed: [pair.cc:537] Read error: Connection reset by peer.";
        let torch = anyhow::Error::new(tch::TchError::Torch(text.to_owned()));
        assert_eq!(kind_of(&torch), ExitKind::Distributed);
        let shape = tch::TchError::Torch("shape '[2]' is invalid for input of size 3".to_owned());
        assert_eq!(kind_of(&anyhow::Error::new(shape)), ExitKind::Internal);
        let sizes = anyhow::Error::new(model::Error::Dimensions("heads".to_owned()));
        assert_eq!(kind_of(&sizes), ExitKind::Experiment);
        // One sample on one rank: each attempt would end in its first step.
        let one = tch_distributed::Error::TooFewValues("one value".to_owned());
        let within = anyhow::Error::new(model::Error::Distributed(one));
        assert_eq!(kind_of(&within), ExitKind::Experiment);
    }
}
