//! Error bodies, and what holds for every answer of the run. These checks come last.

use serde_json::Value;

use super::answer::Answer;
use super::bad_input::refused;
use super::check::{Check, Stop, Verdict, checks};
use super::content::sha256;
use super::context::Registry;

pub(super) const CHECKS: &[Check] = checks![Errors:
    Should V1_1 "error-code-of-missing-manifest" [71] => code_of_missing_manifest,
    Should V1_1 "error-code-of-missing-blob" [71] => code_of_missing_blob,
    Should V1_1 "error-code-of-bad-name" [71] => code_of_bad_name,
    Should V1_1 "error-code-of-bad-digest" [71] => code_of_bad_digest,
    Must V1_1 "error-format" [70] => format,
    Must V1_1 "error-codes" [71] => codes,
    Should V1_1 "error-messages" [72] => messages,
    Should Dev "retry-after" [73] => retry_after,
    Must V1_1 "warning-format" [74, 75] => warnings,
    Must V1_1 "warning-size" [76] => warning_size,
    Should Dev "no-server-errors" [69] => no_server_errors,
];

async fn code(registry: &Registry, path: &str, expected: &[&str]) -> Verdict {
    let answer = refused(registry.get(path)).await?;
    if is_json(&answer) { answer.expect_code(expected) } else { Ok(()) }
}

async fn code_of_missing_manifest(registry: &Registry) -> Verdict {
    registry.pushed_image().await?;
    code(registry, &format!("manifests/{}", registry.unique()), &["MANIFEST_UNKNOWN"]).await
}

async fn code_of_missing_blob(registry: &Registry) -> Verdict {
    registry.pushed_blob(10).await?;
    code(registry, &format!("blobs/{}", sha256(registry.unique().as_bytes())), &["BLOB_UNKNOWN"])
        .await
}

async fn code_of_bad_name(registry: &Registry) -> Verdict {
    let answer = refused(registry.raw("GET", "/v2/UPPER/manifests/latest")).await?;
    if is_json(&answer) { answer.expect_code(&["NAME_INVALID", "NAME_UNKNOWN"]) } else { Ok(()) }
}

async fn code_of_bad_digest(registry: &Registry) -> Verdict {
    let upload = registry.begin_upload("").await?;
    let closed =
        registry.close_upload(&upload, &sha256(registry.unique().as_bytes()), b"other").await?;
    closed.expect_refusal()?;
    if is_json(&closed) { closed.expect_code(&["DIGEST_INVALID"]) } else { Ok(()) }
}

fn is_json(answer: &Answer) -> bool {
    answer.header("Content-Type").is_some_and(|value| value.contains("json"))
        || serde_json::from_slice::<Value>(answer.body()).is_ok_and(|body| body.is_object())
}

/// Goes through every 4xx with a JSON body that this run has seen.
fn each_error(registry: &Registry, look: impl Fn(&Answer) -> Verdict) -> Verdict {
    let answers = registry.client.answers();
    let errors = answers
        .iter()
        .filter(|answer| (400..500).contains(&answer.status()) && !answer.body().is_empty());
    errors.filter(|answer| is_json(answer)).try_for_each(look)
}

fn entries(answer: &Answer) -> Result<Vec<Value>, Stop> {
    let body = answer.json()?;
    let errors = body.get("errors").and_then(Value::as_array).filter(|errors| !errors.is_empty());
    errors.cloned().ok_or_else(|| answer.fail("a body {\"errors\": [...]}", body.to_string()))
}

async fn format(registry: &Registry) -> Verdict {
    each_error(registry, |answer| {
        for error in entries(answer)? {
            let code = error.get("code").and_then(Value::as_str).unwrap_or_default();
            if code.is_empty()
                || !code.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_')
            {
                return Err(
                    answer.fail("a code of upper case letters and underscores", error.to_string())
                );
            }
        }
        Ok(())
    })
}

/// The fourteen of the specification, and the two of Docker's that it tolerates.
const CODES: [&str; 16] = [
    "BLOB_UNKNOWN",
    "BLOB_UPLOAD_INVALID",
    "BLOB_UPLOAD_UNKNOWN",
    "DIGEST_INVALID",
    "MANIFEST_BLOB_UNKNOWN",
    "MANIFEST_INVALID",
    "MANIFEST_UNKNOWN",
    "NAME_INVALID",
    "NAME_UNKNOWN",
    "SIZE_INVALID",
    "UNAUTHORIZED",
    "DENIED",
    "UNSUPPORTED",
    "TOOMANYREQUESTS",
    "TAG_INVALID",
    "MANIFEST_UNVERIFIED",
];

async fn codes(registry: &Registry) -> Verdict {
    each_error(registry, |answer| {
        let unknown = answer.error_codes().into_iter().find(|code| !CODES.contains(&code.as_str()));
        unknown.map_or(Ok(()), |code| Err(answer.fail("one of the specification's 14 codes", code)))
    })
}

async fn messages(registry: &Registry) -> Verdict {
    each_error(registry, |answer| {
        let bad = entries(answer)?
            .into_iter()
            .find(|error| error.get("message").is_some_and(|text| !text.is_string()));
        bad.map_or(
            Ok(()),
            |error| Err(answer.fail("a message that is a string", error.to_string())),
        )
    })
}

async fn retry_after(registry: &Registry) -> Verdict {
    let answers = registry.client.answers();
    let mut busy = answers.iter().filter(|answer| answer.status() == 429);
    busy.try_for_each(|answer| answer.need_header("Retry-After").map(drop))
}

async fn warnings(registry: &Registry) -> Verdict {
    for answer in registry.client.answers().iter() {
        for warning in answer.reply.all("Warning") {
            let text = warning.strip_prefix("299 - \"");
            // A date would follow the quoted text.
            if !text.is_some_and(|text| {
                text.ends_with('"') && !text.trim_end_matches('"').contains("\" \"")
            }) {
                return Err(answer.fail("Warning: 299 - \"text\", without a date", warning));
            }
        }
    }
    Ok(())
}

async fn warning_size(registry: &Registry) -> Verdict {
    for answer in registry.client.answers().iter() {
        let size: usize = answer.reply.all("Warning").map(str::len).sum();
        if size > 4096 {
            return Err(answer.fail("at most 4096 bytes of warnings", format!("{size} bytes")));
        }
    }
    Ok(())
}

async fn no_server_errors(registry: &Registry) -> Verdict {
    registry.client.answers().iter().try_for_each(Answer::expect_no_server_error)
}
