//! What a client is told when there is no answer: `application/problem+json` (RFC 9457).
//!
//! | `type`, after `urn:problem:patient-checkins:` | status | what the client does |
//! |---|---|---|
//! | `invalid-parameter` | 400 | correct the query parameter that `parameter` names, or leave out the unknown one |
//! | `invalid-cursor` | 400 | begin again, without the cursor |
//! | `unknown-patient` | 404 | there is no such patient (nor can be, if the id is malformed) |
//! | `unknown-route` | 404 | correct the path |
//! | `method-not-allowed` | 405 | use a method that `Allow` names |
//! | `not-applied-yet` | 503 | ask again after `Retry-After` |
//! | `projection-stalled` | 503 | of `/health` only: answers are given, and are behind |
//! | `unavailable` | 503 | ask again after `Retry-After` |
//!
//! The gateway has a few more, for what does not get here (`openapi.json` lists all). The types are stable. A problem repeats no value of the request, and tells nothing about the inside.

use domain::Timestamp;
use http::StatusCode;
use read_model::{PatientError, ReadModelUnavailable, Stall, StallReason};
use serde::Serialize;

use crate::cursor::InvalidCursor;
use crate::representation::{Projected, json};

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Problem {
    /// A query parameter is unknown. Its name is not kept: it can be misplaced data.
    #[error("a parameter is unknown")]
    UnknownParameter {
        /// Which ones there are.
        known: &'static [&'static str],
    },
    /// A query parameter is repeated or malformed.
    #[error("a parameter is invalid")]
    InvalidParameter {
        /// Its name.
        parameter: &'static str,
        /// What is wrong, as a sentence that can follow the name.
        reason: &'static str,
    },
    /// The cursor was not given out for this query, or was changed.
    #[error("the cursor is invalid")]
    InvalidCursor,
    /// No such patient.
    #[error("the patient is unknown")]
    UnknownPatient,
    /// No such path.
    #[error("the route is unknown")]
    UnknownRoute,
    /// Not a method of this path.
    #[error("the method is not allowed")]
    MethodNotAllowed,
    /// The read model does not include the version that was asked for.
    #[error("the version has not been applied yet")]
    NotAppliedYet,
    /// The read model is known to be behind.
    #[error("the projection is stalled")]
    Stalled {
        /// Since when, and how that is known.
        stall: Stall,
        /// How far it has come.
        projected: Projected,
    },
    /// The read model can't be read.
    #[error(transparent)]
    Unavailable(#[from] ReadModelUnavailable),
}

/// The body.
#[derive(Debug, Serialize)]
struct Body {
    #[serde(rename = "type")]
    kind: String,
    title: &'static str,
    status: u16,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameter: Option<&'static str>,
    #[serde(flatten)]
    stalled: Option<Stalled>,
}

/// What is known of a stalled projection.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Stalled {
    stale_since: Timestamp,
    #[serde(flatten)]
    projected: Projected,
}

impl Problem {
    /// A parameter of the API that is not as it should be: `reason` follows its name.
    pub(crate) const fn invalid(parameter: &'static str, reason: &'static str) -> Problem {
        Problem::InvalidParameter { parameter, reason }
    }

    /// The stable code.
    pub(crate) const fn code(&self) -> &'static str {
        match self {
            Problem::UnknownParameter { .. } | Problem::InvalidParameter { .. } => "invalid-parameter",
            Problem::InvalidCursor => "invalid-cursor",
            Problem::UnknownPatient => "unknown-patient",
            Problem::UnknownRoute => "unknown-route",
            Problem::MethodNotAllowed => "method-not-allowed",
            Problem::NotAppliedYet => "not-applied-yet",
            Problem::Stalled { .. } => "projection-stalled",
            Problem::Unavailable(_) => "unavailable",
        }
    }

    /// The status.
    pub(crate) const fn status(&self) -> StatusCode {
        match self {
            Problem::UnknownParameter { .. } | Problem::InvalidParameter { .. } | Problem::InvalidCursor => {
                StatusCode::BAD_REQUEST
            }
            Problem::UnknownPatient | Problem::UnknownRoute => StatusCode::NOT_FOUND,
            Problem::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Problem::NotAppliedYet | Problem::Stalled { .. } | Problem::Unavailable(_) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
        }
    }

    /// In how many seconds to ask again, where that can help. In one, an event that was just appended is commonly
    /// applied, and a throttled table is not throttled any more; a stall takes longer.
    pub(crate) const fn retry_after_seconds(&self) -> Option<u16> {
        match self {
            Problem::NotAppliedYet | Problem::Unavailable(_) => Some(1),
            Problem::Stalled { .. } => Some(60),
            Problem::UnknownParameter { .. }
            | Problem::InvalidParameter { .. }
            | Problem::InvalidCursor
            | Problem::UnknownPatient
            | Problem::UnknownRoute
            | Problem::MethodNotAllowed => None,
        }
    }

    /// The body.
    pub(crate) fn body(&self) -> String {
        let parameter = match self {
            Problem::InvalidParameter { parameter, .. } => Some(*parameter),
            Problem::InvalidCursor => Some("cursor"),
            Problem::UnknownParameter { .. }
            | Problem::UnknownPatient
            | Problem::UnknownRoute
            | Problem::MethodNotAllowed
            | Problem::NotAppliedYet
            | Problem::Stalled { .. }
            | Problem::Unavailable(_) => None,
        };
        let stalled = match self {
            Problem::Stalled { stall, projected } => Some(Stalled {
                stale_since: stall.since,
                projected: projected.clone(),
            }),
            Problem::UnknownParameter { .. }
            | Problem::InvalidParameter { .. }
            | Problem::InvalidCursor
            | Problem::UnknownPatient
            | Problem::UnknownRoute
            | Problem::MethodNotAllowed
            | Problem::NotAppliedYet
            | Problem::Unavailable(_) => None,
        };
        json(&Body {
            kind: format!("urn:problem:patient-checkins:{}", self.code()),
            title: self.title(),
            status: self.status().as_u16(),
            detail: self.detail(),
            parameter,
            stalled,
        })
    }

    /// The same for every problem of the type.
    const fn title(&self) -> &'static str {
        match self {
            Problem::UnknownParameter { .. } | Problem::InvalidParameter { .. } => {
                "A query parameter is invalid"
            }
            Problem::InvalidCursor => "The cursor is invalid",
            Problem::UnknownPatient => "There is no such patient",
            Problem::UnknownRoute => "There is nothing at this path",
            Problem::MethodNotAllowed => "The method is not allowed here",
            Problem::NotAppliedYet => "The data is not there yet",
            Problem::Stalled { .. } => "The projection is stalled",
            Problem::Unavailable(_) => "The data cannot be read at the moment",
        }
    }

    fn detail(&self) -> String {
        match self {
            Problem::UnknownParameter { known: [] } => "There are no parameters here.".to_owned(),
            Problem::UnknownParameter { known } => {
                format!("A parameter is not known here. Known here: {}.", known.join(", "))
            }
            Problem::InvalidParameter { parameter, reason } => format!("The parameter {parameter} {reason}."),
            Problem::InvalidCursor => {
                "The parameter cursor was not given out for this query. Begin again without it.".to_owned()
            }
            Problem::UnknownPatient => "No patient with this id is known.".to_owned(),
            Problem::UnknownRoute => {
                "openapi.json lists the paths. None of them ends with a slash.".to_owned()
            }
            Problem::MethodNotAllowed => "The methods of this path are GET, HEAD and OPTIONS.".to_owned(),
            Problem::NotAppliedYet => {
                "What was asked for has not been applied yet. Ask again soon.".to_owned()
            }
            Problem::Stalled { stall, .. } => match stall.reason {
                StallReason::Lagging => {
                    "Events were not applied in time. Recent ones may be missing from answers."
                }
                StallReason::NotCompared => {
                    "Whether anything is missing from answers has not been checked for a long time."
                }
            }
            .to_owned(),
            Problem::Unavailable(_) => "Ask again soon.".to_owned(),
        }
    }
}

impl From<InvalidCursor> for Problem {
    fn from(InvalidCursor: InvalidCursor) -> Problem {
        Problem::InvalidCursor
    }
}

impl From<PatientError> for Problem {
    fn from(error: PatientError) -> Problem {
        match error {
            PatientError::Unknown => Problem::UnknownPatient,
            PatientError::NotYet { .. } => Problem::NotAppliedYet,
            PatientError::Unavailable(error) => Problem::Unavailable(error),
        }
    }
}
