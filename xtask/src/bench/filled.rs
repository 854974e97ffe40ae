//! Our server with very many manifests: how soon it answers after a crash, and what is asked of it then.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use oci_spec_types::MediaType;

use crate::bench::content::expect;
use crate::bench::http::Connection;
use crate::bench::lists::{List, PAGE};
use crate::bench::target::{Kind, Target};
use crate::process::{Result, Server, say};

/// What is told of the restarts.
pub(crate) const RESTART: &str =
    "start after a crash, to the first answer, with very many manifests";

/// How many manifests each repository has, each with a tag.
const EACH: usize = 10;

/// How many connections fill it.
const CONNECTIONS: usize = 64;

/// How often it is killed and started again.
const RESTARTS: usize = 3;

fn path(number: usize) -> String {
    format!("/v2/many/r{:06}/manifests/v{}", number / EACH, number % EACH)
}

/// Fills a server, and starts it again and again. Gives it with the times from each start to its first answer.
pub(crate) async fn start(
    ocictl: &Path,
    data: &Path,
    manifests: usize,
) -> Result<(Server, Vec<Duration>)> {
    let begun = Instant::now();
    let mut server = Server::start(ocictl, data, &["--no-sync"])?;
    fill(&server.host, manifests).await?;
    say(&format!("{manifests} manifests pushed in {:.1} s", begun.elapsed().as_secs_f64()));
    let mut times = Vec::new();
    for _ in 0..RESTARTS {
        server.kill()?;
        let begun = Instant::now();
        server = Server::start(ocictl, data, &[])?;
        let mut connection = Connection::open(&server.host).await?;
        let answer = connection.send("GET", &path(manifests / 2), "", &[]).await?;
        times.push(begun.elapsed());
        expect(answer.status, 200, "GET after a start")?;
    }
    Ok((server, times))
}

async fn fill(host: &str, manifests: usize) -> Result {
    let next = Arc::new(AtomicUsize::new(0));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..CONNECTIONS {
        let (host, next) = (host.to_owned(), Arc::clone(&next));
        tasks.spawn(async move {
            let mut connection = Connection::open(&host).await?;
            let headers = format!("Content-Type: {}\r\n", MediaType::OCI_IMAGE_INDEX);
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= manifests {
                    return Result::Ok(());
                }
                let body = format!(
                    r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[],"annotations":{{"number":"{number}"}}}}"#,
                    MediaType::OCI_IMAGE_INDEX
                );
                let path = path(number);
                let done = connection.send("PUT", &path, &headers, body.as_bytes()).await?;
                expect(done.status, 201, "pushing one of many manifests")?;
            }
        });
    }
    while let Some(task) = tasks.join_next().await {
        task.map_err(|error| format!("filling a server: {error}"))??;
    }
    Ok(())
}

/// One of the manifests, another one every time.
fn choose(target: &Target, number: u64) -> Result<usize> {
    match target.kind {
        Kind::Filled { manifests } => Ok((number * 7919 % manifests as u64) as usize),
        _ => Err(format!("{} has not been filled", target.name)),
    }
}

pub(crate) async fn manifest(
    connection: &mut Connection,
    target: &Target,
    number: u64,
) -> Result<u64> {
    let path = path(choose(target, number)?);
    let answer = connection.send("GET", &path, "", &[]).await?;
    expect(answer.status, 200, &path)?;
    Ok(answer.length)
}

pub(crate) fn tag_page(target: &Target, number: u64) -> Result<List> {
    let repository = choose(target, number)? / EACH;
    let path = format!("/v2/many/r{repository:06}/tags/list?n=100");
    Ok(List { path, field: "tags", length: EACH })
}

pub(crate) fn catalog_page(target: &Target, number: u64) -> Result<List> {
    let last = choose(target, number)? / EACH;
    let path = format!("/v2/_catalog?n={PAGE}&last=many/r{last:06}");
    let after = match target.kind {
        Kind::Filled { manifests } => manifests.div_ceil(EACH) - 1 - last,
        _ => 0,
    };
    Ok(List { path, field: "repositories", length: after.min(PAGE) })
}
