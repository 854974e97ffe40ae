//! What an import has done, and what it could not do.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use oci_ref::{CopyEvent, OnCopyEvent, Siblings};
use oci_spec_types::{Digest, Name, Tag};
use serde_json::{Value, json};

use crate::cli::ImportArgs;
use crate::copy::{bytes, counted, were};
use crate::failure::Failure;
use crate::output;
use crate::progress::{self, Progress};

/// Of how many blobs it is remembered which repository has them: some 20 MB.
const REMEMBERED: usize = 100_000;

pub(super) struct Tally {
    state: Arc<Mutex<State>>,
    progress: Option<Progress>,
    json: bool,
    dry_run: bool,
}

#[derive(Default)]
struct State {
    repositories: usize,
    all: usize,
    manifests: u64,
    blobs: u64,
    bytes: u64,
    mounted: u64,
    skipped: u64,
    left_out: u64,
    problems: u64,
    /// A repository of the destination that has a blob.
    seen: HashMap<Digest, Name>,
}

impl State {
    fn note(&mut self, event: &CopyEvent<'_>, repository: &Name, dry_run: bool) {
        let blob = match event {
            // What would be mounted, if it were there.
            CopyEvent::Transferred(blob) if dry_run && self.seen.contains_key(&blob.digest) => {
                self.mounted += 1;
                return;
            }
            CopyEvent::Transferred(blob) => {
                self.blobs += 1;
                self.bytes += blob.size;
                blob
            }
            CopyEvent::Mounted(blob) => {
                self.mounted += 1;
                blob
            }
            CopyEvent::Skipped(blob) => {
                self.skipped += 1;
                blob
            }
            CopyEvent::Written(_) => {
                self.manifests += 1;
                return;
            }
            _ => return,
        };
        if self.seen.len() >= REMEMBERED {
            // What is forgotten is at most sent once more.
            self.seen.clear();
        }
        self.seen.entry(blob.digest.clone()).or_insert_with(|| repository.clone());
    }

    fn report(&self) -> Value {
        json!({
            "repositories": self.repositories,
            "manifests": self.manifests,
            "blobs": self.blobs,
            "bytes": self.bytes,
            "mounted": self.mounted,
            "skipped": self.skipped,
            "schema1": self.left_out,
            "problems": self.problems,
        })
    }
}

impl Tally {
    pub(super) fn new(args: &ImportArgs, all: usize) -> Self {
        Self {
            state: Arc::new(Mutex::new(State { all, ..State::default() })),
            progress: Progress::start(args.quiet),
            json: args.json,
            dry_run: args.dry_run,
        }
    }

    /// What is told what happens in a repository of the destination.
    pub(super) fn listen(&self, repository: &Name) -> OnCopyEvent {
        let (state, repository, dry_run) = (self.state.clone(), repository.clone(), self.dry_run);
        let shown = self.progress.as_ref().map(Progress::handler);
        Arc::new(move |event| {
            lock(&state).note(event, &repository, dry_run);
            if let Some(shown) = &shown {
                shown(event);
            }
        })
    }

    /// Where at the destination a blob is.
    pub(super) fn siblings(&self) -> Siblings {
        let state = self.state.clone();
        Arc::new(move |digest| lock(&state).seen.get(digest).cloned())
    }

    pub(super) fn repository_done(&self) {
        let mut state = lock(&self.state);
        state.repositories += 1;
        if let Some(progress) = &self.progress {
            progress.about(format!("{} of {} repositories, ", state.repositories, state.all));
        }
    }

    /// Tells of something that was not copied.
    pub(super) fn problem(&self, repository: Option<&Name>, what: &str) -> Result<(), Failure> {
        lock(&self.state).problems += 1;
        let name = repository.map(Name::as_str);
        let text = match name {
            Some(name) => format!("{name}: {what}"),
            None => what.to_owned(),
        };
        self.print(&text, &json!({"problem": {"repository": name, "what": what}}))
    }

    /// Tells of a schema 1 manifest.
    pub(super) fn left_out(
        &self,
        repository: &Name,
        manifest: &Digest,
        tags: &[Tag],
    ) -> Result<(), Failure> {
        lock(&self.state).left_out += 1;
        let tags: Vec<&str> = tags.iter().map(Tag::as_str).collect();
        let named = if tags.is_empty() { String::new() } else { format!(" ({})", tags.join(", ")) };
        let text =
            format!("{repository}: {manifest}{named} is in Docker's schema 1, and is left out");
        let tags =
            json!({"repository": repository.as_str(), "manifest": manifest.as_str(), "tags": tags});
        self.print(&text, &json!({"schema1": tags}))
    }

    fn print(&self, text: &str, json: &Value) -> Result<(), Failure> {
        if self.progress.is_some() {
            progress::show("");
        }
        let line = if self.json { format!("{json}\n") } else { format!("{text}\n") };
        output::print(line.as_bytes())
    }

    /// The last line, and a failure if anything could not be copied.
    pub(super) fn finish(self) -> Result<(), Failure> {
        let state = lock(&self.state);
        let mut text = format!(
            "{}: {} and {} ({}) {}, {} mounted, {} there",
            match state.repositories {
                1 => "1 repository".to_owned(),
                count => format!("{count} repositories"),
            },
            counted(state.manifests, "manifest"),
            counted(state.blobs, "blob"),
            bytes(state.bytes),
            if self.dry_run { "would be copied" } else { "copied" },
            counted(state.mounted, "blob"),
            were(state.skipped),
        );
        if state.left_out > 0 {
            let manifests = counted(state.left_out, "manifest");
            text += &format!("; {manifests} in Docker's schema 1 left out");
        }
        self.print(&text, &state.report())?;
        match state.problems {
            0 => Ok(()),
            problems => Err(Failure::new(format!("{}, told above", counted(problems, "problem")))
                .hint("all the rest is there; the same command tries again what is missing")),
        }
    }
}

/// Whoever panicked, the numbers are whole.
fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
