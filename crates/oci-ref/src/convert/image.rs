//! Images: the types of config and layers.

use oci_spec_types::{ImageManifest, MediaType};

use super::types::{Layer, layer_type};
use super::{Change, Target};
use crate::Result;

/// The image as the target's type.
pub(super) fn convert(image: &ImageManifest, target: &mut Target<'_>) -> Result<ImageManifest> {
    let mut image = image.clone();
    image.media_type = Some(target.media_type.clone());
    target.clear_top(&mut image.annotations, &mut image.artifact_type, &mut image.subject)?;

    target.clear_blob(&mut image.config, "config")?;
    if !image.config.media_type.is_config() {
        return target.refuse("config", &image.config.media_type);
    }
    image.config.media_type =
        if target.is_docker() { MediaType::DOCKER_CONFIG } else { MediaType::OCI_IMAGE_CONFIG };

    for (position, layer) in image.layers.iter_mut().enumerate() {
        let path = format!("layers[{position}]");
        target.clear_blob(layer, &path)?;
        layer.media_type = match layer_type(&layer.media_type, target.is_docker()) {
            Layer::Official(media_type) => media_type,
            Layer::Unofficial(media_type) => {
                target.lose(&path, Change::Unofficial(media_type.clone()))?;
                media_type
            }
            Layer::None => return target.refuse(&path, &layer.media_type),
        };
    }
    Ok(image)
}
