//! What an append presumes about the stream.

use std::fmt;

use domain::StreamVersion;

/// What must be true of the stream for an event to be appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExpectedVersion {
    /// Nothing: the event may follow whatever is there.
    Any,
    /// The stream has no events.
    Empty,
    /// The stream has at least one event.
    NotEmpty,
    /// The stream's last event is this one.
    Exactly(StreamVersion),
}

impl ExpectedVersion {
    /// Whether a stream that ends at `head` is as expected.
    #[must_use]
    pub fn admits(self, head: StreamVersion) -> bool {
        match self {
            ExpectedVersion::Any => true,
            ExpectedVersion::Empty => head == StreamVersion::EMPTY,
            ExpectedVersion::NotEmpty => head != StreamVersion::EMPTY,
            ExpectedVersion::Exactly(version) => head == version,
        }
    }
}

impl fmt::Display for ExpectedVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ExpectedVersion::Any => f.write_str("any version"),
            ExpectedVersion::Empty => f.write_str("no events"),
            ExpectedVersion::NotEmpty => f.write_str("at least one event"),
            ExpectedVersion::Exactly(version) => write!(f, "version {version}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_expectation_admits_what_it_says() {
        #[track_caller]
        fn check(expected: ExpectedVersion, admitted: [bool; 3]) {
            let found = [0, 1, 2].map(|head| expected.admits(StreamVersion::new(head)));
            assert_eq!(found, admitted, "{expected}");
        }
        check(ExpectedVersion::Any, [true, true, true]);
        check(ExpectedVersion::Empty, [true, false, false]);
        check(ExpectedVersion::NotEmpty, [false, true, true]);
        check(
            ExpectedVersion::Exactly(StreamVersion::FIRST),
            [false, true, false],
        );
    }
}
