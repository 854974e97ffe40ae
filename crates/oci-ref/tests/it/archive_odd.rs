//! Archives as others write them: compressed, through a pipe, with a file twice, with links to
//! links.

use std::io;
use std::sync::Arc;

use oci_ref::suite::content::{image, noise, tag};
use oci_ref::{
    Compression, DockerArchive, ErrorKind, ImageBuilder, LayerContent, OciArchive,
    OciArchiveWriter, SpoolOptions,
};
use serde_json::json;
use tar::EntryType;
use tempfile::TempDir;

use crate::archive::{INDEX, MARKER, file, layout_and, link, read_all};
use crate::support::files;

const PACKED: [Compression; 3] = [Compression::None, Compression::Gzip, Compression::Zstd];

/// Bytes as they are when they are compressed.
fn packed(content: &[u8], compression: Compression) -> Vec<u8> {
    let layer = LayerContent::tar(content.to_vec(), compression).unwrap();
    let digest = layer.descriptor().digest.clone();
    let built = ImageBuilder::for_platform(&"linux/amd64".parse().unwrap()).layer(layer);
    let built = built.build().unwrap();
    let mut blobs = built.blobs();
    blobs.find(|(found, _)| found.digest == digest).unwrap().1.to_vec()
}

/// Two images with a layer in common, as an old writer of several images has them: each with all
/// its files.
fn doubled() -> Vec<u8> {
    let layer = noise("layer", 100_000);
    let diff_id = oci_spec_types::Digest::sha256(&layer);
    let config = |number: u32| {
        let rootfs = json!({ "type": "layers", "diff_ids": [diff_id] });
        let config = json!({ "architecture": "amd64", "os": "linux", "rootfs": rootfs,
                             "config": { "Env": [format!("NUMBER={number}")] } });
        config.to_string().into_bytes()
    };
    let item = |number: u32| {
        json!({ "Config": format!("./{number}.json"), "RepoTags": [format!("app:{number}")],
                "Layers": [".//x/layer.tar"] })
    };
    let list = json!([item(1), item(2)]).to_string();
    let (one, two) = (config(1), config(2));
    [
        file("1.json", &one),
        file("x/layer.tar", &layer),
        file("2.json", &two),
        file("./x/layer.tar", &layer),
        file("manifest.json", list.as_bytes()),
    ]
    .concat()
}

async fn docker(content: Vec<u8>, options: SpoolOptions) -> oci_ref::Result<DockerArchive> {
    DockerArchive::read_from(io::Cursor::new(content), "-", options).await
}

// google/go-containerregistry#265, bazelbuild/rules_docker#1420
// covers: C14
#[tokio::test]
async fn a_file_twice_with_the_same_bytes_is_one() {
    let archive = docker(doubled(), SpoolOptions::default()).await.unwrap();
    for name in ["app:1", "app:2"] {
        let found = archive.resolve_name(name).unwrap();
        assert_eq!(read_all(Arc::new(archive.clone()), &found.digest.into()).await, 1);
    }
    let mut other = doubled();
    let last = other.len() - 2048;
    other[last] ^= 1;
    let error = docker(other, SpoolOptions::default()).await.unwrap_err();
    assert!(error.chain().contains(r#""x/layer.tar" occurs twice"#), "{}", error.chain());
}

// nix-community/nix2container writes such archives, as `docker save | gzip` does
// covers: C14
#[tokio::test]
async fn compressed_archives_are_read_from_files_and_pipes() {
    let directory = TempDir::new().unwrap();
    let own = directory.path().join("own.tar");
    let writer = OciArchiveWriter::create(&own).await.unwrap();
    let stored = image("in an archive").unwrap();
    stored.put(&writer, &[tag("v1")]).await.unwrap();
    writer.finish().await.unwrap();
    let content = std::fs::read(&own).unwrap();
    let spool = TempDir::new().unwrap();
    let options = || SpoolOptions { directory: spool.path().into(), ..SpoolOptions::default() };
    for compression in PACKED {
        let path = directory.path().join("packed.tar");
        let bytes = packed(&content, compression);
        std::fs::write(&path, &bytes).unwrap();
        let opened = OciArchive::open_with(&path, options()).await.unwrap();
        let piped = OciArchive::read_from(io::Cursor::new(bytes), "-", options()).await.unwrap();
        for archive in [opened, piped] {
            let found = archive.resolve_name("v1").await.unwrap();
            assert_eq!(found.digest, *stored.manifest.digest());
            assert_eq!(read_all(Arc::new(archive), &found.digest.into()).await, 1);
        }
        let saved = packed(&doubled(), compression);
        assert_eq!(docker(saved, options()).await.unwrap().images().len(), 2);
        assert!(files(spool.path()).is_empty(), "the temporary file has no name");
    }
}

// covers: C14
#[tokio::test]
async fn what_cannot_be_unpacked_is_an_error_that_says_why() {
    let whole = layout_and(&[]);
    let gzip = packed(&whole, Compression::Gzip);
    let zstd = packed(&whole, Compression::Zstd);
    let twice = packed(&gzip, Compression::Gzip);
    let cases: [(&str, Vec<u8>, &[&str]); 6] = [
        ("a cut gzip", gzip[..gzip.len() - 9].to_vec(), &["-", "decompressed as gzip"]),
        ("a cut zstd", zstd[..zstd.len() - 4].to_vec(), &["-", "decompressed as zstd"]),
        ("garbage behind", [&gzip[..], b"xyz"].concat(), &["decompressed as gzip"]),
        ("compressed twice", twice, &["compressed with gzip", "decompressed first"]),
        ("xz", b"\xfd7zXZ\0 and more".to_vec(), &["compressed with xz", "decompressed first"]),
        ("nothing", Vec::new(), &["cut off"]),
    ];
    for (name, content, expected) in cases {
        let read = OciArchive::read_from(io::Cursor::new(content), "-", SpoolOptions::default());
        let error = read.await.expect_err(name);
        for part in expected {
            assert!(error.chain().contains(part), "{name}: {part:?}: {}", error.chain());
        }
    }
    // A few bytes that unpack to many end at the limit.
    let bomb = packed(&[&layout_and(&[])[..], &vec![0; 1 << 20]].concat(), Compression::Gzip);
    assert!(bomb.len() < 10_000);
    let limited = SpoolOptions { limit: 1 << 20, ..SpoolOptions::default() };
    let error = OciArchive::read_from(io::Cursor::new(bomb), "-", limited).await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::TooLarge { limit: 1 << 20 });
    let nowhere = TempDir::new().unwrap().path().join("gone");
    let options = SpoolOptions { directory: nowhere.clone(), ..SpoolOptions::default() };
    let error = OciArchive::read_from(io::Cursor::new(whole), "-", options).await.unwrap_err();
    let text = error.chain();
    assert!(text.contains("temporary file") && text.contains(nowhere.to_str().unwrap()), "{text}");
}

// covers: C14
#[tokio::test]
async fn a_link_to_a_link_is_followed_in_the_archive() {
    let links = |count: usize| {
        let name = |number: usize| match number {
            0 => "index.json".to_owned(),
            number => format!("links/{number}"),
        };
        let mut all = vec![file("oci-layout", MARKER), file(&name(count), INDEX)];
        for number in 0..count {
            let target = match number {
                0 => name(1),
                number => format!("../{}", name(number + 1)),
            };
            all.push(link(EntryType::Symlink, &name(number), &target));
        }
        all.concat()
    };
    for (count, good) in [(1, true), (2, true), (16, true), (17, false)] {
        let archive = io::Cursor::new(links(count));
        let read = OciArchive::read_from(archive, "-", SpoolOptions::default()).await;
        assert_eq!(read.is_ok(), good, "{count}: {read:?}");
    }
}
