//! The URL of a database, and what of it may be shown.

use std::fmt;
use std::path::PathBuf;

use oci_ref::{Error, ErrorKind, Result};
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

/// How a database is reached. Its password is never shown.
#[derive(Clone)]
pub(crate) struct Url {
    pub(super) config: Config,
    pub(super) verify: Verify,
}

/// What a server has to prove before it is spoken to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verify {
    /// Nothing: TLS then keeps out who only listens.
    Nothing,
    /// That an authority has certified it, whatever for: one in a file, or one that the system trusts.
    Authority { roots: Option<PathBuf> },
    /// That it is the host that was named, to certificates in a file, or to those that the system trusts.
    Full { roots: Option<PathBuf> },
}

impl Url {
    /// Reads `postgres://user:password@host:port/database?…`.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let (base, query) = text.split_once('?').unwrap_or((text, ""));
        let (mut mode, mut roots) = ("prefer", None);
        let mut rest = Vec::new();
        for setting in query.split('&').filter(|setting| !setting.is_empty()) {
            match setting.split_once('=') {
                Some(("sslmode", given)) => mode = given,
                Some(("sslrootcert", path)) => roots = Some(decode(path)?),
                _ => rest.push(setting),
            }
        }
        let (verify, mode) = match (mode, roots) {
            ("verify-full", roots) => (Verify::Full { roots }, "sslmode=require"),
            ("verify-ca", roots) => (Verify::Authority { roots }, "sslmode=require"),
            // PostgreSQL's own clients verify by what they are given, too.
            ("require", roots @ Some(_)) => (Verify::Authority { roots }, "sslmode=require"),
            ("require", None) => (Verify::Nothing, "sslmode=require"),
            ("prefer", None) => (Verify::Nothing, "sslmode=prefer"),
            ("disable", None) => (Verify::Nothing, "sslmode=disable"),
            ("prefer" | "disable", Some(_)) => {
                return Err(refused(
                    "sslrootcert goes with sslmode=require, verify-ca or verify-full",
                ));
            }
            _ => {
                return Err(refused(
                    "sslmode is disable, prefer, require, verify-ca or verify-full",
                ));
            }
        };
        rest.push(mode);
        if !["postgres://", "postgresql://"].iter().any(|scheme| base.starts_with(scheme)) {
            return Err(refused("it begins with postgres://"));
        }
        // Its error is not passed on: it can quote a part of a password that has a character which must be written as %XX.
        let config = format!("{base}?{}", rest.join("&")).parse::<Config>();
        let config = config.map_err(|_| {
            refused(
                "characters other than letters, digits, '-', '.', '_' and '~' in names and passwords are written as %XX, the port \
                 is a number, and what follows '?' must be settings that are known",
            )
        })?;
        if config.get_hosts().is_empty() {
            return Err(refused("it names no host"));
        }
        Ok(Self { config, verify })
    }

    /// Whether a connection may be encrypted.
    pub(super) fn wants_tls(&self) -> bool {
        self.config.get_ssl_mode() != SslMode::Disable
    }
}

fn decode(text: &str) -> Result<PathBuf> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|digit| char::from(digit).to_digit(16));
        match (digit(), digit()) {
            (Some(high), Some(low)) => bytes.push((high * 16 + low) as u8),
            _ => return Err(refused("% is followed by two hexadecimal digits")),
        }
    }
    let path = String::from_utf8(bytes).map_err(|_| refused("sslrootcert is no path"))?;
    Ok(path.into())
}

fn refused(why: &str) -> Error {
    let message =
        format!("not the URL of a database, postgres://user:password@host:port/name: {why}");
    Error::new(ErrorKind::Invalid, message)
}

/// Without password and settings.
impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("postgres://")?;
        if let Some(user) = self.config.get_user() {
            write!(f, "{user}@")?;
        }
        for (number, host) in self.config.get_hosts().iter().enumerate() {
            if number > 0 {
                f.write_str(",")?;
            }
            match host {
                Host::Tcp(host) => f.write_str(host)?,
                #[cfg(unix)]
                Host::Unix(directory) => write!(f, "{}", directory.display())?,
            }
            let ports = self.config.get_ports();
            if let Some(port) = ports.get(number).or(ports.first()).filter(|port| **port != 5432) {
                write!(f, ":{port}")?;
            }
        }
        write!(f, "/{}", self.config.get_dbname().unwrap_or_default())
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        for (url, shown) in [
            ("postgres://me:secret@db.example:5433/reg", "postgres://me@db.example:5433/reg"),
            ("postgresql://db/reg?sslmode=disable", "postgres://db/reg"),
            ("postgres://me:s%40e@a:1,b:2/reg?sslmode=require", "postgres://me@a:1,b:2/reg"),
            ("postgres://me:s@/reg?host=/run/postgresql", "postgres://me@/run/postgresql/reg"),
        ] {
            let parsed = Url::parse(url).unwrap();
            assert_eq!(parsed.to_string(), shown);
            assert_eq!(format!("{parsed:?}"), shown);
        }
        let full = Url::parse("postgres://a/b?sslmode=verify-full&sslrootcert=/a%20b.pem").unwrap();
        assert_eq!(full.verify, Verify::Full { roots: Some("/a b.pem".into()) });
        assert_eq!(full.config.get_ssl_mode(), SslMode::Require);
        let roots = || Some("/a".into());
        for (settings, verify) in [
            ("sslmode=require", Verify::Nothing),
            ("sslmode=require&sslrootcert=/a", Verify::Authority { roots: roots() }),
            ("sslrootcert=/a&sslmode=verify-ca", Verify::Authority { roots: roots() }),
            ("sslmode=verify-full", Verify::Full { roots: None }),
        ] {
            let parsed = Url::parse(&format!("postgres://a/b?{settings}")).unwrap();
            assert_eq!(parsed.verify, verify, "{settings}");
            assert_eq!(parsed.config.get_ssl_mode(), SslMode::Require, "{settings}");
        }
        assert_eq!(Url::parse("postgres://a/b").unwrap().verify, Verify::Nothing);
    }

    #[test]
    fn what_is_refused_is_not_shown() {
        for bad in [
            "mysql://me:secret@db/reg",
            "me:secret@db/reg",
            "postgres://me:secret@db:port/reg",
            "postgres:///reg?user=secret",
            "postgres://me:secret@db/reg?sslmode=secret",
            "postgres://me:secret@db/reg?sslmode=disable&sslrootcert=/secret",
            "postgres://me:secret@db/reg?secret=1",
            "postgres://me:secret@db/reg?sslrootcert=/secret",
        ] {
            let Err(error) = Url::parse(bad) else { panic!("{bad} is taken") };
            assert_eq!(*error.kind(), ErrorKind::Invalid, "{bad}");
            assert!(!format!("{error:?}").contains("secret"), "{error:?}");
        }
    }
}
