//! Waiting for the turn of a sweep's point where no scheduler makes it wait.

use std::time::Duration;

use rocket_common::error::Result;
use rocket_common::events::{self, Event, EventKind, Status};
use rocket_common::experiment::BackendKind;

use super::signals::{Asked, Signals};
use super::{Events, Left, Supervisor};
use crate::requests;
use crate::sweep::turn::{Running, Turn};

/// Between two tries.
const TRY: Duration = Duration::from_millis(500);

/// What came of waiting.
pub(super) enum Came {
    /// The turn, which is held as long as this; nothing if none was needed.
    Turn { _held: Option<Running> },
    /// The end of the run before it.
    End(Left),
}

impl Supervisor<'_> {
    /// Waits until the sweep that the run belongs to has room for it. On Slurm, Slurm has waited.
    pub(super) async fn turn(&self, events: &mut Events, signals: &mut Signals) -> Result<Came> {
        if self.manifest.backend != BackendKind::Local {
            return Ok(Came::Turn { _held: None });
        }
        let Some(mut turn) = Turn::wait(self.run, self.manifest.sweep.as_ref())? else {
            return Ok(Came::Turn { _held: None });
        };
        loop {
            if requests::cancelled(self.run).is_some() {
                // Whoever asked has said so already, unless it was by hand.
                let status = events::derive(&events::read(self.run)?).status;
                if status != Status::Cancelled {
                    events.add(Event::new(EventKind::Cancelled).cause("cancelled by the user"));
                }
                return Ok(Came::End(Left::Cancelled));
            }
            if let Some(held) = turn.try_now()? {
                return Ok(Came::Turn { _held: Some(held) });
            }
            tokio::select! {
                () = tokio::time::sleep(TRY) => {}
                asked = signals.next() => match asked {
                    Asked::Interrupt => {
                        requests::cancel(self.run, requests::Cancel { now: false })?;
                    }
                    Asked::Stop(reason) => {
                        events.add(Event::new(EventKind::Stopped { reason }));
                        return Ok(Came::End(Left::Queued));
                    }
                },
            }
        }
    }
}
