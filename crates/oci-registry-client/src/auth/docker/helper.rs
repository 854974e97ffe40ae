//! Credential helpers: programs `docker-credential-NAME` that keep secrets, spoken to by their standard input and output.

use std::ffi::OsString;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use oci_ref::ErrorKind;
use oci_spec_types::Host;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

use super::document::{TOKEN_USER, of_user};
use super::keys;
use crate::{Credentials, Error, Result, redact};

/// The most that a helper's answer may have, in bytes.
const MAX_ANSWER: u64 = 1 << 20;

/// What helpers say when they do not know a registry.
const NOT_FOUND: &str = "credentials not found in native keychain";

/// A helper, by its name.
pub(super) struct Helper<'a> {
    pub(super) name: &'a str,
    /// The file that names it.
    pub(super) file: &'a Path,
    /// Where it lies; else in one of the directories in `PATH`.
    pub(super) directory: Option<&'a Path>,
    /// How long it may take.
    pub(super) timeout: Duration,
}

/// The user name and the secret in a helper's answer. Helpers are read by Go programs, which take
/// keys in any case.
fn parse(answer: &[u8]) -> Option<(String, String)> {
    let entries: serde_json::Map<String, Value> = serde_json::from_slice(answer).ok()?;
    let read = |name: &str| {
        let found = entries.get(name).or_else(|| {
            let mut entries = entries.iter();
            entries.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
        });
        match found {
            None | Some(Value::Null) => Some(String::new()),
            Some(value) => value.as_str().map(str::to_owned),
        }
    };
    Some((read("Username")?, read("Secret")?))
}

impl Helper<'_> {
    /// What the helper knows of a registry, if anything.
    pub(super) async fn get(&self, host: &Host) -> Result<Option<Credentials>> {
        for key in keys::of_helpers(host) {
            let Some(answer) = self.run("get", key.as_bytes()).await? else { continue };
            // Nothing of it is shown: it is a secret.
            let (username, secret) = parse(&answer).ok_or_else(|| {
                self.error(ErrorKind::Invalid, "get", "its answer is not understood".to_owned())
            })?;
            let found = of_user(username, secret);
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// Lets the helper keep credentials.
    pub(super) async fn store(&self, host: &Host, credentials: &Credentials) -> Result<()> {
        let (username, secret) = match credentials {
            Credentials::Basic { username, password } => (username.as_str(), password),
            Credentials::IdentityToken(token) => (TOKEN_USER, token),
            Credentials::Anonymous | Credentials::Bearer(_) => {
                let reason = "it keeps passwords and identity tokens only".to_owned();
                return Err(self.error(ErrorKind::Invalid, "store", reason));
            }
        };
        let entry =
            json!({ "ServerURL": keys::stored(host), "Username": username, "Secret": secret });
        self.run("store", entry.to_string().as_bytes()).await.map(|_| ())
    }

    /// Lets the helper forget a registry. That it does not know it is no error.
    pub(super) async fn erase(&self, host: &Host) -> Result<()> {
        for key in keys::of_helpers(host) {
            self.run("erase", key.as_bytes()).await?;
        }
        Ok(())
    }

    fn error(&self, kind: ErrorKind, action: &str, reason: String) -> Error {
        let (name, file) = (self.name.escape_debug(), self.file.display());
        let about =
            format!("credential helper docker-credential-{name} ({action}), named in {file}");
        Error::new(kind, about, reason)
    }

    /// The program. A name that is a path is refused: configuration must not choose any program.
    fn program(&self) -> Option<OsString> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if self.name.is_empty() || !self.name.chars().all(plain) {
            return None;
        }
        let program = format!("docker-credential-{}", self.name);
        Some(match self.directory {
            Some(directory) => directory.join(program).into_os_string(),
            None => program.into(),
        })
    }

    /// Runs the helper, and gives what it says; `None` if it does not know the registry.
    async fn run(&self, action: &str, input: &[u8]) -> Result<Option<Vec<u8>>> {
        let fail = |kind, reason| self.error(kind, action, reason);
        let program = self
            .program()
            .ok_or_else(|| fail(ErrorKind::Invalid, "it is no name of a helper".to_owned()))?;
        let mut child = Command::new(program)
            .arg(action)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| {
                let reason = match (error.kind(), self.directory) {
                    (std::io::ErrorKind::NotFound, None) => {
                        "there is no such program in PATH".to_owned()
                    }
                    _ => format!("it cannot be started: {error}"),
                };
                fail(ErrorKind::Io, reason)
            })?;
        let (stdin, stdout, stderr) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (mut answer, mut complaint) = (Vec::new(), Vec::new());
        let talk = async {
            let write = async {
                if let Some(mut stdin) = stdin {
                    // A helper need not read what it is told: its exit status counts.
                    let _ = stdin.write_all(input).await;
                }
            };
            let read = async {
                match stdout {
                    Some(stdout) => stdout.take(MAX_ANSWER + 1).read_to_end(&mut answer).await,
                    None => Ok(0),
                }
            };
            let hear = async {
                match stderr {
                    Some(stderr) => stderr.take(MAX_ANSWER).read_to_end(&mut complaint).await,
                    None => Ok(0),
                }
            };
            let ((), read, _) = futures_util::future::join3(write, read, hear).await;
            if read? as u64 > MAX_ANSWER {
                return Err(std::io::Error::other("its answer is too large"));
            }
            child.wait().await
        };
        let status = match tokio::time::timeout(self.timeout, talk).await {
            Ok(Ok(status)) => status,
            Ok(Err(error)) => return Err(fail(ErrorKind::Io, error.to_string())),
            Err(_) => {
                let reason = format!("it did not answer within {:?}", self.timeout);
                return Err(fail(ErrorKind::Unavailable, reason));
            }
        };
        if status.success() {
            return Ok(Some(answer));
        }
        let says = |text: &[u8]| redact::text(&String::from_utf8_lossy(text));
        let said = match says(&answer) {
            answer if answer.is_empty() => says(&complaint),
            answer => answer,
        };
        if said.contains(NOT_FOUND) {
            return Ok(None);
        }
        // What it says after it was told a secret may have the secret in it.
        let said = if action == "store" { String::new() } else { format!(": {said}") };
        Err(fail(ErrorKind::Io, format!("it failed with {status}{said}")))
    }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn keys_are_read_in_any_case() {
        for (answer, expected) in [
            (r#"{"ServerURL":"x","Username":"u","Secret":"s"}"#, Some(("u", "s"))),
            (r#"{"username":"u","secret":"s"}"#, Some(("u", "s"))),
            (r#"{"username":"no","Username":"u","SECRET":"s"}"#, Some(("u", "s"))),
            (r#"{"Username":null}"#, Some(("", ""))),
            (r#"{"Username":1,"Secret":"s"}"#, None),
            ("[]", None),
            ("", None),
        ] {
            let found = parse(answer.as_bytes());
            let found = found.as_ref().map(|(user, secret)| (user.as_str(), secret.as_str()));
            assert_eq!(found, expected, "{answer}");
        }
    }
}
