//! Lists: what an entry may hold.

use oci_spec_types::{ImageIndex, Platform};

use super::{Change, Target};
use crate::{Result, host_platform};

/// The list as the target's type.
pub(super) fn convert(index: &ImageIndex, target: &mut Target<'_>) -> Result<ImageIndex> {
    let mut index = index.clone();
    index.media_type = Some(target.media_type.clone());
    target.clear_top(&mut index.annotations, &mut index.artifact_type, &mut index.subject)?;
    for (position, entry) in index.manifests.iter_mut().enumerate() {
        let path = format!("manifests[{position}]");
        target.clear_descriptor(entry, &path)?;
        match &mut entry.platform {
            None if target.is_docker() => {
                // Nothing is known of the variant that the image needs.
                let host = Platform { variant: None, ..host_platform() };
                entry.platform = Some(host.clone());
                target.lose(format_args!("{path}.platform"), Change::PlatformAssumed(host))?;
            }
            Some(platform) if !target.is_docker() => {
                target.clear(&mut platform.features, format_args!("{path}.platform.features"))?;
            }
            _ => {}
        }
    }
    Ok(index)
}
