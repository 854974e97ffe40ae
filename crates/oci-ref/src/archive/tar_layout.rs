//! The layout in a tar archive.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use oci_spec_types::Digest;

use super::tar_index::{TarIndex, invalid};
use crate::Result;
use crate::files::Part;
use crate::layout::INDEX;
use crate::layout::index::Entries;
use crate::layout::marker::{MARKER, MARKER_LIMIT, check_content};
use crate::layout::reach::Facts;
use crate::layout::view::{Blobs, DOCUMENT_LIMIT, no_index, parse_index};

/// The layout in a tar archive.
pub(crate) struct TarLayout {
    tar: Arc<TarIndex>,
    index: Entries,
    facts: Mutex<HashMap<Digest, Arc<Facts>>>,
}

impl TarLayout {
    /// Reads what makes an archive one with a layout in it.
    pub(crate) fn of(tar: Arc<TarIndex>) -> Result<Self> {
        let Some(marker) = tar.file(MARKER)? else {
            let docker = match tar.file("manifest.json")? {
                Some(_) => "; it has a manifest.json, so it is for docker-archive:",
                None => "",
            };
            return Err(invalid(format!("there is no file oci-layout in it{docker}")));
        };
        check_content(&marker.read_all(MARKER, MARKER_LIMIT)?, "the archive")?;
        let index = tar.file(INDEX)?.ok_or_else(no_index)?;
        let index = parse_index(&index.read_all(INDEX, DOCUMENT_LIMIT)?)?;
        Ok(Self { tar, index, facts: Mutex::default() })
    }

    /// What `index.json` says.
    pub(crate) fn index(&self) -> &Entries {
        &self.index
    }
}

impl Blobs for TarLayout {
    fn blob_size(&self, digest: &Digest) -> Result<Option<u64>> {
        Ok(self.blob_part(digest)?.map(|part| part.size()))
    }

    fn blob_part(&self, digest: &Digest) -> Result<Option<Part>> {
        self.tar.file(&self.blob_name(digest))
    }

    fn document(&self, digest: &Digest) -> Result<Option<Bytes>> {
        let part = self.blob_part(digest)?;
        part.map(|part| part.read_all(&self.blob_name(digest), DOCUMENT_LIMIT)).transpose()
    }

    fn blob_name(&self, digest: &Digest) -> String {
        format!("blobs/{}/{}", digest.algorithm(), digest.encoded())
    }

    fn facts(&self) -> &Mutex<HashMap<Digest, Arc<Facts>>> {
        &self.facts
    }
}
