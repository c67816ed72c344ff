//! The page and its files, as API Gateway asks for them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::indexing_slicing, reason = "as above")]

use backend::Backend;
use read_model::ReadModelTable;
use serde_json::{Value, json};

/// The answer of a backend whose read model can't be reached: the page has to be there all the same.
async fn get(path: &str, path_with_stage: &str, if_none_match: Option<&str>) -> Value {
    let nowhere = embedded::client("http://127.0.0.1:9");
    let backend = Backend::new(ReadModelTable::new(nowhere, "checkin-read-model"));
    let mut event: Value = serde_json::from_str(include_str!("events/get_patients.json")).unwrap();
    event["path"] = json!(path);
    event["requestContext"]["path"] = json!(path_with_stage);
    event["queryStringParameters"] = json!(null);
    event["multiValueQueryStringParameters"] = json!(null);
    event["headers"] = json!({});
    event["multiValueHeaders"] = json!({});
    if let Some(etag) = if_none_match {
        event["multiValueHeaders"] = json!({ "If-None-Match": [etag] });
    }
    let request = serde_json::from_value(event).unwrap();
    serde_json::to_value(backend.handle(&request).await).unwrap()
}

#[tokio::test]
async fn page_is_html_with_a_strict_policy_whatever_the_read_model_does() {
    let answer = get("/", "/v1/", None).await;
    assert_eq!(answer["statusCode"], 200);
    let headers = &answer["headers"];
    assert_eq!(headers["content-type"], "text/html; charset=utf-8");
    assert_eq!(headers["cache-control"], "no-cache");
    let policy = headers["content-security-policy"].as_str().unwrap();
    assert!(
        policy.starts_with("default-src 'none'; script-src 'self';"),
        "{policy}"
    );
    assert!(!policy.contains("unsafe"), "{policy}");
    let body = answer["body"].as_str().unwrap();
    assert!(body.starts_with("<!doctype html>"), "{body}");

    let etag = headers["etag"].as_str().unwrap();
    let again = get("/", "/v1/", Some(etag)).await;
    assert_eq!(again["statusCode"], 304);
    assert_eq!(again["body"], Value::Null);
}

#[tokio::test]
async fn addresses_lead_to_where_the_request_came_from() {
    for (path_with_stage, base) in [("/v1", "/v1/"), ("/v1/", "/v1/"), ("/", "/"), ("/\"><b>", "/")] {
        let answer = get("/", path_with_stage, None).await;
        let body = answer["body"].as_str().unwrap();
        assert!(
            body.contains(&format!("<base href=\"{base}\">")),
            "{path_with_stage}"
        );
    }
}

#[tokio::test]
async fn each_file_that_the_page_names_is_there_and_may_be_kept_for_good() {
    let page = get("/", "/v1/", None).await;
    let body = page["body"].as_str().unwrap();
    let files: Vec<&str> = body
        .split("=\"assets/")
        .skip(1)
        .map(|rest| rest.split('"').next().unwrap())
        .collect();
    assert!(files.len() > 5, "{files:?}");
    for file in files {
        let path = format!("/assets/{file}");
        let answer = get(&path, &format!("/v1{path}"), None).await;
        assert_eq!(answer["statusCode"], 200, "{file}");
        assert_eq!(answer["isBase64Encoded"], false);
        let headers = &answer["headers"];
        assert_eq!(headers["cache-control"], "public, max-age=31536000, immutable");
        assert_eq!(headers["x-content-type-options"], "nosniff");
        let media_type = headers["content-type"].as_str().unwrap();
        let expected = match file.rsplit('.').next().unwrap() {
            "js" => "text/javascript; charset=utf-8",
            "css" => "text/css; charset=utf-8",
            _ => "image/svg+xml",
        };
        assert_eq!(media_type, expected, "{file}");
    }
}
