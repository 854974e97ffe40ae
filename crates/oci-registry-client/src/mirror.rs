//! Registries that have the content of another one, and are asked before it.

use oci_spec_types::Host;

/// A registry that has content of another one: a pull-through cache, or a copy nearby.
///
/// It is trusted with nothing. It is asked for what a digest verifies: manifests by digest and whole blobs. What a tag
/// names is asked of the registry itself, unless [`with_tags`](Self::with_tags) says otherwise.
///
/// ```
/// use oci_registry_client::{Client, Mirror};
///
/// let near = Mirror::new("mirror.example:5000".parse()?);
/// let client = Client::builder().mirrors("registry.example".parse()?, [near]).build()?;
/// # let _ = client;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    pub(crate) host: Host,
    pub(crate) tags: bool,
}

impl Mirror {
    /// The mirror at a host. Whether it is reached by plain HTTP, and with which credentials, is decided by that host.
    pub fn new(host: Host) -> Self {
        Self { host, tags: false }
    }

    /// It also says which manifest a tag names, where a manifest is read by tag. It may be behind the registry, and
    /// nothing verifies what it says. With all reads at mirrors the registry itself need not be reachable.
    #[must_use]
    pub fn with_tags(mut self) -> Self {
        self.tags = true;
        self
    }
}

impl From<Host> for Mirror {
    fn from(host: Host) -> Self {
        Self::new(host)
    }
}
