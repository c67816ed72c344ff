//! How an event is stored as an item of the event table (docs/EVENTS.md).
//!
//! A stream record's image and an item that was read decode through the same function.

use domain::{
    EventShard, PatientId, StoredEntry, StoredEvent, StreamEntry, StreamVersion, Timestamp, Undecodable,
};
use serde::Deserialize;
use serde_dynamo::{AttributeValue, Item};

/// Partition key: the patient.
pub const PATIENT_ID: &str = "patient_id";
/// Sort key: the version.
pub const VERSION: &str = "version";
/// Partition key of [`BY_RECORDED_AT`].
pub const SHARD: &str = "shard";
/// Sort key of [`BY_RECORDED_AT`].
pub const RECORDED_KEY: &str = "recorded_key";
/// Every attribute of an event.
pub(crate) const ATTRIBUTES: [&str; 14] = [
    PATIENT_ID,
    VERSION,
    "event_id",
    "event_type",
    "schema_version",
    "occurred_at",
    "recorded_at",
    "correlation_id",
    "causation_id",
    "data",
    "previous_hash",
    "hash",
    SHARD,
    RECORDED_KEY,
];
/// The index over all streams, in order of recording. It holds keys only.
pub const BY_RECORDED_AT: &str = "by_recorded_at";

/// The key of one event.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct EventKey {
    /// Whose stream.
    pub patient_id: PatientId,
    /// Where in the stream.
    pub version: StreamVersion,
}

impl EventKey {
    /// The key in this item, if it is one that this system writes.
    #[must_use]
    pub fn of(item: &Item) -> Option<EventKey> {
        let key = (item.get(PATIENT_ID)?, item.get(VERSION)?);
        let (AttributeValue::S(patient_id), AttributeValue::N(version)) = key else {
            return None;
        };
        Some(EventKey {
            patient_id: patient_id.parse().ok()?,
            version: StreamVersion::new(version.parse().ok()?),
        })
    }
}

/// The event as an item, with the index's attributes.
///
/// # Errors
/// Only if the event has a body that DynamoDB cannot hold; none of [`domain::Event`] has.
pub fn to_item(event: &StoredEvent) -> Result<Item, serde_dynamo::Error> {
    let mut item: Item = serde_dynamo::to_item(event)?;
    let shard = EventShard::of(&event.patient_id).to_string();
    item.insert(SHARD.to_owned(), AttributeValue::S(shard));
    let recorded = recorded_key(event.recorded_at, &event.patient_id, event.version);
    item.insert(RECORDED_KEY.to_owned(), AttributeValue::S(recorded));
    Ok(item)
}

/// Sort key of the index: time of recording first, then what makes it unique. Versions are padded, so that
/// they sort as text.
#[must_use]
pub fn recorded_key(recorded_at: Timestamp, patient: &PatientId, version: StreamVersion) -> String {
    format!("{recorded_at}#{patient}#{:012}", version.get())
}

/// Reads an item of the event table as it is stored. `None` if not even the key can be read, which no item of
/// this system's own is like.
#[must_use]
pub fn stored_entry(item: Item) -> Option<StoredEntry> {
    let foreign = item
        .keys()
        .find(|name| !ATTRIBUTES.contains(&name.as_str()))
        .cloned();
    let [shard, recorded] = [SHARD, RECORDED_KEY].map(|attribute| text(&item, attribute));
    let mut entry = entry(item)?;
    entry.foreign = foreign;
    let expected = EventShard::of(&entry.patient_id).to_string();
    if shard.as_ref() != Some(&expected) {
        entry.misfiled = Some(SHARD);
    } else if let Ok(event) = &entry.event {
        let expected = recorded_key(event.recorded_at, &entry.patient_id, entry.version);
        entry.misfiled = (recorded.as_ref() != Some(&expected)).then_some(RECORDED_KEY);
    }
    Some(entry)
}

/// Decodes an item or a stream record's new image; `None` as above.
#[must_use]
pub fn stream_entry(item: Item) -> Option<StreamEntry> {
    // Whether indexes find it is nothing to those who apply it.
    entry(item).map(StoredEntry::decode)
}

fn entry(item: Item) -> Option<StoredEntry> {
    let EventKey { patient_id, version } = EventKey::of(&item)?;
    let event = serde_dynamo::from_item(item).map_err(|_| Undecodable::InvalidEnvelope);
    Some(StoredEntry {
        patient_id,
        version,
        event,
        misfiled: None,
        foreign: None,
    })
}

fn text(item: &Item, attribute: &str) -> Option<String> {
    match item.get(attribute) {
        Some(AttributeValue::S(text)) => Some(text.clone()),
        _ => None,
    }
}
