//! Reads that ask the mirrors of a registry first.
//!
//! A mirror that lacks the content, fails or gives something else is passed over, and the registry itself comes last. One
//! that cannot be reached is left alone for a while, and a blob that a mirror began to give and did not bring to a good
//! end is not asked of it again: whoever reads it once more reads it elsewhere.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use oci_ref::{BlobRead, Body, ByteRange, ErrorKind, Manifest, Target};
use oci_spec_types::{Digest, ErrorCode, MediaType, Verifier};
use tokio::time::Instant;

use super::Repository;
use super::manifests::by_digest;
use crate::{Error, Result};

/// How long a mirror that did not answer is left alone.
const PAUSE: Duration = Duration::from_secs(30);

/// The longest that it is left alone, whatever it says.
const LONGEST_PAUSE: Duration = Duration::from_secs(24 * 3600);

/// Up to this size a mirror's blob is verified before any of it is handed over.
const MAX_EAGER: u64 = 1 << 20;

/// The most blobs that are remembered of a mirror.
const MAX_UNFINISHED: usize = 4096;

/// The blobs that a mirror began to give, and did not bring to a good end.
#[derive(Default)]
pub(crate) struct Unfinished(Mutex<HashSet<Digest>>);

impl Unfinished {
    /// Notes that a blob was begun; says whether it had been begun before.
    fn begin(&self, digest: &Digest) -> bool {
        let mut begun = self.lock();
        if begun.len() >= MAX_UNFINISHED {
            begun.clear();
        }
        begun.insert(digest.clone())
    }

    fn end(&self, digest: &Digest) {
        self.lock().remove(digest);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashSet<Digest>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the mirrors said, for the error of the registry if that fails as well.
#[derive(Default)]
struct Refusals(Vec<String>);

impl Refusals {
    fn note(&mut self, mirror: &Repository, error: &Error) {
        if error.is_retryable() {
            let wait = error.retry_after().unwrap_or(PAUSE).clamp(PAUSE, LONGEST_PAUSE);
            mirror.registry().state().pause_until(Instant::now() + wait);
        }
        self.0.push(error.to_string());
    }

    fn add_to(self, error: Error) -> Error {
        self.0.iter().fold(error, |error, refusal| error.and(&format!("before that, {refusal}")))
    }
}

impl Repository {
    /// The same repository at the mirrors that can be asked now.
    fn mirrors(&self, with_tags: bool) -> impl Iterator<Item = Repository> {
        let mirrors = self.registry().mirrors().iter();
        mirrors
            .filter(move |(mirror, tags)| {
                (*tags || !with_tags) && mirror.state().paused_until().is_none()
            })
            .map(|(mirror, _)| mirror.repository(self.name().clone()))
    }

    /// Reads a manifest, at the mirrors first, as the type that it has if that is known.
    pub(super) async fn read_manifest_anywhere(
        &self,
        target: &Target,
        known: Option<&MediaType>,
    ) -> Result<Manifest> {
        let mut refusals = Refusals::default();
        // A mirror may be behind with a tag; by the digest it has what is meant, or it has not.
        let asked = by_digest(target);
        for mirror in self.mirrors(asked.tag().is_some()) {
            match mirror.read_manifest_of(&asked, known).await {
                Ok(manifest) => return Ok(manifest),
                Err(error) => refusals.note(&mirror, &error),
            }
        }
        self.read_manifest_of(target, known).await.map_err(|error| refusals.add_to(error))
    }

    /// Reads a blob, at the mirrors first. Nothing would verify a part of one, which the registry itself gives.
    pub(super) async fn read_blob_anywhere(
        &self,
        digest: &Digest,
        range: ByteRange,
    ) -> Result<BlobRead> {
        let mut refusals = Refusals::default();
        let whole = matches!(range, ByteRange::All | ByteRange::From(0));
        for mirror in self.mirrors(false).filter(|_| whole) {
            match self.read_blob_at(&mirror, digest).await {
                Ok(Some(read)) => return Ok(read),
                Ok(None) => {}
                Err(error) => refusals.note(&mirror, &error),
            }
        }
        self.read_blob(digest, range).await.map_err(|error| refusals.add_to(error))
    }

    /// Reads a blob at a mirror; `None` if the mirror is not to be asked for it.
    async fn read_blob_at(&self, mirror: &Self, digest: &Digest) -> Result<Option<BlobRead>> {
        // What cannot be verified is not asked of a mirror.
        let Ok(verifier) = digest.verifier() else { return Ok(None) };
        if !mirror.registry().state().unfinished.begin(digest) {
            return Ok(None);
        }
        let read = mirror.read_blob(digest, ByteRange::All).await?;
        let (size, range) = (read.size, read.range.clone());
        let mut reading = Reading {
            registry: self.clone(),
            mirror: mirror.clone(),
            digest: digest.clone(),
            size,
            taken: 0,
            verifier,
            body: read.body,
            fell_back: false,
        };
        if size > MAX_EAGER {
            return Ok(Some(BlobRead { size, range, body: reading.into_body() }));
        }
        let mut chunks = Vec::new();
        while let Some(chunk) =
            reading.next().await.map_err(|error| mirror.of_mirror(digest, error))?
        {
            chunks.push(Ok(chunk));
        }
        Ok(Some(BlobRead { size, range, body: stream::iter(chunks).boxed() }))
    }

    fn of_mirror(&self, digest: &Digest, error: oci_ref::Error) -> Error {
        let about = self.about_blob(digest);
        Error::new(error.kind().clone(), about.what, error.message().to_owned()).with_source(error)
    }
}

/// A blob that is being read at a mirror.
struct Reading {
    registry: Repository,
    mirror: Repository,
    digest: Digest,
    size: u64,
    taken: u64,
    verifier: Verifier,
    body: Body,
    /// Whether the registry itself goes on with it.
    fell_back: bool,
}

impl Reading {
    fn into_body(self) -> Body {
        stream::try_unfold(self, |mut reading| async move {
            Ok(reading.next().await?.map(|chunk| (chunk, reading)))
        })
        .boxed()
    }

    /// The next piece; where the mirror breaks off, the registry goes on. The last piece comes when the whole is right.
    async fn next(&mut self) -> oci_ref::Result<Option<Bytes>> {
        let chunk = match self.body.try_next().await {
            Ok(chunk) => chunk,
            Err(error) if self.fell_back => return Err(error),
            Err(_) => {
                self.fall_back().await?;
                self.body.try_next().await?
            }
        };
        if let Some(chunk) = &chunk {
            self.verifier.update(chunk);
            self.taken += chunk.len() as u64;
        }
        if chunk.is_none() || self.taken == self.size {
            self.verify()?;
        }
        Ok(chunk)
    }

    async fn fall_back(&mut self) -> oci_ref::Result<()> {
        self.fell_back = true;
        let rest = self.registry.read_blob(&self.digest, ByteRange::From(self.taken)).await?;
        if rest.size != self.size {
            return Err(self.wrong(format!("it has {} bytes, expected {}", self.size, rest.size)));
        }
        self.body = rest.body;
        Ok(())
    }

    fn verify(&self) -> oci_ref::Result<()> {
        match self.verifier.clone().finish() {
            Ok(_) => {
                self.mirror.registry().state().unfinished.end(&self.digest);
                Ok(())
            }
            Err(error) => Err(self.wrong(error.to_string())),
        }
    }

    /// The mirror has something else. Whoever asks again is answered by another.
    fn wrong(&self, reason: String) -> oci_ref::Error {
        let about = self.mirror.about_blob(&self.digest);
        Error::new(ErrorKind::Code(ErrorCode::DigestInvalid), about.what, reason)
            .retryable(true)
            .into()
    }
}
