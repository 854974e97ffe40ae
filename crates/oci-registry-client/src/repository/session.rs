//! An upload that the registry has opened, and that is not left open here (distribution-spec, "Pushing blobs").

use std::time::Duration;

use http::{Method, header};
use reqwest::Url;

use super::Repository;
use crate::Result;
use crate::response::Response;

/// How long a cancellation may take. Sessions expire, so that it is not worth more.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(10);

/// Where an upload goes on.
#[derive(Clone, Debug)]
pub(super) struct Session {
    /// The newest `Location`.
    pub(super) url: Url,
    /// The smallest chunk that the registry takes, but for the last (`OCI-Chunk-Min-Length`).
    pub(super) min_chunk: u64,
}

impl Session {
    pub(super) fn of(answer: &Response) -> Result<Self> {
        Ok(Self { url: answer.location()?, min_chunk: min_chunk(answer).unwrap_or(0) })
    }

    /// Goes on where an answer leads.
    pub(super) fn follow(&mut self, answer: &Response) -> Result<()> {
        if answer.headers().contains_key(header::LOCATION) {
            self.url = answer.location()?;
        }
        self.min_chunk = min_chunk(answer).unwrap_or(self.min_chunk);
        Ok(())
    }
}

fn min_chunk(answer: &Response) -> Option<u64> {
    answer.header("OCI-Chunk-Min-Length")?.trim().parse().ok()
}

/// A session that belongs to whoever holds this. Dropped before it has been closed, given away or cancelled, it is
/// cancelled in the background, so that a transfer that its caller gave up leaves nothing open at the registry.
pub(super) struct OpenSession {
    repository: Repository,
    session: Option<Session>,
    /// Whether somebody else has its name, and may go on with it.
    named: bool,
}

impl OpenSession {
    /// A session that was opened here.
    pub(super) fn new(repository: Repository, session: Session) -> Self {
        Self { repository, session: Some(session), named: false }
    }

    /// A session that was suspended before. Its name stays good if this is dropped.
    pub(super) fn resumed(repository: Repository, session: Session) -> Self {
        Self { repository, session: Some(session), named: true }
    }

    /// Where it goes on; `None` after it has been given away.
    pub(super) fn get(&mut self) -> Option<&mut Session> {
        self.session.as_mut()
    }

    /// Somebody else has its name from now on, or has it no more.
    pub(super) fn set_named(&mut self, named: bool) {
        self.named = named;
    }

    /// The smallest chunk that the registry takes.
    pub(super) fn min_chunk(&self) -> u64 {
        self.session.as_ref().map_or(0, |session| session.min_chunk)
    }

    /// It has been closed, or is another's from now on.
    pub(super) fn release(mut self) -> Option<Session> {
        self.session.take()
    }

    /// Cancels it. That this fails does not matter.
    pub(super) async fn cancel(mut self) {
        // Kept until it is done: if this is not waited for, dropping goes on with it.
        if let Some(session) = &self.session {
            self.repository.cancel_session(session).await;
        }
        self.session = None;
    }
}

impl Drop for OpenSession {
    fn drop(&mut self) {
        let Some(session) = self.session.take().filter(|_| !self.named) else { return };
        // Without a runtime there is nobody to send anything; the session expires.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let repository = self.repository.clone();
            runtime.spawn(async move { repository.cancel_session(&session).await });
        }
    }
}

impl Repository {
    async fn cancel_session(&self, session: &Session) {
        let request = self
            .writing(Method::DELETE, session.url.clone(), self.about_upload())
            .expect(&[204, 202, 200]);
        let _ = tokio::time::timeout(CANCEL_TIMEOUT, self.registry().send(&request)).await;
    }
}
