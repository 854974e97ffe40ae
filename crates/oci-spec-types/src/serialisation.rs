//! Field-level rules shared by the JSON types: what is refused, and what counts as absent.

use serde::{Deserialize, Deserializer};

/// Reads `null`, which Go writes for an empty list or map, as the default.
pub(crate) fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Whether an optional text says nothing: absent, or empty as Go writes it.
pub(crate) fn is_blank(text: &Option<String>) -> bool {
    text.as_deref().is_none_or(str::is_empty)
}

/// `schemaVersion`: 2 and nothing else.
pub(crate) mod schema_version {
    use serde::de::{Deserialize, Deserializer, Error};

    pub(crate) const VALUE: u32 = 2;

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
        match u32::deserialize(deserializer)? {
            VALUE => Ok(VALUE),
            other => Err(D::Error::custom(format_args!(
                "schema version {other} is not supported, expected {VALUE}"
            ))),
        }
    }
}

/// `size`: a whole number of bytes from 0 to 2^63 - 1, which every implementation can hold.
pub(crate) mod size {
    use std::fmt;

    use serde::Serializer;
    use serde::de::{Deserializer, Error, Unexpected, Visitor};

    const MAX: u64 = i64::MAX as u64;

    pub(crate) fn serialize<S: Serializer>(size: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        if *size > MAX {
            return Err(serde::ser::Error::custom(format_args!("size {size} is above {MAX}")));
        }
        serializer.serialize_u64(*size)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        deserializer.deserialize_u64(Size)
    }

    struct Size;

    impl Visitor<'_> for Size {
        type Value = u64;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a size in whole bytes from 0 to {MAX}")
        }

        fn visit_u64<E: Error>(self, size: u64) -> Result<u64, E> {
            if size <= MAX {
                Ok(size)
            } else {
                Err(E::invalid_value(Unexpected::Unsigned(size), &self))
            }
        }

        fn visit_i64<E: Error>(self, size: i64) -> Result<u64, E> {
            u64::try_from(size).map_err(|_| E::invalid_value(Unexpected::Signed(size), &self))
        }
    }
}

/// `data`: bytes as standard, padded base64; `null` is absent.
pub(crate) mod data {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde::de::{Deserialize, Deserializer, Error};
    use serde::{Serialize, Serializer};

    pub(crate) fn serialize<S: Serializer>(
        data: &Option<Vec<u8>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        data.as_ref().map(|bytes| STANDARD.encode(bytes)).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Vec<u8>>, D::Error> {
        let Some(text) = Option::<String>::deserialize(deserializer)? else {
            return Ok(None);
        };
        let bytes = STANDARD.decode(text);
        bytes
            .map(Some)
            .map_err(|error| D::Error::custom(format_args!("data is not standard base64: {error}")))
    }
}

/// A set of texts that is written as an object with empty objects for values, `{"80/tcp": {}}`.
pub(crate) mod set_as_map {
    use std::collections::{BTreeMap, BTreeSet};

    use serde::de::{Deserialize, Deserializer, IgnoredAny};
    use serde::{Serialize, Serializer};

    #[derive(Serialize)]
    struct Empty {}

    pub(crate) fn serialize<S: Serializer>(
        set: &BTreeSet<String>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_map(set.iter().map(|key| (key, Empty {})))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeSet<String>, D::Error> {
        let map = Option::<BTreeMap<String, IgnoredAny>>::deserialize(deserializer)?;
        Ok(map.unwrap_or_default().into_keys().collect())
    }
}
