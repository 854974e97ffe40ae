//! Dependencies point one way, and each crate stays usable alone.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// Which of our crates each of our crates may depend on, in a build. Tests may use what lies at the same height or above.
const ALLOWED: [(&str, &[&str]); 7] = [
    ("oci-spec-types", &[]),
    ("oci-ref", &["oci-spec-types"]),
    ("oci-registry-client", &["oci-spec-types", "oci-ref"]),
    ("oci-registry-server", &["oci-spec-types", "oci-ref", "oci-registry-client"]),
    ("oci-registry-store", &["oci-spec-types", "oci-ref"]),
    (
        "ocictl",
        &[
            "oci-spec-types",
            "oci-ref",
            "oci-registry-client",
            "oci-registry-server",
            "oci-registry-store",
        ],
    ),
    ("xtask", &["oci-spec-types", "oci-ref", "oci-registry-client"]),
];

fn cargo(args: &[&str]) -> String {
    let output = Command::new(env!("CARGO"))
        .args(args)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "cargo {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn packages(with_dependencies: bool) -> Vec<Value> {
    let mut args = vec!["metadata", "--format-version=1", "--locked"];
    if !with_dependencies {
        args.push("--no-deps");
    }
    let metadata: Value = serde_json::from_str(&cargo(&args)).unwrap();
    metadata["packages"].as_array().unwrap().clone()
}

#[test]
fn dependencies_point_one_way() {
    let allowed: BTreeMap<_, _> = ALLOWED.into_iter().collect();
    let packages = packages(false);
    assert_eq!(packages.len(), allowed.len(), "a crate is missing in the allow-list");
    for package in &packages {
        let name = package["name"].as_str().unwrap();
        for dependency in package["dependencies"].as_array().unwrap() {
            let on = dependency["name"].as_str().unwrap();
            if allowed.contains_key(on) && dependency["kind"].is_null() {
                assert!(allowed[name].contains(&on), "{name} must not depend on {on}");
            }
        }
    }
}

/// The crates that a build of `package` needs, itself included.
fn tree(package: &str, features: &[&str]) -> BTreeSet<String> {
    let mut args = vec![
        "tree",
        "--locked",
        "--package",
        package,
        "--edges",
        "normal",
        "--prefix",
        "none",
        "--format",
        "{p}",
    ];
    args.extend(features);
    let printed = cargo(&args);
    printed.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

#[test]
fn each_crate_is_usable_alone() {
    let asynchronous = ["tokio", "futures-core", "futures-util", "async-trait", "mio", "hyper"];
    let http = ["hyper", "reqwest", "axum", "http", "rustls"];
    let sql = ["rusqlite", "libsqlite3-sys", "sqlx", "tokio-postgres"];

    let spec_types = tree("oci-spec-types", &["--all-features"]);
    assert!(
        spec_types.len() <= 30,
        "oci-spec-types needs {} crates: {spec_types:?}",
        spec_types.len()
    );
    none_of(&spec_types, "oci-spec-types", &asynchronous);

    let bare = tree("oci-ref", &["--no-default-features"]);
    none_of(&bare, "oci-ref without features", &["tar", "flate2", "zstd", "tempfile"]);
    none_of(&tree("oci-ref", &["--all-features"]), "oci-ref", &http);

    none_of(&tree("oci-registry-client", &["--all-features"]), "oci-registry-client", &sql);
    none_of(&tree("oci-registry-client", &["--all-features"]), "oci-registry-client", &["axum"]);

    let server = tree("oci-registry-server", &[]);
    none_of(&server, "oci-registry-server", &["reqwest", "rustls", "oci-registry-client"]);
    none_of(&tree("oci-registry-server", &["--all-features"]), "oci-registry-server", &sql);

    let embedded = tree("oci-registry-store", &[]);
    let unwanted = ["tokio-postgres", "rustls", "axum", "hyper", "tower"];
    none_of(&embedded, "oci-registry-store without features", &unwanted);

    for package in ["oci-registry-client", "oci-registry-store", "ocictl"] {
        let all = tree(package, &["--all-features"]);
        none_of(
            &all,
            package,
            &["aws-lc-rs", "aws-lc-sys", "openssl", "openssl-sys", "native-tls"],
        );
    }
}

fn none_of(found: &BTreeSet<String>, what: &str, unwanted: &[&str]) {
    for name in unwanted {
        assert!(!found.contains(*name), "{what} pulls in {name}");
    }
}

/// A stated minimum Rust version is at least that of everything the crate is built from. (That our own code keeps to it
/// is clippy's `incompatible_msrv`.)
#[test]
fn stated_rust_versions_are_true() {
    let packages = packages(true);
    let version = |package: &Value| -> Option<(u32, u32)> {
        let mut parts =
            package["rust_version"].as_str()?.split('.').map(|part| part.parse().unwrap());
        Some((parts.next()?, parts.next()?))
    };
    let stated: BTreeMap<&str, Option<(u32, u32)>> = packages
        .iter()
        .map(|package| (package["name"].as_str().unwrap(), version(package)))
        .collect();
    for (name, _) in ALLOWED {
        let own = stated[name].unwrap_or_else(|| panic!("{name} states no rust-version"));
        for dependency in tree(name, &["--all-features"]) {
            let needs = stated.get(dependency.as_str()).copied().flatten().unwrap_or((1, 0));
            assert!(own >= needs, "{name} states {own:?}, but {dependency} needs {needs:?}");
        }
    }
}
