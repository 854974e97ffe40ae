//! Credentials as Docker and Podman keep them, so that one login serves all of them.

pub(crate) mod document;
mod helper;
mod keys;
mod search;

use std::fmt;
use std::io::{ErrorKind as IoErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use oci_ref::ErrorKind;
use oci_spec_types::{Host, Name};

use self::document::Document;
use self::helper::Helper;
use self::search::{ConfigFile, Environment};
use super::{CredentialError, CredentialProvider, Credentials};
use crate::{Error, Result};

/// How long a credential helper may take, unless the caller says otherwise.
const HELPER_TIMEOUT: Duration = Duration::from_secs(30);

/// The most that a configuration file may have, in bytes.
const MAX_FILE: u64 = 16 << 20;

/// The configuration files of Docker and Podman, and the credential helpers that they name.
///
/// In each file the registry's own helper (`credHelpers`) is asked first, then that for all (`credsStore`), then the
/// entries (`auths`): for the repository, for each namespace that it lies in, for the registry, and for the registry
/// as an address with scheme and path. The first file that has something decides. Files are read anew each time, so
/// that a login elsewhere is seen.
///
/// A file that is not there is skipped. One that cannot be read or understood, or a helper that fails or does not
/// answer in time, is an error: nobody becomes anonymous by a fault. Helpers run beside the asynchronous threads.
///
/// ```no_run
/// use oci_registry_client::{Client, DockerConfig};
///
/// let client = Client::builder().credentials(DockerConfig::from_env()).build()?;
/// # let _ = client;
/// # Ok::<(), oci_registry_client::Error>(())
/// ```
///
/// The [crate's documentation](crate#login) shows how to log in and out.
#[derive(Clone)]
pub struct DockerConfig {
    files: Vec<ConfigFile>,
    helper_directory: Option<PathBuf>,
    helper_timeout: Duration,
    /// Held while a file is changed.
    changing: Arc<tokio::sync::Mutex<()>>,
}

impl DockerConfig {
    /// The files of the user who runs this program: `$REGISTRY_AUTH_FILE` alone if it is set; else
    /// `$XDG_RUNTIME_DIR/containers/auth.json`, `~/.config/containers/auth.json` (or below `$XDG_CONFIG_HOME`),
    /// `$DOCKER_CONFIG/config.json` or else `~/.docker/config.json`, `~/.dockercfg`.
    pub fn from_env() -> Self {
        Self::of(Environment::current().files())
    }

    /// This file alone.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self::of(vec![ConfigFile::new(path)])
    }

    fn of(files: Vec<ConfigFile>) -> Self {
        Self {
            files,
            helper_directory: None,
            helper_timeout: HELPER_TIMEOUT,
            changing: Arc::default(),
        }
    }

    /// How long a credential helper may take. 30 seconds by default. It is ended then.
    #[must_use]
    pub fn helper_timeout(mut self, timeout: Duration) -> Self {
        self.helper_timeout = timeout;
        self
    }

    /// The directory in which the programs `docker-credential-NAME` lie. By default those in `PATH` are searched.
    #[must_use]
    pub fn helper_directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.helper_directory = Some(directory.into());
        self
    }

    /// Keeps credentials for a registry: with its helper if a file names one, else in the file, which then only its
    /// owner may read. What was kept for the registry before is replaced, all else in the file stays.
    ///
    /// Written is the first file that is there, so that no other has precedence, or else Docker's. Two programs that
    /// write at the same moment do not damage the file, but one change may be lost.
    ///
    /// # Errors
    /// When there is no place for a file, it cannot be read or written, the helper fails, or the credentials are
    /// [`Credentials::Anonymous`].
    pub async fn store(&self, host: &Host, credentials: &Credentials) -> Result<()> {
        let about = || format!("credentials for {host}");
        if *credentials == Credentials::Anonymous {
            return Err(Error::new(ErrorKind::Invalid, about(), "there is nothing to keep"));
        }
        let _changing = self.changing.lock().await;
        let mut target = None;
        for file in self.files.iter().filter(|file| !file.legacy) {
            match (read(file).await?, &target) {
                (Some(document), _) => {
                    target = Some((file, document));
                    break;
                }
                // Where there is none yet, Docker's comes last.
                (None, _) => target = Some((file, Document::empty(false))),
            }
        }
        let Some((file, mut document)) = target else {
            let reason = "there is no home directory in which to keep them";
            return Err(Error::new(ErrorKind::Invalid, about(), reason));
        };
        let helper = document.helpers(host).first().map(|name| (*name).to_owned());
        match helper {
            Some(name) => {
                self.helper(file, &name).store(host, credentials).await?;
                document.put(host, None);
            }
            None => document.put(host, Some(credentials)),
        }
        write(file, document).await
    }

    /// Forgets a registry, in all files and helpers. Entries for single repositories and namespaces stay. Says whether
    /// there was an entry.
    ///
    /// # Errors
    /// When a file cannot be read or written, or a helper fails.
    pub async fn erase(&self, host: &Host) -> Result<bool> {
        let _changing = self.changing.lock().await;
        let mut erased = false;
        for file in &self.files {
            let Some(mut document) = read(file).await? else { continue };
            for name in document.helpers(host) {
                self.helper(file, name).erase(host).await?;
            }
            if document.remove(host) {
                write(file, document).await?;
                erased = true;
            }
        }
        Ok(erased)
    }

    /// The credentials for a repository, or for a registry.
    async fn find(&self, host: &Host, repository: Option<&Name>) -> Result<Credentials> {
        for file in &self.files {
            let Some(document) = read(file).await? else { continue };
            for name in document.helpers(host) {
                if let Some(found) = self.helper(file, name).get(host).await? {
                    return Ok(found);
                }
            }
            let found = document
                .find(host, repository)
                .map_err(|reason| Error::new(ErrorKind::Invalid, about(&file.path), reason))?;
            if let Some(found) = found {
                return Ok(found);
            }
        }
        Ok(Credentials::Anonymous)
    }

    fn helper<'a>(&'a self, file: &'a ConfigFile, name: &'a str) -> Helper<'a> {
        Helper {
            name,
            file: &file.path,
            directory: self.helper_directory.as_deref(),
            timeout: self.helper_timeout,
        }
    }
}

impl fmt::Debug for DockerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let files: Vec<_> = self.files.iter().map(|file| &file.path).collect();
        f.debug_struct("DockerConfig").field("files", &files).finish_non_exhaustive()
    }
}

#[async_trait]
impl CredentialProvider for DockerConfig {
    async fn credentials(
        &self,
        host: &Host,
        repository: Option<&Name>,
    ) -> Result<Credentials, CredentialError> {
        Ok(self.find(host, repository).await?)
    }
}

fn about(path: &Path) -> String {
    format!("configuration file {}", path.display())
}

fn io_error(path: &Path, doing: &str, error: std::io::Error) -> Error {
    Error::new(ErrorKind::Io, about(path), format!("it cannot be {doing}: {error}"))
        .with_source(error)
}

/// Does what waits for files beside the asynchronous threads.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
        Err(Error::new(ErrorKind::Cancelled, "configuration file", error.to_string()))
    })
}

/// Reads a file; `None` if it is not there.
async fn read(file: &ConfigFile) -> Result<Option<Document>> {
    let file = file.clone();
    blocking(move || {
        use std::io::Read;
        let mut bytes = Vec::new();
        let read = std::fs::File::open(&file.path)
            .and_then(|open| open.take(MAX_FILE + 1).read_to_end(&mut bytes));
        match read {
            Ok(_) if bytes.len() as u64 > MAX_FILE => Err(Error::new(
                ErrorKind::TooLarge { limit: MAX_FILE },
                about(&file.path),
                format!("it has more than {MAX_FILE} bytes"),
            )),
            Ok(_) => Document::parse(&bytes, file.legacy)
                .map(Some)
                .map_err(|reason| Error::new(ErrorKind::Invalid, about(&file.path), reason)),
            Err(error)
                if matches!(error.kind(), IoErrorKind::NotFound | IoErrorKind::NotADirectory) =>
            {
                Ok(None)
            }
            Err(error) => Err(io_error(&file.path, "read", error)),
        }
    })
    .await
}

/// Puts a file in the place of another at once, so that nobody sees half of it; only its owner may read it.
async fn write(file: &ConfigFile, document: Document) -> Result<()> {
    let path = file.path.clone();
    blocking(move || {
        let failed = |error| io_error(&path, "written", error);
        // Where the path is a link, what it leads to is replaced, not the link.
        let target = std::fs::canonicalize(&path).unwrap_or_else(|_| path.clone());
        let directory = match target.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        create_directory(directory).map_err(failed)?;
        // It is made readable by its owner only.
        let mut temporary = tempfile::NamedTempFile::new_in(directory).map_err(failed)?;
        temporary.write_all(&document.to_bytes()).map_err(failed)?;
        temporary.as_file().sync_all().map_err(failed)?;
        temporary.persist(&target).map_err(|error| failed(error.error))?;
        Ok(())
    })
    .await
}

/// Creates a directory, which only its owner may enter where there is such a thing.
fn create_directory(directory: &Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory)
}
