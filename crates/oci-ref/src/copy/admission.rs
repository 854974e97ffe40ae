//! Admission: every manifest is asked about before anything that it references is read.

use std::sync::Arc;

use async_trait::async_trait;
use oci_spec_types::{Descriptor, Reference};

use super::run::Run;
use crate::graph::{Entry, read_entry};
use crate::platform::Gate;
use crate::{Manifest, Result, Source};

/// A decision on manifests, such as that of a policy on signatures.
///
/// A copy asks about each manifest that it reads, once, before it reads anything that the manifest
/// references: the one that was asked for, indexes in which an image is looked for, images,
/// artifacts, and what refers to them. An index is asked about before what it lists. Nothing of
/// what is refused is written, nor anything that references it; what was read of it is its manifest
/// alone. Several may be asked about at a time.
///
/// A closure without `async` is one too, where the manifest alone decides.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use std::sync::Arc;
/// use async_trait::async_trait;
/// use oci_ref::{Admission, AdmissionRequest, CopyOptions, Error, Memory, Reached, Result, copy};
/// use oci_spec_types::{Descriptor, ErrorCode};
/// # use oci_ref::ArtifactBuilder;
/// # use oci_spec_types::MediaType;
///
/// /// Admits what has been attested. What an admitted index lists, its digest stands for.
/// struct Attested;
///
/// #[async_trait]
/// impl Admission for Attested {
///     async fn admit(&self, request: &AdmissionRequest<'_>) -> Result<()> {
///         if request.reached != Reached::Named {
///             return Ok(());
///         }
///         let digest = request.manifest.digest();
///         let wanted = "application/vnd.example.attestation";
///         let found = request.source.referrers(digest, Some(wanted), None, 100).await?;
///         // A real policy reads and verifies them: a claim proves nothing.
///         let is_one = |found: &Descriptor| found.artifact_type.as_deref() == Some(wanted);
///         match found.page.items.iter().any(is_one) {
///             true => Ok(()),
///             false => Err(Error::new(ErrorCode::Denied, "nobody has attested it")),
///         }
///     }
/// }
///
/// let (from, to) = (Arc::new(Memory::new()), Arc::new(Memory::new()));
/// # let notes = ArtifactBuilder::new(MediaType::from_static("application/vnd.example.notes"));
/// # let notes = notes.write(&*from, &[]).await?;
/// let options = CopyOptions { admission: Some(Arc::new(Attested)), ..CopyOptions::default() };
/// let error = copy(from, &notes.digest().clone().into(), to, options).await.unwrap_err();
/// assert!(error.is_denied());
/// # Ok::<_, oci_ref::Error>(()) }).unwrap();
/// ```
#[async_trait]
pub trait Admission: Send + Sync {
    /// Admits a manifest, or refuses it with an error, which ends the copy.
    async fn admit(&self, request: &AdmissionRequest<'_>) -> Result<()>;
}

#[async_trait]
impl<F: Fn(&AdmissionRequest<'_>) -> Result<()> + Send + Sync> Admission for F {
    async fn admit(&self, request: &AdmissionRequest<'_>) -> Result<()> {
        self(request)
    }
}

/// A manifest that is asked about.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct AdmissionRequest<'a> {
    /// The manifest. Its bytes have its digest.
    pub manifest: &'a Manifest,
    /// The descriptor by which it was found, as an index or a list of referrers has it: with
    /// platform and annotations. Of what was asked for, its own.
    pub descriptor: &'a Descriptor,
    /// The source that it was read from, where also signatures and referrers are.
    pub source: &'a Arc<dyn Source>,
    /// The reference by which the source was named
    /// ([`CopyOptions::name`](crate::CopyOptions::name)). It names what was asked for, also where
    /// this is only listed in that.
    pub name: Option<&'a Reference>,
    /// The way by which it was reached.
    pub reached: Reached,
}

impl<'a> AdmissionRequest<'a> {
    /// About a manifest that was asked for by itself, at a source without a name.
    pub fn new(manifest: &'a Manifest, source: &'a Arc<dyn Source>) -> Self {
        let descriptor = manifest.descriptor();
        Self { manifest, descriptor, source, name: None, reached: Reached::Named }
    }
}

/// The way by which a manifest was reached first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reached {
    /// It was asked for, by tag or digest.
    Named,
    /// An index lists it that was admitted.
    Listed,
    /// It refers to a manifest that was admitted, or lies under a tag made of that one's digest.
    /// Nobody vouches for it.
    Refers,
}

impl Run {
    /// Asks about a manifest, unless it has been admitted.
    pub(super) async fn admit(
        &self,
        manifest: &Manifest,
        descriptor: &Descriptor,
        reached: Reached,
    ) -> Result<()> {
        let Some(admission) = &self.options.admission else { return Ok(()) };
        let name = self.options.name.as_ref();
        let request = AdmissionRequest { manifest, descriptor, source: &self.from, name, reached };
        let asked = async {
            let admitted = admission.admit(&request).await;
            admitted
                .map_err(|error| error.context(format!("{} is not admitted", manifest.digest())))
        };
        let cell = self.admission_of(manifest.digest());
        cell.get_or_try_init(|| asked).await.copied()
    }

    /// Reads what is listed or refers to another, and asks about it if it is a manifest.
    pub(super) async fn read_entry(
        &self,
        descriptor: &Descriptor,
        reached: Reached,
    ) -> Result<Entry> {
        let entry = read_entry(&*self.from, descriptor).await?;
        if let Entry::Manifest(manifest) = &entry {
            self.admit(manifest, descriptor, reached).await?;
        }
        Ok(entry)
    }
}

#[async_trait]
impl Gate for Run {
    async fn admit(&self, manifest: &Manifest, entry: &Descriptor) -> Result<()> {
        self.admit(manifest, entry, Reached::Listed).await
    }
}
