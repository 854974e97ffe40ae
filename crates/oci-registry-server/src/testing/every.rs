//! Lists of all that can go wrong and all that can be asked for, for tests that try everything.

use std::time::Duration;

use http::header::{CONTENT_ENCODING, CONTENT_TYPE, LOCATION, RANGE, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use oci_spec_types::ErrorCode;

use super::{BreakAt, Endpoint, Fault, FaultAnswer};
use crate::respond;

impl Fault {
    /// Faults of every kind, each with a name, for tests that try them all on something. None of them holds anybody up
    /// for more than milliseconds. `other` is the URL of another registry, for those that lead elsewhere. Later versions
    /// have more.
    pub fn every(other: &str) -> Vec<(String, Self)> {
        let mut all: Vec<(String, Self)> = Vec::new();
        let mut add = |name: &str, fault: Self| all.push((name.to_owned(), fault));
        for status in
            [400, 401, 403, 404, 405, 406, 408, 412, 413, 416, 425, 429, 500, 501, 503, 507]
        {
            let status = StatusCode::from_u16(status).unwrap_or_default();
            add(&format!("status {}", status.as_u16()), FaultAnswer::new(status).into());
        }
        let coded = FaultAnswer::new(StatusCode::FORBIDDEN).error(ErrorCode::Denied);
        add("an error with a code", coded.into());
        let page = FaultAnswer::new(StatusCode::OK)
            .body(HeaderValue::from_static("text/html"), "<html>please log in</html>");
        add("a page", page.into());
        let busy = FaultAnswer::new(StatusCode::TOO_MANY_REQUESTS).retry_after(Duration::ZERO);
        add("busy", busy.into());
        let nowhere =
            FaultAnswer::redirect(StatusCode::TEMPORARY_REDIRECT, "ftp://nowhere.invalid/");
        add("redirect to nowhere", nowhere.into());
        add(
            "redirect in circles",
            FaultAnswer::redirect(StatusCode::TEMPORARY_REDIRECT, "").into(),
        );
        add("redirect to another", Self::redirect_to(other));
        // Where machines in clouds have their secrets. A client must not ask there.
        let metadata = "http://169.254.169.254";
        add("redirect to a link-local address", Self::redirect_to(metadata));
        add("location on a link-local address", Self::location_on(metadata));
        for (name, at) in [
            ("request", BreakAt::Request),
            ("answer", BreakAt::Answer),
            ("body", BreakAt::Body(10)),
            ("late body", BreakAt::Body(100_000)),
            ("end", BreakAt::End),
        ] {
            add(&format!("reset at {name}"), Self::reset(at));
            add(&format!("close at {name}"), Self::close(at));
        }
        add("latency", Self::latency(Duration::from_millis(2)));
        add("slow", Self::slow(64 << 10, Duration::from_millis(1)));
        add("length too large", Self::wrong_length(5));
        add("length too small", Self::wrong_length(-5));
        add("extra bytes", Self::extra_bytes(7));
        add("corrupt", Self::corrupt(3));
        for status in [StatusCode::OK, StatusCode::ACCEPTED] {
            add(&format!("answered {}", status.as_u16()), Self::status(status));
        }
        add("encoded", Self::header(CONTENT_ENCODING, HeaderValue::from_static("gzip")));
        add("another type", Self::header(CONTENT_TYPE, HeaderValue::from_static("text/html")));
        for name in [
            LOCATION,
            RANGE,
            CONTENT_TYPE,
            respond::CONTENT_DIGEST,
            respond::SUBJECT,
            respond::FILTERS_APPLIED,
            WWW_AUTHENTICATE,
        ] {
            add(&format!("without {name}"), Self::without_header(name));
        }
        add("wrong digest", Self::wrong_digest());
        add("wrong content range", Self::wrong_content_range());
        add("whole for range", Self::whole_for_range());
        add("no mount", Self::no_mount());
        add("null lists", Self::null_lists());
        add("location relative", Self::location_relative());
        add("location on another", Self::location_on(other));
        add("location with a query", Self::location_query("_state=a%2Fb"));
        all
    }
}

impl Endpoint {
    /// All of them, but for [`Endpoint::Other`].
    pub const EVERY: [Self; 18] = [
        Self::Ping,
        Self::Catalog,
        Self::PullBlob,
        Self::PullManifest,
        Self::BeginUpload,
        Self::PushBlob,
        Self::PatchUpload,
        Self::CloseUpload,
        Self::PushManifest,
        Self::ListTags,
        Self::DeleteTag,
        Self::DeleteManifest,
        Self::DeleteBlob,
        Self::MountBlob,
        Self::ListReferrers,
        Self::UploadStatus,
        Self::CancelUpload,
        Self::Token,
    ];
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::fault::Kind;
    use super::*;

    const KINDS: usize = 17;

    /// Whoever adds a kind is asked for its number here, and for one more in `KINDS`.
    fn number(kind: &Kind) -> usize {
        match kind {
            Kind::Answer(_) => 0,
            Kind::RedirectTo(_) => 1,
            Kind::Break(..) => 2,
            Kind::Latency(_) => 3,
            Kind::Slow { .. } => 4,
            Kind::Length(_) => 5,
            Kind::Extra(_) => 6,
            Kind::Corrupt(_) => 7,
            Kind::Header(..) => 8,
            Kind::NoHeader(_) => 9,
            Kind::WrongDigest => 10,
            Kind::WrongContentRange => 11,
            Kind::WholeForRange => 12,
            Kind::NoMount => 13,
            Kind::NullLists => 14,
            Kind::Location(_) => 15,
            Kind::Status(_) => 16,
        }
    }

    #[test]
    fn no_kind_of_fault_is_forgotten() {
        let all = Fault::every("http://other.example");
        let kinds: BTreeSet<usize> = all.iter().map(|(_, fault)| number(&fault.0)).collect();
        assert_eq!(kinds, (0..KINDS).collect());
        let names: BTreeSet<&String> = all.iter().map(|(name, _)| name).collect();
        assert_eq!(names.len(), all.len(), "names are used once");
    }

    #[test]
    fn no_endpoint_is_forgotten() {
        let number = |endpoint: Endpoint| endpoint as usize;
        let listed: BTreeSet<usize> = Endpoint::EVERY.into_iter().map(number).collect();
        assert_eq!(listed, (0..number(Endpoint::Other)).collect(), "`Other` is the last");
    }
}
