//! `dir:`: one image or list in a directory, as containers/image writes it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use oci_ref::suite::content::{Piece, image, image_with, index, noise_blob, tag};
use oci_ref::suite::{Harness, run, sample};
use oci_ref::{
    Blob, BlobRead, ByteRange, Capabilities, CopyOptions, Cursor, Directory, DirectoryOptions,
    Error, ErrorKind, Layout, Manifest, Memory, Page, Precondition, Referrers, Result, Source,
    Staged, Store, Target, copy,
};
use oci_spec_types::{Algorithm, Descriptor, Digest, ErrorCode, ImageIndex, ImageManifest, Tag};
use tempfile::TempDir;

use crate::archive::{golden, read_all};
use crate::support::{Graph, files};

async fn new_directory() -> (TempDir, Directory) {
    let parent = TempDir::new().unwrap();
    let directory = Directory::create(parent.path().join("dir")).await.unwrap();
    (parent, directory)
}

fn names(directory: &Directory) -> Vec<String> {
    files(directory.path())
}

/// A directory, and tags that are kept elsewhere, so that the suite can be run on all but tags.
struct Tagged {
    directory: Directory,
    tags: Arc<Mutex<BTreeMap<Tag, Digest>>>,
}

impl Tagged {
    fn target(&self, target: &Target) -> Result<Target> {
        let Target::Tag(tag) = target else { return Ok(target.clone()) };
        let unknown = || Error::new(ErrorCode::ManifestUnknown, format!("no tag {tag}"));
        self.tags.lock().unwrap().get(tag).cloned().map(Target::Digest).ok_or_else(unknown)
    }
}

#[async_trait]
impl Source for Tagged {
    async fn resolve(&self, target: &Target) -> Result<Descriptor> {
        self.directory.resolve(&self.target(target)?).await
    }

    async fn manifest(&self, target: &Target) -> Result<Manifest> {
        self.directory.manifest(&self.target(target)?).await
    }

    async fn blob_size(&self, digest: &Digest) -> Result<Option<u64>> {
        self.directory.blob_size(digest).await
    }

    async fn blob(&self, digest: &Digest, range: ByteRange) -> Result<BlobRead> {
        self.directory.blob(digest, range).await
    }

    async fn tags(&self, after: Option<&Cursor>, limit: usize) -> Result<Page<Tag>> {
        let after = after.map(Cursor::name).transpose()?;
        let all: Vec<Tag> = self.tags.lock().unwrap().keys().cloned().collect();
        let mut rest: Vec<Tag> =
            all.into_iter().filter(|tag| after.is_none_or(|after| tag.as_str() > after)).collect();
        let more = rest.len() > limit;
        rest.truncate(limit);
        let next = rest.last().filter(|_| more).map(|last| Cursor::After(last.to_string()));
        Ok(Page { items: rest, next })
    }

    async fn referrers(
        &self,
        subject: &Digest,
        artifact_type: Option<&str>,
        after: Option<&Cursor>,
        limit: usize,
    ) -> Result<Referrers> {
        self.directory.referrers(subject, artifact_type, after, limit).await
    }
}

#[async_trait]
impl Store for Tagged {
    fn capabilities(&self) -> Capabilities {
        self.directory.capabilities()
    }

    async fn stage(&self, algorithm: Algorithm) -> Result<Box<dyn Staged>> {
        self.directory.stage(algorithm).await
    }

    async fn put_manifest(
        &self,
        manifest: &Manifest,
        tags: &[Tag],
        when: &Precondition,
    ) -> Result<()> {
        self.directory.put_manifest(manifest, &[], when).await?;
        let named = tags.iter().map(|tag| (tag.clone(), manifest.digest().clone()));
        self.tags.lock().unwrap().extend(named);
        Ok(())
    }

    async fn delete_tag(&self, tag: &Tag) -> Result<()> {
        match self.tags.lock().unwrap().remove(tag) {
            Some(_) => Ok(()),
            None => Err(Error::new(ErrorCode::ManifestUnknown, format!("no tag {tag}"))),
        }
    }

    async fn delete_manifest(&self, digest: &Digest) -> Result<()> {
        self.directory.delete_manifest(digest).await?;
        self.tags.lock().unwrap().retain(|_, named| named != digest);
        Ok(())
    }

    async fn delete_blob(&self, digest: &Digest) -> Result<()> {
        self.directory.delete_blob(digest).await
    }
}

struct DirectoryHarness {
    options: DirectoryOptions,
    parents: Mutex<Vec<TempDir>>,
}

#[async_trait]
impl Harness for DirectoryHarness {
    async fn store(&self) -> Arc<dyn Store> {
        let [store, _] = self.handles().await;
        store
    }

    async fn handles(&self) -> [Arc<dyn Store>; 2] {
        let parent = TempDir::new().unwrap();
        let path = parent.path().join("dir");
        self.parents.lock().unwrap().push(parent);
        let first = Directory::create_with(&path, self.options.clone()).await.unwrap();
        let second = Directory::open_with(&path, self.options.clone()).await.unwrap();
        let tags = Arc::default();
        [first, second].map(|directory| {
            Arc::new(Tagged { directory, tags: Arc::clone(&tags) }) as Arc<dyn Store>
        })
    }
}

// covers: C12
#[tokio::test]
async fn all_but_tags() {
    let options = DirectoryOptions::default();
    run(&DirectoryHarness { options, parents: Mutex::default() }).await;
}

// covers: C12
#[tokio::test]
async fn all_but_tags_synced_and_sparse() {
    let options = DirectoryOptions { sync: true, sparse: true };
    run(&DirectoryHarness { options, parents: Mutex::default() }).await;
}

// covers: C12
#[tokio::test]
async fn files_are_those_of_containers_image() {
    for (name, listed) in [("dir-image", false), ("dir-list", true)] {
        let from = Directory::open(golden(name)).await.unwrap();
        let root = from.root().await.unwrap();
        assert_eq!(root.media_type.is_index(), listed);
        let target = Target::Digest(root.digest.clone());
        let reached = read_all(Arc::new(from.clone()), &target).await;
        assert_eq!(reached, if listed { 3 } else { 1 });
        assert_eq!(from.tags(None, 10).await.unwrap().items, []);
        assert_eq!(from.resolve(&tag("any").into()).await.unwrap(), root);

        // Written again, every file is the same.
        let (_parent, to) = new_directory().await;
        copy(Arc::new(from.clone()), &target, Arc::new(to.clone()), CopyOptions::default())
            .await
            .unwrap();
        assert_eq!(names(&to), files(&golden(name)));
        for file in names(&to) {
            let (ours, theirs) = (to.path().join(&file), golden(name).join(&file));
            assert!(fs::read(ours).unwrap() == fs::read(theirs).unwrap(), "{file}");
        }
        assert_eq!(to.root().await.unwrap(), root);
    }
}

// covers: C12
#[tokio::test]
async fn the_sample_goes_through() {
    let from = Arc::new(Memory::new());
    let sample = sample::write_all(&*from).await.unwrap();
    for listed in &sample.entries {
        let target = Target::Digest(listed.descriptor.digest.clone());
        let (_parent, directory) = new_directory().await;
        let directory = Arc::new(directory);
        copy(from.clone(), &target, directory.clone(), CopyOptions::default()).await.unwrap();
        assert_eq!(directory.root().await.unwrap().media_type, listed.descriptor.media_type);
        let again = copy(from.clone(), &target, directory.clone(), CopyOptions::default());
        assert_eq!(again.await.unwrap().manifests, 0);
        read_all(directory.clone(), &target).await;
        let back = Arc::new(Memory::new());
        copy(directory, &target, back.clone(), CopyOptions::default()).await.unwrap();
        read_all(back, &target).await;
    }
}

// covers: C11, C12
#[tokio::test]
async fn signatures_go_with_each_manifest() {
    let graph = Graph::new();
    let from = graph.stored(&[]).await;
    let (_parent, signed) = new_directory().await;
    let signed = Arc::new(signed);
    let target = Target::Digest(graph.root.digest().clone());
    copy(from, &target, signed.clone(), CopyOptions::default()).await.unwrap();
    let bytes = |texts: &[&'static str]| {
        texts.iter().map(|t| Bytes::from_static(t.as_bytes())).collect::<Vec<_>>()
    };
    let (of_root, of_image) = (bytes(&["root 1", "root 2"]), bytes(&["image 1"]));
    let image = graph.images[0].manifest.digest();
    signed.put_signatures(graph.root.digest(), &of_root).await.unwrap();
    signed.put_signatures(image, &of_image).await.unwrap();
    assert!(signed.capabilities().signatures);
    let read = |name: &str| fs::read(signed.path().join(name)).unwrap();
    assert_eq!(read("signature-1"), b"root 1");
    assert_eq!(read("signature-2"), b"root 2");
    assert_eq!(read(&format!("{}.signature-1", image.encoded())), b"image 1");
    assert_eq!(signed.signatures(graph.root.digest()).await.unwrap(), of_root);
    assert_eq!(signed.signatures(image).await.unwrap(), of_image);
    assert_eq!(signed.signatures(graph.inner.digest()).await.unwrap(), bytes(&[]));
    let error = signed.put_signatures(&Digest::sha256(b"?"), &of_root).await.unwrap_err();
    assert!(error.is_not_found());

    // Into another directory they go along, for the list and for the image.
    let (_parent, other) = new_directory().await;
    let other = Arc::new(other);
    copy(signed.clone(), &target, other.clone(), CopyOptions::default()).await.unwrap();
    assert_eq!(names(&other), names(&signed));
    assert_eq!(other.signatures(graph.root.digest()).await.unwrap(), of_root);
    assert_eq!(other.signatures(image).await.unwrap(), of_image);

    // What cannot keep them refuses, unless they are dropped.
    let memory = Arc::new(Memory::new());
    let refused = copy(signed.clone(), &target, memory.clone(), CopyOptions::default()).await;
    assert!(refused.unwrap_err().chain().contains("cannot keep the 2 signatures"));
    assert!(memory.is_empty(), "it says so before anything is copied");
    let options = CopyOptions { drop_signatures: true, ..CopyOptions::default() };
    copy(signed.clone(), &target, memory, options.clone()).await.unwrap();
    let (_parent, bare) = new_directory().await;
    let bare = Arc::new(bare);
    copy(signed.clone(), &target, bare.clone(), options).await.unwrap();
    assert!(!names(&bare).iter().any(|name| name.contains("signature")));

    // Fewer signatures replace more, and go when their manifest goes.
    signed.put_signatures(graph.root.digest(), &of_root[1..]).await.unwrap();
    assert_eq!(signed.signatures(graph.root.digest()).await.unwrap(), of_root[1..]);
    signed.delete_manifest(graph.root.digest()).await.unwrap();
    signed.delete_manifest(image).await.unwrap();
    assert!(!names(&signed).iter().any(|name| name.contains("signature")));
    assert!(signed.root().await.unwrap_err().is_not_found());
}

// covers: C12
#[tokio::test]
async fn which_manifest_is_the_root() {
    let (_parent, directory) = new_directory().await;
    let [one, two] = ["one", "two"].map(|seed| image(seed).unwrap());
    let root = async || directory.root().await.unwrap().digest;
    one.put(&directory, &[]).await.unwrap();
    directory.put_signatures(one.manifest.digest(), &["signed".into()]).await.unwrap();
    assert_eq!(root().await, *one.manifest.digest(), "the first is the root");
    two.put(&directory, &[]).await.unwrap();
    assert_eq!(root().await, *one.manifest.digest(), "others are not, without a tag");
    two.put(&directory, &[tag("v2")]).await.unwrap();
    assert_eq!(root().await, *two.manifest.digest(), "a tag makes it the root");
    let own = |manifest: &Manifest, rest: &str| format!("{}.{rest}", manifest.digest().encoded());
    let there = names(&directory);
    assert!(there.contains(&own(&one.manifest, "manifest.json")));
    assert!(there.contains(&own(&one.manifest, "signature-1")), "signatures stay with theirs");
    assert!(!there.contains(&own(&two.manifest, "manifest.json")));
    assert!(!there.contains(&"signature-1".to_owned()));
    let signed = directory.signatures(one.manifest.digest()).await.unwrap();
    assert_eq!(signed, ["signed"]);

    let list = index([&one.manifest, &two.manifest]).unwrap();
    directory.put_manifest(&list, &[], &Precondition::None).await.unwrap();
    assert_eq!(root().await, *list.digest(), "what lists the root becomes it");
    assert_eq!(names(&directory).iter().filter(|name| name.ends_with(".manifest.json")).count(), 2);
    directory.set_root(one.manifest.digest()).await.unwrap();
    assert_eq!(root().await, *one.manifest.digest());
    assert_eq!(fs::read(directory.path().join("signature-1")).unwrap(), b"signed");
    directory.set_root(one.manifest.digest()).await.unwrap();
    for manifest in [&one.manifest, &two.manifest, &list] {
        let found = directory.manifest(&manifest.digest().clone().into()).await.unwrap();
        assert_eq!(found.bytes(), manifest.bytes());
    }
    let unknown = Digest::sha256(b"unknown");
    assert!(directory.set_root(&unknown).await.unwrap_err().is_not_found());
    let pinned = Target::Pinned(tag("v2"), two.manifest.digest().clone());
    assert_eq!(directory.manifest(&pinned).await.unwrap().digest(), two.manifest.digest());
    let exists = &Precondition::Exists;
    let error = directory.put_manifest(&list, &[tag("t")], exists).await.unwrap_err();
    assert!(error.is_unsupported());
    assert!(directory.delete_tag(&tag("t")).await.unwrap_err().is_not_found());
}

// covers: C16
#[tokio::test]
async fn failed_writes_leave_no_files() {
    let (_parent, directory) = new_directory().await;
    assert_eq!(names(&directory), ["version"]);
    let version = fs::read(directory.path().join("version")).unwrap();
    assert_eq!(version, b"Directory Transport Version: 1.1\n");
    let blob = noise_blob("never whole", 700_000);
    let wrong = Bytes::from(vec![0; 700_000]);
    let error = directory.put_blob(&blob.descriptor, &wrong).await.unwrap_err();
    assert_eq!(error.code(), Some(&ErrorCode::DigestInvalid));
    let error = directory.put_blob(&blob.descriptor, &wrong.slice(1..)).await.unwrap_err();
    assert_eq!(error.code(), Some(&ErrorCode::SizeInvalid));
    let mut staged = directory.stage(Algorithm::Sha256).await.unwrap();
    staged.append(blob.bytes.clone()).await.unwrap();
    drop(staged);
    let packed = image("without blobs").unwrap();
    let put = directory.put_manifest(&packed.manifest, &[tag("t")], &Precondition::None).await;
    assert_eq!(put.unwrap_err().code(), Some(&ErrorCode::ManifestBlobUnknown));
    assert_eq!(names(&directory), ["version"]);
}

// covers: C16
#[tokio::test]
async fn damage_is_told() {
    let (_parent, directory) = new_directory().await;
    let packed = image("damaged").unwrap();
    packed.put(&directory, &[]).await.unwrap();
    let list = index([&packed.manifest]).unwrap();
    directory.put_manifest(&list, &[], &Precondition::None).await.unwrap();
    let layer = &packed.blobs[1].descriptor;
    fs::write(directory.path().join(layer.digest.encoded()), "short").unwrap();
    let read = Blob::open(&directory, layer).await.err().unwrap();
    assert_eq!(read.code(), Some(&ErrorCode::SizeInvalid));
    fs::write(directory.path().join(layer.digest.encoded()), [0; 1000]).unwrap();
    let read = Blob::open(&directory, layer).await.unwrap().into_bytes(1 << 20).await;
    assert_eq!(read.unwrap_err().code(), Some(&ErrorCode::DigestInvalid));
    let digest = packed.manifest.digest();
    let name = format!("{}.manifest.json", digest.encoded());
    fs::write(directory.path().join(&name), "{}").unwrap();
    let error = directory.manifest(&digest.clone().into()).await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Internal);
    assert!(error.chain().contains(&name), "{error}");
    fs::write(directory.path().join("manifest.json"), "{}").unwrap();
    let error = directory.root().await.unwrap_err();
    assert_eq!(error.code(), Some(&ErrorCode::ManifestInvalid));
    // The list is there no more.
    assert!(directory.manifest(&list.digest().clone().into()).await.unwrap_err().is_not_found());
}

#[tokio::test]
async fn what_is_no_such_directory_is_refused() {
    let parent = TempDir::new().unwrap();
    let at = |name: &str| parent.path().join(name);
    let open = async |path: &Path| Directory::open(path).await.map(|_| ());
    let code = |error: &Error| error.code().cloned();
    let error = open(&at("missing")).await.unwrap_err();
    assert_eq!(code(&error), Some(ErrorCode::NameUnknown));
    assert!(!at("missing").exists());
    fs::create_dir(at("other")).unwrap();
    fs::write(at("other/somebody-elses"), "x").unwrap();
    assert_eq!(code(&open(&at("other")).await.unwrap_err()), Some(ErrorCode::NameUnknown));
    let error = Directory::create(at("other")).await.unwrap_err();
    assert!(error.chain().contains("neither empty"), "{error}");
    assert_eq!(files(&at("other")), ["somebody-elses"]);
    let layout = Layout::create(at("layout")).await.unwrap();
    Directory::create(layout.path()).await.unwrap_err();
    fs::write(at("file"), "").unwrap();
    Directory::create(at("file")).await.unwrap_err();

    fs::create_dir(at("version")).unwrap();
    fs::write(at("version/version"), "Directory Transport Version: 2.0\n").unwrap();
    for error in [
        open(&at("version")).await.unwrap_err(),
        Directory::create(at("version")).await.unwrap_err(),
    ] {
        assert!(error.is_unsupported() && error.to_string().contains("2.0"), "{error}");
    }
    // Before there was a version, there was no such file.
    fs::create_dir(at("old")).unwrap();
    fs::write(at("old/manifest.json"), r#"{"schemaVersion":2,"manifests":[]}"#).unwrap();
    let old = Directory::open(at("old")).await.unwrap();
    assert!(old.root().await.unwrap().media_type.is_index());
    noise_blob("new", 10).put(&old).await.unwrap();
    image("new").unwrap().put(&old, &[tag("t")]).await.unwrap();
    assert!(names(&old).contains(&"version".to_owned()));
}

#[tokio::test]
async fn names_cannot_be_chosen_by_digests() {
    let (_parent, directory) = new_directory().await;
    image("here").unwrap().put(&directory, &[]).await.unwrap();
    for digest in ["x:version", "x:signature-1", "sha512-256:manifest"] {
        let digest: Digest = digest.parse().unwrap();
        assert_eq!(directory.blob_size(&digest).await.unwrap(), None, "{digest}");
        assert!(directory.manifest(&digest.clone().into()).await.unwrap_err().is_not_found());
        assert!(directory.delete_blob(&digest).await.unwrap_err().is_not_found());
        assert!(directory.delete_manifest(&digest).await.unwrap_err().is_not_found());
        assert_eq!(directory.signatures(&digest).await.unwrap(), Vec::<Bytes>::new());
    }
    assert!(directory.path().join("version").exists());
}

#[tokio::test]
async fn a_manifest_must_tell_its_type() {
    let (_parent, directory) = new_directory().await;
    let silent = ImageIndex { media_type: None, ..ImageIndex::new(Vec::new()) };
    let bytes = Bytes::from(serde_json::to_vec(&silent).unwrap());
    let docker = oci_spec_types::MediaType::DOCKER_MANIFEST_LIST;
    let as_docker = Manifest::parse(bytes.clone(), Some(&docker), None).unwrap();
    let error = directory.put_manifest(&as_docker, &[], &Precondition::None).await.unwrap_err();
    assert!(error.is_unsupported() && error.to_string().contains(docker.as_str()), "{error}");
    let as_oci = Manifest::parse(bytes, None, None).unwrap();
    directory.put_manifest(&as_oci, &[], &Precondition::None).await.unwrap();
}

#[tokio::test]
async fn referrers_lie_beside_their_subject() {
    let (_parent, directory) = new_directory().await;
    let subject = image("subject").unwrap();
    subject.put(&directory, &[tag("t")]).await.unwrap();
    let about = image_with("about", |manifest: &mut ImageManifest| {
        manifest.subject = Some(subject.manifest.descriptor().clone());
    })
    .unwrap();
    about.put(&directory, &[]).await.unwrap();
    Piece::new(oci_spec_types::MediaType::OCTET_STREAM, "x").put(&directory).await.unwrap();
    let found = directory.referrers(subject.manifest.digest(), None, None, 10).await.unwrap();
    assert_eq!(found.page.items, [about.manifest.as_referrer().unwrap()]);
    assert_eq!(directory.root().await.unwrap().digest, *subject.manifest.digest());
}
