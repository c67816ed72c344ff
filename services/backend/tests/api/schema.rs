//! As much of a schema of OpenAPI 3.0 as `openapi.json` needs. What it does not know fails, so that nothing goes
//! unchecked.

use domain::Timestamp;
use regex_lite::Regex;
use serde_json::Value;

/// Fails unless the value is of the schema. A field that the schema does not name fails too: clients may ignore it, but
/// the contract must not.
#[track_caller]
pub(crate) fn check(document: &Value, schema: &Value, value: &Value) {
    let wrong = wrong(document, schema, value, "");
    assert!(wrong.is_empty(), "{wrong:?} in {value}");
}

/// What a reference refers to; anything else is itself.
pub(crate) fn resolve<'a>(document: &'a Value, part: &'a Value) -> &'a Value {
    match part["$ref"].as_str() {
        Some(reference) => {
            let found = reference
                .strip_prefix('#')
                .and_then(|pointer| document.pointer(pointer));
            found.unwrap_or_else(|| panic!("nothing at {reference}"))
        }
        None => part,
    }
}

fn wrong(document: &Value, schema: &Value, value: &Value, at: &str) -> Vec<String> {
    let schema = resolve(document, schema);
    if value.is_null() && schema["nullable"] == true {
        return Vec::new();
    }
    let mut wrong_here = Vec::new();
    for (keyword, rule) in schema.as_object().unwrap() {
        let number = |compare: fn(f64, f64) -> bool| {
            value
                .as_f64()
                .is_none_or(|value| compare(value, rule.as_f64().unwrap()))
        };
        let length = |compare: fn(u64, u64) -> bool| {
            let length = value.as_str().map(|text| text.chars().count() as u64);
            length.is_none_or(|length| compare(length, rule.as_u64().unwrap()))
        };
        let is_right = match keyword.as_str() {
            "description" | "example" | "default" | "nullable" => true,
            "type" => match rule.as_str().unwrap() {
                "object" => value.is_object(),
                "array" => value.is_array(),
                "string" => value.is_string(),
                "integer" => value.is_i64() || value.is_u64(),
                other => panic!("type {other}"),
            },
            "enum" => rule.as_array().unwrap().contains(value),
            "pattern" => value
                .as_str()
                .is_none_or(|text| Regex::new(rule.as_str().unwrap()).unwrap().is_match(text)),
            "format" => value
                .as_str()
                .is_none_or(|text| is_of_format(rule.as_str().unwrap(), text)),
            "minimum" => number(|value, limit| value >= limit),
            "maximum" => number(|value, limit| value <= limit),
            "minLength" => length(|length, limit| length >= limit),
            "maxLength" => length(|length, limit| length <= limit),
            "maxItems" => value
                .as_array()
                .is_none_or(|items| items.len() as u64 <= rule.as_u64().unwrap()),
            "required" => rule
                .as_array()
                .unwrap()
                .iter()
                .all(|name| value.get(name.as_str().unwrap()).is_some()),
            "properties" => {
                for (name, value) in value.as_object().into_iter().flatten() {
                    let inside = format!("{at}/{name}");
                    match rule.get(name) {
                        Some(schema) => wrong_here.extend(wrong(document, schema, value, &inside)),
                        None => wrong_here.push(format!("{inside} is not in the contract")),
                    }
                }
                true
            }
            "items" => {
                for (index, value) in value.as_array().into_iter().flatten().enumerate() {
                    wrong_here.extend(wrong(document, rule, value, &format!("{at}/{index}")));
                }
                true
            }
            other => panic!("keyword {other}"),
        };
        if !is_right {
            wrong_here.push(format!("{at} is not of {keyword} {rule}"));
        }
    }
    wrong_here
}

fn is_of_format(format: &str, text: &str) -> bool {
    match format {
        "date-time" => Timestamp::parse_rfc3339(text).is_ok(),
        "uuid" => serde_json::from_value::<domain::CheckinId>(text.into()).is_ok(),
        other => panic!("format {other}"),
    }
}
