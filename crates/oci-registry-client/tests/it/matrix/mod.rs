//! Every fault on every request of every operation: it succeeds and is exact, or fails with an error that says what
//! happened, within its time, and leaves no upload open. Who the client is, nobody else learns.

mod operations;
mod world;

use std::collections::BTreeSet;
use std::time::Duration;

use http::header::CONTENT_LENGTH;
use http::{HeaderValue, Method, StatusCode};
use oci_registry_server::{Endpoint, Fault, FaultAnswer, FaultRule};

use operations::{EVERY, Operation};
use world::World;

/// No wait in here is longer than milliseconds; this is for a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);

/// How many of the requests a fault happens to.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Times {
    Once,
    Always,
}

/// Faults that pass, and that a client gets over which tries again.
fn passes(fault: &str) -> bool {
    let status = ["408", "425", "429", "500", "503", "507"];
    fault.strip_prefix("status ").is_some_and(|code| status.contains(&code))
        || fault.starts_with("reset at ")
        || fault.starts_with("close at ")
        || ["busy", "latency", "slow", "length too large"].contains(&fault)
        || fault.starts_with("HEAD ")
}

/// Answers that are well formed, and not true: nothing shows that they are not.
fn is_believed(operation: &str, fault: &str) -> bool {
    if fault == "redirect to another" {
        // A registry may keep all of something elsewhere, and there it is not, or is pushed to.
        return true;
    }
    match operation {
        "blob_size" => {
            ["status 404", "a page", "length too large", "length too small", "extra bytes"]
                .contains(&fault)
        }
        // No digest is of a part.
        "range" | "seek" => ["corrupt", "answered 200"].contains(&fault),
        // Only the bytes show it, and they are not asked for.
        "resolve_tag" => fault == "wrong digest",
        "referrers" | "tags" | "catalog" if fault == "null lists" => true,
        // Where there is no such API, a list is kept under a tag.
        "referrers" | "push_with_subject" | "delete_manifest" => {
            ["status 400", "status 404", "status 405", "status 406", "status 501"].contains(&fault)
                || ["a page", "another type", "without content-type"].contains(&fault)
        }
        "delete_tag" | "delete_blob" => fault == "a page",
        _ => false,
    }
}

/// Whether each attempt makes a little progress, so that there are thousands of them.
fn crawls(operation: &str, endpoint: Endpoint, fault: &str) -> bool {
    let reads = ["blob", "range", "parallel", "seek", "download_resumed"].contains(&operation);
    reads && endpoint == Endpoint::PullBlob && fault.ends_with(" at body")
}

/// Whether a client cannot know of an upload that the registry has opened, or cannot reach it.
fn hides_uploads(operation: &str, endpoint: Endpoint, fault: &str) -> bool {
    let location = fault.starts_with("location on") || fault.starts_with("redirect");
    let lost =
        fault.contains(" at ") || fault == "without location" || fault.starts_with("answered ");
    match endpoint {
        Endpoint::BeginUpload | Endpoint::MountBlob => location || lost,
        // Where a resumption cannot ask, there is no upload to be given up; its name stays good.
        Endpoint::UploadStatus if operation == "staged_and_resumed" => true,
        Endpoint::PatchUpload | Endpoint::UploadStatus | Endpoint::CloseUpload => location,
        // What cannot be cancelled expires.
        Endpoint::CancelUpload => true,
        _ => false,
    }
}

/// All faults, by name, as they are for whoever leads to `other`.
fn faults(other: &str) -> Vec<(String, FaultRule)> {
    let every = Fault::every(other).into_iter();
    let mut all: Vec<_> = every.map(|(name, fault)| (name, FaultRule::new(fault))).collect();
    for status in [StatusCode::FORBIDDEN, StatusCode::METHOD_NOT_ALLOWED] {
        let refused = FaultRule::new(FaultAnswer::new(status)).method(Method::HEAD);
        all.push((format!("HEAD refused by {}", status.as_u16()), refused));
    }
    let nothing = Fault::header(CONTENT_LENGTH, HeaderValue::from_static("0"));
    all.push(("HEAD without a length".into(), FaultRule::new(nothing).method(Method::HEAD)));
    all
}

async fn run(operation: &Operation, world: &World) -> oci_ref::Result<bool> {
    let done = tokio::time::timeout(DEADLINE, (operation.run)(world)).await;
    done.unwrap_or_else(|_| panic!("{} does not end", operation.name))
}

/// What an operation asks for, where nothing goes wrong.
async fn asked(operation: &Operation) -> BTreeSet<Endpoint> {
    let world = World::start().await;
    assert!(run(operation, &world).await.unwrap(), "{} without faults", operation.name);
    assert_eq!(world.open_uploads(), 0, "{} without faults", operation.name);
    world.registry.requests().iter().map(|request| request.endpoint).collect()
}

async fn one(operation: &Operation, endpoint: Endpoint, name: &str, index: usize, times: Times) {
    let world = World::start().await;
    let rule = faults(&world.other.url()).swap_remove(index).1.endpoint(endpoint);
    world.registry.inject(if times == Times::Once { rule.first(1) } else { rule });
    let case = format!("{}, {endpoint:?}, {name}, {times:?}", operation.name);
    match run(operation, &world).await {
        Ok(right) => assert!(right || is_believed(operation.name, name), "{case}: not right"),
        Err(error) => {
            assert!(times == Times::Always || !passes(name), "{case}: {error:?}");
            let text = format!("{error:?}");
            assert!(!error.to_string().is_empty(), "{case}");
            assert!(!text.contains("secret") && !text.contains("token-"), "{case}: {text}");
            assert_ne!(*error.kind(), oci_ref::ErrorKind::Cancelled, "{case}: {text}");
        }
    }
    for request in world.other.requests() {
        assert_eq!(request.credentials, None, "{case}: {request:?}");
    }
    if !hides_uploads(operation.name, endpoint, name) {
        // What is dropped is cancelled in the background.
        let closed = async {
            while world.open_uploads() > 0 {
                tokio::task::yield_now().await;
            }
        };
        let closed = tokio::time::timeout(DEADLINE, closed).await;
        assert!(closed.is_ok(), "{case}: an upload is left open: {:#?}", world.registry.requests());
    }
}

async fn all_of(name: &str) {
    let operation = EVERY.iter().find(|operation| operation.name == name).unwrap();
    let faults = faults("http://other.invalid");
    for endpoint in asked(operation).await {
        for (index, (fault, _)) in faults.iter().enumerate() {
            // What does not pass may as well stay.
            if passes(fault) {
                one(operation, endpoint, fault, index, Times::Once).await;
            }
            if !crawls(name, endpoint, fault) {
                one(operation, endpoint, fault, index, Times::Always).await;
            }
        }
    }
}

macro_rules! rows {
    ($($name:ident),* $(,)?) => {
        const ROWS: &[&str] = &[$(stringify!($name)),*];

        $(#[tokio::test]
        async fn $name() {
            all_of(stringify!($name)).await;
        })*
    };
}

rows! {
    ping, catalog, tags, manifest_by_tag, manifest_by_digest, resolve_tag, resolve_digest, blob_size, blob, range,
    parallel, seek, download_resumed, push_at_once, push_in_chunks, staged_and_resumed, staged_and_cancelled, mount,
    push_manifest, push_manifest_with_tags, push_with_subject, set_tag, referrers, delete_tag, delete_manifest,
    delete_blob,
}

/// Faults that take hours are tried in hours that pass at once, where a body is long.
#[tokio::test(start_paused = true)]
async fn what_drips_is_given_up() {
    // Time does not pass while a file is being written.
    for name in ["blob", "range", "parallel", "seek"] {
        let operation = EVERY.iter().find(|operation| operation.name == name).unwrap();
        let world = World::start().await;
        let drips = Fault::slow(1, Duration::from_secs(1));
        world.registry.inject(FaultRule::new(drips).endpoint(Endpoint::PullBlob));
        let done = tokio::time::timeout(Duration::from_secs(3600), (operation.run)(&world)).await;
        let error = done.unwrap_or_else(|_| panic!("{name} does not end")).unwrap_err();
        assert!(error.is_retryable(), "{name}: {error:?}");
    }
}

#[tokio::test]
async fn no_operation_and_no_request_is_forgotten() {
    assert_eq!(EVERY.iter().map(|operation| operation.name).collect::<Vec<_>>(), ROWS);
    let mut all = BTreeSet::new();
    for operation in EVERY {
        all.extend(asked(operation).await);
    }
    // A blob is pushed with PUT: a registry that does not know the other way would take it for something else.
    let expected = Endpoint::EVERY.into_iter().filter(|endpoint| *endpoint != Endpoint::PushBlob);
    assert_eq!(all, expected.collect());
}
