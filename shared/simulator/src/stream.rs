//! The stream of the event table, and the event source mappings that poll it.

use std::collections::HashMap;
use std::fmt;

use aws_lambda_events::dynamodb::{Event, EventRecord};
use event_log::item;
use serde_dynamo::{AttributeValue, Item};

use crate::tables::{EventRow, Tables};

/// What a stream record is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Record {
    /// A new event: of this patient, with this version.
    Insert(usize, u64),
    /// Somebody changed that event.
    Modify(usize, u64),
    /// An item that this system does not write.
    Foreign,
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Record::Insert(patient, version) => write!(f, "event {version} of p-{patient}"),
            Record::Modify(patient, version) => write!(f, "a change of event {version} of p-{patient}"),
            Record::Foreign => f.write_str("something with a key that nobody knows"),
        }
    }
}

/// An event source mapping on one shard.
#[derive(Debug, Clone)]
pub(crate) struct Mapping {
    pub(crate) shard: usize,
    /// The first record that was not acknowledged.
    pub(crate) position: usize,
    /// Whether an invocation is under way.
    pub(crate) busy: bool,
    /// How often the batch at this position failed.
    pub(crate) failures: u8,
    pub(crate) started: bool,
}

/// The sequence number of the record at `place` of `shard`.
pub(crate) fn sequence_number(shard: usize, place: usize) -> String {
    format!("{shard}{place:020}")
}

/// A batch, as Lambda gets it.
pub(crate) fn batch(tables: &Tables, shard: usize, from: usize, records: &[Record]) -> Event {
    let mut event = Event::default();
    event.records = records
        .iter()
        .enumerate()
        .map(|(offset, record)| event_record(tables, sequence_number(shard, from + offset), *record))
        .collect();
    event
}

fn event_record(tables: &Tables, sequence_number: String, record: Record) -> EventRecord {
    let mut found = EventRecord::default();
    found.change.sequence_number = Some(sequence_number);
    let (name, image) = match record {
        Record::Insert(patient, version) => ("INSERT", image(tables, patient, version)),
        Record::Modify(patient, version) => {
            let mut image = image(tables, patient, version);
            let body = HashMap::from([("name".to_owned(), AttributeValue::S("Somebody Else".to_owned()))]);
            image.insert("data".to_owned(), AttributeValue::M(body));
            ("MODIFY", image)
        }
        Record::Foreign => {
            let key = ("patient_id".to_owned(), AttributeValue::S("p#0".to_owned()));
            ("INSERT", Item::from(HashMap::from([key])))
        }
    };
    name.clone_into(&mut found.event_name);
    if matches!(record, Record::Modify(..)) {
        found.change.keys = image
            .iter()
            .filter(|(name, _)| [item::PATIENT_ID, item::VERSION].contains(&name.as_str()))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect::<HashMap<_, _>>()
            .into();
    }
    found.change.new_image = image;
    found
}

fn image(tables: &Tables, patient: usize, version: u64) -> Item {
    let index = usize::try_from(version).unwrap_or_default().checked_sub(1);
    let stream = tables.streams.get(patient);
    stream
        .zip(index)
        .and_then(|(stream, index)| stream.rows.get(index))
        .map(EventRow::image)
        .unwrap_or_default()
}
