//! The event table, its stream and the read model, on the embedded DynamoDB, for tests of what works on them.
//!
//! Only ever a dependency of tests, and of the benchmark.

#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "what a test builds on is there, or the test fails"
)]

mod counted_pages;
mod meter;

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use aws_sdk_dynamodb::types::{AttributeValue, PutRequest, WriteRequest};
use domain::{
    Applied, CheckinId, CheckinRow, CorrelationId, EventDraft, EventHash, EventId, Generation,
    PatientCheckedIn, PatientId, PatientRegistered, PatientState, StoredEvent, StreamVersion, Timestamp,
};
use embedded::{EVENT_TABLE, EmbeddedDynamoDb, READ_MODEL_TABLE};
use event_log::{EventLog, EventTable};
use event_store::{EventStore, ExpectedVersion, append};
use projection::{ProjectionTable, QuarantineNotice, QuarantineQueue, QueueUnavailable};
use read_model::item::{PK, SK, SUMMARY, patient_pk};
use read_model::{Consistency, Control, ReadModelStore, ReadModelTable, RowRange};

pub use counted_pages::CountedPages;
pub use meter::{Bill, Meter};

/// When everything in these tests happens, plus some minutes.
#[must_use]
pub fn at(minute: i64) -> Timestamp {
    Timestamp::from_unix_millis(1_764_000_000_000 + minute * 60_000).unwrap()
}

/// The tables, and what works on them.
pub struct World {
    dynamodb: EmbeddedDynamoDb,
    /// A client of both tables.
    pub client: aws_sdk_dynamodb::Client,
    events: EventStore,
    /// The event table, read-only.
    pub log: EventTable,
    /// The read model, read-only.
    pub read_model: ReadModelTable,
    /// Where events that can't be applied are reported.
    pub queue: Queue,
}

fn registration(patient: &str) -> EventDraft {
    let name = format!("Canary {patient}").parse().unwrap();
    let event = domain::Event::PatientRegistered(PatientRegistered { name });
    draft(patient, "registration", 0, event)
}

fn checkin(patient: &str, minute: i64) -> EventDraft {
    let checkin_id = CheckinId::derive(&[patient, &minute.to_string()]);
    draft(
        patient,
        "check-in",
        minute,
        domain::Event::PatientCheckedIn(PatientCheckedIn { checkin_id }),
    )
}

fn draft(patient: &str, kind: &str, minute: i64, event: domain::Event) -> EventDraft {
    let occasion = CorrelationId::derive("test", &[]);
    EventDraft {
        event_id: EventId::derive(kind, &[patient, &minute.to_string()]),
        occurred_at: at(minute),
        correlation_id: occasion,
        causation_id: occasion,
        event,
    }
}

/// The events of a patient with check-ins at minutes 1 to `check_ins`.
#[must_use]
pub fn stream_of(patient: &str, check_ins: i64) -> Vec<StoredEvent> {
    let id: PatientId = patient.parse().unwrap();
    let mut previous = (StreamVersion::EMPTY, EventHash::GENESIS);
    std::iter::once(registration(patient))
        .chain((1..=check_ins).map(|minute| checkin(patient, minute)))
        .map(|draft| {
            let event = draft
                .place(&id, previous.0, previous.1, draft.occurred_at)
                .unwrap();
            previous = (event.version, event.hash);
            event
        })
        .collect()
}

/// The stream records of a patient with check-ins at minutes 1 to `check_ins`, whose events are in no table.
#[must_use]
pub fn records(patient: &str, check_ins: i64) -> Vec<serde_json::Value> {
    let record = |event: &StoredEvent| {
        let image = event_log::item::to_item(event).unwrap();
        serde_json::json!({
            "eventID": event.event_id,
            "eventName": "INSERT",
            "awsRegion": embedded::REGION,
            "dynamodb": {
                "Keys": { "patient_id": { "S": patient }, "version": { "N": event.version.to_string() } },
                "NewImage": image,
                "SequenceNumber": format!("{patient}:{}", event.version),
                "SizeBytes": 600,
            },
        })
    };
    stream_of(patient, check_ins).iter().map(record).collect()
}

/// Notices, in the order in which they were put.
#[derive(Default)]
pub struct Queue {
    /// What was put.
    pub notices: Mutex<Vec<QuarantineNotice>>,
    /// How many of the next calls fail.
    pub failures: AtomicU32,
}

impl QuarantineQueue for &Queue {
    async fn put(&self, notice: &QuarantineNotice) -> Result<(), QueueUnavailable> {
        if fails(&self.failures) {
            return Err(QueueUnavailable("a fault was injected".into()));
        }
        self.notices.lock().unwrap().push(notice.clone());
        Ok(())
    }
}

fn fails(failures: &AtomicU32) -> bool {
    failures
        .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1))
        .is_ok()
}

impl World {
    /// Both tables, empty.
    pub async fn new() -> World {
        let dynamodb = EmbeddedDynamoDb::temporary().await.unwrap();
        let client = dynamodb.client();
        World {
            events: EventStore::new(client.clone(), EVENT_TABLE),
            log: EventTable::new(client.clone(), EVENT_TABLE),
            read_model: ReadModelTable::new(client.clone(), READ_MODEL_TABLE),
            queue: Queue::default(),
            client,
            dynamodb,
        }
    }

    /// The read model, writable.
    #[must_use]
    pub fn store(&self) -> ProjectionTable {
        ProjectionTable::new(self.client.clone(), READ_MODEL_TABLE)
    }

    /// The same tables, through this meter.
    #[must_use]
    pub fn metered(mut self, meter: &Meter) -> World {
        self.client = meter.on(&self.client);
        self.events = EventStore::new(self.client.clone(), EVENT_TABLE);
        self.log = EventTable::new(self.client.clone(), EVENT_TABLE);
        self.read_model = ReadModelTable::new(self.client.clone(), READ_MODEL_TABLE);
        self
    }

    async fn append(&self, patient: &str, draft: &EventDraft) {
        let recorded_at = draft.occurred_at;
        append(
            &self.events,
            &patient.parse().unwrap(),
            draft,
            ExpectedVersion::Any,
            recorded_at,
        )
        .await
        .unwrap();
    }

    /// Registers a patient at minute 0, with a name that must not get anywhere: Canary.
    pub async fn register(&self, patient: &str) {
        self.append(patient, &registration(patient)).await;
    }

    /// Checks a patient in, at this minute.
    pub async fn check_in(&self, patient: &str, minute: i64) {
        self.append(patient, &checkin(patient, minute)).await;
    }

    /// As [`records`].
    #[must_use]
    pub fn images(&self, patient: &str, check_ins: i64) -> Vec<serde_json::Value> {
        records(patient, check_ins)
    }

    /// A registered patient with check-ins at minutes 1 to `check_ins`.
    pub async fn patient(&self, patient: &str, check_ins: i64) {
        self.register(patient).await;
        for minute in 1..=check_ins {
            self.check_in(patient, minute).await;
        }
    }

    /// A patient who was registered at this minute.
    pub async fn patient_at(&self, patient: &str, minute: i64) {
        let draft = EventDraft {
            occurred_at: at(minute),
            ..registration(patient)
        };
        self.append(patient, &draft).await;
    }

    /// Where DynamoDB is, for programs that connect by themselves.
    #[must_use]
    pub fn endpoint_url(&self) -> String {
        self.dynamodb.endpoint_url()
    }

    /// Registered patients with check-ins at minutes 1 to `check_ins`, written in batches, which is quicker than
    /// appending.
    pub async fn put_streams(&self, patients: &[String], check_ins: i64) {
        for patient in patients {
            let images: Vec<HashMap<String, AttributeValue>> = stream_of(patient, check_ins)
                .iter()
                .map(|event| event_log::item::to_item(event).unwrap().into())
                .collect();
            for some in images.chunks(25) {
                let put = |image: &HashMap<String, AttributeValue>| {
                    let put = PutRequest::builder().set_item(Some(image.clone())).build();
                    WriteRequest::builder().put_request(put.unwrap()).build()
                };
                let requests = some.iter().map(put).collect();
                let write = self.client.batch_write_item();
                let answer = write.request_items(EVENT_TABLE, requests).send().await.unwrap();
                assert!(answer.unprocessed_items.is_none_or(|left| left.is_empty()));
            }
        }
    }

    /// Sets one attribute of an event's item, as somebody with write access would.
    pub async fn edit(&self, patient: &str, version: u64, attribute: &str, value: AttributeValue) {
        self.client
            .update_item()
            .table_name(EVENT_TABLE)
            .key("patient_id", AttributeValue::S(patient.to_owned()))
            .key("version", AttributeValue::N(version.to_string()))
            .update_expression("SET #a = :v")
            .expression_attribute_names("#a", attribute)
            .expression_attribute_values(":v", value)
            .send()
            .await
            .unwrap();
    }

    /// Removes an event, as somebody with write access would.
    pub async fn remove(&self, patient: &str, version: u64) {
        self.client
            .delete_item()
            .table_name(EVENT_TABLE)
            .key("patient_id", AttributeValue::S(patient.to_owned()))
            .key("version", AttributeValue::N(version.to_string()))
            .send()
            .await
            .unwrap();
    }

    /// Sets one attribute of a patient's summary, or removes it, as somebody with write access would.
    pub async fn edit_summary(
        &self,
        generation: Generation,
        patient: &str,
        attribute: &str,
        value: Option<AttributeValue>,
    ) {
        let change = if value.is_some() {
            "SET #a = :v"
        } else {
            "REMOVE #a"
        };
        let pk = patient_pk(generation, &patient.parse().unwrap());
        self.client
            .update_item()
            .table_name(READ_MODEL_TABLE)
            .key(PK, AttributeValue::S(pk))
            .key(SK, AttributeValue::S(SUMMARY.to_owned()))
            .update_expression(change)
            .expression_attribute_names("#a", attribute)
            .set_expression_attribute_values(value.map(|value| HashMap::from([(":v".to_owned(), value)])))
            .send()
            .await
            .unwrap();
    }

    /// Puts an item into the event table as it is.
    pub async fn put_raw(&self, item: &[(&str, AttributeValue)]) {
        let mut put = self.client.put_item().table_name(EVENT_TABLE);
        for (name, value) in item {
            put = put.item(*name, value.clone());
        }
        put.send().await.unwrap();
    }

    /// The stream of the event table after sequence number `after`, or all of it, as Lambda would be given it.
    #[must_use]
    pub fn stream(&self, after: Option<&str>) -> Vec<serde_json::Value> {
        embedded::stream::records(self.dynamodb.database(), after, 10_000).unwrap()
    }

    /// Where the stream of the event table ends.
    #[must_use]
    pub fn last_sequence_number(&self) -> Option<String> {
        let mut last = None;
        while let Some(record) = self.stream(last.as_deref()).pop() {
            let number = record
                .pointer("/dynamodb/SequenceNumber")
                .and_then(serde_json::Value::as_str);
            last = number.map(str::to_owned);
        }
        last
    }

    /// The control item.
    pub async fn control(&self) -> Control {
        projection::current(&self.store()).await.unwrap()
    }

    /// What the read model has of a patient.
    pub async fn state(&self, generation: Generation, patient: &str) -> PatientState {
        let patients = [patient.parse().unwrap()];
        let states = self
            .read_model
            .states(generation, &patients, Consistency::Strong)
            .await
            .unwrap();
        let stored = states.into_iter().next().unwrap();
        stored.unwrap().unwrap_or_default()
    }

    /// What readers see of a patient's check-ins, oldest first.
    pub async fn visible(&self, generation: Generation, patient: &str) -> Vec<CheckinRow> {
        let applied = self.state(generation, patient).await.applied;
        let range = RowRange {
            ascending: true,
            ..RowRange::default()
        };
        let page = self
            .read_model
            .rows(generation, &patient.parse().unwrap(), range, 1_000)
            .await
            .unwrap();
        assert!(!page.more);
        page.items
            .into_iter()
            .filter(|row| row.version <= applied)
            .collect()
    }

    /// Asserts that what readers see of a patient is the fold of its events up to the applied version.
    pub async fn assert_is_fold(&self, generation: Generation, patient: &str) -> PatientState {
        let found = self.state(generation, patient).await;
        let id: PatientId = patient.parse().unwrap();
        let entries = self.log.read(&id, StreamVersion::EMPTY, 10_000).await.unwrap();
        let mut expected = PatientState::default();
        let mut rows = Vec::new();
        for entry in entries
            .into_iter()
            .take_while(|entry| entry.version <= found.applied)
        {
            if let Applied::CheckedIn(row) = expected.apply(&entry.decode().event.unwrap()).unwrap() {
                rows.push(row);
            }
        }
        rows.sort_by_key(|row| (row.occurred_at, row.version));
        expected.quarantine.clone_from(&found.quarantine);
        assert_eq!(found, expected, "{patient}");
        assert_eq!(self.visible(generation, patient).await, rows, "{patient}");
        let count = found.patient.as_ref().map_or(0, |patient| patient.checkin_count);
        assert_eq!(usize::try_from(count).unwrap(), rows.len(), "{patient}");
        found
    }

    /// Asserts that a patient's whole stream has been applied, and is what readers see.
    pub async fn assert_complete(&self, generation: Generation, patient: &str) {
        let state = self.assert_is_fold(generation, patient).await;
        let head = self.log.head(&patient.parse().unwrap()).await.unwrap();
        assert_eq!((state.applied, state.quarantine), (head, None), "{patient}");
    }
}
