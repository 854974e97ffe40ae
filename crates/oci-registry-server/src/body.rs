//! Bodies: of requests, read at a bounded pace and up to a limit; of answers, streamed with a known length.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, EXPECT};
use http::request::Parts;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt as _;
use oci_ref::{Error, ErrorKind};
use tokio::time::{Instant, timeout};

use crate::ServerOptions;
use crate::asked::Asked;
use crate::budget::{Budget, Received};
use crate::error::Failure;
use crate::gathered::Gathered;

/// What is read of a body that nobody wants, so that its sender comes to read the answer: 8 MiB.
const DRAIN_BYTES: usize = 8 << 20;

/// How long that may take.
const DRAIN_TIME: Duration = Duration::from_secs(5);

/// A request's body, until somebody takes it.
pub(crate) struct RequestBody {
    body: Option<Body>,
    /// The length that the request declares.
    pub(crate) declared: Option<u64>,
    /// Whether the client waits for our word before it sends the body.
    waits: bool,
    idle_timeout: Duration,
    min_rate: u64,
}

impl RequestBody {
    pub(crate) fn new(body: Body, parts: &Parts, options: &ServerOptions) -> Self {
        let length = parts.headers.get(CONTENT_LENGTH);
        Self {
            body: Some(body),
            declared: length.and_then(|value| value.to_str().ok()?.parse().ok()),
            waits: parts.headers.contains_key(EXPECT),
            idle_timeout: options.idle_timeout,
            min_rate: options.min_rate,
        }
    }

    /// The body. Whoever takes it reads it.
    pub(crate) fn take(&mut self) -> BodyReader {
        BodyReader {
            body: self.body.take().unwrap_or_default(),
            idle_timeout: self.idle_timeout,
            min_rate: self.min_rate,
            waited: Duration::ZERO,
            read: 0,
        }
    }

    /// All of the body, if it is no more than `limit` bytes and there is room for it, with its
    /// share of the budget.
    pub(crate) async fn bytes(
        &mut self,
        limit: u64,
        budget: &Budget,
    ) -> Result<(Gathered, Received), Failure> {
        if self.declared.is_some_and(|length| length > limit) {
            return Err(Failure::too_large(limit));
        }
        let mut reader = self.take();
        let mut share = budget.receive();
        let mut all = Gathered::default();
        loop {
            let chunk = tokio::select! {
                chunk = reader.next() => chunk?,
                failure = share.given_up() => {
                    self.body = Some(reader.body);
                    return Err(failure);
                }
            };
            let Some(chunk) = chunk else { break };
            let length = all.len().saturating_add(chunk.len());
            let room = match length as u64 > limit {
                true => Err(Failure::too_large(limit)),
                false => share.grow(length).await,
            };
            if let Err(refused) = room {
                self.body = Some(reader.body);
                return Err(refused);
            }
            all.push(&chunk);
        }
        share.complete();
        Ok((all, share))
    }

    /// Reads what nobody took, within bounds: a sender whose connection is closed while it sends often does not see
    /// the answer.
    pub(crate) async fn drain(self) {
        let Some(mut body) = self.body else {
            return;
        };
        if self.waits || http_body::Body::is_end_stream(&body) {
            return;
        }
        let read = async {
            let mut left = DRAIN_BYTES;
            while let Some(Ok(frame)) = body.frame().await {
                let length = frame.data_ref().map_or(0, Bytes::len);
                match left.checked_sub(length) {
                    Some(rest) => left = rest,
                    None => return,
                }
            }
        };
        // Whether all of it came does not matter.
        let _ = timeout(DRAIN_TIME, read).await;
    }
}

/// A request's body that is being read.
pub(crate) struct BodyReader {
    body: Body,
    idle_timeout: Duration,
    min_rate: u64,
    waited: Duration,
    read: u64,
}

impl BodyReader {
    /// The next bytes; none at the end. Fails if the client went away or is too slow.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        loop {
            let start = Instant::now();
            let frame = timeout(self.idle_timeout, self.body.frame()).await;
            self.waited += start.elapsed();
            let Ok(frame) = frame else {
                return Err(Failure::too_slow());
            };
            let Some(frame) = frame else {
                return Ok(None);
            };
            let frame = frame.map_err(|error| {
                tracing::debug!(%error, "the client went away, or broke off its body");
                Failure::bad_request("the body broke off")
            })?;
            let Ok(chunk) = frame.into_data() else {
                continue;
            };
            self.read += chunk.len() as u64;
            let least = self.waited.as_secs().saturating_mul(self.min_rate);
            if self.waited > self.idle_timeout && self.read < least {
                return Err(Failure::too_slow());
            }
            if !chunk.is_empty() {
                return Ok(Some(chunk));
            }
        }
    }
}

/// An answer's body: a stream that must have exactly so many bytes. One that has more or fewer breaks the connection
/// off, so that the client cannot take it for the whole.
pub(crate) struct SizedBody {
    stream: oci_ref::Body,
    remaining: u64,
    asked: Asked,
}

impl SizedBody {
    /// The answer to a request.
    pub(crate) fn new(stream: oci_ref::Body, length: u64, asked: Asked) -> Self {
        Self { stream, remaining: length, asked }
    }
}

impl http_body::Body for SizedBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if self.remaining == 0 {
            return Poll::Ready(None);
        }
        let broken = |message| Error::new(ErrorKind::Internal, message);
        let error = match ready!(self.stream.as_mut().poll_next(cx)) {
            Some(Ok(chunk)) => match self.remaining.checked_sub(chunk.len() as u64) {
                Some(rest) => {
                    self.remaining = rest;
                    return Poll::Ready(Some(Ok(Frame::data(chunk))));
                }
                None => broken("a blob gave more bytes than its size"),
            },
            Some(Err(error)) => error,
            None => broken("a blob ended before its size"),
        };
        let asked = &self.asked;
        tracing::error!(request = %asked, error = %error.chain(), "an answer was broken off");
        Poll::Ready(Some(Err(error)))
    }

    fn is_end_stream(&self) -> bool {
        self.remaining == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.remaining)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::{StreamExt as _, stream};

    fn reader(body: Body, idle: u64, min_rate: u64) -> BodyReader {
        let options =
            ServerOptions::new().idle_timeout(Duration::from_secs(idle)).min_rate(min_rate);
        let (parts, ()) = http::Request::new(()).into_parts();
        RequestBody::new(body, &parts, &options).take()
    }

    /// A body of one byte every so many seconds.
    fn slow(seconds: u64) -> Body {
        let bytes = stream::unfold((), move |()| async move {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            Some((Ok::<_, Error>(Bytes::from_static(b"x")), ()))
        });
        Body::from_stream(bytes)
    }

    #[tokio::test]
    async fn what_is_kept_of_a_body_does_not_keep_the_buffer_of_its_connection() {
        for parts in [1, 3] {
            let buffer = Bytes::from(vec![7; 1 << 20]);
            let chunks: Vec<_> = (0..parts)
                .map(|part| Ok::<_, Error>(buffer.slice(part * 9..part * 9 + 9)))
                .collect();
            let request = http::Request::builder().header(CONTENT_LENGTH, parts * 9);
            let (head, ()) = request.body(()).unwrap().into_parts();
            let body = Body::from_stream(stream::iter(chunks));
            let options = ServerOptions::new();
            let mut body = RequestBody::new(body, &head, &options);
            let kept = body.bytes(100, &Budget::new(&options)).await.map(|(kept, _)| kept).unwrap();
            drop(body);
            assert!(buffer.is_unique());
            assert_eq!(kept.join(), vec![7; parts * 9]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_stops_is_given_up() {
        let mut body = reader(slow(61), 60, 0);
        assert_eq!(body.next().await.unwrap_err().status, 408);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_trickles_is_given_up_after_a_while() {
        let mut body = reader(slow(10), 60, 1);
        let mut got = 0;
        let failure = loop {
            match body.next().await {
                Ok(chunk) => got += chunk.unwrap().len(),
                Err(failure) => break failure,
            }
        };
        assert_eq!(failure.status, 408);
        assert_eq!(got, 6, "one byte every 10 s, for 60 s");
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_body_may_take_for_ever() {
        let mut body = reader(slow(10), 60, 0);
        for _ in 0..1000 {
            assert!(body.next().await.is_ok());
        }
    }

    #[tokio::test]
    async fn an_answer_has_its_length_or_breaks_off() {
        let parts = |parts: &[&'static str]| {
            let parts: Vec<_> =
                parts.iter().map(|part| Ok(Bytes::from_static(part.as_bytes()))).collect();
            stream::iter(parts).boxed()
        };
        let (head, ()) = http::Request::new(()).into_parts();
        let asked = Asked::of(&head);
        let read = |stream, length| SizedBody::new(stream, length, asked.clone()).collect();
        assert_eq!(read(parts(&["ab", "c"]), 3).await.unwrap().to_bytes(), "abc");
        assert!(read(parts(&["ab"]), 3).await.is_err());
        assert!(read(parts(&["ab", "cd"]), 3).await.is_err());
        assert_eq!(read(parts(&[]), 0).await.unwrap().to_bytes(), "");
    }
}
