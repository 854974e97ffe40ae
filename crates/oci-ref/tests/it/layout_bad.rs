//! Layouts that are broken: each ends in an error that names the file, what was expected and what was found.

use std::fs;
use std::path::Path;

use futures_util::TryStreamExt;
use oci_ref::suite::content::{Packed, image, index, tag};
use oci_ref::{
    Blob, ByteRange, Error, ErrorKind, Layout, Precondition, Ref, Source, Store, Target,
    WalkOptions, walk_refs,
};
use oci_spec_types::ErrorCode;
use tempfile::TempDir;

use crate::support::{files, new_layout};

/// An error says all of these.
#[track_caller]
fn says(error: &Error, expected: &[&str]) {
    let text = error.chain();
    for part in expected {
        assert!(text.contains(part), "{part:?} is missing in: {text}");
    }
}

/// A layout with one image.
async fn with_image() -> (TempDir, Layout, Packed) {
    let (directory, layout) = new_layout().await;
    let packed = image("broken later").unwrap();
    packed.put(&layout, &[tag("t")]).await.unwrap();
    (directory, layout, packed)
}

async fn open_error(path: &Path) -> Error {
    Layout::open(path).await.expect_err("a broken layout was opened")
}

// covers: M7
#[tokio::test]
async fn what_is_no_layout_is_refused() {
    let directory = TempDir::new().unwrap();
    let missing = directory.path().join("missing");
    let error = open_error(&missing).await;
    assert_eq!(error.code(), Some(&ErrorCode::NameUnknown));
    says(&error, &["missing is not an OCI image layout", "does not exist"]);
    says(
        &open_error(directory.path()).await,
        &["is not an OCI image layout", "no file oci-layout"],
    );
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    let error = open_error(&file).await;
    says(&error, &["oci-layout"]);
    assert!(!missing.exists(), "opening makes nothing");
    Layout::create(&file).await.unwrap_err();
}

// covers: M7
#[tokio::test]
async fn the_marker_is_checked() {
    let (_directory, layout) = new_layout().await;
    let marker = layout.path().join("oci-layout");
    let cases: &[(&[u8], &[&str])] = &[
        (
            br#"{"imageLayoutVersion":"1.1.0"}"#,
            &["oci-layout", "imageLayoutVersion is \"1.1.0\"", "expected \"1.0.0\""],
        ),
        (br#"{"imageLayoutVersion":1}"#, &["oci-layout", "is not a text"]),
        (br#"{}"#, &["oci-layout", "imageLayoutVersion is missing"]),
        (br#"[]"#, &["oci-layout"]),
        (b"", &["oci-layout"]),
        (br#"{"imageLayoutVersion":"1.0.0""#, &["oci-layout"]),
        (
            br#"{"imageLayoutVersion":"1.0.0","imageLayoutVersion":"2.0.0"}"#,
            &["oci-layout", "imageLayoutVersion"],
        ),
        (b"{\"imageLayoutVersion\":\"\xff\"}", &["oci-layout", "UTF-8"]),
    ];
    for (content, expected) in cases {
        fs::write(&marker, content).unwrap();
        says(&open_error(layout.path()).await, expected);
        says(&Layout::create(layout.path()).await.unwrap_err(), expected);
        assert_eq!(fs::read(&marker).unwrap(), *content, "the marker is not replaced");
    }
    fs::write(&marker, vec![b' '; 100_000]).unwrap();
    says(&open_error(layout.path()).await, &["oci-layout has more than 65536 bytes"]);
    fs::write(&marker, r#" {"x": 1, "imageLayoutVersion": "1.0.0"} "#).unwrap();
    Layout::open(layout.path()).await.unwrap();
}

#[tokio::test]
async fn a_broken_index_is_refused_and_not_replaced() {
    let (_directory, layout, packed) = with_image().await;
    let path = layout.path().join("index.json");
    let whole = fs::read_to_string(&path).unwrap();
    let hex = packed.manifest.digest().encoded();
    let deep = format!(
        r#"{{"schemaVersion":2,"manifests":[],"x":{}{}}}"#,
        "[".repeat(10_000),
        "]".repeat(10_000)
    );
    let cases: &[(Vec<u8>, &str)] = &[
        (whole.as_bytes()[..whole.len() - 10].to_vec(), "EOF"),
        (Vec::new(), "EOF"),
        (whole.replace("\"size\"", "\"size\":1,\"size\"").into(), "manifests[0].size"),
        (
            whole.replace("\"schemaVersion\"", "\"SchemaVersion\":2,\"schemaVersion\"").into(),
            "SchemaVersion",
        ),
        (deep.into(), "nested deeper than 64"),
        (whole.as_bytes().iter().map(|b| if *b == b':' { 0xff } else { *b }).collect(), "UTF-8"),
        (
            whole.replace(&format!("sha256:{hex}"), "sha256:../../../../etc/passwd").into(),
            "manifests[0].digest",
        ),
        (whole.replace(&format!("sha256:{hex}"), "../x:00").into(), "manifests[0].digest"),
        (whole.replace(hex, &hex.to_uppercase()).into(), "manifests[0].digest"),
        (whole.replace("\"size\":", "\"size\":-").into(), "manifests[0].size"),
        (
            whole.replace("\"size\":", "\"size\":9223372036854775808,\"x\":").into(),
            "manifests[0].size",
        ),
        (whole.replace("\"schemaVersion\":2", "\"schemaVersion\":1").into(), "schemaVersion"),
        (whole.replace("\"manifests\"", "\"layers\":[],\"manifests\"").into(), "layers"),
        (br#"{"schemaVersion":2,"manifests":{}}"#.to_vec(), "manifests"),
    ];
    for (content, expected) in cases {
        fs::write(&path, content).unwrap();
        let text = String::from_utf8_lossy(&content[..content.len().min(200)]).into_owned();
        let before = files(layout.path());
        let error = open_error(layout.path()).await;
        assert_eq!(error.code(), Some(&ErrorCode::ManifestInvalid), "{text}: {error:?}");
        assert!(
            error.chain().contains("index.json") && error.chain().contains(expected),
            "{text}: {}",
            error.chain()
        );
        for error in [
            layout.manifest(&tag("t").into()).await.unwrap_err(),
            layout.entries().await.unwrap_err(),
            layout.tags(None, 10).await.unwrap_err(),
            layout
                .put_manifest(&packed.manifest, &[tag("u")], &Precondition::None)
                .await
                .unwrap_err(),
            layout.delete_manifest(packed.manifest.digest()).await.unwrap_err(),
        ] {
            says(&error, &["index.json", expected]);
        }
        assert_eq!(fs::read(&path).unwrap(), *content, "a broken index is not replaced");
        assert_eq!(files(layout.path()), before);
    }
    fs::remove_file(&path).unwrap();
    says(&open_error(layout.path()).await, &["index.json does not exist"]);
    fs::create_dir(&path).unwrap();
    says(&open_error(layout.path()).await, &["index.json", "not a regular file"]);
}

#[tokio::test]
async fn an_oversized_index_is_not_read() {
    let (_directory, layout, _) = with_image().await;
    let file = fs::File::options().write(true).open(layout.path().join("index.json")).unwrap();
    file.set_len((50 << 20) + 1).unwrap();
    let error = open_error(layout.path()).await;
    assert!(matches!(error.kind(), ErrorKind::TooLarge { limit: 52_428_800 }), "{error:?}");
    says(&error, &["index.json has more than 52428800 bytes"]);
}

#[tokio::test]
async fn missing_manifests_are_named() {
    let (_directory, layout, packed) = with_image().await;
    let digest = packed.manifest.digest();
    let name = format!("blobs/sha256/{}", digest.encoded());
    fs::remove_file(layout.path().join(&name)).unwrap();
    for target in [tag("t").into(), Target::Digest(digest.clone())] {
        let error = layout.manifest(&target).await.unwrap_err();
        assert!(error.is_not_found());
        says(&error, &[digest.as_str(), &format!("{name} does not exist")]);
    }
    // Storing it again mends the layout.
    packed.put(&layout, &[]).await.unwrap();
    layout.manifest(&tag("t").into()).await.unwrap();
    assert_eq!(layout.entries().await.unwrap().len(), 1);
    // What is listed and not there can be deleted.
    fs::remove_file(layout.path().join(&name)).unwrap();
    layout.delete_manifest(digest).await.unwrap();
    assert_eq!(layout.entries().await.unwrap(), []);
}

#[tokio::test]
async fn missing_blobs_are_named() {
    let (_directory, layout, packed) = with_image().await;
    let layer = &packed.blobs[1].descriptor;
    fs::remove_file(layout.path().join("blobs/sha256").join(layer.digest.encoded())).unwrap();
    assert_eq!(layout.blob_size(&layer.digest).await.unwrap(), None);
    let error = layout.blob(&layer.digest, ByteRange::All).await.err().unwrap();
    assert_eq!(error.code(), Some(&ErrorCode::BlobUnknown));
    says(&error, &[layer.digest.as_str()]);
}

// covers: C16
#[tokio::test]
async fn changed_manifests_are_told_by_size_and_by_digest() {
    let (_directory, layout, packed) = with_image().await;
    let digest = packed.manifest.digest();
    let name = format!("blobs/sha256/{}", digest.encoded());
    let path = layout.path().join(&name);
    let bytes = packed.manifest.bytes();
    let (size, longer) = (bytes.len(), bytes.len() + 1);

    fs::write(&path, [&bytes[..], b" "].concat()).unwrap();
    for target in [tag("t").into(), Target::Digest(digest.clone())] {
        let error = layout.manifest(&target).await.unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::Internal);
        says(&error, &[&format!("{name} has {longer} bytes, expected {size}")]);
    }
    let mut changed = bytes.to_vec();
    changed[size - 3] ^= 1;
    fs::write(&path, changed).unwrap();
    for target in [tag("t").into(), Target::Digest(digest.clone())] {
        let error = layout.manifest(&target).await.unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::Internal);
        says(&error, &[&name, "content has digest", &format!("expected {digest}")]);
    }
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    let error = layout.manifest(&tag("t").into()).await.unwrap_err();
    says(&error, &[&format!("{name} is not a regular file")]);
}

// covers: C16
#[tokio::test]
async fn changed_blobs_never_verify() {
    let (_directory, layout, packed) = with_image().await;
    let layer = &packed.blobs[1];
    let path = layout.path().join("blobs/sha256").join(layer.descriptor.digest.encoded());
    let read = async || {
        let blob = Blob::open(&layout, &layer.descriptor).await?;
        blob.into_bytes(u64::MAX).await
    };
    assert_eq!(read().await.unwrap(), layer.bytes);
    fs::write(&path, &layer.bytes[1..]).unwrap();
    let error = read().await.unwrap_err();
    assert_eq!(error.code(), Some(&ErrorCode::SizeInvalid));
    says(&error, &[layer.descriptor.digest.as_str(), "has 999 bytes, expected 1000"]);
    fs::write(&path, vec![0; 1000]).unwrap();
    let error = read().await.unwrap_err();
    assert_eq!(error.code(), Some(&ErrorCode::DigestInvalid));
    says(&error, &[layer.descriptor.digest.as_str()]);
}

#[tokio::test]
async fn a_file_that_shrinks_while_it_is_read_is_an_error() {
    let (_directory, layout) = new_layout().await;
    let blob = oci_ref::suite::content::noise_blob("shrinks", 1 << 20);
    blob.put(&layout).await.unwrap();
    let mut read = layout.blob(&blob.descriptor.digest, ByteRange::All).await.unwrap();
    read.body.try_next().await.unwrap().unwrap();
    let path = layout.path().join("blobs/sha256").join(blob.descriptor.digest.encoded());
    fs::File::options().write(true).open(path).unwrap().set_len(300_000).unwrap();
    let rest: Result<Vec<_>, _> = read.body.try_collect().await;
    let error = rest.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Io);
    says(&error, &[blob.descriptor.digest.encoded(), "bytes early"]);
}

#[tokio::test]
async fn one_broken_index_does_not_hide_others() {
    let (_directory, layout) = new_layout().await;
    let images = ["one", "two"].map(|seed| image(seed).unwrap());
    let mut indexes = Vec::new();
    for (n, packed) in images.iter().enumerate() {
        packed.put(&layout, &[]).await.unwrap();
        let list = index([&packed.manifest]).unwrap();
        layout.put_manifest(&list, &[tag(&format!("i{n}"))], &Precondition::None).await.unwrap();
        indexes.push(list);
    }
    let name = format!("blobs/sha256/{}", indexes[0].digest().encoded());
    fs::write(layout.path().join(&name), "{}").unwrap();
    // Nothing is remembered in a new handle.
    let layout = Layout::open(layout.path()).await.unwrap();
    layout.manifest(&images[1].manifest.digest().clone().into()).await.unwrap();
    let error = layout.manifest(&images[0].manifest.digest().clone().into()).await.unwrap_err();
    says(&error, &[&name, "has 2 bytes"]);
    let root = Ref::read(std::sync::Arc::new(layout), &tag("i1").into()).await.unwrap();
    let visits: Vec<_> = walk_refs(root, WalkOptions::default()).try_collect().await.unwrap();
    assert_eq!(visits.len(), 2);
}
