//! What was done by a run of kills, for the report.

use std::time::Duration;

use crate::crash::pulls::Pulls;
use crate::process::Result;

/// So many kills come upon everything.
const MANY: usize = 100;

/// What was done.
#[derive(Clone, Copy, Default)]
pub(super) struct Tally {
    pub(super) kills: usize,
    /// Kills before the server had said where it listens.
    pub(super) at_start: usize,
    /// Acknowledged changes.
    pub(super) acknowledged: u64,
    /// Requests that a kill left without an answer, and how many of them had happened.
    pub(super) unanswered: usize,
    pub(super) happened: usize,
    /// Uploads that were open when the server was killed, and went on.
    pub(super) resumed: usize,
    /// Blobs that were gone because nothing referenced them.
    pub(super) collected: usize,
    pub(super) fsck: usize,
    /// Of blobs that were deleted meanwhile.
    pub(super) pulls: Pulls,
}

impl Tally {
    /// Adds what has grown since `before`.
    pub(super) fn add(&mut self, now: &Self, before: &Self) {
        self.kills += now.kills - before.kills;
        self.at_start += now.at_start - before.at_start;
        self.acknowledged += now.acknowledged - before.acknowledged;
        self.unanswered += now.unanswered - before.unanswered;
        self.happened += now.happened - before.happened;
        self.resumed += now.resumed - before.resumed;
        self.collected += now.collected - before.collected;
        self.fsck += now.fsck - before.fsck;
        self.pulls.exact += now.pulls.exact - before.pulls.exact;
        self.pulls.broken += now.pulls.broken - before.pulls.broken;
    }

    /// Whether there was enough to say something: half of the kills that were asked for, and, if there were many, of everything
    /// that they are to come upon.
    pub(super) fn is_enough(&self, asked: usize) -> Result {
        if self.kills * 2 < asked {
            return Err(format!(
                "only {} of {asked} kills when the time was over, expected half of them at least",
                self.kills
            ));
        }
        let Pulls { exact, broken } = self.pulls;
        let all = [
            ("a request that a kill left without an answer", self.unanswered),
            ("an upload that went on", self.resumed),
            ("a blob that was collected", self.collected),
            ("a pull of what was deleted meanwhile", exact + broken),
            ("an fsck", self.fsck),
        ];
        match all.into_iter().find(|(_, count)| self.kills >= MANY && *count == 0) {
            None => Ok(()),
            Some((what, _)) => Err(format!("in {} kills there was never {what}", self.kills)),
        }
    }

    pub(super) fn table(&self, elapsed: Duration) -> String {
        format!(
            "| kills | while it started | acknowledged changes | unanswered | of these done | uploads that went on | collected blobs | fsck | pulls of what was deleted meanwhile: exact, broken off | seconds |\n\
             |---|---|---|---|---|---|---|---|---|---|\n\
             | {} | {} | {} | {} | {} | {} | {} | {} | {}, {} | {:.0} |",
            self.kills,
            self.at_start,
            self.acknowledged,
            self.unanswered,
            self.happened,
            self.resumed,
            self.collected,
            self.fsck,
            self.pulls.exact,
            self.pulls.broken,
            elapsed.as_secs_f64()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_few_kills_say_nothing() {
        let tally = Tally { kills: 4, ..Tally::default() };
        assert_eq!(tally.is_enough(8), Ok(()));
        assert!(tally.is_enough(9).is_err());
    }

    #[test]
    fn many_kills_must_have_come_upon_everything() {
        let pulls = Pulls { exact: 0, broken: 1 };
        let few =
            Tally { kills: MANY, unanswered: 1, resumed: 1, fsck: 1, pulls, ..Tally::default() };
        let error = few.is_enough(MANY).unwrap_err();
        assert_eq!(error, "in 100 kills there was never a blob that was collected");
        assert_eq!(Tally { collected: 1, ..few }.is_enough(MANY), Ok(()));
    }
}
