//! When to try again, and how long to wait before.

use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use tokio::time::Instant;

use crate::client::HostState;
use crate::{Client, Error};

/// When a request that failed is tried again. Without a policy a client tries nothing again and resumes nothing.
///
/// Only errors that are [retryable](Error::is_retryable) are tried again, and only requests whose body can be sent
/// again. A registry's `Retry-After` is respected: the later of the two waits counts. What makes one request of a
/// client wait makes all its requests to that registry wait. A blob that made progress since its last break, in
/// either direction, starts afresh.
///
/// ```
/// use std::time::Duration;
/// use oci_registry_client::RetryPolicy;
///
/// // At most three more attempts, after 1, 2 and 4 seconds, none of them later than 20 seconds after the first.
/// let policy = RetryPolicy::new(|retry| (retry < 3).then(|| Duration::from_secs(1 << retry)))
///     .deadline(Duration::from_secs(20));
/// ```
#[derive(Clone)]
pub struct RetryPolicy {
    backoff: Arc<dyn Fn(u32) -> Option<Duration> + Send + Sync>,
    deadline: Option<Duration>,
}

/// An attempt that failed and will be repeated, as it is told to [`ClientBuilder::on_retry`](crate::ClientBuilder::on_retry).
#[derive(Debug)]
#[non_exhaustive]
pub struct Retry<'a> {
    /// Why the attempt failed.
    pub error: &'a Error,
    /// How many attempts have failed, without progress between them.
    pub failed: u32,
    /// How long until the next.
    pub wait: Duration,
}

/// Who is told of attempts that failed and will be repeated.
pub(crate) type Handler = Arc<dyn Fn(&Retry<'_>) + Send + Sync>;

impl RetryPolicy {
    /// A policy that waits `backoff(0)` before the second attempt, `backoff(1)` before the third, and so on, until
    /// `backoff` gives `None`. There is no deadline unless one is set.
    pub fn new(backoff: impl Fn(u32) -> Option<Duration> + Send + Sync + 'static) -> Self {
        Self { backoff: Arc::new(backoff), deadline: None }
    }

    /// Waits between half of `first` and `first`, then twice as long each time, up to `longest`, at most `retries`
    /// times. The waits vary at random, so that many clients do not come back at once.
    pub fn exponential(first: Duration, longest: Duration, retries: u32) -> Self {
        Self::new(move |retry| {
            let wait = first.saturating_mul(2u32.saturating_pow(retry)).min(longest);
            (retry < retries).then(|| wait.mul_f64(0.5 + random_fraction() / 2.0))
        })
    }

    /// No attempt begins later than this after the first, or after the last progress. A wait that would pass it fails
    /// at once.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }
}

impl Default for RetryPolicy {
    /// Exponential from half a second to 30 seconds, 6 retries, within 5 minutes.
    fn default() -> Self {
        Self::exponential(Duration::from_millis(500), Duration::from_secs(30), 6)
            .deadline(Duration::from_secs(300))
    }
}

impl fmt::Debug for RetryPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryPolicy").field("deadline", &self.deadline).finish_non_exhaustive()
    }
}

/// A number between 0 and 1, from what seeds the standard library's hash maps.
pub(crate) fn random_fraction() -> f64 {
    let bits = RandomState::new().build_hasher().finish();
    f64::from(u32::try_from(bits >> 32).unwrap_or_default()) / f64::from(u32::MAX)
}

/// The attempts at one thing.
pub(crate) struct Attempts {
    /// Whose policy counts; `None` for a single attempt.
    client: Option<Client>,
    failed: u32,
    started: Instant,
}

impl Attempts {
    pub(crate) fn new(client: Client) -> Self {
        Self { client: Some(client), failed: 0, started: Instant::now() }
    }

    /// One attempt, whatever the policy says.
    pub(crate) fn once() -> Self {
        Self { client: None, failed: 0, started: Instant::now() }
    }

    fn policy(&self) -> Option<(&Client, &RetryPolicy)> {
        let client = self.client.as_ref()?;
        Some((client, client.retry_policy()?))
    }

    /// There was progress: what failed before does not count any more.
    pub(crate) fn reset(&mut self) {
        self.failed = 0;
        self.started = Instant::now();
    }

    /// Content moved at this time, so that the deadline counts from then. Attempts are counted on.
    pub(crate) fn moved(&mut self, at: Instant) {
        self.started = self.started.max(at);
    }

    /// Waits until the registry may be asked, if another request has to wait for it.
    pub(crate) async fn ready(&self, host: &HostState) {
        if let Some((_, policy)) = self.policy() {
            let latest = policy.deadline.and_then(|deadline| self.started.checked_add(deadline));
            if let Some(until) = host.paused_until() {
                tokio::time::sleep_until(latest.map_or(until, |latest| latest.min(until))).await;
            }
        }
    }

    /// Waits before the next attempt, or gives the error back if there shall be none.
    pub(crate) async fn failed(&mut self, host: &HostState, error: Error) -> Result<(), Error> {
        let Some((client, policy)) = self.policy().filter(|_| error.is_retryable()) else {
            return Err(error);
        };
        let Some(backoff) = (policy.backoff)(self.failed) else {
            return Err(match self.failed {
                0 => error,
                1 => error.and("gave up after 1 retry"),
                retries => error.and(&format!("gave up after {retries} retries")),
            });
        };
        let failed = self.failed + 1;
        let wait = backoff.max(error.retry_after().unwrap_or_default());
        let now = Instant::now();
        let at = now.checked_add(wait);
        let latest = policy.deadline.and_then(|deadline| self.started.checked_add(deadline));
        let Some(at) = at.filter(|at| latest.is_none_or(|latest| *at <= latest)) else {
            let after = policy.deadline.unwrap_or_default();
            return Err(error.and(&format!(
                "the next attempt would be in {wait:?}, past the deadline of {after:?}"
            )));
        };
        client.tell_retry(&Retry { error: &error, failed, wait });
        self.failed = failed;
        host.pause_until(at);
        tokio::time::sleep_until(at).await;
        Ok(())
    }
}

/// How long a `Retry-After` asks to wait: seconds, or an HTTP date (RFC 9110, 10.2.3).
pub(crate) fn retry_after(headers: &HeaderMap, now: jiff::Timestamp) -> Option<Duration> {
    let value = headers.get(http::header::RETRY_AFTER)?.to_str().ok()?.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        return value.parse().ok().map(Duration::from_secs);
    }
    let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(value).ok()?;
    // A date that has passed asks for no wait.
    Some(Duration::try_from(date.duration_since(now)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    fn after(value: &str) -> Option<Duration> {
        let now = "2015-10-21T07:27:30Z".parse().unwrap();
        let mut headers = HeaderMap::new();
        headers.insert(http::header::RETRY_AFTER, HeaderValue::from_str(value).unwrap());
        retry_after(&headers, now)
    }

    // covers: M10
    #[test]
    fn seconds_and_dates() {
        let cases = [
            ("0", Some(0)),
            ("120", Some(120)),
            ("Wed, 21 Oct 2015 07:28:00 GMT", Some(30)),
            ("Wed, 21 Oct 2015 07:27:00 GMT", Some(0)),
            ("-1", None),
            ("1.5", None),
            ("99999999999999999999", None),
            ("soon", None),
            ("", None),
        ];
        for (value, expected) in cases {
            assert_eq!(after(value), expected.map(Duration::from_secs), "{value:?}");
        }
    }

    #[test]
    fn exponential_waits_grow_to_the_longest() {
        let policy = RetryPolicy::exponential(Duration::from_secs(1), Duration::from_secs(10), 40);
        for (retry, longest) in [(0, 1), (1, 2), (2, 4), (3, 8), (4, 10), (39, 10)] {
            let wait = (policy.backoff)(retry).unwrap();
            let longest = Duration::from_secs(longest);
            assert!(wait >= longest / 2 && wait <= longest, "{retry}: {wait:?}");
        }
        assert_eq!((policy.backoff)(40), None);
    }

    proptest! {
        #[test]
        fn anything_is_read_without_a_panic(value in "[ -~]{0,40}") {
            after(&value);
        }
    }
}
