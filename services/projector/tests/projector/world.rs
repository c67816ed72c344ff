//! An event table with its stream and a read model, on the embedded DynamoDB.

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use aws_lambda_events::dynamodb::{Event, EventRecord};
use aws_lambda_events::streams::DynamoDbEventResponse;
use aws_sdk_dynamodb::types::AttributeValue;
use domain::{
    Applied, CheckinId, CheckinRow, CorrelationId, EventDraft, EventId, Generation, PatientCheckedIn,
    PatientId, PatientRegistered, PatientState, StreamEntry, StreamVersion, Timestamp,
};
use embedded::{EVENT_TABLE, EmbeddedDynamoDb, READ_MODEL_TABLE};
use event_log::{EventLog, EventTable, LogPage, LogPosition, LogUnavailable, RecordedKey, Segment};
use event_store::{EventStore, ExpectedVersion, append};
use projection::{
    PatientRow, ProjectionStore, ProjectionTable, ProjectionUnavailable, PutControlError, PutStateError,
    QuarantineNotice, QuarantineQueue, QueueUnavailable,
};
use projector::Projector;
use read_model::{Consistency, Control, Progress, ReadModelStore, ReadModelTable, RowRange};

/// When everything in these tests happens, plus some minutes.
pub(crate) fn at(minute: i64) -> Timestamp {
    Timestamp::from_unix_millis(1_764_000_000_000 + minute * 60_000).unwrap()
}

fn clock() -> Timestamp {
    at(1_000)
}

pub(crate) struct World {
    dynamodb: EmbeddedDynamoDb,
    pub(crate) client: aws_sdk_dynamodb::Client,
    events: EventStore,
    pub(crate) log: EventTable,
    pub(crate) read_model: ReadModelTable,
    pub(crate) queue: Queue,
}

/// Notices, in the order in which they were put.
#[derive(Default)]
pub(crate) struct Queue {
    pub(crate) notices: Mutex<Vec<QuarantineNotice>>,
    /// How many of the next calls fail.
    pub(crate) failures: AtomicU32,
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
    pub(crate) async fn new() -> World {
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

    pub(crate) fn store(&self) -> ProjectionTable {
        ProjectionTable::new(self.client.clone(), READ_MODEL_TABLE)
    }

    pub(crate) fn projector(&self) -> Projector<EventTable, ProjectionTable, &Queue> {
        self.projector_on(self.log.clone(), self.store())
    }

    pub(crate) fn projector_on<L, S>(&self, log: L, store: S) -> Projector<L, S, &Queue> {
        Projector {
            log,
            store,
            queue: &self.queue,
            concurrency: 4,
            clock,
        }
    }

    async fn append(&self, patient: &str, kind: &str, minute: i64, event: domain::Event) {
        let occasion = CorrelationId::derive("test", &[]);
        let draft = EventDraft {
            event_id: EventId::derive(kind, &[patient, &minute.to_string()]),
            occurred_at: at(minute),
            correlation_id: occasion,
            causation_id: occasion,
            event,
        };
        append(
            &self.events,
            &patient.parse().unwrap(),
            &draft,
            ExpectedVersion::Any,
            at(minute),
        )
        .await
        .unwrap();
    }

    pub(crate) async fn register(&self, patient: &str) {
        let name = format!("Canary {patient}").parse().unwrap();
        let event = domain::Event::PatientRegistered(PatientRegistered { name });
        self.append(patient, "registration", 0, event).await;
    }

    pub(crate) async fn check_in(&self, patient: &str, minute: i64) {
        let checkin_id = CheckinId::derive(&[patient, &minute.to_string()]);
        let event = domain::Event::PatientCheckedIn(PatientCheckedIn { checkin_id });
        self.append(patient, "check-in", minute, event).await;
    }

    /// A registered patient with check-ins at minutes 1 to `check_ins`.
    pub(crate) async fn patient(&self, patient: &str, check_ins: i64) {
        self.register(patient).await;
        for minute in 1..=check_ins {
            self.check_in(patient, minute).await;
        }
    }

    /// Sets one attribute of an event's item, as somebody with write access would.
    pub(crate) async fn edit(&self, patient: &str, version: u64, attribute: &str, value: AttributeValue) {
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
    pub(crate) async fn remove(&self, patient: &str, version: u64) {
        self.client
            .delete_item()
            .table_name(EVENT_TABLE)
            .key("patient_id", AttributeValue::S(patient.to_owned()))
            .key("version", AttributeValue::N(version.to_string()))
            .send()
            .await
            .unwrap();
    }

    /// Puts an item into the event table as it is.
    pub(crate) async fn put_raw(&self, item: &[(&str, AttributeValue)]) {
        let mut put = self.client.put_item().table_name(EVENT_TABLE);
        for (name, value) in item {
            put = put.item(*name, value.clone());
        }
        put.send().await.unwrap();
    }

    /// The whole stream of the event table, as Lambda would be given it.
    pub(crate) fn stream(&self) -> Vec<EventRecord> {
        let event = embedded::stream::records(self.dynamodb.database(), None, 10_000).unwrap();
        let event: Event = serde_json::from_value(serde_json::json!({ "Records": event })).unwrap();
        event.records
    }

    pub(crate) async fn control(&self) -> Control {
        projection::current(&self.store()).await.unwrap()
    }

    pub(crate) async fn state(&self, generation: Generation, patient: &str) -> PatientState {
        let patients = [patient.parse().unwrap()];
        let states = self
            .read_model
            .states(generation, &patients, Consistency::Strong)
            .await
            .unwrap();
        states.into_iter().next().flatten().unwrap_or_default()
    }

    /// What readers see of a patient's check-ins, oldest first.
    pub(crate) async fn visible(&self, generation: Generation, patient: &str) -> Vec<CheckinRow> {
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
    pub(crate) async fn assert_is_fold(&self, generation: Generation, patient: &str) -> PatientState {
        let found = self.state(generation, patient).await;
        let id: PatientId = patient.parse().unwrap();
        let entries = self.log.read(&id, StreamVersion::EMPTY, 10_000).await.unwrap();
        let mut expected = PatientState::default();
        let mut rows = Vec::new();
        for entry in entries
            .into_iter()
            .take_while(|entry| entry.version <= found.applied)
        {
            if let Applied::CheckedIn(row) = expected.apply(&entry.event.unwrap()).unwrap() {
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
    pub(crate) async fn assert_complete(&self, generation: Generation, patient: &str) {
        let state = self.assert_is_fold(generation, patient).await;
        let head = self.log.head(&patient.parse().unwrap()).await.unwrap();
        assert_eq!((state.applied, state.quarantine), (head, None), "{patient}");
    }
}

/// A batch of these records.
pub(crate) fn batch(records: impl IntoIterator<Item = EventRecord>) -> Event {
    let mut event = Event::default();
    event.records.extend(records);
    event
}

/// The record at which the stream is to be taken up again, if any.
pub(crate) fn failed(response: &DynamoDbEventResponse) -> Option<&str> {
    assert!(response.batch_item_failures.len() <= 1);
    response
        .batch_item_failures
        .first()
        .map(|failure| failure.item_identifier.as_deref().unwrap())
}

/// The read model's table, with faults.
pub(crate) struct Faulty {
    pub(crate) inner: ProjectionTable,
    /// Patients whose rows cannot be put.
    pub(crate) no_rows: HashSet<PatientId>,
    /// Patients whose state is put, but whose acknowledgement is lost.
    pub(crate) no_answer: HashSet<PatientId>,
}

fn fault() -> ProjectionUnavailable {
    ProjectionUnavailable("a fault was injected".into())
}

impl ProjectionStore for Faulty {
    async fn states(
        &self,
        generation: Generation,
        patients: &[PatientId],
    ) -> Result<Vec<Option<PatientState>>, ProjectionUnavailable> {
        self.inner.states(generation, patients).await
    }

    async fn put_rows(
        &self,
        generation: Generation,
        rows: &[PatientRow],
    ) -> Result<(), ProjectionUnavailable> {
        if rows.iter().any(|row| self.no_rows.contains(&row.patient_id)) {
            return Err(fault());
        }
        self.inner.put_rows(generation, rows).await
    }

    async fn put_state(
        &self,
        generation: Generation,
        patient: &PatientId,
        expected: StreamVersion,
        state: &PatientState,
    ) -> Result<(), PutStateError> {
        self.inner.put_state(generation, patient, expected, state).await?;
        if self.no_answer.contains(patient) {
            Err(fault().into())
        } else {
            Ok(())
        }
    }

    async fn control(&self) -> Result<Option<Control>, ProjectionUnavailable> {
        self.inner.control().await
    }

    async fn put_control(
        &self,
        expected: Option<&Control>,
        control: &Control,
    ) -> Result<(), PutControlError> {
        self.inner.put_control(expected, control).await
    }

    async fn put_progress(
        &self,
        generation: Generation,
        progress: &Progress,
    ) -> Result<(), ProjectionUnavailable> {
        self.inner.put_progress(generation, progress).await
    }
}

/// An event table that is never there.
pub(crate) struct NoLog;

impl EventLog for NoLog {
    async fn read(
        &self,
        _: &PatientId,
        _: StreamVersion,
        _: u16,
    ) -> Result<Vec<StreamEntry>, LogUnavailable> {
        Err(LogUnavailable("a fault was injected".into()))
    }

    async fn head(&self, _: &PatientId) -> Result<StreamVersion, LogUnavailable> {
        Err(LogUnavailable("a fault was injected".into()))
    }

    async fn scan(&self, _: Segment, _: Option<LogPosition>) -> Result<LogPage<StreamEntry>, LogUnavailable> {
        Err(LogUnavailable("a fault was injected".into()))
    }

    async fn recorded_since(
        &self,
        _: domain::EventShard,
        _: Timestamp,
        _: Option<LogPosition>,
    ) -> Result<LogPage<RecordedKey>, LogUnavailable> {
        Err(LogUnavailable("a fault was injected".into()))
    }
}
