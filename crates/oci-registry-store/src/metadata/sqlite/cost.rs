//! The cost of each operation in SQLite: statements, commits, and steps of its machine, each of
//! which touches a page or two at most. None of these depends on the machine. The content is
//! skewed, as it is for the same test on PostgreSQL.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use bytes::Bytes;
use oci_ref::{Manifest, Precondition};
use oci_spec_types::{Descriptor, Digest, MediaType, Name, Tag};
use rusqlite::Connection;
use rusqlite::trace::{TraceEvent, TraceEventCodes};

use super::failure::Outcome;
use super::writer::run_alone;
use super::{blobs, collect, lists, manifests, open, remove};
use crate::References;
use crate::metadata::{Content, NewBlob, NewManifest};

/// The number of repositories that share content, and of manifests, indexes and referrers in one of
/// them.
const MANY: i64 = 10_000;

/// The most steps of an operation on single things, however many others there are.
const FEW: i64 = 2_500;

/// The most steps for a page of 100 entries.
const PAGE: i64 = 4_000;

/// The counts so far.
#[derive(Default)]
struct Counts {
    statements: AtomicI64,
    commits: AtomicI64,
    steps: AtomicI64,
}

impl Counts {
    /// Counts what a connection does from now on.
    fn of(db: &mut Connection) -> Arc<Self> {
        let counts = Arc::new(Self::default());
        let counted = Arc::clone(&counts);
        let statement = move |event: TraceEvent<'_>| {
            if let TraceEvent::Stmt(_, text) = event
                && !["BEGIN", "COMMIT", "ROLLBACK", "--"].iter().any(|it| text.starts_with(it))
            {
                counted.statements.fetch_add(1, Ordering::Relaxed);
            }
        };
        db.trace_v2(TraceEventCodes::SQLITE_TRACE_STMT, Some(statement)).unwrap();
        let counted = Arc::clone(&counts);
        let step = move || {
            counted.steps.fetch_add(1, Ordering::Relaxed);
            false
        };
        db.progress_handler(1, Some(step)).unwrap();
        let counted = Arc::clone(&counts);
        let commit = move || {
            counted.commits.fetch_add(1, Ordering::Relaxed);
            false
        };
        db.commit_hook(Some(commit)).unwrap();
        counts
    }

    fn take(&self) -> [i64; 3] {
        [&self.statements, &self.commits, &self.steps].map(|it| it.swap(0, Ordering::Relaxed))
    }
}

/// A database with counts, and the operations whose cost was not the expected one.
struct Costs {
    db: Connection,
    counts: Arc<Counts>,
    problems: Vec<String>,
}

impl Costs {
    fn read<T>(
        &mut self,
        what: &str,
        statements: i64,
        steps: i64,
        read: impl Fn(&Connection) -> Outcome<T>,
    ) -> T {
        self.counts.take();
        let value = read(&self.db).unwrap_or_else(|_| panic!("{what}"));
        self.judge(what, [statements, 0], steps);
        value
    }

    fn write<T>(
        &mut self,
        what: &'static str,
        statements: i64,
        steps: i64,
        work: impl FnOnce(&Connection) -> Outcome<T>,
    ) -> T {
        self.counts.take();
        let value = run_alone(&mut self.db, what, work).unwrap();
        self.judge(what, [statements, 1], steps);
        value
    }

    fn judge(&mut self, what: &str, expected: [i64; 2], most: i64) {
        let [statements, commits, steps] = self.counts.take();
        println!("{what}: {statements} statements, {commits} commits, {steps} steps");
        if [statements, commits] != expected || steps > most {
            self.problems.push(format!(
                "{what}: {statements} statements, {commits} commits, {steps} steps; \
                 expected {expected:?} and at most {most}"
            ));
        }
    }
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn image(config: &Descriptor, layer: &Descriptor, text: &str) -> Manifest {
    let document = serde_json::json!({
        "schemaVersion": 2, "mediaType": MediaType::OCI_IMAGE_MANIFEST,
        "config": config, "layers": [layer], "annotations": {"text": text},
    });
    Manifest::parse(document.to_string().into(), None, None).unwrap()
}

fn new_blob(repository: &str, bytes: &'static [u8]) -> NewBlob {
    let digest = Descriptor::of(MediaType::OCTET_STREAM, bytes).digest;
    let content = Content::Inline(Bytes::from_static(bytes));
    let size = bytes.len() as u64;
    NewBlob { repository: name(repository), digest, size, content, session: None, now: 1 }
}

fn new_manifest(repository: &str, manifest: &Manifest, tag: Option<&str>) -> NewManifest {
    NewManifest {
        repository: name(repository),
        manifest: manifest.clone(),
        tags: tag.map(|tag| tag.parse().unwrap()).into_iter().collect(),
        when: Precondition::None,
        references: References::default(),
        now: 1,
    }
}

/// Fills the tables beside what has been pushed: the layer and the image are everywhere, and
/// thousands of indexes in the repository `huge` list the image; thousands of manifests there refer
/// to it.
fn fill(layer: &Digest, shared: &Digest) -> String {
    let series = format!(
        "WITH RECURSIVE series (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM series WHERE n < {MANY})"
    );
    let huge = "(SELECT id FROM repository WHERE name = 'huge')";
    let of_kind = |kind: char| {
        let digest = format!("'sha256:{kind}' || printf('%063x', n)");
        format!(
            "{series} INSERT INTO manifest (digest, size, data) SELECT {digest}, 2, x'7b7d' FROM series;
             {series} INSERT INTO repository_manifest (repository, manifest, media_type)
                 SELECT {huge}, manifest.id, 'application/{kind}'
                 FROM series JOIN manifest ON manifest.digest = {digest};"
        )
    };
    let links = |kind: char| {
        format!(
            "FROM repository_manifest AS link JOIN manifest ON manifest.id = link.manifest
             WHERE link.media_type = 'application/{kind}'"
        )
    };
    format!(
        "{series} INSERT INTO repository (name) SELECT 'many/' || n FROM series;
         INSERT INTO repository_blob (repository, blob) SELECT repository.id, blob.id
             FROM repository, blob WHERE name LIKE 'many/%';
         INSERT INTO repository_manifest (repository, manifest, media_type)
             SELECT repository.id, manifest.id, 'application/vnd.oci.image.manifest.v1+json'
             FROM repository, manifest WHERE name LIKE 'many/%' AND digest = '{shared}';
         INSERT INTO manifest_blob (parent, repository, blob) SELECT link.id, link.repository, held.blob
             FROM repository_manifest AS link JOIN repository_blob AS held ON held.repository = link.repository
             WHERE link.repository <> {huge};
         INSERT INTO tag (repository, name, manifest) SELECT link.repository, 'latest', link.id
             FROM repository_manifest AS link WHERE link.repository <> {huge};
         {images} {indexes} {referrers}
         INSERT INTO manifest_blob (parent, repository, blob) SELECT link.id, link.repository, blob.id
             FROM repository_manifest AS link JOIN blob ON blob.digest = '{layer}'
             WHERE link.media_type = 'application/a';
         INSERT INTO manifest_child (parent, repository, child) SELECT link.id, link.repository, '{shared}' {of_b};
         INSERT INTO referrer (repository, subject, digest, artifact_type, manifest, descriptor)
             SELECT link.repository, '{shared}', manifest.digest, 'application/x', link.id,
                 json_object('mediaType', 'application/x', 'digest', manifest.digest, 'size', 2) {of_c};
         INSERT INTO tag (repository, name, manifest) SELECT link.repository, 'v' || link.id, link.id
             FROM repository_manifest AS link WHERE link.media_type IN ('application/a', 'application/b');",
        images = of_kind('a'),
        indexes = of_kind('b'),
        referrers = of_kind('c'),
        of_b = links('b'),
        of_c = links('c'),
    )
}

#[test]
fn each_operation_costs_the_same_whatever_there_is() {
    let directory = tempfile::tempdir().unwrap();
    let mut db = open::writer(&directory.path().join("db"), false).unwrap();
    let config = Descriptor::of(MediaType::OCTET_STREAM, b"{}");
    let layer = Descriptor::of(MediaType::OCTET_STREAM, b"layer");
    let shared = image(&config, &layer, "shared");
    run_alone(&mut db, "push", |db| {
        blobs::commit(db, &new_blob("huge", b"{}"))?;
        blobs::commit(db, &new_blob("huge", b"layer"))?;
        manifests::put(db, &new_manifest("huge", &shared, Some("shared")))
    })
    .unwrap();
    db.execute_batch(&fill(&layer.digest, shared.digest())).unwrap();
    let counts = Counts::of(&mut db);
    let mut costs = Costs { db, counts, problems: Vec::new() };
    let (one, huge, new) = (name("many/5000"), name("huge"), name("new/one"));
    let (digest, tag) = (shared.digest(), "latest".parse::<Tag>().unwrap().into());

    costs.read("by tag", 1, FEW, |db| manifests::resolve(db, &one, &tag));
    let by_digest = digest.clone().into();
    costs.read("by digest", 1, FEW, |db| manifests::resolve(db, &one, &by_digest));
    costs.read("bytes", 1, FEW, |db| manifests::bytes(db, digest));
    costs.read("a part", 1, FEW, |db| manifests::part(db, &one, digest, 3..9, Vec::new()));
    costs.read("hold", 3, FEW, |db| manifests::hold(db, &one, digest, 1));
    costs.read("size of a blob", 1, FEW, |db| blobs::size(db, &one, &layer.digest));
    costs.read("blob", 1, FEW, |db| blobs::get(db, &one, &layer.digest));
    costs.read("tags", 1, PAGE, |db| lists::tags(db, &huge, Some("v15"), 100));
    costs.read("catalog", 1, PAGE, |db| lists::catalog(db, Some("many/5"), 100));
    costs.read("holders", 1, PAGE, |db| lists::holders(db, &layer.digest, 100));
    for artifact_type in [None, Some("application/rare".to_owned())] {
        let (repository, subject) = (huge.clone(), digest.clone());
        let wanted = lists::Wanted { repository, subject, artifact_type };
        costs.read("referrers", 1, PAGE, |db| lists::referrers(db, &wanted, None, 100));
    }

    costs.write("push a blob", 5, FEW, |db| blobs::commit(db, &new_blob("many/7", b"fresh")));
    let known = new_blob("new/two", b"layer");
    costs.write("push a blob that others have", 5, FEW, |db| blobs::commit(db, &known));
    costs.write("mount", 6, FEW, |db| blobs::mount(db, &one, &new, &layer.digest, 1));
    let fresh = image(&config, &layer, "fresh");
    let put = new_manifest("huge", &fresh, Some("fresh"));
    costs.write("push an image", 16, FEW, |db| manifests::put(db, &put));
    let put = new_manifest("many/9", &fresh, Some("fresh"));
    costs.write("push an image that others have", 16, FEW, |db| manifests::put(db, &put));
    let moved = new_manifest("many/9", &fresh, Some("latest"));
    costs.write("move a tag", 10, FEW, |db| manifests::put(db, &moved));
    let fresh_tag = "fresh".parse().unwrap();
    costs.write("delete a tag", 3, FEW, |db| manifests::delete_tag(db, &huge, &fresh_tag, 2));
    let shared_tag = "shared".parse().unwrap();
    costs.write("delete its tag", 3, FEW, |db| manifests::delete_tag(db, &huge, &shared_tag, 2));
    costs.read("hold by thousands", 3, FEW, |db| manifests::hold(db, &huge, digest, 3));
    costs.write("delete an image", 19, FEW, |db| {
        remove::delete(db, &name("many/9"), fresh.digest(), 2)
    });
    let refused = |db: &Connection| {
        assert!(blobs::delete(db, &one, &layer.digest, 2).is_err());
        Ok(())
    };
    costs.read("delete a blob that is referenced", 3, FEW, refused);
    let unused = new_blob("many/7", b"fresh").digest;
    costs.write("delete a blob", 8, FEW, |db| blobs::delete(db, &name("many/7"), &unused, 2));
    let step = costs.write("collect nothing", 1, FEW, |db| collect::collect_blobs(db, 0, 2, 100));
    assert!(!step.more);
    costs.write("collect an image", 42, FEW, |db| collect::collect_manifests(db, 2, 3, 8));
    // The rows of 500 referrers, with their entries in indexes, and so often again.
    let bulk = 500 * 50;
    costs.write("delete a subject", 520, bulk, |db| remove::delete(db, &huge, digest, 3));
    costs.write("go on with it", 503, bulk, remove::finish_deletions);
    assert!(costs.problems.is_empty(), "{}", costs.problems.join("\n"));
}
