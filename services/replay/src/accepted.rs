//! What an operator knows to be wrong, and takes upon themselves.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use domain::{PatientId, StreamVersion};

/// What is known, and no reason to refuse a generation.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Accepted {
    /// Links of hash chains that are broken. Any other broken link is a finding all the same.
    pub broken_links: BTreeSet<KnownBreak>,
    /// Patients of whom less may be shown than before.
    pub less: BTreeSet<PatientId>,
    /// Patients whose summary need not agree with their check-ins in a generation that is brought back.
    pub unsound: BTreeSet<PatientId>,
}

/// A link of a hash chain that is known to be broken, as `verify` names it: `p-003@9`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct KnownBreak {
    /// Whose stream.
    pub patient_id: PatientId,
    /// The event that does not fit.
    pub version: StreamVersion,
}

/// The text names no event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is not of the form PATIENT@VERSION, such as p-003@9")]
pub struct NotAnEvent;

impl Accepted {
    /// The broken links, as they are kept with what was verified meanwhile.
    pub(crate) fn kept(&self) -> BTreeSet<String> {
        self.broken_links.iter().map(ToString::to_string).collect()
    }
}

impl fmt::Display for KnownBreak {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.patient_id, self.version)
    }
}

impl FromStr for KnownBreak {
    type Err = NotAnEvent;

    fn from_str(text: &str) -> Result<KnownBreak, NotAnEvent> {
        let (patient_id, version) = text.split_once('@').ok_or(NotAnEvent)?;
        let version: u64 = version.parse().map_err(|_| NotAnEvent)?;
        Ok(KnownBreak {
            patient_id: patient_id.parse().map_err(|_| NotAnEvent)?,
            version: StreamVersion::new(version),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broken_link_is_named_by_patient_and_version() {
        let link: KnownBreak = "p-003@9".parse().unwrap();
        assert_eq!((link.patient_id.as_str(), link.version.get()), ("p-003", 9));
        assert_eq!(link.to_string(), "p-003@9");
        for other in ["p-003", "p-003@", "@9", "p-003@-1", "p-003@9@9", "p 3@9", ""] {
            assert_eq!(other.parse::<KnownBreak>(), Err(NotAnEvent), "{other}");
        }
    }
}
