//! Manifests keep their bytes, whatever these look like.

use std::sync::Arc;

use oci_ref::suite::content::{Piece, tag};
use oci_ref::{CopyOptions, Layout, Manifest, Memory, Precondition, Source, Store, copy};
use oci_spec_types::{Digest, MediaType};
use proptest::prelude::*;
use tempfile::TempDir;

/// White space between two tokens.
fn space() -> impl Strategy<Value = String> {
    "[ \t\r\n]{0,3}"
}

/// A value, as text: with its own white space, escapes and forms of numbers.
fn value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        "-?(0|[1-9][0-9]{0,25})(\\.[0-9]{1,5})?([eE][+-]?[0-9]{1,2})?",
        "\"([a-z é€😀]|\\\\n|\\\\/|\\\\u00e9|\\\\ud83d\\\\ude00){0,8}\"",
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        let list = (space(), prop::collection::vec((inner.clone(), space()), 0..4)).prop_map(
            |(space, items)| {
                let items: Vec<_> = items.into_iter().map(|(item, space)| item + &space).collect();
                format!("[{space}{}]", items.join(","))
            },
        );
        let object = prop::collection::vec((space(), inner), 0..4).prop_map(|members| {
            let members: Vec<_> = members
                .into_iter()
                .enumerate()
                .map(|(n, (space, member))| format!("{space}\"key{n}\"{space}:{space}{member}"))
                .collect();
            format!("{{{}}}", members.join(","))
        });
        prop_oneof![list, object]
    })
}

/// An object of the members given and unknown ones, in any order and with any white space.
fn object(known: Vec<String>) -> impl Strategy<Value = String> {
    let unknown = prop::collection::vec(value(), 0..3);
    (unknown, space(), space())
        .prop_flat_map(move |(unknown, before, after)| {
            let unknown =
                unknown.into_iter().enumerate().map(|(n, value)| format!("\"x-{n}\":{value}"));
            let members: Vec<String> = known.iter().cloned().chain(unknown).collect();
            let count = members.len();
            let spaces = prop::collection::vec((space(), space()), count);
            (Just(members).prop_shuffle(), spaces, Just(before), Just(after))
        })
        .prop_map(|(members, spaces, before, after)| {
            let members: Vec<_> = members
                .into_iter()
                .zip(spaces)
                .map(|(member, (left, right))| format!("{left}{member}{right}"))
                .collect();
            format!("{before}{{{}}}{after}", members.join(","))
        })
}

fn descriptor(piece: Piece) -> impl Strategy<Value = String> {
    let descriptor = piece.descriptor;
    object(vec![
        format!("\"mediaType\":\"{}\"", descriptor.media_type),
        format!("\"digest\": \"{}\"", descriptor.digest),
        format!("\"size\":{}", descriptor.size),
    ])
}

fn config() -> Piece {
    Piece::new(MediaType::OCI_IMAGE_CONFIG, "{}")
}

fn layer() -> Piece {
    Piece::new(MediaType::OCI_LAYER, vec![0; 1024])
}

/// An image manifest of one config and two layers.
fn manifest() -> impl Strategy<Value = String> {
    let parts =
        (descriptor(config()), descriptor(layer()), descriptor(layer()), space(), any::<bool>());
    parts.prop_flat_map(|(config, first, second, space, typed)| {
        let mut members = vec![
            "\"schemaVersion\":2".to_owned(),
            format!("\"config\":{space}{config}"),
            format!("\"layers\":[{first},{second}]{space}"),
        ];
        if typed {
            members.push(format!("\"mediaType\"{space}:\"{}\"", MediaType::OCI_IMAGE_MANIFEST));
        }
        object(members)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn manifests_are_copied_byte_for_byte(text in manifest()) {
        let parsed = Manifest::parse(text.clone().into(), None, None).unwrap();
        prop_assert_eq!(parsed.bytes().as_ref(), text.as_bytes());
        prop_assert_eq!(parsed.digest(), &Digest::sha256(text.as_bytes()));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (in_layout, back) = runtime.block_on(async {
            let directory = TempDir::new().unwrap();
            let (from, to) = (Arc::new(Memory::new()), Arc::new(Memory::new()));
            let layout = Arc::new(Layout::create(directory.path()).await.unwrap());
            config().put(&from).await.unwrap();
            layer().put(&from).await.unwrap();
            from.put_manifest(&parsed, &[tag("t")], &Precondition::None).await.unwrap();
            let options = CopyOptions { tags: vec![tag("t")], ..CopyOptions::default() };
            copy(from, &tag("t").into(), layout.clone(), options.clone()).await.unwrap();
            copy(layout.clone(), &tag("t").into(), to.clone(), options).await.unwrap();
            (layout.manifest(&tag("t").into()).await.unwrap(), to.manifest(&tag("t").into()).await.unwrap())
        });
        for found in [in_layout, back] {
            prop_assert_eq!(found.bytes().as_ref(), text.as_bytes());
            prop_assert_eq!(found.digest(), parsed.digest());
            prop_assert_eq!(found.document(), parsed.document());
        }
    }
}
