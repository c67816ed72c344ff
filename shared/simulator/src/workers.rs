//! What the tasks of a world do: production's own code, on the simulated tables.

use aws_lambda_events::dynamodb::Event;
use aws_lambda_events::streams::DynamoDbEventResponse;
use checkin::Checkin;
use domain::{Applied, Event as Fact, StreamVersion};
use event_log::EventLog;
use projection::{
    Advance, CatchUp, Hints, Outcome, PatientRow, ProjectionStore, Retry, begin_building, current, promote,
};
use projector::Projector;
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
    // It waits by the clock before it tries again what failed, and no clock runs here: so a failed call ends it, as
    // a kill would, and the operator runs it again.
    let stores = services.stores.failing_hard();
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

/// Compares every patient with the head of its stream, and advances those behind.
pub(crate) async fn reconcile(services: &Services<'_>, retry: Retry) -> End {
    let stores = &services.stores;
    let patients = usize::from(stores.world().plan.number(Number::Patients));
    let Ok(control) = current(stores).await else {
        return End::Failed;
    };
    for generation in [Some(control.active), control.building].into_iter().flatten() {
        let mut hints = Hints::default();
        for person in people().iter().take(patients) {
            let Ok(head) = EventLog::head(stores, &person.id).await else {
                return End::Failed;
            };
            if head > StreamVersion::EMPTY {
                hints.add_head(person.id.clone(), head);
            }
        }
        let advance = Advance {
            log: stores,
            store: stores,
            queue: stores,
            generation,
            catch_up: CatchUp::FromEventTable,
            retry,
            concurrency: 2,
            now: clock(),
        };
        let failed = |outcome: &Outcome| matches!(outcome, Outcome::Failed(_));
        if advance.run(&hints).await.values().any(failed) {
            return End::Failed;
        }
    }
    End::Done
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
