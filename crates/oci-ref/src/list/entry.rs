//! The entry by which an image is listed.

use oci_spec_types::{Descriptor, ImageConfig, Platform};

use crate::{Image, Result};

impl Image {
    /// The platform that the image's config states. `UNSUPPORTED` for artifacts.
    pub async fn platform(&self) -> Result<Platform> {
        Ok(platform_of(&self.config().await?))
    }

    /// The descriptor by which an index lists this image: with the platform that its config states, or, for an
    /// artifact, with its artifact type alone.
    pub async fn index_entry(&self) -> Result<Descriptor> {
        let mut entry = self.manifest().descriptor().clone();
        if self.config_descriptor().media_type.is_config() {
            entry.platform = Some(self.platform().await?);
        }
        Ok(entry)
    }
}

pub(crate) fn platform_of(config: &ImageConfig) -> Platform {
    Platform {
        os_version: config.os_version.clone(),
        os_features: config.os_features.clone(),
        variant: config.variant.clone(),
        ..Platform::new(&config.os, &config.architecture)
    }
}
