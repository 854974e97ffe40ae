//! Skewed content, made in SQL, since it would take long to push.

/// The number of repositories that share content, of manifests of the largest one, and of referrers
/// of one subject.
pub(super) const MANY: usize = 10_000;

/// Fills the tables with what would take long to push.
pub(super) fn fill(layer: &str, shared: &str, subject: &str) -> String {
    let digest =
        |prefix: &str| format!("'sha256:' || encode(sha256(('{prefix}' || n)::bytea), 'hex')");
    let (huge, referrer, index) = (digest("huge"), digest("referrer"), digest("index"));
    let manifests = |digest: &str, many: usize| {
        format!(
            "INSERT INTO manifest (digest, size, data)
             SELECT {digest}, 2, '{{}}' FROM generate_series(1, {many}) AS n;"
        )
    };
    let link = |repository: &str, digest: &str, many: usize| {
        format!(
            "INSERT INTO repository_manifest (repository, manifest, media_type)
             SELECT repository.id, manifest.id, 'application/x' FROM generate_series(1, {many}) AS n
             JOIN manifest ON manifest.digest = {digest}
             JOIN repository ON repository.name = '{repository}';"
        )
    };
    format!(
        "INSERT INTO repository (name) SELECT 'many/' || n FROM generate_series(1, {MANY}) AS n;
         INSERT INTO repository_blob (repository, blob) SELECT repository.id, blob.id
             FROM repository, blob WHERE name LIKE 'many/%' AND digest IN ('{layer}', '{CONFIG}');
         INSERT INTO repository_manifest (repository, manifest, media_type) SELECT repository.id, manifest.id,
             'application/vnd.oci.image.manifest.v1+json'
             FROM repository, manifest WHERE name LIKE 'many/%' AND digest = '{shared}';
         INSERT INTO manifest_blob (parent, repository, blob) SELECT link.id, link.repository, held.blob
             FROM repository JOIN repository_manifest AS link ON link.repository = repository.id
             JOIN repository_blob AS held ON held.repository = repository.id WHERE name LIKE 'many/%';
         INSERT INTO tag (repository, name, manifest) SELECT repository, 'latest', link.id
             FROM repository_manifest AS link JOIN repository ON repository.id = repository WHERE name LIKE 'many/%';
         {huge_manifests} {huge_links}
         INSERT INTO tag (repository, name, manifest) SELECT link.repository, 'v' || link.id, link.id
             FROM repository_manifest AS link JOIN repository ON repository.id = repository
             WHERE repository.name = 'huge' AND media_type = 'application/x';
         INSERT INTO manifest_blob (parent, repository, blob) SELECT link.id, link.repository, blob.id
             FROM repository_manifest AS link JOIN repository ON repository.id = link.repository
             JOIN blob ON blob.digest = '{layer}'
             WHERE repository.name = 'huge' AND media_type = 'application/x';
         {index_manifests} {index_links}
         INSERT INTO manifest_child (parent, repository, child) SELECT link.id, link.repository, '{shared}'
             FROM generate_series(1, {MANY}) AS n JOIN manifest ON digest = {index}
             JOIN repository_manifest AS link ON link.manifest = manifest.id;
         INSERT INTO tag (repository, name, manifest) SELECT link.repository, 'i' || link.id, link.id
             FROM manifest_child JOIN repository_manifest AS link ON link.id = manifest_child.parent;
         {referrer_manifests} {referrer_links}
         INSERT INTO referrer (repository, subject, digest, artifact_type, manifest, descriptor)
             SELECT link.repository, '{subject}', digest, 'application/x', link.id,
                 '{{\"mediaType\":\"application/x\",\"digest\":\"' || digest || '\",\"size\":2}}'
             FROM generate_series(1, {MANY}) AS n JOIN manifest ON digest = {referrer}
             JOIN repository_manifest AS link ON link.manifest = manifest.id;",
        huge_manifests = manifests(&huge, MANY),
        huge_links = link("huge", &huge, MANY),
        index_manifests = manifests(&index, MANY),
        index_links = link("huge", &index, MANY),
        referrer_manifests = manifests(&referrer, MANY),
        referrer_links = link("subjects", &referrer, MANY),
    )
}

/// The digest of `{}`, which is the config of images here.
pub(super) const CONFIG: &str =
    "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
