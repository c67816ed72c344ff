//! A patient whose next event can't be applied.

use serde::{Deserialize, Serialize};

use crate::{Rejection, StreamVersion, Timestamp, Undecodable};

/// The mark on a patient whose next event can't be applied. Later events of that patient wait.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantine {
    /// The version of the event that can't be applied: the one after the applied version.
    pub version: StreamVersion,
    /// Why not.
    pub reason: QuarantineReason,
    /// When the projector first found out.
    pub since: Timestamp,
}

/// Why an event can't be applied: a stable code without patient data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct QuarantineReason(String);

impl QuarantineReason {
    /// The event table has later events of the stream, but not this one: somebody removed it.
    #[must_use]
    pub fn missing() -> QuarantineReason {
        QuarantineReason("missing_event".to_owned())
    }

    /// The code.
    #[must_use]
    pub fn code(&self) -> &str {
        &self.0
    }
}

impl From<Undecodable> for QuarantineReason {
    fn from(reason: Undecodable) -> QuarantineReason {
        QuarantineReason(reason.code().to_owned())
    }
}

impl From<Rejection> for QuarantineReason {
    fn from(reason: Rejection) -> QuarantineReason {
        QuarantineReason(reason.code().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_have_stable_codes() {
        #[track_caller]
        fn check(reason: impl Into<QuarantineReason>, code: &str) {
            assert_eq!(reason.into().code(), code);
        }
        check(QuarantineReason::missing(), "missing_event");
        check(Rejection::NotRegistered, "not_registered");
        check(Rejection::AlreadyRegistered, "already_registered");
        check(Undecodable::InvalidEnvelope, "invalid_envelope");
        check(Undecodable::UnknownType, "unknown_type");
        check(Undecodable::UnknownSchemaVersion, "unknown_schema_version");
        check(Undecodable::InvalidData, "invalid_data");
    }
}
