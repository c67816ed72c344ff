//! What the page is told of the pipeline, and that it is told only of what is new.

use crate::http;
use crate::poison::append_poison;
use crate::system::{System, never, wait_until};

#[test]
fn the_pipeline_shows_what_was_appended_and_what_became_of_it() {
    let quiet = ["--every", never(), "--reconcile-every", never()];
    let system = System::start(&quiet);
    let watched = || system.get("/pipeline").json();
    let first = watched();
    let hours: u64 = never().trim_end_matches('h').parse().unwrap();
    assert_eq!(first["everyMillis"], hours * 3_600_000, "{first}");
    assert_eq!(first["appended"], 50, "{first}");
    assert_eq!(first["applied"], 50, "{first}");
    assert_eq!(first["generation"]["active"], 1, "{first}");
    assert!(first["generation"]["activeSince"].is_null(), "{first}");
    assert_eq!(first["dynamodb"], system.dynamodb.as_str());
    let events = first["events"].as_array().unwrap();
    assert_eq!(events.len(), 8, "{first}");
    for event in events {
        assert_eq!(event["type"], "PatientRegistered");
        assert!(event["appliedMillis"].is_u64(), "{event}");
    }

    append_poison(&system, "p-007");
    wait_until("the quarantine is counted", || watched()["quarantined"] == 1);
    let then = watched();
    assert_eq!(
        (&then["appended"], &then["applied"]),
        (&51.into(), &50.into()),
        "{then}"
    );
    let poison = &then["events"][0];
    assert_eq!(poison["patientId"], "p-007");
    assert!(
        poison["appliedMillis"].is_null(),
        "acknowledged, but not applied: {poison}"
    );
}

#[test]
fn a_pipeline_in_which_nothing_happens_costs_a_304_and_it_is_only_watched() {
    let system = System::start(&["--every", never(), "--reconcile-every", never()]);
    let first = system.get("/pipeline");
    assert_eq!(first.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(first.header("cache-control"), Some("no-store"));
    let etag = first.header("etag").unwrap();
    let asked_with = |etag: &str| {
        let header = format!("If-None-Match: {etag}\r\n");
        http::request_with(&system.api, "GET", "/pipeline", &header, "").unwrap()
    };
    let again = asked_with(etag);
    assert_eq!(
        (again.status, again.header("etag"), again.body.as_str()),
        (304, Some(etag), "")
    );
    assert_eq!(asked_with("\"other\"").body, first.body);

    append_poison(&system, "p-007");
    wait_until("it is another", || asked_with(etag).status == 200);

    let refused = http::request(&system.api, "DELETE", "/pipeline", "").unwrap();
    assert_eq!(
        (refused.status, refused.header("allow")),
        (405, Some("GET, HEAD"))
    );
    assert_eq!(
        refused.json()["type"],
        "urn:problem:patient-checkins:method-not-allowed"
    );
}
