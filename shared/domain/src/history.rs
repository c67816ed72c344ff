//! Which events a state was folded from.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::EventHash;

/// SHA-256 over the hashes of all events that were applied, in their order: two states with the same digest were folded
/// from the same events. The hash of the last event alone does not say that, since applying does not follow the chain.
///
/// So whoever replaces events that were applied is found, even with hashes that fit: what was seen is remembered here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct HistoryDigest(EventHash);

impl HistoryDigest {
    /// Nothing was applied.
    pub const EMPTY: HistoryDigest = HistoryDigest(EventHash::GENESIS);

    /// That of one more event.
    #[must_use]
    pub fn with(self, event: EventHash) -> HistoryDigest {
        HistoryDigest(self.0.followed_by(event))
    }
}

impl fmt::Display for HistoryDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of a summary in docs/EVENTS.md, computed with Python's hashlib.
    #[test]
    fn a_history_can_be_computed_without_this_code() {
        let hashes = [
            "c02356c128bf4f39559c5decc3b7dc1f7be81a63cb7d26de982ce73e83138b5f",
            "b3942e9d8fe0f9773cbb3151f50087564faac1fdaac1c18420c07351b0213ea5",
        ];
        let history = hashes
            .map(|hash| hash.parse().unwrap())
            .into_iter()
            .fold(HistoryDigest::EMPTY, HistoryDigest::with);
        assert_eq!(
            history.to_string(),
            "33ab68fa09f1e76fc964b3548594afc76a3413a3c5693dec1c1c8cee4116f353"
        );
        assert!(include_str!("../../../docs/EVENTS.md").contains(&history.to_string()));
    }
}
