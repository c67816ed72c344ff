//! What stands between a client and the function.

use crate::http;
use crate::system::{System, local};

#[test]
fn head_claims_no_other_length_than_get_has() {
    let system = System::start(&["--every", "24h"]);
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
    let system = System::start(&["--every", "24h", "--cors-allow-origin", origin]);
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

    let by_default = System::start(&["--every", "24h"]);
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
