//! How far the build of a generation has come, kept so that a build which is cut short goes on where it was.

use std::collections::BTreeSet;
use std::future::Future;

use domain::{Generation, Timestamp};
use event_log::{LogPosition, Segment};
use projection::ProjectionUnavailable;
use serde::{Deserialize, Serialize};

/// How a generation is built. It is kept before anything is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begun {
    /// Into how many segments the event table is divided, until the build is finished: another number would begin anew.
    pub segments: u16,
}

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

    /// Nothing yet: a pass has begun.
    pub(crate) const NOTHING: Seen = Seen::now(0);

    pub(crate) const fn earlier(events: u64) -> Seen {
        Seen {
            events,
            earlier: true,
        }
    }
}

/// The passes of a build, and of what makes it the active generation. The names of the first two are a storage format: how
/// far they have come is kept. The others count nothing, they are only told to have begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// Applies all events.
    Apply,
    /// Verifies what came of it.
    Verify,
    /// Looks whether a generation that is brought back agrees with itself.
    Audit,
    /// Applies what was recorded meanwhile.
    Reconcile,
    /// Compares with what queries see.
    Compare,
    /// Applies, after the promotion, what had been left out on purpose.
    ReconcileAgain,
}

impl Pass {
    /// The name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Pass::Apply => "apply",
            Pass::Verify => "verify",
            Pass::Audit => "audit",
            Pass::Reconcile => "reconcile",
            Pass::Compare => "compare",
            Pass::ReconcileAgain => "reconcile-again",
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
    /// The broken links of hash chains that were accepted meanwhile; only of [`Pass::Verify`].
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub accepted: BTreeSet<String>,
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
    /// The broken links of hash chains that were accepted.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub accepted: BTreeSet<String>,
}

/// Keeping how far builds have come. Two implementations: [`crate::ReplayTable`], and the simulator's.
pub trait BuildStore: Send + Sync {
    /// How the generation was begun; `None` if nobody has kept it.
    fn begun(
        &self,
        generation: Generation,
    ) -> impl Future<Output = Result<Option<Begun>, ProjectionUnavailable>> + Send;

    /// Keeps how the generation was begun.
    fn put_begun(
        &self,
        generation: Generation,
        begun: &Begun,
    ) -> impl Future<Output = Result<(), ProjectionUnavailable>> + Send;

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
