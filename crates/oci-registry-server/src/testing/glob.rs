//! Patterns of paths.

/// Whether a pattern fits the whole of a text. `*` stands for any characters, `/` too, and `?` for one; all others
/// stand for themselves.
pub(super) fn fits(pattern: &str, text: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let text: Vec<char> = text.chars().collect();
    let (mut at, mut position) = (0, 0);
    // The last star, and up to where it reaches.
    let mut star: Option<(usize, usize)> = None;
    while position < text.len() {
        match (pattern.get(at), star) {
            (Some('*'), _) => {
                star = Some((at, position));
                at += 1;
            }
            (Some('?'), _) => (at, position) = (at + 1, position + 1),
            (Some(c), _) if *c == text[position] => (at, position) = (at + 1, position + 1),
            (_, Some((star_at, reached))) => {
                star = Some((star_at, reached + 1));
                (at, position) = (star_at + 1, reached + 1);
            }
            (_, None) => return false,
        }
    }
    pattern[at..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn patterns() {
        let cases = [
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("*", "/v2/", true),
            ("/v2/*/blobs/*", "/v2/a/b/blobs/sha256:00", true),
            ("/v2/*/blobs/*", "/v2/a/manifests/v1", false),
            ("/v2/a/manifests/v?", "/v2/a/manifests/v1", true),
            ("/v2/a/manifests/v?", "/v2/a/manifests/v", false),
            ("/v2/a/manifests/v?", "/v2/a/manifests/v12", false),
            ("a*b*c", "axbxbxc", true),
            ("a*b*c", "axbxbx", false),
            ("**a", "bba", true),
            ("a", "ab", false),
            ("ab", "a", false),
        ];
        for (pattern, text, expected) in cases {
            assert_eq!(fits(pattern, text), expected, "{pattern:?} {text:?}");
        }
    }
}
