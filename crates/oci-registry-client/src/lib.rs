//! An OCI registry over HTTP: [`Repository`] is an [`oci_ref::Source`] and an [`oci_ref::Store`].
//!
//! What is read is verified: manifests before they are handed over, blobs while they are read through
//! [`oci_ref::Blob`]. What is written is verified before it gets its digest. Credentials go to the registry for which
//! they are and to the token service that it names, never along a redirect to another host. A registry outside does not
//! lead to addresses inside ([`ClientBuilder::allow_internal`]).
//!
//! # Push
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! # let registry = oci_registry_server::TestRegistry::start().await?;
//! # let host = registry.host();
//! use oci_ref::{ArtifactBuilder, LayerContent};
//! use oci_registry_client::{Client, RetryPolicy};
//! use oci_spec_types::MediaType;
//!
//! // `host` is the registry's, such as `registry.example`.
//! let client = Client::builder().retry(RetryPolicy::default()).build()?;
//! let repository = client.repository(&format!("{host}/team/notes").parse()?)?;
//!
//! let text = MediaType::from_static("text/plain");
//! let artifact = ArtifactBuilder::new(text.clone()).layer(LayerContent::blob(text, "hello"));
//! let manifest = artifact.write(&repository, &["1.0".parse()?]).await?;
//! println!("pushed {}", manifest.digest());
//! # Ok::<(), Box<dyn std::error::Error>>(()) })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Pull
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! # let registry = oci_registry_server::TestRegistry::start().await?;
//! # let host = registry.host();
//! # let kind = oci_spec_types::MediaType::from_static("text/plain");
//! # let note = oci_ref::LayerContent::blob(kind.clone(), "hello");
//! # let store = registry.registry().memory(&"team/notes".parse()?);
//! # let pushed = oci_ref::ArtifactBuilder::new(kind).layer(note).write(&store, &["1.0".parse()?]).await?;
//! use futures_util::TryStreamExt;
//! use oci_registry_client::{Client, RetryPolicy};
//! use oci_spec_types::Reference;
//!
//! let client = Client::builder().retry(RetryPolicy::default()).build()?;
//! let reference: Reference = format!("{host}/team/notes:1.0").parse()?;
//! let repository = client.repository(&reference)?;
//!
//! let found = repository.read(reference.tag(), reference.digest()).await?;
//! let image = found.as_image()?;
//! let mut content = Vec::new();
//! for layer in image.layers() {
//!     let mut blob = image.open_blob(layer).await?;
//!     while let Some(chunk) = blob.try_next().await? {
//!         // All but the last chunk arrive before the digest is known to be right.
//!         content.extend_from_slice(&chunk);
//!     }
//! }
//! assert_eq!(content, b"hello");
//!
//! // Or into a file, which a later run goes on with if this one is interrupted.
//! # let directory = tempfile::tempdir()?;
//! let path = directory.path().join("note.txt");
//! repository.download(&image.layers()[0], &path).await?;
//! # assert_eq!(std::fs::read(&path)?, b"hello");
//! # Ok::<(), Box<dyn std::error::Error>>(()) })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Walk
//!
//! All that a tag reaches, without choosing a platform; [`oci_ref::copy`] takes it elsewhere.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! # let registry = oci_registry_server::TestRegistry::start().await?;
//! # let host = registry.host();
//! # let kind = oci_spec_types::MediaType::from_static("text/plain");
//! # let note = oci_ref::LayerContent::blob(kind.clone(), "hello");
//! # let store = registry.registry().memory(&"team/notes".parse()?);
//! # let pushed = oci_ref::ArtifactBuilder::new(kind).layer(note).write(&store, &["1.0".parse()?]).await?;
//! # let before = pushed.digest().clone();
//! use futures_util::TryStreamExt;
//! use oci_ref::{WalkOptions, walk_refs};
//! use oci_registry_client::Client;
//!
//! let repository = Client::builder().build()?.repository(&format!("{host}/team/notes").parse()?)?;
//! let root = repository.read(Some(&"1.0".parse()?), None).await?;
//! let mut visits = std::pin::pin!(walk_refs(root, WalkOptions::default()));
//! while let Some(visit) = visits.try_next().await? {
//!     println!("{:?} is {}", visit.path.to_string(), visit.descriptor.digest);
//!     # assert_eq!(visit.descriptor.digest, before);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(()) })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Referrers
//!
//! Signatures, SBOMs and other things that say something about a manifest; also where the registry has no API for them.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! # let registry = oci_registry_server::TestRegistry::start().await?;
//! # let host = registry.host();
//! # let kind = oci_spec_types::MediaType::from_static("text/plain");
//! # let note = oci_ref::LayerContent::blob(kind.clone(), "hello");
//! # let store = registry.registry().memory(&"team/notes".parse()?);
//! # let pushed = oci_ref::ArtifactBuilder::new(kind).layer(note).write(&store, &["1.0".parse()?]).await?;
//! use oci_ref::{ArtifactBuilder, LayerContent, Source};
//! use oci_registry_client::Client;
//! use oci_spec_types::MediaType;
//!
//! let repository = Client::builder().build()?.repository(&format!("{host}/team/notes").parse()?)?;
//! let subject = repository.resolve(&repository.parse_reference("1.0")?).await?;
//!
//! let kind = MediaType::from_static("application/vnd.example.signature");
//! let signature = ArtifactBuilder::new(kind.clone())
//!     .layer(LayerContent::blob(kind.clone(), "signed"))
//!     .subject(subject.clone())
//!     .write(&repository, &[])
//!     .await?;
//!
//! let found = repository.referrers(&subject.digest, Some(kind.as_str()), None, 100).await?;
//! assert_eq!(found.page.items[0].digest, *signature.digest());
//! assert_eq!(repository.predecessors(&subject.digest).await?.len(), 1);
//! # Ok::<(), Box<dyn std::error::Error>>(()) })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Login
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! # let auth = oci_registry_server::TestAuth::bearer().user("alice", "secret");
//! # let registry = oci_registry_server::TestRegistry::builder().auth(auth).start().await?;
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path().join("config.json");
//! use oci_registry_client::{Client, Credentials, DockerConfig, StaticCredentials};
//! use oci_spec_types::Host;
//!
//! let host: Host = registry.host().parse()?;
//! let credentials = Credentials::basic("alice", "secret");
//!
//! // Does the registry know them?
//! let given = StaticCredentials::new().with(host.clone(), credentials.clone());
//! Client::builder().credentials(given).build()?.registry(&host)?.ping().await?;
//! # let wrong = StaticCredentials::new().with(host.clone(), Credentials::basic("alice", "guess"));
//! # let error = Client::builder().credentials(wrong).build()?.registry(&host)?.ping().await.unwrap_err();
//! # assert!(error.is_unauthorized(), "{error}");
//!
//! // Then they are kept where Docker and Podman find them too (`DockerConfig::from_env()`).
//! let config = DockerConfig::at(path);
//! config.store(&host, &credentials).await?;
//! let client = Client::builder().credentials(config.clone()).build()?;
//! client.registry(&host)?.ping().await?;
//!
//! // Logout.
//! assert!(config.erase(&host).await?);
//! # Ok::<(), Box<dyn std::error::Error>>(()) })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
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
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod link;
mod location;
mod memory;
mod mirror;
mod outbound;
mod page;
mod payload;
mod proxy;
mod reach;
mod redact;
mod referrers_failure;
mod registry;
mod repository;
mod request;
mod response;
mod retry;
mod scheme;
mod secrets;
mod tls;
mod transport;
mod warning;

pub use auth::{CredentialError, CredentialProvider, Credentials, DockerConfig, StaticCredentials};
pub use builder::{ClientBuilder, UploadMode};
pub use client::Client;
pub use error::{Error, Obstacle, Result};
pub use memory::{UploadMemory, UploadRecord};
pub use mirror::Mirror;
pub use proxy::Proxies;
pub use referrers_failure::{ReferrersChange, ReferrersFailure, ReferrersStep};
pub use registry::Registry;
pub use repository::{BlobCloser, BlobReader, Head, Repository};
pub use retry::{Retry, RetryPolicy};
pub use scheme::PlainHttp;
pub use tls::{TlsFault, TlsOptions};
pub use warning::Warning;
