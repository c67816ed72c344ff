//! The narrow seam to where the read model is stored. What readers may conclude from it is in the queries.

use std::future::Future;

use domain::{CheckinRow, Generation, ListingShard, PatientId, PatientState, StreamVersion, Timestamp};
use serde::{Deserialize, Serialize};

use crate::freshness::Freshness;
use crate::item::Control;

/// The read model could not be read: throttled, unreachable, or not there. Retry later.
#[derive(Debug, thiserror::Error)]
#[error("the read model is unavailable")]
pub struct ReadModelUnavailable(#[source] pub Box<dyn std::error::Error + Send + Sync>);

/// A patient's stored summary can't be decoded: somebody edited it, say. The projection replaces it when the patient
/// has an event to apply. What is wrong with it is not told, as that would quote patient data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the patient's stored summary is malformed")]
pub struct MalformedSummary;

/// What is stored of a patient: the state, if there is one, unless it can't be decoded.
pub type StoredState = Result<Option<PatientState>, MalformedSummary>;

impl MalformedSummary {
    /// Logs that a list goes without the patient.
    pub(crate) fn log_not_listed(self) {
        tracing::error!("a patient is not listed: the stored summary is malformed");
    }
}

impl From<MalformedSummary> for ReadModelUnavailable {
    fn from(malformed: MalformedSummary) -> ReadModelUnavailable {
        ReadModelUnavailable(malformed.into())
    }
}

/// Which writes a read must see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consistency {
    /// All that were acknowledged before it.
    Strong,
    /// Commonly those of more than a second ago. Half the price.
    Eventual,
}

/// A place in a patient's check-ins, which are ordered by time and then by version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RowKey {
    /// When the check-in occurred.
    pub occurred_at: Timestamp,
    /// The version of its event.
    pub version: StreamVersion,
}

impl RowKey {
    /// The place of this row.
    #[must_use]
    pub const fn of(row: &CheckinRow) -> RowKey {
        RowKey {
            occurred_at: row.occurred_at,
            version: row.version,
        }
    }
}

/// Which of a patient's rows to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RowRange {
    /// Not before this time.
    pub from: Option<Timestamp>,
    /// Before this time.
    pub to: Option<Timestamp>,
    /// Only what comes after this place in the reading direction.
    pub after: Option<RowKey>,
    /// Oldest first instead of newest first.
    pub ascending: bool,
}

/// What one read gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// What was read, in order.
    pub items: Vec<T>,
    /// Whether there may be more after the last one. An empty page is the end.
    pub more: bool,
}

/// One entry of the index by most recent check-in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecentEntry {
    /// The entry's place in the index: what to go on after.
    pub recent_key: String,
    /// Which patient.
    pub patient_id: PatientId,
    /// The patient's summary; an empty one if what is stored is malformed.
    pub state: PatientState,
}

/// Reading the stored read model. Two implementations: [`crate::ReadModelTable`], and the simulator's.
///
/// Every `limit` is a number of items to read, at least 1, so a page can have fewer even though there are more.
pub trait ReadModelStore: Send + Sync {
    /// The control item; `None` before anything was projected. Not consistent: commonly that of more than a second
    /// ago, so the generation that was active before has to stay for a while.
    fn control(&self) -> impl Future<Output = Result<Option<Control>, ReadModelUnavailable>> + Send;

    /// Who has confirmed what of a generation. Not consistent either.
    fn freshness(
        &self,
        generation: Generation,
    ) -> impl Future<Output = Result<Freshness, ReadModelUnavailable>> + Send;

    /// What is stored of these patients, each named once, in their order.
    fn states(
        &self,
        generation: Generation,
        patients: &[PatientId],
        consistency: Consistency,
    ) -> impl Future<Output = Result<Vec<StoredState>, ReadModelUnavailable>> + Send;

    /// A page of a patient's rows, applied or not; always consistent, so that a summary that was read before
    /// finds all its rows.
    fn rows(
        &self,
        generation: Generation,
        patient: &PatientId,
        range: RowRange,
        limit: u16,
    ) -> impl Future<Output = Result<Page<CheckinRow>, ReadModelUnavailable>> + Send;

    /// A page of one shard's patients, in order of their ids, after `after`.
    fn ids(
        &self,
        generation: Generation,
        shard: ListingShard,
        after: Option<&PatientId>,
        limit: u16,
    ) -> impl Future<Output = Result<Page<PatientId>, ReadModelUnavailable>> + Send;

    /// A page of one shard's patients, most recent check-in first, after the entry at `after`.
    fn recent(
        &self,
        generation: Generation,
        shard: ListingShard,
        after: Option<&str>,
        limit: u16,
    ) -> impl Future<Output = Result<Page<RecentEntry>, ReadModelUnavailable>> + Send;
}
