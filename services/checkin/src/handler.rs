//! The handler: turns a request into facts, and the facts into events.

use std::future::Future;
use std::num::NonZeroU16;

use domain::{CorrelationId, EventDraft, PatientId, StreamVersion, Timestamp};
use event_store::{AppendError, AppendLog, Appended, ExpectedVersion, Link, append};
use futures::StreamExt as _;
use lambda_runtime::Diagnostic;
use runtime::Report;
use runtime::clock::Clock;
use runtime::metrics::Metric;
use runtime::telemetry::chain;
use serde::Serialize;
use serde_json::{Value, json};

use crate::request::InvalidRequest;
use crate::tick::registration;
use crate::{Request, Roster, RosterEntry, Tick};

/// How many appends of one tick run at a time.
const CHECK_INS_AT_ONCE: usize = 8;
/// How many appends of one registration run at a time.
const REGISTRATIONS_AT_ONCE: usize = 16;
/// How far a tick may be ahead of this machine's clock. A later one is a mistake, which would move `recorded_at`
/// of whole streams into the future for good.
const MAX_MILLIS_AHEAD: i64 = 5 * 60 * 1000;

/// The producer of events.
#[derive(Debug)]
pub struct Checkin<L> {
    log: L,
    roster: Roster,
    checkins_per_tick: NonZeroU16,
    clock: Clock,
}

/// What an invocation did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Handled {
    /// The occasion to which its events belong.
    pub correlation_id: CorrelationId,
    /// What it did, in facts.
    #[serde(flatten)]
    pub summary: Summary,
}

/// What was done, in facts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Summary {
    /// How many became events.
    pub appended: usize,
    /// How many were events already.
    pub already: usize,
}

/// Why an invocation failed.
#[derive(Debug, thiserror::Error)]
pub enum CheckinError {
    /// It asks for nothing that this service does. Correct whoever sent it.
    #[error(transparent)]
    Invalid(#[from] InvalidRequest),
    /// Not every fact was appended; the log says why. Invoke it again: what was appended is recognised.
    #[error("{failed} of {attempted} patients failed; the same request again repeats nothing")]
    Incomplete {
        /// For how many patients an append failed.
        failed: usize,
        /// How many patients there were.
        attempted: usize,
        /// What was done for the others.
        handled: Handled,
    },
}

impl Handled {
    /// What to report.
    #[must_use]
    pub fn report(&self) -> Report {
        let count = |facts: usize| u64::try_from(facts).unwrap_or(u64::MAX);
        let (appended, already) = (count(self.summary.appended), count(self.summary.already));
        Report {
            metrics: vec![
                Metric::count("EventsAppended", appended),
                Metric::count("EventsAlreadyAppended", already),
            ],
            annotations: vec![
                ("correlation_id", json!(self.correlation_id)),
                ("events_appended", appended.into()),
            ],
        }
    }
}

impl<L: AppendLog> Checkin<L> {
    /// The producer that appends to `log`, for the patients of `roster`.
    pub fn new(log: L, roster: Roster, checkins_per_tick: NonZeroU16, clock: Clock) -> Checkin<L> {
        Checkin {
            log,
            roster,
            checkins_per_tick,
            clock,
        }
    }

    /// Does what the payload of the invocation with this id asks for. Every patient is attempted, whether or not
    /// another one fails.
    ///
    /// # Errors
    /// [`CheckinError`]
    pub async fn handle(&self, payload: Value, invocation: &str) -> Result<Handled, CheckinError> {
        let request = Request::parse(payload)?;
        let correlation_id = request.correlation_id(invocation);
        let attempted = match request {
            Request::Tick(tick) => self.check_in(&tick).await?,
            Request::RegisterRoster => self.register_roster(correlation_id).await,
        };
        let handled = Handled {
            correlation_id,
            summary: attempted.done,
        };
        tracing::info!(
            %correlation_id,
            appended = handled.summary.appended,
            already = handled.summary.already,
            failed = attempted.failed,
            "done"
        );
        if attempted.failed > 0 {
            return Err(CheckinError::Incomplete {
                failed: attempted.failed,
                attempted: attempted.attempted,
                handled,
            });
        }
        Ok(handled)
    }

    async fn check_in(&self, tick: &Tick) -> Result<Attempted, CheckinError> {
        if tick.time.millis_since((self.clock)()) > MAX_MILLIS_AHEAD {
            return Err(InvalidRequest::new("the scheduled event is of the future").into());
        }
        let chosen = tick.choose(&self.roster, self.checkins_per_tick);
        let occasion = tick.correlation_id();
        let append = |entry| self.check_in_one(tick, entry);
        Ok(attempt_all(chosen, CHECK_INS_AT_ONCE, occasion, append).await)
    }

    async fn register_roster(&self, occasion: CorrelationId) -> Attempted {
        let now = (self.clock)();
        let append = |entry| self.register(entry, occasion, now);
        attempt_all(self.roster.entries(), REGISTRATIONS_AT_ONCE, occasion, append).await
    }

    /// Checks one patient in. Somebody who is not registered, as the roster grew or the registration never ran,
    /// is registered first, so that no check-in is lost.
    async fn check_in_one(&self, tick: &Tick, entry: &RosterEntry) -> Result<Summary, AppendError> {
        let fact = tick.check_in(&entry.id);
        match self.append(&entry.id, &fact, ExpectedVersion::NotEmpty).await {
            Err(AppendError::VersionConflict {
                actual: StreamVersion::EMPTY,
                ..
            }) => {
                let registered = self.register(entry, tick.correlation_id(), tick.time).await?;
                let checked_in = self.append(&entry.id, &fact, ExpectedVersion::NotEmpty).await?;
                Ok(registered.plus(checked_in))
            }
            outcome => outcome,
        }
    }

    /// Registers one patient. A stream that has events began with a registration.
    async fn register(
        &self,
        entry: &RosterEntry,
        occasion: CorrelationId,
        occurred_at: Timestamp,
    ) -> Result<Summary, AppendError> {
        let fact = registration(entry, occasion, occurred_at);
        match self.append(&entry.id, &fact, ExpectedVersion::Empty).await {
            Err(AppendError::VersionConflict { .. }) => Ok(Summary::ALREADY),
            outcome => outcome,
        }
    }

    async fn append(
        &self,
        patient: &PatientId,
        fact: &EventDraft,
        expected: ExpectedVersion,
    ) -> Result<Summary, AppendError> {
        match append(&self.log, patient, fact, expected, (self.clock)()).await? {
            Appended::Already { .. } => Ok(Summary::ALREADY),
            Appended::New { version, link } => {
                if link == Link::Broken {
                    tracing::error!(%patient, %version, "the event before has no readable hash: chain broken");
                }
                Ok(Summary::APPENDED)
            }
        }
    }
}

/// What became of the patients of an invocation.
#[derive(Debug, Default)]
struct Attempted {
    done: Summary,
    failed: usize,
    attempted: usize,
}

/// Attempts `append` for every patient, so many at once, and logs each failure.
async fn attempt_all<'a, F>(
    entries: impl IntoIterator<Item = &'a RosterEntry>,
    at_once: usize,
    correlation_id: CorrelationId,
    append: impl Fn(&'a RosterEntry) -> F,
) -> Attempted
where
    F: Future<Output = Result<Summary, AppendError>>,
{
    let mut outcomes = futures::stream::iter(entries)
        .map(|entry| {
            let outcome = append(entry);
            async { (&entry.id, outcome.await) }
        })
        .buffer_unordered(at_once);
    let mut all = Attempted::default();
    while let Some((patient, outcome)) = outcomes.next().await {
        all.attempted += 1;
        match outcome {
            Ok(summary) => all.done = all.done.plus(summary),
            Err(error) => {
                all.failed += 1;
                tracing::error!(%patient, %correlation_id, error = %chain(&error), "not appended");
            }
        }
    }
    all
}

impl Summary {
    const APPENDED: Summary = Summary {
        appended: 1,
        already: 0,
    };
    const ALREADY: Summary = Summary {
        appended: 0,
        already: 1,
    };

    fn plus(self, other: Summary) -> Summary {
        Summary {
            appended: self.appended + other.appended,
            already: self.already + other.already,
        }
    }
}

/// What Lambda reports: a stable code, and a sentence without patient data.
impl From<CheckinError> for Diagnostic {
    fn from(error: CheckinError) -> Diagnostic {
        let code = match error {
            CheckinError::Invalid(_) => "invalid_request",
            CheckinError::Incomplete { .. } => "incomplete",
        };
        Diagnostic {
            error_type: code.to_owned(),
            error_message: error.to_string(),
        }
    }
}
