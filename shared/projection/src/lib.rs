//! Keeping the read model up to date: the writing side of what the crate `read-model` reads.
//!
//! [`Advance`] is the one algorithm for live traffic, replay, redrive and reconcile. It can read the event
//! table, through the crate `event-log`. Deliberately absent: any way to append to it.

mod advance;
mod at_once;
mod batch_write;
mod generations;
mod hints;
mod projection_table;
mod quarantine_queue;
mod reconcile;
mod store;
mod summary_batch;

/// Which software folds the events here: the digest of the sources that have a say in it.
pub const SOFTWARE: &str = env!("FOLD_SOFTWARE");

pub use advance::{Advance, AdvanceError, CatchUp, Outcome, Retry};
pub use batch_write::batch_write;
pub use generations::{
    BeginError, Building, PromoteError, abandon, begin_building, begin_rolling_back, current,
    forget_previous, promote,
};
pub use hints::Hints;
pub use projection_table::ProjectionTable;
pub use quarantine_queue::{QuarantineNotice, QuarantineQueue, QueueUnavailable, SqsQuarantineQueue};
pub use reconcile::{Reconcile, ReconcileError, Reconciled, Remaining, SWEEP_OVERLAP_MILLIS};
pub use store::{
    EarlierSweep, MAX_ROWS_PER_PUT, MAX_STATES_PER_PUT, PatientRow, ProjectionStore, ProjectionUnavailable,
    PutControlError, PutStateError, StateChange, Sweep, SweepStore,
};
