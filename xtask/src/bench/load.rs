//! Many connections that do the same thing for a set time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::bench::content::Content;
use crate::bench::http::Connection;
use crate::bench::scenarios::Scenario;
use crate::bench::target::Target;
use crate::process::Result;

/// How much load.
pub(crate) struct Load {
    pub(crate) connections: usize,
    pub(crate) duration: Duration,
}

/// What was measured.
pub(crate) struct Measured {
    /// How long each operation took, the fastest first.
    pub(crate) latencies: Vec<Duration>,
    /// Bytes of content moved.
    pub(crate) bytes: u64,
    /// How long it all took.
    pub(crate) elapsed: Duration,
}

impl Load {
    pub(crate) async fn run(
        &self,
        target: &Target,
        scenario: &'static Scenario,
        content: &Arc<Content>,
    ) -> Result<Measured> {
        let next = Arc::new(AtomicU64::new(0));
        let begin = Instant::now();
        let end = begin + self.duration;
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..self.connections {
            let (target, content, next) = (target.clone(), content.clone(), next.clone());
            tasks.spawn(async move {
                let mut connection = Connection::open(&target.host).await?;
                let mut latencies = Vec::new();
                let mut bytes = 0;
                // Everybody does at least one operation, however short the time is.
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let prepared = scenario.prepare(&content, number);
                    let start = Instant::now();
                    bytes += scenario.run(&mut connection, &target, &content, &prepared).await?;
                    latencies.push(start.elapsed());
                    if Instant::now() >= end {
                        return Result::Ok((latencies, bytes));
                    }
                }
            });
        }
        let mut all = Vec::new();
        let mut total = 0;
        while let Some(task) = tasks.join_next().await {
            let (latencies, bytes) =
                task.map_err(|error| format!("a connection's task: {error}"))??;
            all.extend(latencies);
            total += bytes;
        }
        let elapsed = begin.elapsed();
        all.sort_unstable();
        Ok(Measured { latencies: all, bytes: total, elapsed })
    }
}

impl Measured {
    /// Some operations of which one came after the other, and which moved no content.
    pub(crate) fn one_by_one(mut latencies: Vec<Duration>) -> Self {
        latencies.sort_unstable();
        let elapsed = latencies.iter().sum();
        Self { latencies, bytes: 0, elapsed }
    }

    /// The latency that so many hundredths of the operations did not exceed.
    pub(crate) fn percentile(&self, hundredths: usize) -> Duration {
        let last = self.latencies.len().saturating_sub(1);
        let at = self.latencies.len() * hundredths / 100;
        self.latencies.get(at.min(last)).copied().unwrap_or_default()
    }
}
