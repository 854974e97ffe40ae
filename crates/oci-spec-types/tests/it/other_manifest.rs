//! Manifests of unknown types: what they reference.

use oci_spec_types::{Digest, DocumentError, OtherManifest};
use serde_json::{Value, json};

fn read(document: &Value) -> Result<OtherManifest, DocumentError> {
    OtherManifest::from_slice(document.to_string().as_bytes())
}

fn numbered(number: u64) -> Value {
    let digest = Digest::sha256(&number.to_le_bytes());
    json!({"mediaType": "referrer.image", "digest": digest, "size": number})
}

// goharbor/harbor#12975, #15445
#[test]
fn references_are_found_by_structure() {
    let (alone, other) = (Digest::sha256(b"alone"), Digest::sha256(b"other"));
    let mut nested = numbered(3);
    nested["parts"] = json!([numbered(4)]);
    let document = json!({
        "mediaType": "application/vnd.example.bundle+json",
        "digest": other, "size": 3,
        "artifactType": "a kind",
        "annotations": {"a": "b", "org.opencontainers.image.base.digest": alone},
        "subject": numbered(1),
        "a": numbered(2),
        "b": {"c": [1, null, {"d": [[nested]]}, "sha256:short", alone]},
        "e": {"mediaType": "x/y", "digest": null, "size": 7, "subject": numbered(5)},
    });
    let found = read(&document).unwrap();
    let sizes: Vec<u64> = found.descriptors.iter().map(|found| found.size).collect();
    assert_eq!(sizes, [2, 3, 4, 5]);
    assert_eq!(found.subject.as_ref().map(|subject| subject.size), Some(1));
    let mut digests = [alone, other];
    digests.sort_unstable();
    assert_eq!(found.digests, digests);
    assert_eq!(found.artifact_type.as_deref(), Some("a kind"));
    assert_eq!(found.annotations.len(), 2);

    // What has the fields of a descriptor and is none cannot be understood.
    for (key, value) in [("digest", json!("md5")), ("size", json!(-1)), ("mediaType", json!(1))] {
        let mut document = document.clone();
        document["b"]["c"][2]["d"][0][0][key] = value;
        let error = read(&document).unwrap_err();
        assert_eq!(error.path().unwrap(), format!("b.c[2].d[0][0].{key}"), "{error}");
    }
    let mut document = document;
    document["subject"]["size"] = json!("1");
    assert_eq!(read(&document).unwrap_err().path(), Some("subject.size"));
}

#[test]
fn references_are_bounded() {
    let many = |count| json!({"a": vec![json!(Digest::sha256(b"")); count]});
    assert_eq!(read(&many(100_000)).unwrap().digests, [Digest::sha256(b"")]);
    let error = read(&many(100_001)).unwrap_err().to_string();
    assert!(error.contains("more than 100000"), "{error}");
}

#[test]
fn references_are_counted_whatever_their_form() {
    let many = |from: u64, count: u64| -> Vec<Value> {
        (from..from + count).map(|number| json!(Digest::sha256(&number.to_le_bytes()))).collect()
    };
    // Two lists, since one has a limit of its own.
    let found = read(&json!({"a": many(0, 50_000), "b": many(50_000, 50_000)})).unwrap();
    assert_eq!((found.descriptors.len(), found.digests.len()), (0, 100_000));
    let error = read(&json!({"a": many(0, 50_000), "b": many(50_000, 50_001)})).unwrap_err();
    assert!(error.to_string().contains("more than 100000 descriptors and digests"), "{error}");
}
