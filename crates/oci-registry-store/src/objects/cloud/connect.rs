//! From a storage URL and the environment to a client of the bucket.

use std::sync::Arc;
use std::time::Duration;

use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::memory::InMemory;
use object_store::multipart::MultipartStore;
use object_store::prefix::PrefixStore;
use object_store::signer::Signer;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};
use oci_ref::{Error, ErrorKind, Result};

use crate::Storage;
use crate::storage::{Place, Service};

/// How long no byte may come.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How often a request is repeated unless it is said, and until when.
const RETRIES: usize = 5;
const RETRY_TIMEOUT: Duration = Duration::from_secs(30);

/// What a bucket must be able to do.
pub(super) trait Bucket: ObjectStore + MultipartStore {}

impl<T: ObjectStore + MultipartStore> Bucket for T {}

/// A client of a bucket. Nothing has been sent yet.
pub(super) struct Connected {
    pub(super) bucket: Arc<dyn Bucket>,
    /// Makes URLs that need no credentials.
    pub(super) signer: Option<Arc<dyn Signer>>,
    /// Whether aborting an upload frees its parts. Azure has no such request, and would keep them for a week.
    pub(super) aborts: bool,
}

/// `None` if objects are files.
pub(super) fn connect(storage: &Storage) -> Result<Option<Connected>> {
    match &storage.place {
        Place::Files => Ok(None),
        Place::Memory => {
            Ok(Some(Connected { bucket: Arc::new(InMemory::new()), signer: None, aborts: true }))
        }
        Place::Bucket { service, bucket, prefix } => {
            choose_tls();
            let connected = match service {
                Service::S3 => s3(storage, bucket, prefix),
                Service::Google => google(storage, bucket, prefix),
                Service::Azure => azure(storage, bucket, prefix),
            };
            connected.map(Some)
        }
    }
}

/// The requests need a TLS provider, which the process chooses. If it has not, it is ring.
fn choose_tls() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // An error says that somebody else was quicker.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
}

fn s3(storage: &Storage, bucket: &str, prefix: &str) -> Result<Connected> {
    let mut builder = AmazonS3Builder::new()
        .with_client_options(client_options())
        .with_retry(retries(storage))
        // Objects are deleted one by one, which all services that speak S3 can do.
        .with_disable_bulk_delete(true);
    for (name, value) in settings(storage, "aws_", &[])? {
        match name.parse() {
            Ok(key) => builder = builder.with_config(key, value),
            Err(_) => unknown(storage, &name)?,
        }
    }
    prefixed(
        builder.with_bucket_name(bucket).build().map_err(|e| misconfigured(storage, e))?,
        prefix,
    )
}

fn google(storage: &Storage, bucket: &str, prefix: &str) -> Result<Connected> {
    let mut builder = GoogleCloudStorageBuilder::new()
        .with_client_options(client_options())
        .with_retry(retries(storage));
    for (name, value) in settings(storage, "google_", &["service_account"])? {
        match name.parse() {
            Ok(key) => builder = builder.with_config(key, value),
            Err(_) => unknown(storage, &name)?,
        }
    }
    prefixed(
        builder.with_bucket_name(bucket).build().map_err(|e| misconfigured(storage, e))?,
        prefix,
    )
}

fn azure(storage: &Storage, container: &str, prefix: &str) -> Result<Connected> {
    let mut builder = MicrosoftAzureBuilder::new()
        .with_client_options(client_options())
        .with_retry(retries(storage));
    for (name, value) in settings(storage, "azure_", &["msi_endpoint"])? {
        match name.parse() {
            Ok(key) => builder = builder.with_config(key, value),
            Err(_) => unknown(storage, &name)?,
        }
    }
    let builder = builder.with_container_name(container);
    let connected = prefixed(builder.build().map_err(|e| misconfigured(storage, e))?, prefix)?;
    Ok(Connected { aborts: false, ..connected })
}

fn prefixed<T>(store: T, prefix: &str) -> Result<Connected>
where
    T: ObjectStore + MultipartStore + Signer,
{
    let store = Arc::new(PrefixStore::new(store, prefix));
    Ok(Connected { bucket: Arc::clone(&store) as _, signer: Some(store), aborts: true })
}

/// Whole transfers may take as long as they make progress.
fn client_options() -> ClientOptions {
    ClientOptions::new()
        .with_timeout_disabled()
        .with_connect_timeout(CONNECT_TIMEOUT)
        .with_read_timeout(READ_TIMEOUT)
}

fn retries(storage: &Storage) -> RetryConfig {
    let backoff = BackoffConfig {
        init_backoff: Duration::from_millis(100),
        max_backoff: Duration::from_secs(5),
        base: 2.0,
    };
    let max_retries = storage.retries.unwrap_or(RETRIES);
    RetryConfig { backoff, max_retries, retry_timeout: RETRY_TIMEOUT }
}

/// What the environment says to a service, and after it what was said explicitly, all in small letters.
fn settings(storage: &Storage, prefix: &str, more: &[&str]) -> Result<Vec<(String, String)>> {
    let environment = std::env::vars_os().filter_map(|(name, value)| {
        let name = name.to_str()?.to_ascii_lowercase();
        let meant = name.starts_with(prefix) || more.contains(&name.as_str());
        meant.then_some((name, value.to_str()?.to_owned()))
    });
    let explicit = storage.settings.iter();
    Ok(environment
        .chain(explicit.map(|(name, value)| (name.to_ascii_lowercase(), value.clone())))
        .collect())
}

/// A variable of the environment may be meant for others. One that was set explicitly may not.
fn unknown(storage: &Storage, name: &str) -> Result<()> {
    match storage.settings.iter().any(|(set, _)| set.eq_ignore_ascii_case(name)) {
        true => {
            Err(Error::new(ErrorKind::Invalid, format!("storage {storage} has no setting {name}")))
        }
        false => Ok(()),
    }
}

fn misconfigured(storage: &Storage, error: object_store::Error) -> Error {
    let message = format!(
        "storage {storage}: its settings in the environment do not do: {}",
        super::failure::brief(&error)
    );
    Error::new(ErrorKind::Invalid, message)
}
