//! Where bytes lie: in the data directory, or in a bucket.

use std::fmt;
use std::str::FromStr;

use oci_ref::{Error, ErrorKind};

/// Where an engine keeps the bytes of large blobs, written as a URL:
///
/// | URL | place | settings in the environment |
/// | --- | --- | --- |
/// | `file:` | files in the data directory; the default | |
/// | `s3://bucket/prefix` | Amazon S3, or what speaks its protocol | `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_REGION`, `AWS_ENDPOINT`, `AWS_ALLOW_HTTP`, … |
/// | `gs://bucket/prefix` | Google Cloud Storage | `GOOGLE_SERVICE_ACCOUNT`, … |
/// | `az://container/prefix` | Azure Blob Storage | `AZURE_STORAGE_ACCOUNT_NAME`, `AZURE_STORAGE_ACCOUNT_KEY`, … |
/// | `memory:` | memory: gone with the process, for tests | |
///
/// The prefix may be left out. Credentials never stand in the URL. All but `file:` need the feature `clouds`.
///
/// ```
/// use oci_registry_store::Storage;
///
/// let storage: Storage = "s3://images/registry".parse()?;
/// assert_eq!(storage.to_string(), "s3://images/registry");
/// assert!("s3://".parse::<Storage>().is_err());
/// # Ok::<(), oci_ref::Error>(())
/// ```
#[derive(Clone, Default)]
pub struct Storage {
    pub(crate) place: Place,
    /// Settings that go before those of the environment.
    pub(crate) settings: Vec<(String, String)>,
    #[cfg_attr(not(feature = "clouds"), allow(dead_code, reason = "files are not asked twice"))]
    pub(crate) retries: Option<usize>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Place {
    #[default]
    Files,
    Memory,
    Bucket {
        service: Service,
        bucket: String,
        /// Without slashes at its ends. Empty if there is none.
        prefix: String,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    S3,
    Google,
    Azure,
}

impl Storage {
    /// Sets what the environment would otherwise say, by the variable's name.
    ///
    /// ```
    /// # use oci_registry_store::Storage;
    /// let storage: Storage = "s3://images".parse()?;
    /// let storage = storage.set("AWS_ENDPOINT", "http://127.0.0.1:9000").set("AWS_ALLOW_HTTP", "true");
    /// # Ok::<(), oci_ref::Error>(())
    /// ```
    #[must_use]
    pub fn set(mut self, variable: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.push((variable.into(), value.into()));
        self
    }

    /// How often a request to a bucket that failed is repeated: five times unless it is said, for half a minute at most.
    #[must_use]
    pub fn retries(mut self, retries: usize) -> Self {
        self.retries = Some(retries);
        self
    }
}

impl FromStr for Storage {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let place = match text.split_once(':') {
            Some(("file", "")) => Place::Files,
            Some(("memory", "")) => Place::Memory,
            Some(("s3", rest)) => bucket(Service::S3, rest)?,
            Some(("gs", rest)) => bucket(Service::Google, rest)?,
            Some(("az", rest)) => bucket(Service::Azure, rest)?,
            _ => return Err(refused("expected file:, s3://…, gs://…, az://… or memory:")),
        };
        Ok(Self { place, ..Self::default() })
    }
}

fn bucket(service: Service, rest: &str) -> Result<Place, Error> {
    let rest = rest.strip_prefix("//").ok_or_else(|| refused("expected // after the scheme"))?;
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let prefix = prefix.trim_end_matches('/');
    let plain = |text: &str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        !text.is_empty() && text.bytes().all(allowed) && text != "." && text != ".."
    };
    if !plain(bucket) {
        // What is there instead may be a password.
        return Err(refused("expected the name of a bucket, of letters, digits, '-', '.' and '_'"));
    }
    if !prefix.is_empty() && !prefix.split('/').all(plain) {
        return Err(refused("expected a prefix of letters, digits, '-', '.', '_' and single '/'"));
    }
    Ok(Place::Bucket { service, bucket: bucket.into(), prefix: prefix.into() })
}

fn refused(why: &'static str) -> Error {
    Error::new(ErrorKind::Invalid, format!("not a storage URL: {why}"))
}

impl fmt::Display for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Files => f.write_str("file:"),
            Place::Memory => f.write_str("memory:"),
            Place::Bucket { service, bucket, prefix } => {
                let scheme = match service {
                    Service::S3 => "s3",
                    Service::Google => "gs",
                    Service::Azure => "az",
                };
                let slash = if prefix.is_empty() { "" } else { "/" };
                write!(f, "{scheme}://{bucket}{slash}{prefix}")
            }
        }
    }
}

/// Without the values of settings, which can be secret.
impl fmt::Debug for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.settings.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("Storage").field("url", &self.to_string()).field("settings", &names).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        for url in ["file:", "memory:", "s3://b", "s3://my.bucket/a/b-c", "gs://b_1/x", "az://c"] {
            assert_eq!(url.parse::<Storage>().unwrap().to_string(), url);
        }
        assert_eq!("s3://b/p/".parse::<Storage>().unwrap().to_string(), "s3://b/p");
        for bad in [
            "",
            "file",
            "file:x",
            "memory:x",
            "s3:",
            "s3:b",
            "s3://",
            "s3:///p",
            "s3://u:p@b",
            "s3://b//p",
            "s3://b/../c",
            "s3://..",
            "s3://b?x=y",
            "http://b",
            "S3://b",
        ] {
            let error = bad.parse::<Storage>().unwrap_err();
            assert_eq!(*error.kind(), ErrorKind::Invalid, "{bad}");
            assert!(!error.to_string().contains("u:p"), "{error}");
        }
    }

    #[test]
    fn settings_are_not_shown() {
        let storage = Storage::default().set("AWS_SECRET_ACCESS_KEY", "hunter2");
        let shown = format!("{storage:?}");
        assert!(shown.contains("AWS_SECRET_ACCESS_KEY") && !shown.contains("hunter2"), "{shown}");
    }
}
