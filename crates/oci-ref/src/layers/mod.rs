//! Layers: how they are compressed, and their content as verified streams.

mod compression;
#[cfg(feature = "compression")]
mod decoder;
#[cfg(feature = "compression")]
mod stream;
#[cfg(feature = "tar")]
mod unpacking;

pub use compression::Compression;
#[cfg(feature = "compression")]
pub use stream::{DEFAULT_LAYER_LIMIT, Layer, Layers};

#[cfg(feature = "compression")]
pub(crate) use decoder::unpacked_digest;
#[cfg(feature = "tar")]
pub(crate) use unpacking::unpacking_to;
