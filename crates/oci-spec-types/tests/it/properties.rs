//! Properties of the parsers and codecs.

use oci_spec_types::{
    Algorithm, Digest, Hasher, Host, ImageConfig, ImageIndex, ImageManifest, MediaType, Name,
    OtherManifest, Platform, Reference, Tag, check_document,
};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde_json::{Value, json};

const COMPONENT: &str = "[a-z0-9]{1,8}((\\.|_|__|-{1,3})[a-z0-9]{1,5}){0,2}";

fn name() -> impl Strategy<Value = String> {
    vec(COMPONENT, 1..4).prop_map(|components| components.join("/"))
}

fn tag() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}"
}

fn digest() -> impl Strategy<Value = String> {
    prop_oneof![
        "sha256:[0-9a-f]{64}",
        "sha512:[0-9a-f]{128}",
        "blake3:[0-9a-f]{64}",
        // An `x` in front keeps clear of the registered algorithms.
        "x[a-z0-9]{0,6}([+._-][a-z0-9]{1,6}){0,2}:[a-zA-Z0-9=_-]{1,64}",
    ]
}

fn host() -> impl Strategy<Value = String> {
    let name = prop_oneof![
        Just("localhost".to_owned()),
        "[a-zA-Z0-9]{1,8}(-[a-z0-9]{1,4}){0,2}\\.[a-z]{2,5}",
        any::<std::net::Ipv4Addr>().prop_map(|ip| ip.to_string()),
        any::<std::net::Ipv6Addr>().prop_map(|ip| format!("[{ip}]")),
    ];
    (name, proptest::option::of(1_u16..))
        .prop_map(|(name, port)| port.map_or(name.clone(), |port| format!("{name}:{port}")))
}

fn suffix() -> impl Strategy<Value = String> {
    (proptest::option::of(tag()), proptest::option::of(digest())).prop_map(|(tag, digest)| {
        let tag = tag.map(|tag| format!(":{tag}")).unwrap_or_default();
        tag + &digest.map(|digest| format!("@{digest}")).unwrap_or_default()
    })
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            btree_map(".{0,6}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn unknown_fields() -> impl Strategy<Value = serde_json::Map<String, Value>> {
    btree_map("x-[a-zA-Z.]{0,8}", json_value(), 0..4).prop_map(|map| map.into_iter().collect())
}

/// Media types as they stand in documents, by the specification and not.
fn media_type() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("application/vnd.example.layer".to_owned()),
        "[a-zA-Z0-9]{1,8}/[a-z0-9.+-]{1,8}(; ?[a-z]{1,4}=[a-zA-Z0-9.]{1,4}){0,2}",
        "[^\\p{Cc}]{1,20}",
    ]
}

/// A descriptor in JSON, with unknown fields. It is written by hand here, so that it does not depend on the code
/// that is tested.
fn descriptor() -> impl Strategy<Value = Value> {
    let size = 0..=i64::MAX as u64;
    let data = proptest::option::of(prop_oneof![Just(""), Just("e30="), Just("AP+/")]);
    let annotations = btree_map(".{0,8}", ".{0,8}", 1..3);
    (media_type(), digest(), size, data, annotations, unknown_fields(), unknown_fields()).prop_map(
        |(media_type, digest, size, data, annotations, platform_extra, extra)| {
            let mut platform = json!({"os": "linux", "architecture": "arm", "variant": "v7"});
            platform.as_object_mut().unwrap().extend(platform_extra);
            let mut descriptor = json!({
                "mediaType": media_type, "digest": digest, "size": size,
                "annotations": annotations, "platform": platform, "artifactType": media_type,
            });
            if let Some(data) = data {
                descriptor["data"] = json!(data);
            }
            descriptor.as_object_mut().unwrap().extend(extra);
            descriptor
        },
    )
}

fn read<T: std::str::FromStr>(text: &str) -> T
where
    T::Err: std::fmt::Debug,
{
    text.parse().unwrap()
}

proptest! {
    #[test]
    fn what_is_parsed_is_written_back(
        digest in digest(), name in name(), tag in tag(), host in host(), suffix in suffix(),
        platform in "[a-zA-Z0-9_.-]{1,8}(\\([0-9.]{1,8}\\))?/[a-zA-Z0-9_.-]{1,8}(/[a-zA-Z0-9_.-]{1,4})?",
    ) {
        let reference = format!("{host}/{name}{suffix}");
        prop_assert_eq!(read::<Digest>(&digest).to_string(), digest);
        prop_assert_eq!(read::<Name>(&name).to_string(), name);
        prop_assert_eq!(read::<Tag>(&tag).to_string(), tag);
        prop_assert_eq!(read::<Host>(&host).to_string(), host);
        prop_assert_eq!(read::<Platform>(&platform).to_string(), platform);
        prop_assert_eq!(read::<Reference>(&reference).to_string(), reference.clone());
        let json = serde_json::to_string(&read::<Reference>(&reference)).unwrap();
        prop_assert_eq!(serde_json::from_str::<Reference>(&json).unwrap(), read(&reference));
    }

    #[test]
    fn the_familiar_form_means_the_same(
        host in proptest::option::of(prop_oneof![host(), Just("docker.io".to_owned())]),
        name in name(), suffix in suffix(),
    ) {
        let typed = host.map_or(format!("{name}{suffix}"), |host| format!("{host}/{name}{suffix}"));
        // A name that begins with something like a host is not a name here.
        if let Ok(reference) = Reference::parse_familiar(&typed) {
            prop_assert_eq!(Reference::parse_familiar(&reference.familiar()).unwrap(), reference.clone());
            prop_assert_eq!(read::<Reference>(&reference.to_string()), reference);
        }
    }

    #[test]
    fn normalising_twice_changes_nothing(
        os in "[a-zA-Z]{1,8}",
        arch in prop_oneof!["arm", "arm64", "aarch64", "ARMHF", "armel", "x86_64", "amd64", "i386", "[a-z0-9]{1,6}"],
        variant in proptest::option::of("v?[0-9]?"),
    ) {
        let mut platform = Platform::new(os, arch);
        platform.variant = variant;
        prop_assert_eq!(platform.normalized().normalized(), platform.normalized());
    }

    #[test]
    fn no_text_makes_a_parser_panic(text in prop_oneof![".{0,80}", "[a-z0-9:/@.\\[\\]()_+A-F-]{0,80}"]) {
        // What is accepted must come back as it was.
        macro_rules! check {
            ($($kind:ty),*) => {$(
                match text.parse::<$kind>() {
                    Ok(value) => prop_assert_eq!(value.to_string(), text.clone()),
                    Err(error) => prop_assert!(error.to_string().len() < 1500),
                }
            )*};
        }
        check!(Digest, Name, Tag, Host, Reference, MediaType, Platform);
        if let Ok(digest) = text.parse::<Digest>() {
            prop_assert!(!digest.as_str().contains('/') && !digest.as_str().contains(".."));
        }
        if let Ok(reference) = Reference::parse_familiar(&text) {
            prop_assert_eq!(Reference::parse_familiar(&reference.familiar()).unwrap(), reference);
        }
        let _ = MediaType::from_content_type(&text);
        match MediaType::as_written(text.clone()) {
            Ok(kept) => prop_assert_eq!(kept.as_str(), text),
            Err(error) => prop_assert!(error.to_string().len() < 1500),
        }
    }

    #[test]
    fn no_bytes_make_a_reader_panic(bytes in vec(any::<u8>(), 0..200), text in "[{}\\[\\]\",:a-c0-9\\\\ ]{0,60}") {
        for bytes in [bytes.as_slice(), text.as_bytes()] {
            if check_document(bytes).is_ok() {
                prop_assert!(serde_json::from_slice::<Value>(bytes).unwrap().is_object());
            }
            let _ = ImageManifest::from_slice(bytes);
            let _ = ImageIndex::from_slice(bytes);
            let _ = OtherManifest::from_slice(bytes);
            let _ = ImageConfig::from_slice(bytes);
        }
    }

    #[test]
    fn no_state_makes_a_hasher_panic(state in vec(any::<u8>(), 104..=104), state512 in vec(any::<u8>(), 208..=208)) {
        for (number, state) in [(1, state), (2, state512)] {
            // Also with a block count and a buffer that are possible, so that the state is taken up and used.
            let (count, buffer) = if number == 1 { (32..40, 40) } else { (64..80, 80) };
            let mut likely = state.clone();
            likely[count.start + 4..count.end].fill(0);
            likely[buffer] %= if number == 1 { 64 } else { 128 };
            let used = usize::from(likely[buffer]);
            likely[buffer + 1 + used..].fill(0);
            prop_assert!(Hasher::restore(&[&[1, number], likely.as_slice()].concat()).is_ok());
            for state in [state, likely] {
                if let Ok(mut hasher) = Hasher::restore(&[&[1, number], state.as_slice()].concat()) {
                    hasher.update(&[0; 300]);
                    let _ = hasher.finish();
                }
            }
        }
    }

    #[test]
    fn a_saved_hasher_goes_on_as_if_nothing_had_been(
        content in vec(any::<u8>(), 0..600), split in any::<prop::sample::Index>(),
        algorithm in prop_oneof![Just(Algorithm::Sha256), Just(Algorithm::Sha512)],
    ) {
        let (first, second) = content.split_at(split.index(content.len() + 1));
        let mut hasher = algorithm.hasher();
        hasher.update(first);
        let mut restored = Hasher::restore(&hasher.save()).unwrap();
        prop_assert_eq!(restored.algorithm(), algorithm);
        restored.update(second);
        prop_assert_eq!(restored.finish(), algorithm.digest(&content));
    }

    #[test]
    fn documents_keep_what_they_do_not_know(
        config in descriptor(), layers in vec(descriptor(), 0..3), extra in unknown_fields(),
    ) {
        let mut image = json!({"schemaVersion": 2, "config": config, "layers": layers});
        let mut index = json!({"schemaVersion": 2, "manifests": layers, "subject": config});
        let other =
            json!({"mediaType": "a/b", "subject": config, "x": [{"y": layers}], "z": extra});
        for document in [&mut image, &mut index] {
            document.as_object_mut().unwrap().extend(extra.clone());
        }
        let read_other = OtherManifest::from_slice(other.to_string().as_bytes()).unwrap();
        prop_assert_eq!(serde_json::to_value(read_other.subject).unwrap(), config);
        prop_assert_eq!(serde_json::to_value(read_other.descriptors).unwrap(), json!(layers));
        let read_image = ImageManifest::from_slice(image.to_string().as_bytes()).unwrap();
        prop_assert_eq!(serde_json::to_value(read_image).unwrap(), image);
        let read_index = ImageIndex::from_slice(index.to_string().as_bytes()).unwrap();
        prop_assert_eq!(serde_json::to_value(read_index).unwrap(), index);
    }
}
