//! Digests, names, tags, media types and error codes: what is accepted and what is refused.

use oci_spec_types::{Algorithm, Digest, ErrorCode, MediaType, Name, Tag};

#[test]
fn digests() {
    let zeros = |count: usize| "0".repeat(count);
    for text in [
        format!("sha256:{}", zeros(64)),
        format!("sha512:{}", zeros(128)),
        format!("blake3:{}", zeros(64)),
        "multihash+base58:QmRZxt2b1FVZPNqd8hsiykDL3TdBDeTSPX9Kv46HmX4Gx8".to_owned(),
        "sha256+b64u:LCa0a2j_xo_5m0U8HTBBNBNCLXBkg7-g-YpeiGJm564".to_owned(),
        "a.b_c-d:=".to_owned(),
        format!("x:{}", zeros(253)),
    ] {
        assert_eq!(text.parse::<Digest>().unwrap().as_str(), text);
    }
    for (text, reason) in [
        (String::new(), "empty"),
        ("sha256".to_owned(), "no colon"),
        (":00".to_owned(), "byte 0"),
        ("x:".to_owned(), "ends"),
        (format!("sha256:{}", zeros(63)), "64 hexadecimal digits, found 63"),
        (format!("sha256:{}", zeros(65)), "found 65"),
        (format!("sha512:{}", zeros(64)), "128 hexadecimal digits, found 64"),
        (format!("blake3:{}", zeros(128)), "found 128"),
        (format!("sha256:A{}", zeros(63)), "found 'A' at byte 7"),
        (format!("sha256:{}g", zeros(63)), "found 'g' at byte 70"),
        (format!("SHA256:{}", zeros(64)), "found 'S' at byte 0"),
        ("a++b:00".to_owned(), "found '+' at byte 2"),
        ("a+:00".to_owned(), "found ':' at byte 2"),
        ("a..b:00".to_owned(), "found '.' at byte 2"),
        ("..:00".to_owned(), "found '.' at byte 0"),
        ("a:..".to_owned(), "found '.' at byte 2"),
        ("a:../../x".to_owned(), "found '.' at byte 2"),
        ("a/b:00".to_owned(), "found '/' at byte 1"),
        ("a:b/c".to_owned(), "found '/' at byte 3"),
        ("a:b:c".to_owned(), "found ':' at byte 3"),
        ("a:\u{e4}".to_owned(), "found 'ä' at byte 2"),
        ("\u{e4}:00".to_owned(), "found 'ä' at byte 0"),
        (format!("x:{}", zeros(254)), "256 bytes, at most 255"),
    ] {
        let error = text.parse::<Digest>().unwrap_err().to_string();
        assert!(error.contains(reason), "{text:?}: {error}");
    }
    let digest: Digest = "x+y:AZ".parse().unwrap();
    assert_eq!((digest.algorithm(), digest.encoded()), ("x+y", "AZ"));
    assert_eq!("sha512".parse(), Ok(Algorithm::Sha512));
    assert!("sha1".parse::<Algorithm>().unwrap_err().to_string().contains("sha1"));
}

#[test]
fn names() {
    for text in ["a", "0", "a/b", "a.b", "a_b", "a__b", "a-b", "a---b", "a/b/c/d", &"a".repeat(255)]
    {
        assert_eq!(text.parse::<Name>().unwrap().as_str(), text);
    }
    for (text, reason) in [
        ("", "empty"),
        ("A", "found 'A' at byte 0, expected a lower-case letter or digit"),
        ("a___b", "found '_' at byte 3"),
        ("a..b", "found '.' at byte 2"),
        ("a._b", "found '_' at byte 2"),
        ("a-_b", "found '_' at byte 2"),
        ("a/", "ends"),
        ("a-", "ends"),
        ("/a", "found '/' at byte 0"),
        ("a//b", "found '/' at byte 2"),
        ("a/./b", "found '.' at byte 2"),
        ("a/-b", "found '-' at byte 2"),
        ("a b", "found ' ' at byte 1"),
        ("a\nb", "found '\\n' at byte 1"),
        ("a\u{e4}", "found 'ä' at byte 1"),
        (&"a".repeat(256), "256 bytes, at most 255"),
    ] {
        let error = text.parse::<Name>().unwrap_err().to_string();
        assert!(error.contains(reason) && !error.contains('\n'), "{text:?}: {error}");
    }
}

#[test]
fn tags() {
    for text in ["a", "_", "1.2", "A-b_c.D", "a..b", &"t".repeat(128)] {
        assert_eq!(text.parse::<Tag>().unwrap().as_str(), text);
    }
    for text in ["", ".a", "-a", "a/b", "a:b", "a b", "a\u{e4}", &"t".repeat(129)] {
        assert!(text.parse::<Tag>().is_err(), "{text:?}");
    }
}

#[test]
fn media_types() {
    for text in ["a/b", "application/vnd.oci.image.index.v1+json", "a/b.c-d_e+f!#$&^", "1/2"] {
        assert_eq!(text.parse::<MediaType>().unwrap().as_str(), text);
        assert_eq!(MediaType::new(text).unwrap(), text.parse().unwrap());
    }
    let longest = format!("{}/{}", "a".repeat(127), "b".repeat(127));
    assert!(longest.parse::<MediaType>().is_ok());
    let too_long =
        [format!("{}/b", "a".repeat(128)), format!("a/{}", "b".repeat(128)), longest + "b"];
    let refused = [
        "", "a", "/", "a/", "/b", "a/b/c", "a/b;c=d", " a/b", "a/ b", "-a/b", "a/.b", "\u{e4}/b",
        "a/b\n",
    ];
    for text in refused.into_iter().chain(too_long.iter().map(String::as_str)) {
        assert!(text.parse::<MediaType>().is_err(), "{text:?}");
    }

    // What is written is kept, as registries and clients around do.
    let written = "text/plain; charset=utf-8";
    let long = "x".repeat(1024);
    for text in
        [written, "application/vnd.x+json;version=0.2", "referrer.image", "A/B", "\u{e4}/b", &long]
    {
        assert_eq!(MediaType::as_written(text.to_owned()).unwrap().as_str(), text);
        let json = serde_json::to_string(text).unwrap();
        assert_eq!(serde_json::from_str::<MediaType>(&json).unwrap().as_str(), text);
    }
    for text in ["", "a/b\r\nX: y", "a\0", "\u{85}", &"x".repeat(1025)] {
        assert!(MediaType::as_written(text.to_owned()).is_err(), "{text:?}");
        let json = serde_json::to_string(text).unwrap();
        assert!(serde_json::from_str::<MediaType>(&json).is_err(), "{text:?}");
    }
    // Types are compared as they are written.
    let index = MediaType::as_written("application/vnd.oci.image.index.v1+json; a=b").unwrap();
    assert!(!index.is_index() && !index.is_manifest() && index.is_header_value());
    assert!(!MediaType::as_written("\u{e4}/b").unwrap().is_header_value());

    for (header, expected) in [
        ("application/json", Some("application/json")),
        (" Application/JSON ; charset=utf-8; q=\"a;b\"", Some("application/json")),
        ("application/json;", Some("application/json")),
        ("", None),
        (";", None),
        ("json", None),
        ("a/b, c/d", None),
    ] {
        let found = MediaType::from_content_type(header);
        assert_eq!(found.as_ref().map(MediaType::as_str), expected, "{header:?}");
    }
}

#[test]
fn media_type_kinds() {
    type Kind = fn(&MediaType) -> bool;
    let kinds: [(&str, Kind); 8] = [
        ("image", MediaType::is_image),
        ("index", MediaType::is_index),
        ("manifest", MediaType::is_manifest),
        ("artifact", MediaType::is_artifact),
        ("config", MediaType::is_config),
        ("layer", MediaType::is_layer),
        ("non-distributable", MediaType::is_non_distributable),
        ("schema1", MediaType::is_schema1),
    ];
    for (media_type, expected) in [
        (MediaType::OCI_IMAGE_MANIFEST, "image manifest"),
        (MediaType::DOCKER_MANIFEST, "image manifest"),
        (MediaType::OCI_IMAGE_INDEX, "index manifest"),
        (MediaType::DOCKER_MANIFEST_LIST, "index manifest"),
        (MediaType::OCI_ARTIFACT_MANIFEST, "manifest artifact"),
        (MediaType::ORAS_ARTIFACT_MANIFEST, "manifest artifact"),
        (MediaType::DOCKER_SCHEMA1, "manifest schema1"),
        (MediaType::DOCKER_SCHEMA1_SIGNED, "manifest schema1"),
        (MediaType::OCI_IMAGE_CONFIG, "config"),
        (MediaType::DOCKER_CONFIG, "config"),
        (MediaType::OCI_LAYER, "layer"),
        (MediaType::OCI_LAYER_GZIP, "layer"),
        (MediaType::OCI_LAYER_ZSTD, "layer"),
        (MediaType::DOCKER_LAYER, "layer"),
        (MediaType::DOCKER_LAYER_GZIP, "layer"),
        (MediaType::DOCKER_LAYER_ZSTD, "layer"),
        (MediaType::OCI_LAYER_NONDISTRIBUTABLE, "layer non-distributable"),
        (MediaType::OCI_LAYER_NONDISTRIBUTABLE_GZIP, "layer non-distributable"),
        (MediaType::OCI_LAYER_NONDISTRIBUTABLE_ZSTD, "layer non-distributable"),
        (MediaType::DOCKER_FOREIGN_LAYER, "layer non-distributable"),
        (MediaType::DOCKER_FOREIGN_LAYER_GZIP, "layer non-distributable"),
        (MediaType::OCI_EMPTY_JSON, ""),
        (MediaType::OCI_DESCRIPTOR, ""),
        (MediaType::OCI_LAYOUT_HEADER, ""),
        (MediaType::OCTET_STREAM, ""),
        (MediaType::from_static("application/vnd.oci.image.index.v2+json"), ""),
    ] {
        let found: Vec<_> =
            kinds.iter().filter(|(_, is)| is(&media_type)).map(|(name, _)| *name).collect();
        assert_eq!(found.join(" "), expected, "{media_type}");
    }
}

#[test]
fn error_codes() {
    for (text, status) in [
        ("BLOB_UNKNOWN", 404),
        ("BLOB_UPLOAD_INVALID", 400),
        ("BLOB_UPLOAD_UNKNOWN", 404),
        ("DIGEST_INVALID", 400),
        ("MANIFEST_BLOB_UNKNOWN", 404),
        ("MANIFEST_INVALID", 400),
        ("MANIFEST_UNKNOWN", 404),
        ("NAME_INVALID", 400),
        ("NAME_UNKNOWN", 404),
        ("SIZE_INVALID", 400),
        ("UNAUTHORIZED", 401),
        ("DENIED", 403),
        ("UNSUPPORTED", 405),
        ("TOOMANYREQUESTS", 429),
    ] {
        let code = ErrorCode::parse(text);
        assert!(!matches!(code, ErrorCode::Other(_)), "{text}");
        assert_eq!((code.as_str(), code.status()), (text, status));
    }
    assert_eq!(ErrorCode::parse("QUOTA_EXCEEDED"), ErrorCode::Other("QUOTA_EXCEEDED".into()));
    assert_eq!(ErrorCode::parse("QUOTA_EXCEEDED").status(), 500);
}
