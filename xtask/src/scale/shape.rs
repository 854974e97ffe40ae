//! A registry of a size: how much of each thing it has, and what is called how.
//!
//! Much is shared by few, and little by nearly all, as in registries of people: base layers and
//! base images are in each repository, one repository is as large as all others together, and one
//! subject has very many referrers.

use crate::process::Result;

/// The number of images of its own that a small repository has.
pub(crate) const IMAGES: u64 = 10;

/// The architectures of those that its index lists, which are the first.
pub(crate) const ARCHITECTURES: [&str; 2] = ["amd64", "arm64"];

/// The number of referrers of the subject that have a type that others do not have.
pub(crate) const RARE: u64 = 10;

/// The type of those, and of the others.
pub(crate) const RARE_TYPE: &str = "application/vnd.example.rare";
pub(crate) const USUAL_TYPE: &str = "application/vnd.example.usual";

/// The repository with as many manifests and tags as all small ones have together.
pub(crate) const HUGE: &str = "huge";

/// The repository of the subject.
pub(crate) const SUBJECT: &str = "subject";

/// The tag of an index, in each small repository.
pub(crate) const LATEST: &str = "latest";

/// The tag of the manifest that all repositories have.
pub(crate) const BASE: &str = "base";

/// The tag of the subject.
pub(crate) const KNOWN: &str = "known";

/// The smallest size: all that is measured is there.
pub(crate) const LEAST: u64 = 1000;

/// A size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    /// The manifests of the huge repository, and the images of the small ones.
    pub(crate) manifests: u64,
}

impl Shape {
    /// Takes a size as it was asked for.
    pub(crate) fn new(manifests: u64) -> Result<Self> {
        match manifests >= LEAST && manifests.is_multiple_of(IMAGES) {
            true => Ok(Self { manifests }),
            false => Err(format!(
                "{manifests} manifests: expected at least {LEAST}, and a multiple of {IMAGES}"
            )),
        }
    }

    /// Returns the number of small repositories.
    pub(crate) fn small(self) -> u64 {
        self.manifests / IMAGES
    }

    /// Returns the number of blobs and manifests of repositories that a check looks at.
    pub(crate) fn checked(self) -> u64 {
        let blobs = 2 + 2 * self.manifests;
        let manifests = 3 + 2 * self.manifests + self.referrers() + 2 * self.small();
        blobs + manifests
    }

    /// Returns the number of referrers of the subject.
    pub(crate) fn referrers(self) -> u64 {
        self.manifests / 10
    }
}

/// The name of a small repository. Names sort by their numbers.
pub(crate) fn small(number: u64) -> String {
    format!("small/r{number:07}")
}

/// The tag of a manifest of the huge repository. Tags sort by their numbers.
pub(crate) fn huge_tag(number: u64) -> String {
    format!("v{number:08}")
}

/// The tag of an image of a small repository.
pub(crate) fn image_tag(image: u64) -> String {
    format!("v{}", image % IMAGES)
}
