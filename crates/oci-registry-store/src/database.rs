//! Where metadata lies: in the data directory, or on a database server.

use std::fmt;
use std::str::FromStr;

use oci_ref::{Error, ErrorKind, Result};

use crate::EngineOptions;
use crate::metadata::Metadata;
#[cfg(feature = "postgres")]
use crate::metadata::{Postgres, PostgresOptions, PostgresUrl};

/// Where an engine keeps its metadata, written as a URL:
///
/// | URL | place |
/// | --- | --- |
/// | `sqlite:` | a file in the data directory, which one process uses at a time; the default |
/// | `postgres://user:password@host:port/name` | a PostgreSQL database (15 or newer), which any number of processes share; needs the feature `postgres` |
///
/// The database must be there, and empty when it is used first: the tables are made then. What follows a `?` in the URL are
/// settings, such as
/// - `sslmode`: `disable`; `prefer`, the default: encrypted if the server can; `require`: encrypted; `verify-full`: encrypted, and
///   the server proves that it is the host that was named; `verify-ca`: the same, but it may be any host that the authority
///   knows;
/// - `sslrootcert`: a file with the certificates of the authorities to verify it by, instead of those that the system trusts;
///   with `require`, too, which then is `verify-ca`;
/// - `host=/run/postgresql`: the directory of a Unix socket, with no host before it;
/// - `connect_timeout`: in seconds, 5 by default;
/// - `options=-csearch_path%3DNAME`: another schema than `public`.
///
/// Several hosts, with commas, are tried in turn; `target_session_attrs=read-write` takes the one that can be written to. The
/// password is never shown, neither by this type nor in an error.
///
/// ```
/// use oci_registry_store::Database;
///
/// # #[cfg(feature = "postgres")] {
/// let database: Database = "postgres://registry:s3cret@db.example/registry".parse()?;
/// assert_eq!(database.to_string(), "postgres://registry@db.example/registry");
/// # }
/// assert_eq!(Database::default().to_string(), "sqlite:");
/// assert!("mysql://db.example".parse::<Database>().is_err());
/// # Ok::<(), oci_ref::Error>(())
/// ```
#[derive(Clone, Default)]
pub struct Database(Kind);

#[derive(Clone, Default)]
enum Kind {
    #[default]
    Sqlite,
    #[cfg(feature = "postgres")]
    Postgres(Box<PostgresUrl>),
}

impl Database {
    /// Whether several processes can use it at a time.
    pub fn is_shared(&self) -> bool {
        !matches!(self.0, Kind::Sqlite)
    }

    /// Connects, if it is on a server.
    pub(crate) async fn connect(
        &self,
        options: &EngineOptions,
    ) -> Result<Option<Box<dyn Metadata>>> {
        match &self.0 {
            Kind::Sqlite => {
                let _ = options;
                Ok(None)
            }
            #[cfg(feature = "postgres")]
            Kind::Postgres(url) => {
                let options = PostgresOptions {
                    connections: options.database_connections,
                    lease: options.lease,
                    sync: options.sync,
                };
                Ok(Some(Box::new(Postgres::open(url, &options).await?)))
            }
        }
    }
}

impl FromStr for Database {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text.split_once(':') {
            Some(("sqlite", "")) => Ok(Self(Kind::Sqlite)),
            #[cfg(feature = "postgres")]
            Some(("postgres" | "postgresql", _)) => {
                Ok(Self(Kind::Postgres(Box::new(PostgresUrl::parse(text)?))))
            }
            #[cfg(not(feature = "postgres"))]
            Some(("postgres" | "postgresql", _)) => {
                Err(refused("this program was built without PostgreSQL"))
            }
            _ => Err(refused("expected sqlite: or postgres://user:password@host:port/name")),
        }
    }
}

fn refused(why: &'static str) -> Error {
    // What was given instead may be a password.
    Error::new(ErrorKind::Invalid, format!("not the URL of a database: {why}"))
}

impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Sqlite => f.write_str("sqlite:"),
            #[cfg(feature = "postgres")]
            Kind::Postgres(url) => url.fmt(f),
        }
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}
