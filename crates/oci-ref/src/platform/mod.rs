//! Which entry of a list fits a platform, and why the others do not.
//!
//! The tools disagree in places; `testdata/platforms` has a case for each rule, and says who does otherwise and why
//! this is how it is done here. Both sides are normalised first ([`Platform::normalized`]), then, in this order:
//!
//! 1. What is no image is never taken: artifacts, attestations (`unknown/unknown`), entries that are no manifests.
//! 2. The operating system must be the same.
//! 3. The processor must run it: the wanted variant, then older ones downward; an unknown variant only runs itself and
//!    images without a variant. As a last resort amd64 runs 386, and arm64 runs arm v8 to v5.
//! 4. Windows: a host before build 20348 needs its own build; a later one runs builds from the previous long-term
//!    release up to its own, the newest first. An image without a version comes after those. Elsewhere, and where no
//!    version was asked for, versions exclude nothing.
//! 5. `os.features` of an image must all be among the wanted ones; more of them are better. `win32k` counts as wanted,
//!    since every Windows host but Nano Server has it. Elsewhere than on Windows an image that
//!    needs others is taken after all that fit, the one of which the fewest are missing. Processor
//!    `features` decide nothing.
//! 6. The first entry without a platform comes after all that fit.
//! 7. Of equals, the first in the list.

mod choice;
mod entry;
mod fit;
mod host;
mod image;
mod processor;
mod version;

pub use choice::{Candidate, Choice, NoMatch, Verdict};
pub use entry::choose_entry;
pub use fit::Fit;
pub use host::host_platform;
pub use image::{ChosenImage, choose_image};

pub(crate) use choice::choose;
#[cfg(feature = "layout")]
pub(crate) use entry::ambiguous;
pub(crate) use image::{Gate, choose_image_admitted};

#[cfg(doc)]
use oci_spec_types::Platform;
