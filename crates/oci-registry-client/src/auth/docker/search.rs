//! Where Docker and Podman keep their configuration files.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;

/// A configuration file, which need not be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ConfigFile {
    pub(super) path: PathBuf,
    /// Whether it has the form of Docker before 1.7: the entries and nothing else.
    pub(super) legacy: bool,
}

impl ConfigFile {
    pub(super) fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), legacy: false }
    }
}

/// What the environment says of the places. An empty variable is none.
#[derive(Clone, Debug, Default)]
pub(super) struct Environment {
    registry_auth_file: Option<PathBuf>,
    runtime: Option<PathBuf>,
    config: Option<PathBuf>,
    docker_config: Option<PathBuf>,
    home: Option<PathBuf>,
}

impl Environment {
    pub(super) fn current() -> Self {
        Self::of(|name| env::var_os(name), env::home_dir())
    }

    fn of(variable: impl Fn(&str) -> Option<OsString>, home: Option<PathBuf>) -> Self {
        let path = |name| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        Self {
            registry_auth_file: path("REGISTRY_AUTH_FILE"),
            runtime: path("XDG_RUNTIME_DIR"),
            config: path("XDG_CONFIG_HOME"),
            docker_config: path("DOCKER_CONFIG"),
            home,
        }
    }

    /// The files in the order in which they are asked. A file that is named is asked alone, as Podman does it.
    pub(super) fn files(&self) -> Vec<ConfigFile> {
        if let Some(named) = &self.registry_auth_file {
            return vec![ConfigFile::new(named)];
        }
        let below_home = |path: &str| self.home.as_ref().map(|home| home.join(path));
        let podman = "containers/auth.json";
        let docker = self.docker_config.clone().or_else(|| below_home(".docker"));
        let config = self.config.clone().or_else(|| below_home(".config"));
        let mut files: Vec<_> = [
            self.runtime.as_ref().map(|runtime| runtime.join(podman)),
            config.map(|config| config.join(podman)),
            docker.map(|docker| docker.join("config.json")),
        ]
        .into_iter()
        .flatten()
        .map(ConfigFile::new)
        .collect();
        files.extend(below_home(".dockercfg").map(|path| ConfigFile { path, legacy: true }));
        files
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(variables: &[(&str, &str)], home: Option<&str>) -> Vec<String> {
        let variable = |name: &str| {
            let found = variables.iter().find(|(variable, _)| *variable == name);
            found.map(|(_, value)| OsString::from(value))
        };
        let environment = Environment::of(variable, home.map(PathBuf::from));
        let files = environment.files();
        assert!(files.iter().all(|file| file.legacy == file.path.ends_with(".dockercfg")));
        files.iter().map(|file| file.path.display().to_string()).collect()
    }

    #[test]
    fn the_order_of_the_files() {
        assert_eq!(
            files(&[("XDG_RUNTIME_DIR", "/run/user/1")], Some("/home/a")),
            [
                "/run/user/1/containers/auth.json",
                "/home/a/.config/containers/auth.json",
                "/home/a/.docker/config.json",
                "/home/a/.dockercfg"
            ]
        );
        assert_eq!(
            files(
                &[("XDG_CONFIG_HOME", "/c"), ("DOCKER_CONFIG", "/d"), ("XDG_RUNTIME_DIR", "")],
                Some("/h")
            ),
            ["/c/containers/auth.json", "/d/config.json", "/h/.dockercfg"]
        );
        assert_eq!(
            files(&[("REGISTRY_AUTH_FILE", "/x.json"), ("DOCKER_CONFIG", "/d")], Some("/h")),
            ["/x.json"]
        );
        assert!(files(&[("REGISTRY_AUTH_FILE", "")], None).is_empty());
    }
}
