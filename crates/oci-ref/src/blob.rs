//! Blobs, verified while they are read.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use futures_core::Stream;
use futures_util::{StreamExt, TryStreamExt};
use oci_spec_types::{Descriptor, ErrorCode, Verifier};

use crate::{Body, ByteRange, Error, ErrorKind, Reopen, Result, Source, Staged};

/// The most that a blob which is read into memory may have, unless the caller says otherwise: 50 MiB.
pub const DEFAULT_BLOB_LIMIT: u64 = 50 << 20;

/// A blob's bytes, verified against its descriptor while they are read.
///
/// The last chunk is withheld until the size and the digest are known to be right, so whoever has read as many bytes
/// as the descriptor says has read the right ones. After an error the stream ends.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use futures_util::StreamExt;
/// use oci_ref::Blob;
/// use oci_spec_types::{Descriptor, MediaType};
///
/// let descriptor = Descriptor::of(MediaType::OCTET_STREAM, b"hello");
/// let body = futures_util::stream::iter([Ok("he".into()), Ok("lla".into())]).boxed();
/// let error = Blob::new(descriptor, body)?.into_bytes(1024).await.unwrap_err();
/// assert!(error.to_string().contains("expected sha256:2cf24d"));
/// # Ok::<_, oci_ref::Error>(()) }).unwrap();
/// ```
pub struct Blob {
    descriptor: Descriptor,
    body: Body,
    verifier: Option<Verifier>,
    remaining: u64,
    withheld: Option<Bytes>,
}

impl Blob {
    /// The bytes of `body`, which should be those that the descriptor describes. Fails if the digest's algorithm is
    /// not one that can be verified.
    pub fn new(descriptor: Descriptor, body: Body) -> Result<Self> {
        let verifier = descriptor.digest.verifier()?;
        Ok(Self {
            remaining: descriptor.size,
            descriptor,
            body,
            verifier: Some(verifier),
            withheld: None,
        })
    }

    /// The rest of a blob: `body` begins at `offset`, and `verifier`, which is one of the
    /// descriptor's digest, has had the bytes before. Size and digest are still verified of all of
    /// it.
    ///
    /// # Errors
    /// `SIZE_INVALID` if the offset lies beyond the descriptor's size.
    pub fn resume(
        descriptor: Descriptor,
        body: Body,
        offset: u64,
        verifier: Verifier,
    ) -> Result<Self> {
        let Some(remaining) = descriptor.size.checked_sub(offset) else {
            return Err(wrong_size(&descriptor, format!("at least {offset}")));
        };
        Ok(Self { descriptor, body, verifier: Some(verifier), remaining, withheld: None })
    }

    /// Opens a blob of a source. Content embedded in the descriptor is used without asking the source.
    pub async fn open(source: &(impl Source + ?Sized), descriptor: &Descriptor) -> Result<Self> {
        if let Some(data) = &descriptor.data {
            if data.len() as u64 != descriptor.size {
                return Err(Error::new(
                    ErrorCode::SizeInvalid,
                    format!(
                        "descriptor of {}: embedded data has {} bytes, expected {}",
                        descriptor.digest,
                        data.len(),
                        descriptor.size
                    ),
                ));
            }
            let data = Bytes::from(data.clone());
            let body = futures_util::stream::once(async move { Ok(data) }).boxed();
            return Self::new(descriptor.clone(), body);
        }
        let read = source.blob(&descriptor.digest, ByteRange::All).await?;
        if read.size != descriptor.size {
            return Err(wrong_size(descriptor, read.size));
        }
        Self::new(descriptor.clone(), read.body)
    }

    /// The descriptor that the bytes are verified against.
    pub fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    /// The number of bytes that have been read, from the beginning, and their hash, by which
    /// [`resume`](Self::resume) goes on. `None` once the stream has ended, or all of it was read.
    pub fn state(&self) -> Option<(u64, &Verifier)> {
        let verifier = self.verifier.as_ref().filter(|_| self.withheld.is_none())?;
        Some((self.descriptor.size - self.remaining, verifier))
    }

    /// All the bytes, if they are no more than `limit`.
    pub async fn into_bytes(mut self, limit: u64) -> Result<Bytes> {
        check_limit(&self.descriptor, limit)?;
        let size = self.descriptor.size;
        let Some(first) = self.try_next().await? else {
            return Ok(Bytes::new());
        };
        if first.len() as u64 == size {
            return Ok(first);
        }
        let mut all = BytesMut::from(first);
        while let Some(chunk) = self.try_next().await? {
            all.extend_from_slice(&chunk);
        }
        Ok(all.freeze())
    }

    fn accept(&mut self, chunk: &Bytes) -> Result<()> {
        let length = chunk.len() as u64;
        if length > self.remaining {
            let found = self.descriptor.size - self.remaining + length;
            return Err(wrong_size(&self.descriptor, format!("at least {found}")));
        }
        self.remaining -= length;
        if let Some(verifier) = &mut self.verifier {
            verifier.update(chunk);
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<Option<Bytes>> {
        let Some(verifier) = self.verifier.take() else {
            return Ok(None);
        };
        if self.remaining > 0 {
            let found = self.descriptor.size - self.remaining;
            return Err(wrong_size(&self.descriptor, found));
        }
        verifier.finish()?;
        Ok(self.withheld.take())
    }
}

impl Stream for Blob {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if self.verifier.is_none() {
                return Poll::Ready(None);
            }
            match ready!(self.body.as_mut().poll_next(cx)) {
                Some(Ok(chunk)) if chunk.is_empty() => {}
                Some(Ok(chunk)) => match self.accept(&chunk) {
                    Ok(()) if self.remaining == 0 => self.withheld = Some(chunk),
                    Ok(()) => return Poll::Ready(Some(Ok(chunk))),
                    Err(error) => {
                        self.verifier = None;
                        return Poll::Ready(Some(Err(error)));
                    }
                },
                Some(Err(error)) => {
                    self.verifier = None;
                    return Poll::Ready(Some(Err(error)));
                }
                None => return Poll::Ready(self.finish().transpose()),
            }
        }
    }
}

/// Refuses a blob with more than `limit` bytes.
pub(crate) fn check_limit(descriptor: &Descriptor, limit: u64) -> Result<()> {
    let Descriptor { digest, size, .. } = descriptor;
    if *size > limit {
        return Err(Error::new(
            ErrorKind::TooLarge { limit },
            format!("blob {digest} has {size} bytes, more than the limit of {limit}"),
        ));
    }
    Ok(())
}

/// The error for content that has not as many bytes as its descriptor says.
fn wrong_size(descriptor: &Descriptor, found: impl std::fmt::Display) -> Error {
    Error::new(
        ErrorCode::SizeInvalid,
        format!("blob {} has {found} bytes, expected {}", descriptor.digest, descriptor.size),
    )
}

/// Appends content to an upload, and checks that it has exactly the descriptor's size.
pub(crate) async fn append_exactly(
    staged: &mut (impl Staged + ?Sized),
    descriptor: &Descriptor,
    content: &dyn Reopen,
) -> Result<()> {
    let start = staged.offset();
    let mut body = content.open(start).await?;
    let mut offset = start;
    while let Some(chunk) = body.try_next().await? {
        offset += chunk.len() as u64;
        if offset > descriptor.size {
            return Err(wrong_size(descriptor, format!("at least {offset}")));
        }
        if !chunk.is_empty() {
            staged.append(chunk).await?;
        }
    }
    if offset < descriptor.size {
        return Err(wrong_size(descriptor, offset));
    }
    Ok(())
}

/// A body without its first bytes, for sources that gave all where a part was asked for.
pub(crate) fn skip(body: Body, mut count: u64) -> Body {
    if count == 0 {
        return body;
    }
    let rest = body.try_filter_map(move |mut chunk| {
        let drop = usize::try_from(count).unwrap_or(usize::MAX).min(chunk.len());
        count -= drop as u64;
        let rest = chunk.split_off(drop);
        futures_util::future::ready(Ok((!rest.is_empty()).then_some(rest)))
    });
    rest.boxed()
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci_spec_types::MediaType;

    async fn read(descriptor: &Descriptor, chunks: &[&[u8]]) -> (Vec<u8>, Option<Error>) {
        let chunks: Vec<_> = chunks.iter().map(|c| Ok(Bytes::copy_from_slice(c))).collect();
        let body = futures_util::stream::iter(chunks).boxed();
        let mut blob = Blob::new(descriptor.clone(), body).unwrap();
        let mut got = Vec::new();
        while let Some(next) = blob.next().await {
            match next {
                Ok(chunk) => got.extend_from_slice(&chunk),
                Err(error) => {
                    assert!(blob.next().await.is_none(), "a stream ends after its error");
                    return (got, Some(error));
                }
            }
        }
        (got, None)
    }

    /// Every way of splitting every stream over a two-letter alphabet of up to six bytes: only the right content ever
    /// yields the full length.
    #[tokio::test]
    async fn only_the_right_bytes_yield_the_full_length() {
        for size in 0..=4usize {
            let content: Vec<u8> = (0..size).map(|i| b'a' + (i % 2) as u8).collect();
            let descriptor = Descriptor::of(MediaType::OCTET_STREAM, &content);
            for length in 0..=6usize {
                for letters in 0..1u32 << length {
                    let stream: Vec<u8> =
                        (0..length).map(|i| b'a' + (letters >> i & 1) as u8).collect();
                    for cuts in 0..1u32 << length {
                        let mut chunks = Vec::new();
                        let mut start = 0;
                        for end in 1..=length {
                            if cuts >> (end - 1) & 1 == 1 || end == length {
                                chunks.push(&stream[start..end]);
                                start = end;
                            }
                        }
                        let (got, error) = read(&descriptor, &chunks).await;
                        if stream == content {
                            assert!(error.is_none(), "{error:?}");
                            assert_eq!(got, content);
                        } else {
                            assert!(error.is_some());
                            assert!(got.len() < size || size == 0);
                        }
                    }
                }
            }
        }
    }

    // covers: C16
    #[tokio::test]
    async fn a_wrong_size_and_a_wrong_digest_are_told_apart() {
        let descriptor = Descriptor::of(MediaType::OCTET_STREAM, b"hello");
        let (_, short) = read(&descriptor, &[b"hell"]).await;
        assert_eq!(short.unwrap().code(), Some(&ErrorCode::SizeInvalid));
        let (_, long) = read(&descriptor, &[b"hello!"]).await;
        assert_eq!(long.unwrap().code(), Some(&ErrorCode::SizeInvalid));
        let (_, wrong) = read(&descriptor, &[b"hallo"]).await;
        assert_eq!(wrong.unwrap().code(), Some(&ErrorCode::DigestInvalid));
    }

    #[tokio::test]
    async fn the_rest_is_verified_with_what_was_read_before() {
        let descriptor = Descriptor::of(MediaType::OCTET_STREAM, b"hello world");
        let body = |bytes: &'static [u8]| {
            futures_util::stream::iter([Ok(Bytes::from_static(bytes))]).boxed()
        };
        let broken = [Ok(Bytes::from_static(b"hello")), Err(Error::new(ErrorKind::Io, "cut"))];
        let mut blob =
            Blob::new(descriptor.clone(), futures_util::stream::iter(broken).boxed()).unwrap();
        assert_eq!(blob.next().await.unwrap().unwrap(), "hello");
        let (offset, verifier) = blob.state().map(|(at, state)| (at, state.clone())).unwrap();
        assert_eq!(offset, 5);
        blob.next().await.unwrap().unwrap_err();
        assert!(blob.state().is_none());

        for (rest, right) in [(&b" world"[..], true), (b" worms", false), (b" wor", false)] {
            let resumed =
                Blob::resume(descriptor.clone(), body(rest), offset, verifier.clone()).unwrap();
            let read: Result<Vec<Bytes>> = resumed.try_collect().await;
            assert_eq!(read.is_ok_and(|read| read.concat() == rest), right);
        }
        let error = Blob::resume(descriptor, body(b""), 12, verifier).err().unwrap();
        assert_eq!(error.code(), Some(&ErrorCode::SizeInvalid));
    }

    #[tokio::test]
    async fn skipping() {
        let body =
            futures_util::stream::iter(["ab", "cd", "ef"].map(|c| Ok(Bytes::from(c)))).boxed();
        let rest: Vec<Bytes> = skip(body, 3).try_collect().await.unwrap();
        assert_eq!(rest.concat(), b"def");
    }
}
