//! What a token allows (`repository:NAME:pull,push`), gathered for each operation.

use std::collections::{BTreeMap, BTreeSet};

use oci_spec_types::{Host, Name};

/// Resources and the actions on them. Equal sets have one form, so that they are one key of the token cache.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Scopes(BTreeMap<String, BTreeSet<String>>);

impl Scopes {
    /// Reading a repository.
    pub(crate) fn pull(name: &Name) -> Self {
        Self::of(name, &["pull"])
    }

    /// Writing to a repository, which also needs to read it.
    pub(crate) fn push(name: &Name) -> Self {
        Self::of(name, &["pull", "push"])
    }

    /// Deleting from a repository. Registries do not agree on what that needs.
    pub(crate) fn delete(host: &Host, name: &Name) -> Self {
        match host.as_str() {
            "quay.io" => Self::of(name, &["*"]),
            host if host == "icr.io" || host.ends_with(".icr.io") => {
                Self::of(name, &["delete", "pull", "push"])
            }
            _ => Self::of(name, &["delete"]),
        }
    }

    /// These with all actions instead of `delete`, which Quay's token service does not know; `None` if it is not among
    /// them.
    pub(crate) fn without_delete(&self) -> Option<Self> {
        let mut scopes = self.clone();
        let mut changed = false;
        for actions in scopes.0.values_mut().filter(|actions| actions.contains("delete")) {
            *actions = BTreeSet::from(["*".to_owned()]);
            changed = true;
        }
        changed.then_some(scopes)
    }

    /// Listing the repositories of a registry.
    pub(crate) fn catalog() -> Self {
        Self::parse("registry:catalog:*")
    }

    fn of(name: &Name, actions: &[&str]) -> Self {
        let actions = actions.iter().map(|action| (*action).to_owned()).collect();
        Self(BTreeMap::from([(format!("repository:{name}"), actions)]))
    }

    /// Reads scopes separated by white space, as a challenge has them. What has no actions is left out.
    pub(crate) fn parse(text: &str) -> Self {
        let mut scopes = Self::default();
        for (resource, actions) in
            text.split_whitespace().filter_map(|scope| scope.rsplit_once(':'))
        {
            let actions = actions.split(',').filter(|action| !action.is_empty()).map(str::to_owned);
            scopes.0.entry(resource.to_owned()).or_default().extend(actions);
        }
        scopes.0.retain(|_, actions| !actions.is_empty());
        scopes
    }

    /// Both together.
    pub(crate) fn merge(mut self, other: &Self) -> Self {
        for (resource, actions) in &other.0 {
            self.0.entry(resource.clone()).or_default().extend(actions.iter().cloned());
        }
        self
    }

    /// Whether a token for these allows all of the others.
    pub(crate) fn include(&self, others: &Self) -> bool {
        others.0.iter().all(|(resource, actions)| {
            self.0.get(resource).is_some_and(|mine| mine.contains("*") || mine.is_superset(actions))
        })
    }

    /// Each scope as it is written, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(|(resource, actions)| {
            let actions: Vec<_> = actions.iter().map(String::as_str).collect();
            format!("{resource}:{}", actions.join(","))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // covers: O21
    #[test]
    fn what_deleting_needs() {
        let name: Name = "a/b".parse().unwrap();
        let cases = [
            ("r.example", "repository:a/b:delete", Some("repository:a/b:*")),
            ("quay.io", "repository:a/b:*", None),
            ("icr.io", "repository:a/b:delete,pull,push", Some("repository:a/b:*")),
            ("de.icr.io", "repository:a/b:delete,pull,push", Some("repository:a/b:*")),
            ("notquay.io", "repository:a/b:delete", Some("repository:a/b:*")),
        ];
        for (host, expected, without) in cases {
            let scopes = Scopes::delete(&host.parse().unwrap(), &name);
            assert_eq!(scopes, Scopes::parse(expected), "{host}");
            assert_eq!(scopes.without_delete(), without.map(Scopes::parse), "{host}");
        }
    }

    // covers: O21
    #[test]
    fn scopes_merge_into_one_form() {
        let name: Name = "a/b".parse().unwrap();
        let other: Name = "c".parse().unwrap();
        let merged = Scopes::pull(&other).merge(&Scopes::push(&name)).merge(&Scopes::pull(&name));
        assert_eq!(
            merged.iter().collect::<Vec<_>>(),
            ["repository:a/b:pull,push", "repository:c:pull"]
        );
        assert_eq!(
            merged,
            Scopes::parse(" repository:c:pull  repository:a/b:push,pull nonsense x: ")
        );
        assert!(merged.include(&Scopes::pull(&name)));
        assert!(!Scopes::pull(&name).include(&merged));
        assert!(Scopes::parse("repository:a/b:*").include(&Scopes::parse("repository:a/b:delete")));
        assert_eq!(Scopes::catalog().iter().collect::<Vec<_>>(), ["registry:catalog:*"]);
    }
}
