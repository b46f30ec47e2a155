//! Being asked to stop, by Ctrl-C or by SIGTERM.

use rocket_common::error::{Error, Result};
use rocket_common::exit::ExitKind;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Listens from now on.
pub(super) struct Interrupt {
    interrupt: Signal,
    terminate: Signal,
}

impl Interrupt {
    pub(super) fn listen() -> Result<Self> {
        let listen = |kind| {
            signal(kind).map_err(|error| {
                Error::new(
                    ExitKind::Internal,
                    format!("cannot listen for signals: {error}"),
                )
            })
        };
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
        })
    }

    /// Returns when we are asked to stop.
    pub(super) async fn asked(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
