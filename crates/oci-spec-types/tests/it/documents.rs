//! JSON documents from outside: what is refused, and how the error says so.

use oci_spec_types::{
    Descriptor, Digest, DocumentError, DocumentHead, ErrorBody, ErrorCode, ImageConfig, ImageIndex,
    ImageManifest, MediaType, check_document,
};
use serde_json::{Value, json};

const DIGEST: &str = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";

fn descriptor() -> Value {
    json!({"mediaType": "application/octet-stream", "digest": DIGEST, "size": 2})
}

fn image() -> Value {
    json!({"schemaVersion": 2, "config": descriptor(), "layers": [descriptor(), descriptor(), descriptor()]})
}

fn index() -> Value {
    json!({"schemaVersion": 2, "manifests": [descriptor(), descriptor()]})
}

/// `document` with the value at `pointer`'s parent set.
fn with(mut document: Value, parent: &str, key: &str, value: Value) -> Value {
    document.pointer_mut(parent).unwrap()[key] = value;
    document
}

fn read_image(document: &Value) -> Result<ImageManifest, DocumentError> {
    ImageManifest::from_slice(document.to_string().as_bytes())
}

fn read_index(document: &Value) -> Result<ImageIndex, DocumentError> {
    ImageIndex::from_slice(document.to_string().as_bytes())
}

#[track_caller]
fn assert_refused<T: std::fmt::Debug>(
    result: Result<T, DocumentError>,
    path: Option<&str>,
    reason: &str,
) {
    let error = result.unwrap_err();
    assert_eq!(error.path(), path, "{error}");
    assert!(error.to_string().contains(reason), "{error}");
}

#[test]
fn check_refuses_what_readers_may_read_differently() {
    let deep =
        |levels: usize| format!("{{\"a\":{}1{}}}", "[".repeat(levels - 1), "]".repeat(levels - 1));
    assert_eq!(check_document(deep(64).as_bytes()), Ok(()));

    let cases: &[(&[u8], Option<&str>, &str)] = &[
        (b"", None, "EOF"),
        (b"{\"a\": \xFF}", None, "not UTF-8 at byte 6"),
        (b"\xEF\xBB\xBF{}", None, "byte order mark"),
        (b"{} {}", None, "trailing characters"),
        (b"{}x", None, "trailing characters"),
        (b"[]", None, "not a JSON object"),
        (b"\"text\"", None, "not a JSON object"),
        (b"null", None, "not a JSON object"),
        (b"12", None, "not a JSON object"),
        (br#"{"a": 1, "a": 1}"#, Some("a"), "occurs twice"),
        (br#"{"a": 1, "\u0061": 1}"#, Some("a"), "occurs twice"),
        (
            br#"{"manifests": [{}, {}, {}, {"digest": "x", "digest": "y"}]}"#,
            Some("manifests[3].digest"),
            "occurs twice",
        ),
        (br#"{"x": {"y z": [[{"q": 1, "q": 2}]]}}"#, Some("x.\"y z\"[0][0].q"), "occurs twice"),
        (br#"{"Layers": []}"#, Some("Layers"), "differs from layers"),
        (br#"{"layers": [], "LAYERS": []}"#, Some("LAYERS"), "differs from layers"),
        ("{\"layer\u{17F}\": []}".as_bytes(), Some("\"layer\u{17F}\""), "differs from layers"),
        (br#"{"fslayers": []}"#, Some("fslayers"), "differs from fsLayers"),
        (br#"{"schemaversion": 1}"#, Some("schemaversion"), "differs from schemaVersion"),
        (br#"{"layers": [{"Digest": ""}]}"#, Some("layers[0].Digest"), "differs from digest"),
        (br#"{"manifests": [{"SIZE": 1}]}"#, Some("manifests[0].SIZE"), "differs from size"),
        (br#"{"config": {"mediatype": ""}}"#, Some("config.mediatype"), "differs from mediaType"),
        (br#"{"subject": {"URLs": []}}"#, Some("subject.URLs"), "differs from urls"),
    ];
    for (bytes, path, reason) in cases {
        assert_refused(check_document(bytes), *path, reason);
    }
    let entries = |count: usize| format!("{{\"layers\": [{{}}{}]}}", ",{}".repeat(count - 1));
    assert_eq!(check_document(entries(100_000).as_bytes()), Ok(()));
    let error = check_document(entries(100_001).as_bytes()).unwrap_err();
    assert!(error.to_string().starts_with("layers: there are more than 100000"), "{error}");
    // Whatever they are in: unknown fields and annotations cost as much as layers do.
    let texts = |count: usize| format!("{{\"x\": [\"\"{}]}}", ",\"\"".repeat(count - 1));
    assert_eq!(check_document(texts(100_000).as_bytes()), Ok(()));
    let error = check_document(texts(100_001).as_bytes()).unwrap_err();
    assert!(error.to_string().starts_with("x: there are more than 100000"), "{error}");
    let keys = |count: usize| {
        let keys: Vec<_> = (0..count).map(|key| format!("\"{key}\":\"\"")).collect();
        format!("{{\"annotations\": {{{}}}}}", keys.join(","))
    };
    assert_eq!(check_document(keys(100_000).as_bytes()), Ok(()));
    let error = check_document(keys(100_001).as_bytes()).unwrap_err();
    assert!(error.to_string().starts_with("annotations: there are more than 100000"), "{error}");
    // And so do many that have few entries each.
    let lists = |count: usize| format!("{{\"x\": [{}[]]}}", "[0,0,0,0,0],".repeat(count - 1));
    assert_eq!(check_document(lists(80_000).as_bytes()), Ok(()));
    let error = check_document(lists(100_000).as_bytes()).unwrap_err();
    assert!(error.to_string().contains("more than 500000 values in the document"), "{error}");
    let error = check_document(deep(65).as_bytes()).unwrap_err();
    assert!(error.to_string().contains("nested deeper than 64"), "{error}");
    for opening in ["[", "{\"a\":"] {
        assert!(
            check_document(format!("{{\"a\":{}", opening.repeat(1_000_000)).as_bytes()).is_err()
        );
    }
}

#[test]
fn check_accepts_other_case_where_the_specification_defines_nothing() {
    for document in [
        r#"{"annotations": {"Size": "1", "size": "2"}}"#,
        r#"{"layers": [{"annotations": {"Digest": "a", "digest": "b"}}]}"#,
        r#"{"org.example": {"Layers": [], "layers": []}}"#,
        r#"{"a": {"x": 1}, "b": {"x": 1}}"#,
    ] {
        assert_eq!(check_document(document.as_bytes()), Ok(()), "{document}");
    }
}

#[test]
fn errors_stay_small() {
    let long = "k".repeat(1_000_000);
    let documents = [
        format!("{{\"{long}\":1,\"{long}\":2}}"),
        with(image(), "/config", "digest", json!(long)).to_string(),
        with(image(), "/config", "mediaType", json!(long)).to_string(),
        with(image(), "/config", "size", json!(long)).to_string(),
        with(image(), "", "schemaVersion", json!(format!("two\n{long}"))).to_string(),
    ];
    for document in documents {
        let message = ImageManifest::from_slice(document.as_bytes()).unwrap_err().to_string();
        assert!(
            message.len() < 1000 && !message.contains('\n'),
            "{} bytes: {message:.400}",
            message.len()
        );
    }
}

// covers: C5
#[test]
fn an_image_is_not_an_index() {
    read_image(&image()).unwrap();
    read_index(&index()).unwrap();

    let set = |document: Value, key: &str, value: Value| with(document, "", key, value);
    assert_refused(read_image(&index()), Some("manifests"), "an image manifest must not");
    assert_refused(read_index(&image()), Some("layers"), "an image index must not");
    assert_refused(
        read_image(&set(image(), "manifests", json!([]))),
        Some("manifests"),
        "must not",
    );
    assert_refused(
        read_image(&set(image(), "manifests", json!(null))),
        Some("manifests"),
        "must not",
    );
    for key in ["layers", "config", "fsLayers"] {
        assert_refused(read_index(&set(index(), key, json!(null))), Some(key), "must not");
    }

    for kind in [
        MediaType::OCI_IMAGE_INDEX,
        MediaType::DOCKER_MANIFEST_LIST,
        MediaType::DOCKER_SCHEMA1_SIGNED,
    ] {
        assert_refused(
            read_image(&set(image(), "mediaType", json!(kind))),
            Some("mediaType"),
            kind.as_str(),
        );
    }
    for kind in [
        MediaType::OCI_IMAGE_MANIFEST,
        MediaType::DOCKER_MANIFEST,
        MediaType::OCI_ARTIFACT_MANIFEST,
    ] {
        assert_refused(
            read_index(&set(index(), "mediaType", json!(kind))),
            Some("mediaType"),
            kind.as_str(),
        );
    }
    read_image(&set(image(), "mediaType", json!("application/vnd.example.manifest+json"))).unwrap();
}

// covers: M2 (negative sizes are refused)
#[test]
fn wrong_fields_are_named() {
    for size in [
        "-1",
        "-9223372036854775808",
        "9223372036854775808",
        "18446744073709551616",
        "1.5",
        "2.0",
        "1e3",
        "\"2\"",
        "null",
    ] {
        let document =
            with(image(), "/layers/2", "size", json!("@")).to_string().replace("\"@\"", size);
        let result = ImageManifest::from_slice(document.as_bytes());
        assert_refused(
            result,
            Some("layers[2].size"),
            "a size in whole bytes from 0 to 9223372036854775807",
        );
    }
    for size in [0, i64::MAX as u64] {
        let document = with(image(), "/layers/2", "size", json!(size));
        assert_eq!(read_image(&document).unwrap().layers[2].size, size);
    }

    let cases = [
        (
            with(image(), "/layers/1", "digest", json!("sha256:00")),
            Some("layers[1].digest"),
            "found 2",
        ),
        (
            with(image(), "/layers/1", "digest", json!("../../etc")),
            Some("layers[1].digest"),
            "\"../../etc\"",
        ),
        (with(image(), "/config", "mediaType", json!("")), Some("config.mediaType"), "it is empty"),
        (
            with(image(), "/config", "mediaType", json!("a/b\r\nc: d")),
            Some("config.mediaType"),
            "found '\\r' at byte 3",
        ),
        (with(image(), "/config", "data", json!("e30")), Some("config.data"), "base64"),
        (with(image(), "/config", "data", json!("e3_-")), Some("config.data"), "base64"),
        (
            with(image(), "/config", "annotations", json!({"a": 1})),
            Some("config.annotations.a"),
            "expected a string",
        ),
        (
            with(image(), "", "schemaVersion", json!(1)),
            Some("schemaVersion"),
            "version 1 is not supported, expected 2",
        ),
        (with(image(), "", "config", json!(null)), Some("config"), "null"),
        (json!({"schemaVersion": 2, "layers": []}), None, "missing field `config`"),
        (json!({"layers": [], "config": descriptor()}), None, "missing field `schemaVersion`"),
    ];
    for (document, path, reason) in cases {
        assert_refused(read_image(&document), path, reason);
    }
    assert_refused(
        read_index(&with(index(), "/manifests/1", "platform", json!({"os": "linux"}))),
        Some("manifests[1].platform"),
        "architecture",
    );
    assert_refused(
        ImageConfig::from_slice(
            br#"{"architecture":"a","os":"b","rootfs":{"type":"layers","diff_ids":["x"]}}"#,
        ),
        Some("rootfs.diff_ids[0]"),
        "no colon",
    );
}

#[test]
fn null_means_empty_or_absent() {
    let mut document = image();
    for key in ["mediaType", "artifactType", "subject", "annotations", "layers"] {
        document[key] = Value::Null;
    }
    for key in ["urls", "annotations", "data", "platform", "artifactType"] {
        document["config"][key] = Value::Null;
    }
    let manifest = read_image(&document).unwrap();
    assert!(
        manifest.layers.is_empty() && manifest.media_type.is_none() && manifest.subject.is_none()
    );
    let written = serde_json::to_value(&manifest).unwrap();
    assert_eq!(written, json!({"schemaVersion": 2, "config": descriptor(), "layers": []}));

    let index =
        read_index(&json!({"schemaVersion": 2, "manifests": null, "annotations": null})).unwrap();
    assert_eq!(serde_json::to_value(&index).unwrap(), json!({"schemaVersion": 2, "manifests": []}));
    let config = ImageConfig::from_slice(
        br#"{"architecture":"","os":"","config":null,"history":null,"rootfs":{"type":"layers","diff_ids":null}}"#,
    );
    assert!(config.unwrap().rootfs.diff_ids.is_empty());
}

#[test]
fn constructors_write_what_the_specification_shows() {
    let empty = json!({
        "mediaType": "application/vnd.oci.empty.v1+json", "digest": DIGEST, "size": 2, "data": "e30=",
    });
    assert_eq!(serde_json::to_value(Descriptor::empty_json()).unwrap(), empty);
    let manifest = ImageManifest::new(Descriptor::empty_json(), vec![]);
    assert_eq!(
        serde_json::to_string(&manifest).unwrap(),
        format!(
            r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{{"mediaType":"application/vnd.oci.empty.v1+json","digest":"{DIGEST}","size":2,"data":"e30="}},"layers":[]}}"#
        )
    );
    assert_eq!(
        serde_json::to_string(&ImageIndex::new(vec![])).unwrap(),
        r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#
    );
    let mut descriptor = Descriptor::of(MediaType::OCTET_STREAM, b"");
    assert_eq!((descriptor.size, &descriptor.digest), (0, &Digest::sha256(b"")));
    descriptor.artifact_type = Some(String::new());
    assert!(serde_json::to_value(&descriptor).unwrap().get("artifactType").is_none());
    descriptor.size = 1 << 63;
    assert!(serde_json::to_value(&descriptor).is_err());
}

#[test]
fn error_bodies() {
    let body: ErrorBody = serde_json::from_str(
        r#"{"errors":[{"code":"DENIED","message":"no","detail":{"a":1}},{"code":"QUOTA"},{"code":"UNKNOWN","message":null,"detail":null}]}"#,
    )
    .unwrap();
    assert_eq!(body.errors[0].code, ErrorCode::Denied);
    assert_eq!(body.errors[0].detail, Some(json!({"a": 1})));
    assert_eq!(body.errors[1].code, ErrorCode::Other("QUOTA".into()));
    assert_eq!((body.errors[1].message.as_str(), &body.errors[1].detail), ("", &None));
    assert!(serde_json::from_str::<ErrorBody>(r#"{"errors":null}"#).unwrap().errors.is_empty());
    assert!(serde_json::from_str::<ErrorBody>("{}").is_err());
}

#[test]
fn a_head_tells_the_kind_and_is_checked() {
    let head = DocumentHead::from_slice(image().to_string().as_bytes()).unwrap();
    assert!(
        head.has_config() && head.has_layers() && !head.has_manifests() && !head.has_fs_layers()
    );
    assert_eq!(head.media_type(), None);
    let head =
        DocumentHead::from_slice(br#"{"mediaType": "a/b", "fsLayers": [], "manifests": null}"#)
            .unwrap();
    assert!(
        head.has_fs_layers() && head.has_manifests() && !head.has_config() && !head.has_layers()
    );
    assert_eq!(head.media_type().map(MediaType::as_str), Some("a/b"));

    let read = |text: &str| DocumentHead::from_slice(text.as_bytes());
    assert_eq!(read(r#"{"mediaType": "a"}"#).unwrap().media_type().unwrap().as_str(), "a");
    assert_refused(read(r#"{"mediaType": ""}"#), Some("mediaType"), "it is empty");
    assert_refused(
        read(r#"{"mediaType": "a/b", "MediaType": "c/d"}"#),
        Some("MediaType"),
        "differs from mediaType",
    );
}

/// Types as they are found, which are more than RFC 6838 has, or less.
// oras: "referrer.image" is in the content that its own tests push
#[test]
fn media_types_are_kept_as_they_are_written() {
    for media_type in [
        "text/plain; charset=utf-8",
        "application/vnd.dev.sigstore.bundle+json;version=0.2",
        "referrer.image",
        "Application/Vnd.Example",
        "\u{e4}/\u{202e}",
    ] {
        let document = with(image(), "/layers/1", "mediaType", json!(media_type));
        let document = with(document, "/config", "mediaType", json!(media_type));
        let document = with(document, "", "artifactType", json!(media_type));
        let read = read_image(&document).unwrap();
        assert_eq!(read.layers[1].media_type.as_str(), media_type);
        assert_eq!(serde_json::to_value(&read).unwrap(), document);
        let document = with(index(), "/manifests/1", "mediaType", json!(media_type));
        assert_eq!(serde_json::to_value(read_index(&document).unwrap()).unwrap(), document);
    }
}
