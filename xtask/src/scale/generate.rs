//! The rows of a registry of some size, piece by piece: each piece is made from its number alone.
//!
//! Ids are arithmetic, so that no piece needs to know another. They ascend with the pieces, and so
//! do most keys, which is what indexes take fastest.

use crate::process::Result;
use crate::scale::content::{Content, Stored};
use crate::scale::row::Row;
use crate::scale::shape::{
    ARCHITECTURES, BASE, HUGE, IMAGES, KNOWN, LATEST, SUBJECT, Shape, huge_tag, image_tag, small,
};

/// Ids of what there is once.
const HUGE_ID: i64 = 1;
const SUBJECT_ID: i64 = 2;
const BASE_BLOB: i64 = 1;
const CONFIG_BLOB: i64 = 2;
const SHARED_MANIFEST: i64 = 1;
const SUBJECT_MANIFEST: i64 = 2;
/// The first id of what there is many of.
const FIRST: i64 = 3;

/// The number of manifests of the huge repository in a piece.
const PIECE: u64 = 1000;

/// A part of a registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// The content that all have, and the huge repository without its manifests.
    Common,
    /// Manifests of the huge repository, from this number on.
    Huge(u64),
    /// The subject's repository, with all referrers.
    Subject,
    /// A small repository.
    Small(u64),
}

/// All pieces of a registry, in the order in which they are written: what is referenced comes
/// before.
pub(crate) fn pieces(shape: Shape) -> impl Iterator<Item = Piece> {
    let huge = (0..shape.manifests.div_ceil(PIECE)).map(|piece| Piece::Huge(piece * PIECE));
    let small = (0..shape.small()).map(Piece::Small);
    [Piece::Common].into_iter().chain(huge).chain([Piece::Subject]).chain(small)
}

/// The number of links before a small repository's, and of links in each.
struct Links {
    subject: i64,
    small: i64,
}

/// An image and a link for each, the shared image, and an index.
const SMALL_LINKS: u64 = IMAGES + 2;

/// Makes rows.
pub(crate) struct Generator {
    shape: Shape,
    content: Content,
    links: Links,
}

fn id(number: u64) -> i64 {
    // Sizes are far below.
    i64::try_from(number).unwrap_or(i64::MAX)
}

impl Generator {
    pub(crate) fn new(shape: Shape) -> Self {
        // The shared image and its manifests in the huge repository; the shared image, the subject
        // and its referrers.
        let subject = FIRST + id(shape.manifests);
        let small = subject + 2 + id(shape.referrers());
        Self { shape, content: Content::new(), links: Links { subject, small } }
    }

    /// The rows of a piece.
    pub(crate) fn rows(&self, piece: Piece) -> Result<Vec<Row>> {
        let mut rows = Rows(Vec::new());
        match piece {
            Piece::Common => self.common(&mut rows),
            Piece::Huge(from) => self.huge(&mut rows, from),
            Piece::Subject => self.subject(&mut rows)?,
            Piece::Small(number) => self.small(&mut rows, number),
        }
        Ok(rows.0)
    }

    fn common(&self, rows: &mut Rows) {
        let Content { base, config, shared, subject } = &self.content;
        rows.blob(BASE_BLOB, base);
        rows.blob(CONFIG_BLOB, config);
        rows.manifest(SHARED_MANIFEST, shared);
        rows.manifest(SUBJECT_MANIFEST, subject);
        self.repository(rows, HUGE_ID, HUGE.to_owned(), 1);
    }

    /// A repository with what all have. `link` is the id of the link to the shared image.
    fn repository(&self, rows: &mut Rows, repository: i64, name: String, link: i64) {
        rows.0.push(Row::Repository { id: repository, name });
        for blob in [BASE_BLOB, CONFIG_BLOB] {
            rows.0.push(Row::Holding { repository, blob });
        }
        let shared = &self.content.shared;
        rows.link(repository, link, SHARED_MANIFEST, shared, None);
        rows.references(repository, link, &[BASE_BLOB, CONFIG_BLOB]);
        rows.tag(repository, BASE, link);
    }

    fn huge(&self, rows: &mut Rows, from: u64) {
        for number in from..(from + PIECE).min(self.shape.manifests) {
            let manifest = self.content.huge(number);
            let (here, link) = (FIRST + id(number), 2 + id(number));
            rows.manifest(here, &manifest);
            rows.link(HUGE_ID, link, here, &manifest, None);
            rows.references(HUGE_ID, link, &[BASE_BLOB, CONFIG_BLOB]);
            rows.tag(HUGE_ID, &huge_tag(number), link);
        }
    }

    fn subject(&self, rows: &mut Rows) -> Result {
        let first = self.links.subject;
        self.repository(rows, SUBJECT_ID, SUBJECT.to_owned(), first);
        let subject = &self.content.subject;
        rows.link(SUBJECT_ID, first + 1, SUBJECT_MANIFEST, subject, None);
        rows.references(SUBJECT_ID, first + 1, &[BASE_BLOB, CONFIG_BLOB]);
        rows.tag(SUBJECT_ID, KNOWN, first + 1);
        let mut referrers = Vec::new();
        for number in 0..self.shape.referrers() {
            let manifest = self.content.referrer(number);
            let descriptor = manifest.referrer()?;
            let here = FIRST + id(self.shape.manifests + number);
            let link = first + 2 + id(number);
            rows.manifest(here, &manifest);
            let artifact_type = descriptor.artifact_type.clone();
            rows.link(SUBJECT_ID, link, here, &manifest, artifact_type.clone());
            rows.references(SUBJECT_ID, link, &[BASE_BLOB, CONFIG_BLOB]);
            let text = serde_json::to_string(&descriptor);
            referrers.push(Row::Referrer {
                repository: SUBJECT_ID,
                subject: subject.digest().to_owned(),
                digest: manifest.digest().to_owned(),
                artifact_type,
                manifest: link,
                descriptor: text.map_err(|error| format!("a descriptor: {error}"))?,
            });
        }
        // In the order of the table's key.
        referrers.sort_unstable_by(|one, other| match (one, other) {
            (Row::Referrer { digest: one, .. }, Row::Referrer { digest: other, .. }) => {
                one.cmp(other)
            }
            _ => std::cmp::Ordering::Equal,
        });
        rows.0.extend(referrers);
        Ok(())
    }

    fn small(&self, rows: &mut Rows, number: u64) {
        let repository = FIRST + id(number);
        let first = self.links.small + id(number * SMALL_LINKS);
        self.repository(rows, repository, small(number), first);
        let manifests = FIRST + id(self.shape.manifests + self.shape.referrers());
        let mut tags = Vec::new();
        let images: Vec<_> =
            (0..IMAGES).map(|image| self.content.image(number * IMAGES + image)).collect();
        for (image, all) in images.iter().zip(number * IMAGES..) {
            let config = FIRST + id(2 * all);
            let (layer, here) = (config + 1, manifests + id(all));
            let link = first + 1 + id(all % IMAGES);
            rows.blob(config, &image.config);
            rows.blob(layer, &image.layer);
            for blob in [config, layer] {
                rows.0.push(Row::Holding { repository, blob });
            }
            rows.manifest(here, &image.manifest);
            rows.link(repository, link, here, &image.manifest, None);
            rows.references(repository, link, &[BASE_BLOB, config, layer]);
            tags.push((image_tag(all), link));
        }
        let index = self.content.index(number, &images);
        let here = manifests + id(self.shape.manifests + number);
        let link = first + 1 + id(IMAGES);
        rows.manifest(here, &index);
        rows.link(repository, link, here, &index, None);
        let listed = images.iter().take(ARCHITECTURES.len());
        for child in listed.map(|image| image.manifest.digest().to_owned()) {
            rows.0.push(Row::Child { parent: link, repository, child });
        }
        rows.tag(repository, LATEST, link);
        for (name, link) in tags {
            rows.tag(repository, &name, link);
        }
    }
}

/// Rows as they are gathered.
struct Rows(Vec<Row>);

impl Rows {
    fn blob(&mut self, id: i64, blob: &Stored) {
        self.0.push(Row::Blob { id, digest: blob.digest().to_owned(), data: blob.bytes.clone() });
    }

    fn manifest(&mut self, id: i64, manifest: &Stored) {
        let (digest, data) = (manifest.digest().to_owned(), manifest.bytes.clone());
        self.0.push(Row::Manifest { id, digest, data });
    }

    fn link(
        &mut self,
        repository: i64,
        id: i64,
        manifest: i64,
        stored: &Stored,
        artifact_type: Option<String>,
    ) {
        let media_type = stored.media_type().to_owned();
        self.0.push(Row::Link { id, repository, manifest, media_type, artifact_type });
    }

    fn references(&mut self, repository: i64, parent: i64, blobs: &[i64]) {
        self.0.extend(blobs.iter().map(|blob| Row::Reference { parent, repository, blob: *blob }));
    }

    fn tag(&mut self, repository: i64, name: &str, manifest: i64) {
        self.0.push(Row::Tag { repository, name: name.to_owned(), manifest });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use oci_spec_types::{Digest, ImageIndex, ImageManifest, MediaType};

    use super::*;
    use crate::scale::shape::LEAST;

    fn all() -> Vec<Row> {
        let generator = Generator::new(Shape::new(LEAST).unwrap());
        pieces(generator.shape).flat_map(|piece| generator.rows(piece).unwrap()).collect()
    }

    fn count(rows: &[Row], is: fn(&Row) -> bool) -> usize {
        rows.iter().filter(|row| is(row)).count()
    }

    #[test]
    fn there_is_as_much_of_each_as_the_size_says() {
        let rows = all();
        assert_eq!(count(&rows, |row| matches!(row, Row::Repository { .. })), 102);
        assert_eq!(count(&rows, |row| matches!(row, Row::Blob { .. })), 2 + 2000);
        assert_eq!(count(&rows, |row| matches!(row, Row::Manifest { .. })), 2 + 2000 + 100 + 100);
        assert_eq!(count(&rows, |row| matches!(row, Row::Link { .. })), 103 + 2000 + 100 + 100);
        assert_eq!(count(&rows, |row| matches!(row, Row::Tag { .. })), 103 + 2000 + 100);
        assert_eq!(count(&rows, |row| matches!(row, Row::Referrer { .. })), 100);
        assert_eq!(count(&rows, |row| matches!(row, Row::Child { .. })), 200);
        assert_eq!(
            count(&rows, |row| matches!(row, Row::Reference { .. })),
            2 * 103 + 2 * 1000 + 2 * 100 + 3 * 1000
        );
    }

    #[test]
    fn ids_and_names_are_of_one_row_each() {
        let mut seen = BTreeSet::new();
        for row in all() {
            let key = match row {
                Row::Repository { id, .. } => format!("repository {id}"),
                Row::Blob { id, .. } => format!("blob {id}"),
                Row::Manifest { id, .. } => format!("manifest {id}"),
                Row::Link { id, .. } => format!("link {id}"),
                Row::Holding { repository, blob } => format!("holding {repository} {blob}"),
                Row::Reference { parent, blob, .. } => format!("reference {parent} {blob}"),
                Row::Child { parent, child, .. } => format!("child {parent} {child}"),
                Row::Tag { repository, name, .. } => format!("tag {repository} {name}"),
                Row::Referrer { digest, .. } => format!("referrer {digest}"),
            };
            assert!(seen.insert(key.clone()), "{key} is there twice");
        }
    }

    #[test]
    fn each_reference_of_a_manifest_is_a_row_and_what_it_names_is_there() {
        let (mut blobs, mut manifests, mut links) =
            (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let (mut holdings, mut found) = (BTreeSet::new(), BTreeMap::<i64, BTreeSet<String>>::new());
        // In this order, so that nothing is referenced before it is there.
        for row in all() {
            match row {
                Row::Repository { .. } => {}
                Row::Blob { id, digest, data } => {
                    assert_eq!(Digest::sha256(&data).as_str(), digest);
                    blobs.insert(id, digest);
                }
                Row::Manifest { id, digest, data } => {
                    assert_eq!(Digest::sha256(&data).as_str(), digest);
                    manifests.insert(id, (digest, data));
                }
                Row::Holding { repository, blob } => {
                    assert!(blobs.contains_key(&blob));
                    holdings.insert((repository, blob));
                }
                Row::Link { id, repository, manifest, media_type, .. } => {
                    assert!(manifests.contains_key(&manifest));
                    links.insert(id, (repository, manifest, media_type));
                }
                Row::Reference { parent, repository, blob } => {
                    assert!(holdings.contains(&(repository, blob)));
                    assert_eq!(links[&parent].0, repository);
                    found.entry(parent).or_default().insert(blobs[&blob].clone());
                }
                Row::Child { parent, child, .. } => {
                    assert!(manifests.values().any(|(digest, _)| *digest == child));
                    found.entry(parent).or_default().insert(child);
                }
                Row::Tag { repository, manifest, .. } => {
                    assert_eq!(links[&manifest].0, repository);
                }
                Row::Referrer { subject, digest, manifest, .. } => {
                    assert_eq!(manifests[&links[&manifest].1].0, digest);
                    assert_eq!(manifests[&SUBJECT_MANIFEST].0, subject);
                }
            }
        }
        for (link, (_, manifest, media_type)) in links {
            let bytes = &manifests[&manifest].1;
            let named: BTreeSet<String> = if media_type == MediaType::OCI_IMAGE_INDEX.as_str() {
                let index = ImageIndex::from_slice(bytes).unwrap();
                index.manifests.iter().map(|entry| entry.digest.to_string()).collect()
            } else {
                let image = ImageManifest::from_slice(bytes).unwrap();
                let all = image.layers.iter().chain([&image.config]);
                all.map(|entry| entry.digest.to_string()).collect()
            };
            assert_eq!(found[&link], named, "link {link}");
        }
    }

    #[test]
    fn other_sizes_than_whole_ones_are_refused() {
        assert!(Shape::new(999).is_err() && Shape::new(1005).is_err());
        assert_eq!(Shape::new(10_000).map(Shape::small), Ok(1000));
    }
}
