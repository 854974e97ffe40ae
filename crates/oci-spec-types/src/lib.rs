//! The data of the OCI image and distribution specifications: digests, media types, descriptors, manifests,
//! image configurations, repository names, tags, references and error codes. No I/O and no async.
//!
//! Text from outside is parsed into types once, at the edge; a value of a type here is always well-formed.
//! Fields that the specification does not name are kept and written again. Content that has a digest is never
//! serialised anew to be stored or sent: the types here are a *view* of such bytes.
//!
//! ```
//! use oci_spec_types::{Digest, Reference};
//!
//! let reference: Reference = "registry.example/team/app:1.2".parse()?;
//! assert_eq!(reference.name().as_str(), "team/app");
//! assert!("team/app".parse::<Reference>().is_err()); // no host: nothing is assumed silently
//!
//! let digest = Digest::sha256(b"hello");
//! assert!(digest.verify(b"hello").is_ok());
//! assert!(digest.verify(b"hallo").is_err());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod annotations;

mod config;
mod descriptor;
mod digest;
mod document;
mod document_head;
mod error_code;
mod familiar;
mod hasher;
mod host;
mod manifest;
mod media_type;
mod name;
mod other_manifest;
mod plain;
mod platform;
mod ref_name;
mod reference;
mod scan;
mod serialisation;
mod tag;
mod text;

pub use config::{ContainerConfig, History, ImageConfig, RootFs};
pub use descriptor::Descriptor;
pub use digest::{Algorithm, Digest, DigestError, UnsupportedAlgorithm};
pub use document::{DocumentError, check_document};
pub use document_head::DocumentHead;
pub use error_code::{ErrorBody, ErrorCode, ErrorEntry};
pub use hasher::{HashStateError, Hasher, Verifier, VerifyError};
pub use host::{Host, HostError};
pub use manifest::{ArtifactManifest, ImageIndex, ImageManifest};
pub use media_type::{MediaType, MediaTypeError};
pub use name::{Name, NameError};
pub use other_manifest::OtherManifest;
pub use plain::plain;
pub use platform::{Platform, PlatformError};
pub use ref_name::{RefName, RefNameError};
pub use reference::{Reference, ReferenceError};
pub use tag::{Tag, TagError};

/// Annotations of a document or a descriptor: an ordered map of text to text (image-spec, `annotations.md`).
pub type Annotations = std::collections::BTreeMap<String, String>;

/// Fields that the specification does not define, kept so that they survive reading and writing.
///
/// Do not put a field here that the structure already has: it would be written twice.
pub type Extra = std::collections::BTreeMap<String, serde_json::Value>;
