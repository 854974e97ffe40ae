//! Where an import goes: a registry, or a data directory that no server is using.

use std::path::Path;
use std::sync::Arc;

use oci_ref::{Access, ErrorKind, Memory, Registry as _, Store};
use oci_registry_store::{DurableRegistry, EngineOptions};
use oci_spec_types::Name;

use crate::cli::ImportArgs;
use crate::connection::Connection;
use crate::failure::Failure;
use crate::location::RegistryPlace;
use crate::{control, upkeep};

pub(super) enum Destination {
    Registry(Box<Connection>, RegistryPlace),
    Data(DurableRegistry),
    /// A data directory that would be made.
    Nothing,
}

impl Destination {
    pub(super) async fn open(args: &ImportArgs) -> Result<Self, Failure> {
        match (&args.destination, &args.data) {
            (Some(place), _) => {
                let requests = usize::from(args.concurrency) * 2;
                let side = args.connection.clone().into();
                let connection = Connection::new(side, Some(&place.host), args.retries)
                    .concurrency(requests)
                    .remember(args.state.uploads());
                connection.ping(&place.host).await?;
                Ok(Self::Registry(Box::new(connection), place.clone()))
            }
            (None, Some(data)) if args.dry_run && !data.exists() => Ok(Self::Nothing),
            (None, Some(data)) => Self::data(args, data).await,
            (None, None) => {
                Err(Failure::new("neither a registry nor --data says where to import to"))
            }
        }
    }

    async fn data(args: &ImportArgs, data: &Path) -> Result<Self, Failure> {
        let mut options = EngineOptions::default();
        options.create = !args.dry_run;
        options.database = upkeep::database(args.database.as_deref())?;
        options.storage = args.storage.clone();
        options.session_idle = upkeep::UPLOADS_STAY;
        let shared = options.database.is_shared();
        let in_use = |failure: Failure| {
            failure.hint("import through the server that is using it: name it as docker://HOST in place of --data")
        };
        if !shared && control::answers(data).await {
            let message = format!("a server is using {}", data.display());
            return Err(in_use(Failure::told(message, 5)));
        }
        DurableRegistry::open(data, options).await.map(Self::Data).map_err(|error| {
            let is_used = *error.kind() == ErrorKind::Unavailable && !shared;
            let failure = Failure::of(format!("opening the data in {}", data.display()), error);
            if is_used { in_use(failure) } else { failure }
        })
    }

    /// The repository that one goes to; or why there cannot be such.
    pub(super) async fn repository(
        &self,
        name: &Name,
    ) -> Result<Result<(Name, Arc<dyn Store>), String>, Failure> {
        Ok(match self {
            Self::Registry(connection, place) => match place.repository(name) {
                Ok(reference) => {
                    let store = connection.repository(&reference)?;
                    Ok((reference.name().clone(), Arc::new(store)))
                }
                Err(problem) => Err(problem),
            },
            Self::Data(registry) => {
                let store = registry.repository(name, Access::Write).await;
                let store = store.map_err(|error| Failure::of(format!("opening {name}"), error))?;
                Ok((name.clone(), store))
            }
            Self::Nothing => Ok((name.clone(), Arc::new(Memory::new()))),
        })
    }

    /// Ends it, so that what was written can be used.
    pub(super) async fn close(self) {
        if let Self::Data(registry) = self {
            registry.close().await;
        }
    }
}
