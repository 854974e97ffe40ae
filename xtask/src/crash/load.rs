//! The load: clients that push, move, delete, mount and leave uploads open, in an order that a seed decides.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::crash::check;
use crate::crash::client::{Client, Done, Failed};
use crate::crash::content::{Blob, Manifest};
use crate::crash::model::Model;
use crate::crash::shared::SharedTags;
use crate::noise::Random;

/// Blobs of up to this size lie in the database.
pub(super) const INLINE: usize = 32 << 10;

/// So much a repository has before something is deleted from it.
const MOST_BLOBS: usize = 14;
const MOST_MANIFESTS: usize = 8;
const MOST_UPLOADS: usize = 3;

/// What clients know of each other.
pub(super) struct Common {
    /// Blobs that were pushed lately, and where to: they may have been deleted since.
    pushed: RefCell<VecDeque<(String, Blob)>>,
    /// Content that several clients push.
    equal: Vec<Blob>,
    pub(super) tags: SharedTags,
    next: Cell<u64>,
}

impl Common {
    pub(super) fn new(seed: u64) -> Rc<Self> {
        let sizes = [0, 2, 700, 20_000, INLINE, INLINE + 1, 90_000, 300_000];
        let equal = sizes.iter().zip(seed..).map(|(size, seed)| Blob::noise(seed, *size));
        Rc::new(Self {
            pushed: RefCell::default(),
            equal: equal.collect(),
            tags: SharedTags::default(),
            next: Cell::new(seed << 20),
        })
    }

    /// A seed that nobody has used before.
    fn fresh(&self) -> u64 {
        self.next.replace(self.next.get() + 1)
    }

    fn tell(&self, repository: &str, blob: &Blob) {
        let mut pushed = self.pushed.borrow_mut();
        pushed.push_back((repository.to_owned(), blob.clone()));
        if pushed.len() > 40 {
            pushed.pop_front();
        }
    }
}

/// How long one repository of a client rests before it is the other's turn: longer than unreferenced content stays.
const REST: Duration = Duration::from_secs(4);

/// A client and its choices. It has two repositories of its own, and shares one with others.
pub(super) struct Worker {
    pub(super) client: Client,
    random: Random,
    common: Rc<Common>,
    own: [String; 2],
    /// Which of those it uses now, and since when. The other rests, so that what nothing references there is collected before it is
    /// deleted.
    used: (usize, Instant),
    /// How many of a hundred blobs are larger than a bucket takes in one request.
    pub(super) large: usize,
}

impl Worker {
    pub(super) fn new(client: Client, seed: u64, common: Rc<Common>) -> Self {
        let own = ["a", "b"].map(|end| format!("{}/{end}", client.name));
        let (random, used) = (Random::new(seed), (0, Instant::now()));
        Self { client, random, common, own, used, large: 0 }
    }

    /// Does one thing after another until that fails, or `ends` says so.
    pub(super) async fn run(&mut self, ends: impl Fn() -> bool) -> Done {
        while !ends() {
            self.one().await?;
        }
        Ok(())
    }

    async fn one(&mut self) -> Done {
        if self.used.1.elapsed() > REST {
            self.used = (1 - self.used.0, Instant::now());
        }
        let repository = self.own[self.used.0].clone();
        let model = &self.client.model;
        if model.blobs_of(&repository).count() > MOST_BLOBS {
            return self.delete_some_blob(&repository).await;
        }
        if model.manifests_of(&repository).count() > MOST_MANIFESTS {
            return self.delete_some_manifest(&repository).await;
        }
        if model.uploads.len() > MOST_UPLOADS {
            return self.go_on().await;
        }
        match self.random.below(100) {
            0..14 => self.push(&repository).await,
            14..26 => self.push_in_chunks(&repository).await,
            26..33 => self.leave_open(&repository).await,
            33..39 => self.go_on().await,
            39..56 => self.push_image(&repository).await,
            56..61 => self.push_index(&repository).await,
            61..70 => self.move_tag(&repository).await,
            70..75 => self.delete_some_tag(&repository).await,
            75..79 => self.delete_some_manifest(&repository).await,
            79..83 => self.delete_some_blob(&repository).await,
            83..91 => self.mount(&repository).await,
            91..95 => self.move_shared_tag().await,
            _ => self.read(&repository).await,
        }
    }

    fn blob(&mut self) -> Blob {
        if self.random.percent(12) {
            return self.common.equal[self.random.below(self.common.equal.len())].clone();
        }
        if self.random.percent(self.large) {
            let size = (6 << 20) + self.random.below(12 << 20);
            return Blob::noise(self.common.fresh(), size);
        }
        let size = match self.random.below(10) {
            0..5 => self.random.below(6000),
            5..7 => self.random.below(INLINE + 2),
            7..9 => INLINE + self.random.below(200_000),
            _ => 300_000 + self.random.below(700_000),
        };
        // An upload of a single byte says of itself what one without bytes does.
        let size = if size == 1 { 2 } else { size };
        Blob::noise(self.common.fresh(), size)
    }

    async fn push(&mut self, repository: &str) -> Done {
        let blob = self.blob();
        if self.random.percent(50) {
            self.client.push_at_once(repository, &blob).await?;
        } else {
            let upload = self.client.begin(repository, &blob).await?;
            self.client.commit(upload).await?;
        }
        self.common.tell(repository, &blob);
        Ok(())
    }

    async fn push_in_chunks(&mut self, repository: &str) -> Done {
        let blob = self.blob();
        let upload = self.client.begin(repository, &blob).await?;
        let chunks = 1 + self.random.below(4);
        for _ in 0..chunks {
            self.client.patch(upload, blob.size() / chunks + self.random.below(2)).await?;
        }
        self.client.commit(upload).await?;
        self.common.tell(repository, &blob);
        Ok(())
    }

    async fn leave_open(&mut self, repository: &str) -> Done {
        let blob = self.blob();
        let upload = self.client.begin(repository, &blob).await?;
        for _ in 0..self.random.below(3) {
            self.client.patch(upload, blob.size() / 3).await?;
        }
        Ok(())
    }

    async fn go_on(&mut self) -> Done {
        let open: Vec<u64> = self.client.model.uploads.keys().copied().collect();
        let Some(upload) = open.get(self.random.below(open.len())).copied() else { return Ok(()) };
        match self.random.below(5) {
            0 => self.client.cancel(upload).await,
            1 => {
                let size = self.client.model.uploads[&upload].blob.size();
                self.client.patch(upload, size / 4 + 1).await
            }
            _ => check::finish_upload(&mut self.client, upload).await.map(drop),
        }
    }

    async fn push_image(&mut self, repository: &str) -> Done {
        let manifest = self.image(repository).await?;
        let tag = self.random.percent(70).then(|| self.tag());
        self.client.put_manifest(repository, &manifest, tag.as_deref()).await
    }

    /// A new image of blobs that are there, and of a new one.
    async fn image(&mut self, repository: &str) -> Done<Arc<Manifest>> {
        let config = Blob::noise(self.common.fresh(), 200 + self.random.below(2000));
        self.client.push_at_once(repository, &config).await?;
        let have: Vec<Blob> = self.client.model.blobs_of(repository).cloned().collect();
        let count = self.random.below(4);
        let layers: Vec<Blob> =
            (0..count).map(|_| have[self.random.below(have.len())].clone()).collect();
        let subjects: Vec<_> = self.client.model.manifests_of(repository).cloned().collect();
        let subject = match self.random.percent(20) {
            true => subjects.get(self.random.below(subjects.len())),
            false => None,
        };
        let note = self.common.fresh().to_string();
        Ok(Manifest::image(&config, &layers, subject.map(|subject| &**subject), &note))
    }

    async fn push_index(&mut self, repository: &str) -> Done {
        let have: Vec<_> = self.client.model.manifests_of(repository).cloned().collect();
        if have.is_empty() {
            return self.push_image(repository).await;
        }
        let count = 1 + self.random.below(3);
        let children: Vec<_> =
            (0..count).map(|_| have[self.random.below(have.len())].clone()).collect();
        let index = Manifest::index(&children, &self.common.fresh().to_string());
        let tag = self.random.percent(50).then(|| self.tag());
        self.client.put_manifest(repository, &index, tag.as_deref()).await
    }

    fn tag(&mut self) -> String {
        format!("t{}", self.random.below(6))
    }

    async fn move_tag(&mut self, repository: &str) -> Done {
        // One that could be pushed again: the children of an index may have been deleted.
        let there = |digest: &String| {
            let place = (repository.to_owned(), digest.clone());
            self.client.model.manifests.contains_key(&place)
        };
        let whole = |manifest: &&Arc<Manifest>| manifest.children.iter().all(there);
        let have: Vec<_> =
            self.client.model.manifests_of(repository).filter(whole).cloned().collect();
        match have.get(self.random.below(have.len())) {
            Some(manifest) => {
                let tag = self.tag();
                self.client.put_manifest(repository, manifest, Some(&tag)).await
            }
            None => self.push_image(repository).await,
        }
    }

    fn some_manifest(&mut self, repository: &str) -> Option<Arc<Manifest>> {
        let have: Vec<_> = self.client.model.manifests_of(repository).cloned().collect();
        have.get(self.random.below(have.len())).cloned()
    }

    async fn delete_some_tag(&mut self, repository: &str) -> Done {
        let have: Vec<String> =
            self.client.model.tags_of(repository).map(|(tag, _)| tag.to_owned()).collect();
        match have.get(self.random.below(have.len())) {
            Some(tag) => self.client.delete_tag(repository, tag).await,
            None => Ok(()),
        }
    }

    async fn delete_some_manifest(&mut self, repository: &str) -> Done {
        match self.some_manifest(repository) {
            Some(manifest) => self.client.delete_manifest(repository, &manifest.digest).await,
            None => Ok(()),
        }
    }

    /// Mostly one that nothing references, if there is one; else a manifest goes.
    async fn delete_some_blob(&mut self, repository: &str) -> Done {
        let model: &Model = &self.client.model;
        let all: Vec<String> = model.blobs_of(repository).map(|blob| blob.digest.clone()).collect();
        let free: Vec<String> =
            all.iter().filter(|digest| !model.is_referenced(repository, digest)).cloned().collect();
        let from = if self.random.percent(20) { &all } else { &free };
        match from.get(self.random.below(from.len())) {
            Some(digest) => self.client.delete_blob(repository, digest).await,
            None => self.delete_some_manifest(repository).await,
        }
    }

    async fn mount(&mut self, repository: &str) -> Done {
        let known = self.common.pushed.borrow().len();
        if known == 0 {
            return Ok(());
        }
        let (from, blob) = self.common.pushed.borrow()[self.random.below(known)].clone();
        let source = (from.clone(), blob.digest.clone());
        let there = self.client.model.blobs.contains_key(&source);
        let mine = self.own.contains(&from);
        let mounted = self.client.mount(&from, repository, &blob).await?;
        if mine && mounted != there && (!there || self.client.model.is_certain(&source)) {
            let message = format!(
                "mounting {} from {from} to {repository}: mounted is {mounted}, expected {there}",
                blob.digest
            );
            return Err(Failed::Wrong(message));
        }
        Ok(())
    }

    /// A tag that all clients move.
    async fn move_shared_tag(&mut self) -> Done {
        let repository = SharedTags::REPOSITORY;
        let mine = self.client.model.manifests_of(repository).count();
        let manifest = match self.some_manifest(repository) {
            Some(manifest) if mine >= 3 => manifest,
            _ => {
                let manifest = self.image(repository).await?;
                self.client.put_manifest(repository, &manifest, None).await?;
                let place = (repository.to_owned(), manifest.digest.clone());
                if !self.client.model.manifests.contains_key(&place) {
                    // One of its blobs was collected before.
                    return Ok(());
                }
                manifest
            }
        };
        let tag = SharedTags::TAGS[self.random.below(SharedTags::TAGS.len())];
        self.common.tags.clone().write(&mut self.client, tag, &manifest).await
    }

    /// What was acknowledged can be read at once.
    async fn read(&mut self, repository: &str) -> Done {
        let tags: Vec<(String, String)> = self
            .client
            .model
            .tags_of(repository)
            .map(|(tag, digest)| (tag.to_owned(), digest.to_owned()))
            .collect();
        let Some((tag, digest)) = tags.get(self.random.below(tags.len())) else { return Ok(()) };
        let target = format!("/v2/{repository}/manifests/{tag}");
        let reply = self.client.get(&target).await?;
        match reply.header("docker-content-digest") {
            Some(found) if found == digest => Ok(()),
            found => Err(Failed::Wrong(format!("GET {target}: {found:?}, expected {digest}"))),
        }
    }
}
