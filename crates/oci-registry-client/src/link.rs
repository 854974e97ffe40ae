//! `Link: <…>; rel="next"` of paged lists (RFC 8288; distribution-spec, "Listing Tags").

use http::HeaderMap;
use reqwest::Url;

use crate::redact;

/// The address of the next page, if there is one. An address of another origin is an error, whose text says so.
pub(crate) fn next(headers: &HeaderMap, base: &Url) -> Result<Option<Url>, String> {
    let values = headers.get_all(http::header::LINK).iter();
    let texts = values.filter_map(|value| value.to_str().ok());
    let Some(target) = texts.flat_map(parse).find(|link| link.is_next()).map(|link| link.target)
    else {
        return Ok(None);
    };
    let url = base
        .join(&target)
        .map_err(|error| format!("the Link to the next page is no address: {error}"))?;
    if url.origin() != base.origin() {
        return Err(format!(
            "the Link to the next page leads to another origin: {}",
            redact::url(&url)
        ));
    }
    if url == *base {
        return Err("the Link to the next page leads to the same page".into());
    }
    Ok(Some(url))
}

#[derive(Debug, PartialEq, Eq)]
struct Link {
    target: String,
    rel: String,
}

impl Link {
    fn is_next(&self) -> bool {
        self.rel.split_ascii_whitespace().any(|rel| rel.eq_ignore_ascii_case("next"))
    }
}

/// Reads the links of one header. What is not well formed ends it.
fn parse(value: &str) -> Vec<Link> {
    let mut links = Vec::new();
    let mut rest = value;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let Some((target, after)) = rest.strip_prefix('<').and_then(|rest| rest.split_once('>'))
        else {
            return links;
        };
        let (rel, after) = parameters(after);
        links.push(Link { target: target.trim().to_owned(), rel: rel.unwrap_or_default() });
        rest = after;
    }
}

/// Reads `; name=value` until the comma that ends a link, and gives the first `rel`.
fn parameters(mut rest: &str) -> (Option<String>, &str) {
    let mut rel = None;
    loop {
        rest = rest.trim_start();
        let Some(after) = rest.strip_prefix(';') else {
            return (rel, rest);
        };
        let end = after.find(['=', ';', ',']).unwrap_or(after.len());
        let (name, after) = after.split_at(end);
        let (value, after) = match after.strip_prefix('=') {
            Some(after) => read_value(after.trim_start()),
            None => (String::new(), after),
        };
        if rel.is_none() && name.trim().eq_ignore_ascii_case("rel") {
            rel = Some(value);
        }
        rest = after;
    }
}

fn read_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let (value, rest) = text.split_at(text.find([';', ',']).unwrap_or(text.len()));
        return (value.trim_end().to_owned(), rest);
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (value, quoted.get(at + 1..).unwrap_or_default()),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            other => value.push(other),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    fn next_of(value: &str) -> Result<Option<String>, String> {
        let base = Url::parse("https://r.example/v2/a/tags/list?n=2").unwrap();
        let mut headers = HeaderMap::new();
        headers.insert(http::header::LINK, HeaderValue::from_str(value).unwrap());
        next(&headers, &base).map(|url| url.map(String::from))
    }

    #[test]
    fn links() {
        let page = "https://r.example/v2/a/tags/list?n=2&last=b";
        let cases = [
            ("</v2/a/tags/list?n=2&last=b>; rel=\"next\"", Some(page)),
            ("</v2/a/tags/list?n=2&last=b>;rel=next", Some(page)),
            ("</v2/a/tags/list?n=2&last=b>; REL=\"prev NEXT\"", Some(page)),
            ("<?n=2&last=b>; rel=next", Some(page)),
            (
                "<https://r.example/v2/a/tags/list?n=2&last=b>; title=\"a,\\\"b;\"; rel=next",
                Some(page),
            ),
            ("</first>; rel=first, </v2/a/tags/list?n=2&last=b>; rel=next", Some(page)),
            ("</first>; rel=first", None),
            ("</no-rel>", None),
            ("broken", None),
            ("<unclosed; rel=next", None),
        ];
        for (value, expected) in cases {
            assert_eq!(next_of(value).unwrap().as_deref(), expected, "{value}");
        }
    }

    #[test]
    fn only_of_the_same_origin_and_onwards() {
        assert!(
            next_of("<https://other.example/x>; rel=next").unwrap_err().contains("another origin")
        );
        assert!(next_of("<http://r.example/x>; rel=next").unwrap_err().contains("another origin"));
        assert!(next_of("</v2/a/tags/list?n=2>; rel=next").unwrap_err().contains("same page"));
    }

    proptest! {
        #[test]
        fn anything_is_read_without_a_panic(value in "[<>;,=\"\\\\ a-zé/?]{0,60}") {
            parse(&value);
        }
    }
}
