//! A disk on which nothing is sure before it is synced.
//!
//! A change of a file stays pending until a sync of that file that began after it ended has ended, and a change of a name
//! until such a sync of the directory. At a cut each pending change may be lost or kept, whatever became of the others;
//! of a write, any sectors may be kept, and the file may have its new length without them. Changes of one name
//! are lost in order, the latest first. A rename is one change.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

use super::trace::{Action, Event};

/// What a disk writes wholly or not at all, in bytes.
const SECTOR: usize = 512;

/// What becomes of a pending change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Fate {
    Lost,
    Kept,
    /// Some sectors of a write are kept: those that the bits of a repeating pattern say. With `long`, the file's length is
    /// as if all were.
    Torn {
        sectors: u64,
        long: bool,
    },
}

/// A state of the disk: what became of the pending changes.
pub(super) type Fates = BTreeMap<usize, Fate>;

/// Files by their paths; `None` is a directory.
pub(super) type Tree = BTreeMap<PathBuf, Option<Vec<u8>>>;

enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Truncate(usize),
}

enum Naming {
    Link { path: PathBuf, inode: usize },
    Rename { from: PathBuf, to: PathBuf },
    Unlink(PathBuf),
}

struct Pending<T> {
    id: usize,
    change: T,
    ended: bool,
    durable: bool,
}

#[derive(Default)]
struct Inode {
    directory: bool,
    /// What the first changes, which are durable, have made.
    bytes: Vec<u8>,
    pending: Vec<Pending<Change>>,
}

/// The disk below a directory, which is there.
#[derive(Default)]
pub(super) struct Disk {
    inodes: Vec<Inode>,
    /// What is there while the power is on.
    names: HashMap<PathBuf, usize>,
    /// What files were called that are called nothing now.
    unlinked: HashMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    namings: Vec<Pending<Naming>>,
    /// What the syncs that have begun will have made durable.
    syncs: HashMap<usize, HashSet<usize>>,
}

/// A change that a cut may undo.
#[derive(Clone, Copy, Debug)]
pub(super) struct Open {
    pub(super) id: usize,
    /// How many sectors a write touches; 1 for what cannot be torn.
    pub(super) sectors: usize,
}

impl Disk {
    /// What a call does. `id` is unique among all calls.
    pub(super) fn event(&mut self, event: &Event) -> Result<(), String> {
        match event {
            Event::Began(id, action) => self.begin(*id, action),
            Event::Ended(id) => {
                self.end(*id);
                Ok(())
            }
        }
    }

    fn begin(&mut self, id: usize, action: &Action) -> Result<(), String> {
        match action {
            Action::Create(path) => {
                if !self.names.contains_key(path) {
                    self.make(id, path, false);
                }
            }
            Action::MakeDirectory(path) => self.make(id, path, true),
            Action::Write { path, offset, bytes } => {
                let offset = usize::try_from(*offset).map_err(|error| error.to_string())?;
                let change = Change::Write { offset, bytes: bytes.clone() };
                self.inode(path)?.pending.push(Pending::new(id, change));
            }
            Action::Truncate { path, length } => {
                let length = usize::try_from(*length).map_err(|error| error.to_string())?;
                self.inode(path)?.pending.push(Pending::new(id, Change::Truncate(length)));
            }
            Action::Rename { from, to } => {
                let inode = self.names.remove(from).ok_or_else(|| unknown(from))?;
                if self.inodes[inode].directory || from.parent() != to.parent() {
                    return Err("only files are renamed, and within their directory".into());
                }
                if let Some(old) = self.names.insert(to.clone(), inode) {
                    self.unlinked.insert(to.clone(), old);
                }
                let (from, to) = (from.clone(), to.clone());
                self.namings.push(Pending::new(id, Naming::Rename { from, to }));
            }
            Action::Unlink(path) => {
                let inode = self.names.remove(path).ok_or_else(|| unknown(path))?;
                self.unlinked.insert(path.clone(), inode);
                self.namings.push(Pending::new(id, Naming::Unlink(path.clone())));
            }
            Action::Sync(path) => {
                let covered = match self.names.get(path).or_else(|| self.unlinked.get(path)) {
                    Some(inode) if !self.inodes[*inode].directory => {
                        ended(&self.inodes[*inode].pending).collect()
                    }
                    // A directory, or the one above all.
                    _ => ended(self.namings.iter().filter(|n| n.change.is_in(path))).collect(),
                };
                self.syncs.insert(id, covered);
            }
            Action::Answer(_) => {}
        }
        Ok(())
    }

    fn make(&mut self, id: usize, path: &Path, directory: bool) {
        self.inodes.push(Inode { directory, ..Inode::default() });
        let inode = self.inodes.len() - 1;
        self.names.insert(path.to_owned(), inode);
        self.namings.push(Pending::new(id, Naming::Link { path: path.to_owned(), inode }));
    }

    fn inode(&mut self, path: &Path) -> Result<&mut Inode, String> {
        let inode = self.names.get(path).or_else(|| self.unlinked.get(path));
        let inode = *inode.ok_or_else(|| unknown(path))?;
        Ok(&mut self.inodes[inode])
    }

    fn end(&mut self, id: usize) {
        let covered = self.syncs.remove(&id).unwrap_or_default();
        for inode in &mut self.inodes {
            settle(&mut inode.pending, id, &covered);
            let done = inode.pending.iter().take_while(|pending| pending.durable).count();
            for pending in inode.pending.drain(..done) {
                pending.change.apply(&mut inode.bytes, Fate::Kept);
            }
        }
        settle(&mut self.namings, id, &covered);
        let done = self.namings.iter().take_while(|pending| pending.durable).count();
        for pending in self.namings.drain(..done) {
            pending.change.apply(&mut self.durable_names);
        }
    }

    /// What a cut may undo now, the oldest first.
    pub(super) fn open(&self) -> Vec<Open> {
        let files = self.inodes.iter().flat_map(|inode| &inode.pending);
        let files = files.filter(|pending| !pending.durable).map(|pending| Open {
            id: pending.id,
            sectors: match &pending.change {
                Change::Write { offset, bytes } => sectors(*offset, bytes.len()).count(),
                Change::Truncate(_) => 1,
            },
        });
        let names = self.namings.iter().filter(|pending| !pending.durable);
        let mut open: Vec<_> =
            files.chain(names.map(|pending| Open { id: pending.id, sectors: 1 })).collect();
        open.sort_by_key(|open| open.id);
        open
    }

    /// What is on the disk after a cut. What has no fate is lost.
    pub(super) fn tree(&self, fates: &Fates) -> Tree {
        let fate = |id: usize, durable: bool| match durable {
            true => Fate::Kept,
            false => fates.get(&id).copied().unwrap_or(Fate::Lost),
        };
        let mut names = self.durable_names.clone();
        let mut lost: HashSet<&Path> = HashSet::new();
        for pending in &self.namings {
            let touched = pending.change.paths();
            let follows_lost = touched.iter().any(|path| lost.contains(path));
            if fate(pending.id, pending.durable) == Fate::Lost || follows_lost {
                lost.extend(touched);
            } else {
                pending.change.apply(&mut names);
            }
        }
        let mut tree = Tree::new();
        for (path, inode) in names {
            // What lies in a directory that is lost cannot be reached.
            let parent = path.parent();
            let known = parent.is_some_and(|p| !self.is_made(p) || tree.contains_key(p));
            let inode = &self.inodes[inode];
            if !known {
                continue;
            }
            let content = (!inode.directory).then(|| {
                let mut bytes = inode.bytes.clone();
                for pending in &inode.pending {
                    pending.change.apply(&mut bytes, fate(pending.id, pending.durable));
                }
                bytes
            });
            tree.insert(path, content);
        }
        tree
    }

    /// Whether a directory was made while this disk was watched.
    fn is_made(&self, path: &Path) -> bool {
        self.names.contains_key(path)
    }
}

impl<T> Pending<T> {
    fn new(id: usize, change: T) -> Self {
        Self { id, change, ended: false, durable: false }
    }
}

fn unknown(path: &Path) -> String {
    format!("{} was never made", path.display())
}

fn ended<'a, T: 'a>(
    pending: impl IntoIterator<Item = &'a Pending<T>>,
) -> impl Iterator<Item = usize> {
    pending.into_iter().filter(|pending| pending.ended).map(|pending| pending.id)
}

/// A call has ended: it is done, and what it covers is durable.
fn settle<T>(pending: &mut [Pending<T>], id: usize, covered: &HashSet<usize>) {
    for pending in pending {
        pending.ended |= pending.id == id;
        pending.durable |= covered.contains(&pending.id);
    }
}

/// The parts of a write that lie in one sector each.
fn sectors(offset: usize, length: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    let end = offset + length;
    let mut start = offset;
    std::iter::from_fn(move || {
        let from = start;
        start = end.min((from / SECTOR + 1) * SECTOR);
        (from < end).then(|| from - offset..start - offset)
    })
}

impl Change {
    fn apply(&self, file: &mut Vec<u8>, fate: Fate) {
        match (self, fate) {
            (_, Fate::Lost) => {}
            (Self::Truncate(length), _) => file.resize(*length, 0),
            (Self::Write { offset, bytes }, Fate::Kept) => put(file, *offset, bytes),
            (Self::Write { offset, bytes }, Fate::Torn { sectors: pattern, long }) => {
                for (number, part) in sectors(*offset, bytes.len()).enumerate() {
                    if pattern >> (number % 64) & 1 == 1 {
                        put(file, offset + part.start, &bytes[part]);
                    }
                }
                if long && file.len() < offset + bytes.len() {
                    file.resize(offset + bytes.len(), 0);
                }
            }
        }
    }
}

fn put(file: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if file.len() < end {
        file.resize(end, 0);
    }
    file[offset..end].copy_from_slice(bytes);
}

impl Naming {
    fn is_in(&self, directory: &Path) -> bool {
        self.paths().iter().any(|path| path.parent() == Some(directory))
    }

    fn paths(&self) -> Vec<&Path> {
        match self {
            Self::Link { path, .. } | Self::Unlink(path) => vec![path],
            Self::Rename { from, to } => vec![from, to],
        }
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, usize>) {
        match self {
            Self::Link { path, inode } => {
                names.insert(path.clone(), *inode);
            }
            Self::Unlink(path) => {
                names.remove(path);
            }
            Self::Rename { from, to } => {
                if let Some(inode) = names.remove(from) {
                    names.insert(to.clone(), inode);
                }
            }
        }
    }
}
