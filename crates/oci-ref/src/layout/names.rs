//! Names of a layout's manifests, which need not be tags.

use oci_spec_types::{Digest, RefName};

use super::reach::find;
use super::view::listed_manifest;
use super::write::demand;
use super::{Layout, unknown_manifest};
use crate::{Precondition, Result};

impl Layout {
    /// Gives a manifest of the layout a name, which need not be a tag. Whatever had it stays, without
    /// it. The condition is that of [`put_manifest`](crate::Store::put_manifest) for tags.
    ///
    /// # Errors
    /// `MANIFEST_UNKNOWN` if the layout does not have the manifest, `PreconditionFailed` if the
    /// condition does not hold.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let path = directory.path().join("layout");
    /// use oci_ref::{Layout, Manifest, Precondition, Store};
    /// use oci_spec_types::RefName;
    ///
    /// let layout = Layout::create(&path).await?;
    /// let index = br#"{"schemaVersion":2,"manifests":[]}"#;
    /// let index = Manifest::parse(index.as_slice().into(), None, None)?;
    /// layout.put_manifest(&index, &[], &Precondition::None).await?;
    /// let name: RefName = "registry.example/team/app:v1".parse().unwrap();
    /// layout.set_name(&name, index.digest(), &Precondition::None).await?;
    /// assert_eq!(layout.resolve_name(name.as_str()).await?.digest, *index.digest());
    /// # Ok::<_, oci_ref::Error>(()) }).unwrap();
    /// ```
    pub async fn set_name(
        &self,
        name: &RefName,
        digest: &Digest,
        when: &Precondition,
    ) -> Result<()> {
        let (name, digest, when) = (name.clone(), digest.clone(), when.clone());
        self.blocking(move |disk| {
            disk.update(
                |entries| {
                    demand(entries, name.as_str(), &when)?;
                    let entry = find(disk, entries, &digest)?.ok_or_else(|| {
                        unknown_manifest(format!("manifest {digest} is not known"))
                    })?;
                    entries.put_named(&listed_manifest(disk, &entry)?, name.as_str());
                    Ok(())
                },
                || Ok(()),
            )
        })
        .await
    }

    /// Takes a name from what has it. The manifests stay listed, without it. Any name can be taken
    /// that an entry of `index.json` has, also one that no [`RefName`] is.
    ///
    /// # Errors
    /// `MANIFEST_UNKNOWN` if nothing has the name.
    pub async fn remove_name(&self, name: &str) -> Result<()> {
        let name = name.to_owned();
        self.blocking(move |disk| {
            disk.update(
                |entries| match entries.unname(&name) {
                    true => Ok(()),
                    false => Err(unknown_manifest(format!(
                        "{name:?} is not the name of an entry in index.json"
                    ))),
                },
                || Ok(()),
            )
        })
        .await
    }
}
