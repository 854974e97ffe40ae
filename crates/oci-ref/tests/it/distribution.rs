//! The storage directory of a distribution registry: one that distribution wrote, and ones that nobody should have written.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use futures_util::TryStreamExt;
use oci_ref::{
    Blob, ByteRange, Copier, CopyEvent, CopyOptions, DistributionDirectory, DistributionRepository,
    Error, ErrorKind, Manifest, ManifestError, Memory, Source, Target,
};
use oci_spec_types::{Descriptor, Digest, ErrorCode, MediaType, Name, Tag};
use tempfile::TempDir;

use crate::support::files;

const INDEX: &str = "sha256:edcc4b5b64d9af7144787f0fa7c2bc4fc5acec08cc1f86fbc466191f288e8511";
const OLD: &str = "sha256:98ad3d711433b4099b7dde23d0b6117988fc0d1673c4fc11334fbe76a881b892";
/// The layer that all images have in common.
const LAYER: &str = "sha256:96592788dba0241406e4fa201752bb943e3e9ef30186669b1969b0c14c8a99db";

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/distribution")
}

fn digest(text: &str) -> Digest {
    text.parse().unwrap()
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn tag(text: &str) -> Target {
    Target::Tag(text.parse().unwrap())
}

/// A copy of the golden directory that may be spoilt.
struct Tree(TempDir);

impl Tree {
    fn new() -> Self {
        let tree = TempDir::new().unwrap();
        for file in files(&golden().join("docker")) {
            let to = tree.path().join("docker").join(&file);
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::copy(golden().join("docker").join(&file), to).unwrap();
        }
        Self(tree)
    }

    fn path(&self, below: &str) -> PathBuf {
        self.0.path().join("docker/registry/v2").join(below)
    }

    fn blob(&self, digest: &str) -> PathBuf {
        let hex = digest.strip_prefix("sha256:").unwrap();
        self.path(&format!("blobs/sha256/{}/{hex}/data", &hex[..2]))
    }

    fn link(&self, repository: &str, digest: &str) -> PathBuf {
        let hex = digest.strip_prefix("sha256:").unwrap();
        self.path(&format!("repositories/{repository}/_manifests/revisions/sha256/{hex}/link"))
    }

    fn tag(&self, repository: &str, tag: &str) -> PathBuf {
        self.path(&format!("repositories/{repository}/_manifests/tags/{tag}/current/link"))
    }

    /// Writes a file, and the directories above it.
    fn write(&self, path: &Path, content: impl AsRef<[u8]>) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    async fn open(&self) -> DistributionDirectory {
        DistributionDirectory::open(self.0.path()).await.unwrap()
    }

    async fn repository(&self, repository: &str) -> DistributionRepository {
        self.open().await.repository(&name(repository))
    }
}

#[tokio::test]
async fn what_distribution_wrote_is_found() {
    let directory = DistributionDirectory::open(golden()).await.unwrap();
    let inner = golden().join("docker/registry/v2");
    assert_eq!(DistributionDirectory::open(inner).await.unwrap().path(), directory.path());

    let found = directory.repositories().await.unwrap();
    assert_eq!(found.names, ["legacy", "team/app", "team/base"].map(name));
    assert_eq!(found.problems, [""; 0]);

    let app = directory.repository(&name("team/app"));
    let contents = app.contents().await.unwrap();
    assert_eq!(contents.problems, [""; 0]);
    assert_eq!(contents.manifests.len(), 7);
    let tags = |digest: &str| contents.manifests[&self::digest(digest)].clone();
    assert_eq!(tags(INDEX), ["latest", "v1"].map(|tag| tag.parse::<Tag>().unwrap()));
    assert_eq!(tags(OLD), []);

    let listed = app.tags(None, 2).await.unwrap();
    assert_eq!(listed.items.len(), 2);
    let rest = app.tags(listed.next.as_ref(), 2).await.unwrap();
    assert_eq!((rest.items.len(), rest.next), (1, None));

    let legacy = directory.repository(&name("legacy")).manifest(&tag("1")).await.unwrap();
    assert_eq!(*legacy.media_type(), MediaType::DOCKER_MANIFEST);
    let pinned = Target::Pinned("v1".parse().unwrap(), digest(INDEX));
    assert_eq!(app.resolve(&pinned).await.unwrap().digest, digest(INDEX));
    let pinned = Target::Pinned("v1".parse().unwrap(), digest(OLD));
    assert_eq!(app.resolve(&pinned).await.unwrap().digest, digest(OLD), "the tag names another");
    let pinned = Target::Pinned("v1".parse().unwrap(), Digest::sha256(b"unknown"));
    assert!(app.resolve(&pinned).await.unwrap_err().is_not_found());
}

#[tokio::test]
async fn what_another_repository_has_is_not_there() {
    let directory = DistributionDirectory::open(golden()).await.unwrap();
    let base = directory.repository(&name("team/base"));
    assert!(base.manifest(&Target::Digest(digest(INDEX))).await.unwrap_err().is_not_found());
    let legacy = directory.repository(&name("legacy"));
    assert_eq!(base.blob_size(&digest(LAYER)).await.unwrap(), Some(31));
    assert_eq!(legacy.blob_size(&digest(LAYER)).await.unwrap(), None);
    let error = legacy.blob(&digest(LAYER), ByteRange::All).await.err().unwrap();
    assert_eq!(error.code(), Some(&ErrorCode::BlobUnknown));
    let nobody = directory.repository(&name("nobody"));
    let errors = [
        nobody.contents().await.unwrap_err(),
        nobody.tags(None, 10).await.unwrap_err(),
        nobody.manifest(&tag("v1")).await.unwrap_err(),
    ];
    assert!(errors.iter().all(Error::is_not_found), "{errors:?}");
}

#[tokio::test]
async fn a_repository_is_copied_whole_and_each_digest_once() {
    let directory = DistributionDirectory::open(golden()).await.unwrap();
    let app = Arc::new(directory.repository(&name("team/app")));
    let contents = app.contents().await.unwrap();
    let to = Arc::new(Memory::new());
    let moved: Arc<Mutex<BTreeMap<Digest, u32>>> = Arc::default();
    let count = moved.clone();
    let options = CopyOptions {
        progress: Some(Arc::new(move |event| match event {
            CopyEvent::Transferred(it) | CopyEvent::Written(it) => {
                *count.lock().unwrap().entry(it.digest.clone()).or_default() += 1;
            }
            CopyEvent::Skipped(it) => panic!("{} was there already", it.digest),
            _ => {}
        })),
        ..CopyOptions::default()
    };
    let copier = Copier::new(app.clone(), to.clone(), options);
    // Indexes first, those without a tag in any order.
    let mut all: Vec<_> = contents.manifests.iter().collect();
    all.sort_by_key(|(_, tags)| tags.is_empty());
    for (digest, tags) in all {
        copier.copy(&Target::Digest(digest.clone()), tags).await.unwrap();
    }
    assert!(moved.lock().unwrap().values().all(|times| *times == 1));
    for (digest, tags) in &contents.manifests {
        let target = Target::Digest(digest.clone());
        let (there, here) =
            (to.manifest(&target).await.unwrap(), app.manifest(&target).await.unwrap());
        assert_eq!(there.bytes(), here.bytes());
        assert_eq!(there.media_type(), here.media_type());
        for tag in tags {
            assert_eq!(to.resolve(&tag.clone().into()).await.unwrap().digest, *digest);
        }
        for blob in here.blobs() {
            let bytes = Blob::open(&*to, blob).await.unwrap().into_bytes(1 << 20).await.unwrap();
            assert_eq!(
                bytes,
                Blob::open(&*app, blob).await.unwrap().into_bytes(1 << 20).await.unwrap()
            );
        }
    }

    // What distribution could only list under a tag made of the digest is listed by the destination, too.
    let fallback = app.manifest(&Tag::of_referrers(&digest(INDEX)).into()).await.unwrap();
    let mut expected: Vec<Descriptor> = fallback.manifests().to_vec();
    expected.sort_by(|a, b| a.digest.cmp(&b.digest));
    assert_eq!(expected.len(), 2);
    for source in [&*app as &dyn Source, &*to] {
        let found = source.referrers(&digest(INDEX), None, None, 10).await.unwrap();
        assert_eq!(found.page.items, expected);
    }
    let only = app
        .referrers(&digest(INDEX), Some("application/vnd.example.sbom"), None, 10)
        .await
        .unwrap();
    assert_eq!((only.page.items.len(), only.filtered), (1, true));
}

async fn read(repository: &DistributionRepository, blob: &str) -> Result<usize, Error> {
    let read = repository.blob(&digest(blob), ByteRange::All).await?;
    let chunks: Vec<_> = read.body.try_collect().await?;
    Ok(chunks.iter().map(bytes::Bytes::len).sum())
}

#[tokio::test]
async fn damaged_bytes_are_never_given_whole_and_their_file_is_named() {
    let tree = Tree::new();
    let file = tree.blob(LAYER);
    let right = fs::read(&file).unwrap();
    let mut wrong = right.clone();
    wrong[3] ^= 1;
    for damaged in [wrong, right[..20].to_vec(), Vec::new()] {
        fs::write(&file, damaged).unwrap();
        let repository = tree.repository("team/base").await;
        for _ in 0..2 {
            let error = read(&repository, LAYER).await.unwrap_err();
            assert_eq!(*error.kind(), ErrorKind::Internal);
            let said = error.chain();
            assert!(said.contains("blobs/sha256/96/9659") && said.contains("is damaged"), "{said}");
        }
    }
    fs::remove_file(&file).unwrap();
    let repository = tree.repository("team/base").await;
    assert_eq!(repository.blob_size(&digest(LAYER)).await.unwrap(), None);
    assert!(read(&repository, LAYER).await.unwrap_err().is_not_found());

    fs::write(tree.blob(OLD), b"{}").unwrap();
    let error = repository.manifest(&tag("v1")).await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Internal);
    assert!(error.chain().contains("blobs/sha256/98/98ad"), "{}", error.chain());
    fs::remove_file(tree.blob(OLD)).unwrap();
    assert!(repository.manifest(&tag("v1")).await.unwrap_err().is_not_found());
}

#[tokio::test]
async fn what_was_deleted_is_not_listed() {
    let tree = Tree::new();
    fs::remove_file(tree.tag("team/app", "latest")).unwrap();
    fs::remove_file(tree.link("team/app", OLD)).unwrap();
    let contents = tree.repository("team/app").await.contents().await.unwrap();
    assert_eq!((contents.manifests.len(), contents.problems.len()), (6, 0));
    assert_eq!(contents.manifests[&digest(INDEX)].len(), 1);

    fs::remove_file(tree.link("team/app", INDEX)).unwrap();
    let contents = tree.repository("team/app").await.contents().await.unwrap();
    let [problem] = &contents.problems[..] else { panic!("{:?}", contents.problems) };
    assert!(problem.contains("tag v1 names sha256:edcc"), "{problem}");
}

#[tokio::test]
async fn schema_1_is_told_apart() {
    let tree = Tree::new();
    let old = br#"{"schemaVersion":1,"name":"x","tag":"y","architecture":"amd64","fsLayers":[],"history":[]}"#;
    let known = Digest::sha256(old);
    tree.write(&tree.blob(known.as_str()), old);
    tree.write(&tree.link("legacy", known.as_str()), known.as_str());
    let legacy = tree.repository("legacy").await;
    assert!(legacy.contents().await.unwrap().manifests.contains_key(&known));
    let error = legacy.manifest(&Target::Digest(known)).await.unwrap_err();
    assert!(matches!(error.find_source(), Some(ManifestError::Schema1(_))), "{error:?}");
}

#[tokio::test]
async fn links_that_are_none_are_problems_and_the_rest_is_read() {
    let huge = "sha256:".to_owned() + &"a".repeat(1 << 20);
    for (content, expected) in [
        (&b""[..], "digest"),
        (b"sha256:../../../../etc/passwd", "digest"),
        (b"sha256:abc", "digest"),
        (b"\xff\xfe", "utf-8"),
        (huge.as_bytes(), "more than 1024 bytes"),
    ] {
        let tree = Tree::new();
        fs::write(tree.link("team/app", OLD), content).unwrap();
        fs::write(tree.tag("team/app", "latest"), content).unwrap();
        let app = tree.repository("team/app").await;
        let contents = app.contents().await.unwrap();
        assert_eq!((contents.manifests.len(), contents.problems.len()), (6, 2));
        assert!(
            contents.problems.iter().all(|it| it.contains(expected)),
            "{:?}",
            contents.problems
        );
        app.manifest(&tag("latest")).await.unwrap_err();
        app.manifest(&Target::Digest(digest(OLD))).await.unwrap_err();
        app.manifest(&tag("v1")).await.unwrap();
    }

    // A digest of something else: what it names does not verify.
    let tree = Tree::new();
    fs::write(tree.link("team/app", OLD), INDEX).unwrap();
    let app = tree.repository("team/app").await;
    let error = app.manifest(&Target::Digest(digest(OLD))).await.unwrap_err();
    assert!(error.chain().contains("is damaged"), "{}", error.chain());

    // Directories in the places of files, and files in those of directories.
    let tree = Tree::new();
    for file in [tree.link("team/app", OLD), tree.tag("team/app", "latest"), tree.blob(LAYER)] {
        fs::remove_file(&file).unwrap();
        fs::create_dir(&file).unwrap();
    }
    let tags = tree.path("repositories/legacy/_manifests/tags");
    fs::remove_dir_all(&tags).unwrap();
    fs::write(&tags, "").unwrap();
    let app = tree.repository("team/app").await;
    assert_eq!(app.contents().await.unwrap().problems.len(), 2);
    read(&app, LAYER).await.unwrap_err();
    app.blob_size(&digest(LAYER)).await.unwrap_err();
    tree.repository("legacy").await.contents().await.unwrap_err();
}

#[tokio::test]
async fn names_that_are_none_are_told_and_left_out() {
    let tree = Tree::new();
    for bad in ["UPPER/_manifests", "team/-x/_manifests", "a b/_manifests", "_x/_manifests"] {
        fs::create_dir_all(tree.path("repositories").join(bad)).unwrap();
    }
    tree.write(&tree.path("repositories/file"), "");
    tree.write(&tree.path("repositories/\u{1b}[2J/_manifests/x"), "");
    let mut deep = tree.path("repositories");
    for _ in 0..120 {
        deep = deep.join("abc");
    }
    fs::create_dir_all(deep.join("_manifests")).unwrap();
    let found = tree.open().await.repositories().await.unwrap();
    assert_eq!(found.names, ["legacy", "team/app", "team/base"].map(name));
    assert_eq!(found.problems.len(), 6, "{:#?}", found.problems);
    assert!(found.problems.iter().all(|it| !it.contains('\u{1b}')), "{:?}", found.problems);

    let manifests = tree.path("repositories/team/app/_manifests");
    for bad in
        ["tags/.hidden/current/link", "revisions/sha256/xyz/link", "revisions/SHA256/00/link"]
    {
        tree.write(&manifests.join(bad), OLD);
    }
    let contents = tree.repository("team/app").await.contents().await.unwrap();
    assert_eq!((contents.manifests.len(), contents.problems.len()), (7, 3), "{contents:?}");
}

#[tokio::test]
async fn nothing_outside_is_read() {
    let outside = TempDir::new().unwrap();
    let secret = outside.path().join("secret");
    fs::write(&secret, OLD).unwrap();
    let inside = Tree::new();

    let tree = Tree::new();
    let replace = |file: PathBuf, by: &Path| {
        fs::remove_file(&file).unwrap();
        symlink(by, file).unwrap();
    };
    replace(tree.link("team/app", OLD), &secret);
    replace(tree.tag("team/app", "latest"), &secret);
    replace(tree.blob(LAYER), &inside.blob(LAYER));
    symlink(inside.path("repositories/legacy"), tree.path("repositories/other")).unwrap();
    let found = tree.open().await.repositories().await.unwrap();
    assert_eq!(found.names.len(), 3);
    assert_eq!(found.problems.len(), 1, "{:?}", found.problems);
    let app = tree.repository("team/app").await;
    let contents = app.contents().await.unwrap();
    assert_eq!(contents.problems.len(), 2);
    let mut said = contents.problems;
    said.push(read(&app, LAYER).await.unwrap_err().chain());
    said.push(app.manifest(&tag("latest")).await.unwrap_err().chain());
    // A repository that was not listed is asked for by its name.
    said.push(tree.repository("other").await.manifest(&tag("1")).await.unwrap_err().chain());
    assert!(said.iter().all(|it| it.contains("symbolic link")), "{said:#?}");

    // One that stays inside is nothing else than what it names.
    replace(tree.tag("team/app", "latest"), &tree.tag("team/app", "v1"));
    app.manifest(&tag("latest")).await.unwrap();

    // The whole tree elsewhere.
    let tree = TempDir::new().unwrap();
    symlink(inside.0.path().join("docker"), tree.path().join("docker")).unwrap();
    let error = DistributionDirectory::open(tree.path()).await.unwrap_err();
    assert!(error.chain().contains("symbolic link"), "{}", error.chain());
}

#[tokio::test]
async fn other_directories_are_refused() {
    let empty = TempDir::new().unwrap();
    let error = DistributionDirectory::open(empty.path()).await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("docker/registry/v2/repositories"), "{error}");
    let error = DistributionDirectory::open(empty.path().join("nothing")).await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Io);
    let file = empty.path().join("file");
    fs::write(&file, "").unwrap();
    DistributionDirectory::open(&file).await.unwrap_err();
}

#[tokio::test]
async fn a_failed_copy_leaves_the_others_alone() {
    let tree = Tree::new();
    fs::write(tree.blob(LAYER), b"rot").unwrap();
    let app = Arc::new(tree.repository("team/app").await);
    let to = Arc::new(Memory::new());
    let copier = Copier::new(app.clone(), to.clone(), CopyOptions::default());
    let (mut copied, mut failed) = (Vec::new(), Vec::new());
    for (digest, tags) in app.contents().await.unwrap().manifests {
        match copier.copy(&Target::Digest(digest.clone()), &tags).await {
            Ok(()) => copied.push(digest),
            Err(error) => failed.push(error.chain()),
        }
    }
    // The two images of the index, the index, and the old image.
    assert_eq!((copied.len(), failed.len()), (3, 4), "{failed:#?}");
    assert!(failed.iter().all(|it| it.contains("is damaged")), "{failed:#?}");
    let all: Vec<Manifest> = futures_util::future::join_all(copied.into_iter().map(|digest| {
        let to = to.clone();
        async move { to.manifest(&digest.into()).await.unwrap() }
    }))
    .await;
    assert_eq!(all.len(), 3);
}
