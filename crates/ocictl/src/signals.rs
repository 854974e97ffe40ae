//! The signals that a server is sent, and those by which other commands are interrupted.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

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

/// The exit codes of a process that SIGINT or SIGTERM has ended, as shells have them.
const INTERRUPTED: u8 = 130;
const TERMINATED: u8 = 143;

/// Tells when a command is asked to end before it is done: by SIGINT, as from Ctrl-C, or SIGTERM. A
/// second signal ends the process at once.
pub(crate) struct Interrupt(oneshot::Receiver<u8>);

impl Interrupt {
    /// Takes the signals from now on, in a thread of its own: they count whatever the command does,
    /// and while it cleans up.
    pub(crate) fn take() -> Result<Self, Failure> {
        let take = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let inside = runtime.enter();
            let mut interrupt = signal(SignalKind::interrupt())?;
            let mut terminate = signal(SignalKind::terminate())?;
            drop(inside);
            let (tell, told) = oneshot::channel();
            let mut next = async move || {
                tokio::select! {
                    _ = interrupt.recv() => INTERRUPTED,
                    _ = terminate.recv() => TERMINATED,
                }
            };
            std::thread::Builder::new().name("signals".into()).spawn(move || {
                runtime.block_on(async {
                    // Nobody waits any more if the command is done.
                    let _ = tell.send(next().await);
                    std::process::exit(next().await.into());
                });
            })?;
            io::Result::Ok(Self(told))
        };
        take().map_err(|error| Failure::new("listening for signals").because(error))
    }

    /// Does some work to its end; or else drops it when a signal comes, and gives the exit code for
    /// that.
    pub(crate) async fn or<T>(&mut self, work: impl Future<Output = T>) -> Result<T, u8> {
        tokio::select! {
            biased;
            Ok(code) = &mut self.0 => Err(code),
            done = work => Ok(done),
        }
    }
}
