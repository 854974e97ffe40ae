//! How much memory parsed documents take, for caches that keep within a number of bytes: everything that they have on the heap, and
//! rather too much than too little, since whoever pushes decides what is in them.

use std::collections::BTreeMap;

use oci_spec_types::{Annotations, Descriptor, Extra, Platform};
use serde_json::Value;

/// What each piece of memory takes besides its bytes.
const PIECE: usize = 16;

/// How many entries a node of a map has room for, and how many it has at least.
const NODE: (usize, usize) = (11, 5);

/// A descriptor, besides itself.
pub(crate) fn descriptor(descriptor: &Descriptor) -> usize {
    let Descriptor {
        media_type,
        digest,
        size: _,
        urls,
        annotations,
        data,
        platform,
        artifact_type,
        extra,
    } = descriptor;
    text(media_type.as_str())
        + text(digest.as_str())
        + texts(urls)
        + self::annotations(annotations)
        + data.as_ref().map_or(0, |data| PIECE + data.capacity())
        + platform.as_ref().map_or(0, self::platform)
        + optional(artifact_type)
        + self::extra(extra)
}

/// A list of descriptors, with them.
pub(crate) fn descriptors(list: &Vec<Descriptor>) -> usize {
    PIECE + list.capacity() * size_of::<Descriptor>() + list.iter().map(descriptor).sum::<usize>()
}

/// A text, besides itself.
pub(crate) fn text(text: &str) -> usize {
    PIECE + text.len()
}

fn optional(text: &Option<String>) -> usize {
    text.as_deref().map_or(0, self::text)
}

fn texts(list: &Vec<String>) -> usize {
    let texts: usize = list.iter().map(|it| text(it)).sum();
    PIECE + list.capacity() * size_of::<String>() + texts
}

fn annotations(annotations: &Annotations) -> usize {
    map(annotations, |value| text(value))
}

fn extra(extra: &Extra) -> usize {
    map(extra, value)
}

fn platform(platform: &Platform) -> usize {
    let Platform { architecture, os, os_version, os_features, variant, features, extra } = platform;
    text(architecture)
        + text(os)
        + optional(os_version)
        + texts(os_features)
        + optional(variant)
        + texts(features)
        + self::extra(extra)
}

/// The parser lets values be nested no deeper than it could read them.
fn value(found: &Value) -> usize {
    match found {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(found) => text(found),
        Value::Array(list) => {
            let values: usize = list.iter().map(value).sum();
            PIECE + list.capacity() * size_of::<Value>() + values
        }
        Value::Object(fields) => {
            let fields_in = fields.iter().map(|(name, field)| text(name) + value(field));
            nodes::<Value>(fields.len()) + fields_in.sum::<usize>()
        }
    }
}

fn map<V>(map: &BTreeMap<String, V>, value: impl Fn(&V) -> usize) -> usize {
    let entries: usize = map.iter().map(|(name, it)| text(name) + value(it)).sum();
    nodes::<V>(map.len()) + entries
}

/// The nodes of a map with so many entries, as few in each as there can be.
fn nodes<V>(entries: usize) -> usize {
    let (room, least) = NODE;
    let node = PIECE + room * (size_of::<String>() + size_of::<V>());
    entries.div_ceil(least) * node
}

#[cfg(test)]
mod tests {
    use oci_spec_types::MediaType;

    use super::*;

    /// Whatever it is that a descriptor has much of.
    #[test]
    fn all_of_a_descriptor_counts() {
        const MUCH: usize = 100_000;
        let plain = || Descriptor::of(MediaType::OCTET_STREAM, b"");
        let much = || "x".repeat(MUCH);
        let annotated = |key: String, text: String| Annotations::from([(key, text)]);
        let platform = Platform { os_features: vec![much()], ..Platform::new("linux", "amd64") };
        let unknown = Extra::from([("x".to_owned(), Value::from(vec![much()]))]);
        let all = [
            Descriptor { artifact_type: Some(much()), ..plain() },
            Descriptor { urls: vec![much()], ..plain() },
            Descriptor { annotations: annotated(much(), String::new()), ..plain() },
            Descriptor { annotations: annotated(String::new(), much()), ..plain() },
            Descriptor { data: Some(vec![0; MUCH]), ..plain() },
            Descriptor { platform: Some(platform), ..plain() },
            Descriptor { extra: unknown, ..plain() },
        ];
        assert!(descriptor(&plain()) < 200);
        for found in all {
            let weight = descriptor(&found);
            assert!((MUCH..MUCH + 2000).contains(&weight), "{weight}");
        }
    }

    /// What is many times as large when it is parsed.
    #[test]
    fn a_document_counts_as_it_is_parsed() {
        let of = |json: &str| descriptor(&serde_json::from_str(json).unwrap());
        let json = |fields: &str| {
            let digest = oci_spec_types::Digest::sha256(b"");
            format!(r#"{{"mediaType":"a/b","digest":"{digest}","size":0,{fields}}}"#)
        };
        let list = json(&format!(r#""n":[{}0]"#, "0,".repeat(10_000)));
        assert!(of(&list) > 10_000 * size_of::<Value>());
        let many: Vec<_> = (0..1000).map(|n| format!(r#""{n}":"""#)).collect();
        let many = json(&format!(r#""annotations":{{{}}}"#, many.join(",")));
        assert!(of(&many) > 1000 * 2 * size_of::<String>());
    }
}
