//! Whether the read model is known to follow the events, and who is told when it does not.

use domain::{Generation, Timestamp};
use read_model::item::{PROGRESS, SWEEP, freshness_pk};
use read_model::{Progress, Sweep};
use runtime::clock::Clock;
use serde_json::{Value, json};

use crate::fixture::{Api, G1, G2, Keyed, NOW, at, event};

async fn put_progress(api: &Api, generation: Generation, recorded_at: Timestamp, applied_at: Timestamp) {
    let content = Progress {
        recorded_at,
        applied_at,
        software: None,
    };
    let pk = freshness_pk(generation);
    api.put(Keyed {
        pk,
        sk: PROGRESS,
        content,
    })
    .await;
}

async fn put_sweep(api: &Api, generation: Generation, swept_to: Timestamp, lag_millis: u64) {
    let content = Sweep {
        lag_millis,
        ..Sweep::clean(swept_to)
    };
    let pk = freshness_pk(generation);
    api.put(Keyed {
        pk,
        sk: SWEEP,
        content,
    })
    .await;
}

/// What /health says, and what is said of data.
async fn answers(api: &Api) -> (u64, Value, Value) {
    let answer = api.send(event("GET", "/health", &[])).await;
    let health = serde_json::from_str(answer.body.as_deref().unwrap()).unwrap();
    let stale: Vec<Value> = [
        api.get("/patients", &[]).await["patients"][0]["staleSince"].clone(),
        api.get("/patients", &[("sort", "recent")]).await["patients"][0]["staleSince"].clone(),
        api.get("/patients/p-1", &[]).await["staleSince"].clone(),
        api.get("/patients/p-1/checkins", &[]).await["staleSince"].clone(),
    ]
    .into();
    assert!(stale.iter().all(|since| *since == stale[0]), "{stale:?}");
    (answer.status, health, stale[0].clone())
}

#[tokio::test]
async fn health_tells_how_far_the_active_generation_has_come() {
    let api = Api::new().await;
    api.put_patient(G1, "p-1", &[0]).await;
    let health = json!({
        "status": "ok", "generation": 1, "lastAppliedAt": null, "lagMillis": null, "comparedTo": null,
    });
    assert_eq!(answers(&api).await, (200, health, Value::Null));
    // After a sweep, the worse of the two counts; and after a batch, what is compared, which found less.
    for (applied_at, swept_to, found, lag) in [
        (at(1), at(-2), 700, 60_000),
        (at(0), at(-2), 700, 700),
        (at(-1), at(-2), 0, 0),
        (at(1), at(50), 0, 0),
        (at(1), at(50), 700, 700),
    ] {
        put_progress(&api, G1, at(0), applied_at).await;
        put_sweep(&api, G1, swept_to, found).await;
        let health = json!({
            "status": "ok", "generation": 1, "lastAppliedAt": applied_at, "lagMillis": lag, "comparedTo": swept_to,
        });
        assert_eq!(answers(&api).await, (200, health, Value::Null));
    }
    // What is known of one generation says nothing of another.
    api.activate(G2).await;
    api.put_patient(G2, "p-1", &[0]).await;
    let (status, health, _) = answers(&api).await;
    assert_eq!((status, &health["lagMillis"]), (200, &Value::Null));
}

#[tokio::test]
async fn a_stalled_projection_is_said_so_and_so_is_each_answer_that_it_makes_stale() {
    let api = Api::new().await;
    api.put_patient(G1, "p-1", &[0]).await;
    put_progress(&api, G1, at(30), at(30)).await;
    put_sweep(&api, G1, at(45), 20 * 60_000).await;
    let (status, health, stale) = answers(&api).await;
    assert_eq!((status, stale), (503, json!(at(45))));
    let problem = json!({
        "type": "urn:problem:patient-checkins:projection-stalled",
        "title": "The projection is stalled",
        "status": 503,
        "detail": "Events were not applied in time. Recent ones may be missing from answers.",
        "staleSince": at(45),
        "generation": 1,
        "lastAppliedAt": at(30),
        "lagMillis": 20 * 60_000,
        "comparedTo": at(45),
    });
    assert_eq!(health, problem);
    let answer = api.send(event("GET", "/health", &[])).await;
    assert_eq!(answer.headers["retry-after"], "60");
    assert_eq!(answer.headers["content-type"], "application/problem+json");

    // The projector is back.
    put_progress(&api, G1, at(46), at(46)).await;
    let (status, _, stale) = answers(&api).await;
    assert_eq!((status, stale), (200, Value::Null));
}

#[tokio::test]
async fn silence_becomes_a_stall_only_when_nothing_is_compared_either() {
    async fn at_time(clock: Clock) -> (u64, Value) {
        let api = Api::new().await.with(clock, None);
        api.put_patient(G1, "p-1", &[0]).await;
        put_progress(&api, G1, at(0), at(0)).await;
        put_sweep(&api, G1, at(60), 0).await;
        let (status, _, stale) = answers(&api).await;
        (status, stale)
    }
    assert_eq!(at_time(NOW).await, (200, Value::Null));
    assert_eq!(at_time(|| at(180)).await, (200, Value::Null));
    assert_eq!(at_time(|| at(181)).await, (503, json!(at(60))));
}

#[tokio::test]
async fn staleness_is_part_of_the_representation() {
    let api = Api::new().await;
    api.put_patient(G1, "p-1", &[0]).await;
    let mut asked = event("GET", "/patients", &[]);
    let etag = api.send(asked.clone()).await.headers["etag"].clone();
    asked["multiValueHeaders"]["if-none-match"] = json!([etag]);
    assert_eq!(api.send(asked.clone()).await.status, 304);
    put_progress(&api, G1, at(30), at(40)).await;
    let stale = api.send(asked.clone()).await;
    assert_eq!(stale.status, 200);
    // It stays the same while the stall lasts.
    asked["multiValueHeaders"]["if-none-match"] = json!([stale.headers["etag"]]);
    assert_eq!(api.send(asked).await.status, 304);
}
