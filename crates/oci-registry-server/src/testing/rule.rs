//! To which requests a fault happens, and how often.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::Method;

use super::glob;
use super::{Endpoint, Fault, RecordedRequest};

/// Says to which requests which [`Fault`]s happen, and how often: to all, unless said otherwise. All conditions must
/// hold.
///
/// The rules of a [`TestRegistry`](crate::TestRegistry) are asked in their order, and a request meets the first one that
/// is due, which may have several faults; the others do not see it. So rules that are due once for each path
/// make a sequence that every path goes through.
///
/// ```
/// use http::{Method, StatusCode};
/// use oci_registry_server::{BreakAt, Endpoint, Fault, FaultAnswer, FaultRule};
///
/// // Every second blob breaks off after 1000 bytes.
/// let broken = FaultRule::new(Fault::close(BreakAt::Body(1000))).endpoint(Endpoint::PullBlob).every(2);
/// // The third manifest that is pushed to team/… gets lost.
/// let lost = FaultRule::new(Fault::reset(BreakAt::Answer))
///     .method(Method::PUT)
///     .path("/v2/team/*/manifests/*")
///     .skip(2)
///     .first(1);
/// // Whoever brings no credentials is told to go away.
/// let anonymous = FaultRule::new(FaultAnswer::new(StatusCode::FORBIDDEN))
///     .when(|request| request.credentials.is_none());
/// # let _ = (broken, lost, anonymous);
/// ```
#[derive(Clone)]
pub struct FaultRule {
    faults: Vec<Fault>,
    endpoints: Vec<Endpoint>,
    method: Option<Method>,
    path: Option<String>,
    when: Option<Predicate>,
    skip: u64,
    times: Times,
}

type Predicate = Arc<dyn Fn(&RecordedRequest) -> bool + Send + Sync>;

/// How often a rule is due.
#[derive(Clone, Copy, Debug)]
enum Times {
    Always,
    First(u64),
    Every(u64),
    OncePerPath,
}

impl FaultRule {
    /// A fault that happens to all requests.
    pub fn new(fault: impl Into<Fault>) -> Self {
        Self {
            faults: vec![fault.into()],
            endpoints: Vec::new(),
            method: None,
            path: None,
            when: None,
            skip: 0,
            times: Times::Always,
        }
    }

    /// One more fault that happens to the same requests. Where two cannot both happen the later one does, but for
    /// answers in place of the registry's, of which the first counts.
    #[must_use]
    pub fn and(mut self, fault: impl Into<Fault>) -> Self {
        self.faults.push(fault.into());
        self
    }

    /// Only to requests that ask for this; called more than once, for one of these.
    #[must_use]
    pub fn endpoint(mut self, endpoint: Endpoint) -> Self {
        self.endpoints.push(endpoint);
        self
    }

    /// Only to requests with this method.
    #[must_use]
    pub fn method(mut self, method: Method) -> Self {
        self.method = Some(method);
        self
    }

    /// Only to requests whose whole path fits a pattern, in which `*` stands for any characters, `/` too, and `?` for
    /// one.
    #[must_use]
    pub fn path(mut self, pattern: impl Into<String>) -> Self {
        self.path = Some(pattern.into());
        self
    }

    /// Only to requests that fulfil this. It must not call the registry's own methods.
    #[must_use]
    pub fn when(
        mut self,
        predicate: impl Fn(&RecordedRequest) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.when = Some(Arc::new(predicate));
        self
    }

    /// Not to the first so many of these requests; counting begins behind them.
    #[must_use]
    pub fn skip(mut self, count: u64) -> Self {
        self.skip = count;
        self
    }

    /// To the first so many of these requests.
    #[must_use]
    pub fn first(mut self, count: u64) -> Self {
        self.times = Times::First(count);
        self
    }

    /// To every `k`-th of these requests: with 3 to the third, the sixth and so on. With 0 to none.
    #[must_use]
    pub fn every(mut self, k: u64) -> Self {
        self.times = Times::Every(k);
        self
    }

    /// To the first of these requests for each path, whatever their method and query.
    #[must_use]
    pub fn once_per_path(mut self) -> Self {
        self.times = Times::OncePerPath;
        self
    }

    fn selects(&self, request: &RecordedRequest) -> bool {
        (self.endpoints.is_empty() || self.endpoints.contains(&request.endpoint))
            && self.method.as_ref().is_none_or(|method| *method == request.method)
            && self.path.as_ref().is_none_or(|pattern| glob::fits(pattern, &request.path))
            && self.when.as_ref().is_none_or(|when| when(request))
    }
}

impl fmt::Debug for FaultRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultRule")
            .field("faults", &self.faults)
            .field("endpoints", &self.endpoints)
            .field("method", &self.method)
            .field("path", &self.path)
            .field("when", &self.when.is_some())
            .field("skip", &self.skip)
            .field("times", &self.times)
            .finish()
    }
}

/// The rules of a registry, and how far each has come.
#[derive(Default)]
pub(super) struct Script(Mutex<Vec<Progress>>);

struct Progress {
    rule: FaultRule,
    /// How many requests it has selected.
    seen: u64,
    paths: HashSet<String>,
}

impl Script {
    pub(super) fn add(&self, rule: FaultRule) {
        self.lock().push(Progress { rule, seen: 0, paths: HashSet::new() });
    }

    pub(super) fn clear(&self) {
        self.lock().clear();
    }

    /// The faults that happen to a request.
    pub(super) fn faults(&self, request: &RecordedRequest) -> Vec<Fault> {
        let mut rules = self.lock();
        let due =
            rules.iter_mut().find_map(|progress| progress.is_due(request).then_some(&*progress));
        due.map(|progress| progress.rule.faults.clone()).unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Progress>> {
        // A predicate that panics is asked before anything is counted.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Progress {
    fn is_due(&mut self, request: &RecordedRequest) -> bool {
        if !self.rule.selects(request) {
            return false;
        }
        self.seen += 1;
        let Some(count) = self.seen.checked_sub(self.rule.skip).filter(|count| *count > 0) else {
            return false;
        };
        match self.rule.times {
            Times::Always => true,
            Times::First(first) => count <= first,
            Times::Every(k) => k > 0 && count % k == 0,
            Times::OncePerPath => self.paths.insert(request.path.clone()),
        }
    }
}
