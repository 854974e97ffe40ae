//! The body of an answer to which something happens on its way.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http_body::{Frame, SizeHint};
use tokio::time::{Sleep, sleep};

use super::line::{End, Line};

/// What happens to a body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct BodyPlan {
    /// How many bytes too many or too few its length says that it has.
    pub(super) length: i64,
    /// How many bytes come after its own.
    pub(super) padding: u64,
    /// Which byte is another one.
    pub(super) corrupt: Option<u64>,
    /// After how many bytes the connection ends, and how.
    pub(super) end: Option<(u64, End)>,
    /// How many bytes come at a time, and how long it is until the next.
    pub(super) pace: Option<(usize, Duration)>,
}

impl BodyPlan {
    /// The length that is declared of a body that has `length` bytes.
    pub(super) fn declared(&self, length: u64) -> u64 {
        length.saturating_add(self.padding).saturating_add_signed(self.length)
    }
}

/// A body to which a [`BodyPlan`] happens.
pub(super) struct FaultyBody {
    inner: Body,
    padding: u64,
    corrupt: Option<u64>,
    pace: Option<Pace>,
    line: Line,
    end: Option<End>,
    /// What came from within and has not been sent.
    held: Bytes,
    position: u64,
    /// How many bytes are still to be sent, and how many are promised.
    left: u64,
    promised: u64,
}

struct Pace {
    bytes: usize,
    interval: Duration,
    alarm: Option<Pin<Box<Sleep>>>,
}

impl FaultyBody {
    /// A body that has `length` bytes so far.
    pub(super) fn new(inner: Body, length: u64, plan: &BodyPlan, line: Line) -> Self {
        let promised = plan.declared(length);
        let has = length.saturating_add(plan.padding).min(promised);
        // One that has fewer bytes than it promises cannot end otherwise.
        let short = (has < promised).then_some((has, End::Close));
        let end = plan.end.map(|(after, end)| (after.min(has), end)).or(short);
        let left = end.map_or(has, |(after, _)| after);
        let pace = plan.pace;
        let body = Self {
            inner,
            padding: plan.padding,
            corrupt: plan.corrupt,
            pace: pace.map(|(bytes, interval)| Pace { bytes, interval, alarm: None }),
            line,
            end: end.map(|(_, end)| end),
            held: Bytes::new(),
            position: 0,
            left,
            promised,
        };
        body.arm();
        body
    }

    /// Once the last byte is on its way the connection can end.
    fn arm(&self) {
        if let (0, Some(end)) = (self.left, self.end) {
            self.line.end_after(end);
        }
    }

    /// What of the bytes that are held comes next.
    fn next_piece(&mut self) -> Bytes {
        let at_a_time = self.pace.as_ref().map_or(usize::MAX, |pace| pace.bytes.max(1));
        let left = usize::try_from(self.left).unwrap_or(usize::MAX);
        let piece = self.held.split_to(self.held.len().min(at_a_time).min(left));
        let start = self.position;
        self.position += piece.len() as u64;
        self.left -= piece.len() as u64;
        self.promised -= piece.len() as u64;
        self.arm();
        let corrupt = self.corrupt.filter(|at| (start..self.position).contains(at));
        let Some(at) = corrupt.and_then(|at| usize::try_from(at - start).ok()) else {
            return piece;
        };
        let mut changed = BytesMut::from(piece);
        changed[at] = !changed[at];
        changed.freeze()
    }
}

impl http_body::Body for FaultyBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.left == 0 {
            return match self.promised {
                0 => Poll::Ready(None),
                // The connection ends as soon as what was sent has left.
                _ => Poll::Pending,
            };
        }
        if let Some(pace) = &mut self.pace
            && let Some(alarm) = &mut pace.alarm
        {
            ready!(alarm.as_mut().poll(cx));
            pace.alarm = None;
        }
        while self.held.is_empty() {
            match ready!(Pin::new(&mut self.inner).poll_frame(cx)) {
                Some(Ok(frame)) => self.held = frame.into_data().unwrap_or_default(),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => {
                    let count = self.padding.min(1 << 16);
                    self.padding -= count;
                    match count {
                        0 => return Poll::Ready(None),
                        count => self.held = Bytes::from(vec![0; count as usize]),
                    }
                }
            }
        }
        let piece = self.next_piece();
        if let Some(pace) = &mut self.pace {
            pace.alarm = Some(Box::pin(sleep(pace.interval)));
        }
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.promised == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.promised)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;
    use http_body::Body as _;
    use http_body_util::BodyExt as _;
    use tokio::time::Instant;

    fn body(plan: &BodyPlan) -> FaultyBody {
        let line = Line::default();
        FaultyBody::new(Body::from("0123456789"), 10, plan, line)
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_body_takes_its_time() {
        let plan = BodyPlan { pace: Some((4, Duration::from_secs(60))), ..BodyPlan::default() };
        let mut body = body(&plan);
        let start = Instant::now();
        for (at, piece) in [(0, "0123"), (60, "4567"), (120, "89")] {
            let frame = body.frame().await.unwrap().unwrap();
            assert_eq!(frame.into_data().unwrap(), piece);
            assert_eq!(start.elapsed().as_secs(), at);
        }
        assert!(body.frame().await.is_none());
        assert_eq!(start.elapsed().as_secs(), 120, "there is no wait after the last piece");
    }

    #[tokio::test]
    async fn what_comes_is_what_was_planned() {
        let all = |plan: BodyPlan| async move { body(&plan).collect().await.unwrap().to_bytes() };
        assert_eq!(all(BodyPlan::default()).await, "0123456789");
        assert_eq!(all(BodyPlan { length: -3, ..BodyPlan::default() }).await, "0123456");
        assert_eq!(all(BodyPlan { length: i64::MIN, ..BodyPlan::default() }).await, "");
        assert_eq!(all(BodyPlan { padding: 2, ..BodyPlan::default() }).await, "0123456789\0\0");
        let corrupt = all(BodyPlan { corrupt: Some(3), ..BodyPlan::default() }).await;
        assert_eq!(corrupt[3], !b'3');
        assert_eq!((&corrupt[..3], &corrupt[4..]), (&b"012"[..], &b"456789"[..]));
        assert_eq!(all(BodyPlan { corrupt: Some(10), ..BodyPlan::default() }).await, "0123456789");
    }

    #[tokio::test]
    async fn one_that_is_broken_off_promises_its_whole_length() {
        let end = Some((4, End::Close));
        for plan in
            [BodyPlan { end, ..BodyPlan::default() }, BodyPlan { length: 2, ..BodyPlan::default() }]
        {
            let mut body = body(&plan);
            assert_eq!(body.size_hint().exact(), Some(plan.declared(10)));
            let frame = body.frame().await.unwrap().unwrap();
            assert_eq!(
                frame.into_data().unwrap(),
                if end == plan.end { "0123" } else { "0123456789" }
            );
            assert!(!body.is_end_stream());
            assert!(body.frame().now_or_never().is_none());
        }
    }
}
