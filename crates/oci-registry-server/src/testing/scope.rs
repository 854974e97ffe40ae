//! What tokens are good for: `repository:team/app:pull,push`.

use std::fmt;

use http::Uri;

use super::Endpoint;
use crate::query::Query;
use crate::route::Route;

/// Actions on one resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Scope {
    kind: String,
    name: String,
    actions: Vec<String>,
}

impl Scope {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (kind, rest) = text.split_once(':')?;
        let (name, actions) = rest.rsplit_once(':')?;
        Some(Self::new(kind, name, actions))
    }

    fn new(kind: &str, name: &str, actions: &str) -> Self {
        let actions = actions.split(',').map(str::to_owned).collect();
        Self { kind: kind.to_owned(), name: name.to_owned(), actions }
    }

    fn repository(name: &str, actions: &str) -> Self {
        Self::new("repository", name, actions)
    }

    /// Whether a token with this scope may do all that is wanted.
    pub(super) fn allows(&self, wanted: &Self) -> bool {
        let may = |action: &String| {
            self.actions.contains(action) || self.actions.iter().any(|action| action == "*")
        };
        self.kind == wanted.kind && self.name == wanted.name && wanted.actions.iter().all(may)
    }

    pub(super) fn only_pull(&mut self) {
        let pulls = self.actions.iter().any(|action| action == "pull" || action == "*");
        self.actions = if pulls { vec!["pull".to_owned()] } else { Vec::new() };
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.kind, self.name, self.actions.join(","))
    }
}

/// The scopes that a request wants. None for what names no repository: any token will do.
pub(super) fn wanted(endpoint: Endpoint, uri: &Uri) -> Vec<Scope> {
    let name = match Route::parse(uri.path()) {
        Ok(Route::Catalog) => return vec![Scope::new("registry", "catalog", "*")],
        Ok(
            Route::Blob(name, _)
            | Route::Manifest(name, _)
            | Route::Uploads(name)
            | Route::Upload(name, _)
            | Route::Tags(name)
            | Route::Referrers(name, _),
        ) => name,
        Ok(Route::Ping) | Err(_) => return Vec::new(),
    };
    let actions = match endpoint {
        Endpoint::PullBlob
        | Endpoint::PullManifest
        | Endpoint::ListTags
        | Endpoint::ListReferrers => "pull",
        Endpoint::DeleteBlob | Endpoint::DeleteManifest | Endpoint::DeleteTag => "delete",
        _ => "pull,push",
    };
    let mut scopes = vec![Scope::repository(name.as_str(), actions)];
    if endpoint == Endpoint::MountBlob
        && let Ok(query) = Query::parse(uri.query())
        && let Ok(Some(from)) = query.one("from")
    {
        scopes.push(Scope::repository(from, "pull"));
    }
    scopes
}
