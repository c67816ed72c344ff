//! What stands between a client and the function.

use std::time::Duration;

use rustix::process::Signal;

use crate::http;
use crate::system::{System, local, never};

#[test]
fn head_claims_no_other_length_than_get_has() {
    let system = System::start(&["--every", never(), "--reconcile-every", never()]);
    for path in [
        "/",
        "/patients",
        "/patients/p-001",
        "/health",
        "/openapi.json",
        "/patients/nobody",
        "/nowhere",
        "/pipeline",
    ] {
        let get = http::request(&system.api, "GET", path, "").unwrap();
        let head = http::request(&system.api, "HEAD", path, "").unwrap();
        let of_get = get.header("content-length").unwrap();
        assert_eq!(of_get, get.body.len().to_string(), "{path}");
        let of_head = head.header("content-length");
        assert!(of_head.is_none_or(|length| length == of_get), "{path}: {head:?}");
        assert_eq!((head.status, head.body.as_str()), (get.status, ""), "{path}");
        for name in ["content-type", "etag", "cache-control"] {
            assert_eq!(head.header(name), get.header(name), "{path}: {name}");
        }
    }
}

#[test]
fn pages_of_the_origin_that_was_named_may_read_answers() {
    let origin = "https://clinic.example";
    let system = System::start(&["--every", never(), "--cors-allow-origin", origin]);
    for (method, path) in [
        ("GET", "/patients"),
        ("GET", "/nowhere"),
        ("OPTIONS", "/patients"),
    ] {
        let answer = http::request(&system.api, method, path, "").unwrap();
        assert_eq!(
            answer.header("access-control-allow-origin"),
            Some(origin),
            "{method} {path}"
        );
    }
    let preflight = http::request(&system.api, "OPTIONS", "/patients", "").unwrap();
    assert_eq!(
        preflight.header("access-control-allow-methods"),
        Some("GET, HEAD")
    );

    let by_default = System::start(&["--every", never()]);
    let answer = by_default.get("/patients");
    assert_eq!(answer.header("access-control-allow-origin"), None);

    let refused = local(&["--port", "0", "--cors-allow-origin", "clinic"])
        .output()
        .unwrap();
    let errors = String::from_utf8(refused.stderr).unwrap();
    assert!(
        !refused.status.success() && errors.contains("one origin such as"),
        "{errors}"
    );
}

#[test]
fn a_body_that_is_too_large_is_refused_without_the_function_and_a_method_by_it() {
    let system = System::start(&["--every", never()]);
    system.hold("backend");
    let too_large = "x".repeat(http::TOO_LARGE);
    let refused = http::request(&system.api, "POST", "/patients", &too_large).unwrap();
    assert_eq!(refused.status, 413, "{refused:?}");
    let asked = http::send(&system.api, "POST", "/patients", "{}").unwrap();
    assert!(!asked.is_answered_within(Duration::from_millis(100)));
    system.signal("backend", Signal::CONT);
    let refused = asked.answer().unwrap();
    assert_eq!(
        (refused.status, refused.header("allow")),
        (405, Some("GET, HEAD, OPTIONS"))
    );
}

#[test]
fn an_answer_is_compressed_for_whoever_accepts_it_and_says_the_same() {
    let system = System::start(&["--every", never()]);
    let get = |path: &str, accepted: &str| {
        let header = format!("Accept-Encoding: {accepted}\r\n");
        http::request_with(&system.api, "GET", path, &header, "").unwrap()
    };
    let length = |answer: &http::Answer| answer.header("content-length").unwrap().parse().unwrap();
    for path in ["/", "/patients?limit=100", "/pipeline"] {
        let (plain, compressed) = (get(path, "identity"), get(path, "deflate, gzip"));
        assert_eq!(plain.header("content-encoding"), None, "{path}");
        assert_eq!(compressed.header("content-encoding"), Some("gzip"), "{path}");
        assert_eq!(compressed.header("vary"), Some("Accept-Encoding"), "{path}");
        assert_eq!(compressed.header("etag"), plain.header("etag"), "{path}");
        assert_eq!(compressed.body, plain.body, "{path}");
        let (before, after): (usize, usize) = (length(&plain), length(&compressed));
        assert!(after * 2 < before, "{path}: {after} of {before}");
    }
    assert_eq!(
        get("/health", "gzip").header("content-encoding"),
        None,
        "not worth it"
    );
}
