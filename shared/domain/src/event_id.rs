//! Identities that are derived from what they identify.

use std::fmt::{self, Write as _};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Root of every derived id. Changing it would make every repeated command look new.
const NAMESPACE: Uuid = Uuid::from_u128(0x6d0f_5b1e_8a57_4c55_9a3e_2f9c_61f0_7b20);

/// Which fact an event records: a UUIDv5 of the command's identity, so a repeated command has the same id
/// and is recognised. An id appears in a stream at most once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EventId(Uuid);

/// Which occasion (a tick, a registration run) a message belongs to, or was caused by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CorrelationId(Uuid);

impl EventId {
    /// The id of the fact with this identity. `kind` keeps facts of different kinds apart.
    #[must_use]
    pub fn derive(kind: &str, identity: &[&str]) -> EventId {
        EventId(derive(kind, identity))
    }
}

impl CorrelationId {
    /// The id of the occasion with this identity. `kind` keeps occasions of different kinds apart.
    #[must_use]
    pub fn derive(kind: &str, identity: &[&str]) -> CorrelationId {
        CorrelationId(derive(kind, identity))
    }

    /// The id as a UUID.
    #[must_use]
    pub const fn as_uuid(&self) -> &Uuid {
        &self.0
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for CorrelationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for EventId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<EventId, uuid::Error> {
        text.parse().map(EventId)
    }
}

impl FromStr for CorrelationId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<CorrelationId, uuid::Error> {
        text.parse().map(CorrelationId)
    }
}

/// Each part is preceded by its length, so that ("ab","c") and ("a","bc") differ.
pub(crate) fn derive(kind: &str, identity: &[&str]) -> Uuid {
    let mut name = String::new();
    for part in std::iter::once(&kind).chain(identity) {
        // A String takes whatever is written to it.
        let _ = write!(name, "{}:{part}", part.len());
    }
    Uuid::new_v5(&NAMESPACE, name.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_identity_gives_the_same_id_for_ever() {
        let id = EventId::derive("check-in", &["rule", "2026-11-24T09:30:00.000Z", "p-001"]);
        assert_eq!(id.to_string(), "824d7318-066d-54b7-9902-a078f712c599");
        let occasion = CorrelationId::derive("tick", &["rule", "2026-11-24T09:30:00.000Z"]);
        assert_eq!(occasion.to_string(), occasion.as_uuid().to_string());
    }

    #[test]
    fn parts_do_not_run_into_each_other() {
        assert_ne!(
            EventId::derive("k", &["ab", "c"]),
            EventId::derive("k", &["a", "bc"])
        );
        assert_ne!(EventId::derive("k", &["a"]), EventId::derive("l", &["a"]));
    }
}
