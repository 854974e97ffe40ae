//! Proxies, and the hosts that are reached without one.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use oci_ref::ErrorKind;
use reqwest::Url;

use crate::{Error, Result, redact};

/// Proxies by which registries are reached.
///
/// The rules are those that curl and Go programs have. This machine itself (`localhost`,
/// `127.0.0.0/8`, `::1`) is never reached through a proxy. A proxy is an address with the scheme
/// `http`, `https`, `socks5` (names are looked up here) or `socks5h` (names are looked up by the
/// proxy); without a scheme it is `http`. It may have a user name and a password.
///
/// ```
/// use oci_registry_client::{Client, Proxies};
///
/// let proxies = Proxies::none().all("http://proxy.example:3128")?.no_proxy("registry.lan:5000");
/// let client = Client::builder().proxies(proxies).build()?;
/// # let _ = client;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Default)]
#[must_use]
pub struct Proxies {
    http: Option<Url>,
    https: Option<Url>,
    except: Vec<Exception>,
    /// A setting of the environment that cannot be used: the name of the variable, and the reason.
    invalid: Option<(String, String)>,
}

/// Hosts that are reached without a proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Exception {
    All,
    /// An address, or the first bits of one, and a port if it is only about that.
    Network(IpAddr, u32, Option<u16>),
    /// A domain and what is below it; or only what is below it.
    Domain {
        name: String,
        itself: bool,
        port: Option<u16>,
    },
}

impl Proxies {
    /// No proxy.
    pub fn none() -> Self {
        Self::default()
    }

    /// The proxies that the environment names: `HTTPS_PROXY` and `HTTP_PROXY` for registries by
    /// https and by plain HTTP, `ALL_PROXY` for those of either that have none of their own, and
    /// `NO_PROXY` as [`no_proxy`](Self::no_proxy) reads it. Names in lower case count where those
    /// in upper case are absent. `HTTP_PROXY` is left alone in a CGI program, where a request could
    /// set it (`REQUEST_METHOD` is set).
    ///
    /// A value that cannot be used is an error of
    /// [`ClientBuilder::build`](crate::ClientBuilder::build).
    pub fn from_env() -> Self {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Self {
        let value = |name: &str| {
            let names = [name.to_owned(), name.to_ascii_lowercase()];
            let mut set = names.into_iter().filter_map(|name| Some((variable(&name)?, name)));
            set.find(|(value, _)| !value.trim().is_empty())
        };
        let mut proxies = Self::none();
        let mut read = |set: Option<(String, String)>| match set {
            None => None,
            Some((value, name)) => match parse(&value) {
                Ok(proxy) => Some(proxy),
                Err(reason) => {
                    proxies.invalid.get_or_insert((name, reason));
                    None
                }
            },
        };
        let all = read(value("ALL_PROXY"));
        let http = match variable("REQUEST_METHOD") {
            Some(_) => read(variable("http_proxy").map(|value| (value, "http_proxy".to_owned()))),
            None => read(value("HTTP_PROXY")),
        };
        let https = read(value("HTTPS_PROXY"));
        proxies.http = http.or_else(|| all.clone());
        proxies.https = https.or(all);
        match value("NO_PROXY") {
            Some((except, _)) => proxies.no_proxy(&except),
            None => proxies,
        }
    }

    /// Uses this proxy for all registries.
    ///
    /// # Errors
    /// When the address is no URL or its scheme is none of a proxy.
    pub fn all(mut self, proxy: &str) -> Result<Self> {
        let proxy = parse(proxy).map_err(|reason| invalid("proxy", &reason))?;
        self.http = Some(proxy.clone());
        self.https = Some(proxy);
        Ok(self)
    }

    /// Reaches these hosts without a proxy, separated by commas or white space: `*` is all; an
    /// address or a network (`10.0.0.0/8`); a domain, with what is below it (`example.com`), or
    /// only what is below it (`.example.com`, `*.example.com`). An address or a domain may have a
    /// port (`registry.lan:5000`), and is then only about that. What is none of these is left out.
    pub fn no_proxy(mut self, hosts: &str) -> Self {
        let hosts = hosts.split(|c: char| c == ',' || c.is_whitespace());
        self.except.extend(hosts.filter_map(|host| host.parse().ok()));
        self
    }

    /// Fails with the setting of the environment that cannot be used.
    pub(crate) fn check(&self) -> Result<()> {
        match &self.invalid {
            None => Ok(()),
            Some((name, reason)) => Err(invalid(name, reason)),
        }
    }

    /// Returns the proxy through which an address is reached.
    pub(crate) fn find(&self, url: &Url) -> Option<&Url> {
        let proxy = match url.scheme() {
            "https" => self.https.as_ref(),
            _ => self.http.as_ref(),
        }?;
        let (host, port) = (url.host_str()?, url.port_or_known_default());
        let host = host.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.');
        let address = host.parse::<IpAddr>().ok().map(|address| address.to_canonical());
        let direct = host.eq_ignore_ascii_case("localhost")
            || address.is_some_and(|address| address.is_loopback())
            || self.except.iter().any(|exception| exception.covers(host, address, port));
        (!direct).then_some(proxy)
    }
}

impl fmt::Debug for Proxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |proxy: &Option<Url>| proxy.as_ref().map(redact::url);
        f.debug_struct("Proxies")
            .field("http", &shown(&self.http))
            .field("https", &shown(&self.https))
            .field("except", &self.except)
            .finish()
    }
}

impl Exception {
    fn covers(&self, host: &str, address: Option<IpAddr>, port: Option<u16>) -> bool {
        match self {
            Self::All => true,
            Self::Network(network, bits, only) => {
                address.is_some_and(|address| is_within(address, *network, *bits))
                    && only.is_none_or(|only| Some(only) == port)
            }
            Self::Domain { name, itself, port: only } => {
                let host = host.to_ascii_lowercase();
                let below =
                    host.strip_suffix(name.as_str()).is_some_and(|rest| rest.ends_with('.'));
                (below || (*itself && host == *name)) && only.is_none_or(|only| Some(only) == port)
            }
        }
    }
}

/// Tells whether two addresses of one family have the same first bits.
fn is_within(address: IpAddr, network: IpAddr, bits: u32) -> bool {
    let same = |one: u128, other: u128, width: u32| {
        (one ^ other).checked_shr(width.saturating_sub(bits)).unwrap_or(0) == 0
    };
    match (address, network) {
        (IpAddr::V4(one), IpAddr::V4(other)) => {
            same(one.to_bits().into(), other.to_bits().into(), 32)
        }
        (IpAddr::V6(one), IpAddr::V6(other)) => same(one.to_bits(), other.to_bits(), 128),
        _ => false,
    }
}

impl FromStr for Exception {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        if text == "*" {
            return Ok(Self::All);
        }
        if let Some((address, bits)) = text.split_once('/') {
            let address: IpAddr = address.parse().map_err(drop)?;
            let bits: u32 = bits.parse().map_err(drop)?;
            let width = if address.is_ipv4() { 32 } else { 128 };
            return if bits <= width { Ok(Self::Network(address, bits, None)) } else { Err(()) };
        }
        let whole = |address: IpAddr, port| {
            let address = address.to_canonical();
            Self::Network(address, if address.is_ipv4() { 32 } else { 128 }, port)
        };
        if let Ok(address) = text.trim_start_matches('[').trim_end_matches(']').parse() {
            return Ok(whole(address, None));
        }
        let (name, port) = match text.rsplit_once(':') {
            Some((name, port)) => (name, Some(port.parse().map_err(drop)?)),
            None => (text, None),
        };
        if let Ok(address) = name.trim_start_matches('[').trim_end_matches(']').parse() {
            return Ok(whole(address, port));
        }
        let (name, itself) = match name.strip_prefix("*.").or_else(|| name.strip_prefix('.')) {
            Some(below) => (below, false),
            None => (name, true),
        };
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        if name.is_empty() || name.contains(['*', ':', '[', ']']) {
            return Err(());
        }
        Ok(Self::Domain { name, itself, port })
    }
}

/// Reads the address of a proxy. The reason why it is none says nothing of it, since it may have a
/// password.
fn parse(text: &str) -> Result<Url, String> {
    let text = text.trim();
    let url = match text.contains("://") {
        true => Url::parse(text),
        false => Url::parse(&format!("http://{text}")),
    };
    let url = url.map_err(|error| format!("it is not the address of a proxy: {error}"))?;
    if url.host_str().is_none_or(str::is_empty) {
        return Err("it is not the address of a proxy: the host is missing".into());
    }
    match url.scheme() {
        "http" | "https" | "socks5" | "socks5h" => Ok(url),
        other => Err(format!(
            "{other:?} is not the scheme of a proxy, expected http, https, socks5 or socks5h"
        )),
    }
}

fn invalid(what: &str, reason: &str) -> Error {
    Error::new(ErrorKind::Invalid, what, reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(variables: &[(&str, &str)]) -> Proxies {
        let find = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        Proxies::from_variables(find)
    }

    fn through(proxies: &Proxies, url: &str) -> Option<String> {
        proxies.find(&Url::parse(url).unwrap()).map(ToString::to_string)
    }

    // docker/compose#13825, golang/go#51416
    #[test]
    fn this_machine_is_never_reached_through_a_proxy() {
        let proxies = Proxies::none().all("http://proxy.example:3128").unwrap();
        for host in
            ["localhost", "LOCALHOST", "127.0.0.1", "127.9.9.9", "[::1]", "[::ffff:127.0.0.1]"]
        {
            assert_eq!(through(&proxies, &format!("http://{host}:5000/v2/")), None, "{host}");
        }
        for host in ["localhost.example", "128.0.0.1", "[::2]"] {
            assert!(through(&proxies, &format!("http://{host}:5000/v2/")).is_some(), "{host}");
        }
    }

    #[test]
    fn exceptions_are_read_as_curl_and_go_read_them() {
        for (except, host, direct) in [
            ("*", "registry.example", true),
            ("*", "192.0.2.1:5000", true),
            ("registry.example", "registry.example", true),
            ("registry.example", "REGISTRY.example:5000", true),
            ("registry.example", "a.registry.example", true),
            ("registry.example", "myregistry.example", false),
            (".example", "registry.example", true),
            (".registry.example", "registry.example", false),
            ("*.registry.example", "a.registry.example", true),
            ("*.registry.example", "registry.example", false),
            ("registry.example:5000", "registry.example:5000", true),
            ("registry.example:5000", "registry.example:5001", false),
            ("registry.example:443", "registry.example", true),
            ("192.0.2.1", "192.0.2.1:5000", true),
            ("192.0.2.1:5000", "192.0.2.1:5000", true),
            ("192.0.2.1:5000", "192.0.2.1:5001", false),
            ("192.0.2.0/24", "192.0.2.77", true),
            ("192.0.2.0/24", "192.0.3.77", false),
            ("0.0.0.0/0", "192.0.3.77", true),
            ("2001:db8::/32", "[2001:db8::1]:5000", true),
            ("2001:db8::1", "[2001:db8::1]:5000", true),
            ("[2001:db8::1]:5000", "[2001:db8::1]:5000", true),
            ("[2001:db8::1]:5000", "[2001:db8::1]", false),
            ("a.example, 192.0.2.1 b.example", "b.example", true),
            ("192.0.2.0/99,a.example:port,,", "a.example", false),
        ] {
            let proxies = Proxies::none().all("proxy.example").unwrap().no_proxy(except);
            let found = through(&proxies, &format!("https://{host}/v2/"));
            assert_eq!(found.is_none(), direct, "{except:?} {host}");
        }
    }

    #[test]
    fn the_environment_names_proxies() {
        let both = [
            ("HTTP_PROXY", "one.example:3128"),
            ("https_proxy", "socks5://two.example"),
            ("NO_PROXY", "registry.lan:5000"),
        ];
        let proxies = from(&both);
        assert_eq!(
            through(&proxies, "http://a.example/"),
            Some("http://one.example:3128/".to_owned())
        );
        assert_eq!(
            through(&proxies, "https://a.example/"),
            Some("socks5://two.example".to_owned())
        );
        assert_eq!(through(&proxies, "http://registry.lan:5000/"), None);
        let all = from(&[("ALL_PROXY", "http://all.example"), ("HTTPS_PROXY", "")]);
        for url in ["http://a.example/", "https://a.example/"] {
            assert_eq!(through(&all, url), Some("http://all.example/".to_owned()));
        }
        let request = from(&[("HTTP_PROXY", "http://evil.example"), ("REQUEST_METHOD", "GET")]);
        assert_eq!(through(&request, "http://a.example/"), None);
    }

    #[test]
    fn a_setting_that_cannot_be_used_is_named_without_its_password() {
        for value in ["ftp://me:SECRET@proxy.example", "http://me:SECRET@", "http://me:SECRET@a:b"]
        {
            let error = from(&[("HTTPS_PROXY", value)]).check().unwrap_err().to_string();
            assert!(error.starts_with("HTTPS_PROXY: "), "{error}");
            assert!(!error.contains("SECRET"), "{error}");
        }
        from(&[("HTTPS_PROXY", "http://me:SECRET@proxy.example")]).check().unwrap();
    }
}
