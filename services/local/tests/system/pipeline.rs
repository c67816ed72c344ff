//! From the roster to the answers: who is listed, and who checks in.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::check::queries_see_exactly_the_events;
use crate::system::{System, never, wait_until};

#[test]
fn every_patient_of_the_roster_is_listed_from_the_beginning() {
    let system = System::start(&["--every", never()]);
    let listed = system.patients();
    let roster = checkin::Roster::built_in().unwrap();
    let ids = |values: &[Value]| -> BTreeSet<String> {
        values
            .iter()
            .map(|patient| patient["id"].as_str().unwrap().to_owned())
            .collect()
    };
    let expected: BTreeSet<String> = roster
        .entries()
        .iter()
        .map(|entry| entry.id.to_string())
        .collect();
    assert_eq!(ids(&listed), expected);
    assert_eq!(listed.len(), roster.entries().len());
    for patient in &listed {
        assert_eq!(patient["lastCheckinAt"], Value::Null, "{patient}");
        assert_eq!(patient["checkinCount"], 0, "{patient}");
    }
}

#[test]
fn more_and_more_patients_have_check_ins_and_queries_see_exactly_the_events() {
    let system = System::start(&["--every", "200ms", "--checkins-per-tick", "2"]);
    for expected in [1, 10] {
        wait_until("patients have checked in", || {
            system
                .patients()
                .iter()
                .filter(|patient| !patient["lastCheckinAt"].is_null())
                .count()
                >= expected
        });
    }
    queries_see_exactly_the_events(&system);
}

#[test]
fn an_operators_roster_takes_the_place_of_the_built_in_one() {
    let folder = tempfile::tempdir().unwrap();
    let roster = folder.path().join("roster.json");
    std::fs::write(&roster, r#"[{"id":"x-1","name":"Only One"}]"#).unwrap();
    let system = System::start(&["--every", "50ms", "--roster", roster.to_str().unwrap()]);
    wait_until("the only patient has checked in", || {
        !system.patients()[0]["lastCheckinAt"].is_null()
    });
    let listed = system.patients();
    assert_eq!(
        (listed.len(), &listed[0]["id"], &listed[0]["name"]),
        (1, &"x-1".into(), &"Only One".into())
    );
}
