//! Manifests and indexes as bytes: what holds of both.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use oci_ref::{Document, List, Loss, Manifest, Memory, Ref, walk_refs};
use oci_spec_types::{Digest, ImageConfig, ImageIndex, ImageManifest, MediaType, check_document};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use crate::reading::bounds;
use crate::support::{assert_fit_for_logs, block_on};

/// The longest text of an error: an excerpt of a path and of a reason, and what stands around them.
const MAX_ERROR: usize = 4 << 10;

/// Reads bytes as a manifest that came with `declared`, and checks what can be said of any.
pub(crate) fn check(data: &[u8], declared: Option<&MediaType>) -> Option<Manifest> {
    let bytes = Bytes::copy_from_slice(data);
    let manifest = match Manifest::parse(bytes.clone(), declared, None) {
        Ok(manifest) => manifest,
        Err(error) => {
            assert_fit_for_logs(&error, MAX_ERROR);
            return None;
        }
    };
    assert!(check_document(data).is_ok(), "parsed, though the document is refused");
    assert_eq!(manifest.bytes(), data, "other bytes than were parsed");
    assert_eq!(*manifest.digest(), Digest::sha256(data));
    assert_eq!(manifest.descriptor().size, data.len() as u64);
    assert!(!manifest.media_type().is_schema1());

    let again = Manifest::verify(manifest.descriptor(), bytes).expect("it is as it says itself");
    assert_eq!(again, manifest);
    assert_eq!(again.document(), manifest.document());

    check_view(&manifest, data);
    check_graph(&manifest);
    check_conversions(&manifest);
    Some(manifest)
}

/// The check of documents, and what else reads them without a type.
pub(crate) fn check_bytes(data: &[u8]) {
    match check_document(data) {
        Err(error) => assert_fit_for_logs(&error, MAX_ERROR),
        Ok(()) => {
            let value: Value = serde_json::from_slice(data).expect("an accepted document is JSON");
            let Entries(counted) = serde_json::from_slice(data).expect("it is JSON");
            assert_eq!(counted, entries(&value), "a key occurs twice in an accepted document");
            check_letter_case(&value);
        }
    }
    match ImageConfig::from_slice(data) {
        Err(error) => assert_fit_for_logs(&error, MAX_ERROR),
        Ok(config) => assert_stable(&config, data, ImageConfig::from_slice),
    }
}

/// No key at the top may differ from a field of the specification in the case of letters only.
fn check_letter_case(value: &Value) {
    const FIELDS: [&str; 8] = [
        "schemaVersion",
        "mediaType",
        "artifactType",
        "config",
        "layers",
        "manifests",
        "subject",
        "annotations",
    ];
    for key in value.as_object().expect("an accepted document is an object").keys() {
        let other = FIELDS.iter().find(|field| field.eq_ignore_ascii_case(key));
        assert!(other.is_none_or(|field| field == key), "{key:?} was accepted");
    }
}

/// What is written of a view is read as the same view.
fn check_view(manifest: &Manifest, data: &[u8]) {
    match manifest.document() {
        Document::Image(image) => {
            assert_eq!(manifest.blobs().count(), image.layers.len() + 1);
            assert_stable(image, data, ImageManifest::from_slice);
        }
        Document::Index(index) => {
            assert_eq!(manifest.manifests(), index.manifests);
            assert_eq!(manifest.references().count(), index.manifests.len());
            assert_stable(index, data, ImageIndex::from_slice);
        }
        Document::Other(other) => {
            let mut value: Value = serde_json::from_slice(data).expect("it is JSON");
            if other.subject.is_some() {
                value["subject"] = Value::Null;
            }
            assert_eq!(other.descriptors.len(), descriptors(&value));
        }
        _ => {}
    }
    assert!(manifest.media_type().is_header_value());
    let referrer = manifest.as_referrer();
    assert_eq!(referrer.is_some(), manifest.subject().is_some());
}

/// The number of objects below the top that have what every descriptor has.
fn descriptors(value: &Value) -> usize {
    let one = |value: &Value| {
        let has = |field: &&str| value.get(*field).is_some_and(|found| !found.is_null());
        usize::from(["mediaType", "digest", "size"].iter().all(has)) + descriptors(value)
    };
    match value {
        Value::Array(values) => values.iter().map(one).sum(),
        Value::Object(fields) => fields.values().map(one).sum(),
        _ => 0,
    }
}

/// Writing a view, reading that, and writing it again gives the same bytes.
fn assert_stable<T: serde::Serialize, E: fmt::Debug>(
    view: &T,
    data: &[u8],
    read: impl Fn(&[u8]) -> Result<T, E>,
) {
    // A fraction in a field that nobody knows may lose its last bit.
    if serde_json::from_slice(data).is_ok_and(|value: Value| has_fraction(&value)) {
        return;
    }
    let written = serde_json::to_vec(view).expect("a view can be written");
    let again = read(&written).expect("what was written is read");
    assert_eq!(serde_json::to_vec(&again).expect("it can be written"), written);
}

fn has_fraction(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.is_f64(),
        Value::Array(values) => values.iter().any(has_fraction),
        Value::Object(fields) => fields.values().any(has_fraction),
        _ => false,
    }
}

/// Walks what is reached, of which nothing is there but what is embedded.
fn check_graph(manifest: &Manifest) {
    let Ok(root) = Ref::new(manifest.clone(), Arc::new(Memory::new())) else {
        assert!(matches!(manifest.document(), Document::Artifact(_) | Document::Other(_)));
        return;
    };
    block_on(async {
        let visits: Vec<_> = walk_refs(root.clone(), bounds()).collect().await;
        assert!(visits.len() <= 65, "{} visits", visits.len());
        match visits.last().expect("the root is visited at least") {
            Ok(last) => assert_eq!(last.descriptor.digest, *manifest.digest()),
            Err(error) => assert_fit_for_logs(error, MAX_ERROR),
        }
        if let Ok(image) = root.as_image() {
            // The config may be embedded.
            let _ = image.config().await;
        }
    });
}

/// To the other format and back.
fn check_conversions(manifest: &Manifest) {
    let types = [
        MediaType::OCI_IMAGE_MANIFEST,
        MediaType::OCI_IMAGE_INDEX,
        MediaType::DOCKER_MANIFEST,
        MediaType::DOCKER_MANIFEST_LIST,
    ];
    for media_type in &types {
        let strict = manifest.convert_to(media_type, Loss::Refuse);
        let lossy = manifest.convert_to(media_type, Loss::Allow);
        match (strict, lossy) {
            (Ok(strict), Ok(lossy)) => {
                assert!(strict.dropped.is_empty());
                assert_eq!(strict, lossy);
                assert_converted(&strict.manifest, media_type);
            }
            (Err(_), Ok(lossy)) => assert_converted(&lossy.manifest, media_type),
            (Err(strict), Err(lossy)) => {
                assert_fit_for_logs(&strict, MAX_ERROR);
                assert_fit_for_logs(&lossy, MAX_ERROR);
            }
            (Ok(_), Err(error)) => panic!("allowing for loss made a conversion fail: {error}"),
        }
    }
    if let Ok(list) = List::of(manifest) {
        let unedited = list.to_manifest().expect("a list that was not edited is its original");
        assert_eq!(unedited.bytes(), manifest.bytes());
    }
}

fn assert_converted(manifest: &Manifest, media_type: &MediaType) {
    assert_eq!(manifest.media_type(), media_type);
    assert_eq!(*manifest.digest(), Digest::sha256(manifest.bytes()));
    let again = manifest.convert_to(media_type, Loss::Refuse).expect("it is of the type already");
    assert_eq!(again.manifest.bytes(), manifest.bytes());
}

/// How many fields all objects of a document have together, those that occur twice counted twice.
struct Entries(usize);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self(0))
    }
}

impl<'de> Visitor<'de> for Entries {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Self, A::Error> {
        while let Some((_, Self(below))) = map.next_entry::<String, Self>()? {
            self.0 += 1 + below;
        }
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<Self, A::Error> {
        while let Some(Self(below)) = seq.next_element()? {
            self.0 += below;
        }
        Ok(self)
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }
}

/// The same count of a value, whose maps hold each key once.
fn entries(value: &Value) -> usize {
    match value {
        Value::Array(values) => values.iter().map(entries).sum(),
        Value::Object(fields) => fields.values().map(|value| 1 + entries(value)).sum(),
        _ => 0,
    }
}

/// The same edits of a list always make the same bytes.
pub(crate) fn check_edits(manifest: &Manifest) {
    let Ok(mut list) = List::of(manifest) else { return };
    let mut counts: BTreeMap<Digest, usize> = BTreeMap::new();
    for entry in list.instances() {
        *counts.entry(entry.digest.clone()).or_default() += 1;
    }
    let Some((digest, count)) = counts.pop_first() else { return };
    let before = list.instances().len();
    let removed = list.remove(&digest).expect("it is listed");
    assert_eq!((removed.len(), list.instances().len()), (count, before - count));
    removed.into_iter().for_each(|entry| list.add(entry));
    list.annotate("org.example.fuzz", Some("x".to_owned()));
    match list.to_manifest() {
        Ok(edited) => {
            assert_eq!(edited.manifests().len(), before);
            assert_eq!(edited.media_type(), manifest.media_type());
        }
        Err(error) => assert_fit_for_logs(&error, MAX_ERROR),
    }
}
