//! What a registry answered, and what a check expects of it.

use serde_json::Value;

use super::check::Stop;
use super::url::Url;
use super::wire::Reply;

/// An answer to one request.
#[derive(Clone)]
pub(super) struct Answer {
    /// Method and target.
    pub(super) request: String,
    pub(super) url: Url,
    pub(super) reply: std::rc::Rc<Reply>,
}

const SHOWN: usize = 300;

impl Answer {
    pub(super) fn new(request: String, url: Url, reply: Reply) -> Self {
        Self { request, url, reply: std::rc::Rc::new(reply) }
    }

    /// The same answer, without the body of a success: bodies can be large, and nobody asks for them later.
    pub(super) fn for_the_record(&self) -> Self {
        if self.status() >= 400 {
            return self.clone();
        }
        let reply =
            Reply { status: self.status(), headers: self.reply.headers.clone(), body: Vec::new() };
        Self::new(self.request.clone(), self.url.clone(), reply)
    }

    pub(super) fn status(&self) -> u16 {
        self.reply.status
    }

    pub(super) fn body(&self) -> &[u8] {
        &self.reply.body
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.reply.header(name)
    }

    /// The failure that this answer is.
    pub(super) fn fail(&self, expected: impl Into<String>, found: impl Into<String>) -> Stop {
        Stop::Fail {
            request: shorten(&self.request),
            expected: expected.into(),
            found: found.into(),
        }
    }

    fn status_line(&self) -> String {
        let body = String::from_utf8_lossy(self.body());
        let body = if self.status() >= 400 { shorten(body.trim()) } else { String::new() };
        format!("{} {body}", self.status()).trim_end().to_owned()
    }

    pub(super) fn expect_status(&self, expected: u16) -> Result<(), Stop> {
        self.expect_one_of(&[expected])
    }

    pub(super) fn expect_one_of(&self, expected: &[u16]) -> Result<(), Stop> {
        if expected.contains(&self.status()) {
            return Ok(());
        }
        let words: Vec<_> = expected.iter().map(u16::to_string).collect();
        Err(self.fail(format!("status {}", words.join(" or ")), self.status_line()))
    }

    /// A refusal that blames the request: any 4xx.
    pub(super) fn expect_refusal(&self) -> Result<(), Stop> {
        match self.status() {
            400..=499 => Ok(()),
            _ => Err(self.fail("status 4xx", self.status_line())),
        }
    }

    /// Anything but an error of the registry itself.
    pub(super) fn expect_no_server_error(&self) -> Result<(), Stop> {
        match self.status() {
            500.. => Err(self.fail("no status 5xx", self.status_line())),
            _ => Ok(()),
        }
    }

    pub(super) fn expect_header(&self, name: &str, expected: &str) -> Result<(), Stop> {
        let found: Vec<_> = self.reply.all(name).collect();
        if found == [expected] {
            return Ok(());
        }
        Err(self.fail(format!("{name}: {expected}"), shown_header(name, &found)))
    }

    /// A header that is there.
    pub(super) fn need_header(&self, name: &str) -> Result<&str, Stop> {
        let found = self.header(name).filter(|value| !value.is_empty());
        found.ok_or_else(|| {
            self.fail(format!("a {name} header"), format!("none, with status {}", self.status()))
        })
    }

    pub(super) fn expect_body(&self, expected: &[u8]) -> Result<(), Stop> {
        if self.body() == expected {
            return Ok(());
        }
        let at = self.body().iter().zip(expected).take_while(|(a, b)| a == b).count();
        let found = format!("{} bytes that differ from byte {at} on", self.body().len());
        Err(self.fail(format!("the {} bytes that were pushed", expected.len()), found))
    }

    /// Where `Location` points.
    pub(super) fn location(&self) -> Result<Url, Stop> {
        let location = self.need_header("Location")?;
        let resolved = self.url.resolve(location);
        resolved.map_err(|error| self.fail("a Location that is a URL", error))
    }

    /// The address of a `Link` with `rel="next"` (RFC 5988), if there is a `Link`.
    pub(super) fn next_page(&self) -> Result<Option<Url>, Stop> {
        let Some(link) = self.header("Link") else {
            return Ok(None);
        };
        let wrong = |why: &str| {
            self.fail("Link: <URL>; rel=\"next\" (RFC 5988)", format!("{why}: {link:?}"))
        };
        let (target, parameters) = link
            .strip_prefix('<')
            .and_then(|rest| rest.split_once('>'))
            .ok_or_else(|| wrong("no <URL>"))?;
        let next = parameters.split(';').filter_map(|parameter| parameter.trim().split_once('='));
        let next = next.filter(|(name, _)| name.trim().eq_ignore_ascii_case("rel"));
        let mut next =
            next.flat_map(|(_, value)| value.trim().trim_matches('"').split_ascii_whitespace());
        if !next.any(|value| value.eq_ignore_ascii_case("next")) {
            return Err(wrong("no rel=\"next\""));
        }
        self.url.resolve(target).map(Some).map_err(|error| wrong(&error))
    }

    pub(super) fn json(&self) -> Result<Value, Stop> {
        let parsed = serde_json::from_slice(self.body());
        parsed.map_err(|error| self.fail("a JSON body", format!("{error}: {}", self.status_line())))
    }

    /// The codes of an error body in the spec's format; none if the body is something else.
    pub(super) fn error_codes(&self) -> Vec<String> {
        let Ok(body) = serde_json::from_slice::<Value>(self.body()) else {
            return Vec::new();
        };
        let errors = body.get("errors").and_then(Value::as_array).into_iter().flatten();
        let codes = errors.filter_map(|error| error.get("code").and_then(Value::as_str));
        codes.map(str::to_owned).collect()
    }

    /// An error body, with one of these codes.
    pub(super) fn expect_code(&self, expected: &[&str]) -> Result<(), Stop> {
        let found = self.error_codes();
        if found.iter().any(|code| expected.contains(&code.as_str())) {
            return Ok(());
        }
        Err(self.fail(format!("error code {}", expected.join(" or ")), self.status_line()))
    }
}

fn shown_header(name: &str, values: &[&str]) -> String {
    if values.is_empty() {
        return format!("no {name}");
    }
    let values: Vec<_> = values.iter().map(|value| format!("{name}: {}", shorten(value))).collect();
    values.join(", ")
}

/// The beginning of a text, on one line.
pub(super) fn shorten(text: &str) -> String {
    let line: String =
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(SHOWN).collect();
    let more = if text.chars().count() > SHOWN { "…" } else { "" };
    format!("{line}{more}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> Answer {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let reply = Reply { status, headers: headers.collect(), body: body.as_bytes().to_vec() };
        let url = Url::parse("http://h/v2/a/tags/list?n=1", false).expect("valid");
        Answer::new("GET /v2/a/tags/list?n=1".to_owned(), url, reply)
    }

    #[test]
    fn links_follow_rfc_5988() {
        let next = |link: &str| {
            answer(200, &[("link", link)], "").next_page().map(|url| url.map(|url| url.target))
        };
        let target = Some("/v2/a/tags/list?n=1&last=b".to_owned());
        assert!(
            next("</v2/a/tags/list?n=1&last=b>; rel=\"next\"").is_ok_and(|found| found == target)
        );
        assert!(
            next("<http://h/v2/a/tags/list?n=1&last=b>;title=x; rel=next")
                .is_ok_and(|found| found == target)
        );
        assert!(next("<?n=1&last=b>; rel=\"next\"").is_ok_and(|found| found == target));
        assert!(next("</v2/a>").is_err());
        assert!(next("</v2/a>; rel=\"prev\"").is_err());
        assert!(next("/v2/a; rel=\"next\"").is_err());
        assert!(answer(200, &[], "").next_page().is_ok_and(|found| found.is_none()));
    }

    #[test]
    fn expectations_fail_when_they_are_not_met() {
        let found = answer(404, &[("A", "b")], r#"{"errors":[{"code":"NAME_UNKNOWN"}]}"#);
        assert!(found.expect_status(404).is_ok() && found.expect_status(200).is_err());
        assert!(found.expect_refusal().is_ok() && answer(500, &[], "").expect_refusal().is_err());
        assert!(found.expect_header("a", "b").is_ok() && found.expect_header("a", "c").is_err());
        assert!(
            found.expect_code(&["NAME_UNKNOWN"]).is_ok() && found.expect_code(&["DENIED"]).is_err()
        );
        assert!(found.expect_body(b"{").is_err());
        assert!(answer(500, &[], "").expect_no_server_error().is_err());
        assert!(answer(200, &[("A", "b"), ("a", "b")], "").expect_header("a", "b").is_err());
    }
}
