//! One type for both kinds of lists of manifests, the OCI image index and the Docker manifest list, to read and to edit.

mod edit;
mod entry;

use bytes::Bytes;
use oci_spec_types::{Descriptor, Digest, ImageIndex, MediaType, Platform, Tag};

use crate::platform::{Choice, NoMatch};
use crate::{Conversion, Error, ErrorKind, Loss, Manifest, Precondition, Result, Store};

pub use edit::ListUpdate;

pub(crate) use entry::platform_of;

/// A list of manifests that can be edited: an OCI image index or a Docker manifest list.
///
/// The manifest that it was made of stays as it is: a list that says the same as at first gives back the same bytes.
/// An edited one is serialised once, with the fields that this library does not know, and parsed again: there is no
/// way to make a list that would not parse. An image may be listed several times, for several platforms; edits by
/// digest are of all its entries.
///
/// ```
/// use oci_ref::List;
/// use oci_spec_types::{Descriptor, MediaType, Platform};
///
/// let mut list = List::new(MediaType::OCI_IMAGE_INDEX)?;
/// let image = Descriptor::of(MediaType::OCI_IMAGE_MANIFEST, b"an image manifest");
/// list.add(image.clone());
/// list.set_platform(&image.digest, Some(Platform::new("linux", "arm64")))?;
///
/// let manifest = list.to_manifest()?;
/// assert_eq!(manifest.manifests()[0].digest, image.digest);
///
/// let error = list.choose(&"linux/s390x".parse().unwrap()).unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     r#"no image for architecture "s390x", OS "linux" among 1 entry; there is linux/arm64"#
/// );
/// # Ok::<_, oci_ref::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct List {
    media_type: MediaType,
    document: ImageIndex,
    original: Option<Manifest>,
}

impl List {
    /// An empty list of the type of an OCI index or of a Docker list. Other types are refused.
    pub fn new(media_type: MediaType) -> Result<Self> {
        if !media_type.is_index() {
            let message = format!(
                "{media_type} is no list type, expected that of an OCI index or a Docker list"
            );
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        let document =
            ImageIndex { media_type: Some(media_type.clone()), ..ImageIndex::new(Vec::new()) };
        Ok(Self { media_type, document, original: None })
    }

    /// What a manifest lists. `MANIFEST_INVALID` for what is no list.
    pub fn of(manifest: &Manifest) -> Result<Self> {
        let Some(document) = manifest.index() else {
            return Err(Error::new(
                oci_spec_types::ErrorCode::ManifestInvalid,
                format!(
                    "{} is of type {}, expected a list",
                    manifest.digest(),
                    manifest.media_type()
                ),
            ));
        };
        Ok(Self {
            media_type: manifest.media_type().clone(),
            document: document.clone(),
            original: Some(manifest.clone()),
        })
    }

    /// The media type: of an OCI index or of a Docker list.
    pub fn media_type(&self) -> &MediaType {
        &self.media_type
    }

    /// What the list says now.
    pub fn document(&self) -> &ImageIndex {
        &self.document
    }

    /// The entries, in order.
    pub fn instances(&self) -> &[Descriptor] {
        &self.document.manifests
    }

    /// The first entry with this digest. `MANIFEST_UNKNOWN` if there is none.
    pub fn instance(&self, digest: &Digest) -> Result<&Descriptor> {
        self.instances()
            .iter()
            .find(|entry| entry.digest == *digest)
            .ok_or_else(|| edit::not_listed(digest))
    }

    /// The entry that fits a platform best, and for each why it was or was not taken.
    pub fn choose(&self, wanted: &Platform) -> Result<Choice, NoMatch> {
        crate::platform::choose(self.instances(), wanted)
    }

    /// Whether the list says something else than the manifest that it was made of.
    pub fn is_edited(&self) -> bool {
        self.original.as_ref().and_then(Manifest::index) != Some(&self.document)
    }

    /// The manifest: the very bytes that it was made of, if it still says the same. The digest of an edited list has
    /// the algorithm of the original's.
    pub fn to_manifest(&self) -> Result<Manifest> {
        match &self.original {
            Some(original) if !self.is_edited() => Ok(original.clone()),
            original => {
                let mut document = self.document.clone();
                document.media_type = Some(self.media_type.clone());
                let algorithm =
                    original.as_ref().and_then(|original| original.digest().known_algorithm());
                let bytes = Bytes::from(serialise(&document)?);
                let digest = algorithm.unwrap_or_default().digest(&bytes);
                Ok(Manifest::parse(bytes, Some(&self.media_type), Some(&digest))?)
            }
        }
    }

    /// The list as another type, see [`Manifest::convert_to`].
    pub fn convert_to(&self, media_type: &MediaType, loss: Loss) -> Result<Conversion> {
        self.to_manifest()?.convert_to(media_type, loss)
    }

    /// Writes the list, and moves the tags to it. What it lists must be there, unless the store allows for less.
    pub async fn write(&self, store: &dyn Store, tags: &[Tag]) -> Result<Manifest> {
        let manifest = self.to_manifest()?;
        store.put_manifest(&manifest, tags, &Precondition::None).await?;
        Ok(manifest)
    }
}

/// The one place where a list becomes bytes.
fn serialise(document: &ImageIndex) -> Result<Vec<u8>> {
    serde_json::to_vec(document).map_err(|error| {
        Error::new(ErrorKind::Invalid, format!("list: {error}")).with_source(error)
    })
}
