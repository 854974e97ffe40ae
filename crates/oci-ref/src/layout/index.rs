//! The entries of `index.json`, and how storing and deleting change them. No I/O.
//!
//! The rules are those of containers/image: a name moves to the newest entry, an entry with the same digest and name
//! is replaced, other names of a digest stay, and no platform is invented. Whatever else stands in the file is kept.

use std::collections::HashSet;

use oci_spec_types::{Descriptor, Digest, DocumentError, ImageIndex, Tag, annotations::REF_NAME};

use super::LayoutEntry;
use crate::{Manifest, Precondition};

/// What `index.json` says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entries(ImageIndex);

/// An entry's name, if it has one.
pub(crate) fn name(entry: &Descriptor) -> Option<&str> {
    let name = entry.annotations.get(REF_NAME).map(String::as_str);
    name.filter(|name| !name.is_empty())
}

/// Whether an entry says nothing that is not known from its manifest.
fn is_plain(entry: &Descriptor) -> bool {
    entry.annotations.is_empty()
        && entry.platform.is_none()
        && entry.urls.is_empty()
        && entry.data.is_none()
        && entry.extra.is_empty()
}

impl Entries {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, DocumentError> {
        ImageIndex::from_slice(bytes).map(Self)
    }

    pub(crate) fn to_bytes(&self) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec(&self.0)
    }

    pub(crate) fn entries(&self) -> &[Descriptor] {
        &self.0.manifests
    }

    /// The same entries in an order that does not tell how they came there.
    #[cfg(feature = "tar")]
    pub(crate) fn sorted(&self) -> Self {
        let mut sorted = self.clone();
        sorted.0.manifests.sort_by(|a, b| (name(a), &a.digest).cmp(&(name(b), &b.digest)));
        sorted
    }

    /// The entries with their names.
    pub(crate) fn to_entries(&self) -> Vec<LayoutEntry> {
        let entry = |descriptor: &Descriptor| LayoutEntry {
            name: name(descriptor).map(str::to_owned),
            descriptor: descriptor.clone(),
        };
        self.entries().iter().map(entry).collect()
    }

    /// The entries that have a name, one for each manifest: more than one if a careless writer has
    /// left several.
    pub(crate) fn named(&self, wanted: &str) -> Vec<&Descriptor> {
        let mut found: Vec<&Descriptor> = Vec::new();
        for entry in self.entries().iter().filter(|entry| name(entry) == Some(wanted)) {
            if !found.iter().any(|known| known.digest == entry.digest) {
                found.push(entry);
            }
        }
        found
    }

    /// An entry of a manifest.
    pub(crate) fn listed(&self, digest: &Digest) -> Option<&Descriptor> {
        self.entries().iter().find(|entry| entry.digest == *digest)
    }

    /// Says what is, if a condition does not hold for a name.
    pub(crate) fn check(&self, wanted: &str, when: &Precondition) -> Result<(), String> {
        let now = self.named(wanted);
        let holds = match when {
            Precondition::None => true,
            Precondition::Exists => !now.is_empty(),
            Precondition::Absent => now.is_empty(),
            Precondition::Matches(digests) => {
                !now.is_empty() && now.iter().all(|entry| digests.contains(&entry.digest))
            }
        };
        if holds {
            return Ok(());
        }
        let now: Vec<&str> = now.iter().map(|entry| entry.digest.as_str()).collect();
        match now.is_empty() {
            true => Err(format!("tag {wanted} does not exist")),
            false => Err(format!("tag {wanted} names {}", now.join(" and "))),
        }
    }

    /// Lists a manifest under names, or without a name if there are none and it is not listed yet. What the manifest
    /// lists itself needs no nameless entries any more.
    pub(crate) fn put(&mut self, manifest: &Manifest, tags: &[Tag]) {
        for tag in tags {
            self.put_named(manifest, tag.as_str());
        }
        if tags.is_empty() {
            self.keep(manifest.descriptor());
        }
        if !manifest.manifests().is_empty() {
            let children: HashSet<_> =
                manifest.manifests().iter().map(|child| &child.digest).collect();
            self.0.manifests.retain(|entry| {
                !is_plain(entry)
                    || !children.contains(&entry.digest)
                    || entry.digest == *manifest.digest()
            });
        }
    }

    /// Gives a manifest a name.
    pub(crate) fn put_named(&mut self, manifest: &Manifest, wanted: &str) {
        let found = manifest.descriptor();
        let is_own = |entry: &Descriptor| entry.digest == found.digest;
        self.take_name(wanted, |entry| !is_own(entry));
        let entries = &mut self.0.manifests;
        let same = entries.iter().position(|entry| is_own(entry) && name(entry) == Some(wanted));
        let nameless = || entries.iter().position(|entry| is_own(entry) && name(entry).is_none());
        let entry = match same.or_else(nameless) {
            Some(position) => {
                let entry = &mut entries[position];
                entry.media_type = found.media_type.clone();
                entry.size = found.size;
                entry
            }
            None => {
                entries.push(found.clone());
                entries.last_mut().expect("an entry has just been added")
            }
        };
        if found.artifact_type.is_some() {
            entry.artifact_type = found.artifact_type.clone();
        }
        entry.annotations.insert(REF_NAME.into(), wanted.to_owned());
    }

    /// Takes a name from the entries that have it. Their manifests stay listed. `false` if no entry had it.
    pub(crate) fn unname(&mut self, name: &str) -> bool {
        self.take_name(name, |_| true)
    }

    fn take_name(&mut self, wanted: &str, from: impl Fn(&Descriptor) -> bool) -> bool {
        let entries = &mut self.0.manifests;
        let mut freed = Vec::new();
        for (position, entry) in entries.iter_mut().enumerate() {
            if name(entry) == Some(wanted) && from(entry) {
                entry.annotations.remove(REF_NAME);
                freed.push(position);
            }
        }
        // An entry without a name is of use only as the last one of its manifest.
        for &position in freed.iter().rev() {
            let entry = &entries[position];
            let others = entries.iter().filter(|other| other.digest == entry.digest).count() - 1;
            if others > 0 && is_plain(entry) {
                entries.remove(position);
            }
        }
        !freed.is_empty()
    }

    /// Lists a manifest without a name, unless it is listed.
    pub(crate) fn keep(&mut self, descriptor: &Descriptor) {
        if self.listed(&descriptor.digest).is_none() {
            let mut entry = Descriptor::new(
                descriptor.media_type.clone(),
                descriptor.digest.clone(),
                descriptor.size,
            );
            entry.artifact_type = descriptor.artifact_type.clone();
            self.0.manifests.push(entry);
        }
    }

    /// Removes all entries of a manifest.
    pub(crate) fn remove(&mut self, digest: &Digest) {
        self.0.manifests.retain(|entry| entry.digest != *digest);
    }
}
