//! The platform that this program runs on.

use oci_spec_types::Platform;

/// The platform that this program runs on, in the names of images.
///
/// On amd64 the variant is the level of the processor (`v2` to `v4`), on 32-bit Arm Linux what the kernel says of it.
/// The version of Windows is not known: set [`Platform::os_version`] where it matters.
pub fn host_platform() -> Platform {
    let os = match std::env::consts::OS {
        "macos" => "darwin",
        other => other,
    };
    let mut platform = Platform::new(os, architecture());
    platform.variant = variant().map(str::to_owned);
    platform
}

fn architecture() -> &'static str {
    let little = cfg!(target_endian = "little");
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "x86" => "386",
        "aarch64" => "arm64",
        "powerpc64" if little => "ppc64le",
        "powerpc64" => "ppc64",
        "loongarch64" => "loong64",
        "mips" if little => "mipsle",
        "mips64" if little => "mips64le",
        "wasm32" | "wasm64" => "wasm",
        other => other,
    }
}

#[cfg(target_arch = "x86_64")]
fn variant() -> Option<&'static str> {
    use std::arch::is_x86_feature_detected as has;
    let v2 =
        has!("cmpxchg16b") && has!("popcnt") && has!("sse4.1") && has!("sse4.2") && has!("ssse3");
    let v3 = has!("avx2")
        && has!("bmi1")
        && has!("bmi2")
        && has!("f16c")
        && has!("fma")
        && has!("lzcnt")
        && has!("movbe");
    let v4 = has!("avx512f")
        && has!("avx512bw")
        && has!("avx512cd")
        && has!("avx512dq")
        && has!("avx512vl");
    match (v2, v3, v4) {
        (true, true, true) => Some("v4"),
        (true, true, false) => Some("v3"),
        (true, false, _) => Some("v2"),
        (false, ..) => None,
    }
}

#[cfg(target_arch = "arm")]
fn variant() -> Option<&'static str> {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    arm_variant(&cpuinfo)
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "arm")))]
fn variant() -> Option<&'static str> {
    None
}

/// The variant that Linux states in `/proc/cpuinfo`, of the first processor there.
#[cfg(any(test, target_arch = "arm"))]
fn arm_variant(cpuinfo: &str) -> Option<&'static str> {
    let field = |name: &str| {
        let mut lines = cpuinfo.lines().filter_map(|line| line.split_once(':'));
        lines
            .find(|(key, _)| key.trim().eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim().to_ascii_lowercase())
    };
    match field("CPU architecture")?.as_str() {
        "8" | "aarch64" => Some("v8"),
        // The kernel says 7 of the first Raspberry Pi, whose processor is an ARMv6.
        "7" if field("model name").is_some_and(|model| model.starts_with("armv6-compatible")) => {
            Some("v6")
        }
        "7" | "7m" => Some("v7"),
        "6" | "6tej" => Some("v6"),
        "5" | "5t" | "5te" | "5tej" => Some("v5"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host_is_already_normal() {
        let host = host_platform();
        assert_eq!(host.normalized(), host);
        assert!(!host.os.is_empty() && !host.architecture.is_empty());
    }

    #[test]
    fn what_linux_says_of_arm_processors() {
        let cases = [
            ("processor\t: 0\nCPU architecture: 7\n", Some("v7")),
            (
                "model name\t: ARMv6-compatible processor rev 7 (v6l)\nCPU architecture: 7\n",
                Some("v6"),
            ),
            ("model name\t: ARMv7 Processor rev 4\nCPU architecture: 7\n", Some("v7")),
            ("CPU architecture: 8\nCPU architecture: 7\n", Some("v8")),
            ("cpu architecture: AArch64\n", Some("v8")),
            ("CPU architecture: 5TEJ\n", Some("v5")),
            ("CPU architecture: 4\n", None),
            ("nothing", None),
        ];
        for (cpuinfo, expected) in cases {
            assert_eq!(arm_variant(cpuinfo), expected, "{cpuinfo:?}");
        }
    }
}
