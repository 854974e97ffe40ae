//! The operations that are measured, over HTTP: each operation is some requests, which are made
//! before the clock runs.

mod reads;
mod writes;

use oci_spec_types::Digest;

use crate::bench::content::expect;
use crate::bench::http::Connection;
use crate::noise::Random;
use crate::process::Result;
use crate::scale::content::{Content, Stored};
use crate::scale::shape::Shape;

/// Something that a client asks for.
pub(crate) struct Operation {
    pub(crate) name: &'static str,
    pub(crate) requests: fn(&mut Targets<'_>) -> Vec<Request>,
}

/// The operations that change nothing, and those that do, in the order in which they are measured.
pub(crate) const READS: &[Operation] = reads::ALL;
pub(crate) const WRITES: &[Operation] = writes::ALL;

/// Operations that others do beside upkeep.
pub(crate) const PUSH_MANIFEST: &Operation = &WRITES[1];
pub(crate) const PUSH_SMALL: &Operation = &WRITES[3];

/// Operations that take away what others need, and so are done last.
pub(crate) const DELETE_SUBJECT: &Operation = &writes::SUBJECT_GOES;

/// A request, and the status of the answer to it.
pub(crate) struct Request {
    method: &'static str,
    path: String,
    headers: String,
    body: Vec<u8>,
    status: u16,
}

impl Request {
    fn new(method: &'static str, path: String, status: u16) -> Self {
        Self { method, path, headers: String::new(), body: Vec::new(), status }
    }

    fn get(path: String) -> Vec<Self> {
        vec![Self::new("GET", path, 200)]
    }

    fn head(path: String) -> Vec<Self> {
        vec![Self::new("HEAD", path, 200)]
    }

    fn delete(path: String) -> Vec<Self> {
        vec![Self::new("DELETE", path, 202)]
    }

    /// Pushes a manifest to a tag or to its digest.
    fn put(repository: &str, manifest: &Stored, reference: &str) -> Self {
        Self {
            headers: format!("Content-Type: {}\r\n", manifest.media_type()),
            body: manifest.bytes.clone(),
            ..Self::new("PUT", manifest_path(repository, reference), 201)
        }
    }

    /// Pushes a blob in one request.
    fn post(repository: &str, blob: &Stored) -> Self {
        Self {
            headers: "Content-Type: application/octet-stream\r\n".to_owned(),
            body: blob.bytes.clone(),
            ..Self::new("POST", format!("{}?digest={}", uploads(repository), blob.digest()), 201)
        }
    }

    /// Mounts a blob, from a repository or from wherever it is.
    fn mount(to: &str, digest: &str, from: Option<&str>) -> Self {
        let from = from.map(|from| format!("&from={from}")).unwrap_or_default();
        Self::new("POST", format!("{}?mount={digest}{from}", uploads(to)), 201)
    }

    /// Sends it, and reads the answer.
    pub(crate) async fn send(&self, connection: &mut Connection) -> Result {
        let answer = connection.send(self.method, &self.path, &self.headers, &self.body).await?;
        expect(answer.status, self.status, &format!("{} {}", self.method, self.path))
    }
}

fn manifest_path(repository: &str, reference: &str) -> String {
    format!("/v2/{repository}/manifests/{reference}")
}

fn blob_path(repository: &str, digest: &str) -> String {
    format!("/v2/{repository}/blobs/{digest}")
}

fn uploads(repository: &str) -> String {
    format!("/v2/{repository}/blobs/uploads/")
}

fn tags(repository: &str, query: &str) -> String {
    format!("/v2/{repository}/tags/list{query}")
}

fn referrers(subject: &Digest, query: &str) -> String {
    format!("/v2/{}/referrers/{subject}{query}", crate::scale::shape::SUBJECT)
}

/// Chooses what requests are about: the same for the same seed.
pub(crate) struct Targets<'a> {
    pub(crate) shape: Shape,
    pub(crate) content: &'a Content,
    random: Random,
    /// The choices so far of what can be chosen once only.
    taken: u64,
    /// The first number of what is new.
    new: u64,
}

/// The number of new things that one [`Targets`] can make.
const NEW: u64 = 1 << 24;

impl<'a> Targets<'a> {
    /// `seed` also keeps what is new apart.
    pub(crate) fn new(shape: Shape, content: &'a Content, seed: u64) -> Self {
        Self { shape, content, random: Random::new(seed), taken: 0, new: seed * NEW }
    }

    /// A number below `end`.
    fn below(&mut self, end: u64) -> u64 {
        self.random.next() % end
    }

    /// A small repository.
    fn small(&mut self) -> u64 {
        self.below(self.shape.small())
    }

    /// A number below `end` that was not chosen before, as long as there are such.
    fn once(&mut self, end: u64) -> u64 {
        // A prime, and so all numbers come before one comes again, but for multiples of it.
        const STEP: u64 = 7919;
        self.taken += 1;
        self.taken * STEP % end
    }

    /// A number that no other new thing has.
    fn fresh(&mut self) -> u64 {
        self.new += 1;
        self.new
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::scale::shape::LEAST;

    #[test]
    fn the_same_seed_chooses_the_same() {
        let (shape, content) = (Shape::new(LEAST).unwrap(), Content::new());
        let paths = |seed| {
            let mut targets = Targets::new(shape, &content, seed);
            let all = READS.iter().chain(WRITES).flat_map(|it| (it.requests)(&mut targets));
            all.map(|request| request.path).collect::<Vec<_>>()
        };
        assert_eq!(paths(1), paths(1));
        assert_ne!(paths(1), paths(2));
    }

    #[test]
    fn what_can_be_chosen_once_is_chosen_once() {
        let (shape, content) = (Shape::new(LEAST).unwrap(), Content::new());
        let mut targets = Targets::new(shape, &content, 1);
        let chosen: BTreeSet<u64> = (0..LEAST).map(|_| targets.once(LEAST)).collect();
        assert_eq!(chosen.len() as u64, LEAST);
    }

    #[test]
    fn what_others_do_beside_upkeep_is_what_it_says() {
        assert_eq!(PUSH_MANIFEST.name, "push a manifest of known blobs, huge repository");
        assert_eq!(PUSH_SMALL.name, "push an image (3 requests), random small repository");
    }

    #[test]
    fn names_of_operations_differ() {
        let names: BTreeSet<_> = READS.iter().chain(WRITES).map(|it| it.name).collect();
        assert_eq!(names.len(), READS.len() + WRITES.len());
    }
}
