//! A registry of manifests without the referrers API.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use oci_ref::{Error, Manifest, Precondition, Store};
use oci_registry_client::ClientBuilder;
use oci_spec_types::{Descriptor, Digest, ImageIndex};
use tokio::sync::Semaphore;

use super::tag;
use crate::server::{Answer, Seen, Server};

/// A registry of manifests without the referrers API.
#[derive(Clone, Default)]
pub(crate) struct Old(pub(super) Arc<Mutex<OldState>>);

/// The form in which a registry says the version of what it gives.
#[derive(Clone, Copy, Default, PartialEq)]
pub(super) enum Versions {
    #[default]
    Digest,
    Opaque,
    Weak,
    None,
}

impl Versions {
    pub(super) fn of(self, digest: &str) -> Option<String> {
        match self {
            Self::Digest => Some(format!("\"{digest}\"")),
            Self::Opaque => Some(format!("\"v-{}\"", &digest[7..20])),
            Self::Weak => Some(format!("W/\"{digest}\"")),
            Self::None => None,
        }
    }
}

/// The content of the registry, and what goes wrong.
#[derive(Default)]
pub(super) struct OldState {
    pub(super) manifests: BTreeMap<String, Bytes>,
    pub(super) tags: BTreeMap<String, String>,
    /// Changes the index behind the client's back, so often.
    pub(super) interferes: u32,
    /// Answers writes of the index with this status.
    pub(super) refuses: Option<u16>,
    /// Others, who do not know of conditions either, write their own index over the client's:
    /// these, one each time.
    pub(super) others: Vec<Manifest>,
    /// Others write this over the client's after the tag was asked for so many times since it was
    /// written.
    pub(super) later: Option<(usize, Manifest)>,
    /// Counts how often the tag was asked for since it was written.
    looks: usize,
    /// Answers to who asks for the tag wait for this.
    pub(super) gate: Option<Arc<Semaphore>>,
    pub(super) versions: Versions,
    pub(super) index_writes: u32,
    pub(super) conditions: Vec<String>,
}

impl OldState {
    fn put(&mut self, manifest: &Manifest, tags: &[&str]) {
        let digest = manifest.digest().to_string();
        self.manifests.insert(digest.clone(), manifest.bytes().clone());
        self.tags.extend(tags.iter().map(|tag| (tag.to_string(), digest.clone())));
    }

    fn read(&self, digest: &str) -> Answer {
        match self.manifests.get(digest) {
            Some(bytes) => match self.versions.of(digest) {
                Some(version) => Answer::ok(bytes).header("ETag", version),
                None => Answer::ok(bytes),
            },
            None => Answer::status(404),
        }
    }
}

impl Old {
    pub(crate) async fn serve(&self) -> Server {
        let old = self.clone();
        Server::start(move |seen| old.answer(seen)).await
    }

    fn answer(&self, seen: &Seen) -> Answer {
        let mut state = self.0.lock().unwrap();
        let Some((_, reference)) = seen.target.split_once("/manifests/") else {
            return Answer::status(404);
        };
        let digest = state.tags.get(reference).cloned().unwrap_or(reference.to_owned());
        match seen.method.as_str() {
            "PUT" => {
                let digest = Digest::sha256(&seen.body).to_string();
                state.manifests.insert(digest.clone(), seen.body.clone().into());
                if let Some(status) = state.refuses.filter(|_| reference == tag()) {
                    return Answer::status(status);
                }
                if reference == tag() {
                    state.index_writes += 1;
                    state.looks = 0;
                    let condition = seen
                        .header("if-match")
                        .or(seen.header("if-none-match"))
                        .unwrap_or_default()
                        .to_owned();
                    let now = state.tags.get(reference).and_then(|now| state.versions.of(now));
                    state.conditions.push(condition);
                    if seen.header("if-match").is_some_and(|wanted| now.as_deref() != Some(wanted))
                    {
                        return Answer::status(412);
                    }
                    if state.interferes > 0 {
                        state.interferes -= 1;
                        return Answer::status(412);
                    }
                }
                if !reference.contains(':') {
                    state.tags.insert(reference.to_owned(), digest);
                }
                if reference == tag()
                    && let Some(other) = state.others.pop()
                {
                    state.put(&other, &[reference]);
                }
                Answer::status(201)
            }
            "DELETE" => {
                state.tags.retain(|_, named| *named != digest);
                Answer::status(if state.manifests.remove(&digest).is_some() { 202 } else { 404 })
            }
            _ if reference == tag() => {
                let answer = state.read(&digest);
                state.looks += usize::from(state.index_writes > 0);
                if state.later.as_ref().is_some_and(|(looks, _)| *looks == state.looks)
                    && let Some((_, other)) = state.later.take()
                {
                    state.put(&other, &[&tag()]);
                }
                match &state.gate {
                    Some(gate) => answer.held(gate),
                    None => answer,
                }
            }
            _ => state.read(&digest),
        }
    }

    /// Puts a manifest there, under tags.
    pub(super) fn put(&self, manifest: &Manifest, tags: &[&str]) {
        self.0.lock().unwrap().put(manifest, tags);
    }

    /// The digest that a tag names.
    pub(super) fn named(&self, tag: &str) -> Option<String> {
        self.0.lock().unwrap().tags.get(tag).cloned()
    }

    pub(super) fn has(&self, digest: &Digest) -> bool {
        self.0.lock().unwrap().manifests.contains_key(digest.as_str())
    }

    pub(crate) fn listed(&self) -> Vec<Descriptor> {
        let state = self.0.lock().unwrap();
        let bytes = state.tags.get(&tag()).map(|digest| state.manifests[digest].clone());
        bytes.map(|bytes| ImageIndex::from_slice(&bytes).unwrap().manifests).unwrap_or_default()
    }

    pub(super) fn indexes(&self) -> usize {
        let state = self.0.lock().unwrap();
        state
            .manifests
            .values()
            .filter(|bytes| {
                ImageIndex::from_slice(bytes).is_ok_and(|index| !index.manifests.is_empty())
            })
            .count()
    }
}

pub(crate) async fn push(
    server: &Server,
    builder: ClientBuilder,
    artifacts: &[Manifest],
) -> Vec<Result<(), Error>> {
    let repository = server.repository_of(builder);
    let pushes = artifacts
        .iter()
        .map(|artifact| repository.put_manifest(artifact, &[], &Precondition::None));
    futures_util::future::join_all(pushes).await
}
