//! One complete build of the read model.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One complete build of the read model. Numbers start at 1 and are never used again.
///
/// Its text form (`g3`) opens every key of the read model, so two generations share no item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Generation(u32);

impl Generation {
    /// The generation that a new deployment starts with.
    pub const FIRST: Generation = Generation(1);

    /// The generation with this number.
    #[must_use]
    pub const fn new(number: u32) -> Generation {
        Generation(number)
    }

    /// The number itself.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The generation that follows.
    #[must_use]
    pub const fn next(self) -> Generation {
        Generation(self.0.saturating_add(1))
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "g{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generations_are_numbered_from_one() {
        assert_eq!(Generation::FIRST.to_string(), "g1");
        let next = Generation::FIRST.next();
        assert_eq!((next.get(), next.to_string()), (2, "g2".to_owned()));
    }
}
