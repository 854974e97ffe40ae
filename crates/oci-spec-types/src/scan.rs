//! One linear pass over a JSON document that refuses what different readers would read differently, and notes
//! which telling fields there are.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::fmt::{self, Write as _};

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use crate::document::DocumentError;
use crate::text::Excerpt;

/// Deepest nesting of objects and arrays, the document itself being the first.
const MAX_DEPTH: usize = 64;
/// The most keys of an object, and elements of an array. Each takes several times its size in
/// memory once it is parsed, and none of the known documents has a hundredth of that.
const MAX_ENTRIES: usize = 100_000;
/// The most values in a document, however they are nested. A layer has at least four, with itself,
/// so that as many layers as there may be fit.
const MAX_VALUES: usize = 500_000;
/// Fields that the specifications define at the top of a manifest or an index.
const TOP_FIELDS: [&str; 9] = [
    "schemaVersion",
    "mediaType",
    "artifactType",
    "config",
    "layers",
    "manifests",
    "subject",
    "annotations",
    "fsLayers",
];
/// Fields that the specifications define in a descriptor.
const DESCRIPTOR_FIELDS: [&str; 8] =
    ["mediaType", "digest", "size", "urls", "annotations", "data", "platform", "artifactType"];

/// Which telling fields a document has at its top.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct TopLevel(u8);

impl TopLevel {
    pub(crate) const MANIFESTS: Self = Self(1);
    pub(crate) const LAYERS: Self = Self(2);
    pub(crate) const CONFIG: Self = Self(4);
    pub(crate) const FS_LAYERS: Self = Self(8);

    pub(crate) fn contains(self, field: Self) -> bool {
        self.0 & field.0 != 0
    }

    fn with(self, key: &str) -> Self {
        match key {
            "manifests" => Self(self.0 | Self::MANIFESTS.0),
            "layers" => Self(self.0 | Self::LAYERS.0),
            "config" => Self(self.0 | Self::CONFIG.0),
            "fsLayers" => Self(self.0 | Self::FS_LAYERS.0),
            _ => self,
        }
    }
}

/// [`check_document`](crate::check_document), telling also which fields there are.
pub(crate) fn scan(bytes: &[u8]) -> Result<TopLevel, DocumentError> {
    if bytes.starts_with(b"\xEF\xBB\xBF") {
        return Err(DocumentError::new("the document begins with a byte order mark, expected '{'"));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        DocumentError::new(format_args!(
            "the document is not UTF-8 at byte {}",
            error.valid_up_to()
        ))
    })?;

    let found = Found::default();
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let root = Path { parent: None, step: Step::Root };
    let result = Node { path: &root, depth: 0, kind: Kind::Root, found: &found }
        .deserialize(&mut deserializer);
    result.and_then(|()| deserializer.end()).map_err(|error| match found.at.take() {
        Some(path) => DocumentError::at(&path, error),
        None => DocumentError::new(error),
    })?;
    Ok(found.top.get())
}

/// What the scan learns on its way.
#[derive(Default)]
struct Found {
    top: Cell<TopLevel>,
    /// The number of values so far.
    values: Cell<usize>,
    /// Where the first problem is.
    at: RefCell<Option<String>>,
}

/// What a value is, as far as its keys matter.
#[derive(Clone, Copy)]
enum Kind {
    Root,
    Descriptors,
    Descriptor,
    Other,
}

impl Kind {
    fn fields(self) -> &'static [&'static str] {
        match self {
            Self::Root => &TOP_FIELDS,
            Self::Descriptor => &DESCRIPTOR_FIELDS,
            Self::Descriptors | Self::Other => &[],
        }
    }

    fn of_field(self, key: &str) -> Self {
        match (self, key) {
            (Self::Root, "manifests" | "layers") => Self::Descriptors,
            (Self::Root, "config" | "subject") => Self::Descriptor,
            _ => Self::Other,
        }
    }

    fn of_element(self) -> Self {
        match self {
            Self::Descriptors => Self::Descriptor,
            _ => Self::Other,
        }
    }
}

/// The way from the top to a value, on the stack; written out only for an error.
pub(crate) struct Path<'a> {
    pub(crate) parent: Option<&'a Path<'a>>,
    pub(crate) step: Step<'a>,
}

pub(crate) enum Step<'a> {
    Root,
    Key(&'a str),
    Index(usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
        }
        match self.step {
            Step::Root => Ok(()),
            Step::Index(index) => write!(f, "[{index}]"),
            Step::Key(key) => {
                if self.parent.is_some_and(|parent| !matches!(parent.step, Step::Root)) {
                    f.write_char('.')?;
                }
                let plain = key.len() <= 64
                    && !key.is_empty()
                    && key.bytes().all(|byte| byte.is_ascii_graphic());
                if plain { f.write_str(key) } else { Excerpt::new(key).fmt(f) }
            }
        }
    }
}

/// One value of the document, still to be read.
struct Node<'a> {
    path: &'a Path<'a>,
    /// How many objects and arrays are around it.
    depth: usize,
    kind: Kind,
    found: &'a Found,
}

impl Node<'_> {
    fn refuse<E: Error>(&self, path: &Path<'_>, reason: impl fmt::Display) -> E {
        *self.found.at.borrow_mut() = Some(path.to_string()).filter(|path| !path.is_empty());
        E::custom(reason)
    }

    fn check_depth<E: Error>(&self) -> Result<(), E> {
        if self.depth < MAX_DEPTH {
            return Ok(());
        }
        Err(self.refuse(self.path, format_args!("nested deeper than {MAX_DEPTH}")))
    }

    fn check_entries<E: Error>(&self, entries: usize) -> Result<(), E> {
        if entries <= MAX_ENTRIES {
            return Ok(());
        }
        Err(self.refuse(self.path, format_args!("there are more than {MAX_ENTRIES} entries")))
    }

    fn count_value<E: Error>(&self) -> Result<(), E> {
        let values = self.found.values.get() + 1;
        self.found.values.set(values);
        if values <= MAX_VALUES {
            return Ok(());
        }
        let reason = format_args!("there are more than {MAX_VALUES} values in the document");
        Err(self.refuse(self.path, reason))
    }

    /// What is not an object cannot be the whole document.
    fn check_not_root<E: Error>(&self) -> Result<(), E> {
        match self.kind {
            Kind::Root => Err(self.refuse(self.path, "the document is not a JSON object")),
            _ => Ok(()),
        }
    }

    fn check_key<E: Error>(&self, path: &Path<'_>, key: &str) -> Result<(), E> {
        if matches!(self.kind, Kind::Root) {
            self.found.top.set(self.found.top.get().with(key));
        }
        let fields = self.kind.fields();
        match fields.iter().find(|field| **field != key && same_to_go(field, key)) {
            Some(field) => Err(self.refuse(
                path,
                format_args!("this key differs from {field} only in the case of letters"),
            )),
            None => Ok(()),
        }
    }
}

/// Whether Go's JSON decoder takes `key` for `field` (which is ASCII): it folds case as Unicode does, where the
/// long s (U+017F) and the Kelvin sign (U+212A) fold to ASCII letters.
fn same_to_go(field: &str, key: &str) -> bool {
    let folded = key.chars().map(|letter| match letter {
        '\u{17F}' => 's',
        '\u{212A}' => 'k',
        other => other.to_ascii_lowercase(),
    });
    folded.eq(field.chars().map(|letter| letter.to_ascii_lowercase()))
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        self.count_value()?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        self.check_depth()?;
        let mut keys = HashSet::new();
        while let Some(Key(key)) = map.next_key_seed(KeySeed)? {
            let path = Path { parent: Some(self.path), step: Step::Key(&key) };
            self.check_key(&path, &key)?;
            if keys.contains(&key) {
                return Err(self.refuse(&path, "this key occurs twice"));
            }
            let kind = self.kind.of_field(&key);
            map.next_value_seed(Node {
                path: &path,
                depth: self.depth + 1,
                kind,
                found: self.found,
            })?;
            keys.insert(key);
            self.check_entries(keys.len())?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        self.check_not_root()?;
        self.check_depth()?;
        let kind = self.kind.of_element();
        let mut index = 0;
        loop {
            let path = Path { parent: Some(self.path), step: Step::Index(index) };
            let node = Node { path: &path, depth: self.depth + 1, kind, found: self.found };
            if seq.next_element_seed(node)?.is_none() {
                return Ok(());
            }
            index += 1;
            self.check_entries(index)?;
        }
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.check_not_root()
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        self.check_not_root()
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        self.check_not_root()
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        self.check_not_root()
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        self.check_not_root()
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        self.check_not_root()
    }
}

/// An object's key, borrowed from the document unless it holds escapes.
struct Key<'de>(Cow<'de, str>);

struct KeySeed;

impl<'de> DeserializeSeed<'de> for KeySeed {
    type Value = Key<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Key<'de>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for KeySeed {
    type Value = Key<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_borrowed_str<E: Error>(self, key: &'de str) -> Result<Key<'de>, E> {
        Ok(Key(Cow::Borrowed(key)))
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<Key<'de>, E> {
        Ok(Key(Cow::Owned(key.to_owned())))
    }
}
