//! Which versions of an operating system run images of which others.

use std::cmp::Reverse;

/// The long-term releases of Windows Server from the one on that hosts run images of the release before.
const LONG_TERM_BUILDS: [u64; 2] = [20348, 26100];

/// How an image's `os.version` fits the wanted one, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum VersionFit {
    /// It is the same, or none was asked for.
    Same,
    /// Another that runs, the newest first.
    Compatible(Reverse<[u64; 4]>),
    /// The image does not say.
    Unstated,
    /// Another, of an operating system whose versions exclude nothing.
    Other,
}

/// How `found` fits; `None` if it does not.
pub(super) fn fit(os: &str, wanted: Option<&str>, found: Option<&str>) -> Option<VersionFit> {
    match (wanted, found) {
        (None, _) => Some(VersionFit::Same),
        (Some(_), None) => Some(VersionFit::Unstated),
        (Some(wanted), Some(found)) if wanted == found => Some(VersionFit::Same),
        (Some(wanted), Some(found)) if os == "windows" => {
            let (wanted, found) = (numbers(wanted)?, numbers(found)?);
            windows_runs(wanted, found).then_some(VersionFit::Compatible(Reverse(found)))
        }
        (Some(_), Some(_)) => Some(VersionFit::Other),
    }
}

fn windows_runs(host: [u64; 4], image: [u64; 4]) -> bool {
    let ([.., build, _], [.., image_build, _]) = (host, image);
    if host[..2] != image[..2] {
        return false;
    }
    if build < LONG_TERM_BUILDS[0] {
        return build == image_build;
    }
    let before = LONG_TERM_BUILDS.into_iter().rev().find(|release| *release < build);
    (before.unwrap_or(LONG_TERM_BUILDS[0])..=build).contains(&image_build)
}

/// `major.minor.build`, perhaps with a revision.
fn numbers(version: &str) -> Option<[u64; 4]> {
    let mut numbers = [0; 4];
    let mut count = 0;
    for part in version.split('.') {
        *numbers.get_mut(count)? = part.parse::<u32>().ok()?.into();
        count += 1;
    }
    (count >= 3).then_some(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_builds() {
        let cases = [
            ("10.0.17763.1", "10.0.17763.9999", true),
            ("10.0.17763", "10.0.17763.5", true),
            ("10.0.17763", "10.0.14393", false),
            ("10.0.20348", "10.0.17763", false),
            ("10.0.20348", "10.0.20348.1", true),
            ("10.0.25398", "10.0.20348", true),
            ("10.0.26100", "10.0.20348", true),
            ("10.0.26100", "10.0.25398", true),
            ("10.0.26100", "10.0.26101", false),
            ("10.0.26200", "10.0.26100", true),
            ("10.0.26200", "10.0.20348", false),
            ("10.0.20348", "11.0.20348", false),
            ("10.0.20348", "10.0", false),
            ("10.0", "10.0.20348", false),
            ("10.0.20348", "10.0.20348.1.1", false),
            ("10.0.20348", "10.0.-1", false),
            ("10.0.20348", "10.0.99999999999999999999", false),
        ];
        for (host, image, expected) in cases {
            assert_eq!(
                fit("windows", Some(host), Some(image)).is_some(),
                expected,
                "{image} on {host}"
            );
        }
    }
}
