//! Several who change one list at a time, in one process or in several: no change is lost without a
//! word.

use std::sync::Arc;

use oci_ref::{Error, Manifest, Precondition, Store};
use oci_registry_client::Repository;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::old::{Old, Versions, push};
use super::{artifact, entries, tag, written_by_others};
use crate::server::{Server, builder};

/// Waits until nothing goes on but what waits for a gate. Needs a stopped clock, which goes on only
/// when nothing else does.
async fn quiet() {
    tokio::time::sleep(std::time::Duration::from_micros(1)).await;
}

/// A push that goes as far as it can.
async fn begin(repository: &Repository, pushed: Manifest) -> JoinHandle<Result<(), Error>> {
    let repository = repository.clone();
    let push =
        tokio::spawn(
            async move { repository.put_manifest(&pushed, &[], &Precondition::None).await },
        );
    quiet().await;
    push
}

/// Counts how often the tag was asked for.
fn looks(server: &Server) -> usize {
    let line = format!("GET /v2/a/b/manifests/{}", tag());
    server.lines().iter().filter(|found| **found == line).count()
}

// The one that writes for all is cancelled: the others write for themselves.
// covers: O17 (cancellation)
#[tokio::test(start_paused = true)]
async fn a_cancelled_writer_takes_nobodys_change_along() {
    let gate = Arc::new(Semaphore::new(0));
    let old = Old::default();
    let server = old.serve().await;
    let repository = server.repository();
    repository.set_referrers_api(false).unwrap();
    old.0.lock().unwrap().gate = Some(gate.clone());

    let first = begin(&repository, artifact("x", 1)).await;
    let mut others = Vec::new();
    for number in 2..=5 {
        others.push(begin(&repository, artifact("x", number)).await);
    }
    assert_eq!(looks(&server), 1, "the others wait for the first");
    // It reads the list, and looks twice whether its own is there.
    for _ in 0..3 {
        gate.add_permits(1);
        quiet().await;
        tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    }
    first.await.unwrap().unwrap();
    assert_eq!(looks(&server), 4, "the second has begun to write for all");
    let second = others.remove(0);
    second.abort();
    assert!(second.await.unwrap_err().is_cancelled());
    gate.add_permits(Semaphore::MAX_PERMITS / 2);
    for other in others {
        other.await.unwrap().unwrap();
    }
    assert_eq!(old.listed(), entries(&[("x", 1), ("x", 3), ("x", 4), ("x", 5)]));
}

// covers: O17 (cancellation)
#[tokio::test(start_paused = true)]
async fn who_gives_up_waiting_takes_the_change_back() {
    let gate = Arc::new(Semaphore::new(0));
    let old = Old::default();
    let server = old.serve().await;
    let repository = server.repository();
    repository.set_referrers_api(false).unwrap();
    old.0.lock().unwrap().gate = Some(gate.clone());
    let first = begin(&repository, artifact("x", 1)).await;
    let second = begin(&repository, artifact("x", 2)).await;
    let third = begin(&repository, artifact("x", 3)).await;
    second.abort();
    assert!(second.await.unwrap_err().is_cancelled());
    gate.add_permits(Semaphore::MAX_PERMITS / 2);
    first.await.unwrap().unwrap();
    third.await.unwrap().unwrap();
    assert_eq!(old.listed(), entries(&[("x", 1), ("x", 3)]));
}

// Another process had read the list before, heeds no condition, and writes its own after ours was
// seen there.
// covers: O17 (several processes)
#[tokio::test]
async fn what_is_written_over_it_a_moment_later_is_noticed() {
    for versions in [Versions::Digest, Versions::None] {
        let old = Old::default();
        {
            let mut state = old.0.lock().unwrap();
            state.versions = versions;
            state.later = Some((1, written_by_others(&[("y", 7)])));
        }
        let server = old.serve().await;
        push(&server, builder(), &[artifact("x", 1)]).await.pop().unwrap().unwrap();
        assert_eq!(old.listed(), entries(&[("y", 7), ("x", 1)]));
    }
}
