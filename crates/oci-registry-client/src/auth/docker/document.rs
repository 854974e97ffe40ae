//! What stands in a configuration file of Docker or Podman. No error says what a value is: it may be a secret.

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::prelude::BASE64_STANDARD;
use oci_spec_types::{Host, Name};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::keys;
use crate::Credentials;

/// Base64 with or without padding.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The user name that stands for an identity token.
pub(crate) const TOKEN_USER: &str = "<token>";

/// A configuration file's content. What is not known of it is kept.
#[derive(Clone, PartialEq)]
pub(crate) struct Document {
    root: Map<String, Value>,
    legacy: bool,
}

/// What can stand in an entry.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Entry {
    auth: String,
    username: String,
    password: String,
    identitytoken: String,
    registrytoken: String,
}

impl Document {
    /// A file that has nothing.
    pub(crate) fn empty(legacy: bool) -> Self {
        Self { root: Map::new(), legacy }
    }

    /// Reads a file. Docker takes an empty one for one without entries.
    pub(crate) fn parse(bytes: &[u8], legacy: bool) -> Result<Self, String> {
        if bytes.trim_ascii().is_empty() {
            return Ok(Self::empty(legacy));
        }
        match serde_json::from_slice(bytes) {
            Ok(Value::Object(root)) => match root.get("auths") {
                Some(auths) if !legacy && !auths.is_object() && !auths.is_null() => {
                    Err("its \"auths\" is not a JSON object".to_owned())
                }
                _ => Ok(Self { root, legacy }),
            },
            Ok(_) => Err("it is not a JSON object".to_owned()),
            Err(error) => {
                Err(format!("it is not JSON, at line {} column {}", error.line(), error.column()))
            }
        }
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut text = format!("{:#}", Value::Object(self.root.clone()));
        text.push('\n');
        text.into_bytes()
    }

    /// The helpers to ask for a registry, in order: its own, then that for all. An empty name says that there is none.
    pub(crate) fn helpers(&self, host: &Host) -> Vec<&str> {
        if self.legacy {
            return Vec::new();
        }
        let own = self.root.get("credHelpers").and_then(Value::as_object).and_then(|helpers| {
            let wanted = keys::canonical(host.as_str());
            let mut found = helpers
                .iter()
                .filter(|(key, _)| keys::registry_of(key, false).as_ref() == Some(&wanted));
            found.find_map(|(_, name)| name.as_str())
        });
        if own == Some("") {
            return Vec::new();
        }
        let all = self.root.get("credsStore").and_then(Value::as_str);
        let mut names: Vec<_> =
            own.into_iter().chain(all).filter(|name| !name.is_empty()).collect();
        names.dedup();
        names
    }

    /// What the entries say of a repository, or of a registry. `Err` names the entry that is not well formed.
    pub(crate) fn find(
        &self,
        host: &Host,
        repository: Option<&Name>,
    ) -> Result<Option<Credentials>, String> {
        let Some(entries) = self.entries() else {
            return Ok(None);
        };
        let exact = keys::exact(host, repository);
        let exact = exact.iter().filter_map(|key| entries.get_key_value(key));
        let wanted = keys::canonical(host.as_str());
        let stripped = entries
            .iter()
            .filter(|(key, _)| keys::registry_of(key, self.legacy).as_ref() == Some(&wanted));
        for (key, entry) in exact.chain(stripped) {
            let found = read(entry).map_err(|reason| format!("its entry {key:?} {reason}"))?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// Puts an entry for a registry in the place of all that it had; `None` leaves the mark that a helper has it.
    pub(crate) fn put(&mut self, host: &Host, credentials: Option<&Credentials>) {
        self.remove(host);
        let entry = match credentials {
            Some(Credentials::Basic { username, password }) => {
                json!({ "auth": BASE64_STANDARD.encode(format!("{username}:{password}")) })
            }
            Some(Credentials::IdentityToken(token)) => json!({ "identitytoken": token }),
            Some(Credentials::Bearer(token)) => json!({ "registrytoken": token }),
            Some(Credentials::Anonymous) | None => json!({}),
        };
        self.entries_mut().insert(keys::stored(host), entry);
    }

    /// Removes a registry's entries, and says whether there were any. Those of its namespaces stay.
    pub(crate) fn remove(&mut self, host: &Host) -> bool {
        let wanted = keys::canonical(host.as_str());
        let legacy = self.legacy;
        let entries = self.entries_mut();
        let before = entries.len();
        entries.retain(|key, _| keys::registry_of(key, legacy).as_ref() != Some(&wanted));
        entries.len() < before
    }

    fn entries(&self) -> Option<&Map<String, Value>> {
        match self.legacy {
            true => Some(&self.root),
            false => self.root.get("auths")?.as_object(),
        }
    }

    /// The entries, with a place made for them.
    fn entries_mut(&mut self) -> &mut Map<String, Value> {
        if self.legacy {
            return &mut self.root;
        }
        let auths = self.root.entry("auths").or_insert(Value::Null);
        if auths.is_null() {
            *auths = json!({});
        }
        auths.as_object_mut().expect("a file with other auths is refused when it is read")
    }
}

/// What an entry says; nothing, if it is a mark that a helper has it.
fn read(entry: &Value) -> Result<Option<Credentials>, &'static str> {
    if entry.is_null() {
        return Ok(None);
    }
    let entry = Entry::deserialize(entry).map_err(|_| "is not made of texts")?;
    if !entry.identitytoken.is_empty() {
        return Ok(Some(Credentials::IdentityToken(entry.identitytoken)));
    }
    if !entry.registrytoken.is_empty() {
        return Ok(Some(Credentials::Bearer(entry.registrytoken)));
    }
    let (username, password) = match entry.auth.is_empty() {
        true => (entry.username, entry.password),
        false => decode(&entry.auth)?,
    };
    Ok(of_user(username, password))
}

/// Credentials of a user name and a secret, as files and helpers have them.
pub(crate) fn of_user(username: String, secret: String) -> Option<Credentials> {
    match username.as_str() {
        TOKEN_USER => Some(Credentials::IdentityToken(secret)),
        "" if secret.is_empty() => None,
        _ => Some(Credentials::Basic { username, password: secret }),
    }
}

/// Reads `auth`: a user name and a password in Base64, which old versions of Docker filled up with zeros.
fn decode(auth: &str) -> Result<(String, String), &'static str> {
    let bytes = LENIENT.decode(auth.trim()).map_err(|_| "has an \"auth\" that is not Base64")?;
    let text = String::from_utf8(bytes).map_err(|_| "has an \"auth\" that is not text")?;
    let (username, password) =
        text.split_once(':').ok_or("has an \"auth\" without a colon after the user name")?;
    Ok((username.to_owned(), password.trim_end_matches('\0').to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn host(text: &str) -> Host {
        text.parse().unwrap()
    }

    #[test]
    fn what_is_not_known_is_kept() {
        let text = br#"{"auths":{"r.example/team":{"auth":"eA=="}},"credHelpers":{"x.example":"h"},"psFormat":"{{.ID}}"}"#;
        let mut document = Document::parse(text, false).unwrap();
        let before = document.clone();
        document.put(&host("r.example"), Some(&Credentials::basic("alice", "secret")));
        assert!(document != before);
        assert!(document.remove(&host("r.example")));
        assert!(!document.remove(&host("r.example")));
        assert!(document == before);
    }

    #[test]
    fn the_form_before_docker_1_7() {
        let text = include_bytes!("../../../../../testdata/credentials/dockercfg");
        let document = Document::parse(text, true).unwrap();
        let find = |name: &str| document.find(&host(name), None).unwrap();
        assert_eq!(find("legacy.example"), Some(Credentials::basic("old", "timer")));
        assert_eq!(find("bare.example"), Some(Credentials::basic("old", "bare")));
        assert_eq!(find("r.example"), None);
        assert!(document.helpers(&host("r.example")).is_empty());
    }

    #[test]
    fn no_error_says_a_secret() {
        for entry in
            [r#""secret""#, r#"{"auth":"secret!"}"#, r#"{"auth":"c2VjcmV0"}"#, r#"{"auth":7}"#]
        {
            let text = format!(r#"{{"auths":{{"r.example":{entry}}}}}"#);
            let document = Document::parse(text.as_bytes(), false).unwrap();
            let error = document.find(&host("r.example"), None).unwrap_err();
            assert!(error.contains("r.example") && !error.contains("secret"), "{error}");
            assert!(!error.contains("c2Vj"), "{error}");
        }
        let error = Document::parse(br#"{"auths": secret"#, false).err().unwrap();
        assert_eq!(error, "it is not JSON, at line 1 column 11");
    }

    fn credentials() -> impl Strategy<Value = Credentials> {
        let token = "[!-~]{1,20}";
        prop_oneof![
            ("[^:<\0]{1,10}", "[^\0]{0,10}")
                .prop_map(|(user, password)| Credentials::basic(user, password)),
            token.prop_map(Credentials::IdentityToken),
            token.prop_map(Credentials::Bearer),
        ]
    }

    proptest! {
        #[test]
        fn what_is_put_is_found(credentials in credentials(), hub: bool, legacy: bool) {
            let host = host(if hub { "docker.io" } else { "r.example:5000" });
            let mut document = Document::empty(legacy);
            document.put(&host, Some(&Credentials::basic("old", "old")));
            document.put(&host, Some(&credentials));
            let read = Document::parse(&document.to_bytes(), legacy).unwrap();
            prop_assert_eq!(read.find(&host, None).unwrap(), Some(credentials));
            prop_assert!(document.remove(&host));
            prop_assert_eq!(document.find(&host, None).unwrap(), None);
        }

        #[test]
        fn padding_and_zeros_do_not_matter(user in "[a-z]{1,8}", password in "[ -~]{0,8}", zeros in 0..4usize) {
            let text = format!("{user}:{password}{}", "\0".repeat(zeros));
            let padded = BASE64_STANDARD.encode(text);
            let expected = Ok((user, password));
            prop_assert_eq!(decode(padded.trim_end_matches('=')), expected.clone());
            prop_assert_eq!(decode(&padded), expected);
        }

        #[test]
        fn anything_is_read_without_a_panic(text in r#"[{}\[\]",:a-z0-9 ]{0,60}"#, auth in "\\PC{0,20}", legacy: bool) {
            if let Ok(document) = Document::parse(text.as_bytes(), legacy) {
                let _ = document.find(&host("r.example"), None);
                document.helpers(&host("r.example"));
            }
            let _ = decode(&auth);
        }
    }
}
