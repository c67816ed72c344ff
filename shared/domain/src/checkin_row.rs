//! One check-in as queries see it.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{StreamVersion, Timestamp, event_id};

/// Which check-in this is, unique across patients. Derived like an event id, of which it is independent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CheckinId(Uuid);

impl CheckinId {
    /// The id of the check-in with this identity.
    #[must_use]
    pub fn derive(identity: &[&str]) -> CheckinId {
        CheckinId(event_id::derive("check-in-id", identity))
    }
}

impl fmt::Display for CheckinId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One check-in as queries see it. Its content is a function of its event alone, so writing it again
/// changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckinRow {
    /// Which check-in.
    pub checkin_id: CheckinId,
    /// When the patient checked in.
    pub occurred_at: Timestamp,
    /// The version of its event. Readers see the row once the patient's applied version has reached it.
    pub version: StreamVersion,
}
