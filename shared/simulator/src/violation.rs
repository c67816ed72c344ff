//! A promise that was broken.

/// A promise that was broken, and how.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{promise} is broken: {how}")]
pub struct Violation {
    /// Which promise: `I1` to `I10`, as in docs/ARCHITECTURE.md, or `rest`, that everything comes to an end.
    pub promise: &'static str,
    /// What was seen.
    pub how: String,
}

impl Violation {
    pub(crate) fn new(promise: &'static str, how: String) -> Violation {
        Violation { promise, how }
    }
}
