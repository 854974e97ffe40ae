//! Lists: reading, editing, and that bytes stay as they are.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use bytes::Bytes;
use oci_ref::{ErrorKind, List, ListUpdate, Loss, Manifest, Memory, Source, Target};
use oci_spec_types::{Algorithm, Descriptor, Digest, ErrorCode, MediaType, Platform, Tag};

/// An index with everything in it that a list may have, written as no serialiser here would.
const INDEX: &str = r#"{
  "manifests": [
    {"size": 3, "digest": "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
     "mediaType": "application/vnd.oci.image.manifest.v1+json", "x-entry": [1, {"a": null}],
     "platform": {"os": "linux", "architecture": "amd64", "x-platform": 1e3}},
    {"mediaType": "application/vnd.oci.image.manifest.v1+json", "size": 0,
     "digest": "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "annotations": {"k": "v"}}
  ],
  "x-top": {"kept": true},
  "schemaVersion": 2
}"#;

fn parsed(text: &str) -> Manifest {
    Manifest::parse(Bytes::copy_from_slice(text.as_bytes()), None, None).unwrap()
}

fn entry(content: &[u8]) -> Descriptor {
    Descriptor::of(MediaType::OCI_IMAGE_MANIFEST, content)
}

fn update(content: &[u8]) -> ListUpdate {
    let Descriptor { digest, size, media_type, .. } = entry(content);
    ListUpdate { digest, size, media_type }
}

// covers: C1
#[test]
fn reading() {
    for (file, media_type) in [
        ("oci-index.json", MediaType::OCI_IMAGE_INDEX),
        ("docker-manifest-list.json", MediaType::DOCKER_MANIFEST_LIST),
    ] {
        let path = format!("{}/../../testdata/spec/{file}", env!("CARGO_MANIFEST_DIR"));
        let manifest = Manifest::parse(std::fs::read(path).unwrap().into(), None, None).unwrap();
        let list = List::of(&manifest).unwrap();
        assert_eq!(list.media_type(), &media_type);
        assert_eq!(list.instances(), manifest.manifests());
        let second = &manifest.manifests()[1];
        assert_eq!(list.instance(&second.digest).unwrap(), second);
        assert!(list.instance(&Digest::sha256(b"none")).unwrap_err().is_not_found());
        assert_eq!(list.clone().to_manifest().unwrap().bytes(), manifest.bytes());
    }
}

// covers: C1
#[test]
fn what_is_no_list_is_refused() {
    let image = parsed(
        r#"{"schemaVersion":2,"config":{"mediaType":"a/b","size":2,"digest":
        "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"},"layers":[]}"#,
    );
    let error = List::of(&image).unwrap_err();
    assert_eq!(error.code(), Some(&ErrorCode::ManifestInvalid));
    assert!(
        error
            .to_string()
            .ends_with("is of type application/vnd.oci.image.manifest.v1+json, expected a list")
    );
    assert!(List::new(MediaType::OCI_IMAGE_MANIFEST).is_err());
}

// covers: C5
#[test]
fn lists_and_images_are_told_apart() {
    let lists = [MediaType::OCI_IMAGE_INDEX, MediaType::DOCKER_MANIFEST_LIST];
    let images = [MediaType::OCI_IMAGE_MANIFEST, MediaType::DOCKER_MANIFEST];
    let others = [
        MediaType::DOCKER_SCHEMA1,
        MediaType::DOCKER_SCHEMA1_SIGNED,
        MediaType::OCI_ARTIFACT_MANIFEST,
        MediaType::OCI_IMAGE_CONFIG,
        MediaType::OCTET_STREAM,
    ];
    assert!(lists.iter().all(MediaType::is_index));
    assert!(!images.iter().chain(&others).any(MediaType::is_index));

    let list = r#"{"schemaVersion":2,"manifests":[]}"#;
    let image = r#"{"schemaVersion":2,"config":{"mediaType":"a/b","size":2,"digest":
        "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"},"layers":[]}"#;
    let parse = |text: &str, media_type: &MediaType| {
        Manifest::parse(text.to_owned().into(), Some(media_type), None)
    };
    for media_type in &images {
        assert!(parse(image, media_type).is_ok());
        let error = parse(list, media_type).unwrap_err();
        assert!(
            error.to_string().ends_with("manifests: an image manifest must not have this field"),
            "{error}"
        );
    }
    for media_type in &lists {
        assert!(parse(list, media_type).is_ok());
        let error = parse(image, media_type).unwrap_err();
        assert!(error.to_string().ends_with("an image index must not have this field"), "{error}");
    }
    // What servers send instead of the type: parameters, other letters, something of their own.
    for sent in [
        "Application/vnd.docker.distribution.manifest.list.v2+JSON ; charset=utf-8",
        "text/plain",
        "application/json",
    ] {
        let sent = MediaType::from_content_type(sent).unwrap();
        let text = list.replace(
            '}',
            r#","mediaType":"application/vnd.docker.distribution.manifest.list.v2+json"}"#,
        );
        assert_eq!(parse(&text, &sent).unwrap().media_type(), &MediaType::DOCKER_MANIFEST_LIST);
    }
}

// covers: C8
#[test]
fn bytes_change_only_if_what_they_say_does() {
    let manifest = parsed(INDEX);
    let mut list = List::of(&manifest).unwrap();
    let [first, second] = [0, 1].map(|at| list.instances()[at].digest.clone());
    let same = || list.instances().iter();
    let updates: Vec<_> = same()
        .map(|entry| ListUpdate {
            digest: entry.digest.clone(),
            size: entry.size,
            media_type: entry.media_type.clone(),
        })
        .collect();
    list.update_instances(updates).unwrap();
    list.annotate("new", Some("value".to_owned()));
    assert!(list.is_edited());
    list.annotate("new", None);
    list.annotate_instance(&second, "k", Some("v".to_owned())).unwrap();
    let platform = list.instance(&first).unwrap().platform.clone();
    list.set_platform(&first, platform).unwrap();
    assert!(!list.is_edited());
    assert_eq!(list.to_manifest().unwrap().bytes(), manifest.bytes());
}

#[test]
fn edits_keep_what_they_do_not_know() {
    let mut list = List::of(&parsed(INDEX)).unwrap();
    let [first, second] = [0, 1].map(|at| list.instances()[at].digest.clone());
    let third = entry(b"third");
    list.add(third.clone());
    list.annotate("top", Some("level".to_owned()));
    list.annotate_instance(&second, "k", None).unwrap();
    list.annotate_instance(&second, "l", Some("w".to_owned())).unwrap();
    list.set_platform(&second, Some(Platform::new("linux", "arm64"))).unwrap();
    list.set_artifact_type(Some(MediaType::from_static("application/x")));
    list.set_instance_artifact_type(&third.digest, Some(MediaType::from_static("application/y")))
        .unwrap();
    list.set_subject(Some(entry(b"subject")));

    let manifest = list.to_manifest().unwrap();
    let index = manifest.index().unwrap();
    assert_eq!(index.extra["x-top"], serde_json::json!({ "kept": true }));
    assert_eq!(index.manifests[0].extra["x-entry"], serde_json::json!([1, { "a": null }]));
    assert_eq!(
        index.manifests[0].platform.as_ref().unwrap().extra["x-platform"],
        serde_json::json!(1e3)
    );
    assert_eq!(index.media_type, Some(MediaType::OCI_IMAGE_INDEX));
    assert_eq!(index.annotations["top"], "level");
    assert_eq!(
        index.manifests[1].annotations.iter().collect::<Vec<_>>(),
        [(&"l".to_owned(), &"w".to_owned())]
    );
    assert_eq!(index.manifests[1].platform.as_ref().unwrap().architecture, "arm64");
    assert_eq!(index.manifests[2].artifact_type.as_deref(), Some("application/y"));
    assert_eq!(manifest.descriptor().artifact_type.as_deref(), Some("application/x"));
    assert_eq!(manifest.subject(), Some(&entry(b"subject")));
    assert_eq!(List::of(&manifest).unwrap().to_manifest().unwrap().bytes(), manifest.bytes());

    assert_eq!(list.remove(&first).unwrap().len(), 1);
    list.replace(&second, third.clone()).unwrap();
    assert_eq!(list.instances().len(), 2);
    for error in [
        list.remove(&first).unwrap_err(),
        list.annotate_instance(&first, "k", None).unwrap_err(),
        list.set_platform(&first, None).unwrap_err(),
        list.replace(&first, third.clone()).unwrap_err(),
        list.set_instance_artifact_type(&first, None).unwrap_err(),
    ] {
        assert_eq!(error.to_string(), format!("{first} is not in the list"));
    }
    // It is now there twice: which of the two is meant?
    let error = list.set_platform(&third.digest, None).unwrap_err();
    assert_eq!(error.to_string(), format!("{} is listed 2 times, expected once", third.digest));
    assert_eq!(list.remove(&third.digest).unwrap().len(), 2);
}

#[test]
fn an_edited_list_has_a_digest_of_the_same_algorithm() {
    let digest = Algorithm::Sha512.digest(INDEX.as_bytes());
    let manifest =
        Manifest::parse(Bytes::from_static(INDEX.as_bytes()), None, Some(&digest)).unwrap();
    let mut list = List::of(&manifest).unwrap();
    list.annotate("a", Some("b".to_owned()));
    let edited = list.to_manifest().unwrap();
    assert_eq!(edited.digest().algorithm(), "sha512");
    edited.digest().verify(edited.bytes()).unwrap();
}

/// What would be written twice, or is too large for readers, cannot be made.
#[test]
fn nothing_is_made_that_would_not_parse() {
    let mut list = List::new(MediaType::OCI_IMAGE_INDEX).unwrap();
    let mut bad = entry(b"1");
    bad.extra.insert("digest".to_owned(), "sha256:0".into());
    list.add(bad);
    let error = list.to_manifest().unwrap_err();
    assert!(error.to_string().contains("manifests[0].digest: this key occurs twice"), "{error}");

    let mut list = List::new(MediaType::OCI_IMAGE_INDEX).unwrap();
    list.add(Descriptor { size: 1 << 63, ..entry(b"1") });
    assert!(list.to_manifest().unwrap_err().to_string().contains("9223372036854775808"));
}

// covers: C2
#[test]
fn updates_are_checked_and_say_which() {
    let two = || {
        let mut list = List::new(MediaType::DOCKER_MANIFEST_LIST).unwrap();
        for content in [b"1", b"2"] {
            list.add(Descriptor {
                platform: Some(Platform::new("linux", "arm")),
                ..entry(content)
            });
        }
        list
    };
    let bad_digest = ListUpdate {
        digest: "md5:d41d8cd98f00b204e9800998ecf8427e".parse().unwrap(),
        ..update(b"x")
    };
    let bad_size = ListUpdate { size: u64::MAX, ..update(b"x") };
    let bad_type = ListUpdate { media_type: MediaType::OCI_LAYER, ..update(b"x") };
    let cases = [
        (vec![update(b"x")], "1 updates for a list of 2 entries"),
        (vec![update(b"x"), update(b"y"), update(b"z")], "3 updates for a list of 2 entries"),
        (
            vec![update(b"x"), bad_digest],
            "update 2 of 2: digest md5:d41d8cd98f00b204e9800998ecf8427e cannot be verified",
        ),
        (
            vec![bad_size, update(b"y")],
            "update 1 of 2: size 18446744073709551615 of sha256:2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881 is above 9223372036854775807",
        ),
        (
            vec![update(b"x"), bad_type],
            "update 2 of 2: sha256:2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881 is of type application/vnd.oci.image.layer.v1.tar, expected an image or an index",
        ),
    ];
    for (updates, expected) in cases {
        let mut list = two();
        assert_eq!(list.update_instances(updates).unwrap_err().to_string(), expected);
        assert_eq!(list.instances(), two().instances(), "nothing has changed");
    }

    let mut list = two();
    list.update_instances(vec![update(b"x"), update(b"y")]).unwrap();
    assert_eq!(list.instances()[1].digest, Digest::sha256(b"y"));
    assert_eq!(list.instances()[1].platform, Some(Platform::new("linux", "arm")), "all else stays");
}

#[test]
fn an_update_leaves_no_embedded_content_of_another_digest() {
    let mut list = List::new(MediaType::OCI_IMAGE_INDEX).unwrap();
    list.add(Descriptor { data: Some(b"1".to_vec()), ..entry(b"1") });
    list.update_instances(vec![update(b"1")]).unwrap();
    assert!(list.instances()[0].data.is_some());
    list.update_instances(vec![update(b"2")]).unwrap();
    assert_eq!(list.instances()[0].data, None);
}

#[tokio::test]
async fn writing() {
    let store = Memory::sparse();
    let tag: Tag = "v1".parse().unwrap();
    let mut list = List::new(MediaType::OCI_IMAGE_INDEX).unwrap();
    list.add(entry(b"elsewhere"));
    let written = list.write(&store, std::slice::from_ref(&tag)).await.unwrap();
    assert_eq!(store.manifest(&Target::Tag(tag)).await.unwrap(), written);

    let complete = Memory::new();
    let error = list.write(&complete, &[]).await.unwrap_err();
    assert!(!matches!(error.kind(), ErrorKind::Internal), "{error}");
    assert!(complete.is_empty());
}

/// A list of so many entries for many platforms, the wanted one last.
fn large(count: usize) -> List {
    let mut list = List::new(MediaType::DOCKER_MANIFEST_LIST).unwrap();
    for number in 0..count {
        let mut entry = Descriptor::of(MediaType::DOCKER_MANIFEST, &number.to_be_bytes());
        let architecture =
            if number + 1 == count { "s390x".to_owned() } else { format!("arch{}", number % 1000) };
        entry.platform = Some(Platform::new("linux", architecture));
        list.add(entry);
    }
    list
}

/// The time that this thread has been running, without the time that it waited for a processor, where the system tells.
fn running() -> Duration {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanos = told.and_then(|told| told.split(' ').next()?.parse().ok());
    nanos.map_or_else(|| START.elapsed(), Duration::from_nanos)
}

/// Parses, chooses, converts, updates and serialises; gives the time that it took.
fn work(count: usize) -> Duration {
    let manifest = large(count).to_manifest().unwrap();
    let start = running();
    let parsed = Manifest::parse(manifest.bytes().clone(), None, None).unwrap();
    let mut list = List::of(&parsed).unwrap();
    assert_eq!(list.choose(&Platform::new("linux", "s390x")).unwrap().position, count - 1);
    let oci = list.convert_to(&MediaType::OCI_IMAGE_INDEX, Loss::Refuse).unwrap().manifest;
    assert_eq!(oci.manifests(), manifest.manifests());
    let updates = list.instances().iter().map(|entry| ListUpdate {
        digest: entry.digest.clone(),
        size: entry.size + 1,
        media_type: entry.media_type.clone(),
    });
    let updates = updates.collect();
    list.update_instances(updates).unwrap();
    list.to_manifest().unwrap();
    running() - start
}

/// Five times the entries take about five times as long; quadratic work would take twenty-five times.
#[test]
fn large_lists_take_linear_time() {
    let (some, many) = (work(4_000), work(20_000));
    assert!(many < some * 12, "4,000 entries take {some:?}, 20,000 take {many:?}");
    assert!(many < Duration::from_secs(60), "20,000 entries take {many:?}");
}
