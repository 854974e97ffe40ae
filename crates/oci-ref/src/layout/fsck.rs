//! Checking a layout: whether all that it should have is there, and is what it should be.

use std::io::Read;

use oci_spec_types::{Digest, Verifier, VerifyError};

use super::Layout;
use super::disk::Disk;
use super::references::{Contents, Reference, references};
use super::view::Blobs;
use crate::files::{Part, PartReader, blocking};
use crate::{Error, ErrorKind, Result};

/// The most problems that are told.
const MAX_PROBLEMS: usize = 1000;

/// How many bytes are hashed at a time.
const STEP: u64 = 4 << 20;

/// What is wrong in a layout.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LayoutProblem {
    /// Content is not there that should be.
    #[error("{digest} is not there; {} references it", of(.by))]
    Missing {
        /// The content.
        digest: Digest,
        /// The manifest that references it; `None` for `index.json`.
        by: Option<Digest>,
    },
    /// Content has another size than a reference to it says.
    #[error("{digest} has {found} bytes, but {} says {expected}", of(.by))]
    Size {
        /// The content.
        digest: Digest,
        /// The manifest that references it; `None` for `index.json`.
        by: Option<Digest>,
        /// The size in the reference.
        expected: u64,
        /// The size of the file.
        found: u64,
    },
    /// Content has another digest than its name says.
    #[error("the content under {digest} has digest {found}")]
    Digest {
        /// The name.
        digest: Digest,
        /// The digest.
        found: Digest,
    },
    /// Content cannot be checked: its digest is by an algorithm that is not known.
    #[error("{digest} cannot be checked: its algorithm is not known")]
    Unknown {
        /// The content.
        digest: Digest,
    },
    /// Content cannot be read, or as a manifest not be understood. What it references has not been checked.
    #[error("{digest}: {reason}")]
    Broken {
        /// The content.
        digest: Digest,
        /// Why.
        reason: String,
    },
}

fn of(by: &Option<Digest>) -> &str {
    by.as_ref().map_or("index.json", Digest::as_str)
}

/// What a check of a layout has found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LayoutCheck {
    /// How many blobs and manifests have been read, each once.
    pub blobs: u64,
    /// How many bytes these have.
    pub bytes: u64,
    /// What is wrong.
    pub problems: Vec<LayoutProblem>,
    /// How many more problems there are, beyond the first 1,000.
    pub more_problems: u64,
}

impl LayoutCheck {
    /// Whether nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.problems.is_empty()
    }

    fn add(&mut self, problem: LayoutProblem) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(problem);
        } else {
            self.more_problems += 1;
        }
    }
}

impl Layout {
    /// Reads everything that `index.json` references, directly or not, and checks that it is there, and has the size and
    /// the digest that it should have. Nothing is changed, and nothing is locked: what is deleted meanwhile may be told
    /// as missing.
    ///
    /// Not missing are: layers that are not to be distributed, content embedded in its descriptor, subjects, and in a
    /// [`sparse`](crate::LayoutOptions::sparse) layout manifests that only an index lists.
    ///
    /// # Errors
    /// If `index.json` itself cannot be read. All else is in the result.
    pub async fn fsck(&self) -> Result<LayoutCheck> {
        let (mut check, contents) = self.blocking(Disk::survey).await?;
        for digest in contents.into_sorted() {
            let name = digest.clone();
            let opened = self.blocking(move |disk| disk.blob_part(&name)).await;
            let checked = match opened {
                Ok(Some(part)) => check_content(&mut check, &digest, part).await,
                Ok(None) => continue,
                Err(error) => Err(error),
            };
            if let Err(error) = checked {
                check.add(LayoutProblem::Broken { digest, reason: error.to_string() });
            }
        }
        Ok(check)
    }
}

impl Disk {
    /// Looks at every reference, and gives what is there of the contents.
    fn survey(&self) -> Result<(LayoutCheck, Contents)> {
        let index = self.read_index()?;
        let mut check = LayoutCheck::default();
        let mut contents = Contents::default();
        let mut broken = Vec::new();
        let visit = |reference: Reference<'_>| {
            let Reference { by, digest, size, required } = reference;
            let (digest, by) = (digest.clone(), by.cloned());
            match (self.blob_size(&digest), size) {
                (Ok(None), _) if required => check.add(LayoutProblem::Missing { digest, by }),
                (Ok(None), _) => {}
                (Ok(Some(found)), size) => {
                    contents.add(&digest)?;
                    if let Some(expected) = size.filter(|expected| *expected != found) {
                        check.add(LayoutProblem::Size { digest, by, expected, found });
                    }
                }
                (Err(error), _) => {
                    let reason = error.to_string();
                    check.add(LayoutProblem::Broken { digest, reason });
                }
            }
            Ok(())
        };
        references(self, &index, self.options().sparse, visit, |digest, error| {
            // A wrong size or digest is told as that.
            if *error.kind() != ErrorKind::Internal && broken.len() < MAX_PROBLEMS {
                let reason = error.to_string();
                broken.push(LayoutProblem::Broken { digest: digest.clone(), reason });
            }
            Ok(())
        })?;
        broken.into_iter().for_each(|problem| check.add(problem));
        Ok((check, contents))
    }
}

async fn check_content(check: &mut LayoutCheck, digest: &Digest, part: Part) -> Result<()> {
    let Ok(mut verifier) = digest.verifier() else {
        check.add(LayoutProblem::Unknown { digest: digest.clone() });
        return Ok(());
    };
    let (size, mut reader) = (part.size(), part.reader());
    let mut left = size;
    while left > 0 {
        let step = left.min(STEP);
        (reader, verifier) = blocking(move || hash(reader, verifier, step)).await?;
        left -= step;
    }
    check.blobs += 1;
    check.bytes += size;
    if let Err(VerifyError::Mismatch { actual, .. }) = verifier.finish() {
        check.add(LayoutProblem::Digest { digest: digest.clone(), found: actual });
    }
    Ok(())
}

/// Hashes the next so many bytes.
fn hash(reader: PartReader, mut verifier: Verifier, count: u64) -> Result<(PartReader, Verifier)> {
    let mut part = reader.take(count);
    let mut buffer = vec![0; 256 << 10];
    loop {
        match part.read(&mut buffer) {
            Ok(0) => return Ok((part.into_inner(), verifier)),
            Ok(read) => verifier.update(&buffer[..read]),
            Err(error) => return Err(Error::io("it cannot be read", error)),
        }
    }
}
