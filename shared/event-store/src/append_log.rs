//! The narrow seam between the append algorithm and where events are stored.

use std::future::Future;

use domain::{EventHash, EventId, PatientId, StoredEvent, StreamVersion, Timestamp};
use event_log::LogUnavailable;

/// What an append needs to know of an event that is there. The version is the event's key; the rest is read
/// whatever the state of its body, and `None` where the attribute itself is missing or malformed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TailEntry {
    /// Where in the stream.
    pub version: StreamVersion,
    /// Which fact.
    pub event_id: Option<EventId>,
    /// When it was appended.
    pub recorded_at: Option<Timestamp>,
    /// What the next event is chained to.
    pub hash: Option<EventHash>,
}

/// Why an event was not inserted.
#[derive(Debug, thiserror::Error)]
pub enum InsertError {
    /// There is an event of that version, possibly this very one. Read the tail again.
    #[error("the stream has an event of that version already")]
    Occupied,
    /// Throttled or unreachable; the event may have been inserted or not. Retry later.
    #[error("the event table is unavailable")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Where events are appended. Two implementations: [`crate::EventStore`], and the simulator's.
pub trait AppendLog: Send + Sync {
    /// The last `limit` events of a stream, or those before version `before`; newest first, and consistent: every
    /// event inserted before the call is seen. Fewer than `limit` means that the stream begins there.
    fn tail(
        &self,
        patient: &PatientId,
        before: Option<StreamVersion>,
        limit: u16,
    ) -> impl Future<Output = Result<Vec<TailEntry>, LogUnavailable>> + Send;

    /// Inserts the event unless there is one of its version.
    fn insert(&self, event: &StoredEvent) -> impl Future<Output = Result<(), InsertError>> + Send;
}
