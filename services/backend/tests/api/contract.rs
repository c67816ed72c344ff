//! Answers, held against `openapi.json`.

use std::collections::BTreeSet;
use std::sync::Mutex;

use percent_encoding::percent_decode_str;
use serde_json::Value;

use crate::fixture::Answer;
use crate::schema::{self, resolve};

/// Methods, paths as the document has them, and statuses.
pub(crate) type Answered = BTreeSet<(String, String, u64)>;

/// Headers that no operation mentions, since every answer has them, or every one with a body.
const OF_ALL: [&str; 7] = [
    "content-type",
    "content-security-policy",
    "cross-origin-resource-policy",
    "permissions-policy",
    "referrer-policy",
    "strict-transport-security",
    "x-content-type-options",
];

/// What the API promises, and what of it was seen.
pub(crate) struct Contract {
    pub(crate) document: Value,
    answered: Mutex<Answered>,
}

impl Contract {
    pub(crate) fn new() -> Contract {
        Contract {
            document: serde_json::from_str(include_str!("../../openapi.json")).unwrap(),
            answered: Mutex::default(),
        }
    }

    /// All that the description lists. (The schema leaves it open, as new ones may come.)
    pub(crate) fn types_of_problems(&self) -> BTreeSet<String> {
        let description = self.document["info"]["description"].as_str().unwrap();
        let (_, table) = description.split_once("| type | status |").unwrap();
        let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
        rows.map(|row| format!("urn:problem:patient-checkins:{}", row.split('`').nth(1).unwrap()))
            .collect()
    }

    pub(crate) fn answered(&self) -> Answered {
        self.answered.lock().unwrap().clone()
    }

    /// Fails unless the document says that this is what comes.
    #[track_caller]
    pub(crate) fn check(&self, method: &str, path: &str, answer: &Answer) {
        let paths = self.document["paths"].as_object().unwrap();
        let Some((template, operations)) = paths.iter().find(|(template, _)| is_at(template, path)) else {
            // Nothing is promised but a problem.
            assert_eq!(answer.status, 404, "{method} {path}");
            let response = if method == "HEAD" {
                "HeadProblem"
            } else {
                "UnknownPatient"
            };
            return self.check_response(&self.document["components"]["responses"][response], answer);
        };
        let Some(operation) = operations.get(method.to_lowercase()) else {
            assert_eq!(answer.status, 405, "{method} {template}");
            assert_eq!(answer.headers["allow"], "GET, HEAD, OPTIONS");
            return;
        };
        let status = answer.status;
        let response = operation["responses"].get(status.to_string());
        let response = response.unwrap_or_else(|| panic!("{method} {template} answers {status}"));
        self.check_response(response, answer);
        if method == "HEAD" {
            assert_eq!(answer.body, None, "{template}");
        }
        let answered = (method.to_owned(), template.clone(), status);
        self.answered.lock().unwrap().insert(answered);
    }

    #[track_caller]
    fn check_response(&self, response: &Value, answer: &Answer) {
        let response = resolve(&self.document, response);
        let promised = response["headers"].as_object().unwrap();
        for (name, header) in promised {
            let header = resolve(&self.document, header);
            let value = answer.headers.get(name.to_lowercase());
            assert!(
                value.is_some() || header["required"] != true,
                "no {name} in {answer:?}"
            );
            let Some(value) = value else { continue };
            let number = value.as_str().and_then(|text| text.parse::<u64>().ok());
            let value = number.map_or(value.clone(), Value::from);
            schema::check(&self.document, &header["schema"], &value);
        }
        for (name, _) in answer.headers.as_object().unwrap() {
            let known = promised
                .keys()
                .any(|promised| promised.eq_ignore_ascii_case(name));
            let of_all = OF_ALL.contains(&name.as_str()) || name.starts_with("access-control-");
            assert!(known || of_all, "{name} is not in the contract");
        }
        let Some((body, content)) = answer.body.as_ref().zip(response["content"].as_object()) else {
            // HEAD promises the headers, and what is in them of the body.
            let described = response["content"].is_object() || answer.body.is_some();
            assert!(!described, "{answer:?} is not {response}");
            return;
        };
        assert_eq!(content.len(), 1);
        let (media_type, content) = content.iter().next().unwrap();
        let (found, _) = answer.headers["content-type"]
            .as_str()
            .map(|found| found.split_once(';').unwrap_or((found, "")))
            .unwrap();
        assert_eq!(found, media_type);
        if media_type.ends_with("json") {
            let body: Value = serde_json::from_str(body).unwrap();
            schema::check(&self.document, &content["schema"], &body);
            if media_type.contains("problem") {
                let kind = body["type"].as_str().unwrap();
                assert!(
                    self.types_of_problems().contains(kind),
                    "{kind} is not in the contract"
                );
            }
        }
    }
}

/// Whether a path, percent-encoded, is of a template.
fn is_at(template: &str, path: &str) -> bool {
    let mut segments = path.split('/');
    let all = template.split('/').all(|expected| {
        segments.next().is_some_and(|found| {
            let found = percent_decode_str(found).decode_utf8();
            match expected {
                "{id}" => found.is_ok_and(|found| !found.is_empty()),
                _ => found.is_ok_and(|found| found == expected),
            }
        })
    });
    all && segments.next().is_none()
}
