//! Manifests: read, described, written, deleted (distribution-spec, "Pulling manifests", "Pushing Manifests").

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use oci_ref::{ErrorKind, Manifest, Precondition, Target};
use oci_spec_types::{Algorithm, Descriptor, Digest, ErrorCode, MediaType, Tag};

use super::Repository;
use crate::payload::Payload;
use crate::request::{About, header_value};
use crate::response::Response;
use crate::{Result, location, page};

/// How many tags one request sets. The specification asks registries to take at least so many.
const TAGS_A_REQUEST: usize = 10;

impl Repository {
    fn about_manifest(&self, target: &Target) -> About {
        self.about(format_args!("manifest {target}"), ErrorCode::ManifestUnknown)
    }

    /// The types that are asked for: the one that is known, or all that may be.
    fn accept_header(&self, known: Option<&MediaType>) -> HeaderValue {
        let types = known.map_or(&self.client().config().manifest_types[..], std::slice::from_ref);
        let types: Vec<_> = types.iter().map(MediaType::as_str).collect();
        header_value(&types.join(", "))
    }

    /// Reads a manifest. The tag, if there is one, is asked for first; the digest, if there is one,
    /// is what counts.
    pub(super) async fn read_manifest(&self, target: &Target) -> Result<Manifest> {
        self.read_manifest_of(target, None).await
    }

    /// Reads a manifest that is asked for as the type that it has, if that is known.
    pub(super) async fn read_manifest_of(
        &self,
        target: &Target,
        known: Option<&MediaType>,
    ) -> Result<Manifest> {
        let limit = self.client().config().manifest_limit;
        Ok(self.read_manifest_as(target, limit, known).await?.0)
    }

    /// Reads a manifest of at most `limit` bytes, and what version of it the registry says that this is (`ETag`).
    pub(super) async fn read_manifest_within(
        &self,
        target: &Target,
        limit: u64,
    ) -> Result<(Manifest, Version)> {
        self.read_manifest_as(target, limit, None).await
    }

    async fn read_manifest_as(
        &self,
        target: &Target,
        limit: u64,
        known: Option<&MediaType>,
    ) -> Result<(Manifest, Version)> {
        match self.get_manifest(target, limit, known).await {
            Err(error) if is_of_another(target, &error) => {
                self.get_manifest(&by_digest(target), limit, known).await
            }
            read => read,
        }
    }

    async fn get_manifest(
        &self,
        target: &Target,
        limit: u64,
        known: Option<&MediaType>,
    ) -> Result<(Manifest, Version)> {
        let url = self.url(&format!("manifests/{}", reference(target)));
        let request = self
            .reading(Method::GET, url, self.about_manifest(target))
            .header(header::ACCEPT, self.accept_header(known));
        let (response, bytes) = self.registry().read(&request, limit).await?;
        Ok((verify(&response, bytes, target.digest())?, Version::of(&response)))
    }

    /// Describes a manifest without reading it, if the registry's answer to `HEAD` suffices for that.
    pub(super) async fn describe(&self, target: &Target) -> Result<Descriptor> {
        Ok(self.describe_version(target).await?.0)
    }

    async fn describe_version(&self, target: &Target) -> Result<(Descriptor, Version)> {
        match self.head_manifest(target).await {
            Err(error) if is_of_another(target, &error) => {
                self.head_manifest(&by_digest(target)).await
            }
            described => described,
        }
    }

    async fn head_manifest(&self, target: &Target) -> Result<(Descriptor, Version)> {
        let url = self.url(&format!("manifests/{}", reference(target)));
        let request = self
            .reading(Method::HEAD, url, self.about_manifest(target))
            .header(header::ACCEPT, self.accept_header(None));
        let described = match self.registry().send(&request).await {
            Ok(response) => {
                let described = describe(&response, target.digest())?;
                described.map(|descriptor| (descriptor, Version::of(&response)))
            }
            Err(error) if error.refuses_head() => None,
            Err(error) => return Err(error),
        };
        match described {
            Some(described) => Ok(described),
            None => {
                let limit = self.client().config().manifest_limit;
                let (manifest, version) = self.get_manifest(target, limit, None).await?;
                Ok((manifest.descriptor().clone(), version))
            }
        }
    }

    /// Writes a manifest, then the tags, as few requests as the registry needs for it.
    pub(super) async fn write_manifest(
        &self,
        manifest: &Manifest,
        tags: &[Tag],
        when: &Precondition,
    ) -> Result<()> {
        let mut lists_subject = false;
        let mut rest: Vec<&Tag> = tags.iter().collect();
        let conditional = *when != Precondition::None;
        // A tag alone cannot say that the digest is not of sha256.
        let by_digest =
            manifest.digest().known_algorithm() != Some(Algorithm::Sha256) || tags.len() > 1;
        if tags.is_empty() || (by_digest && !conditional) {
            let digest = manifest.digest().as_str();
            for group in groups(tags) {
                match self.put_manifest_as(manifest, digest, group, None).await {
                    Ok(answer) => {
                        lists_subject |= lists_subject_of(&answer, manifest);
                        let taken = taken_tags(&answer);
                        rest.retain(|tag| !taken.contains(tag));
                        if taken.is_empty() {
                            break;
                        }
                    }
                    // Perhaps it is the parameters that are refused; without them, the registry will tell.
                    Err(error)
                        if !group.is_empty()
                            && matches!(error.status(), Some(400 | 404 | 405 | 414 | 501)) =>
                    {
                        break;
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        for tag in rest {
            let condition = self.check_precondition(tag, when).await?;
            let answer = self.put_manifest_as(manifest, tag.as_str(), &[], condition).await?;
            lists_subject |= lists_subject_of(&answer, manifest);
        }
        if manifest.subject().is_some() {
            self.after_push_with_subject(manifest, lists_subject).await?;
        }
        Ok(())
    }

    /// Writes a manifest under a tag or its digest, and under further tags, if a condition holds.
    pub(super) async fn put_manifest_as(
        &self,
        manifest: &Manifest,
        reference: &str,
        tags: &[Tag],
        condition: Option<Condition>,
    ) -> Result<Response> {
        let mut url = self.url(&format!("manifests/{reference}"));
        for tag in tags {
            url = location::with_query(url, "tag", tag.as_str());
        }
        let about = self.about(format_args!("manifest {reference}"), ErrorCode::NameUnknown);
        let mut request = self
            .writing(Method::PUT, url, about)
            .header(header::CONTENT_TYPE, header_value(manifest.media_type().as_str()))
            .payload(Payload::Bytes(manifest.bytes().clone()))
            // The specification says 201; some registries have stored it and say another.
            .expect(&[200, 201, 202]);
        if let Some((name, value)) = condition {
            request = request.header(name, value);
        }
        let answer = self.registry().send(&request).await.map_err(refused_type)?;
        match answer.digest()? {
            Some(claimed) if !is_digest_of(&claimed, manifest.bytes(), manifest.digest()) => {
                Err(answer.error(
                    ErrorCode::DigestInvalid,
                    format!("the registry stored {claimed}, expected {}", manifest.digest()),
                ))
            }
            None if answer.status() != StatusCode::CREATED => {
                self.check_stored(manifest, reference, &answer).await?;
                Ok(answer)
            }
            _ => Ok(answer),
        }
    }

    /// Reads a manifest that was written, and of which neither status nor digest say that it is
    /// stored: a page to log in on says 200, too.
    async fn check_stored(
        &self,
        manifest: &Manifest,
        reference: &str,
        answer: &Response,
    ) -> Result<()> {
        let target = match reference.parse() {
            Ok(tag) => Target::Tag(tag),
            Err(_) => Target::Digest(manifest.digest().clone()),
        };
        let limit = self.client().config().manifest_limit;
        let found = self.get_manifest(&target, limit, Some(manifest.media_type())).await;
        let status = answer.status().as_u16();
        match found {
            Ok((found, _)) if found.bytes() == manifest.bytes() => Ok(()),
            Ok((found, _)) => Err(answer.error(
                ErrorKind::Internal,
                format!("answered {status}, and {reference} is {} afterwards", found.digest()),
            )),
            Err(error) => Err(error.and(&format!("it was pushed, and answered {status}"))),
        }
    }

    /// Looks whether a condition holds. A registry that does not know conditions is not asked in vain; one that does
    /// checks again, at the moment of writing, by the condition that this gives.
    async fn check_precondition(
        &self,
        tag: &Tag,
        when: &Precondition,
    ) -> Result<Option<Condition>> {
        if *when == Precondition::None {
            return Ok(None);
        }
        let target = Target::Tag(tag.clone());
        let (found, version) = match self.describe_version(&target).await {
            Ok((descriptor, version)) => (Some(descriptor.digest), version),
            Err(error) if error.is_not_found() => (None, Version(None)),
            Err(error) => return Err(error),
        };
        let holds = match (when, &found) {
            (Precondition::None, _) => true,
            (Precondition::Matches(digests), Some(found)) => digests.contains(found),
            (Precondition::Exists, found) => found.is_some(),
            (Precondition::Absent, found) => found.is_none(),
            (Precondition::Matches(_), None) => false,
        };
        if holds {
            return Ok(match when {
                Precondition::None => None,
                Precondition::Matches(_) => version.unchanged(),
                Precondition::Exists => Some((header::IF_MATCH, HeaderValue::from_static("*"))),
                Precondition::Absent => Some(absent()),
            });
        }
        let found = found.map_or("nothing".to_owned(), |digest| digest.to_string());
        let reason = format!("the condition {when:?} does not hold: it names {found}");
        let about = self.about(format_args!("tag {tag}"), ErrorCode::ManifestUnknown);
        Err(crate::Error::new(ErrorKind::PreconditionFailed, about.what, reason))
    }

    pub(super) async fn remove_tag(&self, tag: &Tag) -> Result<()> {
        let about = self.about(format_args!("tag {tag}"), ErrorCode::ManifestUnknown);
        self.delete_at(self.url(&format!("manifests/{tag}")), about).await.map(|_| ())
    }

    /// Deletes a manifest, and nothing about its subject.
    pub(super) async fn remove_manifest_only(&self, digest: &Digest) -> Result<()> {
        let about = self.about_manifest(&Target::Digest(digest.clone()));
        let answer = self.delete_at(self.url(&format!("manifests/{digest}")), about).await?;
        let Some(answer) = answer else { return Ok(()) };
        match answer.digest()? {
            Some(claimed) if claimed.algorithm() == digest.algorithm() && claimed != *digest => {
                Err(answer.error(
                    ErrorCode::DigestInvalid,
                    format!("the registry says that it deleted {claimed}, expected {digest}"),
                ))
            }
            _ => Ok(()),
        }
    }
}

/// What stands in the address: the tag, if there is one.
fn reference(target: &Target) -> String {
    match (target.tag(), target.digest()) {
        (Some(tag), _) => tag.to_string(),
        (None, digest) => digest.map(ToString::to_string).unwrap_or_default(),
    }
}

/// The error of a manifest that was not taken, with its kind: registries that do not take a type
/// say so by statuses without a code, and distribution, of a tag that it does not find in a
/// manifest of schema 1, by `TAG_INVALID`.
fn refused_type(error: crate::Error) -> crate::Error {
    let code = error.errors().first().map(|entry| entry.code.as_str());
    let no_code = *error.kind() == ErrorKind::Invalid && code.is_none();
    match error.status() {
        Some(400 | 406 | 415) if no_code || code == Some("TAG_INVALID") => {
            error.with_kind(ErrorCode::ManifestInvalid)
        }
        _ => error,
    }
}

/// Says whether an error of asking for a tag means that the tag does not name the digest that it
/// came with: it has moved since that was written down, or is gone.
fn is_of_another(target: &Target, error: &crate::Error) -> bool {
    let other = *error.kind() == ErrorKind::Code(ErrorCode::DigestInvalid);
    matches!(target, Target::Pinned(..)) && (other || error.is_not_found())
}

/// The target without its tag, if it has a digest.
pub(super) fn by_digest(target: &Target) -> Target {
    target.digest().map_or_else(|| target.clone(), |digest| Target::Digest(digest.clone()))
}

/// The tags in groups, one of them empty if there are none.
fn groups(tags: &[Tag]) -> Vec<&[Tag]> {
    match tags.is_empty() {
        true => vec![&[]],
        false => tags.chunks(TAGS_A_REQUEST).collect(),
    }
}

/// A header that lets a registry write only under a condition (RFC 9110, 13.1).
pub(super) type Condition = (HeaderName, HeaderValue);

/// What a registry calls the version of what it gave (`ETag`). Those without a name cannot be asked for again.
pub(super) struct Version(Option<HeaderValue>);

impl Version {
    fn of(answer: &Response) -> Self {
        let tag = answer.headers().get(header::ETAG);
        // A weak one is never the same as another (RFC 9110, 8.8.3.2).
        Self(tag.filter(|tag| !tag.as_bytes().starts_with(b"W/")).cloned())
    }

    /// The condition that it is still this version; none where the registry does not name versions.
    pub(super) fn unchanged(self) -> Option<Condition> {
        self.0.map(|tag| (header::IF_MATCH, tag))
    }
}

/// The condition that there is nothing yet.
pub(super) fn absent() -> Condition {
    (header::IF_NONE_MATCH, HeaderValue::from_static("*"))
}

/// The tags that the registry says it has set (`OCI-Tag`).
fn taken_tags(answer: &Response) -> Vec<Tag> {
    let values = answer.headers().get_all("OCI-Tag").iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).filter_map(|tag| tag.trim().parse().ok()).collect()
}

/// Whether the registry says that it lists the manifest among its subject's referrers (`OCI-Subject`).
fn lists_subject_of(answer: &Response, manifest: &Manifest) -> bool {
    let subject = manifest.subject().map(|subject| subject.digest.as_str());
    subject.is_some() && answer.header("OCI-Subject") == subject
}

/// Whether a digest of the registry's is one of these bytes, which have the digest `known`.
fn is_digest_of(claimed: &Digest, bytes: &[u8], known: &Digest) -> bool {
    match claimed.known_algorithm() {
        Some(_) if claimed.algorithm() != known.algorithm() => claimed.verify(bytes).is_ok(),
        Some(_) => claimed == known,
        // What cannot be verified is not used.
        None => true,
    }
}

/// The descriptor in an answer to `HEAD`; `None` if it has too little for one.
fn describe(response: &Response, expected: Option<&Digest>) -> Result<Option<Descriptor>> {
    let claimed = response.digest()?;
    if let (Some(claimed), Some(expected)) = (&claimed, expected)
        && claimed != expected
    {
        // Of another algorithm: only the bytes can tell.
        return match claimed.algorithm() == expected.algorithm() {
            true => Err(wrong_digest(response, claimed, expected)),
            false => Ok(None),
        };
    }
    // A digest that cannot be verified later is of no use.
    let digest = expected.or(claimed.as_ref()).filter(|digest| digest.known_algorithm().is_some());
    let media_type = page::media_type(response).filter(MediaType::is_manifest);
    // Proxies leave the length of an answer without a body out, or say 0.
    let length = response.content_length().filter(|length| *length != 0);
    match (media_type, length, digest) {
        (Some(media_type), Some(size), Some(digest)) => {
            Ok(Some(Descriptor::new(media_type, digest.clone(), size)))
        }
        _ => Ok(None),
    }
}

/// The manifest in an answer to `GET`.
fn verify(response: &Response, bytes: Bytes, expected: Option<&Digest>) -> Result<Manifest> {
    let claimed = response.digest()?;
    if let (Some(claimed), Some(expected)) = (&claimed, expected)
        && !is_digest_of(claimed, &bytes, expected)
    {
        return Err(wrong_digest(response, claimed, expected));
    }
    let digest = expected.or(claimed.as_ref().filter(|digest| digest.known_algorithm().is_some()));
    Manifest::parse(bytes, page::media_type(response).as_ref(), digest).map_err(|source| {
        let error = oci_ref::Error::from(source);
        response.error_from(error.kind().clone(), error.message().to_owned(), error)
    })
}

fn wrong_digest(response: &Response, claimed: &Digest, expected: &Digest) -> crate::Error {
    response.error(
        ErrorCode::DigestInvalid,
        format!("Docker-Content-Digest is {claimed}, expected {expected}"),
    )
}
