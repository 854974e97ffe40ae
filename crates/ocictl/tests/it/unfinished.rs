//! Uploads that are not finished, and room that is kept free.

use super::http::{Http, status};
use super::*;

/// Begins an upload with some bytes, and gives the status.
fn part(http: &mut Http, bytes: &[u8]) -> (String, u16, Option<String>) {
    let upload = http.begin("a/b");
    let answer = http.ask("PATCH", &upload, bytes);
    let again = answer.header("retry-after").map(str::to_owned);
    let upload = answer.header("location").map_or(upload, str::to_owned);
    (upload, answer.status, again)
}

#[test]
fn so_many_uploads_hold_bytes_and_gc_gives_them_up() {
    let scratch = TempDir::new().unwrap();
    let data = scratch.path().join("data");
    let path = data.to_str().unwrap();
    let server = Server::start_with(&data, &["--max-uploads", "3"]);
    let mut http = Http::connect(&server.host);
    let sizes = [10, 100_000, 500_000];
    let open: Vec<_> = sizes.iter().map(|size| part(&mut http, &vec![7; *size])).collect();
    assert!(open.iter().all(|(_, status, _)| *status == 202));
    for size in sizes {
        let (_, status, again) = part(&mut http, &vec![8; size]);
        assert_eq!((status, again.as_deref()), (503, Some("5")), "{size}");
    }
    // What holds nothing is not counted, and those that are there go on.
    assert_eq!(http.push("a/b", b"small").1, 201);
    assert_eq!(http.ask("PATCH", &open[0].0, b"more").status, 202);

    let gc = |more: &[&str]| {
        let said = done(&[&["gc", "--json", "--data", path], more].concat());
        let report: serde_json::Value = serde_json::from_str(said.trim()).unwrap();
        report["uploads"].as_u64().unwrap()
    };
    assert_eq!(gc(&[]), 0);
    assert_eq!(gc(&["--uploads=10m"]), 0);
    assert_eq!(gc(&["--uploads", "--dry-run"]), 3);
    assert_eq!(gc(&["--uploads"]), 3);
    assert_eq!(http.ask("GET", &open[1].0, b"").status, 404);
    assert!(upkeep::files(&data).is_empty());
    let (_, status, _) = part(&mut http, &[9; 40_000]);
    assert_eq!(status, 202);
    drop((http, server));

    // Alone.
    assert_eq!(gc(&["--uploads=10m"]), 0);
    let said = done(&["gc", "--data", path, "--uploads"]);
    assert!(said.contains("1 unfinished uploads given up"), "{said}");
    assert!(upkeep::files(&data).is_empty());
    let said = failed(&["gc", "--data", path, "--uploads=soon"], 2);
    assert!(said.contains("--uploads"), "{said}");
}

#[test]
fn they_hold_so_many_bytes() {
    let scratch = TempDir::new().unwrap();
    let data = scratch.path().join("data");
    let server = Server::start_with(&data, &["--upload-space", "1"]);
    let mut http = Http::connect(&server.host);
    let (upload, status, _) = part(&mut http, &[7; 700_000]);
    assert_eq!(status, 202);
    // In two requests, and in one.
    let (_, status, again) = part(&mut Http::connect(&server.host), &[8; 700_000]);
    assert_eq!((status, again.as_deref()), (503, Some("5")));
    assert_eq!(Http::connect(&server.host).push("a/b", &[9; 700_000]).1, 503);
    // What they had is given back, and what is finished holds nothing.
    let digest = oci_spec_types::Digest::sha256(&[7; 700_000]);
    assert_eq!(http.ask("PUT", &format!("{upload}?digest={digest}"), b"").status, 201);
    assert_eq!(upkeep::files(&data).len(), 1);
    assert_eq!(http.push("a/b", &[9; 700_000]).1, 201);
    for flag in ["--max-uploads=0", "--upload-space=0", "--upload-idle=0s"] {
        failed(&["serve", flag], 2);
    }
}

#[test]
fn an_upload_that_rests_for_too_long_is_over() {
    let scratch = TempDir::new().unwrap();
    let server = Server::start_with(scratch.path(), &["--upload-idle", "1s"]);
    let mut http = Http::connect(&server.host);
    let (upload, status, _) = part(&mut http, b"words");
    assert_eq!(status, 202);
    let until = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while http.ask("GET", &upload, b"").status != 404 {
        assert!(std::time::Instant::now() < until);
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

#[test]
fn below_the_reserve_nothing_is_written_and_the_rest_goes_on() {
    let scratch = TempDir::new().unwrap();
    let data = scratch.path().join("data");
    let manifest = br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;
    let server = Server::start(&data);
    let mut http = Http::connect(&server.host);
    let (small, one) = http.push("a/b", b"small");
    let (large, two) = http.push("a/b", &[7; 100_000]);
    assert_eq!((one, two), (201, 201));
    let rests = part(&mut http, b"words").0;
    drop((http, server));

    // A petabyte.
    let server = Server::start_with(&data, &["--min-free-space", "1000000000"]);
    let host = &server.host;
    let mut http = Http::connect(host);
    assert_eq!(http.push("a/b", b"other").1, 507);
    assert_eq!(Http::connect(host).push("a/b", &[8; 100_000]).1, 507);
    assert_eq!(part(&mut http, b"words").1, 507);
    assert_eq!(http.ask("PUT", "/v2/a/b/manifests/v1", manifest).status, 507);
    let digest = small.rsplit_once('/').unwrap().1;
    let mount = format!("/v2/c/blobs/uploads/?mount={digest}&from=a/b");
    assert_eq!(http.ask("POST", &mount, b"").status, 507);
    assert_eq!(http.ask("GET", &large, b"").body, [7; 100_000]);
    assert_eq!(http.ask("GET", &small, b"").body, b"small");
    assert_eq!(http.ask("DELETE", &rests, b"").status, 204);
    assert_eq!(http.ask("DELETE", &large, b"").status, 202);
    done(&["gc", "--data", data.to_str().unwrap(), "--longest-read", "0s"]);
    assert_eq!(status(host, "GET", "/v2/"), 200);
}
