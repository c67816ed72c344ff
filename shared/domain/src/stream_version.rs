//! The position of an event in one patient's stream.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Position of an event in one patient's stream: the first event is 1, [`StreamVersion::EMPTY`] (0) is an
/// empty stream. Versions of a stream are dense: there is no event n+1 without an event n.
///
/// Never a DynamoDB Streams sequence number, which orders nothing across the items of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StreamVersion(u64);

impl StreamVersion {
    /// The version of a stream without events, and of a patient to whom nothing was applied.
    pub const EMPTY: StreamVersion = StreamVersion(0);
    /// The version of a stream's first event.
    pub const FIRST: StreamVersion = StreamVersion(1);

    /// The version with this number.
    #[must_use]
    pub const fn new(number: u64) -> StreamVersion {
        StreamVersion(number)
    }

    /// The number itself.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The version that follows. (It saturates: at a check-in a second the end is 584 billion years away.)
    #[must_use]
    pub const fn next(self) -> StreamVersion {
        StreamVersion(self.0.saturating_add(1))
    }

    /// How many events lie between `self` and a later `head`; 0 if `head` is not later.
    #[must_use]
    pub const fn behind(self, head: StreamVersion) -> u64 {
        head.0.saturating_sub(self.0)
    }
}

impl fmt::Display for StreamVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
