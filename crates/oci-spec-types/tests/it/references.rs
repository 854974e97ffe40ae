//! References, read strictly and by Docker's rules.

use oci_spec_types::{Host, Name, Reference};

const HEX: &str = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";

#[test]
fn strict_references() {
    let digest = format!("sha256:{HEX}");
    let accepted = [
        "registry.example/app".to_owned(),
        "registry.example/app:1.2".to_owned(),
        "registry.example:443/a/b/c:x".to_owned(),
        "localhost/app".to_owned(),
        "registry:5000/app".to_owned(),
        "127.0.0.1:5000/app:x".to_owned(),
        "[::1]:5000/x".to_owned(),
        "[2001:db8::1]/x".to_owned(),
        "Registry.Example/app".to_owned(),
        format!("registry.example/app@{digest}"),
        format!("registry.example/app:1.2@{digest}"),
    ];
    for text in accepted {
        let reference: Reference = text.parse().unwrap();
        assert_eq!(reference.to_string(), text);
    }
    let reference: Reference = format!("[::1]:5000/a/b:t@{digest}").parse().unwrap();
    assert_eq!(reference.host().as_str(), "[::1]:5000");
    assert_eq!(reference.name().as_str(), "a/b");
    assert_eq!(reference.tag().unwrap().as_str(), "t");
    assert_eq!(reference.digest().unwrap().as_str(), digest);

    let refused = [
        ("", "registry host"),
        ("app", "registry host"),
        ("team/app", "registry host"),
        ("/app", "registry host"),
        ("registry.example", "registry host"),
        ("registry.example/", "repository name"),
        ("registry.example/App", "found 'A' at byte 0"),
        ("registry.example/a//b", "found '/' at byte 2"),
        ("registry.example/a/../b", "found '.' at byte 2"),
        ("registry.example/a:", "invalid tag"),
        ("registry.example/a:-x", "invalid tag"),
        ("registry.example/a:x:y", "invalid tag"),
        ("registry.example/a@", "invalid digest"),
        ("registry.example/a@sha256:12", "invalid digest"),
        ("registry.example/a@sha256:..", "invalid digest"),
        ("registry.example:0/a", "invalid registry host"),
        ("registry.example:65536/a", "invalid registry host"),
        ("[::1/a", "invalid registry host"),
        ("https://registry.example/a", "invalid registry host"),
        ("user:secret@registry.example/a", "registry host"),
    ];
    for (text, reason) in refused {
        let error = text.parse::<Reference>().unwrap_err().to_string();
        assert!(error.contains(reason), "{text:?}: {error}");
    }
}

#[test]
fn absurd_lengths_are_refused_at_once_with_a_small_error() {
    let texts = [
        format!("registry.example{}", "/".repeat(1000)),
        format!("registry.example{}", "/a".repeat(1000)),
        "a".repeat(4_000_000),
        "\u{1F980}".repeat(1_000_000),
    ];
    for text in texts {
        for error in
            [text.parse::<Reference>().unwrap_err(), Reference::parse_familiar(&text).unwrap_err()]
        {
            assert!(error.to_string().len() < 1000, "{error}");
        }
        assert!(text.parse::<Name>().unwrap_err().to_string().len() < 500);
        assert!(text.parse::<Host>().unwrap_err().to_string().len() < 500);
    }
}

#[test]
fn the_longest_parts_fit_together() {
    let label = "a".repeat(63);
    let host = format!("{label}.{label}.{label}.{}:65535", "a".repeat(61));
    let name = format!("{}/{}", "n".repeat(127), "m".repeat(127));
    let digest = format!("x:{}", "d".repeat(253));
    let text = format!("{host}/{name}:{}@{digest}", "t".repeat(128));
    let reference: Reference = text.parse().unwrap();
    assert_eq!(reference.to_string(), text);
}

#[test]
fn familiar_references() {
    let digest = format!("@sha256:{HEX}");
    // What is typed, what it means, and its short form.
    let cases = [
        ("busybox", "docker.io/library/busybox:latest", "busybox:latest"),
        ("busybox:1.36", "docker.io/library/busybox:1.36", "busybox:1.36"),
        ("team/app", "docker.io/team/app:latest", "team/app:latest"),
        ("library/busybox", "docker.io/library/busybox:latest", "busybox:latest"),
        ("docker.io/busybox", "docker.io/library/busybox:latest", "busybox:latest"),
        ("index.docker.io/team/app:x", "docker.io/team/app:x", "team/app:x"),
        ("index.docker.io/app", "docker.io/library/app:latest", "app:latest"),
        ("localhost/app", "localhost/app:latest", "localhost/app:latest"),
        ("localhost:5000", "docker.io/library/localhost:5000", "localhost:5000"),
        ("localhost:5000/app", "localhost:5000/app:latest", "localhost:5000/app:latest"),
        ("quay.io/team/app:x", "quay.io/team/app:x", "quay.io/team/app:x"),
        ("[::1]:5000/app:x", "[::1]:5000/app:x", "[::1]:5000/app:x"),
        ("docker.io/foo.bar/app:x", "docker.io/foo.bar/app:x", "docker.io/foo.bar/app:x"),
        ("library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest"),
    ];
    for (typed, strict, short) in cases {
        for suffix in ["", digest.as_str()] {
            let tagged = typed.rsplit('/').next().unwrap().contains(':');
            // A digest keeps `latest` from being added.
            let drop_latest = |text: &str| match suffix {
                "" => text.to_owned(),
                _ if tagged => format!("{text}{suffix}"),
                _ => format!("{}{suffix}", text.strip_suffix(":latest").unwrap()),
            };
            let reference = Reference::parse_familiar(&format!("{typed}{suffix}")).unwrap();
            assert_eq!(reference.to_string(), drop_latest(strict), "{typed}");
            assert_eq!(reference.familiar(), drop_latest(short), "{typed}");
            assert_eq!(Reference::parse_familiar(&reference.familiar()), Ok(reference), "{typed}");
        }
    }

    for text in [
        HEX, "", "Busybox", "team/App", "a//b", "busybox:", "busybox@", ":x", "-a", "a/",
        "quay.io/", "_",
    ] {
        assert!(Reference::parse_familiar(text).is_err(), "{text:?}");
    }
    let tagged = Reference::parse_familiar(&format!("{HEX}:x")).unwrap();
    assert_eq!(tagged.familiar(), format!("docker.io/library/{HEX}:x"));
}

#[test]
fn a_short_form_never_means_another_repository() {
    // Docker's rules cannot say this repository at all, so its form stays whole.
    let reference: Reference = "docker.io/app:x".parse().unwrap();
    assert_eq!(reference.familiar(), "docker.io/app:x");
}

#[test]
fn hosts() {
    for (text, name, port, loopback) in [
        ("localhost", "localhost", None, true),
        ("LOCALHOST:1", "LOCALHOST", Some(1), true),
        ("registry:65535", "registry", Some(65535), false),
        ("a-b.example", "a-b.example", None, false),
        ("127.1.2.3", "127.1.2.3", None, true),
        ("10.0.0.1:80", "10.0.0.1", Some(80), false),
        ("[::1]", "[::1]", None, true),
        ("[::ffff:127.0.0.1]:80", "[::ffff:127.0.0.1]", Some(80), true),
        ("[2001:db8::1]:80", "[2001:db8::1]", Some(80), false),
        ("localhost.example", "localhost.example", None, false),
    ] {
        let host: Host = text.parse().unwrap();
        assert_eq!(
            (host.name(), host.port(), host.is_loopback()),
            (name, port, loopback),
            "{text}"
        );
    }
    for text in [
        "",
        "registry",
        ".",
        "a..b",
        ".a",
        "a.",
        "-a.b",
        "a-.b",
        "a_b.c",
        "a b.c",
        "a.b:",
        "a.b:x",
        "a.b:080",
        "a.b:+80",
        "a.b:80:80",
        "[::1",
        "::1",
        "[::1]x",
        "[::1]x:80",
        "[::g]",
        "[]",
        "[127.0.0.1]",
        "999.1.1.1",
        "1.2",
        "127.0.0.01",
        "a.b/c",
        "a.b@c",
        "\u{e4}.b",
        "[fe80::1%eth0]",
    ] {
        assert!(text.parse::<Host>().is_err(), "{text:?}");
    }
}
