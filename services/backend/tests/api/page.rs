//! The page for people, and what it loads.

use serde_json::{Value, json};

use crate::fixture::{Api, event};

#[tokio::test]
async fn the_page_is_html_with_a_strict_policy_whatever_the_read_model_does() {
    let api = Api::empty().await;
    let delete = api.client.delete_table().table_name(embedded::READ_MODEL_TABLE);
    delete.send().await.unwrap();
    let answer = api.send(event("GET", "/", &[])).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.headers["content-type"], "text/html; charset=utf-8");
    assert_eq!(answer.headers["cache-control"], "no-cache");
    let policy = answer.headers["content-security-policy"].as_str().unwrap();
    assert!(
        policy.starts_with("default-src 'none'; script-src 'self';"),
        "{policy}"
    );
    assert!(!policy.contains("unsafe"), "{policy}");
    assert!(answer.body.unwrap().starts_with("<!doctype html>"));
}

#[tokio::test]
async fn the_page_may_use_nothing_of_the_device_and_ignores_what_others_hang_on_to_its_address() {
    let api = Api::empty().await;
    let plain = api.send(event("GET", "/", &[])).await;
    let policy = plain.headers["permissions-policy"].as_str().unwrap();
    assert!(policy.contains("camera=()") && !policy.contains('*'), "{policy}");
    let query = [("utm_source", "mail"), ("limit", "x"), ("limit", "y")];
    let linked = api.send(event("GET", "/", &query)).await;
    assert_eq!((linked.status, linked.body), (200, plain.body));
}

#[tokio::test]
async fn its_addresses_lead_to_where_the_request_came_from() {
    let api = Api::empty().await;
    for (path_with_stage, base) in [("/v1", "/v1/"), ("/v1/", "/v1/"), ("/", "/"), ("/\"><b>", "/")] {
        let mut event = event("GET", "/", &[]);
        event["requestContext"]["path"] = json!(path_with_stage);
        let body = api.send(event).await.body.unwrap();
        assert!(
            body.contains(&format!("<base href=\"{base}\">")),
            "{path_with_stage}"
        );
    }
}

#[tokio::test]
async fn each_file_that_it_names_is_there_and_may_be_kept_for_good() {
    let api = Api::empty().await;
    let page = api.send(event("GET", "/", &[])).await.body.unwrap();
    let files: Vec<&str> = page
        .split("=\"assets/")
        .skip(1)
        .map(|rest| rest.split('"').next().unwrap())
        .collect();
    assert!(files.len() > 5, "{files:?}");
    for file in files {
        // Not by way of the contract, which does not name them.
        let request = serde_json::from_value(event("GET", &format!("/assets/{file}"), &[])).unwrap();
        let answer = serde_json::to_value(api.backend.handle(&request).await).unwrap();
        assert_eq!(answer["statusCode"], 200, "{file}");
        assert_eq!(answer["isBase64Encoded"], false);
        let headers = &answer["headers"];
        assert_eq!(headers["cache-control"], "public, max-age=31536000, immutable");
        assert_eq!(headers["x-content-type-options"], "nosniff");
        let expected = match file.rsplit('.').next().unwrap() {
            "js" => "text/javascript; charset=utf-8",
            "css" => "text/css; charset=utf-8",
            _ => "image/svg+xml",
        };
        assert_eq!(headers["content-type"], expected, "{file}");
        assert_ne!(answer["body"], Value::Null);
    }
}
