//! Answering what a registry wants to see before it answers.

pub(crate) mod challenge;
mod credentials;
pub(crate) mod docker;
mod scope;
mod token;

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use http::{HeaderMap, HeaderValue};
use oci_ref::ErrorKind;
use oci_spec_types::{ErrorCode, Name};
use reqwest::Url;

pub use self::credentials::{CredentialError, CredentialProvider, Credentials, StaticCredentials};
pub use self::docker::DockerConfig;
pub(crate) use self::scope::Scopes;
pub(crate) use self::token::Tokens;

use self::challenge::{BearerChallenge, Challenge};
use self::token::TokenKey;
use crate::registry::Registry;
use crate::{Error, Obstacle, Result, redact};

/// What a registry has demanded so far, so that it need not refuse each request first.
#[derive(Default)]
pub(crate) struct Learned(Mutex<Demands>);

#[derive(Default, Clone)]
struct Demands {
    challenge: Option<Demand>,
    /// For what was asked for, what the registry wanted instead.
    wider: HashMap<Scopes, Scopes>,
}

#[derive(Clone)]
enum Demand {
    Basic,
    Bearer { realm: Url, service: Option<String> },
}

/// The most scope sets remembered for a registry.
const MAX_WIDER: usize = 1024;

/// What the provider has said of a registry and its repositories, so that it is not asked for each request: it may be a
/// program that takes its time.
#[derive(Default)]
pub(crate) struct Known(tokio::sync::Mutex<HashMap<Option<Name>, Credentials>>);

/// The most repositories for which credentials are remembered.
const MAX_KNOWN: usize = 1024;

/// For whom and for what a request is made.
#[derive(Clone, Copy)]
pub(crate) struct Purpose<'a> {
    pub(crate) repository: Option<&'a Name>,
    pub(crate) scopes: &'a Scopes,
}

impl Registry {
    /// The `Authorization` that the registry is known to want; `None` as long as it has demanded nothing.
    pub(crate) async fn authorization(&self, purpose: Purpose<'_>) -> Result<Option<HeaderValue>> {
        let demands = self.state().learned.lock().clone();
        let Some(demand) = demands.challenge else { return Ok(None) };
        let scopes = demands.wider.get(purpose.scopes).unwrap_or(purpose.scopes).clone();
        let credentials = self.credentials(purpose.repository, None).await?;
        self.satisfy(demand, purpose, scopes, credentials).await
    }

    /// Answers a `401`; `None` if there is nothing (more) to answer it with. `refused` is what was sent.
    /// Not before that is it asked for who the caller is: where credentials are kept, something may
    /// be wrong that does not matter to a registry that is open to all.
    pub(crate) async fn answer(
        &self,
        headers: &HeaderMap,
        url: &Url,
        purpose: Purpose<'_>,
        refused: Option<&HeaderValue>,
    ) -> Result<Option<HeaderValue>> {
        let mut challenges = challenge::supported(headers);
        let mut credentials = self.credentials(purpose.repository, None).await?;
        if challenges.is_empty() && matches!(credentials, Credentials::Bearer(_)) {
            // What is sent as it is needs no challenge.
            challenges.push(Challenge::Basic);
        }
        if let Some(refused) = refused {
            self.client().tokens().forget(&self.origin_text(), refused);
        }
        let Some(challenge) = challenge::choose(challenges, &credentials) else { return Ok(None) };
        let mut scopes = purpose.scopes.clone();
        let demand = match challenge {
            Challenge::Basic => Demand::Basic,
            Challenge::Bearer(bearer) => {
                scopes = scopes.merge(&Scopes::parse(bearer.scope.as_deref().unwrap_or_default()));
                Demand::Bearer { realm: self.realm(&bearer, url)?, service: bearer.service }
            }
        };
        self.state().learned.remember(&demand, purpose.scopes, &scopes);
        let sent = self.sent_as(&demand, &credentials)?;
        if sent.as_ref() == refused && (sent.is_some() || matches!(demand, Demand::Basic)) {
            // They may have changed since the provider was asked.
            credentials = self.credentials(purpose.repository, Some(&credentials)).await?;
        }
        let answer = self.satisfy(demand, purpose, scopes, credentials).await?;
        Ok(answer.filter(|answer| Some(answer) != refused))
    }

    async fn satisfy(
        &self,
        demand: Demand,
        purpose: Purpose<'_>,
        scopes: Scopes,
        credentials: Credentials,
    ) -> Result<Option<HeaderValue>> {
        match &demand {
            Demand::Bearer { realm, service } if !matches!(credentials, Credentials::Bearer(_)) => {
                let (registry, realm) = (self.origin_text(), realm.clone());
                let key = TokenKey { registry, realm, service: service.clone(), scopes };
                self.token(key, purpose, &credentials).await.map(Some)
            }
            _ => self.sent_as(&demand, &credentials),
        }
    }

    /// A token; if the service does not give one for deleting, one for everything.
    async fn token(
        &self,
        mut key: TokenKey,
        purpose: Purpose<'_>,
        credentials: &Credentials,
    ) -> Result<HeaderValue> {
        let tokens = self.client().tokens();
        let refused = match tokens.get(self, &key, purpose.repository, credentials).await {
            Err(error) if error.has_status(400) || error.has_status(403) => error,
            fetched => return fetched,
        };
        let Some(scopes) = key.scopes.without_delete() else {
            return Err(refused);
        };
        key.scopes = scopes.clone();
        match tokens.get(self, &key, purpose.repository, credentials).await {
            Ok(token) => {
                self.state().learned.remember_scopes(purpose.scopes, &scopes);
                Ok(token)
            }
            Err(_) => Err(refused),
        }
    }

    /// What credentials are sent as, if the registry itself takes them.
    fn sent_as(&self, demand: &Demand, credentials: &Credentials) -> Result<Option<HeaderValue>> {
        match (demand, credentials) {
            (_, Credentials::Bearer(token)) => self.bearer(token).map(Some),
            (Demand::Basic, Credentials::Basic { username, password }) => {
                Ok(credentials::basic_header(username, password))
            }
            _ => Ok(None),
        }
    }

    /// The address of the token service. A registry that is reached by https must not name one that is not; one that is
    /// reached by plain HTTP may name itself, or what may be reached so as well.
    fn realm(&self, challenge: &BearerChallenge, url: &Url) -> Result<Url> {
        let refuse = |reason: String| {
            let reason = self.client().secrets().blank(&reason).into_owned();
            Err(Error::new(ErrorCode::Unauthorized, format!("token for {}", self.host()), reason))
        };
        let mut realm = match url.join(&challenge.realm) {
            Ok(realm) => realm,
            Err(error) => {
                let shown = redact::text(&challenge.realm);
                return refuse(format!(
                    "the registry names {shown:?} as its token service: {error}"
                ));
            }
        };
        let _ = (realm.set_username(""), realm.set_password(None));
        match (url.scheme(), realm.scheme()) {
            (_, "https") => Ok(realm),
            ("http", "http") if realm.host() == url.host() || self.may_be_plain(&realm) => {
                Ok(realm)
            }
            _ => refuse(format!(
                "the registry names a token service that is not reached by https: {}",
                redact::url(&realm)
            )),
        }
    }

    /// Whether the host of an address may be reached by plain HTTP.
    fn may_be_plain(&self, url: &Url) -> bool {
        let port = url.port().map_or(String::new(), |port| format!(":{port}"));
        let host = format!("{}{port}", url.host_str().unwrap_or_default()).parse();
        host.is_ok_and(|host| self.client().config().plain_http.covers(&host))
    }

    fn bearer(&self, token: &str) -> Result<HeaderValue> {
        credentials::bearer_header(token).ok_or_else(|| {
            Error::new(
                ErrorKind::Invalid,
                format!("credentials for {}", self.host()),
                "the token has characters that no header may have",
            )
        })
    }

    /// What the provider says. It is asked again if what it said before is what was `rejected`.
    async fn credentials(
        &self,
        repository: Option<&Name>,
        rejected: Option<&Credentials>,
    ) -> Result<Credentials> {
        // Held while the provider is asked, so that it is asked once however many wait.
        let mut known = self.state().credentials.0.lock().await;
        let key = repository.cloned();
        if let Some(found) = known.get(&key).filter(|found| Some(*found) != rejected) {
            return Ok(found.clone());
        }
        let provider = &self.client().config().credentials;
        let found = provider.credentials(self.host(), repository).await.map_err(|source| {
            Error::new(
                ErrorCode::Unauthorized,
                format!("credentials for {}", self.host()),
                format!("they could not be found out: {source}"),
            )
            .with_obstacle(Obstacle::Credentials)
            .with_source(source)
        })?;
        self.client().secrets().learn(&found);
        if known.len() >= MAX_KNOWN {
            known.clear();
        }
        known.insert(key, found.clone());
        Ok(found)
    }
}

impl Learned {
    fn lock(&self) -> std::sync::MutexGuard<'_, Demands> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&self, demand: &Demand, asked: &Scopes, wanted: &Scopes) {
        self.lock().challenge = Some(demand.clone());
        self.remember_scopes(asked, wanted);
    }

    fn remember_scopes(&self, asked: &Scopes, wanted: &Scopes) {
        if wanted != asked {
            let mut demands = self.lock();
            if demands.wider.len() >= MAX_WIDER {
                demands.wider.clear();
            }
            demands.wider.insert(asked.clone(), wanted.clone());
        }
    }
}
