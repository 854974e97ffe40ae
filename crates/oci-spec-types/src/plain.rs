//! Text of others, as it may be shown on a terminal or written to a log.

use std::borrow::Cow;

/// Returns a text of somebody else without what a terminal might take for more than text: control
/// characters, characters that set the direction of writing, and others that are not seen. Tabs and
/// ends of lines become spaces, all others U+FFFD.
///
/// ```
/// let text = oci_spec_types::plain("two\nlines, \u{1b}[31mred\u{202e}");
/// assert_eq!(text, "two lines, \u{fffd}[31mred\u{fffd}");
/// ```
pub fn plain(text: &str) -> Cow<'_, str> {
    if !text.contains(|found: char| found.is_control() || is_unseen(found)) {
        return Cow::Borrowed(text);
    }
    let shown = |found| match found {
        '\t' | '\n' | '\r' => ' ',
        _ if found.is_control() || is_unseen(found) => char::REPLACEMENT_CHARACTER,
        _ => found,
    };
    Cow::Owned(text.chars().map(shown).collect())
}

/// Tells whether a character has no form of its own: those of Unicode's category Cf, and the ends of
/// lines and paragraphs that are no control characters.
fn is_unseen(found: char) -> bool {
    matches!(
        found,
        '\u{ad}'
            | '\u{600}'..='\u{605}'
            | '\u{61c}'
            | '\u{6dd}'
            | '\u{70f}'
            | '\u{890}'..='\u{891}'
            | '\u{8e2}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{110bd}'
            | '\u{110cd}'
            | '\u{13430}'..='\u{1343f}'
            | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e007f}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_seen_is_not_shown() {
        for unseen in "\u{0}\u{7}\u{1b}\u{7f}\u{9b}\u{61c}\u{200b}\u{200e}\u{200f}\u{202a}\u{202e}\
                       \u{2028}\u{2066}\u{2069}\u{feff}\u{e0041}"
            .chars()
        {
            assert_eq!(plain(&format!("a{unseen}b")), "a\u{fffd}b", "{:x}", u32::from(unseen));
        }
        assert_eq!(plain("a\r\nb\tc"), "a  b c");
        let text = "Grüße, שלום, 日本語 – „ok“ 👍";
        assert!(matches!(plain(text), Cow::Borrowed(shown) if shown == text));
    }
}
