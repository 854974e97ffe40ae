//! Tags that several clients move at the same time. Which move was the last is known only within bounds: one that was
//! acknowledged before another began is over once the other is acknowledged.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;

use crate::crash::check;
use crate::crash::client::{Client, Done, Failed, describe};
use crate::crash::content::Manifest;

/// One move of a tag.
#[derive(Debug)]
struct Write {
    tag: &'static str,
    digest: String,
    began: u64,
    /// When it was acknowledged, if it was.
    ended: Option<u64>,
}

/// The moves so far.
#[derive(Clone, Default)]
pub(super) struct SharedTags {
    writes: Rc<RefCell<(u64, Vec<Write>)>>,
}

impl SharedTags {
    pub(super) const REPOSITORY: &'static str = "shared/tags";
    pub(super) const TAGS: [&'static str; 2] = ["latest", "stable"];

    /// Moves a tag to a manifest that is there.
    pub(super) async fn write(
        &self,
        client: &mut Client,
        tag: &'static str,
        manifest: &Arc<Manifest>,
    ) -> Done {
        let mine = {
            let (clock, writes) = &mut *self.writes.borrow_mut();
            *clock += 1;
            let digest = manifest.digest.clone();
            writes.push(Write { tag, digest, began: *clock, ended: None });
            writes.len() - 1
        };
        let target = format!("/v2/{}/manifests/{tag}", Self::REPOSITORY);
        let headers = [("Content-Type", manifest.media_type.to_owned())];
        let body = &manifest.bytes;
        let reply = client.try_change(("PUT", &target), &headers, body, 201, Vec::new()).await?;
        if reply.status != 201 {
            return Err(Failed::Wrong(describe("PUT", &target, &reply, "expected 201")));
        }
        let (clock, writes) = &mut *self.writes.borrow_mut();
        *clock += 1;
        writes[mine].ended = Some(*clock);
        Ok(())
    }

    /// What a tag may name.
    fn candidates(&self, tag: &str) -> BTreeSet<Option<String>> {
        let (_, writes) = &*self.writes.borrow();
        let of_tag = || writes.iter().filter(|write| write.tag == tag);
        // The last of these is the one that nothing acknowledged may precede.
        let last = of_tag().filter(|write| write.ended.is_some()).map(|write| write.began).max();
        let over = |write: &&Write| matches!((write.ended, last), (Some(ended), Some(last)) if ended < last);
        let mut found: BTreeSet<_> =
            of_tag().filter(|write| !over(write)).map(|write| Some(write.digest.clone())).collect();
        if last.is_none() {
            found.insert(None);
        }
        found
    }

    /// Checks the tags after a restart, while nobody moves them.
    pub(super) async fn check(&self, client: &mut Client) -> Done {
        let mut expected = Vec::new();
        for tag in Self::TAGS {
            let target = format!("/v2/{}/manifests/{tag}", Self::REPOSITORY);
            let reply = client.get(&target).await?;
            let found = match reply.status {
                404 => None,
                _ => Some(reply.header("docker-content-digest").unwrap_or_default().to_owned()),
            };
            let candidates = self.candidates(tag);
            if !candidates.contains(&found) {
                return Err(Failed::Wrong(format!(
                    "GET {target}: found {found:?}, expected one of {candidates:?}"
                )));
            }
            expected.extend(found.is_some().then(|| tag.to_owned()));
            self.forget(tag, found);
        }
        let empty = expected.is_empty();
        let target = format!("/v2/{}/tags/list", Self::REPOSITORY);
        if empty && client.get(&target).await?.status == 404 {
            return Ok(());
        }
        let listed = check::list(client, &target, "tags").await?;
        if listed != expected {
            let message = format!("GET {target}: {listed:?}, expected {expected:?}");
            return Err(Failed::Wrong(message));
        }
        Ok(())
    }

    /// What was seen is what there is, from now on.
    fn forget(&self, tag: &'static str, found: Option<String>) {
        let (clock, writes) = &mut *self.writes.borrow_mut();
        writes.retain(|write| write.tag != tag);
        *clock += 2;
        if let Some(digest) = found {
            writes.push(Write { tag, digest, began: *clock - 1, ended: Some(*clock) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(writes: &[(&str, u64, Option<u64>)]) -> SharedTags {
        let write = |(digest, began, ended): &(&str, u64, Option<u64>)| Write {
            tag: "latest",
            digest: (*digest).to_owned(),
            began: *began,
            ended: *ended,
        };
        let writes = writes.iter().map(write).collect();
        SharedTags { writes: Rc::new(RefCell::new((100, writes))) }
    }

    fn candidates(writes: &[(&str, u64, Option<u64>)]) -> Vec<String> {
        let found = tags(writes).candidates("latest");
        found.into_iter().map(|digest| digest.unwrap_or_default()).collect()
    }

    #[test]
    fn a_move_is_over_when_a_later_one_is_acknowledged() {
        assert_eq!(candidates(&[]), [""]);
        assert_eq!(candidates(&[("a", 1, None)]), ["", "a"]);
        assert_eq!(candidates(&[("a", 1, Some(2)), ("b", 3, Some(4))]), ["b"]);
        assert_eq!(candidates(&[("a", 1, Some(4)), ("b", 2, Some(3))]), ["a", "b"]);
        assert_eq!(candidates(&[("a", 1, Some(2)), ("b", 3, None)]), ["a", "b"]);
        assert_eq!(candidates(&[("a", 1, None), ("b", 2, Some(3)), ("c", 4, Some(5))]), ["a", "c"]);
    }
}
