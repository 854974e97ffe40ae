//! References of manifests as they are recorded, gathered for a page of manifests from either
//! database.

use super::{Recorded, StoredManifest, columns};
use oci_ref::Result;

/// A page of what a check reads ends after so many bytes.
pub(super) const PAGE_BYTES: usize = 4 << 20;

/// The most tags of a manifest that are told.
pub(super) const MAX_TAGS: i64 = 10;

/// A row of a table of references.
pub(super) enum Reference {
    /// A blob that is there. These come first.
    Blob,
    /// A blob that is recorded as missing: `true` if the repository has it.
    Missing(bool),
    /// An entry of a list: `true` if the repository has it as a blob, and nothing records that this
    /// manifest references it.
    Listed(bool),
}

impl Recorded {
    fn add(&mut self, reference: Reference, digest: String) {
        match reference {
            Reference::Blob => {
                self.blobs.insert(digest);
            }
            Reference::Missing(is_there) => {
                if is_there || self.blobs.contains(&digest) {
                    self.misplaced.insert(digest.clone());
                }
                self.blobs.insert(digest);
            }
            Reference::Listed(is_unheld) => {
                if is_unheld {
                    self.unheld.insert(digest.clone());
                }
                self.children.insert(digest);
            }
        }
    }
}

/// The manifest of a page, which is in the order of ids.
fn of(page: &mut [StoredManifest], id: i64) -> Option<&mut StoredManifest> {
    let place = page.binary_search_by_key(&id, |manifest| manifest.id).ok()?;
    page.get_mut(place)
}

/// Adds a tag of a manifest of a page.
pub(super) fn add_tag(page: &mut [StoredManifest], id: i64, tag: &str) -> Result<()> {
    let tag = columns::parse("a tag", tag)?;
    if let Some(manifest) = of(page, id) {
        manifest.tags.push(tag);
    }
    Ok(())
}

/// Adds a reference of a manifest of a page.
pub(super) fn add(page: &mut [StoredManifest], id: i64, reference: Reference, digest: String) {
    if let Some(manifest) = of(page, id) {
        manifest.recorded.add(reference, digest);
    }
}

/// Adds the subject of a manifest of a page, with the descriptor among its referrers.
pub(super) fn add_referrer(
    page: &mut [StoredManifest],
    id: i64,
    subject: String,
    descriptor: &str,
) -> Result<()> {
    let Some(manifest) = of(page, id) else { return Ok(()) };
    let descriptor = serde_json::from_str(descriptor)
        .map_err(|_| columns::corrupt("the descriptor of a referrer", &descriptor))?;
    manifest.recorded.referrer = Some((subject, descriptor));
    Ok(())
}
