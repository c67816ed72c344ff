//! Who is checked in: the patients that this system knows of.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
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
    /// It has wrong entries.
    #[error("{}", Listed { first, more: *more })]
    Entries {
        /// The first of them, at least one.
        first: Vec<WrongEntry>,
        /// How many others there are.
        more: usize,
    },
}

/// So many wrong entries are told one by one.
const MOST_TOLD: usize = 20;

/// An entry of a roster that can't be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrongEntry {
    /// Where.
    pub place: Place,
    /// Its id, if it has a valid one.
    pub id: Option<PatientId>,
    /// What is wrong.
    pub problem: EntryProblem,
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
    pub(crate) entry: Result<Option<RosterEntry>, Unusable>,
}

/// What is wrong, and with whom.
#[derive(Debug)]
pub(crate) struct Unusable {
    pub(crate) id: Option<PatientId>,
    pub(crate) problem: EntryProblem,
}

impl From<EntryProblem> for Unusable {
    fn from(problem: EntryProblem) -> Unusable {
        Unusable { id: None, problem }
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
    /// [`RosterError`] names the first entries that are wrong, and counts the others.
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
        let (mut first_wrong, mut more) = (Vec::new(), 0);
        for Found { place, entry } in found {
            let problem = match entry {
                Ok(None) => continue,
                Ok(Some(entry)) => match places.entry(entry.id.clone()) {
                    Entry::Vacant(free) => {
                        free.insert(place);
                        entries.push(entry);
                        continue;
                    }
                    Entry::Occupied(taken) => Unusable {
                        id: Some(entry.id),
                        problem: EntryProblem::Duplicate { first: *taken.get() },
                    },
                },
                Err(unusable) => unusable,
            };
            if first_wrong.len() < MOST_TOLD {
                let Unusable { id, problem } = problem;
                first_wrong.push(WrongEntry { place, id, problem });
            } else {
                more += 1;
            }
        }
        if !first_wrong.is_empty() {
            let first = first_wrong;
            return Err(RosterError::Entries { first, more });
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
    let mut found = Vec::with_capacity(values.len());
    for (number, value) in (1..).zip(&values) {
        let place = Place::Entry { number, line: None };
        // Some systems export their resources as a plain list.
        if present(value, "resourceType").is_some() {
            found.extend(fhir::resources(value, place)?);
        } else {
            let entry = entry(value).map(Some);
            found.push(Found { place, entry });
        }
    }
    Ok(found)
}

fn entry(value: &Value) -> Result<RosterEntry, Unusable> {
    let id: PatientId = text_field(value, "id")?.parse().map_err(EntryProblem::Invalid)?;
    match text_field(value, "name").and_then(name) {
        Ok(name) => Ok(RosterEntry { id, name }),
        Err(problem) => Err(Unusable {
            id: Some(id),
            problem,
        }),
    }
}

/// A name as it is shown: on one line, whatever lines it was written in.
pub(crate) fn name(text: &str) -> Result<PatientName, EntryProblem> {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").parse().map_err(EntryProblem::Invalid)
}

/// A field, unless it is `null`, which is as good as absent.
pub(crate) fn present<'v>(entry: &'v Value, field: &str) -> Option<&'v Value> {
    entry.get(field).filter(|value| !value.is_null())
}

pub(crate) fn text_field<'v>(entry: &'v Value, field: &'static str) -> Result<&'v str, EntryProblem> {
    if !entry.is_object() {
        return Err(EntryProblem::NotAnObject);
    }
    let value = present(entry, field).ok_or(EntryProblem::Missing(field))?;
    value.as_str().ok_or(EntryProblem::NotText(field))
}

impl fmt::Display for WrongEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let WrongEntry { place, id, problem } = self;
        write!(f, "{place}")?;
        if let Some(id) = id {
            write!(f, " ({id})")?;
        }
        write!(f, " of the roster{} {problem}", OnLine(*place))
    }
}

/// Wrong entries, in one line: it goes to a terminal, or into a log.
struct Listed<'a> {
    first: &'a [WrongEntry],
    more: usize,
}

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.first.len() + self.more;
        if count > 1 {
            write!(f, "{count} entries cannot be used: ")?;
        }
        for (index, wrong) in self.first.iter().enumerate() {
            let between = if index > 0 { "; " } else { "" };
            write!(f, "{between}{wrong}")?;
        }
        match self.more {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Entry { number, .. } => write!(f, "entry {number}"),
            Place::Line(line) => write!(f, "line {line}"),
        }
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
    fn a_name_is_on_one_line_however_it_was_written() {
        let roster = Roster::parse(r#"[{"id":"a","name":" Ada\n\t B.\u00a0 Example\r\n"}]"#).unwrap();
        assert_eq!(roster.entries()[0].name.as_str(), "Ada B. Example");
    }

    #[test]
    fn wrong_entries_are_told_together_and_counted_when_they_are_many() {
        let wrong = Roster::parse(r#"[{"id":"a"},{"id":"b","name":"Secret"},7,{"id":"b","name":"Secret"}]"#);
        assert_eq!(
            wrong.unwrap_err().to_string(),
            "3 entries cannot be used: entry 1 (a) of the roster has no name; entry 3 of the roster is not an object; \
             entry 4 (b) of the roster has the id of entry 2"
        );
        let many = vec!["7"; 25].join(",");
        let wrong = Roster::parse(&format!("[{many}]")).unwrap_err().to_string();
        assert!(
            wrong.starts_with("25 entries cannot be used: entry 1 of"),
            "{wrong}"
        );
        assert!(
            wrong.ends_with("entry 20 of the roster is not an object; and 5 more"),
            "{wrong}"
        );
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
            r#"[{"id":"a","name":"Secret\u0007"}]"#,
            "entry 1 (a) of the roster is invalid: \
             a patient name is 1 to 200 characters, not blank and without control characters",
        );
        check(
            r#"[{"id":"a","name":"Secret"},{"id":"b","name":"Secret"},{"id":"a","name":"Secret"}]"#,
            "entry 3 (a) of the roster has the id of entry 1",
        );
    }
}
