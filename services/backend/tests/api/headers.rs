//! What is said around the body.

use serde_json::{Value, json};

use crate::fixture::{Answer, Api, CANARY, G1, NOW, event};

const PATHS: [&str; 5] = [
    "/patients",
    "/patients/p-1",
    "/patients/p-1/checkins",
    "/health",
    "/openapi.json",
];

async fn api() -> Api {
    let api = Api::new().await;
    api.put_patient(G1, "p-1", &[0, 10, 20]).await;
    api.put_patient(G1, "p-2", &[]).await;
    api
}

fn header<'a>(answer: &'a Answer, name: &str) -> Option<&'a str> {
    answer.headers.get(name).and_then(Value::as_str)
}

#[tokio::test]
async fn head_is_get_without_the_body() {
    let api = api().await;
    let nowhere = ["/nowhere", "/patients/p-9", "/patients/p-1/checkins/1"];
    for path in PATHS.into_iter().chain(nowhere) {
        for query in [&[][..], &[("limit", "1")], &[("limit", "0")]] {
            let get = api.send(event("GET", path, query)).await;
            let head = api.send(event("HEAD", path, query)).await;
            assert_eq!(
                (head.status, &head.headers),
                (get.status, &get.headers),
                "{path} {query:?}"
            );
            assert_eq!(head.body, None);
            assert!(get.body.is_some());
        }
    }
}

#[tokio::test]
async fn head_tells_that_nothing_has_changed() {
    let api = api().await;
    for path in PATHS {
        let mut asked = event("HEAD", path, &[]);
        let etag = api.send(asked.clone()).await.headers["etag"].clone();
        asked["multiValueHeaders"]["if-none-match"] = json!([etag]);
        assert_eq!(api.send(asked).await.status, 304, "{path}");
    }
}

#[tokio::test]
async fn options_tells_the_methods_and_needs_no_data() {
    let api = Api::empty().await;
    for path in PATHS {
        let answer = api.send(event("OPTIONS", path, &[("any", "thing")])).await;
        assert_eq!(
            (answer.status, header(&answer, "allow"), &answer.body),
            (204, Some("GET, HEAD, OPTIONS"), &None),
            "{path}"
        );
    }
    let answer = api.send(event("OPTIONS", "/nowhere", &[])).await;
    assert_eq!(answer.status, 404);
}

#[tokio::test]
async fn pages_of_other_origins_may_read_only_what_the_operator_allows() {
    let of_cors = |answer: &Answer| {
        let headers = answer.headers.as_object().unwrap();
        let of_cors = headers
            .iter()
            .filter(|(name, _)| name.starts_with("access-control-"));
        of_cors.map(|(name, _)| name.clone()).collect::<Vec<_>>()
    };
    let api = api().await;
    for method in ["GET", "HEAD", "OPTIONS", "POST"] {
        let answer = api.send(event(method, "/patients", &[])).await;
        assert_eq!(of_cors(&answer), [""; 0], "{method}");
    }
    for origin in ["*", "https://clinic.example"] {
        let api = self::api().await.with(NOW, Some(origin.parse().unwrap()));
        for (method, path) in [
            ("GET", "/patients"),
            ("HEAD", "/patients/p-9"),
            ("POST", "/patients"),
            ("GET", "/nowhere"),
        ] {
            let answer = api.send(event(method, path, &[])).await;
            assert_eq!(header(&answer, "access-control-allow-origin"), Some(origin));
            let exposed = header(&answer, "access-control-expose-headers").unwrap();
            for name in ["etag", "link", "retry-after", "x-correlation-id"] {
                assert!(exposed.contains(name), "{exposed}");
            }
            assert_eq!(of_cors(&answer).len(), 2);
        }
        let answer = api.send(event("OPTIONS", "/patients", &[])).await;
        assert_eq!(answer.status, 204);
        assert_eq!(header(&answer, "access-control-allow-origin"), Some(origin));
        assert_eq!(header(&answer, "access-control-allow-methods"), Some("GET, HEAD"));
        let sent = header(&answer, "access-control-allow-headers").unwrap();
        assert!(sent.contains("if-none-match") && sent.contains("x-correlation-id"));
        assert_eq!(header(&answer, "access-control-allow-credentials"), None);
    }
}

#[tokio::test]
async fn the_next_page_is_linked_until_the_last_one() {
    let api = api().await;
    for (path, query) in [
        ("/patients", &[("limit", "1")][..]),
        ("/patients", &[("limit", "1"), ("sort", "recent")]),
        (
            "/patients/p-1/checkins",
            &[
                ("limit", "1"),
                ("from", "2025-11-24T17:00:00+01:00"),
                ("minVersion", "2"),
            ],
        ),
    ] {
        let mut asked: Vec<(String, String)> = query
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let mut pages = 0;
        loop {
            let borrowed: Vec<(&str, &str)> = asked.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
            let answer = api.send(event("GET", path, &borrowed)).await;
            let body: Value = serde_json::from_str(answer.body.as_deref().unwrap()).unwrap();
            pages += 1;
            let Some(link) = header(&answer, "link") else {
                assert_eq!(body["nextCursor"], Value::Null);
                break;
            };
            let next = link
                .strip_prefix("<?")
                .unwrap()
                .strip_suffix(">; rel=\"next\"")
                .unwrap();
            asked = next
                .split('&')
                .map(|pair| {
                    let (name, value) = pair.split_once('=').unwrap();
                    let value = percent_encoding::percent_decode_str(value).decode_utf8().unwrap();
                    (name.to_owned(), value.into_owned())
                })
                .collect();
            let cursor = body["nextCursor"].as_str().unwrap().to_owned();
            assert_eq!(asked.last(), Some(&("cursor".to_owned(), cursor)));
            for (name, value) in query {
                assert!(
                    asked.contains(&((*name).to_owned(), (*value).to_owned())),
                    "{next}"
                );
            }
        }
        assert_eq!(pages, if path == "/patients" { 2 } else { 3 }, "{path} {query:?}");
    }
}

#[tokio::test]
async fn what_names_a_patient_is_kept_by_no_cache() {
    let api = api().await;
    let keep = async |path: &str| {
        let answer = api.send(event("GET", path, &[])).await;
        header(&answer, "cache-control").unwrap().to_owned()
    };
    for path in [
        "/patients",
        "/patients/p-1",
        "/patients/p-1/checkins",
        "/health",
        "/patients/p-9",
    ] {
        assert_eq!(keep(path).await, "no-store", "{path}");
    }
    assert_eq!(keep("/openapi.json").await, "no-cache");
}

#[tokio::test]
async fn every_answer_tells_browsers_to_be_careful() {
    let api = api().await;
    for (method, path) in [
        ("GET", "/patients"),
        ("HEAD", "/patients/p-1"),
        ("OPTIONS", "/health"),
        ("GET", "/nowhere"),
        ("PUT", "/patients"),
    ] {
        let answer = api.send(event(method, path, &[])).await;
        assert_eq!(header(&answer, "x-content-type-options"), Some("nosniff"));
        assert_eq!(header(&answer, "referrer-policy"), Some("no-referrer"));
        assert_eq!(
            header(&answer, "cross-origin-resource-policy"),
            Some("same-origin")
        );
        assert_eq!(
            header(&answer, "strict-transport-security"),
            Some("max-age=31536000")
        );
        let policy = (method != "OPTIONS").then_some("default-src 'none'; frame-ancestors 'none'");
        assert_eq!(
            header(&answer, "content-security-policy"),
            policy,
            "{method} {path}"
        );
    }
}

#[tokio::test]
async fn an_answer_has_the_correlation_id_of_its_request() {
    let api = api().await;
    let correlation_id = async |path: &str, sent: &str| {
        let mut event = event("GET", path, &[]);
        event["multiValueHeaders"]["X-Correlation-Id"] = json!([sent]);
        let answer = api.send(event).await;
        header(&answer, "x-correlation-id").unwrap().to_owned()
    };
    let sent = "11111111-2222-3333-4444-555555555555";
    for path in ["/patients", "/patients/p-9", "/nowhere"] {
        assert_eq!(correlation_id(path, sent).await, sent);
        // The gateway's id of the request.
        let made = correlation_id(path, CANARY).await;
        assert_eq!(made, "0f9e8d7c-6b5a-4f3e-9d2c-1b0a99887766");
    }
}
