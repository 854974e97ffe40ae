//! One operation after the other, one request at a time.

use std::time::{Duration, Instant};

use crate::bench::http::Connection;
use crate::bench::load::Measured;
use crate::process::Result;
use crate::scale::counters::{Counters, Used};
use crate::scale::operations::{Operation, Targets};

/// The number of times that an operation is done before it is measured, so that statements are
/// planned.
const BEFORE: usize = 5;

/// The figures of an operation.
pub(crate) struct Figures {
    pub(crate) name: &'static str,
    pub(crate) count: usize,
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
    pub(crate) used: Used,
}

pub(crate) async fn measure(
    operation: &Operation,
    targets: &mut Targets<'_>,
    connection: &mut Connection,
    counters: &Counters,
    count: usize,
) -> Result<Figures> {
    for _ in 0..BEFORE {
        run(operation, targets, connection).await?;
    }
    let before = counters.count().await?;
    let mut latencies = Vec::with_capacity(count);
    for _ in 0..count {
        latencies.push(run(operation, targets, connection).await?);
    }
    let after = counters.count().await?;
    let measured = Measured::one_by_one(latencies);
    Ok(Figures {
        name: operation.name,
        count,
        p50: measured.percentile(50),
        p99: measured.percentile(99),
        used: counters.used(before, after, count),
    })
}

/// Does it once, and says how long that took.
pub(crate) async fn run(
    operation: &Operation,
    targets: &mut Targets<'_>,
    connection: &mut Connection,
) -> Result<Duration> {
    let requests = (operation.requests)(targets);
    let begun = Instant::now();
    for request in &requests {
        let sent = request.send(connection).await;
        sent.map_err(|error| format!("{}: {error}", operation.name))?;
    }
    Ok(begun.elapsed())
}
