//! Secrets that were sent, so that no text shows them that a peer sends back.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine;
use base64::prelude::BASE64_STANDARD_NO_PAD;
use http::HeaderValue;
use serde_json::Value;

use crate::Credentials;

/// The text that stands in the place of a secret.
const BLANK: &str = "REDACTED";

/// The shortest text that is blanked, in bytes: what is shorter stands in too many words.
const MIN_LENGTH: usize = 4;

/// The most texts that are remembered; the oldest go first.
const MAX_REMEMBERED: usize = 4096;

/// The secrets of a client. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct Secrets(Arc<Mutex<VecDeque<String>>>);

impl Secrets {
    /// Remembers what is in credentials.
    pub(crate) fn learn(&self, credentials: &Credentials) {
        match credentials {
            Credentials::Anonymous => {}
            Credentials::Basic { username, password } => {
                self.add(password);
                let both = format!("{username}:{password}");
                self.add(&BASE64_STANDARD_NO_PAD.encode(&both));
                self.add(&both);
            }
            Credentials::IdentityToken(token) | Credentials::Bearer(token) => {
                self.add(token);
                self.add(&BASE64_STANDARD_NO_PAD.encode(format!("<token>:{token}")));
            }
        }
    }

    /// Remembers the secret in the value of an `Authorization` header.
    pub(crate) fn learn_sent(&self, authorization: &HeaderValue) {
        if let Some((_, secret)) = authorization.to_str().unwrap_or_default().split_once(' ') {
            self.add(secret.trim_end_matches('='));
        }
    }

    fn add(&self, secret: &str) {
        let escaped: String = form_urlencoded(secret);
        let mut known = self.lock();
        for text in [secret, &escaped] {
            if text.len() >= MIN_LENGTH && !known.iter().any(|other| other == text) {
                if known.len() >= MAX_REMEMBERED {
                    known.pop_front();
                }
                known.push_back(text.to_owned());
            }
        }
    }

    /// Returns a text without the secrets.
    pub(crate) fn blank<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut shown = Cow::Borrowed(text);
        let mut found: Vec<String> = {
            let known = self.lock();
            known.iter().filter(|secret| text.contains(secret.as_str())).cloned().collect()
        };
        // One may be a part of another.
        found.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        for secret in found {
            shown = Cow::Owned(shown.replace(&secret, BLANK));
        }
        shown
    }

    /// Takes the secrets out of all texts of a JSON value.
    pub(crate) fn blank_json(&self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.blank(text).into_owned(),
            Value::Array(items) => items.iter_mut().for_each(|item| self.blank_json(item)),
            Value::Object(entries) => {
                let blanked = std::mem::take(entries).into_iter().map(|(key, mut value)| {
                    self.blank_json(&mut value);
                    (self.blank(&key).into_owned(), value)
                });
                *entries = blanked.collect();
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secrets").finish_non_exhaustive()
    }
}

/// A text as it stands in a query or a form.
fn form_urlencoded(text: &str) -> String {
    reqwest::Url::parse_with_params("http://x/", [("", text)])
        .ok()
        .and_then(|url| url.query().map(|query| query.trim_start_matches('=').to_owned()))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_blanked_in_every_form() {
        let secrets = Secrets::default();
        secrets.learn(&Credentials::basic("bob", "pass&word"));
        secrets.learn(&Credentials::IdentityToken("identity".into()));
        secrets.learn_sent(&HeaderValue::from_static("Bearer eyJ.token"));
        secrets.learn(&Credentials::basic("bob", "abc"));
        for (text, shown) in [
            ("you sent pass&word", "you sent REDACTED"),
            ("q?password=pass%26word", "q?password=REDACTED"),
            ("Basic Ym9iOnBhc3Mmd29yZA==", "Basic REDACTED=="),
            ("bob:pass&word", "REDACTED"),
            ("Bearer eyJ.token, identity", "Bearer REDACTED, REDACTED"),
            ("bob:abc", "REDACTED"),
            ("abc is in abcess", "abc is in abcess"),
            ("nothing", "nothing"),
        ] {
            assert_eq!(secrets.blank(text), shown);
        }
        let mut value = serde_json::json!({"identity": [{"a": "x identity"}, 1, null]});
        secrets.blank_json(&mut value);
        assert_eq!(value, serde_json::json!({"REDACTED": [{"a": "x REDACTED"}, 1, null]}));
    }

    #[test]
    fn not_all_secrets_of_all_times_are_remembered() {
        let secrets = Secrets::default();
        for number in 0..=MAX_REMEMBERED {
            secrets.add(&format!("secret-{number:05}"));
        }
        assert_eq!(secrets.lock().len(), MAX_REMEMBERED);
        assert_eq!(secrets.blank("secret-00000 secret-00001"), "secret-00000 REDACTED");
    }
}
