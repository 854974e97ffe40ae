//! `WWW-Authenticate`: what a registry wants to see before it answers (RFC 9110, 11.6.1).

use http::HeaderMap;

use crate::Credentials;

/// A way to authenticate that this crate knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// User name and password with each request.
    Basic,
    /// A token, to be had from `realm`.
    Bearer(BearerChallenge),
}

/// Where a token is to be had, and for what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BearerChallenge {
    /// The address of the token service; may be relative.
    pub(crate) realm: String,
    /// The name of the registry at that service.
    pub(crate) service: Option<String>,
    /// What the token should allow.
    pub(crate) scope: Option<String>,
}

/// The longest header that is looked at, in bytes: what it says is remembered.
const MAX_HEADER: usize = 16 << 10;

/// The challenges of ways that this crate knows, of all headers.
pub(crate) fn supported(headers: &HeaderMap) -> Vec<Challenge> {
    let values = headers.get_all(http::header::WWW_AUTHENTICATE).iter();
    let texts = values.filter_map(|value| value.to_str().ok());
    let texts = texts.filter(|text| text.len() <= MAX_HEADER);
    texts.flat_map(parse).filter_map(Raw::into_supported).collect()
}

/// The first challenge that can be answered with these credentials, or else the first: a token may
/// be had by nobody in particular, while user name and password have to be there.
pub(crate) fn choose(challenges: Vec<Challenge>, credentials: &Credentials) -> Option<Challenge> {
    let answerable = |challenge: &Challenge| match challenge {
        Challenge::Basic => {
            matches!(credentials, Credentials::Basic { .. } | Credentials::Bearer(_))
        }
        Challenge::Bearer(_) => true,
    };
    let first = challenges.iter().position(answerable).unwrap_or(0);
    challenges.into_iter().nth(first)
}

/// A challenge of any scheme.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Raw {
    /// In lower case.
    scheme: String,
    /// Names in lower case.
    parameters: Vec<(String, String)>,
}

impl Raw {
    fn into_supported(mut self) -> Option<Challenge> {
        match self.scheme.as_str() {
            "basic" => Some(Challenge::Basic),
            "bearer" => Some(Challenge::Bearer(BearerChallenge {
                realm: self.take("realm").filter(|realm| !realm.is_empty())?,
                service: self.take("service"),
                scope: self.take("scope"),
            })),
            _ => None,
        }
    }

    fn take(&mut self, name: &str) -> Option<String> {
        let at = self.parameters.iter().position(|(found, _)| found == name)?;
        Some(self.parameters.swap_remove(at).1)
    }
}

/// Reads the challenges of one header. What is not well formed ends it.
fn parse(header: &str) -> Vec<Raw> {
    let mut challenges: Vec<Raw> = Vec::new();
    let mut rest = header;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let (token, after) = read_token(rest);
        if token.is_empty() {
            return challenges;
        }
        if let Some((value, after)) = read_value(after) {
            // `name=value` belongs to the challenge before it.
            let Some(challenge) = challenges.last_mut() else {
                return challenges;
            };
            challenge.parameters.push((token.to_ascii_lowercase(), value));
            rest = after;
        } else {
            challenges.push(Raw { scheme: token.to_ascii_lowercase(), parameters: Vec::new() });
            rest = skip_token68(after);
        }
    }
}

fn read_token(text: &str) -> (&str, &str) {
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    text.split_at(text.find(|c| !is_token(c)).unwrap_or(text.len()))
}

/// Reads `= value`, where the value is a token or quoted.
fn read_value(text: &str) -> Option<(String, &str)> {
    let text = text.trim_start().strip_prefix('=')?.trim_start();
    let Some(quoted) = text.strip_prefix('"') else {
        // Real registries leave addresses unquoted, so that more than a token is taken.
        let (value, rest) = text.split_at(text.find([',', ' ', '\t']).unwrap_or(text.len()));
        return Some((value.to_owned(), rest));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, quoted.get(at + 1..).unwrap_or_default())),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            other => value.push(other),
        }
    }
    Some((value, ""))
}

/// Skips the single value that some schemes have instead of parameters, such as `Negotiate YWJj==`.
fn skip_token68(text: &str) -> &str {
    let value = text.trim_start();
    let is_token68 = |c: char| c.is_ascii_alphanumeric() || "-._~+/".contains(c);
    let (letters, rest) = value.split_at(value.find(|c| !is_token68(c)).unwrap_or(value.len()));
    let rest = rest.trim_start_matches('=').trim_start();
    let ends = rest.is_empty() || rest.starts_with(',');
    if !letters.is_empty() && ends { rest } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    fn first(headers: &[&str]) -> Option<Challenge> {
        let mut map = HeaderMap::new();
        for header in headers {
            map.append(http::header::WWW_AUTHENTICATE, HeaderValue::from_str(header).unwrap());
        }
        supported(&map).into_iter().next()
    }

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Option<Challenge> {
        Some(Challenge::Bearer(BearerChallenge {
            realm: realm.into(),
            service: service.map(Into::into),
            scope: scope.map(Into::into),
        }))
    }

    // covers: M12
    #[test]
    fn challenges() {
        let docker = r#"Bearer realm="https://a.example/token",service="r.example",scope="repository:a/b:pull,push""#;
        let full =
            bearer("https://a.example/token", Some("r.example"), Some("repository:a/b:pull,push"));
        let cases: [(&[&str], _); 15] = [
            (&[docker], full.clone()),
            (&["Negotiate", docker], full.clone()),
            (
                &["Negotiate YWJj==, Digest realm=\"x, Bearer realm=y\", nonce=\"1\"", docker],
                full.clone(),
            ),
            (&[&format!("Negotiate, {docker}, Basic realm=\"x\"")], full),
            (&["bEARER REALM = \"/token\" , Scope = \"\""], bearer("/token", None, Some(""))),
            (&[r#"Bearer realm="a \"b\", \\c""#], bearer(r#"a "b", \c"#, None, None)),
            (
                &["Bearer realm=https://a.example/token?x=y,service=s"],
                bearer("https://a.example/token?x=y", Some("s"), None),
            ),
            (&["Bearer realm=\"unclosed"], bearer("unclosed", None, None)),
            (&["Basic realm=\"x\", Bearer realm=\"y\""], Some(Challenge::Basic)),
            (&["basic"], Some(Challenge::Basic)),
            (&["Bearer service=\"x\"", "Basic"], Some(Challenge::Basic)),
            (&["realm=\"x\""], None),
            (&["Bearer"], None),
            (&[", ,"], None),
            (&[], None),
        ];
        for (headers, expected) in cases {
            assert_eq!(first(headers), expected, "{headers:?}");
        }
    }

    #[test]
    fn who_has_no_password_asks_for_a_token() {
        let mut map = HeaderMap::new();
        let both = HeaderValue::from_static("Basic realm=\"x\", Bearer realm=\"y\"");
        map.append(http::header::WWW_AUTHENTICATE, both);
        let token = Credentials::IdentityToken("t".into());
        for (credentials, basic) in [
            (Credentials::basic("a", "b"), true),
            (Credentials::Bearer("t".into()), true),
            (token, false),
            (Credentials::Anonymous, false),
        ] {
            let chosen = choose(supported(&map), &credentials);
            assert_eq!(chosen == Some(Challenge::Basic), basic, "{credentials:?}");
        }
        let only = choose(vec![Challenge::Basic], &Credentials::Anonymous);
        assert_eq!(only, Some(Challenge::Basic));
        assert_eq!(choose(Vec::new(), &Credentials::Anonymous), None);
    }

    fn quote(value: &str) -> String {
        format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            realm in "[ -~]{1,30}", service in "[ -~]{0,30}", scope in "[ -~]{0,30}", before in "(Negotiate( [a-zA-Z0-9]{4}={0,2})?, )?",
        ) {
            let header = format!(
                "{before}Bearer realm={},service={}, scope={}, Basic realm=\"x\"",
                quote(&realm), quote(&service), quote(&scope)
            );
            prop_assert_eq!(first(&[&header]), bearer(&realm, Some(&service), Some(&scope)));
        }

        #[test]
        fn anything_is_read_without_a_panic(header in "[a-zé=\", \\\\Bearer]{0,60}") {
            parse(&header);
        }
    }
}
