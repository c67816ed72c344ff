//! How far the build of a generation has come, kept so that a build which is cut short goes on where it was.

use std::collections::BTreeSet;
use std::future::Future;

use domain::{Generation, PatientId, Timestamp};
use event_log::{LogPosition, Segment};
use projection::ProjectionUnavailable;
use serde::{Deserialize, Serialize};

/// Events that a pass has read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// How many.
    pub events: u64,
    /// Whether an earlier run read them, which was cut short.
    pub earlier: bool,
}

impl Seen {
    pub(crate) const fn now(events: u64) -> Seen {
        Seen {
            events,
            earlier: false,
        }
    }

    pub(crate) const fn earlier(events: u64) -> Seen {
        Seen {
            events,
            earlier: true,
        }
    }
}

/// The passes of a build. The names are a storage format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// Applies all events.
    Apply,
    /// Verifies what came of it.
    Verify,
}

impl Pass {
    /// The name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Pass::Apply => "apply",
            Pass::Verify => "verify",
        }
    }
}

/// How far one pass has come in one segment. Whatever it says has been done is done, whoever wrote it last, so it needs
/// no condition.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Into how many segments the table was divided. For another number the checkpoint says nothing.
    pub segments: u16,
    /// Where to go on; `None` with `done` at the end, without it at the beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<LogPosition>,
    /// Whether the segment is finished.
    pub done: bool,
    /// How many events were read up to here.
    pub events: u64,
    /// How many patients were finished up to here; only of [`Pass::Verify`].
    #[serde(default)]
    pub patients: u64,
    /// The patients whose broken hash chains were accepted meanwhile; only of [`Pass::Verify`].
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub accepted: BTreeSet<PatientId>,
}

impl Checkpoint {
    /// Nothing is done yet.
    pub(crate) fn beginning(segment: Segment) -> Checkpoint {
        Checkpoint {
            segments: segment.total,
            ..Checkpoint::default()
        }
    }
}

/// That a generation was found to be what the events say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verification {
    /// When.
    pub verified_at: Timestamp,
    /// How many patients it had.
    pub patients: u64,
    /// How many events they had.
    pub events: u64,
    /// Whether it was for a dry run, so that somebody else decides whether it is promoted.
    pub dry_run: bool,
    /// The patients whose broken hash chains were accepted.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub accepted: BTreeSet<PatientId>,
}

/// Keeping how far builds have come. Two implementations: [`crate::ReplayTable`], and the simulator's.
pub trait BuildStore: Send + Sync {
    /// How far a pass has come in a segment; `None` if it never began, or with another number of segments.
    fn checkpoint(
        &self,
        generation: Generation,
        pass: Pass,
        segment: Segment,
    ) -> impl Future<Output = Result<Option<Checkpoint>, ProjectionUnavailable>> + Send;

    /// Keeps how far a pass has come in the segment with this index.
    fn put_checkpoint(
        &self,
        generation: Generation,
        pass: Pass,
        index: u16,
        checkpoint: &Checkpoint,
    ) -> impl Future<Output = Result<(), ProjectionUnavailable>> + Send;

    /// The generation's verification, if it passed one.
    fn verification(
        &self,
        generation: Generation,
    ) -> impl Future<Output = Result<Option<Verification>, ProjectionUnavailable>> + Send;

    /// Keeps that a generation passed its verification.
    fn put_verification(
        &self,
        generation: Generation,
        verification: &Verification,
    ) -> impl Future<Output = Result<(), ProjectionUnavailable>> + Send;
}
