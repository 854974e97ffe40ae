//! Which processors run code for which others.

use oci_spec_types::Platform;

/// How code for one processor runs on another, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Runs {
    /// The same architecture and variant.
    Same,
    /// A variant that is so many steps older.
    Older(u64),
    /// Another architecture that the processor also runs, so many steps below its best.
    OtherArchitecture(u64),
}

/// Why code for one processor does not run on another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DoesNotRun {
    Architecture,
    Variant,
}

/// How code for `found` runs on `wanted`. Both are normalised.
pub(super) fn runs(wanted: &Platform, found: &Platform) -> Result<Runs, DoesNotRun> {
    let [host, image] = [wanted, found].map(|platform| platform.variant.as_deref());
    match (wanted.architecture.as_str(), found.architecture.as_str()) {
        (wanted, found) if wanted == found => steps(wanted, host, image)
            .map(|steps| if steps == 0 { Runs::Same } else { Runs::Older(steps) }),
        ("amd64", "386") => Ok(Runs::OtherArchitecture(0)),
        ("arm64", "arm") if level("arm64", host).is_some() => {
            steps("arm", Some("v8"), image).map(Runs::OtherArchitecture)
        }
        _ => Err(DoesNotRun::Architecture),
    }
}

/// How many steps older `image` is than `host`, as variants of one architecture.
fn steps(architecture: &str, host: Option<&str>, image: Option<&str>) -> Result<u64, DoesNotRun> {
    let older = match (level(architecture, host), level(architecture, image)) {
        _ if host == image => Some(0),
        (Some((9, host)), Some((8, image))) if architecture == "arm64" => {
            // Armv9.0 has what Armv8.5 has, and so on.
            let same = host.saturating_add(5);
            same.checked_sub(image).map(|below| host.saturating_add(1).saturating_add(below))
        }
        (Some((host, host_minor)), Some((image, image_minor))) if architecture == "arm64" => {
            (host == image).then(|| host_minor.checked_sub(image_minor)).flatten()
        }
        (Some((host, _)), Some((image, _))) => host.checked_sub(image),
        // Of a variant that is not known here, only the base is known to run on it.
        (None, _) if image.is_none() => Some(1),
        _ => None,
    };
    older.ok_or(DoesNotRun::Variant)
}

/// A variant as numbers, of those architectures whose variants are ordered.
fn level(architecture: &str, variant: Option<&str>) -> Option<(u64, u64)> {
    let numbers = |default: &'static str| {
        let text = variant.unwrap_or(default);
        let text = text.strip_prefix('v').unwrap_or(text);
        let (major, minor) = text.split_once('.').unwrap_or((text, "0"));
        Some((number(major)?, number(minor)?))
    };
    match architecture {
        "amd64" => numbers("v1").filter(|(major, minor)| *major >= 1 && *minor == 0),
        "arm" => numbers("v7").filter(|(major, minor)| *major >= 5 && *minor == 0),
        "arm64" => numbers("v8").filter(|(major, _)| matches!(major, 8 | 9)),
        _ => None,
    }
}

/// A short decimal number; what is longer is no variant.
fn number(text: &str) -> Option<u64> {
    let plain =
        !text.is_empty() && text.len() <= 3 && text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(wanted: &str, found: &str) -> Result<Runs, DoesNotRun> {
        let [wanted, found] =
            [wanted, found].map(|text| text.parse::<Platform>().unwrap().normalized());
        runs(&wanted, &found)
    }

    #[test]
    fn what_runs_on_what() {
        use DoesNotRun::{Architecture, Variant};
        let cases = [
            ("linux/amd64", "linux/amd64/v1", Ok(Runs::Same)),
            ("linux/amd64/v3", "linux/amd64/v3", Ok(Runs::Same)),
            ("linux/amd64/v3", "linux/amd64/v2", Ok(Runs::Older(1))),
            ("linux/amd64/v3", "linux/amd64", Ok(Runs::Older(2))),
            ("linux/amd64/v3", "linux/amd64/v4", Err(Variant)),
            ("linux/amd64", "linux/386", Ok(Runs::OtherArchitecture(0))),
            ("linux/386", "linux/amd64", Err(Architecture)),
            ("linux/arm/v7", "linux/arm/v5", Ok(Runs::Older(2))),
            ("linux/arm/v6", "linux/arm", Err(Variant)),
            ("linux/arm", "linux/arm/v8", Err(Variant)),
            ("linux/arm/v5", "linux/arm/v4", Err(Variant)),
            ("linux/arm64", "linux/arm64/v8.0", Ok(Runs::Same)),
            ("linux/arm64/v8.2", "linux/arm64", Ok(Runs::Older(2))),
            ("linux/arm64", "linux/arm64/v9", Err(Variant)),
            ("linux/arm64/v9", "linux/arm64/v8.5", Ok(Runs::Older(1))),
            ("linux/arm64/v9", "linux/arm64/v8.6", Err(Variant)),
            ("linux/arm64/v9.2", "linux/arm64/9.1", Ok(Runs::Older(1))),
            ("linux/arm64/v9.2", "linux/arm64/v8.7", Ok(Runs::Older(3))),
            ("linux/arm64", "linux/arm/v8", Ok(Runs::OtherArchitecture(0))),
            ("linux/arm64/v9.1", "linux/arm", Ok(Runs::OtherArchitecture(1))),
            ("linux/arm64/v10", "linux/arm/v7", Err(Architecture)),
            ("linux/arm64/v10", "linux/arm64/v10", Ok(Runs::Same)),
            ("linux/arm64/v10", "linux/arm64", Ok(Runs::Older(1))),
            ("linux/arm64/v10", "linux/arm64/v9", Err(Variant)),
            ("linux/riscv64/rva22", "linux/riscv64", Ok(Runs::Older(1))),
            ("linux/riscv64", "linux/riscv64/rva22", Err(Variant)),
            ("linux/s390x", "linux/ppc64le", Err(Architecture)),
            ("linux/arm64/v9.999", "linux/arm64/v8", Ok(Runs::Older(2004))),
            ("linux/amd64/v99999999999999999999", "linux/amd64", Ok(Runs::Older(1))),
        ];
        for (wanted, found, expected) in cases {
            assert_eq!(check(wanted, found), expected, "{found} on {wanted}");
        }
    }
}
