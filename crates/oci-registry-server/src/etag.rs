//! Entity tags: a digest in quotes, and the conditions that requests make of it (RFC 9110, section 13).

use http::header::{IF_MATCH, IF_NONE_MATCH};
use http::{HeaderMap, HeaderName, HeaderValue};
use oci_ref::Precondition;
use oci_spec_types::Digest;

/// The entity tag of content.
pub(crate) fn of(digest: &Digest) -> String {
    format!("\"{digest}\"")
}

/// Whether a header holds exactly this entity tag, by strong comparison.
pub(crate) fn is(value: &HeaderValue, etag: &str) -> bool {
    value.to_str().is_ok_and(|value| value.trim() == etag)
}

/// A condition that a push cannot make.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a push takes If-Match, or `If-None-Match: *`, and not both")]
pub(crate) struct PushError;

/// What a condition on a pull comes to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Pull {
    /// Answer as if there were none.
    Proceed,
    /// The client has it already: 304.
    NotModified,
    /// It is not what the client wants: 412.
    Failed,
}

/// Judges `If-Match` and `If-None-Match` of a pull of existing content.
pub(crate) fn pull(headers: &HeaderMap, etag: &str) -> Pull {
    if !headers.contains_key(IF_MATCH) && !headers.contains_key(IF_NONE_MATCH) {
        return Pull::Proceed;
    }
    let holds = |name, weakly: bool| {
        tags(headers, name)
            .any(|tag| tag == "*" || tag == etag || weakly && tag.strip_prefix("W/") == Some(etag))
    };
    if headers.contains_key(IF_MATCH) && !holds(IF_MATCH, false) {
        return Pull::Failed;
    }
    if holds(IF_NONE_MATCH, true) {
        return Pull::NotModified;
    }
    Pull::Proceed
}

/// The condition that a push of a manifest makes: `If-Match` with digests or `*`, or `If-None-Match: *`.
pub(crate) fn push(headers: &HeaderMap) -> Result<Precondition, PushError> {
    let matching = headers.contains_key(IF_MATCH);
    let absent = headers.contains_key(IF_NONE_MATCH);
    if absent && (matching || tags(headers, IF_NONE_MATCH).ne(["*"])) {
        return Err(PushError);
    }
    if absent {
        return Ok(Precondition::Absent);
    }
    if !matching {
        return Ok(Precondition::None);
    }
    if tags(headers, IF_MATCH).any(|tag| tag == "*") {
        return Ok(Precondition::Exists);
    }
    // A tag that is weak, or that we never gave, matches nothing.
    let digests = tags(headers, IF_MATCH).filter_map(|tag| {
        let digest = tag.strip_prefix('"')?.strip_suffix('"')?;
        digest.parse::<Digest>().ok()
    });
    Ok(Precondition::Matches(digests.collect()))
}

/// The entity tags of a list header. None of ours holds a comma.
fn tags(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let values = headers.get_all(name).into_iter();
    values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|tag| !tag.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
        let pairs = pairs.iter();
        pairs.map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
    }

    #[test]
    fn conditions_of_a_pull() {
        let ours = "\"sha256:ab\"";
        let cases: &[(&[(HeaderName, &str)], Pull)] = &[
            (&[], Pull::Proceed),
            (&[(IF_NONE_MATCH, ours)], Pull::NotModified),
            (&[(IF_NONE_MATCH, "W/\"sha256:ab\"")], Pull::NotModified),
            (&[(IF_NONE_MATCH, "\"x\", \"sha256:ab\"")], Pull::NotModified),
            (&[(IF_NONE_MATCH, "*")], Pull::NotModified),
            (&[(IF_NONE_MATCH, "\"x\"")], Pull::Proceed),
            (&[(IF_NONE_MATCH, "sha256:ab")], Pull::Proceed),
            (&[(IF_MATCH, ours)], Pull::Proceed),
            (&[(IF_MATCH, "*")], Pull::Proceed),
            (&[(IF_MATCH, "W/\"sha256:ab\"")], Pull::Failed),
            (&[(IF_MATCH, "\"x\"")], Pull::Failed),
            (&[(IF_MATCH, "")], Pull::Failed),
            (&[(IF_MATCH, ours), (IF_NONE_MATCH, ours)], Pull::NotModified),
        ];
        for (given, expected) in cases {
            assert_eq!(pull(&headers(given), ours), *expected, "{given:?}");
        }
    }

    #[test]
    fn conditions_of_a_push() {
        let digest: Digest = DIGEST.parse().unwrap();
        let quoted = format!("\"{DIGEST}\"");
        let of = |pairs: &[(HeaderName, &str)]| push(&headers(pairs)).ok();
        assert_eq!(of(&[]), Some(Precondition::None));
        assert_eq!(of(&[(IF_MATCH, "*")]), Some(Precondition::Exists));
        assert_eq!(of(&[(IF_NONE_MATCH, "*")]), Some(Precondition::Absent));
        let matches = Precondition::Matches(vec![digest]);
        assert_eq!(of(&[(IF_MATCH, &quoted)]), Some(matches.clone()));
        assert_eq!(of(&[(IF_MATCH, &format!("\"x\", {quoted}"))]), Some(matches));
        let nothing = Precondition::Matches(vec![]);
        assert_eq!(of(&[(IF_MATCH, &format!("W/{quoted}"))]), Some(nothing.clone()));
        assert_eq!(of(&[(IF_MATCH, "nonsense")]), Some(nothing));
        assert_eq!(of(&[(IF_NONE_MATCH, &quoted)]), None);
        assert_eq!(of(&[(IF_NONE_MATCH, "*"), (IF_MATCH, "*")]), None);
    }
}
