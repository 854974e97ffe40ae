//! Who the caller is at a registry.

use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::fmt;

use async_trait::async_trait;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::HeaderValue;
use oci_spec_types::{Host, Name};

/// Who the caller is at a registry. `Debug` shows no secret.
#[derive(Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Credentials {
    /// Nobody in particular.
    #[default]
    Anonymous,
    /// A user name and a password, sent as they are or exchanged for a token, as the registry demands.
    Basic {
        /// The user name.
        username: String,
        /// The password, or an access token that stands for one.
        password: String,
    },
    /// An identity token (also known as a refresh token), which the registry's token service exchanges for tokens.
    IdentityToken(String),
    /// A token that the registry itself takes, sent as it is.
    Bearer(String),
}

impl Credentials {
    /// A user name and a password.
    pub fn basic(username: impl Into<String>, password: impl Into<String>) -> Self {
        Self::Basic { username: username.into(), password: password.into() }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anonymous => f.write_str("Anonymous"),
            Self::Basic { username, .. } => {
                f.debug_struct("Basic").field("username", username).finish_non_exhaustive()
            }
            Self::IdentityToken(_) => f.write_str("IdentityToken(..)"),
            Self::Bearer(_) => f.write_str("Bearer(..)"),
        }
    }
}

/// Why credentials could not be found out. Its text is shown, so it must not hold a secret.
pub type CredentialError = Box<dyn StdError + Send + Sync>;

/// Knows who the caller is at which registry.
///
/// It is asked once for each repository, not for each request, and again when a registry does not take any more what it
/// gave. What it gives goes to that registry only, and to the token service which that registry names.
#[async_trait]
pub trait CredentialProvider: Send + Sync {
    /// The credentials for a registry, as it is named in references (`docker.io`, not `registry-1.docker.io`), and for
    /// a repository of it if one is asked for.
    async fn credentials(
        &self,
        host: &Host,
        repository: Option<&Name>,
    ) -> Result<Credentials, CredentialError>;
}

/// Credentials given beforehand; nobody in particular at all other registries.
///
/// ```
/// use oci_registry_client::{Credentials, StaticCredentials};
///
/// let credentials = StaticCredentials::new()
///     .with("registry.example".parse()?, Credentials::basic("alice", "secret"));
/// assert!(!format!("{credentials:?}").contains("secret"));
/// # Ok::<(), oci_spec_types::HostError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct StaticCredentials(BTreeMap<Host, Credentials>);

impl StaticCredentials {
    /// None at all: everybody is anonymous.
    pub fn new() -> Self {
        Self::default()
    }

    /// Also these credentials for this registry.
    #[must_use]
    pub fn with(mut self, host: Host, credentials: Credentials) -> Self {
        self.0.insert(host, credentials);
        self
    }
}

#[async_trait]
impl CredentialProvider for StaticCredentials {
    async fn credentials(
        &self,
        host: &Host,
        _repository: Option<&Name>,
    ) -> Result<Credentials, CredentialError> {
        Ok(self.0.get(host).cloned().unwrap_or_default())
    }
}

/// The value of an `Authorization` header, hidden from `Debug` and from header compression.
pub(crate) fn basic_header(username: &str, password: &str) -> Option<HeaderValue> {
    sensitive(&format!("Basic {}", BASE64_STANDARD.encode(format!("{username}:{password}"))))
}

/// The value of an `Authorization` header for a token; `None` if the token has characters that no header may have.
pub(crate) fn bearer_header(token: &str) -> Option<HeaderValue> {
    sensitive(&format!("Bearer {token}"))
}

fn sensitive(value: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(value).ok()?;
    value.set_sensitive(true);
    Some(value)
}
