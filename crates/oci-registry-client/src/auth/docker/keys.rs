//! The names under which configuration files and helpers know a registry.

use oci_spec_types::{Host, Name};

/// The name under which Docker and its helpers know Docker Hub.
const HUB: &str = "https://index.docker.io/v1/";

/// A registry's name with the names of Docker Hub made one, in lower case.
pub(super) fn canonical(host: &str) -> String {
    match host.to_ascii_lowercase().as_str() {
        "docker.io" | "index.docker.io" | "registry-1.docker.io" => "docker.io".to_owned(),
        other => other.to_owned(),
    }
}

/// The name under which a registry is stored.
pub(super) fn stored(host: &Host) -> String {
    match canonical(host.as_str()).as_str() {
        "docker.io" => HUB.to_owned(),
        _ => host.to_string(),
    }
}

/// The names under which a helper may know a registry.
pub(super) fn of_helpers(host: &Host) -> Vec<String> {
    let mut names = vec![stored(host)];
    if names == [HUB] {
        // So Podman calls it.
        names.push("docker.io".to_owned());
    }
    names
}

/// The keys under which an entry may stand as it is, the most specific first: the repository, each namespace that it
/// lies in (both are Podman's), the registry.
pub(super) fn exact(host: &Host, repository: Option<&Name>) -> Vec<String> {
    let mut hosts = vec![host.to_string()];
    if canonical(host.as_str()) == "docker.io" && host.as_str() != "docker.io" {
        hosts.push("docker.io".to_owned());
    }
    let mut keys = Vec::new();
    let mut path = repository.map(Name::as_str);
    while let Some(current) = path {
        keys.extend(hosts.iter().map(|host| format!("{host}/{current}")));
        path = current.rsplit_once('/').map(|(namespace, _)| namespace);
    }
    let stored = stored(host);
    keys.extend(hosts);
    keys.push(stored);
    keys
}

/// The registry of a key without its scheme and path; `None` for Podman's keys for a namespace, which are not for all
/// of the registry.
pub(super) fn registry_of(key: &str, legacy: bool) -> Option<String> {
    let bare = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://"));
    let address = bare.is_some() || legacy || key.ends_with('/');
    match bare.unwrap_or(key).split_once('/') {
        Some((host, _)) if address => Some(canonical(host)),
        Some(_) => None,
        None => Some(canonical(bare.unwrap_or(key))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn keys_of_repositories() {
        let host: Host = "r.example:5000".parse().unwrap();
        let name: Name = "a/b/c".parse().unwrap();
        let keys = exact(&host, Some(&name));
        assert_eq!(
            keys,
            [
                "r.example:5000/a/b/c",
                "r.example:5000/a/b",
                "r.example:5000/a",
                "r.example:5000",
                "r.example:5000"
            ]
        );
        let hub: Host = "docker.io".parse().unwrap();
        assert_eq!(exact(&hub, None), ["docker.io", HUB]);
        assert_eq!(of_helpers(&hub), [HUB, "docker.io"]);
        assert_eq!(stored(&host), "r.example:5000");
    }

    #[test]
    fn registries_of_keys() {
        let cases = [
            ("r.example", false, Some("r.example")),
            ("R.example:5000", false, Some("r.example:5000")),
            ("https://r.example", false, Some("r.example")),
            ("http://r.example/v1/", false, Some("r.example")),
            ("https://r.example/team", false, Some("r.example")),
            ("r.example/v2/", false, Some("r.example")),
            ("r.example/team", false, None),
            ("r.example/team", true, Some("r.example")),
            ("https://index.docker.io/v1/", false, Some("docker.io")),
            ("registry-1.docker.io", false, Some("docker.io")),
            ("", false, Some("")),
        ];
        for (key, legacy, expected) in cases {
            assert_eq!(registry_of(key, legacy).as_deref(), expected, "{key}");
        }
    }

    proptest! {
        #[test]
        fn what_is_stored_is_found(host in "[a-z]{1,8}(\\.[a-z]{1,8}){1,2}(:[1-9][0-9]{0,3})?") {
            let parsed: Host = host.parse().unwrap();
            prop_assert_eq!(registry_of(&stored(&parsed), false), Some(canonical(&host)));
            prop_assert!(exact(&parsed, None).contains(&stored(&parsed)));
        }

        #[test]
        fn an_entry_for_a_namespace_is_for_no_other(host in "[a-z]{1,8}\\.example", one in "[a-z]{1,5}", other in "[a-z]{1,5}") {
            prop_assume!(one != other);
            let key = format!("{host}/{one}");
            let name: Name = format!("{other}/x").parse().unwrap();
            prop_assert!(!exact(&host.parse().unwrap(), Some(&name)).contains(&key));
            prop_assert_eq!(registry_of(&key, false), None);
        }

        #[test]
        fn anything_is_read_without_a_panic(key in "\\PC{0,40}", legacy: bool) {
            registry_of(&key, legacy);
        }
    }
}
