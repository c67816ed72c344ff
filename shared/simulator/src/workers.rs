//! What the tasks of a world do: production's own code, on the simulated tables.

use aws_lambda_events::dynamodb::Event;
use aws_lambda_events::streams::DynamoDbEventResponse;
use checkin::Checkin;
use domain::{Applied, Event as Fact, StreamVersion};
use projection::{BeginError, PatientRow, ProjectionStore, begin_building, current, promote};
use projector::Projector;
use reconciler::{Reconciler, Request};
use replay::{
    Accepted, Promote, PromoteCommandError, PromotionError, Prune, PruneError, Rebuild, RebuildError,
    Redrive, RollBack, RollBackError,
};

use crate::people::people;
use crate::planted::Bug;
use crate::readers::{self, Question};
use crate::stores::Stores;
use crate::time::{at, clock};
use crate::violation::Violation;

/// The software that is deployed at first, where replays are of a newer one.
pub(crate) const OLDER: &str = "the older one";
/// The software of all replays, and of what is deployed in the end.
pub(crate) const NEWER: &str = "the newer one";

/// How far apart firings of the schedule are, in milliseconds.
const TICK_MILLIS: i64 = 60_000;

/// The services, as their `main` would wire them.
#[derive(Debug)]
pub(crate) struct Services<'w> {
    pub(crate) checkin: Checkin<Stores<'w>>,
    pub(crate) projector: Projector<Stores<'w>, Stores<'w>, Stores<'w>>,
    /// The one that is deployed at first, where replays are of newer software.
    pub(crate) older_projector: Projector<Stores<'w>, Stores<'w>, Stores<'w>>,
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
pub(crate) async fn project(services: &Services<'_>, mut batch: Event) -> End {
    if services.stores.planted(Bug::ChangedEventApplied) {
        for record in &mut batch.records {
            "INSERT".clone_into(&mut record.event_name);
        }
    }
    if services.stores.planted(Bug::GapIgnored) {
        return project_blindly(services.stores, batch).await;
    }
    let older = services.stores.world().older_projector;
    let projector = if older {
        &services.older_projector
    } else {
        &services.projector
    };
    match projector.handle(batch.into()).await {
        Ok(handled) => End::Answered(handled.response),
        Err(_) => End::Failed,
    }
}

/// One request of a reader, or a walk of several.
pub(crate) async fn read(services: &Services<'_>, question: Question) -> End {
    readers::ask(services.stores, question).await;
    End::Done
}

/// One run of `replay rebuild`; one that does not promote is a dry run, after which somebody promotes. With `any_projector`
/// it is promoted whatever the projector is.
pub(crate) async fn rebuild(
    services: &Services<'_>,
    segments: u16,
    promotes: bool,
    any_projector: bool,
) -> End {
    let stores = services.stores;
    if stores.planted(Bug::PromotedUnbuilt) {
        let Ok(building) = begin_building(&stores, NEWER, clock()).await else {
            return End::Failed;
        };
        return End::of(promote(&stores, building.generation, clock()).await.is_ok());
    }
    let unverified = stores.planted(Bug::PromotedUnverified);
    let rebuild = Rebuild {
        tables: &stores,
        segments,
        concurrency: 2,
        accepted: &Accepted::default(),
        software: NEWER,
        promote: promotes && !unverified,
        any_projector,
        clock,
    };
    match rebuild.run(&|_, _| ()).await {
        Ok(rebuilt) if unverified => {
            return End::of(promote(&stores, rebuilt.generation, clock()).await.is_ok());
        }
        Ok(_) if promotes => return End::Done,
        Ok(_) => {}
        Err(error) => {
            if let RebuildError::Wrong { .. } = &error {
                // Nobody changes an event in these worlds.
                stores.world().violate(Violation::new("I8", error.to_string()));
            }
            return End::of(refused(&error));
        }
    }
    let promote = Promote {
        tables: &stores,
        segments,
        concurrency: 2,
        accepted: &Accepted::default(),
        software: NEWER,
        any_projector,
        clock,
    };
    match promote.run(&|_, _| ()).await {
        Ok(_)
        | Err(
            PromoteCommandError::NothingBuilt
            | PromoteCommandError::BroughtBack { .. }
            | PromoteCommandError::NotVerified { .. },
        ) => End::Done,
        Err(PromoteCommandError::Promotion(error)) => End::of(promotion_refused(&error)),
        Err(error @ PromoteCommandError::Wrong { .. }) => {
            stores.world().violate(Violation::new("I8", error.to_string()));
            End::Done
        }
        Err(error @ PromoteCommandError::OtherSoftware { .. }) => {
            stores.world().violate(Violation::new("I8", error.to_string()));
            End::Done
        }
        Err(PromoteCommandError::Store(_) | PromoteCommandError::Gate(_)) => End::Failed,
    }
}

/// Whether a rebuild was refused, so that it is no use to repeat it.
fn refused(error: &RebuildError) -> bool {
    match error {
        RebuildError::Begin(error) => begin_refused(error),
        RebuildError::Abandon(_) => true,
        RebuildError::Promotion(error) => promotion_refused(error),
        RebuildError::Wrong { .. }
        | RebuildError::Log(_)
        | RebuildError::Store(_)
        | RebuildError::Gate(_) => false,
    }
}

fn begin_refused(error: &BeginError) -> bool {
    match error {
        BeginError::Conflict
        | BeginError::Building { .. }
        | BeginError::RollingBack { .. }
        | BeginError::Forward { .. }
        | BeginError::NotPrevious { .. }
        | BeginError::NoPrevious => true,
        BeginError::Unavailable(_) => false,
    }
}

fn promotion_refused(error: &PromotionError) -> bool {
    match error {
        PromotionError::Promote(_)
        | PromotionError::WouldLoseData { .. }
        | PromotionError::Unsound { .. } => true,
        PromotionError::Log(_)
        // Perhaps it is deployed by the next time.
        | PromotionError::OtherProjector { .. }
        | PromotionError::ReadModel(_)
        | PromotionError::Store(_)
        | PromotionError::CatchUp(_)
        | PromotionError::NotComparedAgain { .. } => false,
    }
}

/// One run of `replay rollback`; one that goes forward names the generation that was active before, whichever it is.
pub(crate) async fn roll_back(services: &Services<'_>, forward: bool) -> End {
    let to = if forward {
        match ProjectionStore::control(&services.stores).await {
            Ok(control) => control.and_then(|control| control.previous),
            Err(_) => return End::Failed,
        }
    } else {
        None
    };
    let roll_back = RollBack {
        tables: &services.stores,
        to,
        accepted: &Accepted::default(),
        concurrency: 2,
        clock,
    };
    match roll_back.run().await {
        Ok(_) => End::Done,
        Err(RollBackError::Begin(error)) => End::of(begin_refused(&error)),
        Err(RollBackError::Promotion(error)) => {
            if let PromotionError::Unsound { .. } = &error {
                let mut world = services.stores.world();
                world.violate(Violation::new("I8", error.to_string()));
            }
            End::of(promotion_refused(&error))
        }
        Err(RollBackError::Store(_)) => End::Failed,
    }
}

/// One run of `replay prune`.
pub(crate) async fn prune(services: &Services<'_>, previous: bool, building: bool) -> End {
    let prune = Prune {
        tables: &services.stores,
        previous,
        building,
        segments: 2,
        clock,
    };
    match prune.run(&|_| ()).await {
        Ok(_) | Err(PruneError::TooSoon { .. } | PruneError::Changed(_)) => End::Done,
        Err(PruneError::Store(_)) => End::Failed,
    }
}

/// One invocation of the reconciler.
pub(crate) async fn reconcile(services: &Services<'_>, full: bool) -> End {
    let request = Request {
        full,
        ..Request::default()
    };
    End::of(services.reconciler.handle(request).await.is_ok())
}

/// One run of `replay redrive`: of one patient, or of all.
pub(crate) async fn redrive(services: &Services<'_>, patient: Option<usize>) -> End {
    let redrive = Redrive {
        tables: &services.stores,
        concurrency: 2,
        clock,
    };
    let redriven = match patient.and_then(|place| people().get(place)) {
        Some(person) => redrive.patient(&person.id).await,
        None => redrive.all().await,
    };
    End::of(redriven.is_ok_and(|redriven| redriven.failed.is_empty()))
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
