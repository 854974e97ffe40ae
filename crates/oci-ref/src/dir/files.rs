//! What lies where in a directory.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use oci_spec_types::{Algorithm, Digest, ErrorCode};
use tempfile::NamedTempFile;

use super::DirectoryOptions;
use crate::files::{
    Part, Place, make_directory, name_file, partial, read_limited, remove_left, sync_directory_of,
    temporary, write_new,
};
use crate::layout::unknown_manifest;
use crate::layout::view::DOCUMENT_LIMIT;
use crate::{Error, ErrorKind, Manifest, ManifestError, Result};

const VERSION: &str = "version";
const NEW_VERSION: &[u8] = b"Directory Transport Version: 1.1\n";
const VERSION_START: &[u8] = b"Directory Transport Version: 1.";

/// The name of the root.
pub(super) const ROOT: &str = "manifest.json";
/// What the names of other manifests end with.
const MANIFEST: &str = ".manifest.json";

/// The largest signature: 4 MiB.
const SIGNATURE_LIMIT: u64 = 4 << 20;
/// The most signatures of a manifest.
const MAX_SIGNATURES: usize = 1000;
/// The most manifests that are looked at.
const MAX_MANIFESTS: usize = 100_000;

/// The files of a directory.
pub(super) struct Files {
    path: PathBuf,
    options: DirectoryOptions,
}

impl Files {
    pub(super) fn new(path: PathBuf, options: DirectoryOptions) -> Self {
        Self { path, options }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn options(&self) -> &DirectoryOptions {
        &self.options
    }

    /// Checks that this is such a directory.
    pub(super) fn check(&self) -> Result<()> {
        let at = self.path.display();
        match read_limited(&self.path.join(VERSION), VERSION, 1024)? {
            Some(version) if version.starts_with(VERSION_START) => Ok(()),
            Some(version) => Err(Error::unsupported(format!(
                "directory {at}: version is {:?}, expected {:?}",
                String::from_utf8_lossy(&version).chars().take(64).collect::<String>(),
                String::from_utf8_lossy(NEW_VERSION)
            ))),
            // The first version did not say so.
            None if self.path.join(ROOT).is_file() => Ok(()),
            None => {
                let message = format!("{at} has neither a file version nor a manifest.json");
                Err(Error::new(ErrorCode::NameUnknown, message))
            }
        }
    }

    /// Makes the directory.
    pub(super) fn create(&self) -> Result<()> {
        let at = self.path.display();
        let failed = |error| Error::io(format!("directory {at} cannot be made"), error);
        make_directory(&self.path, self.options.sync).map_err(failed)?;
        let is_empty = fs::read_dir(&self.path).map_err(failed)?.next().is_none();
        if is_empty {
            write_new(&self.path, VERSION, NEW_VERSION, self.options.sync)?;
        }
        self.check().map_err(|error| match error.code() {
            Some(ErrorCode::NameUnknown) => {
                let message = format!("directory {at} is neither empty nor one of images");
                Error::new(ErrorKind::Invalid, message)
            }
            _ => error,
        })?;
        // That this fails does not matter.
        let _ = remove_left(&self.path, false);
        Ok(())
    }

    /// Waits until nobody else writes.
    pub(super) fn lock(&self) -> Result<File> {
        let path = self.path.join(VERSION);
        if !path.exists() {
            write_new(&self.path, VERSION, NEW_VERSION, self.options.sync)?;
        }
        let open = File::options().read(true).write(true).open(path);
        open.and_then(|file| file.lock().map(|()| file))
            .map_err(|error| self.failed(VERSION, "locked", error))
    }

    fn failed(&self, name: &str, doing: &str, error: io::Error) -> Error {
        let at = self.path.display();
        Error::io(format!("directory {at}: {name} cannot be {doing}"), error)
    }

    pub(super) fn no_root(&self) -> Error {
        unknown_manifest(format!("directory {} has no manifest.json", self.path.display()))
    }

    /// The root's bytes.
    pub(super) fn root_bytes(&self) -> Result<Option<Bytes>> {
        read_limited(&self.path.join(ROOT), ROOT, DOCUMENT_LIMIT)
    }

    /// The root.
    pub(super) fn root(&self) -> Result<Option<Manifest>> {
        self.root_bytes()?.map(|bytes| parse(ROOT, bytes, None)).transpose()
    }

    /// The size of the root, if there is one.
    pub(super) fn root_size(&self) -> Result<Option<u64>> {
        self.size(ROOT)
    }

    /// Whether the root has a digest.
    pub(super) fn is_root(&self, digest: &Digest) -> Result<bool> {
        Ok(self.root_bytes()?.is_some_and(|root| digest.verify(&root).is_ok()))
    }

    /// Whether a manifest has a file of its own.
    pub(super) fn has_own_file(&self, digest: &Digest) -> Result<bool> {
        Ok(self.manifest_size(digest)?.is_some())
    }

    /// The size of a manifest that has a file of its own.
    pub(super) fn manifest_size(&self, digest: &Digest) -> Result<Option<u64>> {
        match manifest_name(digest) {
            Some(name) => self.size(&name),
            None => Ok(None),
        }
    }

    /// A manifest, the root or another. The root, which may be large, is read only if it is not another.
    pub(super) fn manifest(&self, digest: &Digest) -> Result<Option<Manifest>> {
        let Some(name) = manifest_name(digest) else { return Ok(None) };
        if let Some(bytes) = read_limited(&self.path.join(&name), &name, DOCUMENT_LIMIT)? {
            return parse(&name, bytes, Some(digest)).map(Some);
        }
        let root = self.root_bytes()?.filter(|root| digest.verify(root).is_ok());
        root.map(|root| parse(ROOT, root, Some(digest))).transpose()
    }

    /// All manifests, the root first.
    pub(super) fn manifests(&self) -> Result<Vec<Manifest>> {
        let mut all: Vec<Manifest> = self.root()?.into_iter().collect();
        let failed = |error| self.failed("it", "read", error);
        for entry in fs::read_dir(&self.path).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            let Some(name) = name.to_str().filter(|name| name.ends_with(MANIFEST)) else {
                continue;
            };
            if all.len() >= MAX_MANIFESTS {
                let limit = MAX_MANIFESTS as u64;
                let message =
                    format!("directory {} has more than {limit} manifests", self.path.display());
                return Err(Error::new(ErrorKind::TooLarge { limit }, message));
            }
            // It may have been removed just now.
            if let Some(bytes) = read_limited(&self.path.join(name), name, DOCUMENT_LIMIT)? {
                all.push(parse(name, bytes, None)?);
            }
        }
        Ok(all)
    }

    /// Writes a file in one step.
    pub(super) fn write(&self, name: &str, content: &[u8]) -> Result<()> {
        let write = || {
            let mut file = temporary(&self.path)?;
            file.write_all(content)?;
            name_file(file, &self.path.join(name), self.options.sync)
        };
        write().map_err(|error| self.failed(name, "written", error))
    }

    /// Gives a file another name.
    pub(super) fn rename(&self, from: &str, to: &str) -> Result<()> {
        let to = self.path.join(to);
        fs::rename(self.path.join(from), &to)
            .and_then(|()| if self.options.sync { sync_directory_of(&to) } else { Ok(()) })
            .map_err(|error| self.failed(from, "renamed", error))
    }

    /// Removes a file. `false` if there is none.
    pub(super) fn remove(&self, name: &str) -> Result<bool> {
        let path = self.path.join(name);
        match fs::remove_file(&path) {
            Ok(()) if self.options.sync => {
                sync_directory_of(&path).map_err(|error| self.failed(name, "removed", error))?;
                Ok(true)
            }
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(self.failed(name, "removed", error)),
        }
    }

    /// The signatures whose names begin so.
    pub(super) fn signatures(&self, of: &Signatures) -> Result<Vec<Bytes>> {
        let mut all = Vec::new();
        loop {
            let name = of.name(all.len() + 1);
            match read_limited(&self.path.join(&name), &name, SIGNATURE_LIMIT)? {
                None => return Ok(all),
                Some(_) if all.len() >= MAX_SIGNATURES => {
                    let limit = MAX_SIGNATURES as u64;
                    let message = format!("there are more than {limit} signatures like {name}");
                    return Err(Error::new(ErrorKind::TooLarge { limit }, message));
                }
                Some(signature) => all.push(signature),
            }
        }
    }

    /// The size of a blob's file, if there is one.
    pub(super) fn blob_size(&self, digest: &Digest) -> Result<Option<u64>> {
        hex(digest).map_or(Ok(None), |name| self.size(name))
    }

    fn size(&self, name: &str) -> Result<Option<u64>> {
        match fs::metadata(self.path.join(name)) {
            Ok(found) if found.is_file() => Ok(Some(found.len())),
            Ok(_) => Err(Error::new(ErrorKind::Internal, format!("{name} is not a regular file"))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.failed(name, "read", error)),
        }
    }

    /// A blob's bytes, if it is there.
    pub(super) fn blob_part(&self, digest: &Digest) -> Result<Option<Part>> {
        // Asked first, because opening something else than a regular file may block.
        let (Some(name), Some(_)) = (hex(digest), self.blob_size(digest)?) else {
            return Ok(None);
        };
        match File::open(self.path.join(name)).and_then(Part::whole) {
            Ok(part) => Ok(Some(part)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.failed(name, "read", error)),
        }
    }
}

impl Place for Files {
    fn temporary_blob(&self) -> io::Result<NamedTempFile> {
        temporary(&self.path)
    }

    fn partial_blob(&self, digest: &Digest) -> io::Result<Option<NamedTempFile>> {
        partial(&self.path, digest)
    }

    fn name_blob(&self, file: NamedTempFile, digest: &Digest) -> Result<()> {
        let name = hex(digest).ok_or_else(|| {
            let message = format!("digest {digest} cannot be a name: its algorithm is not known");
            Error::new(ErrorCode::DigestInvalid, message)
        })?;
        name_file(file, &self.path.join(name), self.options.sync)
            .map_err(|error| self.failed(name, "written", error))
    }
}

/// The names of a manifest's signatures.
pub(super) enum Signatures {
    OfRoot,
    Of(String),
}

impl Signatures {
    /// Those of a manifest that is not the root.
    pub(super) fn of(digest: &Digest) -> Option<Self> {
        hex(digest).map(|hex| Self::Of(hex.to_owned()))
    }

    /// The name of the n-th.
    pub(super) fn name(&self, number: usize) -> String {
        match self {
            Self::OfRoot => format!("signature-{number}"),
            Self::Of(hex) => format!("{hex}.signature-{number}"),
        }
    }
}

/// What a digest is called here. The names of known algorithms differ in length, and are hexadecimal; others could be
/// the names of other files.
pub(super) fn hex(digest: &Digest) -> Option<&str> {
    digest.known_algorithm().map(|_| digest.encoded())
}

/// The name of a manifest that is not the root.
pub(super) fn manifest_name(digest: &Digest) -> Option<String> {
    hex(digest).map(|hex| format!("{hex}{MANIFEST}"))
}

/// The digests that a manifest may be known by, the usual one first.
pub(super) fn digests_of(bytes: &[u8]) -> [Digest; 2] {
    [Algorithm::Sha256, Algorithm::Sha512].map(|algorithm| algorithm.digest(bytes))
}

/// Reads a manifest that was stored.
fn parse(name: &str, bytes: Bytes, digest: Option<&Digest>) -> Result<Manifest> {
    Manifest::parse(bytes, None, digest).map_err(|error| {
        let message = format!("{name}: {error}");
        match &error {
            // What is stored no longer is what was stored.
            ManifestError::Digest(_) => Error::new(ErrorKind::Internal, message),
            _ => Error::new(ErrorCode::ManifestInvalid, message),
        }
        .with_source(error)
    })
}
