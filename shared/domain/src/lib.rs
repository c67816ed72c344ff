//! The pure rules of patient check-ins: what an event is, how a stream of them is chained, and how they
//! fold into what queries see.
//!
//! Deliberately absent: I/O, AWS, async, a clock and randomness. Time and identity come in as arguments, so
//! every rule here gives the same answer each time it is asked, on Lambda, on a laptop and in a test.

mod checkin_row;
mod event;
mod event_hash;
mod event_id;
mod generation;
mod hash_chain;
mod history;
mod patient;
mod patient_state;
mod quarantine;
mod shard;
mod stored_event;
mod stream_version;
mod text;
mod timestamp;
mod upcast;

pub use checkin_row::{CheckinId, CheckinRow};
pub use event::{Event, EventData, PatientCheckedIn, PatientRegistered};
pub use event_hash::EventHash;
pub use event_id::{CorrelationId, EventId};
pub use generation::Generation;
pub use hash_chain::{Break, BrokenLink, HashChain};
pub use history::HistoryDigest;
pub use patient::{InvalidPatient, PatientId, PatientName};
pub use patient_state::{Applied, ApplyError, Patient, PatientState, Rejection};
pub use quarantine::{Quarantine, QuarantineReason};
pub use shard::{EventShard, ListingShard, Shard};
pub use stored_event::{
    EventDraft, EventTooLarge, MAX_EVENT_BYTES, RecordedEvent, StoredEntry, StoredEvent, StreamEntry,
};
pub use stream_version::StreamVersion;
pub use timestamp::{InvalidTimestamp, Timestamp};
pub use upcast::{Undecodable, Upcaster, Upcasters};
