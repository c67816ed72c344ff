//! Reading the event table, the source of truth.
//!
//! Deliberately absent: any way to write. Appending is the crate `event-store`, which only the producer links.

mod event_table;
pub mod image;
pub mod item;

use std::future::Future;

use domain::{EventShard, PatientId, StoredEntry, StreamVersion, Timestamp};
use serde::{Deserialize, Serialize};

pub use event_table::EventTable;

/// The event table could not be read: throttled, unreachable, or not there. Retry later.
#[derive(Debug, thiserror::Error)]
#[error("the event table is unavailable")]
pub struct LogUnavailable(#[source] pub Box<dyn std::error::Error + Send + Sync>);

/// One of `total` parts that a scan of the whole table is divided into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// Which part: 0 to `total` - 1.
    pub index: u16,
    /// How many parts.
    pub total: u16,
}

/// Where a scan or a sweep goes on: after this event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogPosition {
    /// Whose stream.
    pub patient_id: PatientId,
    /// Where in the stream.
    pub version: StreamVersion,
    /// When it was appended; only a sweep needs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recorded_at: Option<Timestamp>,
}

/// One page of a scan or a sweep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogPage<T> {
    /// What was read.
    pub entries: Vec<T>,
    /// Where to go on; `None` at the end.
    pub next: Option<LogPosition>,
}

/// That an event exists, and when it was recorded, without its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedKey {
    /// Whose stream.
    pub patient_id: PatientId,
    /// Where in the stream.
    pub version: StreamVersion,
    /// When it was appended.
    pub recorded_at: Timestamp,
}

/// Reading events. Two implementations: [`EventTable`], and the simulator's.
pub trait EventLog: Send + Sync {
    /// Up to `limit` entries of a stream after version `after`, in order, as they are stored; consistent: every event
    /// appended before the call is seen. Fewer than `limit` may be a page that ended early; none means that the stream ends
    /// there.
    fn read(
        &self,
        patient: &PatientId,
        after: StreamVersion,
        limit: u16,
    ) -> impl Future<Output = Result<Vec<StoredEntry>, LogUnavailable>> + Send;

    /// The version of a stream's last event; consistent.
    fn head(&self, patient: &PatientId)
    -> impl Future<Output = Result<StreamVersion, LogUnavailable>> + Send;

    /// A page of the whole table's `segment` as it is stored, after `after`. Each stream lies in one segment, in order,
    /// but may span pages. Consistent: every event appended before the scan began is seen.
    fn scan(
        &self,
        segment: Segment,
        after: Option<LogPosition>,
    ) -> impl Future<Output = Result<LogPage<StoredEntry>, LogUnavailable>> + Send;

    /// A page of what was recorded in `shard` at `from` or later, in order of recording. Not consistent: the
    /// index follows the table, commonly within a second, so sweep again from a little earlier.
    fn recorded_since(
        &self,
        shard: EventShard,
        from: Timestamp,
        after: Option<LogPosition>,
    ) -> impl Future<Output = Result<LogPage<RecordedKey>, LogUnavailable>> + Send;
}
