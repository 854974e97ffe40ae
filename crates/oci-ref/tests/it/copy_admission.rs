//! Admission: the questions of a copy about the manifests that it reads.

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use oci_ref::suite::content::index;
use oci_ref::{
    Admission, AdmissionRequest, Copier, CopyOptions, Error, Manifest, Precondition, Reached,
    Result, Select, Source, Store, Target,
};
use oci_spec_types::{Descriptor, Digest, ErrorCode};

use crate::probe::{Probe, filled, has, list, plain_list, platform, run, tag};

/// Refuses one manifest.
pub(crate) fn refuses(digest: &Digest) -> Arc<dyn Admission> {
    refuses_with(digest, ErrorCode::Denied)
}

fn refuses_with(digest: &Digest, code: ErrorCode) -> Arc<dyn Admission> {
    let digest = digest.clone();
    Arc::new(move |request: &AdmissionRequest<'_>| match *request.manifest.digest() == digest {
        true => Err(Error::new(code.clone(), "no")),
        false => Ok(()),
    })
}

/// The manifests that were read and asked about, in the order in which it happened.
type Log = Arc<Mutex<Vec<(bool, Digest, Reached)>>>;

/// A source that writes down what is read of it, and an admission that writes down what it is
/// asked.
fn logged(from: &mut Arc<Probe>) -> (Log, Arc<dyn Admission>) {
    let log = Log::default();
    let (read, asked) = (log.clone(), log.clone());
    Arc::get_mut(from).unwrap().hears = Some(Box::new(move |manifest: &Manifest| {
        read.lock().unwrap().push((false, manifest.digest().clone(), Reached::Named));
    }));
    let admission = move |request: &AdmissionRequest<'_>| {
        assert_eq!(request.manifest.digest(), &request.descriptor.digest);
        let digest = request.manifest.digest().clone();
        asked.lock().unwrap().push((true, digest, request.reached));
        Ok(())
    };
    (log, Arc::new(admission))
}

// covers: C17
#[tokio::test]
async fn a_manifest_that_is_not_admitted_is_not_read_further() {
    let (from, sample) = filled().await;
    let plain = plain_list(&from, &sample).await;
    for refused in [plain.digest().clone(), plain.manifests()[0].digest.clone()] {
        let to = Arc::new(Probe::default());
        let options = CopyOptions {
            admission: Some(refuses(&refused)),
            concurrency: 1,
            ..CopyOptions::default()
        };
        let error = run(&from, plain.descriptor(), &to, options).await.unwrap_err();
        assert!(error.is_denied() && error.chain().contains("is not admitted"), "{error:?}");
        assert!(!has(&to, plain.digest()).await);
        let own = from.manifest(&Target::Digest(refused)).await.unwrap();
        if own.index().is_some() {
            assert_eq!(from.opened.load(Ordering::SeqCst), 0);
        }
    }
}

/// An index that lists an index, which lists an image for a platform that nothing else is for.
async fn nested(from: &Probe, image: &Descriptor) -> (Manifest, Manifest, Descriptor) {
    let mut entry = image.clone();
    entry.platform = Some(platform("plan9/mips"));
    let mut inner = oci_ref::List::new(oci_spec_types::MediaType::OCI_IMAGE_INDEX).unwrap();
    inner.add(entry.clone());
    let inner = inner.to_manifest().unwrap();
    let outer = index([&inner]).unwrap();
    for manifest in [&inner, &outer] {
        from.inner.put_manifest(manifest, &[], &Precondition::None).await.unwrap();
    }
    (outer, inner, entry)
}

/// An image is looked for in indexes, and each of them is one way to it.
// covers: C17
#[tokio::test]
async fn what_is_read_to_choose_an_image_is_asked_about_too() {
    let (from, sample) = filled().await;
    let (outer, inner, image) = nested(&from, &sample.image).await;
    let select = || Select::Image(platform("plan9/mips"));
    for refused in [outer.digest(), inner.digest(), &image.digest] {
        // A refusal is one, whatever it looks like: what is not found elsewhere is passed over.
        for code in [ErrorCode::Denied, ErrorCode::ManifestUnknown] {
            let to = Arc::new(Probe::default());
            let admission = Some(refuses_with(refused, code.clone()));
            let options = CopyOptions { select: select(), admission, ..CopyOptions::default() };
            let error = run(&from, outer.descriptor(), &to, options).await.unwrap_err();
            assert_eq!(error.code(), Some(&code));
            let expected = format!("{refused} is not admitted");
            assert!(error.chain().contains(&expected), "{}", error.chain());
            assert!(to.inner.is_empty());
            assert_eq!(from.opened.load(Ordering::SeqCst), 0);
        }
    }
}

/// Whatever is copied, and whatever is looked at before it is, each manifest is asked about once,
/// and before anything that it lists is read.
// covers: C17
#[tokio::test]
async fn each_manifest_that_is_read_is_asked_about_once_and_in_order() {
    let (from, sample) = filled().await;
    let (outer, ..) = nested(&from, &sample.image).await;
    let (_, images) = list(&from, &sample).await;
    let notes = from.manifest(&Target::Digest(sample.notes.digest.clone())).await.unwrap();
    let scheme = tag(&format!("sha256-{}.sig", sample.image.digest.encoded()));
    from.inner.put_manifest(&notes, &[scheme], &Precondition::None).await.unwrap();
    let select = |select| CopyOptions { select, ..CopyOptions::default() };
    let cases = [
        (&sample.index, CopyOptions::default()),
        (&sample.index, select(Select::Instances(vec![images[0].digest.clone()]))),
        (&sample.index, select(Select::Platforms(vec![images[0].platform.clone().unwrap()]))),
        (&sample.index, select(Select::Image(images[1].platform.clone().unwrap()))),
        (outer.descriptor(), select(Select::Image(platform("plan9/mips")))),
        (&sample.image, CopyOptions { referrers: true, ..CopyOptions::default() }),
        (&sample.image, CopyOptions { tag_schemes: true, ..CopyOptions::default() }),
    ];
    // Signatures of something else, and a destination that asks for systems, make a copy look at
    // everything first.
    let signed = Digest::sha256(b"something else");
    let mut from = from;
    from.signatures.lock().unwrap().insert(signed, vec![Bytes::from_static(b"signed")]);
    for (number, (what, options)) in cases.into_iter().enumerate() {
        for systems in [None, Some(vec!["linux".to_owned(), "windows".to_owned()])] {
            let (log, admission) = logged(&mut from);
            let inner = oci_ref::Memory::sparse();
            let to = Arc::new(Probe { inner, systems, ..Probe::default() });
            let options = CopyOptions { admission: Some(admission), ..options.clone() };
            run(&from, what, &to, options).await.unwrap();
            let log = log.lock().unwrap().clone();
            let of = |asked: bool| log.iter().filter(move |entry| entry.0 == asked);
            let read: HashSet<_> = of(false).map(|(_, digest, _)| digest).collect();
            let asked: Vec<_> = of(true).map(|(_, digest, _)| digest).collect();
            assert_eq!(asked.iter().copied().collect::<HashSet<_>>(), read, "case {number}");
            assert_eq!(asked.len(), read.len(), "case {number}: one was asked about twice");
            let root: Vec<_> = of(true).filter(|entry| entry.2 == Reached::Named).collect();
            assert_eq!(root, [&(true, what.digest.clone(), Reached::Named)], "case {number}");
            let refers = of(true).any(|entry| entry.2 == Reached::Refers);
            let wanted = options_refer(number);
            assert_eq!(refers, wanted, "case {number}");
            // All that an index lists comes after it was asked about.
            for (position, (_, digest, _)) in log.iter().enumerate() {
                let manifest = from.inner.manifest(&Target::Digest(digest.clone())).await.unwrap();
                for child in manifest.manifests() {
                    let first = log.iter().position(|entry| entry.1 == child.digest);
                    let asked = log.iter().position(|entry| entry.0 && entry.1 == *digest);
                    if let Some(first) = first.filter(|first| *first > position) {
                        assert!(asked.unwrap() < first, "case {number}");
                    }
                }
            }
        }
    }
}

/// True for the cases of the test above that have something which refers to another.
fn options_refer(number: usize) -> bool {
    number >= 5
}

/// A policy on signatures needs to know what is asked for under which name, and to read beside it.
struct Policy;

#[async_trait]
impl Admission for Policy {
    async fn admit(&self, request: &AdmissionRequest<'_>) -> Result<()> {
        let signatures = request.source.signatures(request.manifest.digest()).await?;
        let name = request.name.map(ToString::to_string).unwrap_or_default();
        let system = request.descriptor.platform.as_ref().map_or("", |platform| &platform.os);
        let expected = format!("{name} {system} {:?}", request.reached);
        match signatures.iter().any(|signature| *signature == expected) {
            true => Ok(()),
            false => Err(Error::new(ErrorCode::Denied, format!("{expected:?} is not signed"))),
        }
    }
}

// covers: C17
#[tokio::test]
async fn a_policy_on_signatures_can_be_written_with_it() {
    let (from, sample) = filled().await;
    let plain = plain_list(&from, &sample).await;
    let to = || Arc::new(Probe { keeps_signatures: true, ..Probe::default() });
    let options = CopyOptions {
        admission: Some(Arc::new(Policy)),
        name: Some("registry.example/team/app:1".parse().unwrap()),
        ..CopyOptions::default()
    };
    let sign = |digest: &Digest, text: &'static str| {
        let signature = vec![Bytes::from_static(text.as_bytes())];
        from.signatures.lock().unwrap().insert(digest.clone(), signature);
    };
    sign(plain.digest(), "registry.example/team/app:1  Named");
    let error = run(&from, plain.descriptor(), &to(), options.clone()).await.unwrap_err();
    let expected = "\"registry.example/team/app:1 linux Listed\" is not signed";
    assert!(error.chain().contains(expected), "{}", error.chain());
    for entry in plain.manifests() {
        sign(&entry.digest, "registry.example/team/app:1 linux Listed");
    }
    run(&from, plain.descriptor(), &to(), options.clone()).await.unwrap();
    // The same bytes under another name are not what was signed.
    let options = CopyOptions { name: None, ..options };
    let error = run(&from, plain.descriptor(), &to(), options).await.unwrap_err();
    assert!(error.is_denied(), "{}", error.chain());
}

/// Several copies share what they were told, and ask before they look at anything.
// covers: C17
#[tokio::test]
async fn copies_between_the_same_repositories_ask_once() {
    let (mut from, sample) = filled().await;
    let (log, admission) = logged(&mut from);
    let systems = Some(vec!["linux".to_owned(), "windows".to_owned()]);
    let inner = oci_ref::Memory::sparse();
    let to = Arc::new(Probe { inner, systems, ..Probe::default() });
    let options = CopyOptions { admission: Some(admission), ..CopyOptions::default() };
    let copier = Copier::new(from.clone(), to, options);
    for (what, tags) in [(&sample.index, vec![tag("a")]), (&sample.index, vec![tag("b")])] {
        copier.copy(&Target::Digest(what.digest.clone()), &tags).await.unwrap();
    }
    copier.copy(&Target::Digest(sample.image.digest.clone()), &[]).await.unwrap();
    let asked: Vec<_> = log.lock().unwrap().iter().filter(|entry| entry.0).cloned().collect();
    let different: HashSet<_> = asked.iter().map(|(_, digest, _)| digest).collect();
    assert_eq!(asked.len(), different.len());
    assert!(asked.len() > 3 && asked[0].1 == sample.index.digest);

    let refused = refuses(&sample.index.digest);
    let options = CopyOptions { admission: Some(refused), ..CopyOptions::default() };
    let to = Arc::new(Probe { systems: Some(vec!["plan9".to_owned()]), ..Probe::default() });
    let copier = Copier::new(from, to.clone(), options);
    let error = copier.copy(&Target::Digest(sample.index.digest.clone()), &[]).await.unwrap_err();
    assert!(error.is_denied(), "{}", error.chain());
    assert!(to.inner.is_empty());
}
