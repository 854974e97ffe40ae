//! The limit of files and connections that this process may have open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors for all that is no connection of a client: the database (two for each of its
/// connections), directories that are being synced, the control socket, what the process has from
/// its start.
const RESERVE: u64 = 96;

/// Descriptors of a connection: its own, and the file, or connection to a bucket, that is read or
/// written for it.
const OF_A_CONNECTION: u64 = 2;

/// The limit that is asked for where a system names none, or does not grant what it names.
const UNLIMITED: u64 = 10_240;

/// Raises the limit of this process to what it may raise it to, and gives it.
pub(crate) fn raise() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let (soft, hard) = (limit.current.unwrap_or(u64::MAX), limit.maximum);
    let wanted = [hard.unwrap_or(UNLIMITED), UNLIMITED];
    for wanted in wanted.into_iter().filter(|wanted| *wanted > soft) {
        let raised = Rlimit { current: Some(wanted), maximum: hard };
        if setrlimit(Resource::Nofile, raised).is_ok() {
            return wanted;
        }
    }
    soft
}

/// The part of the connections that were asked for which fits into a limit. At least one.
pub(crate) fn connections(wanted: usize, limit: u64) -> usize {
    let fit = limit.saturating_sub(RESERVE) / OF_A_CONNECTION;
    wanted.min(usize::try_from(fit).unwrap_or(usize::MAX)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_fit_into_what_is_left() {
        assert_eq!(connections(4096, u64::MAX), 4096);
        assert_eq!(connections(4096, 20_000), 4096);
        assert_eq!(connections(4096, 1024), 464);
        assert_eq!(connections(10, 1024), 10);
        assert_eq!(connections(4096, 128), 16);
        assert_eq!(connections(4096, 10), 1);
    }

    #[test]
    fn the_limit_is_raised_to_what_is_granted() {
        let limit = raise();
        assert_eq!(getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX), limit);
        assert_eq!(raise(), limit);
    }
}
