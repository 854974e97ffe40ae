//! The operations that change nothing.

use super::{Operation, Request, Targets, blob_path, manifest_path, referrers, tags};
use crate::scale::content::Image;
use crate::scale::shape::{BASE, HUGE, IMAGES, KNOWN, LATEST, RARE_TYPE, SUBJECT};
use crate::scale::shape::{huge_tag, image_tag, small};

pub(super) const ALL: &[Operation] = &[
    Operation {
        name: "GET by tag, random small repository",
        requests: |targets| {
            let (repository, tag) = (small(targets.small()), image_tag(targets.below(IMAGES)));
            Request::get(manifest_path(&repository, &tag))
        },
    },
    Operation {
        name: "GET index by tag, random small repository",
        requests: |targets| Request::get(manifest_path(&small(targets.small()), LATEST)),
    },
    Operation {
        name: "GET by tag, huge repository",
        requests: |targets| {
            let tag = huge_tag(targets.below(targets.shape.manifests));
            Request::get(manifest_path(HUGE, &tag))
        },
    },
    Operation {
        name: "HEAD by tag, huge repository",
        requests: |targets| {
            let tag = huge_tag(targets.below(targets.shape.manifests));
            Request::head(manifest_path(HUGE, &tag))
        },
    },
    Operation {
        name: "GET by tag, always the same",
        requests: |_| Request::get(manifest_path(SUBJECT, KNOWN)),
    },
    Operation {
        name: "GET shared manifest by tag, random repository",
        requests: |targets| Request::get(manifest_path(&small(targets.small()), BASE)),
    },
    Operation {
        name: "HEAD by digest, small repository",
        requests: |targets| {
            let (repository, image) = own_image(targets);
            Request::head(manifest_path(&repository, image.manifest.digest()))
        },
    },
    Operation {
        name: "GET shared manifest by digest, random repository",
        requests: |targets| {
            let digest = targets.content.shared.digest();
            Request::get(manifest_path(&small(targets.small()), digest))
        },
    },
    Operation {
        name: "HEAD own blob",
        requests: |targets| {
            let (repository, image) = own_image(targets);
            Request::head(blob_path(&repository, image.layer.digest()))
        },
    },
    Operation {
        name: "GET own blob",
        requests: |targets| {
            let (repository, image) = own_image(targets);
            Request::get(blob_path(&repository, image.layer.digest()))
        },
    },
    Operation {
        name: "HEAD shared blob, random repository",
        requests: |targets| {
            let digest = targets.content.base.digest();
            Request::head(blob_path(&small(targets.small()), digest))
        },
    },
    Operation {
        name: "GET shared blob, random repository",
        requests: |targets| {
            let digest = targets.content.base.digest();
            Request::get(blob_path(&small(targets.small()), digest))
        },
    },
    Operation {
        name: "HEAD shared blob, huge repository",
        requests: |targets| Request::head(blob_path(HUGE, targets.content.base.digest())),
    },
    Operation {
        name: "GET unknown tag (404)",
        requests: |targets| {
            let path = manifest_path(&small(targets.small()), "unknown");
            vec![Request::new("GET", path, 404)]
        },
    },
    Operation { name: "tags n=100, first", requests: |_| Request::get(tags(HUGE, "?n=100")) },
    Operation {
        name: "tags n=100, middle",
        requests: |targets| {
            let after = huge_tag(middle(targets, targets.shape.manifests));
            Request::get(tags(HUGE, &format!("?n=100&last={after}")))
        },
    },
    Operation {
        name: "tags n=100, last",
        requests: |targets| {
            let after = huge_tag(targets.shape.manifests - 101);
            Request::get(tags(HUGE, &format!("?n=100&last={after}")))
        },
    },
    Operation {
        name: "tags n=1000, middle",
        requests: |targets| {
            let after = huge_tag(middle(targets, targets.shape.manifests));
            Request::get(tags(HUGE, &format!("?n=1000&last={after}")))
        },
    },
    Operation { name: "tags without n", requests: |_| Request::get(tags(HUGE, "")) },
    Operation {
        name: "catalog n=100, first",
        requests: |_| Request::get("/v2/_catalog?n=100".to_owned()),
    },
    Operation {
        name: "catalog n=100, middle",
        requests: |targets| {
            let after = middle(targets, targets.shape.small());
            catalog_after(after)
        },
    },
    Operation {
        name: "catalog n=100, last",
        requests: |targets| catalog_after(targets.shape.small().saturating_sub(100)),
    },
    Operation {
        name: "referrers, first page",
        requests: |targets| Request::get(referrers(&targets.content.subject.descriptor.digest, "")),
    },
    Operation {
        name: "referrers of a rare type",
        requests: |targets| {
            let query = format!("?artifactType={RARE_TYPE}");
            Request::get(referrers(&targets.content.subject.descriptor.digest, &query))
        },
    },
    Operation {
        name: "referrers of a manifest without any",
        requests: |targets| Request::get(referrers(&targets.content.shared.descriptor.digest, "")),
    },
];

/// An image of a small repository.
fn own_image(targets: &mut Targets<'_>) -> (String, Image) {
    let number = targets.below(targets.shape.manifests);
    (small(number / IMAGES), targets.content.image(number))
}

/// A place in the middle half.
fn middle(targets: &mut Targets<'_>, end: u64) -> u64 {
    end / 4 + targets.below(end / 2)
}

fn catalog_after(number: u64) -> Vec<Request> {
    Request::get(format!("/v2/_catalog?n=100&last={}", small(number)))
}
