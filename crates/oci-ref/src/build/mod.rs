//! Making images and artifacts of bytes. Nothing can be built that would not parse.

mod artifact;
mod built;
mod image;
mod layer;

pub use artifact::ArtifactBuilder;
pub use built::Built;
pub use image::ImageBuilder;
pub use layer::LayerContent;
