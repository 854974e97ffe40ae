//! Configuration files of Docker and Podman, in the form of today and in that of `~/.dockercfg`. Helpers are not run.
//!
//! What is written is read as the same; what is put in is found, and is all that changes; what is removed is gone.

use oci_registry_client::Credentials;
use oci_registry_client::fuzzing::DockerDocument;
use oci_spec_types::{Host, Name};

use crate::support::assert_fit_for_logs;

const HOSTS: [&str; 4] = ["r.example", "docker.io", "index.docker.io", "localhost:5000"];
/// The longest text of an error: it quotes a key of the user's own file, each character of which may be escaped.
const MAX_ERROR: usize = 128 << 10;

/// Checks one input: a file.
pub fn check(data: &[u8]) {
    let name: Name = "a/b".parse().expect("a name");
    for legacy in [false, true] {
        let document = match DockerDocument::parse(data, legacy) {
            Ok(document) => document,
            Err(reason) => {
                assert_fit_for_logs(&reason, 256);
                continue;
            }
        };
        let again = read(&document, legacy);
        for host in HOSTS.map(host) {
            assert!(document.helpers(&host).iter().all(|helper| !helper.is_empty()));
            assert_eq!(again.helpers(&host), document.helpers(&host));
            for name in [None, Some(&name)] {
                let found = document.find(&host, name);
                assert_eq!(again.find(&host, name), found);
                match found {
                    Ok(Some(credentials)) => change(&document, legacy, &host, &credentials),
                    Ok(None) => {}
                    Err(reason) => assert_fit_for_logs(&reason, MAX_ERROR),
                }
            }
        }
    }
}

fn host(text: &str) -> Host {
    text.parse().expect("a host")
}

fn read(document: &DockerDocument, legacy: bool) -> DockerDocument {
    DockerDocument::parse(&document.to_bytes(), legacy).expect("what was written is read")
}

/// Puts credentials in for a registry, and removes them again.
fn change(document: &DockerDocument, legacy: bool, host: &Host, credentials: &Credentials) {
    let mut changed = read(document, legacy);
    changed.put(host, credentials);
    let mut changed = read(&changed, legacy);
    if can_be_kept(credentials) {
        assert_eq!(changed.find(host, None).as_ref(), Ok(&Some(credentials.clone())));
    }
    let is_hub = |host: &Host| host.as_str().ends_with("docker.io");
    for other in HOSTS.map(self::host) {
        if other != *host && !(is_hub(&other) && is_hub(host)) {
            assert_eq!(changed.find(&other, None), document.find(&other, None));
        }
    }
    assert!(changed.remove(host));
    assert_eq!(changed.find(host, None), Ok(None));
    assert!(!changed.remove(host));
}

/// The form in which Docker keeps a user name and a password ends the first at a colon and the second at a zero.
fn can_be_kept(credentials: &Credentials) -> bool {
    match credentials {
        Credentials::Basic { username, password } => {
            !username.contains(':') && !password.ends_with('\0')
        }
        _ => true,
    }
}
