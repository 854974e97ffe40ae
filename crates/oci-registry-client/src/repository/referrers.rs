//! Who refers to a manifest: by the referrers API, or by an index under a tag where a registry has none
//! (distribution-spec, "Listing Referrers", "Referrers Tag Schema").

use http::{Method, StatusCode, header};
use oci_ref::{Cursor, ErrorKind, Manifest, Page, Referrers, Target};
use oci_spec_types::{Descriptor, Digest, ErrorCode, ImageIndex, MediaType};

use super::Repository;
use super::index_updates::Change;
use super::referrers_list::Tagged;
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

/// The answer to a question to the referrers API.
enum Asked {
    Listed(Referrers),
    /// There is no such API.
    NoApi,
    /// There may be one, for others than this caller: where there is none, some registries refuse
    /// the question as they refuse what is not allowed.
    Refused(Error),
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
        let mut refused = None;
        if self.support() != Some(Support::Tags) {
            match self.ask_referrers(subject, artifact_type, after, limit).await? {
                Asked::Listed(found) => {
                    self.learn_support(Support::Api);
                    return Ok(found);
                }
                Asked::Refused(error) if self.support() == Some(Support::Api) => return Err(error),
                Asked::Refused(error) => refused = Some(error),
                Asked::NoApi if self.support() == Some(Support::Api) => {
                    let about = format_args!("referrers of {subject}");
                    let about = self.about(about, ErrorCode::ManifestUnknown);
                    let reason =
                        "the registry, which has the referrers API, answers as if it had not";
                    return Err(Error::new(ErrorKind::Internal, about.what, reason));
                }
                Asked::NoApi => {
                    self.learn_support(Support::Tags);
                }
            }
        }
        let listed = match (self.read_likely_list(subject).await?, refused) {
            // That there are none is not known.
            (Tagged::Nothing, Some(refused)) => return Err(refused),
            (Tagged::List(list, _), Some(_)) => {
                self.learn_support(Support::Tags);
                list.manifests().to_vec()
            }
            (tagged, _) => tagged.entries(),
        };
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

    /// A page by the API.
    async fn ask_referrers(
        &self,
        subject: &Digest,
        artifact_type: Option<&str>,
        after: Option<&Cursor>,
        limit: usize,
    ) -> Result<Asked> {
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
                Err(error) => {
                    return match error.status() {
                        Some(400 | 404 | 405 | 406 | 501) => Ok(Asked::NoApi),
                        Some(401 | 403) => Ok(Asked::Refused(error)),
                        _ => Err(error),
                    };
                }
                Ok(answer) => answer,
            };
        if answer.status() != StatusCode::OK
            || page::media_type(&answer) != Some(MediaType::OCI_IMAGE_INDEX)
        {
            return Ok(Asked::NoApi);
        }
        let next = page::next(&answer)?;
        let index = ImageIndex::from_slice(&body).map_err(|error| {
            let reason = format!("the list is not understood: {error}");
            answer.error_from(ErrorCode::ManifestInvalid, reason, error)
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
        Ok(Asked::Listed(Referrers { page, filtered: artifact_type.is_some() }))
    }

    /// Finds out whether the registry has the referrers API.
    pub(super) async fn find_support(&self) -> Result<Support> {
        if let Some(support) = self.support() {
            return Ok(support);
        }
        let zero: Digest = ZERO.parse().expect("a well-formed digest");
        Ok(match self.ask_referrers(&zero, None, None, 1).await? {
            Asked::Listed(_) => self.learn_support(Support::Api),
            Asked::NoApi => self.learn_support(Support::Tags),
            Asked::Refused(_) => Support::Tags,
        })
    }

    /// After a manifest with a subject was written: sees to it that it is listed. A registry that
    /// has the API says so in its answer (`OCI-Subject`); one that does not is not asked, unless it
    /// is known to have it.
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
        if self.support() == Some(Support::Api) {
            return Ok(());
        }
        let change = Change::Add(Box::new(entry));
        self.change_referrers_index(&subject.digest, change).await
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
                let support = self.find_support().await.map_err(|error| {
                    error.unlisted(change.failure(ReferrersStep::Detect, &subject.digest))
                })?;
                if support == Support::Tags {
                    self.change_referrers_index(&subject.digest, change).await?;
                }
            }
        }
        self.remove_manifest_only(digest).await
    }
}

/// Those with an artifact type, or all.
fn keep(mut listed: Vec<Descriptor>, artifact_type: Option<&str>) -> Vec<Descriptor> {
    if let Some(wanted) = artifact_type {
        listed.retain(|found| found.artifact_type.as_deref() == Some(wanted));
    }
    listed
}
