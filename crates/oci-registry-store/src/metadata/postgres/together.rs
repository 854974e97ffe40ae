//! Look-ups that share a query.
//!
//! Replicas change what names stand for, so each look-up has to ask the database; but a query costs nearly the same for one name as
//! for many. So those that come while enough queries are under way wait for the next, which asks for all of them at once. Each is
//! answered by a query that began after it came.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::BoxFuture;
use tokio::sync::oneshot;

/// How many queries are under way at most.
const QUERIES: usize = 2;

/// How often all others may go on before a query begins, so that those come along who are about to ask.
const TURNS: usize = 2;

/// Asks for some keys, and gives what each stands for in the same order. `None` if that failed.
type Ask<K, V> = Box<dyn Fn(Arc<[K]>) -> BoxFuture<'static, Option<Vec<V>>> + Send + Sync>;

/// Look-ups of one kind.
pub(super) struct Together<K, V>(Arc<Shared<K, V>>);

struct Shared<K, V> {
    ask: Ask<K, V>,
    state: Mutex<State<K, V>>,
}

struct State<K, V> {
    waiting: HashMap<K, Vec<oneshot::Sender<V>>>,
    running: usize,
}

impl<K, V> Together<K, V>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + 'static,
{
    pub(super) fn new(
        ask: impl Fn(Arc<[K]>) -> BoxFuture<'static, Option<Vec<V>>> + Send + Sync + 'static,
    ) -> Self {
        let state = Mutex::new(State { waiting: HashMap::new(), running: 0 });
        Self(Arc::new(Shared { ask: Box::new(ask), state }))
    }

    /// What a key stands for. `None` if the query failed that it shared: whoever asks may then ask alone.
    pub(super) async fn get(&self, key: K) -> Option<V> {
        let (reply, answer) = oneshot::channel();
        let start = {
            let mut state = self.0.lock();
            state.waiting.entry(key).or_default().push(reply);
            let start = state.running < QUERIES;
            state.running += usize::from(start);
            start
        };
        if start {
            // It belongs to all that wait, and not to the first who may go away.
            let running = Running { shared: Arc::clone(&self.0), done: false };
            tokio::spawn(run(running));
        }
        answer.await.ok()
    }
}

impl<K, V> Shared<K, V> {
    fn lock(&self) -> MutexGuard<'_, State<K, V>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One of those that run queries, until it finds nobody waiting.
struct Running<K, V> {
    shared: Arc<Shared<K, V>>,
    done: bool,
}

impl<K, V> Running<K, V> {
    fn next(&mut self) -> Option<HashMap<K, Vec<oneshot::Sender<V>>>> {
        let mut state = self.shared.lock();
        if state.waiting.is_empty() {
            state.running -= 1;
            self.done = true;
            return None;
        }
        Some(std::mem::take(&mut state.waiting))
    }
}

impl<K, V> Drop for Running<K, V> {
    fn drop(&mut self) {
        if !self.done {
            // It was broken off. Nobody may wait for a query that nobody runs.
            let mut state = self.shared.lock();
            state.running -= 1;
            state.waiting.clear();
        }
    }
}

async fn run<K: Clone, V: Clone>(mut running: Running<K, V>) {
    loop {
        for _ in 0..TURNS {
            tokio::task::yield_now().await;
        }
        let Some(waiting) = running.next() else { return };
        let (keys, replies): (Vec<K>, Vec<_>) = waiting.into_iter().unzip();
        let Some(found) = (running.shared.ask)(keys.into()).await else { continue };
        for (found, replies) in found.into_iter().zip(replies) {
            for reply in replies {
                // Whoever asked may have gone away.
                let _ = reply.send(found.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::FutureExt;
    use futures_util::future::join_all;
    use tokio::sync::Semaphore;

    use super::*;

    /// Look-ups that give each key tenfold, once they are let go on.
    fn tenfold(gate: &Arc<Semaphore>, queries: &Arc<AtomicUsize>) -> Together<usize, usize> {
        let (gate, queries) = (Arc::clone(gate), Arc::clone(queries));
        Together::new(move |keys: Arc<[usize]>| {
            let gate = Arc::clone(&gate);
            queries.fetch_add(1, Ordering::SeqCst);
            async move {
                gate.acquire().await.unwrap().forget();
                (!keys.contains(&1000)).then(|| keys.iter().map(|key| key * 10).collect())
            }
            .boxed()
        })
    }

    #[tokio::test]
    async fn those_that_wait_share_a_query_that_begins_after_they_came() {
        let (gate, queries) = (Arc::new(Semaphore::new(0)), Arc::default());
        let together = tenfold(&gate, &queries);
        let all = join_all((0..100).map(|n| together.get(n % 50)));
        let opened = async {
            // All are waiting by now, and the first queries have begun.
            tokio::task::yield_now().await;
            gate.add_permits(100);
        };
        let (found, ()) = futures_util::future::join(all, opened).await;
        let expected: Vec<_> = (0..100).map(|n| Some(n % 50 * 10)).collect();
        assert_eq!(found, expected);
        assert!(queries.load(Ordering::SeqCst) <= QUERIES + 1, "{queries:?} queries");
        // And all over again.
        assert_eq!(together.get(7).await, Some(70));
    }

    #[tokio::test]
    async fn a_query_that_fails_is_told_to_those_that_shared_it() {
        let gate = Arc::new(Semaphore::new(100));
        let together = tenfold(&gate, &Arc::default());
        assert_eq!(together.get(1000).await, None);
        assert_eq!(together.get(1).await, Some(10));
    }

    #[tokio::test]
    async fn who_goes_away_takes_nobody_along() {
        let gate = Arc::new(Semaphore::new(0));
        let together = tenfold(&gate, &Arc::default());
        assert!(together.get(1).now_or_never().is_none());
        gate.add_permits(100);
        assert_eq!(together.get(1).await, Some(10));
    }
}
