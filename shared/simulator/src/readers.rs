//! Readers: queries at arbitrary moments, each answer compared with the events.

use domain::{CheckinRow, Generation, PatientId, StreamVersion};
use read_model::{CheckinsQuery, Consistency, PageLimit, PatientSummary, Queries, ReadModelStore, RowRange};

use crate::people::{people, place_of};
use crate::plan::Number;
use crate::planted::Bug;
use crate::stores::Stores;
use crate::tables::View;
use crate::violation::Violation;
use crate::world::World;

/// How often a reader asks again after an error, and how many pages it reads at most.
const PATIENCE: usize = 20;

/// What a reader asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Question {
    /// One patient, if this version was applied.
    Patient(usize, u64),
    /// All check-ins of a patient, page by page.
    CheckIns {
        patient: usize,
        ascending: bool,
        limit: u16,
    },
    /// All patients by id, page by page.
    ById(u16),
    /// All patients by their last check-in, page by page.
    ByRecent(u16),
}

impl Question {
    /// Any.
    pub(crate) fn any(world: &mut World) -> Question {
        let patient = world.rng.below(world.plan.number(Number::Patients).into());
        let limit = if world.rng.chance(700) { 1 } else { 2 };
        match world.rng.below(8) {
            0 | 1 => Question::Patient(patient, world.rng.within(0, 2).into()),
            2..6 => Question::CheckIns {
                patient,
                ascending: world.rng.chance(500),
                limit,
            },
            6 => Question::ById(limit),
            _ => Question::ByRecent(limit),
        }
    }
}

/// Asks, and checks the answer.
pub(crate) async fn ask(stores: Stores<'_>, question: Question) {
    match question {
        Question::Patient(patient, at_least) => {
            one_patient(stores, patient, StreamVersion::new(at_least)).await;
        }
        Question::CheckIns {
            patient,
            ascending,
            limit,
        } => check_ins(stores, patient, ascending, limit).await,
        Question::ById(limit) => by_id(stores, limit).await,
        Question::ByRecent(limit) => by_recent(stores, limit).await,
    }
}

fn violate(stores: &Stores<'_>, promise: &'static str, how: impl Into<String>) {
    stores.world().violate(Violation::new(promise, how.into()));
}

/// The active generation, as a request of the backend finds it.
async fn active(stores: &Stores<'_>) -> Option<Generation> {
    for _ in 0..PATIENCE {
        if let Ok(control) = ReadModelStore::control(stores).await {
            return control.map(|control| control.active);
        }
    }
    None
}

/// Checks that the answer just given came from this generation alone.
fn check_generation(stores: &Stores<'_>, generation: Generation) {
    let mut world = stores.world();
    let reader = world.current;
    let mixed = world
        .touched
        .iter()
        .any(|(task, touched)| *task == reader && *touched != generation);
    world.touched.retain(|(task, _)| *task != reader);
    if mixed {
        world.violate(Violation::new("I8", "an answer mixes generations".to_owned()));
    }
}

fn check_summary(stores: &Stores<'_>, summary: &PatientSummary) {
    let Some(place) = place_of(&summary.id) else {
        return violate(stores, "I2", "an unknown patient is listed");
    };
    let mut world = stores.world();
    let contradiction = world.tables.streams.get(place).and_then(|stream| {
        stream
            .truth
            .contradicts_patient(summary.version, Some(&summary.patient))
    });
    if let Some(contradiction) = contradiction {
        world.violate(Violation::new(
            "I2",
            format!("a reader saw of p-{place}: {contradiction}"),
        ));
    }
}

async fn one_patient(stores: Stores<'_>, patient: usize, at_least: StreamVersion) {
    let (Some(generation), Some(person)) = (active(&stores).await, people().get(patient)) else {
        return;
    };
    let answer = Queries::new(&stores, generation)
        .patient(&person.id, at_least)
        .await;
    check_generation(&stores, generation);
    if let Ok(summary) = answer {
        check_summary(&stores, &summary);
        if summary.version < at_least {
            violate(
                &stores,
                "I2",
                format!("asked for version {at_least}, got {}", summary.version),
            );
        }
    }
}

async fn check_ins(stores: Stores<'_>, patient: usize, ascending: bool, limit: u16) {
    let (Some(person), Some(limit)) = (people().get(patient), PageLimit::new(limit)) else {
        return;
    };
    if cfg!(feature = "planted-bugs") {
        let ignores_applied = stores.planted(Bug::ReaderIgnoresApplied);
        let rows_first = stores.planted(Bug::RowsReadBeforeSummary);
        if ignores_applied || rows_first {
            return wrong_check_ins(stores, &person.id, ignores_applied, rows_first).await;
        }
    }
    let mut query = CheckinsQuery {
        pinned: None,
        at_least: StreamVersion::EMPTY,
        range: RowRange {
            ascending,
            ..RowRange::default()
        },
        limit,
    };
    let mut walked: Vec<CheckinRow> = Vec::new();
    let mut first_version = None;
    for _ in 0..PATIENCE {
        let Some(generation) = active(&stores).await else {
            return;
        };
        let answer = Queries::new(&stores, generation)
            .checkins(&person.id, query)
            .await;
        check_generation(&stores, generation);
        let Ok(listing) = answer else {
            continue;
        };
        walked.extend(listing.page.items);
        let version = *first_version.get_or_insert(listing.version);
        if !stores.planted(Bug::CursorNotPinned) {
            query.pinned = Some(version);
        }
        query.range.after = listing.page.next;
        if query.range.after.is_none() {
            return check_walk(&stores, patient, version, walked, ascending);
        }
    }
}

fn check_walk(
    stores: &Stores<'_>,
    patient: usize,
    version: StreamVersion,
    mut walked: Vec<CheckinRow>,
    ascending: bool,
) {
    if !ascending {
        walked.reverse();
    }
    let mut world = stores.world();
    let expected = world
        .tables
        .streams
        .get(patient)
        .map(|stream| stream.truth.rows(version))
        .unwrap_or_default();
    if walked != expected {
        let versions = |rows: &[CheckinRow]| {
            let versions: Vec<String> = rows.iter().map(|row| row.version.to_string()).collect();
            versions.join(" ")
        };
        let how = format!(
            "the check-ins of p-{patient} as of version {version} are those of events [{}], and a walk gave [{}]",
            versions(&expected),
            versions(&walked)
        );
        world.violate(Violation::new("I10", how));
    }
}

/// What a reader would do who got it wrong.
async fn wrong_check_ins(stores: Stores<'_>, patient: &PatientId, ignores_applied: bool, rows_first: bool) {
    let Some(generation) = active(&stores).await else {
        return;
    };
    let range = RowRange {
        ascending: true,
        ..RowRange::default()
    };
    let early = stores.rows(generation, patient, range, 100).await;
    let consistency = Consistency::Strong;
    let states =
        ReadModelStore::states(&stores, generation, std::slice::from_ref(patient), consistency).await;
    let late = stores.rows(generation, patient, range, 100).await;
    let (Ok(states), Ok(rows)) = (states, if rows_first { early } else { late }) else {
        return;
    };
    let version = states
        .into_iter()
        .next()
        .and_then(|stored| stored.ok().flatten())
        .map_or(StreamVersion::EMPTY, |state| state.applied);
    let mut rows = rows.items;
    rows.retain(|row| ignores_applied || row.version <= version);
    check_walk(
        &stores,
        place_of(patient).unwrap_or_default(),
        version,
        rows,
        true,
    );
}

async fn by_id(stores: Stores<'_>, limit: u16) {
    let Some(limit) = PageLimit::new(limit) else {
        return;
    };
    let began = stores.world().step;
    let mut walked: Vec<PatientId> = Vec::new();
    let mut generations = Vec::new();
    let mut after = None;
    for _ in 0..PATIENCE {
        let Some(generation) = active(&stores).await else {
            return;
        };
        let answer = Queries::new(&stores, generation)
            .patients_by_id(after.as_ref(), limit)
            .await;
        check_generation(&stores, generation);
        let Ok(listing) = answer else {
            continue;
        };
        generations.push(generation);
        listing
            .items
            .iter()
            .for_each(|summary| check_summary(&stores, summary));
        if stores.planted(Bug::PageRepeatsLast) {
            let mut but_last = listing.items.iter().rev().skip(1);
            let wrong = but_last.next().map(|summary| summary.id.clone()).or(after);
            after = listing.next.and(wrong);
        } else {
            after = listing.next;
        }
        walked.extend(listing.items.into_iter().map(|summary| summary.id));
        if !walked.is_sorted_by(|one, other| one < other) {
            return violate(
                &stores,
                "I10",
                "a walk through the patients is not in their order, each once",
            );
        }
        if after.is_none() {
            break;
        }
    }
    if after.is_some() {
        return;
    }
    let mut world = stores.world();
    let lag = u32::from(world.plan.number(Number::Lag));
    let missed = people().iter().enumerate().find(|(place, person)| {
        let there_all_along = |generation: &Generation| {
            world
                .tables
                .view(*generation, *place)
                .and_then(listed_since)
                .is_some_and(|since| since + lag <= began)
        };
        !generations.is_empty() && generations.iter().all(there_all_along) && !walked.contains(&person.id)
    });
    if let Some((place, _)) = missed {
        world.violate(Violation::new(
            "I10",
            format!("a walk through the patients misses p-{place}, who was there before it began"),
        ));
    }
}

/// From which step on a patient is in the index, registered.
fn listed_since(view: &View) -> Option<u32> {
    let registered = view
        .states
        .iter()
        .position(|(_, state)| state.patient.is_some())?;
    let (since, _) = view.states.get(registered)?;
    view.indexed_at
        .get(registered)
        .map(|indexed| (*indexed).max(*since))
}

async fn by_recent(stores: Stores<'_>, limit: u16) {
    let Some(limit) = PageLimit::new(limit) else {
        return;
    };
    let mut walked: Vec<PatientId> = Vec::new();
    let mut generations: Vec<Generation> = Vec::new();
    let mut after = None;
    for _ in 0..PATIENCE {
        let Some(generation) = active(&stores).await else {
            return;
        };
        let answer = Queries::new(&stores, generation)
            .patients_by_recent(after.as_ref(), limit)
            .await;
        check_generation(&stores, generation);
        let Ok(listing) = answer else {
            continue;
        };
        generations.push(generation);
        for summary in &listing.items {
            check_summary(&stores, summary);
            if walked.contains(&summary.id) && generations.iter().all(|other| *other == generation) {
                violate(&stores, "I10", format!("{} comes twice in a walk", summary.id));
            }
            walked.push(summary.id.clone());
        }
        after = listing.next;
        if after.is_none() {
            return;
        }
    }
}
