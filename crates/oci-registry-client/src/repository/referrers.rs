//! Who refers to a manifest: by the referrers API, or by an index under a tag where a registry has none
//! (distribution-spec, "Listing Referrers", "Referrers Tag Schema").

use http::{Method, StatusCode, header};
use oci_ref::{Cursor, ErrorKind, Manifest, Page, Referrers, Target};
use oci_spec_types::{Descriptor, Digest, ErrorCode, ImageIndex, MediaType};

use super::Repository;
use super::index_updates::Change;
use crate::page::{self, PageRequest};
use crate::request::header_value;
use crate::{Error, ReferrersStep, Result, location};

/// Where a registry keeps referrers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Support {
    /// It has the referrers API.
    Api,
    /// Clients keep an index under a tag for each subject.
    Tags,
}

/// A digest that nothing has, to find out whether there is a referrers API.
const ZERO: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

impl Repository {
    pub(super) async fn list_referrers(
        &self,
        subject: &Digest,
        artifact_type: Option<&str>,
        after: Option<&Cursor>,
        limit: usize,
    ) -> Result<Referrers> {
        if limit == 0 {
            return Ok(Referrers {
                page: Page::last(Vec::new()),
                filtered: artifact_type.is_some(),
            });
        }
        if self.support() != Some(Support::Tags) {
            if let Some(found) = self.ask_referrers(subject, artifact_type, after, limit).await? {
                self.learn_support(Support::Api);
                return Ok(found);
            }
            if self.support() == Some(Support::Api) {
                let about =
                    self.about(format_args!("referrers of {subject}"), ErrorCode::ManifestUnknown);
                let reason = "the registry, which has the referrers API, answers as if it had not";
                return Err(Error::new(ErrorKind::Internal, about.what, reason));
            }
            self.learn_support(Support::Tags);
        }
        let listed = self.read_likely_list(subject).await?.entries();
        let listed = self.keep_referrers(subject, listed).await?;
        let after = after.map(|after| match after {
            Cursor::After(digest) | Cursor::Opaque(digest) => digest.as_str(),
        });
        let skip =
            after.and_then(|after| listed.iter().position(|found| found.digest.as_str() == after));
        let skip = skip.map_or(0, |at| at + 1);
        let mut rest = keep(listed.into_iter().skip(skip).collect(), artifact_type);
        let more = rest.len() > limit;
        rest.truncate(limit);
        let next = rest.last().filter(|_| more).map(|last| Cursor::After(last.digest.to_string()));
        Ok(Referrers { page: Page { items: rest, next }, filtered: artifact_type.is_some() })
    }

    /// A page by the API; `None` if the registry has none.
    async fn ask_referrers(
        &self,
        subject: &Digest,
        artifact_type: Option<&str>,
        after: Option<&Cursor>,
        limit: usize,
    ) -> Result<Option<Referrers>> {
        let mut first = self.url(&format!("referrers/{subject}"));
        if let Some(artifact_type) = artifact_type {
            first = location::with_query(first, "artifactType", artifact_type);
        }
        let page = PageRequest { first, after, limit };
        let position = page.position()?;
        let about = self.about(format_args!("referrers of {subject}"), ErrorCode::ManifestUnknown);
        let request = self
            .reading(Method::GET, position.url.clone(), about)
            .header(header::ACCEPT, header_value(MediaType::OCI_IMAGE_INDEX.as_str()))
            // A registry that is known for it redirects so to something that is no registry.
            .expect(&[200, 303]);
        let (answer, body) =
            match self.registry().read(&request, self.client().config().metadata_limit).await {
                Err(error) if is_no_api(&error) => return Ok(None),
                answer => answer?,
            };
        if answer.status() != StatusCode::OK
            || page::media_type(&answer) != Some(MediaType::OCI_IMAGE_INDEX)
        {
            return Ok(None);
        }
        let next = page::next(&answer)?;
        let index = ImageIndex::from_slice(&body).map_err(|error| {
            answer
                .error(ErrorCode::ManifestInvalid, format!("the list is not understood: {error}"))
                .with_source(error)
        })?;
        let applied = page::is_filtered(&answer)
            || index
                .annotations
                .get(oci_spec_types::annotations::REFERRERS_FILTERS_APPLIED)
                .is_some_and(|filters| {
                    filters.split(',').any(|filter| filter.trim() == "artifactType")
                });
        let mut page =
            page::cut(index.manifests, &position, page.limit, next, |found| found.digest.as_str());
        if !applied {
            page.items = keep(page.items, artifact_type);
        }
        Ok(Some(Referrers { page, filtered: artifact_type.is_some() }))
    }

    /// Finds out whether the registry has the referrers API.
    pub(super) async fn find_support(&self) -> Result<Support> {
        if let Some(support) = self.support() {
            return Ok(support);
        }
        let zero: Digest = ZERO.parse().expect("a well-formed digest");
        let found = self.ask_referrers(&zero, None, None, 1).await?;
        Ok(self.learn_support(if found.is_some() { Support::Api } else { Support::Tags }))
    }

    /// After a manifest with a subject was written: sees to it that it is listed.
    pub(super) async fn after_push_with_subject(
        &self,
        manifest: &Manifest,
        listed: bool,
    ) -> Result<()> {
        if listed {
            self.learn_support(Support::Api);
            return Ok(());
        }
        let (Some(subject), Some(entry)) = (manifest.subject(), manifest.as_referrer()) else {
            return Ok(());
        };
        let change = Change::Add(Box::new(entry));
        match self.find_support_to(&change, &subject.digest).await? {
            Support::Api => Ok(()),
            Support::Tags => self.change_referrers_index(&subject.digest, change).await,
        }
    }

    /// Finds out whether the registry has the referrers API, in order to make a change that it
    /// would make by itself.
    async fn find_support_to(&self, change: &Change, subject: &Digest) -> Result<Support> {
        let found = self.find_support().await;
        found.map_err(|error| error.unlisted(change.failure(ReferrersStep::Detect, subject)))
    }

    /// Deletes a manifest; first from the index of its subject's referrers, if the registry has no API.
    pub(super) async fn remove_manifest(&self, digest: &Digest) -> Result<()> {
        if self.support() != Some(Support::Api) {
            let manifest = match self.read_manifest(&Target::Digest(digest.clone())).await {
                Ok(manifest) => Some(manifest),
                // What cannot be read has no subject that anybody knows of, and can still be deleted.
                Err(error) if *error.kind() == ErrorKind::Code(ErrorCode::ManifestInvalid) => None,
                Err(error) => return Err(error),
            };
            if let Some(subject) = manifest.as_ref().and_then(Manifest::subject) {
                let change = Change::Remove(digest.clone());
                if self.find_support_to(&change, &subject.digest).await? == Support::Tags {
                    self.change_referrers_index(&subject.digest, change).await?;
                }
            }
        }
        self.remove_manifest_only(digest).await
    }
}

/// Whether an error means that there is no referrers API. A repository that is not known is something else.
fn is_no_api(error: &Error) -> bool {
    match error.status() {
        Some(404) => error.code() != Some(&ErrorCode::NameUnknown),
        Some(405 | 501) => true,
        _ => false,
    }
}

/// Those with an artifact type, or all.
fn keep(mut listed: Vec<Descriptor>, artifact_type: Option<&str>) -> Vec<Descriptor> {
    if let Some(wanted) = artifact_type {
        listed.retain(|found| found.artifact_type.as_deref() == Some(wanted));
    }
    listed
}
