//! `openapi.json` itself: it describes all that is answered.

use std::collections::BTreeSet;

use read_model::Progress;
use read_model::item::{PROGRESS, freshness_pk};
use serde_json::{Value, json};

use crate::contract::{Answered, Contract};
use crate::fixture::{Api, G1, Keyed, at, event};
use crate::schema;

/// Statuses with which API Gateway answers by itself.
const OF_THE_GATEWAY: [&str; 5] = ["403", "413", "429", "500", "504"];

/// All that the document promises of the service.
fn promised(document: &Value) -> Answered {
    let mut promised = Answered::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            for status in operation["responses"].as_object().unwrap().keys() {
                if !OF_THE_GATEWAY.contains(&status.as_str()) {
                    promised.insert((method.to_uppercase(), path.clone(), status.parse().unwrap()));
                }
            }
        }
    }
    promised
}

#[tokio::test]
async fn every_answer_of_the_document_is_given_and_no_other() {
    let api = Api::new().await;
    api.put_patient(G1, "p-1", &[0, 10]).await;
    let ask = async |method: &str, path: &str, query: &[(&str, &str)], if_none_match: &str| {
        let mut event = event(method, path, query);
        event["multiValueHeaders"]["If-None-Match"] = json!([if_none_match]);
        // The contract is checked on the way.
        api.send(event).await;
    };
    let paths = [
        "/patients",
        "/patients/p-1",
        "/patients/p-1/checkins",
        "/health",
        "/openapi.json",
        "/",
    ];
    for method in ["GET", "HEAD", "OPTIONS"] {
        for path in paths {
            ask(method, path, &[], "").await;
            ask(method, path, &[], "*").await;
            ask(method, path, &[("unknown", "1")], "").await;
        }
        ask(method, "/patients/p-1", &[("minVersion", "9")], "").await;
        ask(method, "/patients/p-1/checkins", &[("minVersion", "9")], "").await;
        ask(method, "/patients/p-2", &[], "").await;
        ask(method, "/patients/p-2/checkins", &[], "").await;
    }
    // A projection that stalls.
    let content = Progress {
        recorded_at: at(0),
        applied_at: at(9),
        software: None,
    };
    let pk = freshness_pk(G1);
    api.put(Keyed {
        pk,
        sk: PROGRESS,
        content,
    })
    .await;
    for method in ["GET", "HEAD"] {
        ask(method, "/health", &[], "").await;
    }
    // And a read model that is gone.
    let delete = api.client.delete_table().table_name(embedded::READ_MODEL_TABLE);
    delete.send().await.unwrap();
    for method in ["GET", "HEAD"] {
        ask(method, "/patients", &[], "").await;
    }

    assert_eq!(api.answered(), promised(&Contract::new().document));
}

#[tokio::test]
async fn the_document_is_served_as_it_is() {
    let api = Api::empty().await;
    let answer = api.send(event("GET", "/openapi.json", &[])).await;
    assert_eq!(answer.body.unwrap(), include_str!("../../openapi.json"));
    assert_eq!(answer.headers["cache-control"], "no-cache");
}

#[test]
fn examples_are_of_their_schemas() {
    let document = Contract::new().document;
    let components = &document["components"];
    let mut checked = 0;
    for schema in components["schemas"].as_object().unwrap().values() {
        schema::check(&document, schema, &schema["example"]);
        checked += 1;
    }
    for response in components["responses"].as_object().unwrap().values() {
        let content = response["content"].as_object();
        for content in content.into_iter().flat_map(|content| content.values()) {
            let many = content["examples"].as_object();
            let many = many
                .into_iter()
                .flat_map(|many| many.values().map(|one| &one["value"]));
            for example in content.get("example").into_iter().chain(many) {
                schema::check(&document, &content["schema"], example);
                checked += 1;
            }
        }
    }
    for part in ["parameters", "headers"] {
        for (name, part) in components[part].as_object().unwrap() {
            match part.get("example") {
                Some(example) => {
                    schema::check(&document, &part["schema"], example);
                    checked += 1;
                }
                // Whatever stands there, or what can be one thing only.
                None => assert!(
                    name == "AnyId" || part["schema"].get("enum").is_some(),
                    "{name} has no example"
                ),
            }
        }
    }
    assert!(checked > 35, "{checked}");
}

/// The gateway's own document is made of it by Terraform (`terraform/application/api.tf`), which takes methods, paths,
/// statuses, and of each parameter where it is and its type. A test there holds that against this one.
#[test]
fn what_the_gateways_document_is_made_of_is_there() {
    let document = Contract::new().document;
    assert_eq!(document["openapi"], "3.0.3");
    for operations in document["paths"].as_object().unwrap().values() {
        for (method, operation) in operations.as_object().unwrap() {
            assert!(["get", "head", "options"].contains(&method.as_str()), "{method}");
            for parameter in operation["parameters"].as_array().unwrap() {
                let reference = parameter["$ref"].as_str().unwrap();
                assert!(reference.starts_with("#/components/parameters/"), "{reference}");
                let parameter = schema::resolve(&document, parameter);
                for field in ["/name", "/in", "/schema/type"] {
                    assert!(
                        parameter.pointer(field).is_some_and(Value::is_string),
                        "{parameter}"
                    );
                }
            }
        }
    }
}

/// <https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-known-issues.html>
#[test]
fn it_has_nothing_that_api_gateway_cannot_read() {
    let document = Contract::new().document;
    for name in document["components"]["schemas"].as_object().unwrap().keys() {
        assert!(
            name.chars().all(|char| char.is_ascii_alphanumeric()),
            "model {name}"
        );
    }
    let mut operation_ids = BTreeSet::new();
    for operations in document["paths"].as_object().unwrap().values() {
        for operation in operations.as_object().unwrap().values() {
            let id = operation["operationId"].as_str().unwrap();
            assert!(operation_ids.insert(id), "{id} twice");
            for (status, response) in operation["responses"].as_object().unwrap() {
                assert!(status.parse::<u16>().is_ok(), "{id} {status}");
                let response = schema::resolve(&document, response);
                for media_type in response["content"].as_object().into_iter().flatten() {
                    assert!(!media_type.0.contains('*'), "{id} {status}");
                }
            }
            let mut names = BTreeSet::new();
            for parameter in operation["parameters"].as_array().unwrap() {
                let name = schema::resolve(&document, parameter)["name"].as_str().unwrap();
                assert!(names.insert(name), "{id} {name} twice");
            }
        }
    }
    let text = include_str!("../../openapi.json");
    for not_supported in [
        "oneOf",
        "anyOf",
        "allOf",
        "discriminator",
        "additionalProperties",
        "exclusiveMinimum",
        "\"format\": \"int",
        "x-amazon",
    ] {
        assert!(!text.contains(not_supported), "{not_supported}");
    }
}

#[test]
fn types_of_problems_are_listed_and_may_become_more() {
    let contract = Contract::new();
    let document = &contract.document;
    let listed = contract.types_of_problems();
    assert_eq!(listed.len(), 13, "{listed:?}");
    let kind = &document["components"]["schemas"]["Problem"]["properties"]["type"];
    for listed in &listed {
        let code = listed.rsplit(':').next().unwrap();
        let description = kind["description"].as_str().unwrap();
        assert!(description.contains(&format!("`{code}`")), "{code}");
    }
    let new = json!("urn:problem:patient-checkins:of-tomorrow");
    schema::check(document, kind, &new);
}

/// A field more, or a value of another form, does not go unnoticed.
#[test]
fn the_check_of_a_schema_can_fail() {
    let document = Contract::new().document;
    let schema = json!({ "$ref": "#/components/schemas/Patient" });
    let example = &document["components"]["schemas"]["Patient"]["example"];
    for (field, value) in [
        ("birthDate", json!("1970-01-01")),
        ("id", json!("p_1")),
        ("version", json!(0)),
        ("version", json!("3")),
        ("checkinCount", json!(1.5)),
        ("lastCheckinAt", json!("2026-11-24T13:27:28Z")),
        ("name", json!("")),
        ("name", json!(null)),
    ] {
        let mut changed = example.clone();
        changed[field] = value;
        let failed = std::panic::catch_unwind(|| schema::check(&document, &schema, &changed));
        assert!(failed.is_err(), "{changed}");
    }
}
