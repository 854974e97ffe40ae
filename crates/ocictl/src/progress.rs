//! Progress of a copy, on one line of a terminal.

use std::io::{IsTerminal as _, Write as _};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use oci_ref::{CopyEvent, OnCopyEvent};

use crate::copy::bytes;

/// How often the line changes at most.
const EVERY: Duration = Duration::from_millis(100);

/// What has been done so far. The line goes when it is dropped.
pub(crate) struct Progress(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    about: String,
    shown: Option<Instant>,
    running: usize,
    blobs: u64,
    manifests: u64,
    skipped: u64,
    bytes: u64,
}

impl Progress {
    /// Shows progress, if somebody sees it.
    pub(crate) fn start(quiet: bool) -> Option<Self> {
        (!quiet && std::io::stderr().is_terminal()).then(|| Self(Arc::default()))
    }

    /// What is shown before the numbers.
    pub(crate) fn about(&self, text: String) {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).about = text;
    }

    /// What a copy tells.
    pub(crate) fn handler(&self) -> OnCopyEvent {
        let state = self.0.clone();
        Arc::new(move |event| {
            let mut state = state.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            state.note(event);
            if state.shown.is_none_or(|shown| shown.elapsed() >= EVERY) {
                state.shown = Some(Instant::now());
                show(&state.line());
            }
        })
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        show("");
    }
}

impl State {
    fn note(&mut self, event: &CopyEvent<'_>) {
        match event {
            CopyEvent::Begun(_) => self.running += 1,
            CopyEvent::Bytes(_, count) => self.bytes += count,
            CopyEvent::Transferred(_) => {
                self.running = self.running.saturating_sub(1);
                self.blobs += 1;
            }
            CopyEvent::Written(_) => self.manifests += 1,
            CopyEvent::Skipped(_) | CopyEvent::Mounted(_) => self.skipped += 1,
            _ => {}
        }
    }

    fn line(&self) -> String {
        format!(
            "{}{} blobs ({}) and {} manifests copied, {} there, {} moving",
            self.about,
            self.blobs,
            bytes(self.bytes),
            self.manifests,
            self.skipped,
            self.running
        )
    }
}

/// Replaces the line. That it cannot be shown must not end a copy.
pub(crate) fn show(line: &str) {
    let _ = write!(std::io::stderr(), "\r\x1b[K{line}");
}
