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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_follow_each_other_from_one() {
        assert_eq!(StreamVersion::EMPTY.next(), StreamVersion::FIRST);
        let second = StreamVersion::FIRST.next();
        assert_eq!((second.get(), second.to_string()), (2, "2".to_owned()));
    }

    #[test]
    fn nothing_is_behind_what_is_not_later() {
        #[track_caller]
        fn check(version: u64, head: u64, behind: u64) {
            assert_eq!(
                StreamVersion::new(version).behind(StreamVersion::new(head)),
                behind
            );
        }
        check(3, 8, 5);
        check(0, 2, 2);
        check(3, 3, 0);
        check(8, 3, 0);
    }
}
