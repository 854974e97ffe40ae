//! `oci-archive:`: tar archives of layouts, read without unpacking, written the same each time.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::TryStreamExt;
use oci_ref::suite::content::{image, index, tag};
use oci_ref::suite::sample;
use oci_ref::{
    ByteRange, CopyOptions, Error, ErrorKind, Found, Layout, Memory, OciArchive, OciArchiveOptions,
    OciArchiveWriter, Precondition, Ref, Source, Store, Target, WalkOptions, copy, walk_refs,
};
use oci_spec_types::{Digest, ErrorCode};
use tar::{EntryType, Header};
use tempfile::TempDir;

use crate::support::{Graph, files};

/// Files that skopeo has written.
pub(crate) fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/skopeo").join(name)
}

/// Reads all that a target reaches, verified; gives how many manifests there are.
pub(crate) async fn read_all(source: Arc<dyn Source>, target: &Target) -> usize {
    let root = Ref::read(source, target).await.unwrap();
    let visits: Vec<_> = walk_refs(root, WalkOptions::default()).try_collect().await.unwrap();
    for visit in &visits {
        let Found::Ref(found) = &visit.found else { panic!("{visit:?}") };
        if let Ref::Image(image) = found {
            for blob in image.descriptors() {
                image.read_blob_verified(blob, u64::MAX).await.unwrap();
            }
        }
    }
    visits.len()
}

/// An entry of a tar archive, as it is said to be.
pub(crate) fn entry(kind: EntryType, name: &str, content: &[u8]) -> Vec<u8> {
    entry_with(kind, name, "", content.len() as u64, content)
}

fn entry_with(kind: EntryType, name: &str, link: &str, size: u64, content: &[u8]) -> Vec<u8> {
    let mut header = Header::new_gnu();
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_size(size);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

pub(crate) fn file(name: &str, content: &[u8]) -> Vec<u8> {
    entry(EntryType::Regular, name, content)
}

pub(crate) fn link(kind: EntryType, name: &str, target: &str) -> Vec<u8> {
    entry_with(kind, name, target, 0, b"")
}

/// A record of a pax header, which begins with its own length.
fn record(text: &str) -> Vec<u8> {
    let rest = text.len() + 2;
    let digits = |length: usize| length.to_string().len();
    let length = (rest..).find(|length| length - rest == digits(*length)).unwrap();
    format!("{length} {text}\n").into_bytes()
}

pub(crate) const MARKER: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
pub(crate) const INDEX: &[u8] = br#"{"schemaVersion":2,"manifests":[]}"#;

/// The smallest layout, in an archive with more entries.
pub(crate) fn layout_and(more: &[Vec<u8>]) -> Vec<u8> {
    [&[file("oci-layout", MARKER), file("index.json", INDEX)], more].concat().concat()
}

async fn open(content: &[u8]) -> Result<OciArchive, Error> {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("archive.tar");
    fs::write(&path, content).unwrap();
    OciArchive::open(path).await
}

// covers: C14
#[tokio::test]
async fn the_sample_goes_in_and_comes_back() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("sample.tar");
    let writer = OciArchiveWriter::create(&path).await.unwrap();
    let sample = sample::write_all(&writer).await.unwrap();
    writer.finish().await.unwrap();
    drop(writer);
    assert_eq!(files(directory.path()), ["sample.tar"]);

    let archive = Arc::new(OciArchive::open(&path).await.unwrap());
    let memory = Arc::new(Memory::new());
    sample::write_all(&*memory).await.unwrap();
    for listed in &sample.entries {
        let target = Target::Digest(listed.descriptor.digest.clone());
        let found = archive.manifest(&target).await.unwrap();
        assert_eq!(found.bytes(), memory.manifest(&target).await.unwrap().bytes());
        read_all(archive.clone(), &target).await;
        if let Some(tag) = &listed.tag {
            let resolved = archive.resolve(&tag.clone().into()).await.unwrap();
            assert_eq!(resolved.digest, listed.descriptor.digest);
            assert_eq!(archive.resolve_name(tag.as_str()).await.unwrap(), resolved);
            let pinned = Target::Pinned(tag.clone(), Digest::sha256(b"other"));
            assert!(archive.manifest(&pinned).await.unwrap_err().is_not_found());
        }
    }
    assert_eq!(archive.tags(None, 100).await.unwrap(), memory.tags(None, 100).await.unwrap());
    let referrers = archive.referrers(&sample.image.digest, None, None, 100).await.unwrap();
    assert_eq!(referrers, memory.referrers(&sample.image.digest, None, None, 100).await.unwrap());
    assert!(!referrers.page.items.is_empty());
    assert_eq!(archive.blob_size(&Digest::sha256(b"x")).await.unwrap(), None);
    let error = archive.blob(&Digest::sha256(b"x"), ByteRange::All).await.err().unwrap();
    assert_eq!(error.code(), Some(&ErrorCode::BlobUnknown));

    // Parts of a blob, and out again into another archive.
    let manifest = archive.manifest(&tag("image").into()).await.unwrap();
    let layer = manifest.blobs().max_by_key(|blob| blob.size).unwrap();
    let whole = memory.blob_bytes(&layer.digest).unwrap();
    assert!(whole.len() > 300_000, "more than one chunk");
    let middle = ByteRange::Inclusive(10, 290_000);
    let read = archive.blob(&layer.digest, middle).await.unwrap();
    assert_eq!((read.size, read.range.clone()), (layer.size, 10..290_001));
    let chunks: Vec<_> = read.body.try_collect().await.unwrap();
    assert!(chunks.iter().all(|chunk| chunk.len() <= 256 << 10) && chunks.len() == 2);
    assert!(chunks.concat() == whole[10..290_001]);
    let error = archive.blob(&layer.digest, ByteRange::From(layer.size)).await.err().unwrap();
    assert_eq!(*error.kind(), ErrorKind::RangeInvalid { size: layer.size });

    let again = directory.path().join("again.tar");
    let writer = Arc::new(OciArchiveWriter::create(&again).await.unwrap());
    for listed in sample.entries.iter().rev() {
        let target = Target::Digest(listed.descriptor.digest.clone());
        let tags = listed.tag.iter().cloned().collect();
        let options = CopyOptions { tags, ..CopyOptions::default() };
        copy(archive.clone(), &target, writer.clone(), options).await.unwrap();
    }
    writer.finish().await.unwrap();
    let (first, second) = (fs::read(&path).unwrap(), fs::read(&again).unwrap());
    assert_eq!(
        OciArchive::open(&again).await.unwrap().tags(None, 100).await.unwrap().items.len(),
        9
    );
    assert!(first == second, "the same content gives the same bytes, in whatever order it came");
}

// covers: C14
#[tokio::test]
async fn the_same_content_gives_the_same_bytes() {
    let directory = TempDir::new().unwrap();
    let graph = Graph::new();
    let mut archives = Vec::new();
    for (n, sync) in [(0, false), (1, true)] {
        let path = directory.path().join(format!("{n}.tar"));
        let options = OciArchiveOptions { sync, sparse: false };
        let writer = OciArchiveWriter::create_with(&path, options).await.unwrap();
        let mut images: Vec<_> = graph.images.iter().collect();
        if n == 1 {
            images.reverse();
            // What has come and gone leaves no trace.
            let gone = image("gone").unwrap();
            gone.put(&writer, &[tag("gone")]).await.unwrap();
            writer.delete_manifest(gone.manifest.digest()).await.unwrap();
        }
        for packed in images {
            packed.put(&writer, &[]).await.unwrap();
        }
        writer.put_manifest(&graph.inner, &[], &Precondition::None).await.unwrap();
        writer.put_manifest(&graph.root, &[tag("b"), tag("a")], &Precondition::None).await.unwrap();
        if n == 1 {
            writer.put_manifest(&graph.root, &[tag("a")], &Precondition::None).await.unwrap();
        }
        writer.finish().await.unwrap();
        archives.push(fs::read(&path).unwrap());
        writer.finish().await.unwrap();
        assert!(fs::read(&path).unwrap() == archives[n], "finished again");
    }
    assert!(archives[0] == archives[1]);
    // Nothing in it is of this machine or this time, and the names are in order.
    let mut archive = tar::Archive::new(&archives[0][..]);
    let mut names = Vec::new();
    for entry in archive.entries().unwrap() {
        let entry = entry.unwrap();
        let header = entry.header();
        assert_eq!(
            (header.uid().unwrap(), header.gid().unwrap(), header.mtime().unwrap()),
            (0, 0, 0)
        );
        assert_eq!(header.username().unwrap(), Some(""));
        assert!(header.as_ustar().is_some());
        names.push(entry.path().unwrap().to_str().unwrap().to_owned());
    }
    let mut sorted = names.clone();
    sorted.sort();
    assert_eq!(names, sorted);
    assert_eq!(&names[..2], ["blobs/", "blobs/sha256/"]);
    assert_eq!(&names[names.len() - 2..], ["index.json", "oci-layout"]);
}

// covers: C16
#[tokio::test]
async fn nothing_is_named_before_it_is_whole() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("archive.tar");
    fs::write(&path, "what was there").unwrap();
    let writer = OciArchiveWriter::create(&path).await.unwrap();
    let packed = image("not yet").unwrap();
    packed.put(&writer, &[tag("t")]).await.unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"what was there");

    // A blob that is gone from where it was gathered leaves a manifest that cannot be read.
    let gathered = files(directory.path());
    let hex = packed.manifest.digest().encoded();
    let at = gathered.iter().find(|name| name.ends_with(hex)).unwrap();
    fs::write(directory.path().join(at), "damaged").unwrap();
    let error = writer.finish().await.unwrap_err();
    assert!(error.chain().contains(hex), "{error}");
    assert_eq!(files(directory.path()).len(), gathered.len(), "nothing is left of the attempt");
    assert_eq!(fs::read(&path).unwrap(), b"what was there");
    drop(writer);
    assert_eq!(files(directory.path()), ["archive.tar"]);

    let nowhere = directory.path().join("missing/archive.tar");
    OciArchiveWriter::create(nowhere).await.unwrap_err();
}

// covers: C14
#[tokio::test]
async fn what_skopeo_writes_is_read() {
    let archive = Arc::new(OciArchive::open(golden("oci-archive.tar")).await.unwrap());
    let entries = archive.entries();
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0].name.as_deref(), Some("image"));
    assert_eq!(read_all(archive.clone(), &tag("image").into()).await, 1);
    let expected = "sha256:5e860278217b6c2128abc8b97840ba45234842e4a20bc74fbaddb060d58d2ea4";
    assert_eq!(archive.resolve(&tag("image").into()).await.unwrap().digest.as_str(), expected);
}

// covers: C14
#[tokio::test]
async fn whoever_packs_a_layout_it_is_read() {
    // With `./` in front, directories, hard links between equal files, and names in pax headers.
    let directory = TempDir::new().unwrap();
    let layout = Layout::create(directory.path().join("layout")).await.unwrap();
    let packed = image("packed").unwrap();
    packed.put(&layout, &[tag("t")]).await.unwrap();
    let mut bytes =
        entry(EntryType::XGlobalHeader, "pax_global_header", &record("comment=nothing"));
    bytes.extend(entry(EntryType::Directory, "./", b""));
    bytes.extend(entry(EntryType::Directory, "./blobs/", b""));
    bytes.extend(entry(EntryType::Directory, "./blobs/", b""));
    for name in files(layout.path()) {
        let content = fs::read(layout.path().join(&name)).unwrap();
        if name.ends_with(packed.manifest.digest().encoded()) {
            bytes.extend(file("./manifest", &content));
            bytes.extend(link(EntryType::Link, &format!("./{name}"), "./manifest"));
        } else if name.ends_with(packed.blobs[0].descriptor.digest.encoded()) {
            bytes.extend(file("elsewhere/config", &content));
            bytes.extend(link(EntryType::Symlink, &name, "../../elsewhere/./config"));
        } else if name.starts_with("blobs") {
            let record = record(&format!("path=./{name}"));
            bytes.extend(entry(EntryType::XHeader, "pax", &record));
            bytes.extend(file("short", &content));
        } else {
            bytes.extend(entry(
                EntryType::GNULongName,
                "././@LongLink",
                format!("./{name}\0").as_bytes(),
            ));
            bytes.extend(file("short", &content));
        }
    }
    let archive = Arc::new(open(&bytes).await.unwrap());
    assert_eq!(read_all(archive, &tag("t").into()).await, 1);
    // Without the zeros at the end, with some, and without padding at the end.
    for end in [0, 512, 1024, 10240] {
        open(&[layout_and(&[]), vec![0; end]].concat()).await.unwrap();
    }
    let whole = layout_and(&[]);
    open(&whole[..1536 + INDEX.len()]).await.unwrap();
}

// covers: C14
#[tokio::test]
async fn hostile_archives_are_refused() {
    let long = "n".repeat(5000);
    let sparse = entry(EntryType::GNUSparse, "holes", b"");
    let raw_pax = |records: &[u8]| entry(EntryType::XHeader, "pax", records);
    let pax = |text: &str| raw_pax(&record(text));
    let marker = || file("oci-layout", MARKER);
    let cut = layout_and(&[file("last", &[1; 2000])]);
    let mut broken_sum = layout_and(&[file("x", b"")]);
    let last = broken_sum.len() - 512;
    broken_sum[last] = b'y';
    let negative = {
        let mut header = Header::new_gnu();
        header.as_old_mut().name[..1].copy_from_slice(b"x");
        header.as_old_mut().size = *b"-00000000001";
        header.set_entry_type(EntryType::Regular);
        header.set_cksum();
        header.as_bytes().to_vec()
    };
    let cases: Vec<(&str, Vec<u8>, &[&str])> = vec![
        ("nothing", vec![], &["cut off"]),
        ("zeros", vec![0; 1024], &["no file oci-layout"]),
        ("no tar", b"not a tar archive ".repeat(100), &["at byte 0", "no tar header"]),
        ("gzip", vec![0x1f, 0x8b, 8, 0], &["cannot be decompressed as gzip"]),
        ("zstd", [&[0x28, 0xb5, 0x2f, 0xfd][..], &[0; 600]].concat(), &["decompressed as zstd"]),
        ("xz", b"\xfd7zXZ\0".to_vec(), &["compressed with xz", "decompressed first"]),
        ("bzip2", b"BZh9".to_vec(), &["compressed with bzip2"]),
        ("docker", file("manifest.json", b"[]"), &["no file oci-layout", "docker-archive:"]),
        ("no index", marker(), &["index.json does not exist"]),
        (
            "another version",
            file("oci-layout", br#"{"imageLayoutVersion":"2"}"#),
            &["\"2\"", "1.0.0"],
        ),
        ("broken index", [marker(), file("index.json", b"{")].concat(), &["index.json"]),
        (
            "a directory as index",
            [marker(), entry(EntryType::Directory, "index.json", b"")].concat(),
            &["\"index.json\" is not a regular file"],
        ),
        ("absolute", layout_and(&[file("/etc/passwd", b"x")]), &["\"/etc/passwd\"", "absolute"]),
        ("up", layout_and(&[file("blobs/../../x", b"x")]), &["\"blobs/../../x\"", "leads out"]),
        ("up and back", layout_and(&[file("a/../oci-layout2", b"x")]), &["leads out"]),
        ("up in pax", layout_and(&[pax("path=../xy"), file("x", b"")]), &["\"../xy\""]),
        ("twice", layout_and(&[file("oci-layout", b"{}")]), &["\"oci-layout\" occurs twice"]),
        (
            "twice, of one size",
            layout_and(&[file("oci-layout", &[b' '; MARKER.len()])]),
            &["\"oci-layout\" occurs twice"],
        ),
        (
            "file and link",
            layout_and(&[link(EntryType::Link, "index.json", "oci-layout")]),
            &["occurs twice"],
        ),
        ("twice, written otherwise", layout_and(&[file("././oci-layout", b"")]), &["occurs twice"]),
        (
            "file and directory",
            layout_and(&[entry(EntryType::Directory, "index.json/", b"")]),
            &["occurs twice"],
        ),
        (
            "link out",
            layout_and(&[link(EntryType::Symlink, "l", "../x")]),
            &["\"l\" is a link", "leads out"],
        ),
        (
            "link to the root",
            layout_and(&[link(EntryType::Symlink, "l", "/etc/passwd")]),
            &["absolute"],
        ),
        ("hard link up", layout_and(&[link(EntryType::Link, "a/l", "../x")]), &["leads out"]),
        (
            "link to itself",
            [link(EntryType::Symlink, "oci-layout", "oci-layout"), file("x", b"")].concat(),
            &["\"oci-layout\" is a link through more than 16 others"],
        ),
        (
            "links in a circle",
            [
                marker(),
                link(EntryType::Link, "index.json", "b"),
                link(EntryType::Symlink, "b", "index.json"),
            ]
            .concat(),
            &["\"index.json\" is a link through more than 16 others"],
        ),
        (
            "link through a link to nothing",
            [
                marker(),
                link(EntryType::Link, "index.json", "b"),
                link(EntryType::Symlink, "b", "gone"),
            ]
            .concat(),
            &["\"index.json\" is a link to \"gone\""],
        ),
        (
            "link to nothing",
            [marker(), link(EntryType::Link, "index.json", "gone")].concat(),
            &["\"gone\""],
        ),
        (
            "link with content",
            layout_and(&[entry_with(EntryType::Symlink, "l", "x", 512, &[0; 512])]),
            &["512 bytes", "no file"],
        ),
        ("sparse", layout_and(&[sparse]), &["sparse"]),
        ("sparse in pax", layout_and(&[pax("GNU.sparse.major=1"), file("x", b"")]), &["sparse"]),
        ("unknown type", layout_and(&[entry(EntryType::new(b'M'), "m", b"")]), &["type \"M\""]),
        ("not UTF-8", layout_and(&[raw_pax(b"9 path=\xff\n"), file("x", b"")]), &["not UTF-8"]),
        ("a zero byte", layout_and(&[pax("path=\u{0}"), file("x", b"")]), &["zero byte"]),
        (
            "a long name",
            layout_and(&[entry(EntryType::GNULongName, "l", long.as_bytes()), file("x", b"")]),
            &["4096"],
        ),
        (
            "a huge long name",
            layout_and(&[entry_with(EntryType::GNULongName, "l", "", 1 << 40, b"")]),
            &["more than the limit"],
        ),
        ("broken pax", layout_and(&[raw_pax(b"99 path=x\n"), file("x", b"")]), &["pax header"]),
        ("pax without end", layout_and(&[raw_pax(b"0 a=b\n")]), &["pax header"]),
        (
            "one size for all",
            layout_and(&[entry(EntryType::XGlobalHeader, "g", &record("size=1"))]),
            &["global pax"],
        ),
        ("a header for nothing", layout_and(&[pax("path=x")]), &["ends after an extension"]),
        (
            "too large",
            layout_and(&[entry_with(EntryType::Regular, "big", "", 1 << 40, b"x")]),
            &["cut off", "1099511627776"],
        ),
        (
            "beyond all sizes",
            layout_and(&[entry_with(EntryType::Regular, "big", "", u64::MAX, b"x")]),
            &["cut off"],
        ),
        (
            "beyond all sizes in pax",
            layout_and(&[pax("size=18446744073709551615"), file("x", b"")]),
            &["cut off"],
        ),
        ("negative", layout_and(&[negative]), &["no number"]),
        ("cut in content", cut[..cut.len() - 600].to_vec(), &["cut off", "2000 bytes"]),
        ("cut in a header", layout_and(&[])[..1300].to_vec(), &["cut off"]),
        ("cut after a header", layout_and(&[])[..512].to_vec(), &["cut off"]),
        ("a wrong sum", broken_sum, &["no tar header"]),
    ];
    for (name, content, expected) in cases {
        let error = open(&content).await.expect_err(name);
        let text = error.chain();
        for part in expected {
            assert!(text.contains(part), "{name}: {part:?} is missing in: {text}");
        }
        assert!(text.len() < 2000, "{name}");
    }
    let error = OciArchive::open("/nonexistent/archive.tar").await.unwrap_err();
    assert_eq!(error.code(), Some(&ErrorCode::NameUnknown));
    let directory = TempDir::new().unwrap();
    let error = OciArchive::open(directory.path()).await.unwrap_err();
    assert!(error.chain().contains("not a regular file"));
}

/// Every truncation and many changed bytes of a small archive end in an error or in an archive, never in a panic.
#[tokio::test]
async fn damaged_archives_do_no_harm() {
    let whole = layout_and(&[
        link(EntryType::Link, "l", "index.json"),
        entry(EntryType::XHeader, "p", &record("path=x")),
        file("y", b"y"),
    ]);
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("archive.tar");
    for length in (0..whole.len()).step_by(7) {
        fs::write(&path, &whole[..length]).unwrap();
        let _ = OciArchive::open(&path).await;
    }
    for at in (0..whole.len()).step_by(3) {
        let mut changed = whole.clone();
        changed[at] ^= 0x41;
        fs::write(&path, &changed).unwrap();
        let _ = OciArchive::open(&path).await;
    }
}

#[tokio::test]
async fn too_many_entries_end_in_an_error() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("archive.tar");
    let mut archive = std::io::BufWriter::new(File::create(&path).unwrap());
    let directory_entry = entry(EntryType::Directory, "d", b"");
    for _ in 0..200_001 {
        archive.write_all(&directory_entry).unwrap();
    }
    archive.flush().unwrap();
    let error = OciArchive::open(&path).await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::TooLarge { limit: 200_000 });
}

/// Blobs of more than 8 GiB, whose size no ustar header can hold, by both extensions for it.
#[cfg(unix)]
#[tokio::test]
async fn very_large_blobs_are_found() {
    const SIZE: u64 = 9 << 30;
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("archive.tar");
    let name = |n: u32| format!("blobs/sha256/{}", Digest::sha256(&n.to_be_bytes()).encoded());
    let mut archive = File::create(&path).unwrap();
    for n in 0..2 {
        let header = match n {
            0 => entry_with(EntryType::Regular, &name(n), "", SIZE, b""),
            _ => [
                entry(EntryType::XHeader, "pax", &record("size=9663676416")),
                entry(EntryType::Regular, &name(n), b""),
            ]
            .concat(),
        };
        archive.write_all(&header).unwrap();
        archive.seek(SeekFrom::Current(SIZE as i64 - 3)).unwrap();
        archive.write_all(&[b'a' + n as u8; 3]).unwrap();
    }
    archive.write_all(&layout_and(&[])).unwrap();
    let archive = OciArchive::open(&path).await.unwrap();
    for (n, expected) in [(0, b"aaa"), (1, b"bbb")] {
        let digest = Digest::sha256(&u32::to_be_bytes(n));
        assert_eq!(archive.blob_size(&digest).await.unwrap(), Some(SIZE));
        let read = archive.blob(&digest, ByteRange::Last(3)).await.unwrap();
        let chunks: Vec<_> = read.body.try_collect().await.unwrap();
        assert_eq!(chunks.concat(), expected);
    }
}

#[tokio::test]
async fn sparse_lists_where_they_are_asked_for() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("sparse.tar");
    let (here, elsewhere) = (image("here").unwrap(), image("elsewhere").unwrap());
    let list = index([&here.manifest, &elsewhere.manifest]).unwrap();
    let options = OciArchiveOptions { sparse: true, sync: false };
    let writer = OciArchiveWriter::create_with(&path, options).await.unwrap();
    here.put(&writer, &[]).await.unwrap();
    writer.put_manifest(&list, &[tag("list")], &Precondition::None).await.unwrap();
    writer.finish().await.unwrap();
    let archive = OciArchive::open(&path).await.unwrap();
    archive.manifest(&here.manifest.digest().clone().into()).await.unwrap();
    let missing = archive.manifest(&elsewhere.manifest.digest().clone().into()).await;
    assert!(missing.unwrap_err().is_not_found());
}
