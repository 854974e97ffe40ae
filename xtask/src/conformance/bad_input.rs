//! Bad input of every kind: the answer blames the request, and nothing breaks.

use serde_json::Value;

use super::answer::Answer;
use super::check::{Check, Stop, Verdict, checks};
use super::content::{Document, IMAGE, INDEX, image, sha256};
use super::context::Registry;
use super::request::Request;

pub(super) const CHECKS: &[Check] = checks![Errors:
    Must V1_1 "bad-repository-names" [4] => repository_names,
    Must V1_1 "bad-references" [5] => references,
    Must V1_1 "bad-blob-digests" [10] => blob_digests,
    Must V1_1 "bad-tags-on-push" [5] => tags_on_push,
    Should V1_1 "bad-manifests" [70, 71] => manifests,
    Should V1_1 "odd-manifests" [69] => odd_manifests,
    Should Dev "bad-queries" [69] => queries,
    Should Dev "unknown-routes" [69] => routes,
    Should Dev "methods-not-allowed" [69] => methods,
];

pub(super) async fn refused(request: Request<'_>) -> Result<Answer, Stop> {
    let answer = request.send().await?;
    answer.expect_refusal()?;
    Ok(answer)
}

/// Names that the regular expression of the specification does not match.
async fn repository_names(registry: &Registry) -> Verdict {
    for name in [
        "UPPER",
        "a/B",
        "-a",
        "a-",
        ".a",
        "a.",
        "_a",
        "a_",
        "a..b",
        "a___b",
        "a._b",
        "a/-b",
        "%C3%A9",
        "a%20b",
        "a%00",
        "..%2F..%2Fetc",
        "%2e%2e/a",
        "a@b",
        "a:b",
        "a%5Cb",
        "~a",
        "a%0d%0ab",
    ] {
        refused(registry.raw("GET", format!("/v2/{name}/manifests/latest"))).await?;
        refused(registry.raw("POST", format!("/v2/{name}/blobs/uploads/")).body("")).await?;
        refused(registry.raw("GET", format!("/v2/{name}/tags/list"))).await?;
    }
    Ok(())
}

fn bad_references() -> Vec<String> {
    let hex = "a".repeat(64);
    let mut all: Vec<_> = [
        ".a",
        "-a",
        "a%20b",
        "a:b",
        "%C3%A9",
        "a%00b",
        "a+b",
        "a%2Fb",
        "..",
        "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "a~",
        "a%0d%0ab",
        "sha256:",
        "sha256:abc",
        ":",
        "@",
        "a@b",
    ]
    .map(str::to_owned)
    .into();
    all.extend([
        "t".repeat(129),
        format!("sha256:{}", "A".repeat(64)),
        format!("sha256:{hex}0"),
        format!("sha256:{hex}%00"),
    ]);
    all
}

async fn references(registry: &Registry) -> Verdict {
    registry.pushed_image().await?;
    for reference in bad_references() {
        refused(registry.get(&format!("manifests/{reference}"))).await?;
        refused(registry.head(&format!("manifests/{reference}"))).await?;
    }
    Ok(())
}

async fn blob_digests(registry: &Registry) -> Verdict {
    registry.pushed_blob(10).await?;
    for digest in bad_references().into_iter().chain(["latest".to_owned(), "md5:00".to_owned()]) {
        refused(registry.get(&format!("blobs/{digest}"))).await?;
        refused(registry.head(&format!("blobs/{digest}"))).await?;
    }
    Ok(())
}

async fn tags_on_push(registry: &Registry) -> Verdict {
    let document = Document::of(&registry.new_image().await?);
    for reference in bad_references() {
        refused(registry.put(&reference, &document)).await?;
    }
    Ok(())
}

/// No manifests at all: refused, with a code that says so.
async fn manifests(registry: &Registry) -> Verdict {
    let mut cut = Document::of(&registry.new_image().await?);
    cut.bytes.truncate(cut.bytes.len() / 2);
    let bad_digest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[{{"mediaType":"{IMAGE}","digest":"no","size":1}}]}}"#
    );
    let documents: [&[u8]; 10] = [
        b"",
        b"{",
        b"not JSON",
        b"[]",
        b"\"text\"",
        b"12",
        b"null",
        b"\xff\xfe\x00",
        &cut.bytes,
        bad_digest.as_bytes(),
    ];
    for bytes in documents {
        let media_type = if bytes == bad_digest.as_bytes() { INDEX } else { IMAGE };
        let document = Document::new(media_type, bytes.to_vec());
        let answer = refused(registry.put(&registry.unique(), &document)).await?;
        answer.expect_code(&["MANIFEST_INVALID", "SIZE_INVALID", "DIGEST_INVALID"])?;
    }
    Ok(())
}

/// Whether a registry takes these is its own affair. It must not break.
async fn odd_manifests(registry: &Registry) -> Verdict {
    let plain = registry.new_image().await?;
    let deep =
        format!("{{\"schemaVersion\":2,\"x\":{}{}}}", "[".repeat(50_000), "]".repeat(50_000));
    let sized =
        |size: &str| plain.to_string().replacen("\"size\":1024", &format!("\"size\":{size}"), 1);
    let image_with_manifests =
        super::content::with(image(&plain["config"], &[]), "manifests", Value::Array(Vec::new()));
    for text in [
        deep,
        sized("-1"),
        sized("1025"),
        sized("1e400"),
        sized("9223372036854775808"),
        sized("\"1024\""),
        format!("{{\"schemaVersion\":1,\"mediaType\":\"{IMAGE}\"}}"),
        format!(
            "{{\"schemaVersion\":\"2\",\"mediaType\":\"{IMAGE}\",\"config\":[],\"layers\":{{}}}}"
        ),
        format!("{{\"mediaType\":\"{INDEX}\",\"schemaVersion\":2,\"manifests\":[]}}"),
        format!("\u{feff}{plain}"),
        image_with_manifests.to_string(),
        "{}".to_owned(),
    ] {
        let document = Document::new(IMAGE, text.into_bytes());
        registry.put(&registry.unique(), &document).send().await?.expect_no_server_error()?;
    }
    let document = Document::of(&plain);
    for media_type in ["", "text", "application/unknown", "a/b/c", ";;;", "application/json"] {
        let document = Document::new(media_type, document.bytes.clone());
        registry.put(&registry.unique(), &document).send().await?.expect_no_server_error()?;
    }
    let untyped =
        registry.client.request("PUT", registry.at(&format!("manifests/{}", registry.unique())));
    untyped.body(document.bytes).send().await?.expect_no_server_error()
}

async fn queries(registry: &Registry) -> Verdict {
    let (_, document) = registry.pushed_image().await?;
    for query in [
        "n=abc",
        "n=-1",
        "n=99999999999999999999999",
        "n=",
        "n=1.5",
        "n=1&n=2",
        "last=%00",
        "last=a%20b",
        "last=",
        "last=%zz",
        "n=1&last=%F0%28",
        "&&&",
        "=",
        "n",
        "%",
        "unknown=1",
    ] {
        registry.get(&format!("tags/list?{query}")).send().await?.expect_no_server_error()?;
        registry
            .get(&format!("referrers/{}?{query}", document.digest))
            .send()
            .await?
            .expect_no_server_error()?;
        registry
            .get(&format!("manifests/{}?{query}", document.digest))
            .header("Accept", IMAGE)
            .send()
            .await?
            .expect_one_of(&[200, 400])?;
        registry.post(&format!("blobs/uploads/?{query}")).send().await?.expect_no_server_error()?;
    }
    Ok(())
}

async fn routes(registry: &Registry) -> Verdict {
    let name = &registry.repository;
    for path in [
        "/v2/unknown".to_owned(),
        format!("/v2/{name}"),
        format!("/v2/{name}/"),
        format!("/v2/{name}/manifests/"),
        format!("/v2/{name}/blobs/"),
        format!("/v2/{name}/tags"),
        format!("/v2/{name}/unknown/latest"),
        "/v2/manifests/latest".to_owned(),
        "/v2/%2e%2e/%2e%2e/etc/passwd".to_owned(),
        format!("/v2/{name}/blobs/uploads/no-such-upload"),
        format!("/v2/{name}/blobs/uploads/..%2F..%2F..%2Fetc%2Fpasswd"),
    ] {
        refused(registry.raw("GET", path)).await?;
    }
    Ok(())
}

/// "The origin server MUST generate an Allow header field in a 405 response."
async fn methods(registry: &Registry) -> Verdict {
    let name = &registry.repository;
    for (method, path) in [
        ("POST", format!("/v2/{name}/manifests/latest")),
        ("PATCH", format!("/v2/{name}/manifests/latest")),
        ("PUT", format!("/v2/{name}/tags/list")),
        ("POST", format!("/v2/{name}/referrers/{}", sha256(b"any"))),
        ("PUT", format!("/v2/{name}/blobs/{}", sha256(b"any"))),
        ("BREW", format!("/v2/{name}/tags/list")),
    ] {
        let answer = registry.raw(method, path).body("").send().await?;
        answer.expect_one_of(&[404, 405, 501])?;
        if answer.status() == 405 {
            answer.need_header("Allow")?;
        }
    }
    Ok(())
}
