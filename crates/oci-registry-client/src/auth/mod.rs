//! Answering what a registry wants to see before it answers.

mod challenge;
mod credentials;
mod scope;
mod token;

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use http::{HeaderMap, HeaderValue};
use oci_ref::ErrorKind;
use oci_spec_types::{ErrorCode, Name};
use reqwest::Url;

pub use self::credentials::{CredentialError, CredentialProvider, Credentials, StaticCredentials};
pub(crate) use self::scope::Scopes;
pub(crate) use self::token::Tokens;

use self::challenge::{BearerChallenge, Challenge};
use self::token::TokenKey;
use crate::registry::Registry;
use crate::{Error, Result, redact};

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
        match demands.challenge {
            None => match self.credentials(purpose).await? {
                Credentials::Bearer(token) => self.bearer(&token).map(Some),
                _ => Ok(None),
            },
            Some(demand) => {
                let scopes = demands.wider.get(purpose.scopes).unwrap_or(purpose.scopes).clone();
                self.satisfy(demand, purpose, scopes).await
            }
        }
    }

    /// Answers a `401`; `None` if there is nothing (more) to answer it with. `refused` is what was sent.
    pub(crate) async fn answer(
        &self,
        headers: &HeaderMap,
        url: &Url,
        purpose: Purpose<'_>,
        refused: Option<&HeaderValue>,
    ) -> Result<Option<HeaderValue>> {
        let Some(challenge) = challenge::first_supported(headers) else {
            return Ok(None);
        };
        if let Some(refused) = refused {
            self.client().tokens().forget(&self.origin_text(), refused);
        }
        let mut scopes = purpose.scopes.clone();
        let demand = match challenge {
            Challenge::Basic => Demand::Basic,
            Challenge::Bearer(bearer) => {
                scopes = scopes.merge(&Scopes::parse(bearer.scope.as_deref().unwrap_or_default()));
                Demand::Bearer { realm: self.realm(&bearer, url)?, service: bearer.service }
            }
        };
        self.state().learned.remember(&demand, purpose.scopes, &scopes);
        let answer = self.satisfy(demand, purpose, scopes).await?;
        Ok(answer.filter(|answer| Some(answer) != refused))
    }

    async fn satisfy(
        &self,
        demand: Demand,
        purpose: Purpose<'_>,
        scopes: Scopes,
    ) -> Result<Option<HeaderValue>> {
        let credentials = self.credentials(purpose).await?;
        match (demand, &credentials) {
            (_, Credentials::Bearer(token)) => self.bearer(token).map(Some),
            (Demand::Basic, Credentials::Basic { username, password }) => {
                Ok(credentials::basic_header(username, password))
            }
            (Demand::Basic, _) => Ok(None),
            (Demand::Bearer { realm, service }, credentials) => {
                let key = TokenKey { registry: self.origin_text(), realm, service, scopes };
                self.client().tokens().get(self, &key, credentials).await.map(Some)
            }
        }
    }

    /// The address of the token service. A registry that is reached by https must not name one that is not.
    fn realm(&self, challenge: &BearerChallenge, url: &Url) -> Result<Url> {
        let refuse = |reason: String| {
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
            (_, "https") | ("http", "http") => Ok(realm),
            _ => refuse(format!(
                "the registry names a token service that is not reached by https: {}",
                redact::url(&realm)
            )),
        }
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

    async fn credentials(&self, purpose: Purpose<'_>) -> Result<Credentials> {
        let provider = &self.client().config().credentials;
        provider.credentials(self.host(), purpose.repository).await.map_err(|source| {
            Error::new(
                ErrorCode::Unauthorized,
                format!("credentials for {}", self.host()),
                format!("they could not be found out: {source}"),
            )
            .with_source(source)
        })
    }
}

impl Learned {
    fn lock(&self) -> std::sync::MutexGuard<'_, Demands> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&self, demand: &Demand, asked: &Scopes, wanted: &Scopes) {
        let mut demands = self.lock();
        demands.challenge = Some(demand.clone());
        if wanted != asked {
            if demands.wider.len() >= MAX_WIDER {
                demands.wider.clear();
            }
            demands.wider.insert(asked.clone(), wanted.clone());
        }
    }
}
