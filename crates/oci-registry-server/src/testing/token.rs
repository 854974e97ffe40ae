//! Authentication as a test demands it: Basic, or tokens from a service of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::Request;
use axum::response::Response;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderMap, Method};
use oci_spec_types::ErrorCode;
use serde_json::json;
use tokio::time::Instant;

use super::Endpoint;
use super::endpoint::TOKEN_PATH;
use super::scope::{Scope, wanted};
use crate::error::Failure;
use crate::query::Query;
use crate::respond;

/// What the service calls itself.
const SERVICE: &str = "test-registry";

/// Who may ask a [`TestRegistry`](crate::TestRegistry), and how they say who they are.
///
/// ```
/// use oci_registry_server::TestAuth;
///
/// let open_to_all = TestAuth::bearer().token_uses(3);
/// let closed = TestAuth::bearer().user("alice", "secret").anonymous_pulls();
/// let simple = TestAuth::basic().user("alice", "secret");
/// # let _ = (open_to_all, closed, simple);
/// ```
#[derive(Clone)]
pub struct TestAuth {
    bearer: bool,
    users: BTreeMap<String, String>,
    anonymous_pulls: bool,
    uses: Option<u64>,
    lifetime: Duration,
}

impl TestAuth {
    /// Every request wants a user name and a password. Without [`user`](Self::user)s any are good.
    pub fn basic() -> Self {
        Self {
            bearer: false,
            users: BTreeMap::new(),
            anonymous_pulls: false,
            uses: None,
            lifetime: Duration::from_secs(300),
        }
    }

    /// Every request wants a token whose scopes allow it. The registry itself gives tokens, at `/token`: by GET, or by
    /// POST as OAuth 2 has it, refresh tokens included. Without [`user`](Self::user)s everybody gets whatever token they
    /// ask for.
    pub fn bearer() -> Self {
        Self { bearer: true, ..Self::basic() }
    }

    /// A user, who may do everything.
    #[must_use]
    pub fn user(mut self, name: impl Into<String>, password: impl Into<String>) -> Self {
        self.users.insert(name.into(), password.into());
        self
    }

    /// Whoever says nothing gets tokens to pull although there are users.
    #[must_use]
    pub fn anonymous_pulls(mut self) -> Self {
        self.anonymous_pulls = true;
        self
    }

    /// How many requests each token is good for, whatever its lifetime; then it has expired. Default: no limit.
    #[must_use]
    pub fn token_uses(mut self, requests: u64) -> Self {
        self.uses = Some(requests);
        self
    }

    /// How long a token is good, in whole seconds, on tokio's clock; the answer says so. Default: 300 s.
    #[must_use]
    pub fn token_lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = lifetime;
        self
    }
}

/// The credentials that a request brought. They are a test's own, so nothing hides them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Credentials {
    /// A user name and a password, in the header or in the form that asks for a token.
    Basic {
        /// The user name.
        username: String,
        /// The password.
        password: String,
    },
    /// A token.
    Bearer(String),
    /// A refresh token, in the form that asks for a token.
    Refresh(String),
}

impl Credentials {
    /// Those of a header.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let (scheme, rest) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
        if scheme.eq_ignore_ascii_case("bearer") {
            return Some(Self::Bearer(rest.trim().to_owned()));
        }
        if !scheme.eq_ignore_ascii_case("basic") {
            return None;
        }
        let text = String::from_utf8(BASE64_STANDARD.decode(rest.trim()).ok()?).ok()?;
        let (username, password) = text.split_once(':')?;
        Some(Self::Basic { username: username.to_owned(), password: password.to_owned() })
    }

    /// Those of a form.
    pub(super) fn of_form(form: &str) -> Option<Self> {
        let form = form.replace('+', " ");
        let form = Query::parse(Some(&form)).ok()?;
        let one = |name| form.one(name).ok().flatten().map(str::to_owned);
        match form.one("grant_type").ok()?? {
            "password" => {
                Some(Self::Basic { username: one("username")?, password: one("password")? })
            }
            "refresh_token" => Some(Self::Refresh(one("refresh_token")?)),
            _ => None,
        }
    }
}

/// Whoever answers `/token`, and knows which tokens are good.
pub(super) struct Gate {
    auth: TestAuth,
    url: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    given: u64,
    tokens: BTreeMap<String, Token>,
    refresh: BTreeSet<String>,
}

struct Token {
    scopes: Vec<Scope>,
    /// How many requests it is still good for.
    uses: Option<u64>,
    expires: Instant,
}

impl Gate {
    pub(super) fn new(auth: TestAuth, url: String) -> Arc<Self> {
        Arc::new(Self { auth, url, state: Mutex::default() })
    }

    /// Makes all tokens but refresh tokens worthless.
    pub(super) fn expire_tokens(&self) {
        self.lock().tokens.clear();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change under the lock is complete before anything can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers what is not for the registry: requests for tokens, and those that lack one.
    pub(super) fn answer(
        &self,
        request: &Request,
        endpoint: Endpoint,
        credentials: Option<&Credentials>,
        form: &str,
    ) -> Option<Response> {
        if !self.auth.bearer {
            return (!self.is_user(credentials)).then(|| self.challenge("Basic realm=\"test\""));
        }
        if endpoint == Endpoint::Token {
            let given = match *request.method() {
                Method::GET => self.give(request.uri().query().unwrap_or_default(), credentials),
                Method::POST => self.give(form, credentials),
                _ => Err(Failure::new(ErrorCode::Unsupported, "tokens are given by GET and POST")),
            };
            return Some(given.unwrap_or_else(Failure::into_response));
        }
        let scopes = wanted(endpoint, request.uri());
        let error = match credentials {
            Some(Credentials::Bearer(token)) => match self.use_token(token, &scopes) {
                Ok(()) => return None,
                Err(error) => format!(",error=\"{error}\""),
            },
            _ => String::new(),
        };
        let listed = scopes.iter().map(Scope::to_string).collect::<Vec<_>>().join(" ");
        let scope = match listed.as_str() {
            "" => String::new(),
            listed => format!(",scope=\"{listed}\""),
        };
        let realm = format!("{}{TOKEN_PATH}", self.url);
        let challenge = format!("Bearer realm=\"{realm}\",service=\"{SERVICE}\"{scope}{error}");
        Some(self.challenge(&challenge))
    }

    fn challenge(&self, challenge: &str) -> Response {
        Failure::new(ErrorCode::Unauthorized, "this test demands authentication")
            .with_header(WWW_AUTHENTICATE, respond::value(challenge))
            .into_response()
    }

    fn is_user(&self, credentials: Option<&Credentials>) -> bool {
        match credentials {
            Some(Credentials::Basic { username, password }) => {
                let users = &self.auth.users;
                users.is_empty() || users.get(username) == Some(password)
            }
            Some(Credentials::Refresh(token)) => self.lock().refresh.contains(token),
            _ => false,
        }
    }

    fn use_token(&self, token: &str, wanted: &[Scope]) -> Result<(), &'static str> {
        let mut state = self.lock();
        let token = state.tokens.get_mut(token).filter(|token| Instant::now() < token.expires);
        let token = token.ok_or("invalid_token")?;
        let left = match token.uses {
            Some(uses) => Some(uses.checked_sub(1).ok_or("invalid_token")?),
            None => None,
        };
        if !wanted.iter().all(|wanted| token.scopes.iter().any(|scope| scope.allows(wanted))) {
            return Err("insufficient_scope");
        }
        token.uses = left;
        Ok(())
    }

    /// Gives a token for the scopes that the query or form asks for.
    fn give(&self, text: &str, credentials: Option<&Credentials>) -> Result<Response, Failure> {
        // Both are forms, in which a space is a plus.
        let text = text.replace('+', " ");
        let asked = Query::parse(Some(&text))?;
        if asked.one("service")? != Some(SERVICE) {
            let failure = Failure::bad_request(format!("service: expected {SERVICE:?}"));
            return Err(failure);
        }
        let scopes = asked.all("scope").flat_map(str::split_whitespace).map(Scope::parse);
        let mut scopes = scopes
            .collect::<Option<Vec<Scope>>>()
            .ok_or_else(|| Failure::bad_request("scope: expected <type>:<name>:<actions>"))?;
        let anonymous = credentials.is_none();
        if anonymous && !self.auth.users.is_empty() {
            if !self.auth.anonymous_pulls {
                return Err(refused());
            }
            scopes.iter_mut().for_each(Scope::only_pull);
        }
        if !anonymous && !self.is_user(credentials) {
            return Err(refused());
        }
        let offline = asked.one("offline_token")? == Some("true")
            || asked.one("access_type")? == Some("offline");
        let mut state = self.lock();
        state.given += 1;
        let token = format!("token-{}", state.given);
        let mut answer = json!({
            "token": token,
            "access_token": token,
            "expires_in": self.auth.lifetime.as_secs(),
        });
        if offline && !anonymous {
            let refresh = format!("refresh-{}", state.given);
            answer["refresh_token"] = refresh.as_str().into();
            state.refresh.insert(refresh);
        }
        let expires = Instant::now() + self.auth.lifetime;
        state.tokens.insert(token, Token { scopes, uses: self.auth.uses, expires });
        Ok(respond::document(respond::JSON, respond::json(&answer)))
    }
}

fn refused() -> Failure {
    Failure::new(ErrorCode::Unauthorized, "there is no such user")
}
