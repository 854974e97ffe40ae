//! Registry hosts.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use crate::text::{Reason, parse_error, text_type};

/// Longest host, in bytes: a domain name of 253, a colon and five digits.
const MAX_LENGTH: usize = 259;
const MAX_DOMAIN: usize = 253;
const MAX_LABEL: usize = 63;

/// The host of a registry with an optional port, kept as written: a domain name, `localhost`, an IPv4 address or
/// an IPv6 address in brackets, then `:port` (1 to 65535).
///
/// It is always recognisable as a host in front of a repository name: it has a dot or a colon, or is `localhost`.
///
/// ```
/// # use oci_spec_types::Host;
/// let host: Host = "[::1]:5000".parse()?;
/// assert_eq!((host.name(), host.port()), ("[::1]", Some(5000)));
/// assert!(host.is_loopback());
/// # Ok::<(), oci_spec_types::HostError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Host(Box<str>);

parse_error! {
    /// A text that is not a registry host.
    HostError, "registry host"
}

text_type!(Host);

impl Host {
    /// The whole text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The host without its port, as it stands in a URL: an IPv6 address keeps its brackets.
    pub fn name(&self) -> &str {
        split_port(&self.0).0
    }

    /// The port, if one is written.
    pub fn port(&self) -> Option<u16> {
        split_port(&self.0).1.and_then(|port| port.parse().ok())
    }

    /// Whether this names the machine itself by its form: `localhost`, `127.0.0.0/8` or `::1`.
    pub fn is_loopback(&self) -> bool {
        let name = self.name();
        let bare = name.trim_start_matches('[').trim_end_matches(']');
        name.eq_ignore_ascii_case("localhost")
            || name.parse::<Ipv4Addr>().is_ok_and(|ip| ip.is_loopback())
            || bare.parse::<Ipv6Addr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
    }
}

/// Whether the first component of a reference is a host rather than the start of a repository name.
pub(crate) fn looks_like_host(component: &str) -> bool {
    component.contains(['.', ':']) || component.eq_ignore_ascii_case("localhost")
}

impl FromStr for Host {
    type Err = HostError;

    fn from_str(input: &str) -> Result<Self, HostError> {
        check(input).map_err(|reason| HostError::new(input, reason))?;
        Ok(Self(input.into()))
    }
}

/// Splits off what follows the colon that is not inside brackets.
fn split_port(host: &str) -> (&str, Option<&str>) {
    let after_brackets = host.rfind(']').map_or(0, |at| at + 1);
    match host[after_brackets..].find(':') {
        Some(at) => (&host[..after_brackets + at], Some(&host[after_brackets + at + 1..])),
        None => (host, None),
    }
}

fn check(input: &str) -> Result<(), Reason> {
    Reason::check_length(input, MAX_LENGTH)?;
    if !looks_like_host(input) {
        return Err(Reason::Rule("it has neither a dot nor a port and is not localhost"));
    }
    if input.starts_with('[') && !input.contains(']') {
        return Err(Reason::Rule("the bracket of the IPv6 address is not closed"));
    }
    let (name, port) = split_port(input);
    if let Some(port) = port {
        check_port(input, name.len() + 1, port)?;
    }
    if let Some(rest) = name.strip_prefix('[') {
        let address = rest
            .strip_suffix(']')
            .ok_or(Reason::Rule("only a port can follow the IPv6 address"))?;
        address
            .parse::<Ipv6Addr>()
            .map_err(|_| Reason::Rule("the brackets do not hold an IPv6 address"))?;
        return Ok(());
    }
    check_domain(input, name)
}

fn check_port(input: &str, start: usize, port: &str) -> Result<(), Reason> {
    if let Some(at) = port.bytes().position(|byte| !byte.is_ascii_digit()) {
        return Err(Reason::at(input, start + at, "a digit of the port"));
    }
    // A leading zero would give one host two spellings.
    if port.starts_with('0') || !port.parse::<u16>().is_ok_and(|number| number > 0) {
        return Err(Reason::Rule("the port is not a number from 1 to 65535 without leading zeros"));
    }
    Ok(())
}

fn check_domain(input: &str, name: &str) -> Result<(), Reason> {
    if name.len() > MAX_DOMAIN {
        return Err(Reason::Rule("the domain name has more than 253 bytes"));
    }
    let mut start = 0;
    let mut last = "";
    for label in name.split('.') {
        if label.len() > MAX_LABEL {
            return Err(Reason::Rule("a part of the domain name has more than 63 bytes"));
        }
        if let Some(at) =
            label.bytes().position(|byte| !(byte.is_ascii_alphanumeric() || byte == b'-'))
        {
            return Err(Reason::at(
                input,
                start + at,
                "a letter, digit, '-' or '.' of the domain name",
            ));
        }
        if label.is_empty() || label.starts_with('-') || label.ends_with('-') {
            return Err(Reason::Rule(
                "a part of the domain name is empty, or begins or ends with '-'",
            ));
        }
        start += label.len() + 1;
        last = label;
    }
    // Resolvers read a name that ends in a number as an IPv4 address, in surprising ways if it is not a plain one.
    if last.bytes().all(|byte| byte.is_ascii_digit()) && name.parse::<Ipv4Addr>().is_err() {
        return Err(Reason::Rule("it ends in a number but is not an IPv4 address"));
    }
    Ok(())
}
