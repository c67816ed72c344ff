//! The one way by which a fact becomes an event.

use domain::{EventDraft, EventHash, EventTooLarge, PatientId, StreamVersion, Timestamp};
use event_log::LogUnavailable;

use crate::{AppendLog, ExpectedVersion, InsertError, TailEntry};

/// How much of the tail is read to find the head: as many common events (some 600 bytes each) as one read unit
/// covers, so that the latest facts are recognised at no extra cost.
const TAIL_PAGE: u16 = 5;
/// How much is read at a time further back.
const LOOK_BACK_PAGE: u16 = 100;
/// How many lost races an append takes before its caller decides. There is no pause between them: each one means
/// that another writer went forward, and the read in between takes as long as a pause would.
const MAX_CONFLICTS: u32 = 10;

/// What an append did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appended {
    /// The fact is now an event.
    New {
        /// Its version.
        version: StreamVersion,
        /// How it is chained to the event before it.
        link: Link,
    },
    /// Nothing: the fact was an event already.
    Already {
        /// Its version.
        version: StreamVersion,
    },
}

/// How a new event is chained to the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// By its hash, or as the first of its stream.
    Intact,
    /// Not: the event before it has no readable hash, so the chain begins anew at [`EventHash::GENESIS`]. Later
    /// facts are worth more than an unbroken chain; verification names this link. Report it.
    Broken,
}

/// Why a fact was not appended.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The stream is not as expected, or other writers were faster each time. Read it again and decide anew.
    #[error("stream {patient} is at version {actual}, where {expected} was expected")]
    VersionConflict {
        /// Whose stream.
        patient: PatientId,
        /// What the caller presumed.
        expected: ExpectedVersion,
        /// Where the stream ends.
        actual: StreamVersion,
    },
    /// The event can never be stored. Reject the command.
    #[error(transparent)]
    TooLarge(#[from] EventTooLarge),
    /// Throttled or unreachable. Retry later with the same draft; if it was written it will be recognised.
    #[error("the event table is unavailable")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Appends a fact to a patient's stream, once: a draft whose event id is in the stream changes nothing, whatever
/// the stream was expected to be.
///
/// It reads the stream's tail and writes the next version on condition that it is still free, so versions stay
/// dense. `now` becomes the event's `recorded_at`, unless the fact's own time or the time of the event before it
/// is later, as two clocks never agree quite: `recorded_at` neither decreases along a stream nor precedes
/// `occurred_at`. Hence the search for the event id can stop at the first event that was recorded before the
/// fact occurred.
///
/// # Errors
/// [`AppendError`]; after each of them the stream holds the fact once or not at all.
pub async fn append<L: AppendLog>(
    log: &L,
    patient: &PatientId,
    draft: &EventDraft,
    expected: ExpectedVersion,
    now: Timestamp,
) -> Result<Appended, AppendError> {
    let mut conflicts = 0;
    loop {
        // After a conflict too: the event in the way may be this one, written by a request whose answer was lost.
        let head = match look_back(log, patient, draft).await? {
            LookBack::Found(version) => return Ok(Appended::Already { version }),
            LookBack::NotFound(head) => head,
        };
        if !expected.admits(head.version) || conflicts == MAX_CONFLICTS {
            return Err(AppendError::VersionConflict {
                patient: patient.clone(),
                expected,
                actual: head.version,
            });
        }
        let (previous_hash, link) = head.link();
        let recorded_at = now
            .max(draft.occurred_at)
            .max(head.recorded_at.unwrap_or(draft.occurred_at));
        let event = draft.place(patient, head.version, previous_hash, recorded_at)?;
        match log.insert(&event).await {
            Ok(()) => {
                let version = event.version;
                return Ok(Appended::New { version, link });
            }
            Err(InsertError::Occupied) => conflicts += 1,
            Err(InsertError::Unavailable(source)) => return Err(AppendError::Unavailable(source)),
        }
    }
}

/// The end of a stream.
struct Head {
    version: StreamVersion,
    hash: Option<EventHash>,
    /// The latest that can be read.
    recorded_at: Option<Timestamp>,
}

impl Head {
    /// The head of a stream whose last events, newest first, are these.
    fn of(tail: &[TailEntry]) -> Head {
        Head {
            version: tail.first().map_or(StreamVersion::EMPTY, |entry| entry.version),
            hash: tail.first().and_then(|entry| entry.hash),
            recorded_at: tail.iter().filter_map(|entry| entry.recorded_at).max(),
        }
    }

    fn link(&self) -> (EventHash, Link) {
        match self.hash {
            Some(hash) => (hash, Link::Intact),
            None if self.version == StreamVersion::EMPTY => (EventHash::GENESIS, Link::Intact),
            None => (EventHash::GENESIS, Link::Broken),
        }
    }
}

enum LookBack {
    Found(StreamVersion),
    NotFound(Head),
}

/// Looks for the draft's event id from the stream's end backwards, as far as it can be.
async fn look_back<L: AppendLog>(
    log: &L,
    patient: &PatientId,
    draft: &EventDraft,
) -> Result<LookBack, LogUnavailable> {
    let mut limit = TAIL_PAGE;
    let mut page = log.tail(patient, None, limit).await?;
    let head = Head::of(&page);
    loop {
        if let Some(fact) = page.iter().find(|entry| entry.event_id == Some(draft.event_id)) {
            return Ok(LookBack::Found(fact.version));
        }
        let too_old = |entry: &TailEntry| entry.recorded_at.is_some_and(|at| at < draft.occurred_at);
        match page.last() {
            Some(oldest)
                if page.len() >= usize::from(limit)
                    && oldest.version > StreamVersion::FIRST
                    && !page.iter().any(too_old) =>
            {
                limit = LOOK_BACK_PAGE;
                page = log.tail(patient, Some(oldest.version), limit).await?;
            }
            _ => return Ok(LookBack::NotFound(head)),
        }
    }
}

impl From<LogUnavailable> for AppendError {
    fn from(error: LogUnavailable) -> AppendError {
        AppendError::Unavailable(error.0)
    }
}
