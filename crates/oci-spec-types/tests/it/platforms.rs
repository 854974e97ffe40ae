//! Platforms: text form and normal names.

use oci_spec_types::Platform;

#[test]
fn text_form() {
    let windows: Platform = "windows(10.0.17763)/amd64".parse().unwrap();
    assert_eq!(
        (windows.os.as_str(), windows.os_version.as_deref()),
        ("windows", Some("10.0.17763"))
    );
    let arm: Platform = "linux/arm/v7".parse().unwrap();
    assert_eq!((arm.architecture.as_str(), arm.variant.as_deref()), ("arm", Some("v7")));
    assert_eq!("linux/amd64".parse(), Ok(Platform::new("linux", "amd64")));

    let refused = [
        "",
        "linux",
        "/amd64",
        "linux/",
        "linux/arm/",
        "linux/arm/v7/x",
        "a b/c",
        "win()/amd64",
        "win(1/amd64",
        "win(1)x/amd64",
        "linux/\u{e4}",
        "*/*",
    ];
    for text in refused {
        assert!(text.parse::<Platform>().is_err(), "{text:?}");
    }
    let error = "linux".parse::<Platform>().unwrap_err().to_string();
    assert!(error.contains("\"linux\"") && error.contains("architecture"), "{error}");
}

#[test]
fn normal_names() {
    let cases = [
        ("linux/aarch64", "linux/arm64"),
        ("linux/arm64/v8", "linux/arm64"),
        ("linux/arm64/v9", "linux/arm64/v9"),
        ("linux/x86_64", "linux/amd64"),
        ("linux/amd64/v1", "linux/amd64"),
        ("linux/amd64/v3", "linux/amd64/v3"),
        ("linux/i386", "linux/386"),
        ("linux/armhf", "linux/arm/v7"),
        ("linux/armel", "linux/arm/v6"),
        ("linux/arm", "linux/arm/v7"),
        ("linux/arm/v5", "linux/arm/v5"),
        ("linux/arm/6", "linux/arm/v6"),
        ("Linux/AMD64", "linux/amd64"),
        ("macOS/aarch64", "darwin/arm64"),
        ("windows(10.0.17763)/x86_64", "windows(10.0.17763)/amd64"),
        ("linux/riscv64", "linux/riscv64"),
    ];
    for (text, normal) in cases {
        let platform: Platform = text.parse().unwrap();
        assert_eq!(platform.normalized().to_string(), normal, "{text}");
        assert_eq!(platform.normalized().normalized(), platform.normalized(), "{text}");
    }
}
