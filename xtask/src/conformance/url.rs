//! Addresses, kept as they were given: what a registry returns as `Location` is used byte for byte.

/// Where to connect, and what to ask for there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Url {
    pub(super) tls: bool,
    /// `host` or `host:port`, as it goes into the `Host` header.
    pub(super) authority: String,
    /// Path and query.
    pub(super) target: String,
}

impl Url {
    /// Parses `http://host[:port][/path]`, `https://…` or, with `plain` deciding, `host[:port]`.
    pub(super) fn parse(text: &str, plain: bool) -> Result<Self, String> {
        let (tls, rest) = if let Some(rest) = text.strip_prefix("https://") {
            (true, rest)
        } else if let Some(rest) = text.strip_prefix("http://") {
            (false, rest)
        } else {
            (!plain, text)
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        if authority.is_empty() || authority.contains('@') {
            return Err(format!("{text:?}: expected http(s)://host[:port]"));
        }
        let target = target.split('#').next().unwrap_or_default();
        let slash = if target.starts_with('/') { "" } else { "/" };
        Ok(Self { tls, authority: authority.to_owned(), target: format!("{slash}{target}") })
    }

    /// Another target on the same host.
    pub(super) fn with_target(&self, target: impl Into<String>) -> Self {
        Self { target: target.into(), ..self.clone() }
    }

    /// What a `Location` or `Link` in the answer to a request for this address means (RFC 3986 section 5).
    pub(super) fn resolve(&self, location: &str) -> Result<Self, String> {
        if location.starts_with("http://") || location.starts_with("https://") {
            return Self::parse(location, false);
        }
        if let Some(rest) = location.strip_prefix("//") {
            let scheme = if self.tls { "https" } else { "http" };
            return Self::parse(&format!("{scheme}://{rest}"), false);
        }
        let path = self.target.split('?').next().unwrap_or_default();
        let target = if location.starts_with('/') {
            location.to_owned()
        } else if location.starts_with('?') {
            format!("{path}{location}")
        } else {
            let directory = path.rfind('/').map_or("/", |slash| &path[..=slash]);
            format!("{directory}{location}")
        };
        Ok(self.with_target(target.split('#').next().unwrap_or_default()))
    }

    /// The same address with one more query parameter, after those that are there.
    pub(super) fn with_query(&self, parameter: &str) -> Self {
        let sign = if self.target.contains('?') { '&' } else { '?' };
        self.with_target(format!("{}{sign}{parameter}", self.target))
    }

    /// The host, without brackets, and the port.
    pub(super) fn host_and_port(&self) -> Result<(String, u16), String> {
        let default = if self.tls { 443 } else { 80 };
        let (host, port) = match self.authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => {
                let port = port.parse().map_err(|_| format!("{:?}: not a port", self.authority))?;
                (host, port)
            }
            _ => (self.authority.as_str(), default),
        };
        Ok((host.trim_matches(['[', ']']).to_owned(), port))
    }

    /// Whether this is on the machine that asks.
    pub(super) fn is_loopback(&self) -> bool {
        let host = self.host_and_port().map_or_else(|_| String::new(), |(host, _)| host);
        let address = host.parse::<std::net::IpAddr>();
        host == "localhost" || address.is_ok_and(|address| address.is_loopback())
    }
}

impl std::fmt::Display for Url {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority, self.target)
    }
}

/// Writes a value so that it is one query value: everything but letters, digits and `-._~:` is escaped.
pub(super) fn query_value(value: &str) -> String {
    let mut out = String::new();
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~:".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base() -> Url {
        Url::parse("http://127.0.0.1:5000/v2/a/blobs/uploads/?x=1", false).expect("valid")
    }

    #[test]
    fn a_location_may_be_absolute_or_relative() {
        for (location, expected) in [
            ("http://other:1/p?q=1", "http://other:1/p?q=1"),
            ("//other/p", "http://other/p"),
            ("/v2/b", "http://127.0.0.1:5000/v2/b"),
            ("id?state=a%2Fb", "http://127.0.0.1:5000/v2/a/blobs/uploads/id?state=a%2Fb"),
            ("?n=1&last=b", "http://127.0.0.1:5000/v2/a/blobs/uploads/?n=1&last=b"),
        ] {
            assert_eq!(base().resolve(location).expect("valid").to_string(), expected);
        }
    }

    #[test]
    fn hosts_and_ports() {
        let of =
            |text: &str| Url::parse(text, true).and_then(|url| url.host_and_port()).expect("valid");
        assert_eq!(of("https://example.org"), ("example.org".to_owned(), 443));
        assert_eq!(of("example.org:81"), ("example.org".to_owned(), 81));
        assert_eq!(of("http://[::1]:82/x"), ("::1".to_owned(), 82));
        assert_eq!(of("http://[::1]"), ("::1".to_owned(), 80));
        assert!(Url::parse("http://user:password@host", true).is_err());
        assert!(Url::parse("http://[::1]:5", false).expect("valid").is_loopback());
        assert!(!Url::parse("https://127.example.org", false).expect("valid").is_loopback());
    }

    #[test]
    fn query_parameters_are_appended_and_escaped() {
        assert_eq!(base().with_query("digest=d").target, "/v2/a/blobs/uploads/?x=1&digest=d");
        assert_eq!(query_value("a/b+c d:e"), "a%2Fb%2Bc%20d:e");
    }
}
