//! The operations that change something. What a later one needs is not taken away by an earlier
//! one.

use super::{Operation, Request, Targets, blob_path, manifest_path};
use crate::scale::content::Image;
use crate::scale::shape::{HUGE, IMAGES, SUBJECT, huge_tag, small};

pub(super) const SUBJECT_GOES: Operation = Operation {
    name: "delete the subject of all referrers",
    requests: |targets| Request::delete(manifest_path(SUBJECT, targets.content.subject.digest())),
};

pub(super) const ALL: &[Operation] = &[
    Operation {
        name: "push a blob, huge repository",
        requests: |targets| vec![Request::post(HUGE, &new_image(targets).layer)],
    },
    Operation {
        name: "push a manifest of known blobs, huge repository",
        requests: |targets| {
            let number = targets.shape.manifests + targets.fresh();
            let manifest = targets.content.huge(number);
            vec![Request::put(HUGE, &manifest, &huge_tag(number))]
        },
    },
    Operation {
        name: "push an image (3 requests), huge repository",
        requests: |targets| push(&new_image(targets), HUGE),
    },
    Operation {
        name: "push an image (3 requests), random small repository",
        requests: |targets| push(&new_image(targets), &small(targets.small())),
    },
    Operation {
        name: "push an image (mount and 3 requests), new repository",
        requests: |targets| {
            let (repository, from) = (new_repository(targets), small(targets.small()));
            let base = targets.content.base.digest();
            let mut requests = vec![Request::mount(&repository, base, Some(&from))];
            requests.extend(push(&new_image(targets), &repository));
            requests
        },
    },
    Operation {
        name: "push an index (1 request), random small repository",
        requests: |targets| {
            let (number, index) = (targets.small(), targets.fresh());
            let listed = targets.content.listed(number);
            let index = targets.content.index(index, &listed);
            vec![Request::put(&small(number), &index, "new-index")]
        },
    },
    Operation {
        name: "push a referrer to the subject",
        requests: |targets| {
            let referrer = targets.content.new_referrer(targets.fresh());
            vec![Request::put(SUBJECT, &referrer, referrer.digest())]
        },
    },
    Operation {
        name: "move a tag, huge repository",
        requests: |targets| {
            let manifests = targets.shape.manifests;
            let (tag, to) = (huge_tag(targets.below(manifests)), targets.below(manifests));
            vec![Request::put(HUGE, &targets.content.huge(to), &tag)]
        },
    },
    Operation {
        name: "mount an own blob to a new repository",
        requests: |targets| {
            let number = targets.below(targets.shape.manifests);
            let (to, from) = (new_repository(targets), small(number / IMAGES));
            let layer = targets.content.image(number).layer;
            vec![Request::mount(&to, layer.digest(), Some(&from))]
        },
    },
    Operation {
        name: "mount the shared blob to a new repository",
        requests: |targets| {
            let (to, from) = (new_repository(targets), small(targets.small()));
            vec![Request::mount(&to, targets.content.base.digest(), Some(&from))]
        },
    },
    Operation {
        name: "mount the shared blob, without from",
        requests: |targets| {
            let to = new_repository(targets);
            vec![Request::mount(&to, targets.content.base.digest(), None)]
        },
    },
    Operation {
        name: "delete a tag, huge repository",
        requests: |targets| {
            let half = targets.shape.manifests / 2;
            let tag = huge_tag(targets.once(half));
            Request::delete(manifest_path(HUGE, &tag))
        },
    },
    Operation {
        name: "delete a manifest, huge repository",
        requests: |targets| {
            let half = targets.shape.manifests / 2;
            let manifest = targets.content.huge(half + targets.once(half));
            Request::delete(manifest_path(HUGE, manifest.digest()))
        },
    },
    Operation {
        name: "delete a manifest, small repository",
        requests: |targets| {
            // The last image, which no index lists.
            let number = targets.once(targets.shape.small());
            let image = targets.content.image(number * IMAGES + IMAGES - 1);
            Request::delete(manifest_path(&small(number), image.manifest.digest()))
        },
    },
    Operation {
        name: "delete an index, small repository",
        requests: |targets| {
            let number = targets.once(targets.shape.small());
            let index = targets.content.index(number, &targets.content.listed(number));
            Request::delete(manifest_path(&small(number), index.digest()))
        },
    },
    Operation {
        name: "delete a blob, refused, huge repository",
        requests: |targets| {
            let path = blob_path(HUGE, targets.content.base.digest());
            vec![Request::new("DELETE", path, 403)]
        },
    },
];

fn new_image(targets: &mut Targets<'_>) -> Image {
    targets.content.new_image(targets.fresh())
}

fn new_repository(targets: &mut Targets<'_>) -> String {
    format!("new/r{:012}", targets.fresh())
}

/// Two blobs, and the manifest by a tag. The base is there.
fn push(image: &Image, repository: &str) -> Vec<Request> {
    vec![
        Request::post(repository, &image.config),
        Request::post(repository, &image.layer),
        Request::put(repository, &image.manifest, "new"),
    ]
}
