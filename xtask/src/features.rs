//! Each crate builds with no features, with its default ones and with all: features only add.

use crate::process::{Result, cargo, run, say};

const CRATES: [&str; 6] = [
    "oci-spec-types",
    "oci-ref",
    "oci-registry-client",
    "oci-registry-server",
    "oci-registry-store",
    "ocictl",
];

fn run_one(name: &str, features: &str) -> Result {
    let mut command = cargo();
    command.args(["check", "--quiet", "--locked", "--package", name]);
    if !features.is_empty() {
        command.arg(features);
    }
    run(&mut command).map(|_| ())
}

pub(crate) fn run_all() -> Result {
    for name in CRATES {
        for features in ["--no-default-features", "", "--all-features"] {
            run_one(name, features)?;
        }
        say(&format!("{name}: builds with no, default and all features"));
    }
    Ok(())
}
