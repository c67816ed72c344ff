//! The projector on the testbed, and faults.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use aws_lambda_events::dynamodb::{Event, EventRecord};
use domain::{EventShard, Generation, PatientId, PatientState, StoredEntry, StreamVersion, Timestamp};
use event_log::{EventLog, EventTable, LogPage, LogPosition, LogUnavailable, RecordedKey, Segment};
use projection::{
    PatientRow, ProjectionStore, ProjectionTable, ProjectionUnavailable, PutControlError, PutStateError,
    StateChange,
};
use projector::{Handled, Projector, StreamBatch};
use read_model::{Control, Progress};
use testbed::{Queue, World, at};

pub(crate) fn projector(world: &World) -> Projector<EventTable, ProjectionTable, &Queue> {
    projector_on(world, world.log.clone(), world.store())
}

pub(crate) fn projector_on<L, S>(world: &World, log: L, store: S) -> Projector<L, S, &Queue> {
    Projector {
        log,
        store,
        queue: &world.queue,
        concurrency: 4,
        software: projection::SOFTWARE,
        clock: || at(1_000),
    }
}

/// The whole stream of the event table.
pub(crate) fn whole_stream(world: &World) -> Vec<EventRecord> {
    let event: Event = serde_json::from_value(serde_json::json!({ "Records": world.stream(None) })).unwrap();
    event.records
}

/// A batch of these records, as it is delivered.
pub(crate) fn batch(records: impl IntoIterator<Item = EventRecord>) -> StreamBatch {
    let mut event = Event::default();
    event.records.extend(records);
    serde_json::from_str(&serde_json::to_string(&event).unwrap()).unwrap()
}

/// The record at which the stream is to be taken up again, if any.
pub(crate) fn failed(handled: &Handled) -> Option<&str> {
    let response = &handled.response;
    assert!(response.batch_item_failures.len() <= 1);
    response
        .batch_item_failures
        .first()
        .map(|failure| failure.item_identifier.as_deref().unwrap())
}

/// The read model's table, with faults, and with a count of the calls.
pub(crate) struct Probe {
    pub(crate) inner: ProjectionTable,
    /// Patients whose rows cannot be put.
    pub(crate) no_rows: HashSet<PatientId>,
    /// Patients whose state is put, but whose acknowledgement is lost.
    pub(crate) no_answer: HashSet<PatientId>,
    /// Patients whose state somebody else always puts first.
    pub(crate) conflicts: HashSet<PatientId>,
    /// Whether states are put only alone: a role without the right to the other way, say.
    pub(crate) only_alone: bool,
    /// Calls that read states…
    pub(crate) state_reads: AtomicUsize,
    /// …that put rows…
    pub(crate) row_puts: AtomicUsize,
    /// …that put states together…
    pub(crate) batch_puts: AtomicUsize,
    /// …and that put a state alone.
    pub(crate) state_puts: AtomicUsize,
    /// Calls that are under way.
    pub(crate) under_way: AtomicUsize,
    /// Most calls that were under way at the same time.
    pub(crate) most_under_way: AtomicUsize,
}

impl Probe {
    pub(crate) fn new(world: &World) -> Probe {
        Probe {
            inner: world.store(),
            no_rows: HashSet::new(),
            no_answer: HashSet::new(),
            conflicts: HashSet::new(),
            only_alone: false,
            state_reads: AtomicUsize::new(0),
            row_puts: AtomicUsize::new(0),
            batch_puts: AtomicUsize::new(0),
            state_puts: AtomicUsize::new(0),
            under_way: AtomicUsize::new(0),
            most_under_way: AtomicUsize::new(0),
        }
    }

    async fn count<T>(&self, calls: &AtomicUsize, call: impl Future<Output = T>) -> T {
        calls.fetch_add(1, SeqCst);
        self.most_under_way
            .fetch_max(self.under_way.fetch_add(1, SeqCst) + 1, SeqCst);
        let answer = call.await;
        self.under_way.fetch_sub(1, SeqCst);
        answer
    }
}

fn fault() -> ProjectionUnavailable {
    ProjectionUnavailable("a fault was injected".into())
}

impl ProjectionStore for &Probe {
    async fn states(
        &self,
        generation: Generation,
        patients: &[PatientId],
    ) -> Result<Vec<Option<PatientState>>, ProjectionUnavailable> {
        self.count(&self.state_reads, self.inner.states(generation, patients))
            .await
    }

    async fn put_rows(
        &self,
        generation: Generation,
        rows: &[PatientRow],
    ) -> Result<(), ProjectionUnavailable> {
        if rows.iter().any(|row| self.no_rows.contains(&row.patient_id)) {
            return Err(fault());
        }
        self.count(&self.row_puts, self.inner.put_rows(generation, rows))
            .await
    }

    async fn put_state(
        &self,
        generation: Generation,
        patient: &PatientId,
        expected: StreamVersion,
        state: &PatientState,
    ) -> Result<(), PutStateError> {
        if self.conflicts.contains(patient) {
            return Err(PutStateError::Conflict);
        }
        self.count(
            &self.state_puts,
            self.inner.put_state(generation, patient, expected, state),
        )
        .await?;
        if self.no_answer.contains(patient) {
            Err(fault().into())
        } else {
            Ok(())
        }
    }

    async fn put_states(
        &self,
        generation: Generation,
        changes: &[StateChange<'_>],
    ) -> Result<Vec<bool>, ProjectionUnavailable> {
        let is_refused =
            |change: &StateChange<'_>| self.only_alone || self.conflicts.contains(change.patient_id);
        let others: Vec<_> = changes
            .iter()
            .filter(|change| !is_refused(change))
            .copied()
            .collect();
        let put = async {
            match others.as_slice() {
                [] => Ok(Vec::new()),
                others => self.inner.put_states(generation, others).await,
            }
        };
        let mut put = self.count(&self.batch_puts, put).await?.into_iter();
        if changes
            .iter()
            .any(|change| self.no_answer.contains(change.patient_id))
        {
            return Err(fault());
        }
        let is_put = |change| !is_refused(change) && put.next().unwrap();
        Ok(changes.iter().map(is_put).collect())
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
    ) -> Result<Vec<StoredEntry>, LogUnavailable> {
        Err(LogUnavailable("a fault was injected".into()))
    }

    async fn head(&self, _: &PatientId) -> Result<StreamVersion, LogUnavailable> {
        Err(LogUnavailable("a fault was injected".into()))
    }

    async fn scan(&self, _: Segment, _: Option<LogPosition>) -> Result<LogPage<StoredEntry>, LogUnavailable> {
        Err(LogUnavailable("a fault was injected".into()))
    }

    async fn recorded_since(
        &self,
        _: EventShard,
        _: Timestamp,
        _: Option<LogPosition>,
    ) -> Result<LogPage<RecordedKey>, LogUnavailable> {
        Err(LogUnavailable("a fault was injected".into()))
    }
}
