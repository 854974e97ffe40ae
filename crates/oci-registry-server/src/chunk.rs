//! A chunk on its way into an upload: in order, of its range's length, within the limit.

use std::sync::Arc;

use http::StatusCode;
use oci_ref::{Error, ErrorKind, Staged, Store, UploadId};
use oci_spec_types::{Digest, ErrorCode};

use crate::asked::Asked;
use crate::body::BodyReader;
use crate::error::Failure;
use crate::range::ContentRange;

/// What becomes of an upload after its chunk.
pub(crate) enum Then {
    Suspend,
    Commit(Digest),
}

/// Why a chunk was not taken.
pub(crate) enum Refused {
    /// The engine did not take it.
    Engine(Error),
    /// It did not come as it should.
    Body(Failure),
}

impl Refused {
    pub(crate) fn into_failure(self) -> Failure {
        match self {
            Self::Engine(error) => error.into(),
            Self::Body(failure) => failure,
        }
    }

    /// Whether going on with the upload makes no sense, or would keep room that nobody has.
    fn is_final(&self) -> bool {
        match self {
            Self::Engine(error) => *error.kind() == ErrorKind::StorageFull,
            Self::Body(failure) => failure.status == StatusCode::PAYLOAD_TOO_LARGE,
        }
    }
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self::Engine(error)
    }
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        Self::Body(failure)
    }
}

/// A chunk on its way into an upload.
pub(crate) struct Chunk {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) id: UploadId,
    pub(crate) body: BodyReader,
    pub(crate) declared: Option<u64>,
    pub(crate) range: Option<ContentRange>,
    pub(crate) limit: Option<u64>,
    pub(crate) asked: Asked,
}

impl Chunk {
    pub(crate) async fn write(self, then: Then) -> Result<(UploadId, u64), Refused> {
        let mut staged = self.store.resume(&self.id).await?;
        let offset = staged.offset();
        let declared = offset.saturating_add(self.declared.unwrap_or(0));
        let checked = match (check_order(self.range, offset), self.limit) {
            (Err(error), _) => Err(error.into()),
            (Ok(()), Some(limit)) if declared > limit => Err(Failure::too_large(limit).into()),
            (Ok(()), _) => Ok(()),
        };
        let received = match checked {
            Ok(()) => receive(&mut *staged, self.body, self.range, self.limit).await,
            Err(refused) => Err(refused),
        };
        match (received, then) {
            (Ok(()), Then::Commit(digest)) => {
                let offset = staged.offset();
                staged.commit(&digest).await?;
                Ok((self.id, offset))
            }
            (Ok(()), Then::Suspend) => {
                let offset = staged.offset();
                Ok((staged.suspend().await?, offset))
            }
            (Err(refused), _) => {
                let kept = match refused.is_final() {
                    true => staged.cancel().await,
                    false => staged.suspend().await.map(drop),
                };
                if let Err(error) = kept {
                    let asked = &self.asked;
                    tracing::warn!(request = %asked, %error, "an upload was lost after an error");
                }
                Err(refused)
            }
        }
    }
}

/// Appends a body to an upload: exactly the range, if it has one.
pub(crate) async fn receive(
    staged: &mut dyn Staged,
    mut body: BodyReader,
    range: Option<ContentRange>,
    limit: Option<u64>,
) -> Result<(), Refused> {
    let mut received: u64 = 0;
    while let Some(chunk) = body.next().await? {
        let length = chunk.len() as u64;
        received = received.saturating_add(length);
        if let Some(range) = range.filter(|range| received > range.length) {
            return Err(wrong_length(range, "more").into());
        }
        if let Some(limit) = limit.filter(|limit| staged.offset().saturating_add(length) > *limit) {
            return Err(Failure::too_large(limit).into());
        }
        staged.append(chunk).await?;
    }
    match range {
        Some(range) if received < range.length => Err(wrong_length(range, "fewer").into()),
        _ => Ok(()),
    }
}

/// Chunks follow each other without a gap.
pub(crate) fn check_order(range: Option<ContentRange>, offset: u64) -> Result<(), Error> {
    match range.filter(|range| range.start != offset) {
        // spec: R25, R26
        Some(range) => Err(Error::new(
            ErrorKind::RangeInvalid { size: offset },
            format!("the chunk starts at {}, expected {offset}", range.start),
        )),
        None => Ok(()),
    }
}

pub(crate) fn check_length(
    range: Option<ContentRange>,
    declared: Option<u64>,
) -> Result<(), Failure> {
    match (range, declared) {
        (Some(range), Some(length)) if length < range.length => Err(wrong_length(range, "fewer")),
        (Some(range), Some(length)) if length > range.length => Err(wrong_length(range, "more")),
        _ => Ok(()),
    }
}

fn wrong_length(range: ContentRange, found: &str) -> Failure {
    let message =
        format!("the chunk has {found} bytes than the {} of its Content-Range", range.length);
    Failure::new(ErrorCode::SizeInvalid, message)
}
