//! Who is checked in: the patients that this system knows of.

use std::collections::HashMap;
use std::fmt;

use domain::{InvalidPatient, PatientId, PatientName};
use serde_json::Value;

/// The patients that this system knows of, at least one, each id once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roster(Vec<RosterEntry>);

/// A known patient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RosterEntry {
    /// The patient's id.
    pub id: PatientId,
    /// The patient's name.
    pub name: PatientName,
}

/// Why a text is not a roster. Correct it there and start again. No name is repeated here, as an error is logged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RosterError {
    /// The text is not JSON.
    #[error("the roster is not JSON: {reason}")]
    NotJson {
        /// What is wrong, with line and column.
        reason: String,
    },
    /// It is JSON of another form.
    #[error("the roster is not an array of objects with id and name")]
    NotAnArray,
    /// It is an array without entries.
    #[error("the roster is empty")]
    Empty,
    /// It has a wrong entry.
    #[error("entry {number}{} of the roster {problem}", OfPatient(id.as_ref()))]
    Entry {
        /// Which, counting from 1.
        number: usize,
        /// Its id, if it has a valid one.
        id: Option<PatientId>,
        /// What is wrong.
        problem: EntryProblem,
    },
}

/// What is wrong with an entry of a roster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EntryProblem {
    /// It is something else.
    #[error("is not an object")]
    NotAnObject,
    /// A field is not there.
    #[error("has no {0}")]
    Missing(&'static str),
    /// A field is not text.
    #[error("has a field {0} that is not text")]
    NotText(&'static str),
    /// The id or the name has not the form that it must have.
    #[error("is invalid: {0}")]
    Invalid(InvalidPatient),
    /// Another entry is of the same patient.
    #[error("has the id of entry {first}")]
    Duplicate {
        /// The number of that entry, counting from 1.
        first: usize,
    },
}

impl Roster {
    /// The built-in roster: 50 people who do not exist. Their surnames are the word for "example", or for
    /// something as unreal, in many languages.
    ///
    /// # Errors
    /// None, as a test shows.
    pub fn built_in() -> Result<Roster, RosterError> {
        Roster::parse(include_str!("../roster.json"))
    }

    /// Reads a roster: a JSON array of `{"id": …, "name": …}`. Other fields are ignored.
    ///
    /// # Errors
    /// [`RosterError`] names the first entry that is wrong.
    pub fn parse(text: &str) -> Result<Roster, RosterError> {
        let json: Value = serde_json::from_str(text).map_err(|error| RosterError::NotJson {
            reason: error.to_string(),
        })?;
        let Value::Array(values) = json else {
            return Err(RosterError::NotAnArray);
        };
        let mut entries = Vec::with_capacity(values.len());
        let mut numbers = HashMap::with_capacity(values.len());
        for (number, value) in (1..).zip(&values) {
            let wrong = |id, problem| RosterError::Entry { number, id, problem };
            let id: PatientId = field(value, "id").map_err(|problem| wrong(None, problem))?;
            let name = field(value, "name").map_err(|problem| wrong(Some(id.clone()), problem))?;
            if let Some(first) = numbers.insert(id.clone(), number) {
                return Err(wrong(Some(id), EntryProblem::Duplicate { first }));
            }
            entries.push(RosterEntry { id, name });
        }
        if entries.is_empty() {
            return Err(RosterError::Empty);
        }
        Ok(Roster(entries))
    }

    /// The patients, in the order of the file.
    #[must_use]
    pub fn entries(&self) -> &[RosterEntry] {
        &self.0
    }
}

fn field<T: std::str::FromStr<Err = InvalidPatient>>(
    entry: &Value,
    name: &'static str,
) -> Result<T, EntryProblem> {
    let text = entry
        .as_object()
        .ok_or(EntryProblem::NotAnObject)?
        .get(name)
        .ok_or(EntryProblem::Missing(name))?
        .as_str()
        .ok_or(EntryProblem::NotText(name))?;
    text.parse().map_err(EntryProblem::Invalid)
}

struct OfPatient<'a>(Option<&'a PatientId>);

impl fmt::Display for OfPatient<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |id| write!(f, " ({id})"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_roster_has_fifty_patients() {
        let roster = Roster::built_in().unwrap();
        let ids: Vec<&str> = roster.entries().iter().map(|entry| entry.id.as_str()).collect();
        let expected: Vec<String> = (1..=50).map(|number| format!("p-{number:03}")).collect();
        assert_eq!(ids, expected);
        let mut names: Vec<&str> = roster.entries().iter().map(|entry| entry.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), 50);
    }

    #[test]
    fn other_fields_are_ignored() {
        let roster = Roster::parse(r#"[{"id":"a","name":"Ada","ward":7}]"#).unwrap();
        assert_eq!(roster.entries()[0].id.as_str(), "a");
    }

    #[test]
    fn a_broken_roster_names_the_entry_and_no_name() {
        #[track_caller]
        fn check(text: &str, expected: &str) {
            let error = Roster::parse(text).unwrap_err();
            assert_eq!(error.to_string(), expected);
            assert!(!format!("{error:?}").contains("Secret"), "{error:?}");
        }
        check(
            "",
            "the roster is not JSON: EOF while parsing a value at line 1 column 0",
        );
        check(
            "[\n  {\"id\": \"a\" \"name\": \"Secret\"}\n]",
            "the roster is not JSON: expected `,` or `}` at line 2 column 14",
        );
        check(
            r#"{"id":"a","name":"Secret"}"#,
            "the roster is not an array of objects with id and name",
        );
        check("[]", "the roster is empty");
        check("[7]", "entry 1 of the roster is not an object");
        check(
            r#"[{"id":"a","name":"Secret"},{"name":"Secret"}]"#,
            "entry 2 of the roster has no id",
        );
        check(r#"[{"id":"a"}]"#, "entry 1 (a) of the roster has no name");
        check(
            r#"[{"id":1,"name":"Secret"}]"#,
            "entry 1 of the roster has a field id that is not text",
        );
        check(
            r#"[{"id":"a","name":["Secret"]}]"#,
            "entry 1 (a) of the roster has a field name that is not text",
        );
        check(
            r#"[{"id":"Secret Person","name":"Secret"}]"#,
            "entry 1 of the roster is invalid: a patient id is 1 to 64 of A-Z a-z 0-9 - .",
        );
        check(
            r#"[{"id":"a","name":"Secret\n"}]"#,
            "entry 1 (a) of the roster is invalid: \
             a patient name is 1 to 200 characters, not blank and without control characters",
        );
        check(
            r#"[{"id":"a","name":"Secret"},{"id":"b","name":"Secret"},{"id":"a","name":"Secret"}]"#,
            "entry 3 (a) of the roster has the id of entry 1",
        );
    }
}
