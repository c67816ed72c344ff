//! What a stream record tells of an event, read from its JSON in one pass.
//!
//! [`crate::item`] says what an item means, and goes by way of a map of its attributes: that is most of what a record costs.
//! What is read here, for less than half of that, is the same for whatever DynamoDB delivers: a test compares the two. Of JSON that is
//! no item, more is let through here than there.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use domain::{
    CorrelationId, EventData, EventHash, EventId, PatientId, StoredEvent, StreamEntry, StreamVersion,
    Timestamp, Undecodable,
};
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer};
use serde_dynamo::AttributeValue;

use crate::item::EventKey;

/// The key of an item, as far as it is one that this system writes.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Key {
    patient_id: Text<PatientId>,
    version: Number<u64>,
}

impl Key {
    /// The key, if it is one that this system writes.
    #[must_use]
    pub fn read(self) -> Option<EventKey> {
        Some(EventKey {
            patient_id: self.patient_id.s.0?,
            version: StreamVersion::new(self.version.n.0?),
        })
    }
}

/// The image of an item, as far as it is one that this system writes: the attributes of a [`StoredEvent`]. What else is in it
/// is nothing to those who apply the event.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Image {
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
    data: Option<EventData>,
    previous_hash: Text<EventHash>,
    hash: Text<EventHash>,
}

impl Image {
    /// The place in the patient's stream, and the event if it can be decoded; `None` if not even the key can be read.
    #[must_use]
    pub fn into_entry(self) -> Option<StreamEntry> {
        let patient_id = self.patient_id.s.0.clone()?;
        let version = StreamVersion::new(self.version.n.0?);
        let event = self.stored().ok_or(Undecodable::InvalidEnvelope);
        Some(StreamEntry {
            patient_id,
            version,
            event: event.and_then(StoredEvent::decode),
        })
    }

    fn stored(self) -> Option<StoredEvent> {
        Some(StoredEvent {
            patient_id: self.patient_id.s.0?,
            version: StreamVersion::new(self.version.n.0?),
            event_id: self.event_id.s.0?,
            event_type: self.event_type.s.0?,
            schema_version: self.schema_version.n.0?,
            occurred_at: self.occurred_at.s.0?,
            recorded_at: self.recorded_at.s.0?,
            correlation_id: self.correlation_id.s.0?,
            causation_id: self.causation_id.s.0?,
            data: self.data?,
            previous_hash: self.previous_hash.s.0?,
            hash: self.hash.s.0?,
        })
    }
}

/// `{"S": "…"}`, if it is that.
#[derive(Debug, Deserialize)]
#[serde(default, bound(deserialize = "T: FromStr"))]
struct Text<T> {
    #[serde(rename = "S")]
    s: Parsed<T>,
}

/// `{"N": "…"}`, if it is that.
#[derive(Debug, Deserialize)]
#[serde(default, bound(deserialize = "T: FromStr"))]
struct Number<T> {
    #[serde(rename = "N")]
    n: Parsed<T>,
}

impl<T> Default for Text<T> {
    fn default() -> Text<T> {
        Text { s: Parsed(None) }
    }
}

impl<T> Default for Number<T> {
    fn default() -> Number<T> {
        Number { n: Parsed(None) }
    }
}

/// What a text says, if it says anything.
#[derive(Debug)]
struct Parsed<T>(Option<T>);

impl<T> Default for Parsed<T> {
    fn default() -> Parsed<T> {
        Parsed(None)
    }
}

impl<'de, T: FromStr> Deserialize<'de> for Parsed<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Parsed<T>, D::Error> {
        struct AnyText<T>(PhantomData<T>);

        impl<T: FromStr> Visitor<'_> for AnyText<T> {
            type Value = Parsed<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Parsed<T>, E> {
                Ok(Parsed(text.parse().ok()))
            }
        }

        deserializer.deserialize_str(AnyText(PhantomData))
    }
}

/// The body, which is small.
fn map<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<EventData>, D::Error> {
    let value = AttributeValue::deserialize(deserializer)?;
    Ok(serde_dynamo::from_attribute_value(value).ok())
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

    /// What is read here is what the item says; whether its event is an event has to be `expected`.
    #[track_caller]
    fn check(image: &Value, expected: bool) {
        let json = image.to_string();
        let found: Image = serde_json::from_str(&json).unwrap();
        let found = found.into_entry();
        let is_event = found.as_ref().is_some_and(|entry| entry.event.is_ok());
        assert_eq!(is_event, expected, "{json}");
        let item: Item = serde_json::from_str(&json).unwrap();
        assert_eq!(found, item::stream_entry(item), "{json}");
    }

    #[test]
    fn an_image_says_what_the_item_says() {
        check(&image(), true);
        for extra in [
            json!({ "S": "x" }),
            json!({ "NULL": true }),
            json!({ "SS": ["a", "b"] }),
        ] {
            let mut image = image();
            image["unknown"] = extra;
            check(&image, true);
        }
    }

    #[test]
    fn so_does_one_in_which_something_is_unusual() {
        check(&json!({}), false);
        for name in item::ATTRIBUTES {
            // By these two an index finds the event. They are nothing to those who apply it.
            let is_of_the_event = ![item::SHARD, item::RECORDED_KEY].contains(&name);
            let mut without = image();
            without.as_object_mut().unwrap().remove(name);
            check(&without, !is_of_the_event);
            for unusual in [
                json!({ "S": "" }),
                json!({ "S": "x#y" }),
                json!({ "S": "1" }),
                json!({ "N": "-1" }),
                json!({ "N": "1.5" }),
                json!({ "N": "1e0" }),
                json!({ "N": "99999999999999999999" }),
                json!({ "B": "eA==" }),
                json!({ "BOOL": true }),
                json!({ "NULL": true }),
                json!({ "L": [] }),
                json!({ "M": {} }),
                json!({ "M": { "checkin_id": { "N": "1" } } }),
                json!({ "SS": ["a"] }),
                json!({ "NS": ["1"] }),
            ] {
                let mut image = image();
                image[name] = unusual.clone();
                let is_another_patient = name == item::PATIENT_ID && unusual == json!({ "S": "1" });
                check(&image, !is_of_the_event || is_another_patient);
            }
        }
        let mut newer = image();
        newer["schema_version"] = json!({ "N": "2" });
        check(&newer, false);
    }

    #[test]
    fn what_is_no_image_is_not_read() {
        #[track_caller]
        fn check(json: &str) {
            assert!(serde_json::from_str::<Image>(json).is_err(), "{json}");
            assert!(serde_json::from_str::<Item>(json).is_err(), "{json}");
        }
        for json in ["", "null", "7", "{", r#"{"hash":"x"}"#, r#"{"hash":null}"#] {
            check(json);
        }
        check(r#"{"version":{"N":2}}"#);
        check(r#"{"data":{"M":{"checkin_id":"x"}}}"#);
    }

    #[test]
    fn numbers_are_read_as_the_item_reads_them() {
        for number in ["0", "7", "+7", "007", "18446744073709551615"] {
            let mut image = image();
            image["version"] = json!({ "N": number });
            check(&image, true);
        }
    }

    #[test]
    fn a_key_says_what_the_item_says() {
        #[track_caller]
        fn check(json: &Value, expected: Option<(&str, u64)>) {
            let found: Key = serde_json::from_value(json.clone()).unwrap();
            let found = found.read();
            let item: Item = serde_json::from_value(json.clone()).unwrap();
            assert_eq!(found, EventKey::of(&item), "{json}");
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
