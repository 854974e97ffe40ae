//! Manifests of types that this crate does not know: what they reference, found by structure.

use serde_json::{Map, Value};

use crate::document::{DocumentError, parse, scan};
use crate::scan::{Path, Step};
use crate::{Annotations, Descriptor, Digest};

/// The most references of a manifest of an unknown type. Each takes several times its size in
/// memory.
const MAX_REFERENCES: usize = 100_000;

/// The fields of a descriptor, all three of which make an object one.
const TELLING: [&str; 3] = ["mediaType", "digest", "size"];

/// A manifest of a type that this crate does not know, as far as its structure tells what it
/// references.
///
/// An object that has `mediaType`, `digest` and `size` is a descriptor, at any depth, but for the
/// whole document. One that is the field `subject` of the document is its subject, as in an image
/// manifest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct OtherManifest {
    /// The document's `artifactType`, if that is a text.
    pub artifact_type: Option<String>,
    /// The manifest that this one says something about.
    pub subject: Option<Descriptor>,
    /// All other descriptors in it.
    pub descriptors: Vec<Descriptor>,
    /// Digests that are written elsewhere in it, so that nobody knows what they are for.
    pub digests: Vec<Digest>,
    /// The document's `annotations`, if all of them are texts.
    pub annotations: Annotations,
}

impl OtherManifest {
    /// Finds what a document references.
    ///
    /// # Errors
    /// When [`check_document`](crate::check_document) refuses the bytes, when an object is a
    /// descriptor by its fields and not by what is in them, or when there are more than 100,000
    /// descriptors and digests.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, DocumentError> {
        scan(bytes)?;
        let mut document: Map<String, Value> = parse(bytes)?;
        let mut found = Self::default();
        let root = Path { parent: None, step: Step::Root };
        if document.get("subject").is_some_and(is_descriptor) {
            let subject = document.remove("subject").unwrap_or_default();
            let path = Path { parent: Some(&root), step: Step::Key("subject") };
            found.subject = Some(descriptor(&path, &subject)?);
        }
        if let Some(Value::String(artifact_type)) = document.get("artifactType") {
            found.artifact_type = Some(artifact_type.clone());
        }
        if let Some(annotations) = document.get("annotations") {
            found.annotations = serde_json::from_value(annotations.clone()).unwrap_or_default();
        }
        for (key, value) in &document {
            found.search(&Path { parent: Some(&root), step: Step::Key(key) }, value)?;
        }
        found.digests.sort_unstable();
        found.digests.dedup();
        Ok(found)
    }

    /// Looks for references in a value, which is nested no deeper than a document may be.
    fn search(&mut self, path: &Path<'_>, value: &Value) -> Result<(), DocumentError> {
        let below = |step| Path { parent: Some(path), step };
        match value {
            Value::String(text) => self.digests.extend(text.parse::<Digest>()),
            Value::Array(values) => {
                for (index, value) in values.iter().enumerate() {
                    self.search(&below(Step::Index(index)), value)?;
                }
            }
            Value::Object(fields) => {
                let is_descriptor = is_descriptor(value);
                if is_descriptor {
                    self.descriptors.push(descriptor(path, value)?);
                }
                for (key, value) in fields {
                    if !(is_descriptor && key == "digest") {
                        self.search(&below(Step::Key(key)), value)?;
                    }
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
        if self.descriptors.len() + self.digests.len() > MAX_REFERENCES {
            let reason =
                format_args!("there are more than {MAX_REFERENCES} descriptors and digests");
            return Err(DocumentError::new(reason));
        }
        Ok(())
    }
}

fn is_descriptor(value: &Value) -> bool {
    TELLING.iter().all(|field| value.get(field).is_some_and(|found| !found.is_null()))
}

fn descriptor(path: &Path<'_>, value: &Value) -> Result<Descriptor, DocumentError> {
    serde_path_to_error::deserialize(value)
        .map_err(|error| DocumentError::at(&format!("{path}.{}", error.path()), error.inner()))
}
