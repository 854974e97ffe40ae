//! The sessions that this process has claimed, and how each claim ends.
//!
//! A session may be claimed again when nothing can end the claim before any more, here or in the database: that would end the next
//! one, and two would write to one upload. So each claim has a number, is given back by one transaction at a time, and is free
//! when one of those has succeeded. One that failed and may have been committed all the same has run its statements: it holds the row
//! until it ends, and the one that is tried next waits for that.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::upload::SessionId;

/// The sessions that nobody else in this process may claim.
#[derive(Clone, Default)]
pub(super) struct Held(Arc<Mutex<Claims>>);

#[derive(Default)]
struct Claims {
    claims: HashMap<SessionId, Claim>,
    next: u64,
}

struct Claim {
    /// Tells one claim from the next.
    number: u64,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Somebody may write to the session.
    Held,
    /// Nobody does, and the database is being told.
    GivingBack,
    /// Nobody does, and the database could not be told.
    Left,
}

impl Held {
    /// Holds a session, and gives the number of this claim. `None` if it is held, or was and the database may not know yet that it
    /// is not any more.
    pub(super) fn hold(&self, id: &SessionId) -> Option<u64> {
        let mut held = self.lock();
        if held.claims.contains_key(id) {
            return None;
        }
        held.next += 1;
        let number = held.next;
        held.claims.insert(id.clone(), Claim { number, state: State::Held });
        Some(number)
    }

    /// Notes that a transaction of the holder's has ended its claim, or that there was none to be had.
    pub(super) fn ended(&self, id: &SessionId) {
        let mut held = self.lock();
        if held.claims.get(id).is_some_and(|claim| claim.state == State::Held) {
            held.claims.remove(id);
        }
    }

    /// Ends a claim that nobody has ended yet, and that nobody is giving back: whoever asks does.
    pub(super) fn give_back(&self, id: &SessionId, number: u64) -> Option<GivingBack> {
        let mut held = self.lock();
        let claim = held.claims.get_mut(id)?;
        if claim.number != number || claim.state == State::GivingBack {
            return None;
        }
        claim.state = State::GivingBack;
        Some(GivingBack { held: self.clone(), claims: vec![(id.clone(), number)] })
    }

    /// All that could not be given back when they ended: whoever asks gives them back. `None` if there are none.
    pub(super) fn left(&self) -> Option<GivingBack> {
        let mut held = self.lock();
        let left = held.claims.iter_mut().filter(|(_, claim)| claim.state == State::Left);
        let take = |(id, claim): (&SessionId, &mut Claim)| {
            claim.state = State::GivingBack;
            (id.clone(), claim.number)
        };
        let claims: Vec<_> = left.map(take).collect();
        (!claims.is_empty()).then(|| GivingBack { held: self.clone(), claims })
    }

    fn lock(&self) -> MutexGuard<'_, Claims> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Claims that one transaction gives back. If it is dropped before that is done, they are left for another try.
pub(super) struct GivingBack {
    held: Held,
    claims: Vec<(SessionId, u64)>,
}

impl GivingBack {
    pub(super) fn ids(&self) -> impl Iterator<Item = &SessionId> {
        self.claims.iter().map(|(id, _)| id)
    }

    /// The transaction is committed: others may claim the sessions.
    pub(super) fn done(mut self) {
        let mut held = self.held.lock();
        for (id, number) in std::mem::take(&mut self.claims) {
            if held.claims.get(&id).is_some_and(|claim| claim.number == number) {
                held.claims.remove(&id);
            }
        }
    }
}

impl Drop for GivingBack {
    fn drop(&mut self) {
        let mut held = self.held.lock();
        for (id, number) in &self.claims {
            if let Some(claim) = held.claims.get_mut(id)
                && claim.number == *number
            {
                claim.state = State::Left;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(giving: &GivingBack) -> Vec<SessionId> {
        giving.ids().cloned().collect()
    }

    #[test]
    fn a_claim_is_given_back_by_one_at_a_time() {
        let (held, id) = (Held::default(), SessionId::fresh().unwrap());
        let first = held.hold(&id).unwrap();
        assert!(held.left().is_none(), "it is held");
        let giving = held.give_back(&id, first).unwrap();
        assert!(held.left().is_none(), "somebody is giving it back");
        assert!(held.give_back(&id, first).is_none());
        assert_eq!(held.hold(&id), None, "the database may not know yet");
        giving.done();
        let second = held.hold(&id).unwrap();
        assert_ne!(first, second);
        assert!(held.give_back(&id, first).is_none(), "it is another's");
        assert_eq!(held.hold(&id), None);
        assert!(held.left().is_none());
    }

    #[test]
    fn what_could_not_be_given_back_is_left_for_one_other() {
        let held = Held::default();
        let all = [(); 3].map(|()| SessionId::fresh().unwrap());
        let numbers = all.each_ref().map(|id| held.hold(id).unwrap());
        drop(held.give_back(&all[0], numbers[0]));
        drop(held.give_back(&all[1], numbers[1]));
        let left = held.left().unwrap();
        let mut found = ids(&left);
        found.sort_by_key(|id| id.as_str().to_owned());
        let mut expected = all[..2].to_vec();
        expected.sort_by_key(|id| id.as_str().to_owned());
        assert_eq!(found, expected);
        assert!(held.left().is_none(), "they are being given back");
        assert!(held.give_back(&all[0], numbers[0]).is_none());
        assert_eq!(held.hold(&all[0]), None);
        // Broken off, and once more.
        drop(left);
        held.left().unwrap().done();
        assert!(held.left().is_none());
        assert!(held.hold(&all[0]).is_some());
        assert_eq!(held.hold(&all[2]), None);
    }

    #[test]
    fn a_claim_that_its_holder_has_ended_is_nobody_elses_to_end() {
        let (held, id) = (Held::default(), SessionId::fresh().unwrap());
        let first = held.hold(&id).unwrap();
        held.ended(&id);
        assert!(held.give_back(&id, first).is_none());
        let second = held.hold(&id).unwrap();
        assert!(held.give_back(&id, first).is_none());
        let giving = held.give_back(&id, second).unwrap();
        // Only a holder ends a claim so, and there is none any more.
        held.ended(&id);
        assert_eq!(held.hold(&id), None);
        giving.done();
        assert!(held.hold(&id).is_some());
    }
}
