//! A roster out of another system: FHIR R4 Patient resources (<https://hl7.org/fhir/R4/patient.html>), in a Bundle
//! (<https://hl7.org/fhir/R4/bundle.html>), or one on each line, as a bulk export writes them.
//!
//! Read are `id`, `active`, `name` and `deceased[x]`; all else, and every other resource, is ignored. Left out is
//! whoever does not check in any more: who is not active, or has died.

use domain::{PatientId, PatientName};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::roster::{EntryProblem, Found, Place, RosterEntry, RosterError, WrongEntry, text_field};

/// The uses of a name (<https://hl7.org/fhir/R4/valueset-name-use.html>), best first; `None` is a name that does not
/// say. Deliberately absent: `old` and `maiden`, which name somebody as nobody does any more.
const USES: [Option<&str>; 6] = [
    Some("official"),
    Some("usual"),
    None,
    Some("temp"),
    Some("nickname"),
    Some("anonymous"),
];

#[derive(Deserialize)]
struct Bundle<'a> {
    #[serde(borrow, default)]
    entry: Vec<&'a RawValue>,
    #[serde(default)]
    link: Vec<Value>,
}

/// What a text that begins with an object has of patients.
///
/// # Errors
/// [`RosterError`], but not [`RosterError::Entry`]: what is wrong with one entry is found with it.
pub(crate) fn read(text: &str) -> Result<Vec<Found>, RosterError> {
    let first = text.lines().find(|line| !line.trim().is_empty());
    // A line that is JSON by itself is one of many, unless it is a Bundle.
    match first.map(serde_json::from_str::<Value>) {
        Some(Ok(first)) if kind(&first) != Ok("Bundle") => Ok(lines(text)),
        _ => bundle(text),
    }
}

fn lines(text: &str) -> Vec<Found> {
    (1..)
        .zip(text.lines())
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(number, line)| Found {
            place: Place::Line(number),
            entry: match serde_json::from_str(line) {
                Ok(resource) => patient(&resource),
                Err(error) => Err(WrongEntry::from(EntryProblem::NotJson {
                    column: error.column(),
                })),
            },
        })
        .collect()
}

fn bundle(text: &str) -> Result<Vec<Found>, RosterError> {
    // First only whether it is JSON: that error can't quote a value, and has a place.
    let whole: &RawValue = serde_json::from_str(text).map_err(|error| RosterError::not_json(&error))?;
    let resource: Value = serde_json::from_str(whole.get()).map_err(|error| RosterError::not_json(&error))?;
    if kind(&resource) != Ok("Bundle") {
        // One resource on many lines.
        let (place, entry) = (Place::Line(1), patient(&resource));
        return Ok(vec![Found { place, entry }]);
    }
    let bundle: Bundle<'_> = serde_json::from_str(text).map_err(|_| RosterError::NotARoster)?;
    if bundle
        .link
        .iter()
        .any(|link| link.get("relation").and_then(Value::as_str) == Some("next"))
    {
        return Err(RosterError::OnePageOfMany);
    }
    let (mut line, mut counted) = (1, 0);
    let found = (1..).zip(bundle.entry).map(|(number, entry)| {
        // The entry is a part of the text.
        let begins = (entry.get().as_ptr() as usize).saturating_sub(text.as_ptr() as usize);
        line += text
            .get(counted..begins)
            .unwrap_or_default()
            .matches('\n')
            .count();
        counted = begins;
        let resource = serde_json::from_str::<Value>(entry.get()).unwrap_or_default();
        Found {
            place: Place::Entry {
                number,
                line: Some(line),
            },
            entry: match resource.get("resource") {
                Some(resource) => patient(resource),
                // What was deleted, or is of a transaction.
                None if resource.is_object() => Ok(None),
                None => Err(EntryProblem::NotAnObject.into()),
            },
        }
    });
    Ok(found.collect())
}

/// The patient that a resource is, if it is one who may check in.
fn patient(resource: &Value) -> Result<Option<RosterEntry>, WrongEntry> {
    if kind(resource)? != "Patient" {
        return Ok(None);
    }
    if !flag(resource, "active")?.unwrap_or(true)
        || flag(resource, "deceasedBoolean")?.unwrap_or(false)
        || resource.get("deceasedDateTime").is_some()
    {
        return Ok(None);
    }
    let id: PatientId = text_field(resource, "id")?;
    match name(resource) {
        Ok(name) => Ok(Some(RosterEntry { id, name })),
        Err(problem) => Err(WrongEntry {
            id: Some(id),
            problem,
        }),
    }
}

/// What a resource is.
fn kind(resource: &Value) -> Result<&str, EntryProblem> {
    const FIELD: &str = "resourceType";
    let fields = resource.as_object().ok_or(EntryProblem::NotAnObject)?;
    let kind = fields.get(FIELD).ok_or(EntryProblem::Missing(FIELD))?;
    kind.as_str().ok_or(EntryProblem::NotText(FIELD))
}

fn flag(resource: &Value, field: &'static str) -> Result<Option<bool>, EntryProblem> {
    let value = resource.get(field);
    value
        .map(|value| value.as_bool().ok_or(EntryProblem::NotTrueOrFalse(field)))
        .transpose()
}

/// The best of a patient's names.
fn name(resource: &Value) -> Result<PatientName, EntryProblem> {
    let names = resource.get("name").ok_or(EntryProblem::Missing("name"))?;
    let names = names.as_array().ok_or(EntryProblem::NotAList("name"))?;
    let text = USES.into_iter().find_map(|wanted| {
        let of_that_use = |name: &&Value| name.get("use").and_then(Value::as_str) == wanted;
        names.iter().filter(of_that_use).find_map(text)
    });
    let text = text.ok_or(EntryProblem::NoUsableName)?;
    text.parse().map_err(EntryProblem::Invalid)
}

/// A name as it is written, or else what it consists of.
fn text(name: &Value) -> Option<String> {
    let part = |part: &Value| Some(part.as_str()?.trim().to_owned()).filter(|part| !part.is_empty());
    let parts = || {
        let given = name.get("given").and_then(Value::as_array).into_iter().flatten();
        let parts: Vec<String> = given.chain(name.get("family")).filter_map(part).collect();
        Some(parts.join(" ")).filter(|name| !name.is_empty())
    };
    name.get("text").and_then(part).or_else(parts)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::roster::Roster;

    /// Ids and names.
    fn patients(text: &str) -> Vec<(String, String)> {
        let roster = Roster::parse(text).unwrap();
        let pair = |entry: &crate::RosterEntry| (entry.id.to_string(), entry.name.as_str().to_owned());
        roster.entries().iter().map(pair).collect()
    }

    #[track_caller]
    fn check_name(names: &serde_json::Value, expected: &str) {
        let patient = json!({ "resourceType": "Patient", "id": "a", "name": names });
        assert_eq!(
            patients(&patient.to_string()),
            [("a".to_owned(), expected.to_owned())]
        );
    }

    const BUNDLE: &str = r#"
{
  "resourceType": "Bundle",
  "type": "collection",
  "link": [{ "relation": "self", "url": "https://fhir.example/Patient" }],
  "entry": [
    { "fullUrl": "https://fhir.example/Patient/a-1",
      "resource": { "resourceType": "Patient", "id": "a-1", "meta": { "versionId": "3" }, "active": true,
                    "birthDate": "1970-01-01", "name": [{ "family": "Example", "given": ["Ada", "B."] }] } },
    { "resource": { "resourceType": "Organization", "id": "not a patient id", "name": "Clinic" } },
    { "resource": { "resourceType": "Patient", "id": "left", "active": false } },
    { "resource": { "resourceType": "Patient", "id": "died", "deceasedBoolean": true } },
    { "resource": { "resourceType": "Patient", "id": "died-too", "deceasedDateTime": "2020" } },
    { "request": { "method": "DELETE", "url": "Patient/gone" } },
    { "resource": { "resourceType": "Patient", "id": "A.2", "name": [{ "text": "Bo Example" }], "deceasedBoolean": false } }
  ]
}"#;

    #[test]
    fn a_bundle_gives_its_patients_who_may_check_in() {
        let expected = [("a-1", "Ada B. Example"), ("A.2", "Bo Example")];
        let expected = expected.map(|(id, name)| (id.to_owned(), name.to_owned()));
        assert_eq!(patients(BUNDLE), expected);
        let on_one_line = BUNDLE.replace('\n', "");
        assert_eq!(patients(&on_one_line), expected);
        assert_eq!(patients(&format!("\u{feff}{BUNDLE}\n\n")), expected);
    }

    #[test]
    fn lines_give_theirs() {
        let text = concat!(
            r#"{"resourceType":"Patient","id":"a","name":[{"text":"Ada Example"}]}"#,
            "\r\n\r\n",
            r#"{"resourceType":"Encounter","id":"e"}"#,
            "\n",
            r#"{"resourceType":"Patient","id":"b","name":[{"family":"Example"}]}"#,
        );
        let expected = [("a", "Ada Example"), ("b", "Example")];
        assert_eq!(
            patients(text),
            expected.map(|(id, name)| (id.to_owned(), name.to_owned()))
        );
    }

    #[test]
    fn one_patient_may_take_many_lines() {
        let text =
            "{\n \"resourceType\": \"Patient\",\n \"id\": \"a\",\n \"name\": [{ \"text\": \"Ada\" }]\n}";
        assert_eq!(patients(text), [("a".to_owned(), "Ada".to_owned())]);
    }

    #[test]
    fn the_best_name_is_taken() {
        check_name(
            &json!([
                { "use": "nickname", "text": "Addie" },
                { "use": "old", "text": "Ada Before" },
                { "use": "usual", "text": "Ada Example" },
                { "use": "official", "text": "Ada Beatrice Example" },
            ]),
            "Ada Beatrice Example",
        );
        check_name(
            &json!([{ "use": "temp", "text": "Unknown 7" }, { "text": "Ada" }]),
            "Ada",
        );
        // One that says nothing is no name.
        check_name(
            &json!([{ "use": "official", "text": " " }, { "use": "nickname", "text": " Addie " }]),
            "Addie",
        );
        check_name(
            &json!([{ "given": [null, "Ada", ""], "_given": [{ "extension": [] }], "family": "Example" }]),
            "Ada Example",
        );
    }

    #[test]
    fn what_cannot_be_used_is_named_by_its_line_and_without_its_content() {
        #[track_caller]
        fn check(text: &str, expected: &str) {
            let error = Roster::parse(text).unwrap_err();
            assert_eq!(error.to_string(), expected);
            assert!(!format!("{error:?}").contains("Secret"), "{error:?}");
        }
        let in_bundle = |patient: &str| {
            BUNDLE.replace(
                r#"{ "request":"#,
                &format!("{{ \"resource\": {patient} }}, {{ \"request\":"),
            )
        };
        check(
            &in_bundle(
                r#"{ "resourceType": "Patient", "id": "b", "name": [{ "use": "old", "text": "Secret" }] }"#,
            ),
            "entry 6 (b) of the roster, on line 14, has no name that is in use",
        );
        check(
            &in_bundle(r#"{ "resourceType": "Patient", "name": [{ "text": "Secret" }] }"#),
            "entry 6 of the roster, on line 14, has no id",
        );
        check(
            &in_bundle(r#"{ "resourceType": "Patient", "id": "a-1", "name": [{ "text": "Secret" }] }"#),
            "entry 6 (a-1) of the roster, on line 14, has the id of entry 1",
        );
        check(
            &in_bundle(r#"{ "resourceType": "Patient", "id": "b", "active": "Secret" }"#),
            "entry 6 of the roster, on line 14, has a field active that is neither true nor false",
        );
        check(
            &BUNDLE.replace("\"self\"", "\"next\""),
            "the roster is one page of many: the Bundle has a link to the next one",
        );
        check(
            &BUNDLE.replace("\"type\"", "\"type"),
            "the roster is not JSON: expected `:` at line 4 column 11",
        );
        let lines = |last: &str| {
            format!(
                "{{\"resourceType\":\"Patient\",\"id\":\"a\",\"name\":[{{\"text\":\"Ada\"}}]}}\n\n{last}\n"
            )
        };
        check(
            &lines("{\"resourceType\":\"Patient\",\"id\":\"Secret Person\"}"),
            "line 3 of the roster is invalid: a patient id is 1 to 64 of A-Z a-z 0-9 - .",
        );
        check(
            &lines("{\"resourceType\":\"Patient\",\"id\":\"b\",\"name\":\"Secret\"}"),
            "line 3 (b) of the roster has a field name that is not a list",
        );
        check(
            &lines("{\"resourceType\":\"Patient\",\"id\":\"a\",\"name\":[{\"text\":\"Secret\"}]}"),
            "line 3 (a) of the roster has the id of line 1",
        );
        check(
            &lines("{\"id\":\"Secret\"}"),
            "line 3 of the roster has no resourceType",
        );
        check(
            &lines("{\"Secret\" 7}"),
            "line 3 of the roster is not JSON, from column 11 on",
        );
        check(
            "{\"resourceType\":\"Encounter\"}",
            "the roster has nobody who may check in",
        );
        check(
            "{\"resourceType\":\"Bundle\"}",
            "the roster has nobody who may check in",
        );
        check(
            "{\"resourceType\":\"Bundle\",\"entry\":\"Secret\"}",
            "the roster is neither an array of objects with id and name nor FHIR patients (a Bundle, or one a line)",
        );
    }
}
