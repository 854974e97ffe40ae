//! Percent-encoding (RFC 3986): decoded once and strictly, written where we build URLs.

use std::borrow::Cow;
use std::fmt::Write as _;

/// An escape that is not two hexadecimal digits, hides a `/`, or does not spell UTF-8.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is not properly percent-encoded")]
pub(crate) struct BadEscape;

/// Decodes every escape. `+` stays what it is: media types and digests hold it, and nothing here holds a space.
pub(crate) fn decode(text: &str) -> Result<Cow<'_, str>, BadEscape> {
    if !text.contains('%') {
        return Ok(Cow::Borrowed(text));
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let (high, low) = (hex(rest.next())?, hex(rest.next())?);
            bytes.push(high << 4 | low);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).map(Cow::Owned).map_err(|_| BadEscape)
}

/// Decodes a path. An escaped `/` is refused: what we take for one segment must be one to every proxy before us.
pub(crate) fn decode_path(path: &str) -> Result<Cow<'_, str>, BadEscape> {
    let decoded = decode(path)?;
    if let Cow::Owned(text) = &decoded
        && text.matches('/').count() != path.matches('/').count()
    {
        return Err(BadEscape);
    }
    Ok(decoded)
}

/// Appends text with everything escaped that is not plain in a path segment or a query value.
pub(crate) fn encode(out: &mut String, text: &str) {
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b':' => {
                out.push(byte as char);
            }
            _ => write!(out, "%{byte:02X}").expect("writing to a String does not fail"),
        }
    }
}

fn hex(digit: Option<u8>) -> Result<u8, BadEscape> {
    let digit = digit.and_then(|digit| char::from(digit).to_digit(16)).ok_or(BadEscape)?;
    u8::try_from(digit).map_err(|_| BadEscape)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn decoding() {
        assert_eq!(decode("a+b"), Ok("a+b".into()));
        assert_eq!(decode("sha256%3Aab"), Ok("sha256:ab".into()));
        assert_eq!(decode("%25"), Ok("%".into()));
        assert_eq!(decode("%2e%2E"), Ok("..".into()));
        for bad in ["%", "%4", "%zz", "%-1", "%+1", "%80", "a%"] {
            assert_eq!(decode(bad), Err(BadEscape), "{bad}");
        }
        assert_eq!(decode_path("/v2/a%2Fb"), Err(BadEscape));
        assert_eq!(decode_path("/v2/a%3Ab"), Ok("/v2/a:b".into()));
    }

    proptest! {
        #[test]
        fn what_is_encoded_decodes_to_itself(text in "\\PC*") {
            let mut encoded = String::new();
            encode(&mut encoded, &text);
            prop_assert!(encoded.is_ascii());
            prop_assert_eq!(decode(&encoded), Ok(text.into()));
        }

        #[test]
        fn decoding_never_panics(text in ".*") {
            let _ = decode(&text);
            let _ = decode_path(&text);
        }
    }
}
