//! The last events that the stream brought, and when the projector had done each.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use domain::{EventData, PatientId, StreamVersion, Timestamp, Undecodable, Upcasters};
use embedded::stream::{SequenceNumber, StreamRecord};
use serde::Deserialize;

/// How many are kept.
const KEPT: usize = 8;

/// The last events of the stream: written by the event source mapping, read by whoever watches.
#[derive(Debug, Clone, Default)]
pub(crate) struct RecentEvents(Arc<Mutex<VecDeque<RecentEvent>>>);

/// An event that was read from the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RecentEvent {
    sequence_number: SequenceNumber,
    /// `None` if there is no such type: anything may stand there then, a name too, and it is shown nowhere.
    pub(crate) event_type: Option<String>,
    pub(crate) patient_id: PatientId,
    pub(crate) version: StreamVersion,
    pub(crate) recorded_at: Timestamp,
    /// When the projector had acknowledged it, which is not yet to say that it could be applied.
    pub(crate) done_at: Option<Timestamp>,
}

impl RecentEvents {
    /// Takes note of records that were read from the stream, in their order.
    pub(crate) fn read(&self, records: &[StreamRecord]) {
        let newest = records
            .get(records.len().saturating_sub(KEPT)..)
            .unwrap_or_default();
        self.change(|events| {
            events.extend(newest.iter().filter_map(event_in));
            let surplus = events.len().saturating_sub(KEPT);
            events.drain(..surplus);
        });
    }

    /// Takes note that the projector has acknowledged these records.
    pub(crate) fn done(&self, records: &[StreamRecord], now: Timestamp) {
        self.change(|events| {
            for event in events.iter_mut().filter(|event| event.done_at.is_none()) {
                let is_it = |record: &StreamRecord| record.sequence_number == event.sequence_number;
                if records.iter().any(is_it) {
                    event.done_at = Some(now);
                }
            }
        });
    }

    /// Those that are known, the newest first.
    pub(crate) fn newest_first(&self) -> Vec<RecentEvent> {
        self.change(|events| events.iter().rev().cloned().collect())
    }

    fn change<T>(&self, change: impl FnOnce(&mut VecDeque<RecentEvent>) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The event in a record; `None` if the record is of a change to an event, or of what is no event.
fn event_in(record: &StreamRecord) -> Option<RecentEvent> {
    #[derive(Deserialize)]
    struct Record {
        #[serde(rename = "eventName")]
        event_name: String,
        dynamodb: Change,
    }
    #[derive(Deserialize)]
    struct Change {
        #[serde(rename = "NewImage")]
        new_image: Image,
    }
    #[derive(Deserialize)]
    struct Image {
        event_type: Text,
        patient_id: Text,
        version: Number,
        recorded_at: Text,
    }
    #[derive(Deserialize)]
    struct Text {
        #[serde(rename = "S")]
        text: String,
    }
    #[derive(Deserialize)]
    struct Number {
        #[serde(rename = "N")]
        number: String,
    }
    let read: Record = serde_json::from_str(&record.json).ok()?;
    let image = read.dynamodb.new_image;
    if read.event_name != "INSERT" {
        return None;
    }
    Some(RecentEvent {
        sequence_number: record.sequence_number.clone(),
        event_type: Some(image.event_type.text).filter(|event_type| is_known(event_type)),
        patient_id: image.patient_id.text.parse().ok()?,
        version: StreamVersion::new(image.version.number.parse().ok()?),
        recorded_at: image.recorded_at.text.parse().ok()?,
        done_at: None,
    })
}

/// Whether there is this type of event, in whatever version and with whatever body.
fn is_known(event_type: &str) -> bool {
    let decoded = Upcasters::CURRENT.decode(event_type, 0, EventData::new());
    !matches!(decoded, Err(Undecodable::UnknownType))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_unix_millis(millis).unwrap()
    }

    fn record(number: u32, event_name: &str) -> StreamRecord {
        let image = json!({
            "patient_id": { "S": "p-1" },
            "version": { "N": number.to_string() },
            "event_type": { "S": "PatientCheckedIn" },
            "recorded_at": { "S": at(i64::from(number)).to_string() },
        });
        StreamRecord {
            sequence_number: SequenceNumber::new(number.to_string()),
            created_at: at(0),
            json: json!({ "eventName": event_name, "dynamodb": { "NewImage": image } }).to_string(),
        }
    }

    #[track_caller]
    fn check(events: &RecentEvents, expected: &[(u64, Option<i64>)]) {
        let found: Vec<(u64, Option<i64>)> = events
            .newest_first()
            .iter()
            .map(|event| (event.version.get(), event.done_at.map(Timestamp::unix_millis)))
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn the_last_events_are_known_with_the_time_at_which_they_were_done() {
        let events = RecentEvents::default();
        check(&events, &[]);
        events.read(&[record(1, "INSERT"), record(2, "INSERT")]);
        check(&events, &[(2, None), (1, None)]);
        events.done(&[record(1, "INSERT")], at(10));
        events.done(&[record(1, "INSERT"), record(2, "INSERT")], at(20));
        check(&events, &[(2, Some(20)), (1, Some(10))]);
        let many: Vec<StreamRecord> = (3..40).map(|number| record(number, "INSERT")).collect();
        events.read(&many);
        let kept: Vec<(u64, Option<i64>)> = (32..40).rev().map(|number| (number, None)).collect();
        check(&events, &kept);
    }

    #[test]
    fn a_type_that_there_is_not_is_not_told() {
        let events = RecentEvents::default();
        let mut foreign = record(3, "INSERT");
        let mut registration = record(2, "INSERT");
        for (record, event_type) in [
            (&mut foreign, "Ada Example"),
            (&mut registration, "PatientRegistered"),
        ] {
            record.json = record.json.replace("PatientCheckedIn", event_type);
        }
        events.read(&[record(1, "INSERT"), registration, foreign]);
        let types: Vec<Option<String>> = events
            .newest_first()
            .into_iter()
            .map(|event| event.event_type)
            .collect();
        let known = |event_type: &str| Some(event_type.to_owned());
        assert_eq!(
            types,
            [None, known("PatientRegistered"), known("PatientCheckedIn")]
        );
    }

    #[test]
    fn a_change_of_an_event_is_no_event_and_what_is_none_is_left_out() {
        let events = RecentEvents::default();
        let mut strange = record(1, "INSERT");
        "{}".clone_into(&mut strange.json);
        events.read(&[record(1, "MODIFY"), record(2, "REMOVE"), strange]);
        check(&events, &[]);
    }
}
