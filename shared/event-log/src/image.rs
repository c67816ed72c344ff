//! A stream record's image of an event, read from its JSON straight into the event.
//!
//! [`crate::item`] says what an item means, whatever is in it, and goes by way of a map of its attributes: that is most of
//! what a record costs. What is stored as this system stores it is read here, for a third of that, with the same result; of
//! anything else nothing is said here.

use std::fmt::Display;
use std::str::FromStr;

use domain::{
    CorrelationId, EventData, EventHash, EventId, PatientId, StoredEvent, StreamVersion, Timestamp, text,
};
use serde::{Deserialize, Deserializer};
use serde_dynamo::AttributeValue;

use crate::item::EventKey;

/// The event of which this is the image, if each attribute is as this system writes it. If not, read it as an item.
#[must_use]
pub fn event(json: &str) -> Option<StoredEvent> {
    serde_json::from_str::<Image>(json).ok().map(StoredEvent::from)
}

/// The key that this is, if it is as this system writes it. If not, read it as an item.
#[must_use]
pub fn key(json: &str) -> Option<EventKey> {
    let Key { patient_id, version } = serde_json::from_str(json).ok()?;
    Some(EventKey {
        patient_id: patient_id.0,
        version: StreamVersion::new(version.0),
    })
}

#[derive(Deserialize)]
struct Key {
    patient_id: Text<PatientId>,
    version: Number<u64>,
}

/// The attributes of a [`StoredEvent`].
#[derive(Deserialize)]
struct Image {
    patient_id: Text<PatientId>,
    version: Number<u64>,
    event_id: Text<EventId>,
    event_type: Text<String>,
    schema_version: Number<u32>,
    occurred_at: Text<Timestamp>,
    recorded_at: Text<Timestamp>,
    correlation_id: Text<CorrelationId>,
    causation_id: Text<CorrelationId>,
    #[serde(deserialize_with = "map")]
    data: EventData,
    previous_hash: Text<EventHash>,
    hash: Text<EventHash>,
}

impl From<Image> for StoredEvent {
    fn from(image: Image) -> StoredEvent {
        StoredEvent {
            patient_id: image.patient_id.0,
            version: StreamVersion::new(image.version.0),
            event_id: image.event_id.0,
            event_type: image.event_type.0,
            schema_version: image.schema_version.0,
            occurred_at: image.occurred_at.0,
            recorded_at: image.recorded_at.0,
            correlation_id: image.correlation_id.0,
            causation_id: image.causation_id.0,
            data: image.data,
            previous_hash: image.previous_hash.0,
            hash: image.hash.0,
        }
    }
}

/// `{"S": "…"}`
struct Text<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Text<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Text<T>, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Tagged<T> {
            #[serde(rename = "S")]
            value: T,
        }
        Tagged::deserialize(deserializer).map(|tagged| Text(tagged.value))
    }
}

/// `{"N": "…"}`
struct Number<T>(T);

impl<'de, T: FromStr<Err: Display>> Deserialize<'de> for Number<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Number<T>, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields, bound(deserialize = "T: FromStr<Err: Display>"))]
        struct Tagged<T> {
            #[serde(rename = "N", deserialize_with = "text::deserialize")]
            value: T,
        }
        Tagged::deserialize(deserializer).map(|tagged| Number(tagged.value))
    }
}

/// The body, which is small.
fn map<'de, D: Deserializer<'de>>(deserializer: D) -> Result<EventData, D::Error> {
    let value = AttributeValue::deserialize(deserializer)?;
    serde_dynamo::from_attribute_value(value).map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use serde_dynamo::Item;
    use serde_json::{Value, json};

    use super::*;
    use crate::item;

    fn image() -> Value {
        json!({
            "patient_id": { "S": "p-001" },
            "version": { "N": "2" },
            "event_id": { "S": "0a51cf70-3d3c-5b8a-9d59-2b6c55b5c9d1" },
            "event_type": { "S": "PatientCheckedIn" },
            "schema_version": { "N": "1" },
            "occurred_at": { "S": "2026-11-24T09:30:00.000Z" },
            "recorded_at": { "S": "2026-11-24T09:30:00.250Z" },
            "correlation_id": { "S": "8f2b63a4-6b1c-5f6e-8f0d-0d3b2c1a9e87" },
            "causation_id": { "S": "8f2b63a4-6b1c-5f6e-8f0d-0d3b2c1a9e87" },
            "data": { "M": { "checkin_id": { "S": "c1d7a3f0-52f1-5a0e-9a55-4a8a3f0d9b11" }, "note": { "L": [{ "N": "1" }] } } },
            "previous_hash": { "S": "ab".repeat(32) },
            "hash": { "S": "cd".repeat(32) },
            "shard": { "S": "03" },
            "recorded_key": { "S": "2026-11-24T09:30:00.250Z#p-001#000000000002" },
        })
    }

    /// What is read here is what the item says; whether anything is read has to be `expected`.
    #[track_caller]
    fn check(json: &str, expected: bool) {
        let found = event(json);
        assert_eq!(found.is_some(), expected, "{json}");
        let item: Option<Item> = serde_json::from_str(json).ok();
        if let Some(found) = found {
            assert_eq!(
                item::stored_entry(item.unwrap()).unwrap().event,
                Ok(found),
                "{json}"
            );
        }
    }

    #[test]
    fn an_image_says_what_the_item_says() {
        check(&image().to_string(), true);
        for extra in [
            json!({ "S": "x" }),
            json!({ "NULL": true }),
            json!({ "SS": ["a", "b"] }),
        ] {
            let mut image = image();
            image["unknown"] = extra;
            check(&image.to_string(), true);
        }
    }

    #[test]
    fn whatever_is_unusual_is_left_to_the_item() {
        // By the other two an index finds the event. They are nothing to those who apply it.
        let of_the_event = item::ATTRIBUTES
            .into_iter()
            .filter(|name| ![item::SHARD, item::RECORDED_KEY].contains(name));
        for name in of_the_event {
            let mut without = image();
            without.as_object_mut().unwrap().remove(name);
            check(&without.to_string(), false);
            for unusual in [
                json!({ "S": "" }),
                json!({ "S": "x#y" }),
                json!({ "N": "-1" }),
                json!({ "N": "1.5" }),
                json!({ "N": "99999999999999999999" }),
                json!({ "N": 2 }),
                json!({ "B": "eA==" }),
                json!({ "BOOL": true }),
                json!({ "NULL": true }),
                json!({ "L": [] }),
                json!({ "SS": ["a"] }),
                json!({ "S": "x", "N": "1" }),
                json!({}),
                json!("x"),
                Value::Null,
            ] {
                let mut image = image();
                image[name] = unusual.clone();
                // Any text is the name of some type of event.
                let is_text =
                    name == "event_type" && unusual.get("S").is_some() && unusual.get("N").is_none();
                check(&image.to_string(), is_text);
            }
        }
        let twice = image()
            .to_string()
            .replacen('{', r#"{"version": {"N": "7"}, "#, 1);
        check(&twice, false);
        for json in ["", "null", "[]", "{}", "{"] {
            check(json, false);
        }
    }

    #[test]
    fn numbers_are_read_as_the_item_reads_them() {
        for number in ["0", "7", "+7", "007", "18446744073709551615"] {
            let mut image = image();
            image["version"] = json!({ "N": number });
            check(&image.to_string(), true);
        }
    }

    #[test]
    fn a_key_says_what_the_item_says() {
        #[track_caller]
        fn check(json: &Value, expected: Option<(&str, u64)>) {
            let item: Option<Item> = serde_json::from_value(json.clone()).ok();
            let said = item.and_then(|item| EventKey::of(&item));
            let found = key(&json.to_string());
            assert!(found.is_none() || found == said, "{json}");
            let found = found
                .as_ref()
                .map(|key| (key.patient_id.as_str(), key.version.get()));
            assert_eq!(found, expected, "{json}");
        }
        check(
            &json!({ "patient_id": { "S": "p-1" }, "version": { "N": "3" } }),
            Some(("p-1", 3)),
        );
        check(
            &json!({ "patient_id": { "S": "p#1" }, "version": { "N": "3" } }),
            None,
        );
        check(
            &json!({ "patient_id": { "S": "p-1" }, "version": { "S": "3" } }),
            None,
        );
        check(&json!({ "patient_id": { "S": "p-1" } }), None);
    }
}
