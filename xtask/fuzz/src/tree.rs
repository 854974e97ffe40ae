//! A directory that is made of one input: files, each with its path on a line and its content after
//! it, with `---` between.
//!
//! Nobody makes up a SHA-256 digest. So `{0}` in a path or in content is that of the first file's
//! content, in hexadecimal, `{0:2}` are its first two digits and `{0:size}` is the size of that
//! file. Content may mean files before it, a path its own file too.

use std::fs;
use std::path::PathBuf;

use oci_spec_types::Digest;
use tempfile::TempDir;

use crate::support::{first_line, pieces};

/// The most files.
const MAX_FILES: usize = 16;
/// The longest path, in bytes.
const MAX_PATH: usize = 300;

/// Makes the directory. Files that cannot be made, such as two in each other, are left out.
pub(crate) fn make(data: &[u8]) -> TempDir {
    let root = TempDir::new().expect("a temporary directory");
    let mut before: Vec<[(String, String); 3]> = Vec::new();
    for piece in pieces(data, MAX_FILES) {
        let (path, content) = first_line(piece);
        let content = fill_in(content, &before);
        before.push(meanings(before.len(), &content));
        let Some(path) = inside(&fill_in(path, &before)) else { continue };
        let path = root.path().join(path);
        let parent = path.parent().unwrap_or(root.path());
        if fs::create_dir_all(parent).is_ok() {
            let _ = fs::write(path, content);
        }
    }
    root
}

/// A path that stays in the directory.
fn inside(path: &[u8]) -> Option<PathBuf> {
    let path = std::str::from_utf8(path).ok()?;
    let is_plain = |part: &&str| !matches!(*part, "" | "." | "..") && !part.contains('\0');
    let parts: Vec<&str> = path.split('/').filter(is_plain).collect();
    (!parts.is_empty() && path.len() <= MAX_PATH).then(|| parts.iter().collect())
}

/// The marks by which later files may mean a file, and their meanings.
fn meanings(number: usize, content: &[u8]) -> [(String, String); 3] {
    let digest = Digest::sha256(content);
    let hex = digest.encoded();
    [
        (format!("{{{number}}}"), hex.to_owned()),
        (format!("{{{number}:2}}"), hex[..2].to_owned()),
        (format!("{{{number}:size}}"), content.len().to_string()),
    ]
}

fn fill_in(text: &[u8], before: &[[(String, String); 3]]) -> Vec<u8> {
    let mut filled = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, others)) = rest.split_first() {
        let meant = before.iter().flatten().find(|(mark, _)| rest.starts_with(mark.as_bytes()));
        match meant {
            Some((mark, meaning)) => {
                filled.extend_from_slice(meaning.as_bytes());
                rest = &rest[mark.len()..];
            }
            None => {
                filled.push(*first);
                rest = others;
            }
        }
    }
    filled
}
