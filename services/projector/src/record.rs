//! A batch of stream records: of what Lambda delivers, what the projector needs.
//!
//! [`aws_lambda_events::dynamodb::Event`] is the whole of it. Reading that was most of the CPU time of a batch.

use aws_lambda_events::dynamodb::{Event, EventRecord};
use domain::{StreamEntry, Undecodable};
use event_log::image::{Image, Key};
use event_log::item::{self, EventKey};
use serde::de::Error;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// What Lambda delivers.
#[derive(Debug)]
pub struct StreamBatch {
    /// In the order of the stream.
    pub records: Vec<StreamRecord>,
}

/// `lambda_runtime` keeps track of the path to what is being read, to say where an error is: that is more than the reading
/// itself. So it gets the whole as one value, which is read afterwards. An error says where it is and no more: it goes to the
/// log, and what serde says may quote a value.
impl<'de> Deserialize<'de> for StreamBatch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<StreamBatch, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Delivered {
            records: Vec<StreamRecord>,
        }
        let json = Box::<RawValue>::deserialize(deserializer)?;
        match serde_json::from_str(json.get()) {
            Ok(Delivered { records }) => Ok(StreamBatch { records }),
            Err(error) => {
                let (line, column) = (error.line(), error.column());
                let what = "not a batch of stream records";
                Err(D::Error::custom(format_args!(
                    "{what} at line {line} column {column}"
                )))
            }
        }
    }
}

/// One change of the event table.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StreamRecord {
    /// `INSERT`, `MODIFY` or `REMOVE`.
    pub event_name: String,
    /// What was changed.
    #[serde(rename = "dynamodb")]
    pub change: Change,
}

/// What was changed.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Change {
    /// The item's key, if it is one that this system writes.
    #[serde(default, deserialize_with = "key")]
    keys: Option<EventKey>,
    /// What the item is now, if the stream tells it and its key is one that this system writes.
    #[serde(default, deserialize_with = "entry")]
    new_image: Option<StreamEntry>,
    /// Where in the stream.
    pub sequence_number: Option<String>,
}

impl Change {
    /// Which event it is about, if the key is one that this system writes.
    #[must_use]
    pub fn into_key(self) -> Option<EventKey> {
        self.keys
    }

    /// The place in the patient's stream that it is about; `None` if not even the key can be read. Without an image (the
    /// stream was set up wrong), or with one whose key can't be read, the key is still a hint.
    #[must_use]
    pub fn into_entry(self) -> Option<StreamEntry> {
        let hint = |EventKey { patient_id, version }| StreamEntry {
            patient_id,
            version,
            event: Err(Undecodable::InvalidEnvelope),
        };
        self.new_image.or_else(|| self.keys.map(hint))
    }
}

fn key<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<EventKey>, D::Error> {
    let key = Option::<Key>::deserialize(deserializer)?;
    Ok(key.and_then(Key::read))
}

fn entry<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<StreamEntry>, D::Error> {
    let image = Option::<Image>::deserialize(deserializer)?;
    Ok(image.and_then(Image::into_entry))
}

/// The same, for who has it as a whole.
impl From<Event> for StreamBatch {
    fn from(event: Event) -> StreamBatch {
        StreamBatch {
            records: event.records.into_iter().map(StreamRecord::from).collect(),
        }
    }
}

impl From<EventRecord> for StreamRecord {
    fn from(record: EventRecord) -> StreamRecord {
        StreamRecord {
            event_name: record.event_name,
            change: Change {
                keys: EventKey::of(&record.change.keys),
                new_image: item::stream_entry(record.change.new_image),
                sequence_number: record.change.sequence_number,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// Reads a record with these keys and this image, and has both ways say the same of it.
    #[track_caller]
    fn check(keys: &Value, image: &Value) -> Option<StreamEntry> {
        let record = json!({
            "eventID": "1", "eventName": "INSERT", "awsRegion": "eu-central-1",
            "dynamodb": { "Keys": keys, "NewImage": image, "SequenceNumber": "7", "SizeBytes": 1 },
        });
        let short: StreamRecord = serde_json::from_str(&record.to_string()).unwrap();
        let long: EventRecord = serde_json::from_value(record.clone()).unwrap();
        let long = StreamRecord::from(long);
        assert_eq!(short.change.keys, long.change.keys, "{record}");
        assert_eq!(short.change.sequence_number, long.change.sequence_number);
        let entry = short.change.into_entry();
        assert_eq!(entry, long.change.into_entry(), "{record}");
        entry
    }

    #[test]
    fn a_record_is_read_as_the_whole_of_it_would_be() {
        let records = testbed::records("p-1", 2);
        let parts = |index: usize| {
            (
                records[index]["dynamodb"]["Keys"].clone(),
                records[index]["dynamodb"]["NewImage"].clone(),
            )
        };
        for index in 0..records.len() {
            let (keys, image) = parts(index);
            assert!(check(&keys, &image).unwrap().event.is_ok());
        }

        let (keys, image) = parts(2);
        for missing in [Value::Null, json!({})] {
            let hint = check(&keys, &missing).unwrap();
            assert_eq!(
                (hint.version.get(), hint.event),
                (3, Err(Undecodable::InvalidEnvelope))
            );
            assert_eq!(check(&missing, &missing), None);
        }
        for (attribute, unusual) in [
            ("version", json!({ "N": "x" })),
            ("patient_id", json!({ "S": "p#1" })),
            ("event_id", json!({ "S": "none" })),
            ("hash", json!({ "B": "eA==" })),
            ("data", json!({ "M": {} })),
            ("data", json!({ "L": [] })),
            ("schema_version", json!({ "N": "2" })),
            ("event_type", json!({ "S": "PatientVanished" })),
            ("unknown", json!({ "SS": ["a"] })),
        ] {
            let mut image = image.clone();
            image[attribute] = unusual.clone();
            let entry = check(&keys, &image).unwrap();
            assert_eq!(entry.event.is_ok(), attribute == "unknown", "{attribute}");
            let mut keys = keys.clone();
            keys[attribute] = unusual;
            let is_key = !["version", "patient_id"].contains(&attribute);
            assert_eq!(check(&keys, &Value::Null).is_some(), is_key, "{attribute}");
            assert_eq!(check(&keys, &image).is_some(), is_key, "{attribute}");
        }
    }

    #[test]
    fn what_is_no_batch_is_not_quoted() {
        #[track_caller]
        fn check(delivered: &Value) {
            let error = serde_json::from_str::<StreamBatch>(&delivered.to_string()).unwrap_err();
            let said = error.to_string();
            assert!(said.starts_with("not a batch of stream records"), "{said}");
            assert!(!said.contains("Ada"), "{said}");
        }
        let [registration] = &mut testbed::records("p-1", 0)[..] else {
            panic!("one record")
        };
        registration["dynamodb"]["NewImage"]["data"]["M"]["name"] = json!("Ada Example");
        check(&json!({ "Records": [registration] }));
        check(&json!({ "Records": "Ada Example" }));
        check(&json!({ "Ada Example": [] }));
        check(&json!("Ada Example"));
    }

    #[test]
    fn what_is_no_record_fails_the_whole_batch() {
        for image in [
            json!("x"),
            json!(7),
            json!({ "version": "3" }),
            json!({ "version": { "N": 3 } }),
        ] {
            let record = json!({ "eventName": "INSERT", "dynamodb": { "NewImage": image } });
            assert!(serde_json::from_value::<StreamRecord>(record).is_err(), "{image}");
        }
    }
}
