//! What a suspended upload to a bucket needs to go on: a line of JSON, and after it the bytes that are no part yet.

use bytes::Bytes;
use object_store::MultipartId;
use object_store::multipart::PartId;
use oci_ref::{Error, ErrorKind, Result};
use serde_json::{Value, json};

/// The number of this format.
const FORMAT: u64 = 1;

/// A multipart upload.
#[derive(Debug, PartialEq)]
pub(super) struct State {
    pub(super) upload: MultipartId,
    /// The ids of its parts, in order.
    pub(super) parts: Vec<String>,
    /// How many bytes they have together.
    pub(super) stored: u64,
    /// What comes after them.
    pub(super) tail: Bytes,
}

impl State {
    pub(super) fn new(upload: MultipartId, parts: &[PartId], stored: u64, tail: Bytes) -> Self {
        let parts = parts.iter().map(|part| part.content_id.clone()).collect();
        Self { upload, parts, stored, tail }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let head = json!({
            "format": FORMAT,
            "upload": self.upload,
            "parts": self.parts,
            "stored": self.stored,
        });
        let mut encoded = head.to_string().into_bytes();
        encoded.push(b'\n');
        encoded.extend_from_slice(&self.tail);
        encoded
    }

    pub(super) fn decode(encoded: &Bytes) -> Result<Self> {
        Self::read(encoded).ok_or_else(|| {
            let shown = String::from_utf8_lossy(&encoded[..encoded.len().min(80)]).into_owned();
            let message = format!("the state of a suspended upload cannot be read: {shown:?}");
            Error::new(ErrorKind::Internal, message)
        })
    }

    fn read(encoded: &Bytes) -> Option<Self> {
        let end = encoded.iter().position(|byte| *byte == b'\n')?;
        let head: Value = serde_json::from_slice(&encoded[..end]).ok()?;
        if head["format"].as_u64()? != FORMAT {
            return None;
        }
        let text = |value: &Value| value.as_str().map(str::to_owned);
        Some(Self {
            upload: text(&head["upload"])?,
            parts: head["parts"].as_array()?.iter().map(text).collect::<Option<_>>()?,
            stored: head["stored"].as_u64()?,
            tail: encoded.slice(end + 1..),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let state = State {
            upload: "a\nb\"c".into(),
            parts: vec!["\"etag\"".into(), String::new()],
            stored: 10 << 20,
            tail: Bytes::from_static(b"\n{}\n\xff"),
        };
        assert_eq!(State::decode(&state.encode().into()).unwrap(), state);
        for bad in ["", "{}", "{}\n", "{\"format\":2,\"upload\":\"\",\"parts\":[],\"stored\":0}\n"]
        {
            assert_eq!(*State::decode(&bad.into()).unwrap_err().kind(), ErrorKind::Internal);
        }
    }
}
