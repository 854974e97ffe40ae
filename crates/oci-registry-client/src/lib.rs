//! An OCI registry over HTTP: [`Repository`] is an [`oci_ref::Source`] and an [`oci_ref::Store`].
//!
//! What is read is verified: manifests before they are handed over, blobs while they are read through
//! [`oci_ref::Blob`]. What is written is verified before it gets its digest. Credentials go to the registry for which
//! they are and to the token service that it names, never along a redirect to another host.
//!
//! # Pull
//!
//! ```no_run
//! use futures_util::TryStreamExt;
//! use oci_registry_client::{Client, RetryPolicy};
//! use oci_spec_types::Reference;
//!
//! # async fn pull() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::builder().retry(RetryPolicy::default()).build()?;
//! let reference: Reference = "registry.example/team/app:1.0".parse()?;
//! let repository = client.repository(&reference)?;
//!
//! let image = repository.read(reference.tag(), reference.digest()).await?;
//! for layer in image.as_image()?.layers() {
//!     let mut blob = image.as_image()?.open_blob(layer).await?;
//!     while let Some(chunk) = blob.try_next().await? {
//!         // All but the last chunk arrive before the digest is known to be right.
//!         println!("{} bytes of {}", chunk.len(), layer.digest);
//!     }
//! }
//! # Ok(()) }
//! ```
//!
//! # Push
//!
//! ```no_run
//! use bytes::Bytes;
//! use oci_ref::{Manifest, Precondition, Store};
//! use oci_registry_client::{Client, Credentials, StaticCredentials};
//! use oci_spec_types::{Descriptor, ImageManifest, MediaType};
//!
//! # async fn push() -> Result<(), Box<dyn std::error::Error>> {
//! let credentials = StaticCredentials::new()
//!     .with("registry.example".parse()?, Credentials::basic("alice", "secret"));
//! let client = Client::builder().credentials(credentials).build()?;
//! let repository = client.repository(&"registry.example/team/notes".parse()?)?;
//!
//! let config = Bytes::from_static(b"{}");
//! let layer = Bytes::from_static(b"hello");
//! repository.put_blob(&Descriptor::of(MediaType::OCI_EMPTY_JSON, &config), &config).await?;
//! repository.put_blob(&Descriptor::of(MediaType::OCTET_STREAM, &layer), &layer).await?;
//!
//! let mut document = ImageManifest::new(
//!     Descriptor::of(MediaType::OCI_EMPTY_JSON, &config),
//!     vec![Descriptor::of(MediaType::OCTET_STREAM, &layer)],
//! );
//! document.artifact_type = Some("text/plain".into());
//! let manifest = Manifest::parse(serde_json::to_vec(&document)?.into(), None, None)?;
//! repository.put_manifest(&manifest, &["latest".parse()?], &Precondition::None).await?;
//! # Ok(()) }
//! ```
//!
//! # Errors
//!
//! [`Error`] says what the registry answered. It is the cause of the [`oci_ref::Error`]s of a repository:
//!
//! ```
//! fn should_wait(error: &oci_ref::Error) -> Option<std::time::Duration> {
//!     error.find_source::<oci_registry_client::Error>()?.retry_after()
//! }
//! ```

mod auth;
mod builder;
mod client;
mod content_range;
mod error;
mod link;
mod location;
mod page;
mod payload;
mod redact;
mod registry;
mod repository;
mod request;
mod response;
mod retry;
mod tls;
mod warning;

pub use auth::{CredentialError, CredentialProvider, Credentials, StaticCredentials};
pub use builder::{ClientBuilder, PlainHttp, UploadMode};
pub use client::Client;
pub use error::{Error, Result};
pub use registry::Registry;
pub use repository::Repository;
pub use retry::{Retry, RetryPolicy};
pub use warning::Warning;
