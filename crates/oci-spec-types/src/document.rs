//! Reading JSON documents from outside: the check that comes first, parsing, and errors that name the field.
//! The check itself is in `scan.rs`.

use std::fmt;

use serde::de::DeserializeOwned;

pub(crate) use crate::scan::{TopLevel, scan};

/// Longest path and longest reason that an error keeps, in characters.
const MAX_MESSAGE: usize = 300;
/// How much of its end remains of a message that is too long, in characters.
const KEPT_END: usize = 50;

/// Checks a JSON document from outside, in one pass, before anything relies on it.
///
/// Refused are: bytes that are not UTF-8, a byte order mark, anything after the value, nesting deeper than 64, more
/// than 100,000 keys of an object or elements of an array, more than 500,000 values in all, a
/// document that is not an object, and a key that occurs twice in an object. At the top, and in the
/// descriptors in `manifests`, `layers`, `config` and `subject`, also keys that differ only in the
/// case of letters from a field of the specification: Go reads keys without regard to case, so such
/// a document would mean two things.
///
/// Memory is bounded by a small multiple of the document's size.
///
/// # Errors
/// The first such problem, with the path of the field where there is one.
///
/// ```
/// # use oci_spec_types::check_document;
/// assert!(check_document(br#"{"layers": []}"#).is_ok());
/// let error = check_document(br#"{"layers": [{"size": 1, "size": 2}]}"#).unwrap_err();
/// assert_eq!(error.path(), Some("layers[0].size"));
/// ```
pub fn check_document(bytes: &[u8]) -> Result<(), DocumentError> {
    scan(bytes).map(drop)
}

/// A JSON document that was refused: the path of the field at fault, if one is, and the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocumentError {
    path: Option<Box<str>>,
    reason: Box<str>,
}

impl DocumentError {
    pub(crate) fn new(reason: impl fmt::Display) -> Self {
        Self { path: None, reason: shorten(&reason.to_string()) }
    }

    pub(crate) fn at(path: &str, reason: impl fmt::Display) -> Self {
        Self { path: Some(shorten(path)), ..Self::new(reason) }
    }

    /// The path of the field at fault, as `manifests[3].digest`.
    pub fn path(&self) -> Option<&str> {
        self.path.as_deref()
    }
}

impl fmt::Display for DocumentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.path {
            Some(path) => write!(f, "{path}: {}", self.reason),
            None => f.write_str(&self.reason),
        }
    }
}

impl std::error::Error for DocumentError {}

/// Keeps an error small and on one line whatever the document held. Of a long text the start stays, and the end,
/// where serde_json writes the position.
fn shorten(text: &str) -> Box<str> {
    let one_line = |part: &str| part.replace(char::is_control, " ");
    let head = text.char_indices().nth(MAX_MESSAGE - KEPT_END).map_or(text.len(), |(at, _)| at);
    let tail = text.char_indices().nth_back(KEPT_END - 1).map_or(0, |(at, _)| at);
    if head < tail {
        format!("{}…{}", one_line(&text[..head]), one_line(&text[tail..])).into()
    } else {
        one_line(text).into()
    }
}

/// Reads a document into a type; errors name the path of the field.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DocumentError> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        // At the top of the document the path is ".", and says nothing.
        if error.path().iter().len() == 0 {
            DocumentError::new(error.inner())
        } else {
            DocumentError::at(&error.path().to_string(), error.inner())
        }
    })?;
    deserializer.end().map_err(DocumentError::new)?;
    Ok(value)
}
