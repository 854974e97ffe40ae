//! Pairs of transactions, the one stopped before each of its writing statements while the other runs.
//!
//! Triggers stop the real transactions: they wait for an advisory lock that the test holds. The other then runs to its end, or
//! until it waits for the first. After both have ended, the rows must be as if one had come after the other.

use std::fmt::Write as _;
use std::time::Duration;

use futures_util::FutureExt as _;
use oci_ref::{Access, Error, ErrorKind, Manifest, Mounted, Precondition, Registry, Store};
use oci_registry_store::{CollectOptions, DurableRegistry, EngineOptions, References};
use oci_spec_types::ErrorCode;
use tokio_postgres::Client;

use super::server;
use crate::support::*;

/// What stops engine `a` before its statement number `at`.
const TRIGGERS: &str = "
    CREATE TABLE stop (at integer NOT NULL);
    INSERT INTO stop VALUES (0);
    CREATE FUNCTION stop() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE
        number integer := coalesce(nullif(current_setting('test.number', true), ''), '0')::integer + 1;
    BEGIN
        IF current_setting('application_name') = 'a' THEN
            PERFORM set_config('test.number', number::text, true);
            IF number = (SELECT at FROM stop) THEN
                PERFORM pg_advisory_xact_lock_shared(77);
            END IF;
        END IF;
        RETURN NULL;
    END $$;
    DO $$
    DECLARE name text;
    BEGIN
        FOREACH name IN ARRAY ARRAY['repository', 'pending_object', 'blob', 'repository_blob', 'manifest',
            'repository_manifest', 'manifest_blob', 'missing_blob', 'manifest_child', 'tag', 'referrer'] LOOP
            EXECUTE format('CREATE TRIGGER stop BEFORE INSERT OR UPDATE OR DELETE ON %I
                            FOR EACH STATEMENT EXECUTE FUNCTION stop()', name);
        END LOOP;
    END $$";

/// What must never be, each a count of rows.
const WRONG: [(&str, &str); 9] = [
    ("blobs of no repository", "SELECT count(*) FROM blob WHERE NOT EXISTS (SELECT 1 FROM repository_blob WHERE blob = blob.id)"),
    ("manifests of no repository", "SELECT count(*) FROM manifest WHERE NOT EXISTS (SELECT 1 FROM repository_manifest WHERE manifest = manifest.id)"),
    ("empty repositories", "SELECT count(*) FROM repository WHERE NOT EXISTS (SELECT 1 FROM repository_blob WHERE repository = repository.id)
        AND NOT EXISTS (SELECT 1 FROM repository_manifest WHERE repository = repository.id)"),
    ("blobs that are missing and here", "SELECT count(*) FROM missing_blob JOIN blob ON blob.digest = missing_blob.digest
        JOIN repository_blob AS link ON link.repository = missing_blob.repository AND link.blob = blob.id"),
    ("garbage that no collector looks at", "SELECT count(*) FROM repository_blob AS link WHERE candidate_since IS NULL
        AND NOT EXISTS (SELECT 1 FROM manifest_blob WHERE repository = link.repository AND blob = link.blob)"),
    ("manifests that no collector looks at", "SELECT count(*) FROM repository_manifest AS link
        JOIN manifest ON manifest.id = link.manifest WHERE candidate_since IS NULL
        AND NOT EXISTS (SELECT 1 FROM tag WHERE tag.manifest = link.id)
        AND NOT EXISTS (SELECT 1 FROM manifest_child WHERE repository = link.repository AND child = manifest.digest)
        AND NOT EXISTS (SELECT 1 FROM referrer WHERE referrer.manifest = link.id)"),
    ("blobs whose object may be deleted", "SELECT count(*) FROM blob JOIN pending_object ON key = object"),
    ("children that were collected under a parent", "SELECT count(*) FROM manifest_child JOIN repository AS r ON r.id = manifest_child.repository
        WHERE r.name LIKE '%/kept' AND NOT EXISTS (
            SELECT 1 FROM manifest JOIN repository_manifest AS link ON link.manifest = manifest.id
            WHERE manifest.digest = child AND link.repository = manifest_child.repository)
        AND NOT EXISTS (
            SELECT 1 FROM blob JOIN repository_blob AS link ON link.blob = blob.id
            WHERE blob.digest = child AND link.repository = manifest_child.repository)
        AND NOT EXISTS (SELECT 1 FROM tag WHERE tag.manifest = parent AND tag.name = 'sparse')"),
    ("blobs that are listed and not held", "SELECT count(*) FROM manifest_child AS listed JOIN blob ON blob.digest = listed.child
        JOIN repository_blob AS link ON link.repository = listed.repository AND link.blob = blob.id
        WHERE NOT EXISTS (SELECT 1 FROM manifest_blob AS held WHERE held.parent = listed.parent AND held.blob = blob.id)"),
];

/// What one of the two does. Each changes what some other relies on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Stores an image of the layer, with a tag.
    Put,
    /// Stores an image of a layer that is not here.
    PutUnchecked,
    /// Stores an index of the untagged child.
    PutIndex,
    /// Stores an index of the layer.
    PutCache,
    /// Stores an index of a layer that is not here.
    PutSparse,
    /// Moves the tag of what is there to another image.
    MoveTag,
    /// Tags the untagged child.
    TagChild,
    DeleteTag,
    DeleteTagged,
    DeleteLayer,
    /// Stores the layer again.
    PushLayer,
    /// Stores the layer that is not here.
    PushMissing,
    /// Stores the layer in another repository.
    PushElsewhere,
    /// Mounts the layer into another repository.
    Mount,
    /// Deletes the layer where it is, too.
    DeleteElsewhere,
    /// Collects all that is garbage now.
    Collect,
}

const ALL: [Step; 16] = [
    Step::Put,
    Step::PutUnchecked,
    Step::PutIndex,
    Step::PutCache,
    Step::PutSparse,
    Step::MoveTag,
    Step::TagChild,
    Step::DeleteTag,
    Step::DeleteTagged,
    Step::DeleteLayer,
    Step::PushLayer,
    Step::PushMissing,
    Step::PushElsewhere,
    Step::Mount,
    Step::DeleteElsewhere,
    Step::Collect,
];

/// Repositories and content of one run, which no other has.
struct World {
    number: u64,
    child: Manifest,
    tagged: Manifest,
}

impl World {
    fn name(&self, kind: &str) -> oci_spec_types::Name {
        name(&format!("w{}/{kind}", self.number))
    }

    fn layer(&self) -> bytes::Bytes {
        noise(40_000, 10 * self.number)
    }

    fn missing(&self) -> bytes::Bytes {
        noise(40_000, 10 * self.number + 1)
    }

    async fn new(registry: &DurableRegistry, number: u64) -> Self {
        let config = describe(format!("{{\"world\":{number}}}").as_bytes());
        let child = image(&config, &[], "child", None);
        let tagged = image(&config, &[describe(&noise(40_000, 10 * number))], "tagged", None);
        let world = Self { number, child, tagged };
        let store = registry.repository(&world.name("kept"), Access::Write).await.unwrap();
        let bytes = bytes::Bytes::from(format!("{{\"world\":{number}}}"));
        store.put_blob(&config, &bytes).await.unwrap();
        push(&*store, &world.layer()).await;
        for (manifest, tags) in [(&world.child, vec![]), (&world.tagged, vec![tag("t")])] {
            store.put_manifest(manifest, &tags, &Precondition::None).await.unwrap();
        }
        // Elsewhere the layer is alone, so that it can be the last one there.
        let elsewhere = registry.repository(&world.name("elsewhere"), Access::Write).await.unwrap();
        push(&*elsewhere, &world.layer()).await;
        world
    }

    fn image(&self, text: &str, layer: &[u8]) -> Manifest {
        let config = describe(format!("{{\"world\":{}}}", self.number).as_bytes());
        image(&config, &[describe(layer)], text, None)
    }

    async fn run(&self, step: Step, registry: &DurableRegistry) -> Result<(), Error> {
        let store = registry.repository(&self.name("kept"), Access::Write).await?;
        let elsewhere = registry.repository(&self.name("elsewhere"), Access::Write).await?;
        let put = async |store: &dyn Store, manifest: &Manifest, tags: &[_]| {
            store.put_manifest(manifest, tags, &Precondition::None).await
        };
        let layer = describe(&self.layer());
        match step {
            Step::Put => put(&*store, &self.image("put", &self.layer()), &[tag("u")]).await,
            Step::PutUnchecked => {
                put(&*store, &self.image("un", &self.missing()), &[tag("v")]).await
            }
            Step::PutIndex => put(&*store, &index(&[&self.child]), &[tag("i")]).await,
            Step::PutCache => put(&*store, &listing(&[layer]), &[tag("k")]).await,
            Step::PutSparse => {
                put(&*store, &listing(&[describe(&self.missing())]), &[tag("sparse")]).await
            }
            Step::MoveTag => put(&*store, &self.image("moved", &self.layer()), &[tag("t")]).await,
            Step::TagChild => put(&*store, &self.child, &[tag("c")]).await,
            Step::DeleteTag => store.delete_tag(&tag("t")).await,
            Step::DeleteTagged => store.delete_manifest(self.tagged.digest()).await,
            Step::DeleteLayer => store.delete_blob(&layer.digest).await,
            Step::PushLayer => store.put_blob(&layer, &self.layer()).await.map(|_| ()),
            Step::PushMissing => {
                let missing = self.missing();
                store.put_blob(&describe(&missing), &missing).await.map(|_| ())
            }
            Step::PushElsewhere => elsewhere.put_blob(&layer, &self.layer()).await.map(|_| ()),
            Step::Mount => match elsewhere.mount(&layer, Some(&self.name("kept"))).await? {
                Mounted::Done => Ok(()),
                _ => Err(Error::new(ErrorCode::BlobUnknown, "not mounted")),
            },
            Step::DeleteElsewhere => elsewhere.delete_blob(&layer.digest).await,
            Step::Collect => {
                let mut options = CollectOptions::default();
                options.untagged_older_than = Some(Duration::ZERO);
                registry.collect(&options, |_| {}).await.map(|_| ())
            }
        }
    }
}

/// Whether a step may end like this, beside another that takes away what it needs.
fn is_allowed(outcome: &Result<(), Error>) -> bool {
    match outcome {
        Ok(()) => true,
        Err(error) => matches!(
            error.kind(),
            ErrorKind::Code(
                ErrorCode::ManifestBlobUnknown
                    | ErrorCode::BlobUnknown
                    | ErrorCode::ManifestUnknown
                    | ErrorCode::Denied
            )
        ),
    }
}

/// Pairs of which neither touches what the other needs are left out.
fn is_a_pair(one: Step, other: Step) -> bool {
    let elsewhere = |step| matches!(step, Step::PushElsewhere | Step::DeleteElsewhere);
    let about_tags = |step| matches!(step, Step::DeleteTag | Step::TagChild | Step::PutIndex);
    !(elsewhere(one) && about_tags(other) || about_tags(one) && elsewhere(other))
}

#[tokio::test(flavor = "multi_thread")]
async fn each_pair_stopped_at_each_statement() {
    if !server::is_there("each_pair_stopped_at_each_statement") {
        return;
    }
    let url = server::fresh_url().await;
    let directory = tempfile::tempdir().unwrap();
    let open = async |application: &str| {
        let mut options = EngineOptions::default();
        options.database = format!("{url}&application_name={application}").parse().unwrap();
        options.grace = Duration::ZERO;
        options.references = References::Unchecked;
        // Not renewed meanwhile.
        options.lease = Duration::from_secs(60 * 60);
        let unchecked = DurableRegistry::open(directory.path(), options.clone()).await.unwrap();
        options.references = References::Complete;
        let complete = DurableRegistry::open(directory.path(), options).await.unwrap();
        (complete, unchecked)
    };
    let (a, b) = (open("a").await, open("b").await);
    let setup = open("setup").await.0;
    let of = |step, engines: &(DurableRegistry, DurableRegistry)| match step {
        Step::PutUnchecked | Step::PutSparse => engines.1.clone(),
        _ => engines.0.clone(),
    };
    server::execute(&url, TRIGGERS).await;
    let (watch, barrier) = (server::connect(&url).await, server::connect(&url).await);

    let (mut number, mut stops, mut waits) = (0, 0, 0);
    for one in ALL {
        for other in ALL.into_iter().filter(|other| is_a_pair(one, *other)) {
            for at in 1.. {
                number += 1;
                let world = World::new(&setup, number).await;
                watch.execute("UPDATE stop SET at = $1", &[&at]).await.unwrap();
                barrier.execute("SELECT pg_advisory_lock(77)", &[]).await.unwrap();
                let (registry, beside) = (of(one, &a), of(other, &b));
                let mut first = Box::pin(world.run(one, &registry));
                let stopped = until(&watch, &mut first, STOPPED).await;
                let (outcome, second) = match stopped {
                    // It has no such statement, so there is nothing to stop it at.
                    Some(outcome) => (outcome, None),
                    None => {
                        stops += 1;
                        let mut second = Box::pin(world.run(other, &beside));
                        let ended = until(&watch, &mut second, WAITING).await;
                        waits += usize::from(ended.is_none());
                        unlock(&barrier).await;
                        match ended {
                            Some(ended) => (first.await, Some(ended)),
                            None => {
                                let (first, second) = tokio::join!(first, second);
                                (first, Some(second))
                            }
                        }
                    }
                };
                let Some(second) = second else {
                    unlock(&barrier).await;
                    break;
                };
                let mut told =
                    format!("{one:?}, stopped at {at}: {outcome:?}; {other:?}: {second:?}");
                let mut wrong = !is_allowed(&outcome) || !is_allowed(&second);
                for (what, query) in WRONG {
                    let found: i64 = watch.query_one(query, &[]).await.unwrap().get(0);
                    // What was deleted on request may have been a child.
                    if found > 0 {
                        wrong = true;
                        write!(told, "; {found} {what}").unwrap();
                    }
                }
                assert!(!wrong, "{told}");
            }
        }
    }
    // Otherwise nothing was tried at all.
    assert!(stops > 500 && waits > 100, "{stops} stops, {waits} waits");
    // What lies in objects is what the blobs say.
    let objects = server::number(&url, "SELECT count(*) FROM blob WHERE object IS NOT NULL").await;
    let pending = server::number(&url, "SELECT count(*) FROM pending_object").await;
    assert_eq!(objects_in(directory.path()).len() as i64, objects + pending);
}

/// Engine `a` stands at the barrier.
const STOPPED: &str =
    "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 77 AND NOT granted";

/// Engine `b` waits for `a`.
const WAITING: &str = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'b'
    AND wait_event_type = 'Lock'";

/// Runs something to its end, or until a query counts something.
async fn until<F>(watch: &Client, work: &mut F, query: &str) -> Option<F::Output>
where
    F: Future + Unpin,
{
    loop {
        let counted = async {
            // Whatever else is there has its turn.
            tokio::task::yield_now().await;
            watch.query_one(query, &[]).await.unwrap().get::<_, i64>(0)
        };
        tokio::select! {
            biased;
            ended = &mut *work => return Some(ended),
            counted = counted => {
                if counted > 0 {
                    // It may just have ended.
                    return work.now_or_never();
                }
            }
        }
    }
}

async fn unlock(barrier: &Client) {
    barrier.execute("SELECT pg_advisory_unlock(77)", &[]).await.unwrap();
}
