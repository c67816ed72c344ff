//! Who a stream belongs to.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};

/// A patient's id, which is also the id of the patient's stream: 1 to 64 of `A-Z a-z 0-9 - .`
///
/// The alphabet is that of a FHIR R4 resource id (<https://hl7.org/fhir/R4/datatypes.html#id>): rosters can
/// come from such systems, and `#`, the separator of stored keys, cannot occur.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct PatientId(String);

/// A patient's name as people read it: 1 to 200 characters, none of them a control character.
///
/// It has no `Display`, so that a name can't slip into a log line; [`PatientName::as_str`] is explicit.
#[derive(Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct PatientName(String);

/// Why a text is not a patient's id or name. It does not repeat the text, which may be patient data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPatient {
    /// Not an id.
    #[error("a patient id is 1 to 64 of A-Z a-z 0-9 - .")]
    Id,
    /// Not a name.
    #[error("a patient name is 1 to 200 characters, not blank and without control characters")]
    Name,
}

const MAX_ID: usize = 64;
const MAX_NAME: usize = 200;

impl PatientId {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PatientId {
    type Err = InvalidPatient;

    fn from_str(text: &str) -> Result<PatientId, InvalidPatient> {
        let known = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.';
        if (1..=MAX_ID).contains(&text.len()) && text.bytes().all(known) {
            Ok(PatientId(text.to_owned()))
        } else {
            Err(InvalidPatient::Id)
        }
    }
}

impl fmt::Display for PatientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl PatientName {
    /// The name as text. Not for logs, metrics, error bodies or queue messages.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PatientName {
    type Err = InvalidPatient;

    fn from_str(text: &str) -> Result<PatientName, InvalidPatient> {
        let fits = (1..=MAX_NAME).contains(&text.chars().count());
        if fits && !text.trim().is_empty() && !text.chars().any(char::is_control) {
            Ok(PatientName(text.to_owned()))
        } else {
            Err(InvalidPatient::Name)
        }
    }
}

impl fmt::Debug for PatientName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PatientName(..)")
    }
}

macro_rules! deserialize_by_parsing {
    ($type:ty) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<$type, D::Error> {
                crate::text::deserialize(deserializer)
            }
        }
    };
}
deserialize_by_parsing!(PatientId);
deserialize_by_parsing!(PatientName);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_those_of_fhir() {
        for good in ["p-001", "A.b-9", "x", &"a".repeat(64)] {
            let id: PatientId = good.parse().unwrap();
            assert_eq!((id.as_str(), id.to_string().as_str()), (good, good));
        }
        for bad in ["", "a#b", "a b", "a/b", "é", "a_b", &"a".repeat(65)] {
            assert_eq!(bad.parse::<PatientId>(), Err(InvalidPatient::Id), "{bad}");
        }
    }

    #[test]
    fn names_are_printable_and_never_printed_by_accident() {
        let name: PatientName = "Zoë O'Neil-Ångström".parse().unwrap();
        assert_eq!(format!("{name:?}"), "PatientName(..)");
        assert!("é".repeat(200).parse::<PatientName>().is_ok());
        for bad in ["", "  ", "a\nb", &"é".repeat(201)] {
            assert_eq!(bad.parse::<PatientName>(), Err(InvalidPatient::Name), "{bad:?}");
        }
    }
}
