use crate::poison::append_poison;
use crate::system::{System, wait_until};

#[test]
fn the_pipeline_shows_what_was_appended_and_what_became_of_it() {
    let quiet = ["--every", "24h", "--reconcile-every", "24h"];
    let system = System::start(&quiet);
    let watched = || system.get("/pipeline").json();
    let first = watched();
    assert_eq!(first["everyMillis"], 86_400_000, "{first}");
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
