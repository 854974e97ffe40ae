//! The signals that a server is sent.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::failure::Failure;

/// Signals by which a server is asked to end, and those that it outlives.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    /// Takes the signals from now on.
    pub(crate) fn take() -> Result<Self, Failure> {
        let take = || {
            io::Result::Ok(Self {
                interrupt: signal(SignalKind::interrupt())?,
                terminate: signal(SignalKind::terminate())?,
                hangup: signal(SignalKind::hangup())?,
            })
        };
        take().map_err(|error| Failure::new("listening for signals").because(error))
    }

    /// Waits until the process is asked to end: by SIGTERM, or by SIGINT as from Ctrl-C. There is
    /// nothing to do for SIGHUP, which terminals send when they close, and other programs' users to
    /// have a configuration read again.
    pub(crate) async fn end(&mut self) {
        loop {
            tokio::select! {
                _ = self.interrupt.recv() => return,
                _ = self.terminate.recv() => return,
                _ = self.hangup.recv() => {
                    tracing::warn!("SIGHUP: nothing to do; the server goes on");
                }
            }
        }
    }
}
