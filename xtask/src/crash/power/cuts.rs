//! Which states of the disk are tried: every one where few changes are pending, and else those that most often hurt, and
//! some at random.

use std::collections::{BTreeMap, HashSet};

use super::disk::{Disk, Fate, Fates, Open};
use super::record::Recording;
use super::trace::{Action, Event};
use crate::noise::Random;

/// With at most so many changes pending, every choice among losing and keeping them is tried.
const EXHAUSTIVE: usize = 5;
/// Else, so many of the latest are lost alone and kept alone.
const LATEST: usize = 10;
/// And so many choices are made at random.
const AT_RANDOM: usize = 8;
/// With more changes pending than this, cuts are made after some of them only.
const MANY: usize = 100;
/// Cuts while directories are made one after the other: after one of so many.
const ONE_DIRECTORY_OF: usize = 32;

/// A cut: what becomes of pending changes after so many events.
#[derive(Clone, Debug)]
pub(super) struct Cut {
    pub(super) events: usize,
    pub(super) fates: Fates,
    /// How many answers each client has had.
    pub(super) answers: Vec<usize>,
    /// Whether the last event is an answer: then what must be there has just grown.
    pub(super) answered: bool,
    /// Whether it is the first state of this point that is tried.
    pub(super) first: bool,
}

/// What is chosen of a recording.
#[derive(Debug, Default)]
pub(super) struct Chosen {
    pub(super) cuts: Vec<Cut>,
    /// After so many changes no cut is made: it would be much like another.
    pub(super) skipped: usize,
}

/// The cuts of a recording, each state with the most that was acknowledged by then. First comes one state of each point at
/// which the power may be cut, then the others, in random order but for those after answers, which come before the rest.
pub(super) fn choose(recording: &Recording, random: &mut Random) -> Result<Chosen, String> {
    let Chosen { mut cuts, skipped } = all(recording, random)?;
    for at in (1..cuts.len()).rev() {
        cuts.swap(at, random.below(at + 1));
    }
    let mut points = HashSet::new();
    for cut in &mut cuts {
        cut.first = points.insert(cut.events);
    }
    cuts.sort_by_key(|cut| (!cut.first, !cut.answered));
    Ok(Chosen { cuts, skipped })
}

fn all(recording: &Recording, random: &mut Random) -> Result<Chosen, String> {
    let mut disk = Disk::default();
    let mut ports: BTreeMap<u16, usize> = BTreeMap::new();
    for (client, recorded) in recording.clients.iter().enumerate() {
        ports.extend(recorded.steps.iter().map(|step| (step.port, client)));
    }
    let mut answers = vec![0; recording.clients.len()];
    let mut changes = 0;
    let mut seen = HashSet::new();
    let mut chosen = Chosen::default();
    for (number, event) in recording.events.iter().enumerate() {
        let before = disk.open().len();
        disk.event(event)?;
        let open = disk.open();
        // Of all, skipped or not: what is not in a list of what was lost was kept.
        changes += usize::from(open.len() > before);
        let looked_at = recording.cuts.contains(&number);
        let newest = match event {
            Event::Began(_, Action::Answer(port)) => {
                if let Some(client) = ports.get(port) {
                    answers[*client] += 1;
                }
                None
            }
            // Without a new change the states are those that were there before.
            Event::Began(..) if open.len() <= before => continue,
            Event::Began(id, action) if is_skipped(*id, action, open.len()) => {
                chosen.skipped += usize::from(looked_at);
                continue;
            }
            Event::Began(id, _) => Some(*id),
            Event::Ended(_) if open.len() < before => None,
            Event::Ended(_) => continue,
        };
        if !looked_at {
            continue;
        }
        let answered = matches!(event, Event::Began(_, Action::Answer(_)));
        for fates in states(&open, newest, random) {
            // A state is the changes that were lost or torn, of all that there ever were.
            let lost: Vec<_> = open
                .iter()
                .map(|open| (open.id, fates.get(&open.id).copied().unwrap_or(Fate::Lost)))
                .filter(|(_, fate)| *fate != Fate::Kept)
                .collect();
            if seen.insert((changes, lost, answers.clone())) {
                let answers = answers.clone();
                let events = number + 1;
                chosen.cuts.push(Cut { events, fates, answers, answered, first: false });
            }
        }
    }
    Ok(chosen)
}

/// Whether no cut is made after a change, when so many are pending.
fn is_skipped(id: usize, action: &Action, pending: usize) -> bool {
    match action {
        // There are hundreds of them at the first start, one as good as the other.
        Action::MakeDirectory(_) => !id.is_multiple_of(ONE_DIRECTORY_OF),
        // The more is pending, the less one change more matters.
        _ => pending > MANY && !id.is_multiple_of(pending / 4),
    }
}

/// Choices among the pending changes. The newest, if there is one, is never lost.
fn states(open: &[Open], newest: Option<usize>, random: &mut Random) -> Vec<Fates> {
    let free: Vec<usize> =
        open.iter().map(|open| open.id).filter(|id| Some(*id) != newest).collect();
    let with = |fate: &dyn Fn(usize) -> bool| -> Fates {
        let kept = open.iter().filter(|open| Some(open.id) == newest || fate(open.id));
        kept.map(|open| (open.id, Fate::Kept)).collect()
    };
    let mut states = Vec::new();
    if free.len() <= EXHAUSTIVE {
        for choice in 0..1_usize << free.len() {
            states.push(with(&|id| {
                free.iter().position(|free| *free == id).is_some_and(|at| choice >> at & 1 == 1)
            }));
        }
    } else {
        states.push(with(&|_| false));
        states.push(with(&|_| true));
        for id in free.iter().rev().take(LATEST) {
            states.push(with(&|other| other == *id));
            states.push(with(&|other| other != *id));
        }
        for number in 0..AT_RANDOM {
            let chance = [25, 50, 50, 75][number % 4];
            let chosen: HashSet<usize> =
                free.iter().copied().filter(|_| random.percent(chance)).collect();
            states.push(with(&|id| chosen.contains(&id)));
        }
    }
    // Torn: the newest, and some other.
    let wide: Vec<&Open> = open.iter().filter(|open| open.sectors > 1).collect();
    let newest = wide.iter().find(|open| Some(open.id) == newest);
    let other = wide.get(random.below(wide.len()));
    for torn in newest.into_iter().chain(other) {
        let half = torn.sectors.min(64) / 2;
        let patterns = [(1 << half) - 1, !((1 << half) - 1), 0, random.next()];
        for (number, sectors) in patterns.into_iter().enumerate() {
            let chance = [100, 100, 50, 50][number];
            let mut fates = with(&|_| true);
            fates.retain(|_, _| random.percent(chance));
            let long = random.percent(50);
            fates.insert(torn.id, Fate::Torn { sectors, long });
            states.push(fates);
        }
    }
    states
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn what_is_all_synced_is_a_state_whatever_was_skipped_before() {
        let path = PathBuf::from("/d/file");
        let write = |offset| Action::Write { path: path.clone(), offset, bytes: vec![1; 10] };
        let mut actions = vec![Action::Create(path.clone()), Action::Sync("/d".into())];
        actions.extend((0..150).map(|number| write(10 * number)));
        actions.push(Action::Sync(path.clone()));
        let events: Vec<Event> = actions
            .into_iter()
            .enumerate()
            .flat_map(|(id, action)| [Event::Began(id, action), Event::Ended(id)])
            .collect();
        let recording = Recording {
            name: "writes".into(),
            data: "/d".into(),
            events,
            clients: Vec::new(),
            cuts: 0..usize::MAX,
        };
        let chosen = choose(&recording, &mut Random::new(1)).unwrap();
        let end = chosen.cuts.iter().filter(|cut| cut.events == recording.events.len());
        assert_eq!(end.count(), 1);
        let points: HashSet<usize> = chosen.cuts.iter().map(|cut| cut.events).collect();
        // The file's name and its sync, each write but those skipped, and the sync of all.
        assert_eq!(points.len() + chosen.skipped, 1 + 150 + 1);
        assert!(chosen.skipped > 30, "{}", chosen.skipped);
    }
}
