//! Everything that a ref reaches, children before their parents or after them.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;
use std::sync::Arc;

use futures_core::Stream;
use futures_core::future::BoxFuture;
use oci_spec_types::{Descriptor, Digest};

use crate::graph::{Entry, read_entry};
use crate::{Error, ErrorKind, Ref, Result, Source};

/// Bounds for a walk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalkOptions {
    /// How deep indexes may be nested. The root alone is depth 0.
    pub max_depth: usize,
    /// How many manifests may be visited.
    pub max_manifests: usize,
    /// How many manifests are fetched ahead at each level.
    pub ahead: usize,
    /// The most bytes of manifests that are fetched ahead, at all levels together, besides the next
    /// one.
    pub ahead_bytes: u64,
    /// The most bytes of indexes that lie within each other, all of which are held until the
    /// innermost has been visited.
    pub max_nested_bytes: u64,
    /// Visits each index before what it lists; else after it.
    pub parents_first: bool,
    /// Whether a manifest that is not there is reported and passed over; else it is an error.
    pub sparse: bool,
}

impl Default for WalkOptions {
    /// 16 levels of up to 128 MiB together, 100,000 manifests, 8 of up to 4 MiB together fetched
    /// ahead, children first, not sparse.
    fn default() -> Self {
        Self {
            max_depth: 16,
            max_manifests: 100_000,
            ahead: 8,
            ahead_bytes: 4 << 20,
            max_nested_bytes: 128 << 20,
            parents_first: false,
            sparse: false,
        }
    }
}

/// Where a manifest was found: `""` for the root, `manifests/3/manifests/0` for the first entry of its fourth.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RefPath(Vec<usize>);

impl RefPath {
    /// The positions in the indexes from the root down.
    pub fn positions(&self) -> &[usize] {
        &self.0
    }

    pub(crate) fn child(&self, position: usize) -> Self {
        let mut positions = self.0.clone();
        positions.push(position);
        Self(positions)
    }
}

impl fmt::Display for RefPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (depth, position) in self.0.iter().enumerate() {
            let slash = if depth > 0 { "/" } else { "" };
            write!(f, "{slash}manifests/{position}")?;
        }
        Ok(())
    }
}

/// One step of a walk.
#[derive(Clone, Debug)]
pub struct Visit {
    /// Where it was found first.
    pub path: RefPath,
    /// The descriptor by which it was referenced; for the root its own.
    pub descriptor: Descriptor,
    /// What was found.
    pub found: Found,
}

/// What a walk found at a place.
#[derive(Clone, Debug)]
pub enum Found {
    /// The manifest.
    Ref(Ref),
    /// A blob that an index lists among its manifests, such as a layer of a build cache. It has not
    /// been read.
    Blob,
    /// Nothing: the source does not have it, and the walk is a sparse one.
    Missing,
    /// A manifest type that this library does not look into.
    Other(crate::Manifest),
}

/// Walks a ref and all manifests that it reaches: depth first, children before their parents
/// (or after them: [`WalkOptions::parents_first`]), each digest once. Blobs are visited where an index lists them, which is no error (image-spec,
/// `image-index.md`).
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use std::sync::Arc;
/// use futures_util::TryStreamExt;
/// use oci_ref::{Manifest, Memory, Ref, WalkOptions, walk_refs};
///
/// let index = br#"{"schemaVersion":2,"manifests":[]}"#;
/// let root = Ref::new(Manifest::parse(index.as_slice().into(), None, None)?, Arc::new(Memory::new()))?;
/// let visits: Vec<_> = walk_refs(root, WalkOptions::default()).try_collect().await?;
/// assert_eq!(visits.len(), 1);
/// assert_eq!(visits[0].path.to_string(), "");
/// # Ok::<_, oci_ref::Error>(()) }).unwrap();
/// ```
pub fn walk_refs(root: Ref, options: WalkOptions) -> impl Stream<Item = Result<Visit>> + Send {
    let walk = Walk::new(root, options);
    futures_util::stream::unfold(walk, |mut walk| async move {
        let step = walk.next().await?;
        if step.is_err() {
            walk.stack.clear();
            walk.ahead.clear();
        }
        Some((step, walk))
    })
}

/// Hands every visit of a walk, in its order, to a function, whose error ends the walk.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// # use std::sync::Arc;
/// # use oci_ref::{Manifest, Memory, Ref, WalkOptions, visit_refs};
/// # let index = br#"{"schemaVersion":2,"manifests":[]}"#;
/// # let root = Ref::new(Manifest::parse(index.as_slice().into(), None, None)?, Arc::new(Memory::new()))?;
/// let mut digests = Vec::new();
/// visit_refs(root, WalkOptions::default(), |visit| {
///     digests.push(visit.descriptor.digest);
///     Ok(())
/// })
/// .await?;
/// # assert_eq!(digests.len(), 1);
/// # Ok::<_, oci_ref::Error>(()) }).unwrap();
/// ```
pub async fn visit_refs(
    root: Ref,
    options: WalkOptions,
    mut visitor: impl FnMut(Visit) -> Result<()>,
) -> Result<()> {
    let mut walk = Walk::new(root, options);
    while let Some(step) = walk.next().await {
        visitor(step?)?;
    }
    Ok(())
}

struct Walk {
    options: WalkOptions,
    stack: Vec<Frame>,
    /// The top of the stack has just been found, and is visited before what it lists.
    fresh: bool,
    /// What has been visited, or is on the stack.
    seen: HashSet<Digest>,
    /// What is being fetched before its turn. Whoever comes first takes it: an entry of an index may also be listed
    /// deeper within an entry before it, and is visited there.
    ahead: HashMap<Digest, Ahead>,
}

/// An index whose children are being visited, or an image that is about to be.
struct Frame {
    path: RefPath,
    descriptor: Descriptor,
    found: Found,
    /// The first child for which nothing has been done yet.
    next: usize,
    /// The children that are to be visited next.
    queue: VecDeque<usize>,
}

/// A manifest that is being fetched.
struct Ahead {
    descriptor: Descriptor,
    fetch: tokio::task::JoinHandle<Result<Found>>,
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.fetch.abort();
    }
}

impl Walk {
    fn new(root: Ref, options: WalkOptions) -> Self {
        let descriptor = root.manifest().descriptor().clone();
        Self {
            seen: HashSet::from([descriptor.digest.clone()]),
            stack: vec![Frame::new(RefPath::default(), descriptor, Found::Ref(root))],
            fresh: options.parents_first,
            ahead: HashMap::new(),
            options,
        }
    }

    async fn next(&mut self) -> Option<Result<Visit>> {
        loop {
            if std::mem::take(&mut self.fresh)
                && let Some(frame) = self.stack.last()
            {
                return Some(Ok(frame.visit()));
            }
            self.fetch_ahead();
            let depth = self.stack.len();
            let frame = self.stack.last_mut()?;
            let Some(position) = frame.queue.pop_front() else {
                let frame = self.stack.pop()?;
                match self.options.parents_first {
                    true => continue,
                    false => return Some(Ok(frame.visit())),
                }
            };
            let Found::Ref(Ref::Index(index)) = &frame.found else {
                continue;
            };
            let descriptor = index.manifests()[position].clone();
            if !self.seen.insert(descriptor.digest.clone()) {
                continue;
            }
            let path = frame.path.child(position);
            let limit = self.options.max_depth;
            if depth > limit {
                return Some(Err(too_much(&path, "it is nested deeper", limit as u64)));
            }
            let limit = self.options.max_manifests;
            if self.seen.len() > limit {
                return Some(Err(too_much(&path, "there are more manifests", limit as u64)));
            }
            let ahead = self.ahead.remove(&descriptor.digest);
            let mut ahead = match ahead.filter(|ahead| ahead.descriptor == descriptor) {
                Some(ahead) => ahead,
                None => Ahead::fetch(index.source(), &descriptor, self.options.sparse),
            };
            let fetched = match (&mut ahead.fetch).await {
                Ok(fetched) => fetched,
                Err(error) => Err(Error::new(ErrorKind::Internal, "fetching a manifest failed")
                    .with_source(error)),
            };
            match fetched {
                Ok(found) => {
                    let around = self.stack.iter().map(|frame| index_bytes(&frame.found));
                    let within = around.sum::<u64>().saturating_add(index_bytes(&found));
                    let limit = self.options.max_nested_bytes;
                    if within > limit {
                        let what = "it and the indexes around it have more bytes";
                        return Some(Err(too_much(&path, what, limit)));
                    }
                    self.stack.push(Frame::new(path, descriptor, found));
                    self.fresh = self.options.parents_first;
                }
                Err(error) => {
                    let what = format!("reading {} at {path}", descriptor.digest);
                    return Some(Err(error.context(what)));
                }
            }
        }
    }

    /// Queues the next children of the index on top of the stack, and starts to fetch them.
    fn fetch_ahead(&mut self) {
        let Some(frame) = self.stack.last_mut() else {
            return;
        };
        let Found::Ref(Ref::Index(index)) = &frame.found else {
            return;
        };
        let sizes = self.ahead.values().map(|ahead| ahead.descriptor.size);
        let mut bytes = sizes.fold(0, u64::saturating_add);
        while frame.queue.len() < self.options.ahead.max(1) {
            let Some(descriptor) = index.manifests().get(frame.next) else {
                return;
            };
            bytes = bytes.saturating_add(descriptor.size);
            if bytes > self.options.ahead_bytes && !frame.queue.is_empty() {
                return;
            }
            if !self.seen.contains(&descriptor.digest) {
                frame.queue.push_back(frame.next);
                let digest = descriptor.digest.clone();
                let fetch = || Ahead::fetch(index.source(), descriptor, self.options.sparse);
                self.ahead.entry(digest).or_insert_with(fetch);
            }
            frame.next += 1;
        }
    }
}

fn too_much(path: &RefPath, what: &str, limit: u64) -> Error {
    Error::new(
        ErrorKind::TooLarge { limit },
        format!("walking refs: {path}: {what} than the limit of {limit}"),
    )
}

/// The size of an index, and nothing of what is not held while others are visited.
fn index_bytes(found: &Found) -> u64 {
    match found {
        Found::Ref(Ref::Index(index)) => index.manifest().bytes().len() as u64,
        _ => 0,
    }
}

impl Frame {
    fn new(path: RefPath, descriptor: Descriptor, found: Found) -> Self {
        Self { path, descriptor, found, next: 0, queue: VecDeque::new() }
    }

    fn visit(&self) -> Visit {
        Visit {
            path: self.path.clone(),
            descriptor: self.descriptor.clone(),
            found: self.found.clone(),
        }
    }
}

impl Ahead {
    fn fetch(source: &Arc<dyn Source>, descriptor: &Descriptor, sparse: bool) -> Self {
        Self {
            descriptor: descriptor.clone(),
            fetch: tokio::spawn(fetch(source.clone(), descriptor.clone(), sparse)),
        }
    }
}

fn fetch(
    source: Arc<dyn Source>,
    descriptor: Descriptor,
    sparse: bool,
) -> BoxFuture<'static, Result<Found>> {
    Box::pin(async move {
        match read_entry(&*source, &descriptor).await {
            Ok(Entry::Blob) => Ok(Found::Blob),
            Ok(Entry::Manifest(found)) if found.image().is_none() && found.index().is_none() => {
                Ok(Found::Other(found))
            }
            Ok(Entry::Manifest(found)) => Ref::new(found, source).map(Found::Ref),
            Err(error) if sparse && error.is_not_found() => Ok(Found::Missing),
            Err(error) => Err(error),
        }
    })
}
