//! The narrow seam to where the read model is written.

use std::future::Future;

use domain::{CheckinRow, Generation, PatientId, PatientState, StreamVersion, Timestamp};
use read_model::{Control, Progress};

pub use read_model::{EarlierSweep, Sweep};

/// Most rows that [`ProjectionStore::put_rows`] takes, and most requests of a [`batch_write`](crate::batch_write()):
/// what one BatchWriteItem does
/// (<https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchWriteItem.html>).
pub const MAX_ROWS_PER_PUT: usize = 25;

/// Most changes that [`ProjectionStore::put_states`] takes: what one BatchExecuteStatement does
/// (<https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchExecuteStatement.html>).
pub const MAX_STATES_PER_PUT: usize = 25;

/// The read model's table could not be read or written: throttled, unreachable, or not there. Retry later;
/// every write can be repeated.
#[derive(Debug, thiserror::Error)]
#[error("the read model's table is unavailable")]
pub struct ProjectionUnavailable(#[source] pub Box<dyn std::error::Error + Send + Sync>);

/// Why a state was not put.
#[derive(Debug, thiserror::Error)]
pub enum PutStateError {
    /// Another worker advanced the patient. Read the state again.
    #[error("another worker advanced the patient")]
    Conflict,
    /// Retry later.
    #[error(transparent)]
    Unavailable(#[from] ProjectionUnavailable),
}

/// Why a control item was not put.
#[derive(Debug, thiserror::Error)]
pub enum PutControlError {
    /// Somebody else changed it. Read it again and decide anew.
    #[error("the control item was changed by somebody else")]
    Conflict,
    /// Retry later.
    #[error(transparent)]
    Unavailable(#[from] ProjectionUnavailable),
}

/// A row, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PatientRow {
    /// Which patient.
    pub patient_id: PatientId,
    /// The row.
    pub row: CheckinRow,
}

/// A patient's state, and what it takes the place of. Neither has a mark of quarantine: the others are put alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StateChange<'a> {
    /// Which patient.
    pub patient_id: &'a PatientId,
    /// As for [`ProjectionStore::put_state`].
    pub expected: StreamVersion,
    /// The state.
    pub state: &'a PatientState,
}

/// Writing the stored read model. Two implementations: [`crate::ProjectionTable`], and the simulator's.
pub trait ProjectionStore: Send + Sync {
    /// The states of these patients, in their order; consistent. `None` for one of whom nothing was applied, or
    /// whose stored summary is malformed, which says as little.
    fn states(
        &self,
        generation: Generation,
        patients: &[PatientId],
    ) -> impl Future<Output = Result<Vec<Option<PatientState>>, ProjectionUnavailable>> + Send;

    /// Puts up to [`MAX_ROWS_PER_PUT`] rows of any patients. A failure may leave some of them put, which nobody
    /// sees: readers look at no row above a patient's applied version.
    fn put_rows(
        &self,
        generation: Generation,
        rows: &[PatientRow],
    ) -> impl Future<Output = Result<(), ProjectionUnavailable>> + Send;

    /// Puts a patient's state, if the applied version still is `expected` ([`StreamVersion::EMPTY`]: if there is no
    /// state yet, or one that nothing was applied to, or a malformed summary).
    fn put_state(
        &self,
        generation: Generation,
        patient: &PatientId,
        expected: StreamVersion,
        state: &PatientState,
    ) -> impl Future<Output = Result<(), PutStateError>> + Send;

    /// Puts up to [`MAX_STATES_PER_PUT`] states of different patients by one call, each on its own condition; for each of them,
    /// in their order, whether it was put. Whatever the reason why one was not,
    /// [`put_state`](ProjectionStore::put_state) tells.
    ///
    /// An error of the whole says of none whether it was put.
    fn put_states(
        &self,
        generation: Generation,
        changes: &[StateChange<'_>],
    ) -> impl Future<Output = Result<Vec<bool>, ProjectionUnavailable>> + Send;

    /// The control item; consistent.
    fn control(&self) -> impl Future<Output = Result<Option<Control>, ProjectionUnavailable>> + Send;

    /// Puts the control item, if it still is `expected`.
    fn put_control(
        &self,
        expected: Option<&Control>,
        control: &Control,
    ) -> impl Future<Output = Result<(), PutControlError>> + Send;

    /// Puts a generation's progress, whatever it was.
    fn put_progress(
        &self,
        generation: Generation,
        progress: &Progress,
    ) -> impl Future<Output = Result<(), ProjectionUnavailable>> + Send;
}

/// Keeping how far the reconciler has compared a generation with the events.
pub trait SweepStore: Send + Sync {
    /// What the last sweep came to; `None` if there was none. Consistent.
    fn last_sweep(
        &self,
        generation: Generation,
    ) -> impl Future<Output = Result<Option<Sweep>, ProjectionUnavailable>> + Send;

    /// Up to when sweeps have compared everything: later events may never have been looked at. `None` if there was none.
    fn swept_to(
        &self,
        generation: Generation,
    ) -> impl Future<Output = Result<Option<Timestamp>, ProjectionUnavailable>> + Send {
        let last = self.last_sweep(generation);
        async move { Ok(last.await?.map(|sweep| sweep.swept_to)) }
    }

    /// Keeps how far a sweep has come.
    fn put_sweep(
        &self,
        generation: Generation,
        sweep: &Sweep,
    ) -> impl Future<Output = Result<(), ProjectionUnavailable>> + Send;
}
