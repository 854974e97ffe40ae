//! Tokens: fetched from the service that a registry names, and kept until shortly before they expire.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, header};
use oci_ref::ErrorKind;
use oci_spec_types::{ErrorCode, Name};
use reqwest::Url;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::Instant;

use super::Scopes;
use super::credentials::{Credentials, basic_header, bearer_header};
use crate::payload::Payload;
use crate::registry::Registry;
use crate::request::{About, Request};
use crate::{Error, Result};

/// The most that a token service's answer may have: 1 MiB.
const MAX_ANSWER: u64 = 1 << 20;

/// How long a token lives at least, whatever the service says: 60 s (distribution's token specification).
const MIN_LIFE: Duration = Duration::from_secs(60);

/// The most tokens kept.
const MAX_KEPT: usize = 1024;

/// What names this program at a token service.
const CLIENT_ID: &str = "oci-registry-client";

/// What a token is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct TokenKey {
    /// The origin of the registry.
    pub(crate) registry: String,
    pub(crate) realm: Url,
    pub(crate) service: Option<String>,
    pub(crate) scopes: Scopes,
}

impl TokenKey {
    fn is_covered_by(&self, other: &Self) -> bool {
        self.registry == other.registry
            && self.realm == other.realm
            && self.service == other.service
            && other.scopes.include(&self.scopes)
    }
}

#[derive(Clone)]
struct Token {
    header: HeaderValue,
    refresh_at: Instant,
}

impl Token {
    fn is_fresh(&self) -> bool {
        Instant::now() < self.refresh_at
    }
}

type Slot = Arc<tokio::sync::Mutex<Option<Token>>>;

/// The tokens of a client, shared by its clones.
#[derive(Default)]
pub(crate) struct Tokens(Mutex<HashMap<TokenKey, Slot>>);

impl Tokens {
    /// A token for a key: one that is kept, or a new one. However many ask at once, it is fetched once.
    pub(crate) async fn get(
        &self,
        registry: &Registry,
        key: &TokenKey,
        repository: Option<&Name>,
        credentials: &Credentials,
    ) -> Result<HeaderValue> {
        if let Some(token) = self.find(key) {
            return Ok(token.header);
        }
        let slot = self.slot(key);
        let mut kept = slot.lock().await;
        if let Some(token) = kept.as_ref().filter(|token| token.is_fresh()) {
            return Ok(token.header.clone());
        }
        let token = match fetch(registry, key, credentials).await {
            Err(error) if error.has_status(401) => {
                // The credentials may have changed since the provider was asked.
                let now = registry.credentials(repository, Some(credentials)).await?;
                if now == *credentials {
                    return Err(error);
                }
                fetch(registry, key, &now).await?
            }
            fetched => fetched?,
        };
        let header = token.header.clone();
        *kept = Some(token);
        Ok(header)
    }

    /// Forgets tokens that the registry did not accept.
    pub(crate) fn forget(&self, registry: &str, refused: &HeaderValue) {
        for (_, slot) in self.lock().iter().filter(|(key, _)| key.registry == registry) {
            // A slot that is held is getting another token just now.
            if let Ok(mut kept) = slot.try_lock()
                && kept.as_ref().is_some_and(|token| token.header == *refused)
            {
                *kept = None;
            }
        }
    }

    /// A token that allows at least what is asked for.
    fn find(&self, key: &TokenKey) -> Option<Token> {
        let tokens = self.lock();
        let mut covering = tokens.iter().filter(|(other, _)| key.is_covered_by(other));
        covering.find_map(|(_, slot)| slot.try_lock().ok()?.clone().filter(Token::is_fresh))
    }

    fn slot(&self, key: &TokenKey) -> Slot {
        let mut tokens = self.lock();
        if tokens.len() >= MAX_KEPT {
            tokens.retain(|_, slot| {
                let kept = slot.try_lock();
                kept.map_or(true, |kept| kept.as_ref().is_some_and(Token::is_fresh))
            });
        }
        if tokens.len() >= MAX_KEPT {
            tokens.clear();
        }
        tokens.entry(key.clone()).or_default().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<TokenKey, Slot>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Fetches a token: an identity token is exchanged by POST, all else by GET; a service without POST gets a GET.
async fn fetch(registry: &Registry, key: &TokenKey, credentials: &Credentials) -> Result<Token> {
    let asked = Instant::now();
    let answer = match credentials {
        Credentials::IdentityToken(token) => match exchange(registry, key, token).await {
            Err(error) if matches!(error.status(), Some(404 | 405)) => {
                get(registry, key, basic_header("<token>", token)).await?
            }
            answer => answer?,
        },
        Credentials::Basic { username, password } => {
            get(registry, key, basic_header(username, password)).await?
        }
        Credentials::Anonymous | Credentials::Bearer(_) => get(registry, key, None).await?,
    };
    let unusable = |reason: String| {
        let reason = registry.client().secrets().blank(&reason).into_owned();
        Error::new(ErrorKind::Code(ErrorCode::Unauthorized), about(key).what, reason)
    };
    let answer: Answer = serde_json::from_slice(&answer).map_err(|error| {
        unusable(format!("the token service's answer is not understood: {error}"))
    })?;
    let token =
        [&answer.token, &answer.access_token].into_iter().flatten().find(|token| !token.is_empty());
    let token = token.ok_or_else(|| unusable("the token service's answer has no token".into()))?;
    let header = bearer_header(token)
        .ok_or_else(|| unusable("the token has characters that no header may have".into()))?;
    registry.client().secrets().learn_sent(&header);
    Ok(Token { header, refresh_at: asked + answer.life(jiff::Timestamp::now()) })
}

async fn get(
    registry: &Registry,
    key: &TokenKey,
    authorization: Option<HeaderValue>,
) -> Result<Bytes> {
    let mut url = key.realm.clone();
    {
        let mut query = url.query_pairs_mut();
        query.extend_pairs(key.service.iter().map(|service| ("service", service)));
        query.extend_pairs(key.scopes.iter().map(|scope| ("scope", scope)));
    }
    if url.query() == Some("") {
        url.set_query(None);
    }
    let request = Request::new(Method::GET, url, about(key));
    ask(registry, &request, authorization).await
}

async fn exchange(registry: &Registry, key: &TokenKey, token: &str) -> Result<Bytes> {
    let scopes: Vec<_> = key.scopes.iter().collect();
    let mut form = key.realm.clone();
    form.set_query(None);
    form.query_pairs_mut()
        .append_pair("grant_type", "refresh_token")
        .append_pair("service", key.service.as_deref().unwrap_or_default())
        .append_pair("client_id", CLIENT_ID)
        .append_pair("scope", &scopes.join(" "))
        .append_pair("refresh_token", token);
    let form = Bytes::from(form.query().unwrap_or_default().to_owned());
    let request = Request::new(Method::POST, key.realm.clone(), about(key))
        .header(header::CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"))
        .secret(Payload::Bytes(form));
    ask(registry, &request, None).await
}

async fn ask(
    registry: &Registry,
    request: &Request<'_>,
    authorization: Option<HeaderValue>,
) -> Result<Bytes> {
    let authorization = authorization.as_ref().map(|header| (header, &request.url));
    let response = registry.follow(request, authorization).await?;
    response.accept(request).await?.bytes(MAX_ANSWER).await
}

fn about(key: &TokenKey) -> About {
    let scopes: Vec<_> = key.scopes.iter().collect();
    let what = match scopes.as_slice() {
        [] => format!("token for {}", key.registry),
        scopes => format!("token for {} with {}", key.registry, scopes.join(" ")),
    };
    About::new(what, ErrorCode::Unauthorized)
}

#[derive(Deserialize)]
struct Answer {
    token: Option<String>,
    access_token: Option<String>,
    /// A number, in some services' answers as text.
    expires_in: Option<Value>,
    issued_at: Option<Value>,
}

impl Answer {
    /// How long after the question the token can be used, less a reserve. A service may hand out a token that it issued
    /// before; a time of issue that makes no sense is ignored.
    fn life(&self, now: jiff::Timestamp) -> Duration {
        let seconds = self.expires_in.as_ref().and_then(seconds).unwrap_or(0);
        // A day is long enough to ask again.
        let life = Duration::from_secs(seconds.min(24 * 3600)).max(MIN_LIFE);
        let issued = self.issued_at.as_ref().and_then(Value::as_str);
        let issued = issued.and_then(|text| text.parse::<jiff::Timestamp>().ok());
        let age = issued.and_then(|issued| Duration::try_from(now.duration_since(issued)).ok());
        let left = life - age.filter(|age| *age < life).unwrap_or_default();
        left - (left / 4).min(Duration::from_secs(30))
    }
}

fn seconds(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lives() {
        let now = "2026-01-01T00:10:00Z".parse().unwrap();
        let cases = [
            (r#"{}"#, 45),
            (r#"{"expires_in":10}"#, 45),
            (r#"{"expires_in":-5}"#, 45),
            (r#"{"expires_in":300}"#, 270),
            (r#"{"expires_in":300,"issued_at":"2026-01-01T00:09:00Z"}"#, 210),
            (r#"{"expires_in":300,"issued_at":"2025-01-01T00:00:00Z"}"#, 270),
            (r#"{"expires_in":300,"issued_at":"2027-01-01T00:00:00Z"}"#, 270),
            (r#"{"expires_in":300,"issued_at":"yesterday"}"#, 270),
            (r#"{"expires_in":18446744073709551615}"#, 24 * 3600 - 30),
            (r#"{"expires_in":"300"}"#, 270),
            (r#"{"expires_in":300.5,"issued_at":1767225600}"#, 45),
            (r#"{"expires_in":null,"issued_at":null}"#, 45),
        ];
        for (answer, expected) in cases {
            let parsed: Answer = serde_json::from_str(answer).unwrap();
            assert_eq!(parsed.life(now), Duration::from_secs(expected), "{answer}");
        }
    }
}
