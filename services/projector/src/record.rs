//! A batch of stream records: of what Lambda delivers, what the projector needs.
//!
//! [`aws_lambda_events::dynamodb::Event`] is the whole of it. Reading that was most of the CPU time of a batch.

use aws_lambda_events::dynamodb::{Event, EventRecord};
use domain::{StreamEntry, Undecodable};
use event_log::image;
use event_log::item::{self, EventKey};
use serde::de::Error;
use serde::{Deserialize, Deserializer};
use serde_dynamo::Item;
use serde_json::value::RawValue;

/// What Lambda delivers.
#[derive(Debug, Deserialize)]
pub struct StreamBatch {
    /// In the order of the stream.
    #[serde(rename = "Records")]
    pub records: Vec<StreamRecord>,
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
    /// The item's key.
    #[serde(default)]
    keys: Keys,
    /// What the item is now, if the stream tells it.
    #[serde(default)]
    new_image: NewImage,
    /// Where in the stream.
    pub sequence_number: Option<String>,
}

impl Change {
    /// Which event it is about, if the key is one that this system writes.
    #[must_use]
    pub fn key(&self) -> Option<EventKey> {
        self.keys.read()
    }

    /// The place in the patient's stream that it is about; `None` if not even the key can be read. Without an image (the
    /// stream was set up wrong) the key is still a hint.
    #[must_use]
    pub fn into_entry(self) -> Option<StreamEntry> {
        match self.new_image {
            NewImage::Told(entry) => entry.map(|entry| *entry),
            NewImage::Missing => self
                .keys
                .read()
                .map(|EventKey { patient_id, version }| StreamEntry {
                    patient_id,
                    version,
                    event: Err(Undecodable::InvalidEnvelope),
                }),
        }
    }
}

/// Kept as it came: the image has them too, so they are seldom read.
#[derive(Debug, Default, Deserialize)]
struct Keys(Option<Box<RawValue>>);

impl Keys {
    fn read(&self) -> Option<EventKey> {
        let json = self.0.as_ref()?.get();
        image::key(json).or_else(|| EventKey::of(&serde_json::from_str(json).ok()?))
    }
}

#[derive(Debug, Default)]
enum NewImage {
    #[default]
    Missing,
    /// With what can be read of it.
    Told(Option<Box<StreamEntry>>),
}

impl From<&Item> for Keys {
    fn from(item: &Item) -> Keys {
        Keys(serde_json::value::to_raw_value(item).ok())
    }
}

impl From<Item> for NewImage {
    fn from(item: Item) -> NewImage {
        if item.is_empty() {
            return NewImage::Missing;
        }
        NewImage::Told(item::stream_entry(item).map(Box::new))
    }
}

impl<'de> Deserialize<'de> for NewImage {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<NewImage, D::Error> {
        let json = Box::<RawValue>::deserialize(deserializer)?;
        let Some(event) = image::event(json.get()) else {
            return item(&json).map(NewImage::from);
        };
        let entry = StreamEntry {
            patient_id: event.patient_id.clone(),
            version: event.version,
            event: event.decode(),
        };
        Ok(NewImage::Told(Some(Box::new(entry))))
    }
}

/// The item that this is; an empty one for `null`.
fn item<E: Error>(json: &RawValue) -> Result<Item, E> {
    let item: Option<Item> = serde_json::from_str(json.get()).map_err(E::custom)?;
    Ok(item.unwrap_or_default())
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
                keys: Keys::from(&record.change.keys),
                new_image: NewImage::from(record.change.new_image),
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
        assert_eq!(short.change.key(), long.change.key(), "{record}");
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
            let is_read = check(&keys, &image).is_some();
            assert_eq!(
                is_read,
                !["version", "patient_id"].contains(&attribute),
                "{attribute}"
            );
            let mut keys = keys.clone();
            keys[attribute] = unusual;
            check(&keys, &Value::Null);
        }
    }

    #[test]
    fn what_is_no_record_fails_the_whole_batch() {
        for image in [
            json!("x"),
            json!([]),
            json!({ "version": "3" }),
            json!({ "version": { "N": 3 } }),
        ] {
            let record = json!({ "eventName": "INSERT", "dynamodb": { "NewImage": image } });
            assert!(serde_json::from_value::<StreamRecord>(record).is_err(), "{image}");
        }
    }
}
