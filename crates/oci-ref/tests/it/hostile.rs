//! Documents that are made to hurt: each reader answers with an error, soon, and without much memory.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use futures_util::TryStreamExt;
use oci_ref::suite::content::{image, index, seal, tag};
use oci_ref::{
    CopyOptions, Directory, DockerArchive, Error, ErrorKind, Layout, List, ListUpdate, Loss,
    Manifest, Memory, OciArchive, Precondition, Ref, Result, Select, Source, Store, Target,
    WalkOptions, choose_image, copy, walk_refs,
};
use oci_spec_types::{Descriptor, Digest, ImageIndex, ImageManifest, MediaType};
use tempfile::TempDir;

use crate::archive::file;

/// Hostile indexes, and what the error says of each.
fn documents() -> Vec<(&'static str, String, &'static str)> {
    let index = |fields: &str| {
        let media_type = MediaType::OCI_IMAGE_INDEX;
        format!(r#"{{"schemaVersion":2,"mediaType":"{media_type}",{fields}}}"#)
    };
    let entry = |digest: &str, size: &str| {
        index(&format!(
            r#""manifests":[{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{digest}","size":{size}}}]"#
        ))
    };
    let digest = Digest::sha256(b"x");
    let nested = |levels| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    vec![
        ("depth", index(&format!(r#""manifests":[],"x":{}"#, nested(1000))), "nested deeper than"),
        (
            "depth in an entry",
            index(&format!(r#""manifests":[{{"x":{}}}]"#, nested(1000))),
            "nested deeper than",
        ),
        (
            "a million entries",
            index(&format!(r#""manifests":[{}{{}}]"#, "{},".repeat(1_000_000))),
            "more than 100000 entries",
        ),
        ("a size of 2^63", entry(digest.as_str(), "9223372036854775808"), "manifests[0].size"),
        ("a size of 2^64", entry(digest.as_str(), "18446744073709551616"), "manifests[0].size"),
        ("a negative size", entry(digest.as_str(), "-1"), "manifests[0].size"),
        ("a way up", entry("sha256:../../../../etc/passwd", "1"), "manifests[0].digest"),
        ("a way up as algorithm", entry("../x:00", "1"), "manifests[0].digest"),
    ]
}

/// Writes `index.json` and `oci-layout`, and a blob.
fn write_layout(path: &Path, index_json: &str, blob: &str) {
    let blobs = path.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    fs::write(path.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    fs::write(path.join("index.json"), index_json).unwrap();
    fs::write(blobs.join(Digest::sha256(blob.as_bytes()).encoded()), blob).unwrap();
}

/// An `index.json` that lists a document under the name `t`.
fn listing(document: &str) -> String {
    let mut entry = Descriptor::of(MediaType::OCI_IMAGE_INDEX, document.as_bytes());
    entry.annotations.insert("org.opencontainers.image.ref.name".to_owned(), "t".to_owned());
    serde_json::to_string(&ImageIndex::new(vec![entry])).unwrap()
}

/// Reads what lies under a tag.
async fn read(opened: Result<Arc<dyn Source>>) -> Result<Manifest, Error> {
    opened?.manifest(&tag("t").into()).await
}

#[tokio::test]
async fn every_reader_refuses_hostile_documents() {
    for (name, document, expected) in documents() {
        let says = |reader: &str, error: Error| {
            let text = error.chain();
            assert!(text.contains(expected), "{name}, {reader}: {text}");
            assert!(text.len() < 2000 && !text.contains(char::is_control), "{name}: {text:?}");
        };
        let bytes = document.clone().into_bytes();
        says("parsed", Manifest::parse(bytes.into(), None, None).unwrap_err().into());

        let directory = TempDir::new().unwrap();
        let at = |name: &str| directory.path().join(name);
        for (place, index_json) in [("entry", &listing(&document)), ("index", &document)] {
            let (path, tar) = (at(place), at(&format!("{place}.tar")));
            write_layout(&path, index_json, &document);
            let opened = Layout::open(&path).await.map(|found| Arc::new(found) as Arc<dyn Source>);
            says("layout", read(opened).await.unwrap_err());
            let blob = format!("blobs/sha256/{}", Digest::sha256(document.as_bytes()).encoded());
            let archive = [
                file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#),
                file("index.json", index_json.as_bytes()),
                file(&blob, document.as_bytes()),
            ];
            fs::write(&tar, archive.concat()).unwrap();
            let opened =
                OciArchive::open(&tar).await.map(|found| Arc::new(found) as Arc<dyn Source>);
            says("oci-archive", read(opened).await.unwrap_err());
        }

        let path = at("dir");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("manifest.json"), &document).unwrap();
        let opened = Directory::open(&path).await.map(|found| Arc::new(found) as Arc<dyn Source>);
        says("dir", read(opened).await.unwrap_err());
    }
}

#[tokio::test]
async fn hostile_lists_of_docker_archives_are_refused() {
    let nested = format!("{}{}", "[".repeat(1000), "]".repeat(1000));
    let millions = format!("[{}1]", "1,".repeat(1_000_000));
    let large = format!("[{}1]", "1,".repeat(3_000_000));
    let layers = format!(r#"[{{"Config":"c","Layers":[{}"l"]}}]"#, r#""l","#.repeat(1_000_000));
    let config = r#"{"architecture":"a","os":"o","rootfs":{"type":"layers","diff_ids":[]}}"#;
    for (name, list, expected) in [
        ("depth", &nested, "recursion limit"),
        ("a million entries", &millions, "[0].Config"),
        ("too large", &large, "manifest.json has"),
        ("a million layers", &layers, "1000001 layers"),
        ("a way up", &r#"[{"Config":"../../c"}]"#.to_owned(), "does not exist in the archive"),
    ] {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("archive.tar");
        let archive = [file("c", config.as_bytes()), file("manifest.json", list.as_bytes())];
        fs::write(&path, archive.concat()).unwrap();
        let text = DockerArchive::open(&path).await.unwrap_err().chain();
        assert!(text.contains(expected), "{name}: {text}");
    }
}

/// Indexes within indexes, a thousand deep, around an image.
async fn tower(memory: &Memory) -> Manifest {
    let packed = image("at the bottom").unwrap();
    packed.put(memory, &[]).await.unwrap();
    let mut top = packed.manifest;
    for _ in 0..1000 {
        top = index([&top]).unwrap();
        memory.put_manifest(&top, &[], &Precondition::None).await.unwrap();
    }
    top
}

#[tokio::test]
async fn a_thousand_nested_indexes() {
    let from = Arc::new(Memory::new());
    let top = tower(&from).await;
    let target = Target::Digest(top.digest().clone());
    let root = Ref::read(from.clone(), &target).await.unwrap();
    let too_deep = |error: Error| {
        assert_eq!(*error.kind(), ErrorKind::TooLarge { limit: 16 }, "{error}");
        // It may show the way, but not more than that.
        assert!(error.chain().len() < 2000, "{error}");
    };
    let bounds = WalkOptions::default();
    let walked: Result<Vec<_>> = walk_refs(root.clone(), bounds.clone()).try_collect().await;
    too_deep(walked.unwrap_err());
    let platform = "linux/amd64".parse().unwrap();
    too_deep(choose_image(root.as_index().unwrap(), &platform, &bounds).await.unwrap_err());
    let to = Arc::new(Memory::new());
    let error = copy(from.clone(), &target, to, CopyOptions::default()).await.unwrap_err();
    too_deep(error);

    // Who allows it gets it: nothing here is limited by the stack.
    let max_depth = 1000;
    let bounds = WalkOptions { max_depth, ..bounds };
    let visits: Vec<_> = walk_refs(root, bounds).try_collect().await.unwrap();
    assert_eq!(visits.len(), 1001);
    let to = Arc::new(Memory::new());
    let options = CopyOptions { max_depth, ..CopyOptions::default() };
    assert_eq!(copy(from.clone(), &target, to, options).await.unwrap().manifests, 1001);

    let directory = TempDir::new().unwrap();
    let layout = Arc::new(Layout::create(directory.path().join("layout")).await.unwrap());
    let options = CopyOptions { max_depth, ..CopyOptions::default() };
    copy(from, &target, layout.clone(), options).await.unwrap();
    assert!(layout.fsck().await.unwrap().is_sound());
    assert_eq!(layout.gc(oci_ref::GcOptions::default()).await.unwrap().blobs, 0);
}

/// Sizes that a document may state, but no content has.
#[tokio::test]
async fn sizes_that_nothing_has() {
    const HUGE: u64 = i64::MAX as u64;
    let from = Arc::new(Memory::unchecked());
    let packed = image("small").unwrap();
    packed.put(&from, &[]).await.unwrap();
    let mut lied = packed.manifest.image().unwrap().clone();
    for blob in std::iter::once(&mut lied.config).chain(&mut lied.layers) {
        blob.size = HUGE;
    }
    let lied: ImageManifest = lied;
    let lied = seal(serde_json::to_vec(&lied)).unwrap();
    from.put_manifest(&lied, &[], &Precondition::None).await.unwrap();
    let mut child = packed.manifest.descriptor().clone();
    child.size = HUGE;
    let list = seal(serde_json::to_vec(&ImageIndex::new(vec![child]))).unwrap();
    from.put_manifest(&list, &[], &Precondition::None).await.unwrap();

    let read = Ref::read(from.clone(), &lied.digest().clone().into()).await.unwrap();
    let read = read.as_image().unwrap();
    for blob in read.descriptors() {
        let error = read.read_blob_verified(blob, 50 << 20).await.unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::TooLarge { limit: 50 << 20 });
        read.read_blob_verified(blob, u64::MAX).await.unwrap_err();
    }
    assert_eq!(*read.config().await.unwrap_err().kind(), ErrorKind::TooLarge { limit: 50 << 20 });
    for root in [&lied, &list] {
        let target = Target::Digest(root.digest().clone());
        let directory = TempDir::new().unwrap();
        let layout = Layout::create(directory.path().join("layout")).await.unwrap();
        let places: [Arc<dyn Store>; 2] = [Arc::new(Memory::new()), Arc::new(layout)];
        for to in places {
            let error = copy(from.clone(), &target, to.clone(), CopyOptions::default()).await;
            let text = error.unwrap_err().chain();
            assert!(text.contains(&HUGE.to_string()), "{text}");
            assert!(to.resolve(&target).await.unwrap_err().is_not_found());
        }
        let bounds = WalkOptions::default();
        let walk = walk_refs(Ref::read(from.clone(), &target).await.unwrap(), bounds);
        let walked: Result<Vec<_>> = walk.try_collect().await;
        assert_eq!(walked.is_err(), root.index().is_some());
    }
}

/// What is done to lists takes time in proportion to their length: anything else would take very long here.
#[tokio::test]
async fn long_lists_are_read_edited_converted_and_copied() {
    const COUNT: u32 = 20_000;
    let entry = |n: u32| {
        let mut entry = Descriptor::of(MediaType::OCI_IMAGE_MANIFEST, &n.to_le_bytes());
        entry.platform = Some(format!("linux/x{n}").parse().unwrap());
        entry
    };
    let long = serde_json::to_vec(&ImageIndex::new((0..COUNT).map(entry).collect())).unwrap();
    let long = Manifest::parse(long.into(), Some(&MediaType::OCI_IMAGE_INDEX), None).unwrap();
    let mut list = List::of(&long).unwrap();
    let converted = list.convert_to(&MediaType::DOCKER_MANIFEST_LIST, Loss::Refuse);
    let converted = List::of(&converted.unwrap().manifest).unwrap();
    assert_eq!(converted.instances().len(), COUNT as usize);
    let last = list.choose(&format!("linux/x{}", COUNT - 1).parse().unwrap()).unwrap();
    assert_eq!(last.descriptor.digest, long.manifests()[COUNT as usize - 1].digest);
    let update = |entry: &Descriptor| ListUpdate {
        digest: entry.digest.clone(),
        size: entry.size + 1,
        media_type: entry.media_type.clone(),
    };
    list.update_instances(long.manifests().iter().map(update).collect()).unwrap();
    assert!(list.is_edited());

    let (from, to) = (Arc::new(Memory::unchecked()), Arc::new(Memory::sparse()));
    from.put_manifest(&long, &[], &Precondition::None).await.unwrap();
    let mut digests: Vec<_> = long.manifests().iter().map(|entry| entry.digest.clone()).collect();
    digests.push(Digest::sha256(b"not listed"));
    let options = CopyOptions { select: Select::Instances(digests), ..CopyOptions::default() };
    let target = Target::Digest(long.digest().clone());
    let error = copy(from, &target, to, options).await.unwrap_err();
    assert!(error.to_string().contains("is not listed"), "{error}");
}
