//! Losses that are made on purpose, to see that they are found.

use std::fs::{self, File};
use std::path::Path;

use crate::crash::client::{Done, Failed};
use crate::crash::content::Blob;
use crate::crash::life::Life;
use crate::crash::model::Place;
use crate::crash::servers::{Connections, Servers};
use crate::crash::tools::Tools;
use crate::process::{Result, say};

/// So much of the log's end is taken away, in bytes: two pages of the database.
const LOG_END: u64 = 8 << 10;

/// What is taken away behind the clients' backs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loss {
    Tag,
    Object,
    /// The end of the database's log.
    Log,
}

/// A loss that is to be found, and what came of it.
#[derive(Default)]
pub(super) struct Trial {
    pub(super) loss: Option<Loss>,
    pub(super) lost: bool,
    found: bool,
}

/// What begins the failure of a run whose loss was found.
const FOUND: &str = "the loss is found: ";

impl Trial {
    pub(super) fn of(loss: Option<Loss>) -> Self {
        Self { loss, ..Self::default() }
    }

    /// Takes the result of a check: that content is not what it must be is what finds a loss. That a server does not start,
    /// or does not answer, is another failure.
    pub(super) fn checked(&mut self, checked: Done) -> Result {
        self.found = self.lost && matches!(checked, Err(Failed::Wrong(_)));
        checked.map_err(String::from)
    }

    /// The failure of a run whose loss was found.
    pub(super) fn failure(&self, error: &str) -> Option<String> {
        self.found.then(|| format!("{FOUND}{error}"))
    }
}

/// Runs something with each of some losses, which must be found.
pub(super) fn expect(losses: &[Loss], run: impl Fn(Loss) -> Result) -> Result {
    for loss in losses {
        match run(*loss) {
            Ok(()) => return Err(format!("nobody noticed that a loss happened: {loss:?}")),
            Err(error) => {
                let found = error.strip_prefix(FOUND).ok_or_else(|| error.clone())?;
                let line = found.lines().next().unwrap_or_default();
                say(&format!("a lost {loss:?} is found, as was expected: {line}"));
            }
        }
    }
    Ok(())
}

/// Takes something away from the directory of a server that does not run, and tells whether there was something.
pub(super) async fn take_away(loss: Loss, tools: &Tools, data: &Path, life: &Life) -> Result<bool> {
    match loss {
        Loss::Tag => match life.some_tag() {
            Some(tag) => delete_tag(tools, data, &tag).await.map(|()| true),
            None => Ok(false),
        },
        Loss::Object => match life.some_object() {
            Some(blob) => Ok(remove(&data.join("objects"), &blob)),
            None => Ok(false),
        },
        Loss::Log => cut(&data.join("metadata.sqlite-wal")),
    }
}

/// Deletes a tag that nobody's client knows to be deleted.
async fn delete_tag(tools: &Tools, data: &Path, (repository, tag): &Place) -> Result {
    let server = tools.start(data, &[])?;
    let mut connections = Connections::new(Servers::one(&server.host), 0);
    let target = format!("/v2/{repository}/manifests/{tag}");
    let reply = connections.send("DELETE", &target, &[], &[]).await?;
    server.kill()?;
    match reply.status {
        202 => Ok(()),
        status => Err(format!("DELETE {target}: status {status}, expected 202")),
    }
}

/// Removes the file that has a blob's bytes, wherever it is.
fn remove(directory: &Path, blob: &Blob) -> bool {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.into_iter().any(|entry| {
        let path = entry.path();
        let Ok(found) = entry.metadata() else { return false };
        match found.is_dir() {
            true => remove(&path, blob),
            false => {
                found.len() == blob.size() as u64
                    && fs::read(&path).is_ok_and(|bytes| bytes == *blob.bytes)
                    && fs::remove_file(&path).is_ok()
            }
        }
    })
}

/// Cuts off the end of the log's last frames.
fn cut(log: &Path) -> Result<bool> {
    let failed = |error: std::io::Error| format!("{}: {error}", log.display());
    let end = log_end(&fs::read(log).map_err(failed)?);
    if end < 2 * LOG_END {
        return Ok(false);
    }
    let file = File::options().write(true).open(log).map_err(failed)?;
    file.set_len(end - LOG_END).map_err(failed)?;
    Ok(true)
}

/// Where the frames of a log end: what comes then is of the log before it, which has other salts.
fn log_end(log: &[u8]) -> u64 {
    const HEADER: usize = 32;
    const FRAME_HEADER: usize = 24;
    let (Some(page), Some(salts)) = (log.get(8..12), log.get(16..24)) else { return 0 };
    let page = page.iter().fold(0, |size, byte| size << 8 | usize::from(*byte));
    let mut end = HEADER;
    while log.len() >= end + FRAME_HEADER + page && log[end + 8..end + 16] == *salts {
        end += FRAME_HEADER + page;
    }
    end as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_wrong_content_after_a_loss_finds_it() {
        let checked = |lost, checked| {
            let mut trial = Trial { lost, ..Trial::of(Some(Loss::Tag)) };
            let error = trial.checked(checked).unwrap_err();
            trial.failure(&error)
        };
        let wrong = || Err(Failed::Wrong("GET /v2/a: 404".into()));
        assert_eq!(checked(true, wrong()).unwrap(), "the loss is found: GET /v2/a: 404");
        assert_eq!(checked(false, wrong()), None);
        assert_eq!(checked(true, Err(Failed::Lost("no answer".into()))), None);
    }

    #[test]
    fn a_run_must_find_its_loss_and_nothing_else() {
        let found = || Err(format!("{FOUND}404"));
        assert_eq!(expect(&[Loss::Tag, Loss::Log], |_| found()), Ok(()));
        assert!(expect(&[Loss::Tag], |_| Ok(())).unwrap_err().contains("nobody noticed"));
        let error = expect(&[Loss::Tag], |_| Err("it does not start".into())).unwrap_err();
        assert_eq!(error, "it does not start");
    }

    #[test]
    fn the_end_of_a_log_is_that_of_its_own_frames() {
        let frame = |salt: u8| [[0; 8], [salt; 8], [0; 8]].concat().into_iter().chain([9; 512]);
        let mut log = vec![0; 32];
        log[8..12].copy_from_slice(&512_u32.to_be_bytes());
        log[16..24].fill(7);
        assert_eq!(log_end(&log), 32);
        log.extend(frame(7).chain(frame(7)));
        assert_eq!(log_end(&log), 32 + 2 * 536);
        log.extend(frame(6).chain(frame(7)));
        assert_eq!(log_end(&log), 32 + 2 * 536);
        assert_eq!(log_end(&[]), 0);
    }
}
