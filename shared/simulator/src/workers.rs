//! What the tasks of a world do: production's own code, on the simulated tables.

use aws_lambda_events::dynamodb::Event;
use aws_lambda_events::streams::DynamoDbEventResponse;
use checkin::Checkin;
use domain::{Applied, Event as Fact, PatientId, StreamVersion};
use projection::{PatientRow, ProjectionStore, Reconcile, Retry, begin_building, current, promote};
use projector::Projector;
use reconciler::{Reconciler, Request};
use replay::{Rebuild, RebuildError};

use crate::people::people;
use crate::plan::Number;
use crate::planted::Bug;
use crate::readers::{self, Question};
use crate::stores::Stores;
use crate::time::{at, clock};

/// How far apart firings of the schedule are, in milliseconds.
const TICK_MILLIS: i64 = 60_000;

/// The services, as their `main` would wire them.
#[derive(Debug)]
pub(crate) struct Services<'w> {
    pub(crate) checkin: Checkin<Stores<'w>>,
    pub(crate) projector: Projector<Stores<'w>, Stores<'w>, Stores<'w>>,
    pub(crate) reconciler: Reconciler<Stores<'w>, Stores<'w>, Stores<'w>>,
    pub(crate) stores: Stores<'w>,
}

/// How a task ended.
#[derive(Debug)]
pub(crate) enum End {
    /// Well, or there is nothing to be done about it.
    Done,
    /// It has to be tried again.
    Failed,
    /// The projector answered.
    Answered(DynamoDbEventResponse),
}

impl End {
    fn of(done: bool) -> End {
        if done { End::Done } else { End::Failed }
    }
}

/// One invocation of the producer, for the firing with this number.
pub(crate) async fn tick(services: &Services<'_>, number: u8) -> End {
    let event = serde_json::json!({
        "version": "0",
        "id": "53dc4d37-cffa-4f76-80c9-8b7d4a4d2eaa",
        "detail-type": "Scheduled Event",
        "source": "aws.events",
        "account": "123456789012",
        "time": at(i64::from(number) * TICK_MILLIS),
        "region": "us-east-1",
        "resources": ["arn:aws:events:us-east-1:123456789012:rule/tick"],
        "detail": {}
    });
    End::of(services.checkin.handle(event, "request").await.is_ok())
}

/// One invocation of the producer that registers the roster.
pub(crate) async fn register(services: &Services<'_>) -> End {
    let command = serde_json::json!({"command": "register-roster"});
    End::of(services.checkin.handle(command, "request").await.is_ok())
}

/// One invocation of the projector.
pub(crate) async fn project(services: &Services<'_>, batch: Event) -> End {
    if services.stores.planted(Bug::GapIgnored) {
        return project_blindly(services.stores, batch).await;
    }
    match services.projector.handle(batch).await {
        Ok(response) => End::Answered(response),
        Err(_) => End::Failed,
    }
}

/// One request of a reader, or a walk of several.
pub(crate) async fn read(services: &Services<'_>, question: Question) -> End {
    readers::ask(services.stores, question).await;
    End::Done
}

/// One run of `replay rebuild`.
pub(crate) async fn rebuild(services: &Services<'_>, segments: u16) -> End {
    let stores = services.stores;
    if stores.planted(Bug::PromotedUnbuilt) {
        let Ok(generation) = begin_building(&stores).await else {
            return End::Failed;
        };
        return End::of(promote(&stores, generation).await.is_ok());
    }
    let rebuild = Rebuild {
        log: &stores,
        store: &stores,
        queue: &stores,
        segments,
        concurrency: 2,
        clock,
    };
    match rebuild.run(&|_| ()).await {
        Ok(_) | Err(RebuildError::Promote(_) | RebuildError::WouldLoseData { .. }) => End::Done,
        Err(_) => End::Failed,
    }
}

/// One invocation of the reconciler.
pub(crate) async fn reconcile(services: &Services<'_>, full: bool) -> End {
    End::of(services.reconciler.handle(Request { full }).await.is_ok())
}

/// One run of a redrive.
pub(crate) async fn redrive(services: &Services<'_>) -> End {
    let stores = &services.stores;
    let patients: Vec<PatientId> = {
        let known = stores.world().plan.number(Number::Patients);
        people()
            .iter()
            .take(known.into())
            .map(|person| person.id.clone())
            .collect()
    };
    let Ok(control) = current(stores).await else {
        return End::Failed;
    };
    let reconcile = Reconcile {
        log: stores,
        store: stores,
        queue: stores,
        generation: control.active,
        retry: Retry::Quarantined,
        concurrency: 2,
        now: clock(),
    };
    let reconciled = reconcile.to_heads(&patients).await;
    End::of(reconciled.is_ok_and(|reconciled| reconciled.failed.is_empty()))
}

/// What a projector would do that takes every later event for the next one.
async fn project_blindly(stores: Stores<'_>, batch: Event) -> End {
    let Ok(control) = current(&stores).await else {
        return End::Failed;
    };
    for record in batch.records {
        let entry = event_log::item::stream_entry(record.change.new_image);
        let Some((patient, event)) = entry.and_then(|entry| Some((entry.patient_id, entry.event.ok()?)))
        else {
            continue;
        };
        let patients = std::slice::from_ref(&patient);
        let Ok(states) = ProjectionStore::states(&stores, control.active, patients).await else {
            return End::Failed;
        };
        let mut state = states.into_iter().next().flatten().unwrap_or_default();
        let before = state.applied;
        if event.version <= before
            || (state.patient.is_none() && matches!(event.event, Fact::PatientCheckedIn(_)))
        {
            continue;
        }
        state.applied = StreamVersion::new(event.version.get() - 1);
        if let Ok(Applied::CheckedIn(row)) = state.apply(&event) {
            let row = PatientRow {
                patient_id: patient.clone(),
                row,
            };
            if stores.put_rows(control.active, &[row]).await.is_err() {
                return End::Failed;
            }
        }
        if stores
            .put_state(control.active, &patient, before, &state)
            .await
            .is_err()
        {
            return End::Failed;
        }
    }
    End::Answered(DynamoDbEventResponse::default())
}
