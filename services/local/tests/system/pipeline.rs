use std::collections::BTreeSet;

use serde_json::Value;

use crate::check::queries_see_exactly_the_events;
use crate::http;
use crate::system::{System, wait_until};

#[test]
fn every_patient_of_the_roster_is_listed_from_the_beginning() {
    let system = System::start(&["--every", "24h"]);
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

#[test]
fn what_no_function_should_see_is_refused_in_front_of_it() {
    let system = System::start(&["--every", "24h"]);
    let too_long = "x".repeat(7 * 1024 * 1024);
    // The server may answer and hang up before it has read everything.
    if let Ok(answer) = http::request(&system.api, "POST", "/patients", &too_long) {
        assert_eq!(answer.status, 413);
    }
    assert_eq!(
        http::request(&system.api, "POST", "/patients", "{}")
            .unwrap()
            .status,
        405
    );
}

#[test]
fn an_answer_is_compressed_for_whoever_accepts_it_and_says_the_same() {
    let system = System::start(&["--every", "24h"]);
    let get = |path: &str, accepted: &str| {
        let header = format!("Accept-Encoding: {accepted}\r\n");
        http::request_with(&system.api, "GET", path, &header, "").unwrap()
    };
    let length = |answer: &http::Answer| answer.header("content-length").unwrap().parse().unwrap();
    for path in ["/", "/patients?limit=100", "/pipeline"] {
        let (plain, compressed) = (get(path, "identity"), get(path, "deflate, gzip"));
        assert_eq!(plain.header("content-encoding"), None, "{path}");
        assert_eq!(compressed.header("content-encoding"), Some("gzip"), "{path}");
        assert_eq!(compressed.header("vary"), Some("Accept-Encoding"), "{path}");
        assert_eq!(compressed.header("etag"), plain.header("etag"), "{path}");
        assert_eq!(compressed.body, plain.body, "{path}");
        let (before, after): (usize, usize) = (length(&plain), length(&compressed));
        assert!(after * 2 < before, "{path}: {after} of {before}");
    }
    assert_eq!(
        get("/health", "gzip").header("content-encoding"),
        None,
        "not worth it"
    );
}
