//! Who is checked in: the patients that this system knows of.

use std::collections::HashMap;
use std::fmt;

use domain::{InvalidPatient, PatientId, PatientName};
use serde_json::Value;

use crate::fhir;

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
    #[error(
        "the roster is neither an array of objects with id and name nor FHIR patients (a Bundle, or one a line)"
    )]
    NotARoster,
    /// It is an answer of a FHIR server that has more of them. Ask that for all, and put them into one file.
    #[error("the roster is one page of many: the Bundle has a link to the next one")]
    OnePageOfMany,
    /// It has no entries, or none of somebody who may check in.
    #[error("the roster has nobody who may check in")]
    Empty,
    /// It has a wrong entry.
    #[error("{place}{} of the roster{} {problem}", OfPatient(id.as_ref()), OnLine(*place))]
    Entry {
        /// Where.
        place: Place,
        /// Its id, if it has a valid one.
        id: Option<PatientId>,
        /// What is wrong.
        problem: EntryProblem,
    },
}

/// Where in a roster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// An entry of a list.
    Entry {
        /// Which, counting from 1.
        number: usize,
        /// The line that it begins on, counting from 1, if that is known.
        line: Option<usize>,
    },
    /// A line, counting from 1.
    Line(usize),
}

/// What is wrong with an entry of a roster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EntryProblem {
    /// It is not JSON, where the whole roster need not be.
    #[error("is not JSON, from column {column} on")]
    NotJson {
        /// Where in the line, counting from 1.
        column: usize,
    },
    /// It is something else.
    #[error("is not an object")]
    NotAnObject,
    /// A field is not there.
    #[error("has no {0}")]
    Missing(&'static str),
    /// A field is not text.
    #[error("has a field {0} that is not text")]
    NotText(&'static str),
    /// A field is not a list.
    #[error("has a field {0} that is not a list")]
    NotAList(&'static str),
    /// A field is not a truth value.
    #[error("has a field {0} that is neither true nor false")]
    NotTrueOrFalse(&'static str),
    /// None of the names has any text, or only those that are not used any more.
    #[error("has no name that is in use")]
    NoUsableName,
    /// The id or the name has not the form that it must have.
    #[error("is invalid: {0}")]
    Invalid(InvalidPatient),
    /// Another entry is of the same patient.
    #[error("has the id of {first}")]
    Duplicate {
        /// Where that is.
        first: Place,
    },
}

/// What there is at a place of a text: a patient, or something that is none.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) place: Place,
    pub(crate) entry: Result<Option<RosterEntry>, WrongEntry>,
}

/// What is wrong, and with whom.
#[derive(Debug)]
pub(crate) struct WrongEntry {
    pub(crate) id: Option<PatientId>,
    pub(crate) problem: EntryProblem,
}

impl From<EntryProblem> for WrongEntry {
    fn from(problem: EntryProblem) -> WrongEntry {
        WrongEntry { id: None, problem }
    }
}

impl RosterError {
    pub(crate) fn not_json(error: &serde_json::Error) -> RosterError {
        RosterError::NotJson {
            reason: error.to_string(),
        }
    }
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

    /// Reads a roster: a JSON array of `{"id": …, "name": …}`, of which other fields are ignored, or FHIR patients (see
    /// `fhir.rs`).
    ///
    /// # Errors
    /// [`RosterError`] names the first entry that is wrong.
    pub fn parse(text: &str) -> Result<Roster, RosterError> {
        // A byte order mark, which some programs on Windows write.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let found = if text.trim_start().starts_with('{') {
            fhir::read(text)?
        } else {
            list(text)?
        };
        let mut entries = Vec::with_capacity(found.len());
        let mut places = HashMap::with_capacity(found.len());
        for Found { place, entry } in found {
            let wrong = |WrongEntry { id, problem }| RosterError::Entry { place, id, problem };
            let Some(entry) = entry.map_err(wrong)? else {
                continue;
            };
            if let Some(first) = places.insert(entry.id.clone(), place) {
                return Err(wrong(WrongEntry {
                    id: Some(entry.id),
                    problem: EntryProblem::Duplicate { first },
                }));
            }
            entries.push(entry);
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

/// What a list of our own form has.
fn list(text: &str) -> Result<Vec<Found>, RosterError> {
    let json: Value = serde_json::from_str(text).map_err(|error| RosterError::not_json(&error))?;
    let Value::Array(values) = json else {
        return Err(RosterError::NotARoster);
    };
    let found = (1..).zip(&values).map(|(number, value)| Found {
        place: Place::Entry { number, line: None },
        entry: entry(value).map(Some),
    });
    Ok(found.collect())
}

fn entry(value: &Value) -> Result<RosterEntry, WrongEntry> {
    let id: PatientId = text_field(value, "id")?;
    match text_field(value, "name") {
        Ok(name) => Ok(RosterEntry { id, name }),
        Err(problem) => Err(WrongEntry {
            id: Some(id),
            problem,
        }),
    }
}

pub(crate) fn text_field<T: std::str::FromStr<Err = InvalidPatient>>(
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

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Entry { number, .. } => write!(f, "entry {number}"),
            Place::Line(line) => write!(f, "line {line}"),
        }
    }
}

struct OfPatient<'a>(Option<&'a PatientId>);

impl fmt::Display for OfPatient<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |id| write!(f, " ({id})"))
    }
}

struct OnLine(Place);

impl fmt::Display for OnLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Place::Entry { line: Some(line), .. } => write!(f, ", on line {line},"),
            Place::Entry { line: None, .. } | Place::Line(_) => Ok(()),
        }
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
            "\"Secret\"",
            "the roster is neither an array of objects with id and name nor FHIR patients (a Bundle, or one a line)",
        );
        check(
            r#"{"id":"a","name":"Secret"}"#,
            "line 1 of the roster has no resourceType",
        );
        check("[]", "the roster has nobody who may check in");
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
