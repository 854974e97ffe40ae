//! `ocictl serve`: a registry with embedded storage.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use oci_registry_server::{ServeOptions, ServerOptions, router, serve};
use oci_registry_store::{CollectOptions, DurableRegistry, EngineOptions, References};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::time::MissedTickBehavior;

use crate::background::Background;
use crate::cli::{self, ServeArgs};
use crate::failure::Failure;
use crate::signals::Signals;
use crate::{control, descriptors, output, upkeep};

const SWEEP_EVERY: Duration = Duration::from_secs(60);

pub(crate) async fn run(args: ServeArgs) -> Result<(), Failure> {
    let signals = &mut Signals::take()?;
    let grace = Duration::from_secs(args.grace);
    let (app, limits) = (server_options(&args)?, serve_options(&args)?);
    let (read_only, external_url) = (args.read_only, args.external_url.clone());
    let data = upkeep::data(args.data)?;
    let mut options = EngineOptions::default();
    options.database = upkeep::database(args.database.as_deref())?;
    options.lease = args.lease;
    options.sync = !args.no_sync;
    options.cache = usize::try_from(args.cache).unwrap_or(usize::MAX).saturating_mul(1 << 20);
    options.storage = args.storage;
    options.storage_moved = args.storage_moved;
    options.redirect_reads = args.redirect_reads;
    options.references = match args.references {
        cli::References::Complete => References::Complete,
        cli::References::SparseIndexes => References::SparseIndexes,
        cli::References::Unchecked => References::Unchecked,
    };
    options.grace = args.gc_grace;
    options.untagged = args.gc_untagged;
    options.longest_read = args.longest_read;
    options.session_idle = args.limits.upload_idle;
    options.max_uploads = args.limits.max_uploads;
    options.upload_space = mebibytes(args.limits.upload_space);
    options.min_free_space = mebibytes(args.limits.min_free_space);
    let (shared, database) = (options.database.is_shared(), options.database.to_string());
    let opened = tokio::select! {
        opened = DurableRegistry::open(&data, options) => opened,
        () = signals.end() => return Err(Failure::new("asked to end before the data was open")),
    };
    let registry = opened.map_err(|error| {
        // A bucket or a database can be unavailable too.
        let says = |text: &str| error.message().contains(text);
        let hint = if says("in use") {
            "one process serves a directory at a time; --data DIR takes another"
        } else if says("lies in storage") {
            "name that by --storage; or, if all of it has been moved, say so by --storage-moved"
        } else if says("is a file") || says("cannot make data directory") || says("cannot write to data directory") {
            "--data names a directory that belongs to the user who runs this, or a new one where they may make it"
        } else {
            ""
        };
        let failure = Failure::of(format!("opening the data in {}", data.display()), error);
        if hint.is_empty() { failure } else { failure.hint(hint) }
    })?;
    let listener = TcpListener::bind(args.listen).await.map_err(|error| {
        Failure::new(format!("listening on {}", args.listen))
            .because(error)
            .hint("--listen 127.0.0.1:0 takes a free port")
    })?;
    let address = listener
        .local_addr()
        .map_err(|error| Failure::new("asking where the server listens").because(error))?;
    let control = control::bind(&data);
    let pushes = (!read_only).then(|| reached_at(address, external_url.as_deref()));
    say(&announcement(address, &data, shared.then_some(&*database), pushes.as_deref()));
    let mut background = Background::default();
    background.start("freeing abandoned uploads", sweep(registry.clone()));
    if !args.gc_interval.is_zero() {
        background.start("collecting garbage", collect(registry.clone(), args.gc_interval));
    }
    if let Some(control) = control {
        background.start("serving the control socket", control::listen(control, registry.clone()));
    }
    let mut done = Ok(());
    let (asked, mut again) = oneshot::channel();
    let ends = async {
        tokio::select! {
            () = signals.end() => {}
            failure = background.failed() => done = Err(failure),
        }
        say(&draining(grace));
        // Whoever waits for it is gone only if this is, too.
        let _ = asked.send(signals);
    };
    let served = serve(listener, router(Arc::new(registry.clone()), app), limits, ends);
    let asked_again = async {
        match (&mut again).await {
            Ok(signals) => signals.end().await,
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        () = served => {}
        () = asked_again => say("ending at once: what is under way is broken off\n"),
    }
    drop(background);
    registry.close().await;
    done
}

fn mebibytes(count: u64) -> u64 {
    count.saturating_mul(1 << 20)
}

fn server_options(args: &ServeArgs) -> Result<ServerOptions, Failure> {
    let limits = &args.limits;
    let mut options = ServerOptions::new()
        .read_only(args.read_only)
        .deletes(!args.no_delete)
        .catalog(!args.no_catalog)
        .allow_hosts(&args.allow_host)
        .unknown_manifests(args.unknown_manifests == cli::UnknownManifests::Accept)
        .max_manifest_bytes(limits.max_manifest)
        .manifest_memory(u64::from(limits.manifest_memory) << 20)
        .max_blob_bytes(limits.max_blob)
        .max_requests(limits.max_requests.map(|requests| requests as usize))
        .idle_timeout(Duration::from_secs(limits.idle_timeout))
        .min_rate(limits.min_rate);
    if let Some(url) = &args.external_url {
        options = options
            .external_url(url)
            .map_err(|error| Failure::new("--external-url").because(error))?;
    }
    for origin in &args.cors_origin {
        options = options
            .cors_origin(origin)
            .map_err(|error| Failure::new("--cors-origin").because(error))?;
    }
    Ok(options)
}

fn serve_options(args: &ServeArgs) -> Result<ServeOptions, Failure> {
    let limits = &args.limits;
    let peer = limits.max_connections_per_peer;
    let wanted = limits.max_connections as usize;
    let files = descriptors::raise();
    let connections = descriptors::connections(wanted, files);
    if connections < wanted {
        tracing::warn!(
            "at most {connections} connections at a time, and not {wanted}: this process may have \
             {files} files open (ulimit -n)"
        );
    }
    let mut options = ServeOptions::new()
        .grace(Duration::from_secs(args.grace))
        .max_connections(connections)
        .max_connections_per_peer(peer.map(|connections| connections as usize))
        .keep_alive(Duration::from_secs(limits.keep_alive))
        .header_timeout(Duration::from_secs(limits.header_timeout))
        .idle_timeout(Duration::from_secs(limits.idle_timeout))
        .min_rate(limits.min_rate);
    for network in &limits.trusted_proxy {
        options = options
            .trusted_proxy(network)
            .map_err(|error| Failure::new("--trusted-proxy").because(error))?;
    }
    Ok(options)
}

/// Frees what abandoned uploads have left, now and then.
async fn sweep(registry: DurableRegistry) -> Infallible {
    let mut next = tokio::time::interval(SWEEP_EVERY);
    loop {
        next.tick().await;
        if let Err(error) = registry.sweep().await {
            tracing::warn!(%error, "sweeping abandoned uploads failed");
        }
    }
}

/// Collects garbage now and then.
async fn collect(registry: DurableRegistry, every: Duration) -> Infallible {
    let mut next = tokio::time::interval(every);
    next.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        next.tick().await;
        match registry.collect(&CollectOptions::default(), |_| {}).await {
            Ok(report) => tracing::info!(
                manifests = report.manifests,
                blobs = report.blobs,
                bytes = report.bytes,
                files = report.objects,
                "garbage collected"
            ),
            Err(error) => tracing::warn!(%error, "collecting garbage failed"),
        }
    }
}

/// The host by which whoever reads it on this machine reaches the server: that of the URL which
/// clients are said to use, or the address, or this machine's own if it listens on all.
fn reached_at(address: SocketAddr, external_url: Option<&str>) -> String {
    let external = external_url.and_then(|url| {
        let host = url.split_once("://")?.1.trim_end_matches('/');
        (!host.contains('/')).then(|| host.to_owned())
    });
    let mut address = address;
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    external.unwrap_or_else(|| address.to_string())
}

/// The lines that are said once the server listens.
fn announcement(
    address: SocketAddr,
    data: &Path,
    database: Option<&str>,
    pushes: Option<&str>,
) -> String {
    let data = data.display();
    let database = database.map_or_else(String::new, |url| format!("metadata in {url}\n"));
    let pushes = pushes.map_or_else(String::new, |host| {
        format!("push to it:  ocictl copy oci:LAYOUT:NAME docker://{host}/my/image:latest\n")
    });
    format!("listening on http://{address}\ndata in {data}\n{database}{pushes}")
}

fn draining(grace: Duration) -> String {
    let grace = humantime::format_duration(grace);
    format!("ending: requests under way have {grace}; another signal ends them at once\n")
}

/// Says something on standard output. A server goes on without it: it may be closed, or lie on a
/// full disk.
fn say(text: &str) {
    if let Err(failure) = output::print(text.as_bytes()) {
        tracing::warn!(error = %failure.chain(), "not said: {}", text.trim_end());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_to_push_to_is_one_that_can_be_reached() {
        for (listens, url, expected) in [
            ("127.0.0.1:5000", None, "127.0.0.1:5000"),
            ("0.0.0.0:5000", None, "127.0.0.1:5000"),
            ("[::]:5000", None, "[::1]:5000"),
            ("192.0.2.1:80", None, "192.0.2.1:80"),
            ("0.0.0.0:5000", Some("https://registry.example/"), "registry.example"),
            ("0.0.0.0:5000", Some("https://registry.example/below"), "127.0.0.1:5000"),
        ] {
            assert_eq!(reached_at(listens.parse().unwrap(), url), expected, "{listens} {url:?}");
        }
        let said =
            |pushes| announcement("0.0.0.0:5000".parse().unwrap(), Path::new("data"), None, pushes);
        let listens = "listening on http://0.0.0.0:5000\ndata in data\n";
        assert_eq!(said(None), listens);
        assert!(said(Some("127.0.0.1:5000")).contains(" docker://127.0.0.1:5000/my/image:latest"));
    }
}
