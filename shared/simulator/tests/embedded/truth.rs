//! What was really appended, as the stream of the event table says, and what readers must therefore see. Written anew
//! rather than with the fold of the crate `domain`, so that a mistake there does not hide itself.

use std::collections::{BTreeMap, BTreeSet};

use aws_lambda_events::dynamodb::EventRecord;
use domain::{CheckinRow, EventHash, EventId, Patient, PatientId, StoredEvent, StreamVersion};
use embedded::EmbeddedDynamoDb;
use embedded::stream::{MAX_READ, SequenceNumber, Stream};

use crate::violation::{Violation, ensure};

const REGISTERED: &str = "PatientRegistered";
const CHECKED_IN: &str = "PatientCheckedIn";

/// Everything that was appended.
pub(crate) struct Truth {
    stream: Stream,
    read_to: Option<SequenceNumber>,
    /// The records of the stream, in its order.
    pub(crate) records: Vec<EventRecord>,
    streams: BTreeMap<PatientId, Vec<StoredEvent>>,
    event_ids: BTreeSet<EventId>,
}

/// What readers must see of a patient as of one version.
#[derive(Default)]
pub(crate) struct View {
    pub(crate) patient: Option<Patient>,
    /// The check-ins, oldest first.
    pub(crate) rows: Vec<CheckinRow>,
}

impl Truth {
    pub(crate) fn of(dynamodb: &EmbeddedDynamoDb) -> Truth {
        Truth {
            stream: Stream::open(dynamodb.database()).unwrap(),
            read_to: None,
            records: Vec::new(),
            streams: BTreeMap::new(),
            event_ids: BTreeSet::new(),
        }
    }

    /// Takes in what was appended meanwhile. Every stream must be dense, and chained by its hashes; every event must
    /// be there once, and stay as it is.
    pub(crate) fn read_on(&mut self) -> Result<(), Violation> {
        for record in self.stream.read(self.read_to.as_ref(), MAX_READ).unwrap() {
            self.read_to = Some(record.sequence_number);
            let record: EventRecord = serde_json::from_str(&record.json).unwrap();
            let change = &record.change;
            ensure(record.event_name == "INSERT", || {
                format!("an event was changed: {} of {:?}", record.event_name, change.keys)
            })?;
            self.add(serde_dynamo::from_item(change.new_image.clone()).unwrap())?;
            self.records.push(record);
        }
        Ok(())
    }

    fn add(&mut self, event: StoredEvent) -> Result<(), Violation> {
        let stream = self.streams.entry(event.patient_id.clone()).or_default();
        let (head, head_hash) = stream
            .last()
            .map_or((StreamVersion::EMPTY, EventHash::GENESIS), |last| {
                (last.version, last.hash)
            });
        ensure(event.version == head.next(), || {
            format!("version {} of {} follows {head}", event.version, event.patient_id)
        })?;
        ensure(
            event.previous_hash == head_hash && event.hash == event.computed_hash(),
            || {
                format!(
                    "version {} of {} breaks the chain",
                    event.version, event.patient_id
                )
            },
        )?;
        ensure(self.event_ids.insert(event.event_id), || {
            format!(
                "version {} of {} is an event that was there already",
                event.version, event.patient_id
            )
        })?;
        stream.push(event);
        Ok(())
    }

    /// Every check-in.
    pub(crate) fn check_ins(&self) -> impl Iterator<Item = EventId> {
        let events = self.streams.values().flatten();
        events
            .filter(|event| event.event_type == CHECKED_IN)
            .map(|event| event.event_id)
    }

    /// The events by which a patient was registered.
    pub(crate) fn registrations(&self, patient: &PatientId) -> Vec<StreamVersion> {
        let events = self.stream(patient).iter();
        events
            .filter(|event| event.event_type == REGISTERED)
            .map(|event| event.version)
            .collect()
    }

    /// Every patient of whom there is an event.
    pub(crate) fn patients(&self) -> impl Iterator<Item = &PatientId> {
        self.streams.keys()
    }

    fn stream(&self, patient: &PatientId) -> &[StoredEvent] {
        self.streams.get(patient).map_or(&[], Vec::as_slice)
    }

    /// The first event of a patient that this release can't decode.
    pub(crate) fn poison(&self, patient: &PatientId) -> Option<StreamVersion> {
        let poison = self
            .stream(patient)
            .iter()
            .find(|event| event.schema_version != 1)?;
        Some(poison.version)
    }

    /// The version that a patient ends at: the last, or the one before the poison.
    pub(crate) fn applicable(&self, patient: &PatientId) -> StreamVersion {
        match self.poison(patient) {
            Some(poison) => StreamVersion::new(poison.get() - 1),
            None => self
                .stream(patient)
                .last()
                .map_or(StreamVersion::EMPTY, |last| last.version),
        }
    }

    /// What readers must see of a patient as of a version, which is no later than [`Truth::applicable`].
    pub(crate) fn as_of(&self, patient: &PatientId, version: StreamVersion) -> View {
        let mut view = View::default();
        for event in self
            .stream(patient)
            .iter()
            .take_while(|event| event.version <= version)
        {
            let text = |field| event.data[field].as_str().unwrap();
            match (event.event_type.as_str(), &mut view.patient) {
                (REGISTERED, vacant @ None) => {
                    *vacant = Some(Patient {
                        name: text("name").parse().unwrap(),
                        registered_at: event.occurred_at,
                        checkin_count: 0,
                        last_checkin_at: None,
                    });
                }
                (CHECKED_IN, Some(patient)) => {
                    patient.checkin_count += 1;
                    patient.last_checkin_at = patient.last_checkin_at.max(Some(event.occurred_at));
                    view.rows.push(CheckinRow {
                        checkin_id: serde_json::from_value(text("checkin_id").into()).unwrap(),
                        occurred_at: event.occurred_at,
                        version: event.version,
                    });
                }
                (other, _) => panic!("version {} of {} is a {other}", event.version, event.patient_id),
            }
        }
        view.rows.sort_by_key(|row| (row.occurred_at, row.version));
        view
    }
}
