//! Requests as API Gateway sends them, and what is answered, against the embedded DynamoDB.

use std::collections::BTreeSet;

use domain::{CheckinId, Generation};
use embedded::READ_MODEL_TABLE;
use serde_json::{Value, json};

use crate::fixture::{Answer, Api, CANARY, G1, G2, event, field, nothing, versions};

/// Expects this problem, in the form that every problem has.
#[track_caller]
pub(crate) fn check_problem(asked: &str, answer: &Answer, status: u64, code: &str, parameter: Option<&str>) {
    let text = answer.body.as_deref().unwrap();
    let body: Value = serde_json::from_str(text).unwrap();
    assert_eq!(answer.status, status, "{asked}: {text}");
    assert_eq!(body["status"], status, "{asked}: {text}");
    assert_eq!(
        body["type"],
        format!("urn:problem:patient-checkins:{code}"),
        "{asked}"
    );
    assert!(!body["title"].as_str().unwrap().is_empty(), "{asked}: {text}");
    let detail = body["detail"].as_str().unwrap();
    assert_eq!(
        body.get("parameter").and_then(Value::as_str),
        parameter,
        "{asked}: {text}"
    );
    assert!(
        parameter.is_none_or(|name| detail.contains(name)),
        "{asked}: {text}"
    );
    assert!(!text.contains(CANARY) && text.len() < 500, "{asked}: {text}");
    let header = |name: &str| answer.headers.get(name).and_then(Value::as_str);
    assert_eq!(header("content-type"), Some("application/problem+json"));
    assert_eq!(header("cache-control"), Some("no-store"));
    assert_eq!(header("etag"), None);
    let methods = (status == 405).then_some("GET, HEAD, OPTIONS");
    assert_eq!(header("allow"), methods, "{asked}");
    assert_eq!(header("retry-after"), (status == 503).then_some("1"), "{asked}");
}

/// Expects this problem of a GET.
pub(crate) async fn check(
    api: &Api,
    path: &str,
    query: &[(&str, &str)],
    (status, code, parameter): (u64, &str, Option<&str>),
) {
    let answer = api.send(event("GET", path, query)).await;
    check_problem(&format!("{path} {query:?}"), &answer, status, code, parameter);
}

#[tokio::test]
async fn patients_are_listed_from_the_start_with_or_without_check_ins() {
    let api = Api::new().await;
    api.put_patient(G1, "p-2", &[]).await;
    api.put_patient(G1, "p-1", &[30, 10]).await;
    let (ada, bob) = (
        json!({
            "id": "p-1", "name": "Canary p-1", "checkinCount": 2,
            "lastCheckinAt": "2025-11-24T16:30:00.000Z", "version": 3, "quarantinedSince": null, "staleSince": null,
        }),
        json!({
            "id": "p-2", "name": "Canary p-2", "checkinCount": 0,
            "lastCheckinAt": null, "version": 1, "quarantinedSince": null, "staleSince": null,
        }),
    );
    for query in [&[][..], &[("sort", "id")], &[("sort", "recent")]] {
        assert_eq!(
            api.get("/patients", query).await,
            json!({ "patients": [ada, bob], "nextCursor": null })
        );
    }
    assert_eq!(api.get("/patients/p-1", &[]).await, ada);
    assert_eq!(api.get("/patients/%70-2", &[("minVersion", "1")]).await, bob);
}

#[tokio::test]
async fn check_ins_are_listed_newest_first() {
    let api = Api::new().await;
    api.put_patient(G1, "p-1", &[30, 10]).await;
    let row = |version: u64, occurred_at: &str| {
        let id = CheckinId::derive(&["p-1", &version.to_string()]).to_string();
        json!({ "id": id, "occurredAt": occurred_at, "version": version })
    };
    let (late, early) = (
        row(2, "2025-11-24T16:30:00.000Z"),
        row(3, "2025-11-24T16:10:00.000Z"),
    );
    let list = |rows: [&Value; 2]| json!({ "patientId": "p-1", "quarantinedSince": null, "staleSince": null, "checkins": rows, "nextCursor": null });
    let path = "/patients/p-1/checkins";
    assert_eq!(api.get(path, &[]).await, list([&late, &early]));
    assert_eq!(api.get(path, &[("order", "desc")]).await, list([&late, &early]));
    assert_eq!(api.get(path, &[("order", "asc")]).await, list([&early, &late]));
    api.put_patient(G1, "p-2", &[]).await;
    let none = json!({ "patientId": "p-2", "quarantinedSince": null, "staleSince": null, "checkins": [], "nextCursor": null });
    assert_eq!(api.get("/patients/p-2/checkins", &[]).await, none);
}

#[tokio::test]
async fn a_quarantined_patient_is_shown_as_of_the_applied_version_and_since_when() {
    let api = Api::new().await;
    api.put_patient(G1, "p-1", &[0]).await;
    api.put_marked(G1, "p-2", &[10, 20], Some(30)).await;
    let since = json!("2025-11-24T16:30:00.000Z");
    let marked = json!({
        "id": "p-2", "name": "Canary p-2", "checkinCount": 2,
        "lastCheckinAt": "2025-11-24T16:20:00.000Z", "version": 3, "quarantinedSince": since, "staleSince": null,
    });
    assert_eq!(api.get("/patients/p-2", &[]).await, marked);
    for sort in ["id", "recent"] {
        let listed = api.get("/patients", &[("sort", sort)]).await;
        for patient in listed["patients"].as_array().unwrap() {
            if patient["id"] == "p-2" {
                assert_eq!(*patient, marked);
            } else {
                assert_eq!(patient["quarantinedSince"], Value::Null);
            }
        }
    }
    let checkins = api.get("/patients/p-2/checkins", &[]).await;
    assert_eq!(versions(checkins["checkins"].as_array().unwrap()), [3, 2]);
    assert_eq!(checkins["quarantinedSince"], since);
    let waiting = [("minVersion", "4")];
    check(&api, "/patients/p-2", &waiting, (503, "not-applied-yet", None)).await;
}

#[tokio::test]
async fn a_walk_goes_on_as_of_its_version_when_its_patient_is_quarantined_meanwhile() {
    let api = Api::new().await;
    api.put_patient(G1, "p-1", &[0, 10]).await;
    let path = "/patients/p-1/checkins";
    let first = api.get(path, &[("limit", "1")]).await;
    assert_eq!(first["quarantinedSince"], Value::Null);
    api.put_marked(G1, "p-1", &[0, 10, 5], Some(30)).await;
    let cursor = ("cursor", first["nextCursor"].as_str().unwrap());
    let second = api.get(path, &[cursor]).await;
    assert_eq!(versions(second["checkins"].as_array().unwrap()), [2]);
    assert_eq!(second["quarantinedSince"], "2025-11-24T16:30:00.000Z");
}

#[tokio::test]
async fn a_range_includes_from_and_not_to() {
    let api = Api::new().await;
    api.put_patient(G1, "p-1", &[0, 10, 20, 30]).await;
    let check = async |query: &[(&str, &str)], expected: &[u64]| {
        let path = "/patients/p-1/checkins";
        for limit in ["1", "2", "100"] {
            let mut query = query.to_vec();
            query.extend([("order", "asc"), ("limit", limit)]);
            let seen = api.walk(path, &query, "checkins", nothing).await;
            assert_eq!(versions(&seen), expected, "{query:?}");
        }
    };
    check(&[("from", "2025-11-24T16:10:00Z")], &[3, 4, 5]).await;
    check(&[("from", "2025-11-24T18:10:00.000+02:00")], &[3, 4, 5]).await;
    check(&[("from", "2025-11-24T16:10:00.001Z")], &[4, 5]).await;
    check(&[("to", "2025-11-24T16:20:00Z")], &[2, 3]).await;
    let (from, to) = (("from", "2025-11-24T16:10:00Z"), ("to", "2025-11-24T16:30:00Z"));
    check(&[from, to], &[3, 4]).await;
    check(&[from, ("to", "2025-11-24T16:10:00Z")], &[]).await;
    check(&[("from", "9999-12-31T23:59:59.999Z")], &[]).await;
    check(&[("to", "0000-01-01T00:00:00Z")], &[]).await;
}

#[tokio::test]
async fn a_walk_gives_each_patient_once_whatever_the_limit() {
    let api = Api::new().await;
    let mut by_id = Vec::new();
    let mut by_recent = Vec::new();
    for n in 0..23 {
        let patient = format!("p-{n:02}");
        let minutes: &[i64] = if n % 3 == 0 { &[] } else { &[n % 7] };
        api.put_patient(G1, &patient, minutes).await;
        by_recent.push((minutes.iter().max().copied(), patient.clone()));
        by_id.push(patient);
    }
    by_recent.sort_by(|one, other| other.cmp(one));
    let by_recent: Vec<String> = by_recent.into_iter().map(|(_, patient)| patient).collect();
    for (sort, expected) in [("id", &by_id), ("recent", &by_recent)] {
        for limit in (1..=24).chain([100]) {
            let limit = limit.to_string();
            let query = [("limit", limit.as_str()), ("sort", sort)];
            let seen = api.walk("/patients", &query, "patients", nothing).await;
            assert_eq!(&field(&seen, "id"), expected, "{query:?}");
        }
    }
}

#[tokio::test]
async fn a_walk_by_id_gives_each_patient_once_while_they_check_in() {
    let api = Api::new().await;
    let patients: Vec<String> = (0..9).map(|n| format!("p-{n}")).collect();
    for patient in &patients {
        api.put_patient(G1, patient, &[]).await;
    }
    let check_in = async |page: usize| {
        for patient in &patients {
            api.put_patient(G1, patient, &[page as i64]).await;
        }
    };
    let seen = api
        .walk("/patients", &[("limit", "2")], "patients", check_in)
        .await;
    assert_eq!(field(&seen, "id"), patients);
    // By time, those who check in move to the front. They may be missed, but no one comes twice.
    let check_in = async |page: usize| {
        let patient = &patients[page % patients.len()];
        api.put_patient(G1, patient, &[100 + page as i64]).await;
    };
    let query = [("limit", "2"), ("sort", "recent")];
    let seen = api.walk("/patients", &query, "patients", check_in).await;
    let seen = field(&seen, "id");
    assert_eq!(seen.iter().collect::<BTreeSet<_>>().len(), seen.len(), "{seen:?}");
}

#[tokio::test]
async fn a_walk_through_check_ins_is_a_snapshot() {
    for order in ["asc", "desc"] {
        for limit in 1..=7 {
            let api = Api::new().await;
            let minutes = [0, 10, 20, 20, 40];
            api.put_patient(G1, "p-1", &minutes).await;
            let limit = limit.to_string();
            // One that is newer than all others, and one that lies where the walk still has to go.
            let check_in = async |page: usize| {
                let mut minutes = minutes.to_vec();
                for page in 1..=page as i64 {
                    minutes.extend([40 + page, if order == "asc" { 39 } else { 1 }]);
                }
                api.put_patient(G1, "p-1", &minutes).await;
            };
            let query = [("limit", limit.as_str()), ("order", order)];
            let seen = api
                .walk("/patients/p-1/checkins", &query, "checkins", check_in)
                .await;
            let mut expected = vec![2, 3, 4, 5, 6];
            if order == "desc" {
                expected.reverse();
            }
            assert_eq!(versions(&seen), expected, "{query:?}");
        }
    }
}

#[tokio::test]
async fn rows_above_the_applied_version_are_invisible() {
    let api = Api::new().await;
    api.put_patient(G1, "p-1", &[0, 10]).await;
    for version in 4..20 {
        api.put_row(G1, "p-1", version, 5).await;
    }
    for limit in ["1", "2", "3", "100"] {
        let path = "/patients/p-1/checkins";
        let seen = api.walk(path, &[("limit", limit)], "checkins", nothing).await;
        assert_eq!(versions(&seen), [3, 2]);
    }
}

#[tokio::test]
async fn answers_come_from_the_active_generation_only() {
    let api = Api::new().await;
    api.put_patient(G1, "p-1", &[0, 10, 20]).await;
    api.put_patient(G1, "p-2", &[0]).await;
    api.put_patient(G2, "p-1", &[0, 10]).await;
    api.put_patient(G2, "p-3", &[30]).await;
    let check = async |generation: Generation, patients: &[&str], rows: &[u64]| {
        api.activate(generation).await;
        for sort in ["id", "recent"] {
            let query = [("limit", "1"), ("sort", sort)];
            let mut seen = api.walk("/patients", &query, "patients", nothing).await;
            seen.sort_by_key(|patient| patient["id"].to_string());
            assert_eq!(field(&seen, "id"), patients, "{generation} by {sort}");
        }
        let seen = api
            .walk("/patients/p-1/checkins", &[("limit", "1")], "checkins", nothing)
            .await;
        assert_eq!(versions(&seen), rows, "{generation}");
        let health = api.get("/health", &[]).await;
        assert_eq!(health["generation"], generation.get());
    };
    check(G1, &["p-1", "p-2"], &[4, 3, 2]).await;
    check(G2, &["p-1", "p-3"], &[3, 2]).await;
    check(G1, &["p-1", "p-2"], &[4, 3, 2]).await;
}

#[tokio::test]
async fn a_walk_goes_on_in_another_generation_unless_that_is_behind() {
    let api = Api::new().await;
    api.put_patient(G1, "p-1", &[0, 10, 20]).await;
    let path = "/patients/p-1/checkins";
    let first = api.get(path, &[("limit", "2")]).await;
    let cursor = first["nextCursor"].as_str().unwrap();
    let rest = [("limit", "2"), ("cursor", cursor)];
    api.activate(G2).await;
    check(&api, path, &rest, (503, "not-applied-yet", None)).await;
    api.put_patient(G2, "p-1", &[0, 10]).await;
    check(&api, path, &rest, (503, "not-applied-yet", None)).await;
    api.put_patient(G2, "p-1", &[0, 10, 20, 30]).await;
    let rest = api.get(path, &rest).await;
    assert_eq!(versions(rest["checkins"].as_array().unwrap()), [2]);
}

#[tokio::test]
async fn a_version_to_wait_for_is_there_or_the_answer_is_to_ask_again() {
    let api = Api::new().await;
    api.put_patient(G1, "p-1", &[0]).await;
    for path in ["/patients/p-1", "/patients/p-1/checkins"] {
        api.get(path, &[("minVersion", "0")]).await;
        api.get(path, &[("minVersion", "2")]).await;
        check(&api, path, &[("minVersion", "3")], (503, "not-applied-yet", None)).await;
    }
    for path in ["/patients/p-2", "/patients/p-2/checkins"] {
        check(&api, path, &[("minVersion", "0")], (404, "unknown-patient", None)).await;
        check(&api, path, &[("minVersion", "1")], (503, "not-applied-yet", None)).await;
    }
    // There can be no such patient, so there is nothing to wait for.
    let never = [("minVersion", "1")];
    check(&api, "/patients/p_2", &never, (404, "unknown-patient", None)).await;
}

#[tokio::test]
async fn a_cursor_with_a_version_to_wait_for_is_pinned_to_it_or_later() {
    let api = Api::new().await;
    api.put_patient(G1, "p-1", &[0, 10]).await;
    let path = "/patients/p-1/checkins";
    let first = api.get(path, &[("limit", "1"), ("minVersion", "3")]).await;
    let cursor = ("cursor", first["nextCursor"].as_str().unwrap());
    api.get(path, &[cursor, ("minVersion", "3")]).await;
    let expected = (400, "invalid-parameter", Some("minVersion"));
    check(&api, path, &[cursor, ("minVersion", "4")], expected).await;
}

#[tokio::test]
async fn before_anything_was_projected_there_are_no_patients() {
    let api = Api::empty().await;
    let none = json!({ "patients": [], "nextCursor": null });
    assert_eq!(api.get("/patients", &[]).await, none);
    assert_eq!(api.get("/patients", &[("sort", "recent")]).await, none);
    let health = json!({ "status": "ok", "generation": null, "lastAppliedAt": null, "lagMillis": null, "comparedTo": null });
    assert_eq!(api.get("/health", &[]).await, health);
    for path in ["/patients/p-1", "/patients/p-1/checkins"] {
        check(&api, path, &[], (404, "unknown-patient", None)).await;
        check(&api, path, &[("minVersion", "1")], (503, "not-applied-yet", None)).await;
    }
    let cursor = [("cursor", "AAAA")];
    for path in ["/patients", "/patients/p-1/checkins"] {
        check(&api, path, &cursor, (400, "invalid-cursor", Some("cursor"))).await;
    }
}

#[tokio::test]
async fn a_read_model_that_cannot_be_read_is_said_to_be_unavailable() {
    let api = Api::new().await;
    api.put_patient(G1, "p-1", &[0]).await;
    let delete = api.client.delete_table().table_name(READ_MODEL_TABLE);
    delete.send().await.unwrap();
    for path in ["/patients", "/patients/p-1", "/patients/p-1/checkins", "/health"] {
        check(&api, path, &[], (503, "unavailable", None)).await;
    }
}

#[tokio::test]
async fn a_parameter_that_is_unknown_is_not_repeated_and_the_known_ones_are_named() {
    let api = Api::new().await;
    api.put_patient(G1, "p-1", &[0]).await;
    let checkins = "/patients/p-1/checkins";
    for (path, name, detail) in [
        (
            "/patients",
            "form",
            "A parameter is not known here. Known here: limit, cursor, sort.",
        ),
        (
            "/patients",
            "from",
            "A parameter is not known here. Known here: limit, cursor, sort.",
        ),
        (
            "/patients",
            CANARY,
            "A parameter is not known here. Known here: limit, cursor, sort.",
        ),
        (
            "/patients/p-1",
            "limit",
            "A parameter is not known here. Known here: minVersion.",
        ),
        (
            checkins,
            "sort",
            "A parameter is not known here. Known here: limit, cursor, from, to, order, minVersion.",
        ),
        ("/health", "verbose", "There are no parameters here."),
        ("/openapi.json", "v", "There are no parameters here."),
    ] {
        let answer = api.send(event("GET", path, &[(name, "1")])).await;
        check_problem(path, &answer, 400, "invalid-parameter", None);
        let body: Value = serde_json::from_str(answer.body.as_deref().unwrap()).unwrap();
        assert_eq!(body["detail"], detail, "{path}?{name}");
    }
}

#[tokio::test]
async fn bad_parameters_are_named() {
    let api = Api::new().await;
    api.put_patient(G1, "p-1", &[0]).await;
    let checkins = "/patients/p-1/checkins";
    for (path, query, parameter) in [
        ("/patients", &[("limit", "0")][..], "limit"),
        ("/patients", &[("limit", "101")], "limit"),
        ("/patients", &[("limit", "x")], "limit"),
        ("/patients", &[("limit", "-1")], "limit"),
        ("/patients", &[("limit", "")], "limit"),
        ("/patients", &[("limit", CANARY)], "limit"),
        ("/patients", &[("limit", "1"), ("limit", "1")], "limit"),
        ("/patients", &[("sort", "name")], "sort"),
        ("/patients", &[("sort", "id"), ("sort", "recent")], "sort"),
        ("/patients/p-1", &[("minVersion", "x")], "minVersion"),
        (checkins, &[("order", "newest")], "order"),
        (checkins, &[("from", "yesterday")], "from"),
        (checkins, &[("to", "2025-11-24")], "to"),
        (checkins, &[("from", CANARY)], "from"),
        (checkins, &[("minVersion", "-1")], "minVersion"),
    ] {
        check(&api, path, query, (400, "invalid-parameter", Some(parameter))).await;
    }
    let reversed = [
        ("from", "2025-11-24T16:10:00.001Z"),
        ("to", "2025-11-24T16:10:00Z"),
    ];
    check(
        &api,
        checkins,
        &reversed,
        (400, "invalid-parameter", Some("from")),
    )
    .await;
    let data = [("Canary p-1", "")];
    check(&api, "/patients", &data, (400, "invalid-parameter", None)).await;
}

#[tokio::test]
async fn bad_paths_and_methods_are_refused() {
    let api = Api::new().await;
    api.put_patient(G1, "p-1", &[0]).await;
    let long = format!("/patients/{}", "p".repeat(10 * 1024));
    let deep = "/patients".repeat(1024);
    let long_decoded = format!("/patients/{}/checkins", "%F0%9F%98%80".repeat(900));
    for (path, code) in [
        ("", "unknown-route"),
        ("//", "unknown-route"),
        ("/patients/", "unknown-route"),
        ("/patients/p-1/", "unknown-route"),
        ("/patients//checkins", "unknown-route"),
        ("/patients/p-1/checkins/", "unknown-route"),
        ("/patients/%ff/checkins", "unknown-route"),
        (deep.as_str(), "unknown-route"),
        ("/patients/p-2", "unknown-patient"),
        ("/patients/p-2/checkins", "unknown-patient"),
        ("/patients/%00", "unknown-patient"),
        ("/patients/%", "unknown-patient"),
        ("/patients/p%231", "unknown-patient"),
        ("/patients/..%2Fhealth", "unknown-patient"),
        ("/patients/\u{1F600}", "unknown-patient"),
        ("/patients/Canary%20p-1", "unknown-patient"),
        (long.as_str(), "unknown-patient"),
        (long_decoded.as_str(), "unknown-patient"),
    ] {
        check(&api, path, &[], (404, code, None)).await;
    }
    let mut pathless = event("GET", "/patients", &[]);
    pathless["path"] = json!(null);
    let answer = api.send(pathless).await;
    check_problem("no path", &answer, 404, "unknown-route", None);
    for method in ["POST", "PUT", "PATCH", "DELETE", "TRACE", "BREW"] {
        for path in [
            "/patients",
            "/patients/p-1",
            "/patients/p_1/checkins",
            "/health",
            "/openapi.json",
        ] {
            let answer = api.send(event(method, path, &[("x", "y")])).await;
            check_problem(
                &format!("{method} {path}"),
                &answer,
                405,
                "method-not-allowed",
                None,
            );
        }
        let answer = api.send(event(method, "/nowhere", &[])).await;
        check_problem(method, &answer, 404, "unknown-route", None);
    }
}

#[tokio::test]
async fn a_cursor_is_good_for_its_own_query_only_and_unchanged() {
    let api = Api::new().await;
    for patient in ["p-1", "p-2"] {
        api.put_patient(G1, patient, &[0, 10, 20]).await;
    }
    let from = ("from", "2025-11-24T16:00:00Z");
    let to = ("to", "2025-11-24T17:00:00Z");
    let queries: [(&str, &[(&str, &str)]); 8] = [
        ("/patients", &[]),
        ("/patients", &[("sort", "recent")]),
        ("/patients/p-1/checkins", &[]),
        ("/patients/p-2/checkins", &[]),
        ("/patients/p-1/checkins", &[("order", "asc")]),
        ("/patients/p-1/checkins", &[from]),
        ("/patients/p-1/checkins", &[to]),
        ("/patients/p-1/checkins", &[from, to]),
    ];
    let invalid = (400, "invalid-cursor", Some("cursor"));
    for (path, query) in queries {
        let first = api.get(path, &[query, &[("limit", "1")]].concat()).await;
        let cursor = first["nextCursor"].as_str().unwrap().to_owned();
        let again = api.get(path, &[query, &[("limit", "1")]].concat()).await;
        assert_eq!(first, again, "the same query has the same cursor");
        // Another limit is fine.
        api.get(path, &[query, &[("cursor", &cursor), ("limit", "2")]].concat())
            .await;
        for (other_path, other_query) in queries {
            if (other_path, other_query) != (path, query) {
                let asked = [other_query, &[("cursor", &cursor)]].concat();
                check(&api, other_path, &asked, invalid).await;
            }
        }
        // Every bit of one cursor of each kind.
        let bits = if matches!(path, "/patients") || query == [from, to] {
            0..8
        } else {
            0..0
        };
        for index in 0..cursor.len() {
            for bit in bits.clone() {
                let mut changed = cursor.clone().into_bytes();
                changed[index] ^= 1 << bit;
                let changed = String::from_utf8_lossy(&changed);
                let asked = [query, &[("cursor", &changed)]].concat();
                check(&api, path, &asked, invalid).await;
            }
        }
        for changed in [
            String::new(),
            format!("{cursor}="),
            format!("{cursor}A"),
            "A".repeat(10_000),
            CANARY.to_owned(),
        ] {
            let asked = [query, &[("cursor", &changed)]].concat();
            check(&api, path, &asked, invalid).await;
        }
    }
}

#[tokio::test]
async fn a_client_that_has_the_representation_is_not_sent_it_again() {
    let api = Api::new().await;
    api.put_patient(G1, "p-1", &[0]).await;
    let conditional = async |path: &str, if_none_match: &str| {
        let mut event = event("GET", path, &[]);
        event["headers"]["if-none-match"] = json!(if_none_match);
        event["multiValueHeaders"]["if-none-match"] = json!([if_none_match]);
        api.send(event).await
    };
    let paths = ["/patients", "/patients/p-1", "/patients/p-1/checkins", "/health"];
    for path in paths {
        let etag = conditional(path, "").await.headers["etag"]
            .as_str()
            .unwrap()
            .to_owned();
        for named in [
            etag.clone(),
            format!("W/{etag}"),
            format!("\"x\", {etag}"),
            "*".to_owned(),
        ] {
            let answer = conditional(path, &named).await;
            assert_eq!((answer.status, answer.body), (304, None), "{path} {named}");
            assert_eq!(answer.headers["etag"], etag.as_str());
            assert_eq!(answer.headers["cache-control"], "no-store");
            assert_eq!(answer.headers.get("content-type"), None);
        }
        let unquoted = etag.trim_matches('"');
        for other in ["\"x\"", "", "\u{e9}", unquoted] {
            assert_eq!(conditional(path, other).await.status, 200, "{path} {other}");
        }
        let answer = conditional("/patients/p-2", "*").await;
        check_problem("/patients/p-2 *", &answer, 404, "unknown-patient", None);
    }
    let before = conditional("/patients/p-1", "").await;
    api.put_patient(G1, "p-1", &[0, 10]).await;
    let etag = before.headers["etag"].as_str().unwrap();
    assert_eq!(conditional("/patients/p-1", etag).await.status, 200);
    // The mark is part of the representation.
    for path in ["/patients", "/patients/p-1", "/patients/p-1/checkins"] {
        api.put_patient(G1, "p-1", &[0]).await;
        let before = conditional(path, "").await;
        let etag = before.headers["etag"].as_str().unwrap();
        for (since, status) in [(Some(30), 200), (None, 304)] {
            api.put_marked(G1, "p-1", &[0], since).await;
            assert_eq!(conditional(path, etag).await.status, status, "{path} {since:?}");
        }
    }
}

#[tokio::test]
async fn what_api_gateway_sends_is_understood_and_what_it_expects_is_answered() {
    let api = Api::new().await;
    for (patient, minutes) in [("p-1", &[][..]), ("p-2", &[5]), ("p-3", &[7])] {
        api.put_patient(G1, patient, minutes).await;
    }
    let event = serde_json::from_str(include_str!("events/get_patients.json")).unwrap();
    let answer = serde_json::to_value(api.backend.handle(&event).await).unwrap();
    let expected: Value = serde_json::from_str(include_str!("events/get_patients.answer.json")).unwrap();
    assert_eq!(answer, expected);
}
