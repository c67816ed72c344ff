//! A roster out of another system: FHIR R4 Patient resources (<https://hl7.org/fhir/R4/patient.html>), in a Bundle
//! (<https://hl7.org/fhir/R4/bundle.html>), or one on each line, as a bulk export writes them. A Bundle may be inside
//! another, as in the answer to a batch of searches, or on a line.
//!
//! Read are `id`, `active`, `name` and `deceased[x]`; all else, and every other resource, is ignored. Left out is
//! whoever does not check in any more: who is not active, or has died.

use domain::{PatientId, PatientName};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::roster::{
    self, EntryProblem, Found, Place, RosterEntry, RosterError, Unusable, present, text_field,
};

const BUNDLE: &str = "Bundle";

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
}

#[derive(Deserialize)]
struct BundleEntry<'a> {
    #[serde(borrow, default)]
    resource: Option<&'a RawValue>,
}

/// What a text that begins with an object has of patients.
///
/// # Errors
/// [`RosterError`], but not [`RosterError::Entries`]: what is wrong with one entry is found with it.
pub(crate) fn read(text: &str) -> Result<Vec<Found>, RosterError> {
    if is_one_a_line(text) {
        lines(text)
    } else {
        whole(text)
    }
}

/// Whether each line is a resource by itself. Where the second one begins as the first did, it is, even if the first can't
/// be read: within one object, a brace can't follow another at once. A single line is, unless it is a Bundle.
fn is_one_a_line(text: &str) -> bool {
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    let first = lines.next().map(serde_json::from_str::<Value>);
    match lines.next() {
        Some(second) => second.trim_start().starts_with('{'),
        None => matches!(first, Some(Ok(first)) if kind(&first) != Ok(BUNDLE)),
    }
}

fn lines(text: &str) -> Result<Vec<Found>, RosterError> {
    let mut found = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let place = Place::Line(number);
        if line.trim().is_empty() {
            continue;
        }
        match serde_json::from_str(line) {
            Ok(resource) => found.extend(resources(&resource, place)?),
            Err(error) => {
                let column = error.column();
                let entry = Err(EntryProblem::NotJson { column }.into());
                found.push(Found { place, entry });
            }
        }
    }
    Ok(found)
}

/// One object, on however many lines.
fn whole(text: &str) -> Result<Vec<Found>, RosterError> {
    // First only whether it is JSON: that error can't quote a value, and has a place.
    let whole: &RawValue = serde_json::from_str(text).map_err(|error| RosterError::not_json(&error))?;
    let resource: Value = serde_json::from_str(whole.get()).map_err(|error| RosterError::not_json(&error))?;
    if kind(&resource) != Ok(BUNDLE) {
        return resources(&resource, Place::Line(1));
    }
    let mut entries = Entries {
        text,
        counted: 0,
        line: 1,
        found: Vec::new(),
    };
    entries.add(whole, &resource)?;
    Ok(entries.found)
}

/// The entries of a Bundle, and of those inside it, with their lines.
struct Entries<'t> {
    text: &'t str,
    /// Up to where lines have been counted, and how many there are.
    counted: usize,
    line: usize,
    found: Vec<Found>,
}

impl<'t> Entries<'t> {
    /// `raw` is a part of the text, and `bundle` what it is. How deep one can be inside another is limited by what the
    /// parser takes.
    fn add(&mut self, raw: &'t RawValue, bundle: &Value) -> Result<(), RosterError> {
        is_complete(bundle)?;
        let entries: Bundle<'t> = serde_json::from_str(raw.get()).map_err(|_| RosterError::NotARoster)?;
        for entry in entries.entry {
            let begins = (entry.get().as_ptr() as usize).saturating_sub(self.text.as_ptr() as usize);
            let between = self.text.get(self.counted..begins).unwrap_or_default();
            self.line += between.matches('\n').count();
            self.counted = begins;
            let resource = serde_json::from_str::<BundleEntry<'t>>(entry.get()).map(|entry| entry.resource);
            let parsed = |raw: &RawValue| serde_json::from_str::<Value>(raw.get()).unwrap_or_default();
            let found = match resource {
                Ok(Some(raw)) => match parsed(raw) {
                    resource if kind(&resource) == Ok(BUNDLE) => {
                        self.add(raw, &resource)?;
                        continue;
                    }
                    resource => patient(&resource),
                },
                // What was deleted, or is of a transaction.
                Ok(None) if entry.get().starts_with('{') => Ok(None),
                Ok(None) | Err(_) => Err(EntryProblem::NotAnObject.into()),
            };
            let place = Place::Entry {
                number: self.found.len() + 1,
                line: Some(self.line),
            };
            self.found.push(Found { place, entry: found });
        }
        Ok(())
    }
}

/// What a resource at this place is, or if it is a Bundle, has.
///
/// # Errors
/// As [`read`].
pub(crate) fn resources(resource: &Value, place: Place) -> Result<Vec<Found>, RosterError> {
    if kind(resource) != Ok(BUNDLE) {
        let entry = patient(resource);
        return Ok(vec![Found { place, entry }]);
    }
    is_complete(resource)?;
    let entries = match present(resource, "entry") {
        None => &[][..],
        Some(entries) => entries.as_array().ok_or(RosterError::NotARoster)?,
    };
    let mut found = Vec::with_capacity(entries.len());
    for entry in entries {
        if !entry.is_object() {
            let entry = Err(EntryProblem::NotAnObject.into());
            found.push(Found { place, entry });
        } else if let Some(resource) = present(entry, "resource") {
            found.extend(resources(resource, place)?);
        }
    }
    Ok(found)
}

/// Whether a Bundle has all that was asked for.
fn is_complete(bundle: &Value) -> Result<(), RosterError> {
    let links = bundle.get("link").and_then(Value::as_array);
    let mut links = links.into_iter().flatten();
    if links.any(|link| link.get("relation").and_then(Value::as_str) == Some("next")) {
        return Err(RosterError::OnePageOfMany);
    }
    Ok(())
}

/// The patient that a resource is, if it is one who may check in.
fn patient(resource: &Value) -> Result<Option<RosterEntry>, Unusable> {
    if kind(resource)? != "Patient" {
        return Ok(None);
    }
    if !flag(resource, "active")?.unwrap_or(true)
        || flag(resource, "deceasedBoolean")?.unwrap_or(false)
        || present(resource, "deceasedDateTime").is_some()
    {
        return Ok(None);
    }
    let id = text_field(resource, "id")?.parse();
    let id: PatientId = id.map_err(EntryProblem::Invalid)?;
    match name(resource) {
        Ok(name) => Ok(Some(RosterEntry { id, name })),
        Err(problem) => Err(Unusable {
            id: Some(id),
            problem,
        }),
    }
}

/// What a resource is.
fn kind(resource: &Value) -> Result<&str, EntryProblem> {
    text_field(resource, "resourceType")
}

fn flag(resource: &Value, field: &'static str) -> Result<Option<bool>, EntryProblem> {
    present(resource, field)
        .map(|value| value.as_bool().ok_or(EntryProblem::NotTrueOrFalse(field)))
        .transpose()
}

/// The best of a patient's names. One whose time ends, or has ended, comes after all others, whatever its use: which of
/// the two it is depends on the day, and a roster has to say the same on any.
fn name(resource: &Value) -> Result<PatientName, EntryProblem> {
    let names = present(resource, "name").ok_or(EntryProblem::Missing("name"))?;
    let names = names.as_array().ok_or(EntryProblem::NotAList("name"))?;
    let best = |ends: bool| {
        USES.into_iter().find_map(|wanted| {
            let fits = |name: &&Value| {
                let end = name.get("period").and_then(|period| present(period, "end"));
                present(name, "use").and_then(Value::as_str) == wanted && end.is_some() == ends
            };
            names.iter().filter(fits).find_map(text)
        })
    };
    let text = best(false).or_else(|| best(true));
    roster::name(&text.ok_or(EntryProblem::NoUsableName)?)
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
    fn a_name_whose_time_ends_comes_last() {
        let ends = json!({ "start": "2001", "end": "2011-05" });
        check_name(
            &json!([
                { "use": "official", "text": "Ada Before", "period": ends },
                { "use": "usual", "text": "Ada Example", "period": { "start": "2011-05" } },
            ]),
            "Ada Example",
        );
        check_name(
            &json!([
                { "use": "nickname", "text": "Addie", "period": ends },
                { "use": "official", "text": "Ada Before", "period": ends },
            ]),
            "Ada Before",
        );
        check_name(
            &json!([{ "use": "official", "text": "Ada", "period": { "end": null } }]),
            "Ada",
        );
    }

    #[test]
    fn null_is_as_good_as_absent() {
        let patient = json!({
            "resourceType": "Patient", "id": "a", "active": null, "deceasedBoolean": null, "deceasedDateTime": null,
            "name": [{ "use": null, "text": null, "family": "Example", "period": null }],
        });
        assert_eq!(
            patients(&patient.to_string()),
            [("a".to_owned(), "Example".to_owned())]
        );
    }

    /// The answer to a batch of searches.
    const BATCH: &str = r#"{
  "resourceType": "Bundle", "type": "batch-response",
  "entry": [
    { "response": { "status": "200" },
      "resource": { "resourceType": "Bundle", "type": "searchset", "entry": [
        { "resource": { "resourceType": "Patient", "id": "a", "name": [{ "text": "Ada\tExample" }] } },
        { "resource": { "resourceType": "Patient", "id": "b", "name": [{ "text": "Bo" }] } }
      ] } },
    { "resource": { "resourceType": "Patient", "id": "c", "name": [{ "text": "Cy" }] } }
  ]
}"#;

    #[test]
    fn a_bundle_inside_another_gives_its_patients_too() {
        let expected = [("a", "Ada Example"), ("b", "Bo"), ("c", "Cy")];
        let expected = expected.map(|(id, name)| (id.to_owned(), name.to_owned()));
        let on_one_line = BATCH.replace('\n', "");
        let last = r#"{"resourceType":"Patient","id":"z","name":[{"text":"Zoe"}]}"#;
        assert_eq!(patients(BATCH), expected);
        assert_eq!(patients(&on_one_line), expected);
        // On a line among others, and in a list.
        let mut with_last = expected.to_vec();
        with_last.push(("z".to_owned(), "Zoe".to_owned()));
        assert_eq!(patients(&format!("{on_one_line}\n{last}\n")), with_last);
        with_last.rotate_right(1);
        assert_eq!(patients(&format!("{last}\n{on_one_line}\n")), with_last);
        assert_eq!(patients(&format!("[{last},{BATCH}]")), with_last);

        let error = |text: &str| Roster::parse(text).unwrap_err().to_string();
        assert_eq!(
            error(&BATCH.replace("\"b\"", "\"a\"")),
            "entry 2 (a) of the roster, on line 7, has the id of entry 1"
        );
        let next = r#""type": "searchset", "link": [{ "relation": "next" }]"#;
        let of_many = BATCH.replace(r#""type": "searchset""#, next);
        for text in [&of_many, &of_many.replace('\n', ""), &format!("[{of_many}]")] {
            assert!(error(text).contains("one page of many"), "{text}");
        }
        assert_eq!(
            error(&format!("{last}\n{}\n", on_one_line.replace("\"b\"", "\"z\""))),
            "line 2 (z) of the roster has the id of line 1"
        );
    }

    #[test]
    fn a_list_of_resources_gives_theirs() {
        let text =
            r#"[{"resourceType":"Patient","id":"a","name":[{"text":"Ada"}]},{"resourceType":"Encounter"}]"#;
        assert_eq!(patients(text), [("a".to_owned(), "Ada".to_owned())]);
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
        // The first of many, too.
        let last = "{\"resourceType\":\"Patient\",\"id\":\"b\",\"name\":[{\"text\":\"Bo\"}]}";
        check(
            &format!("{{\"resourceType\":\"Patient\",\"id\":\"Secret\"\n{last}"),
            "line 1 of the roster is not JSON, from column 39 on",
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
