//! What an event and a request consume of DynamoDB's capacity, by the programs as they are deployed.

use std::path::Path;

use embedded::EVENT_TABLE;
use serde_json::json;

use crate::capacity::Consumed;
use crate::function::{Function, Program};
use crate::measure::{MeasureError, acknowledged, succeeded};
use crate::programs::Services;
use crate::stores::{self, StoresError};
use crate::world::{BatchShape, Connection, Site, request_event, tick_event};

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    /// The producer, for each event.
    Append,
    /// The projector, for each event of a dense batch.
    ProjectDense,
    /// The same of a sparse one.
    ProjectSparse,
    /// A rebuild with its verification and promotion, for each event.
    Rebuild,
    /// A page of 50 patients by id.
    PatientsById,
    /// A page of 50 patients by most recent check-in.
    PatientsByRecent,
    /// A page of 50 check-ins.
    CheckIns,
    /// One patient.
    Patient,
}

/// What some work consumes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Use {
    /// The work.
    pub(crate) work: Work,
    /// How many events, or requests, share it.
    pub(crate) shared_by: u32,
    /// All that they consumed.
    pub(crate) consumed: Consumed,
}

/// It could not be counted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnitsError {
    /// A function failed.
    #[error(transparent)]
    Measure(#[from] MeasureError),
    /// The replay failed.
    #[error(transparent)]
    Stores(#[from] StoresError),
}

impl Use {
    /// Calls of one.
    #[must_use]
    pub(crate) fn calls(&self) -> f64 {
        f64::from(self.consumed.calls) / f64::from(self.shared_by)
    }

    /// Read units of one.
    #[must_use]
    pub(crate) fn read_units(&self) -> f64 {
        self.consumed.read_units() / f64::from(self.shared_by)
    }

    /// Write units of one, in each table and index.
    pub(crate) fn writes(&self) -> impl Iterator<Item = (&str, f64)> {
        let all = self.consumed.writes.iter();
        all.map(|(name, units)| (name.as_str(), units / f64::from(self.shared_by)))
    }

    /// Write units of one, in all.
    #[must_use]
    pub(crate) fn write_units(&self) -> f64 {
        self.consumed.write_units() / f64::from(self.shared_by)
    }
}

/// So many ticks check in one patient each.
const TICKS: u32 = 20;
/// Ten check-ins of each patient, or one.
const DENSE: BatchShape = BatchShape::new(10, 10);
const SPARSE: BatchShape = BatchShape::new(100, 1);
/// Enough for a full page from each shard of an index.
const LISTED: BatchShape = BatchShape::new(400, 1);
/// One patient with more check-ins than are on a page.
const BUSY: BatchShape = BatchShape::new(1, 120);

/// Counts all of it, on tables of its own.
///
/// # Errors
/// [`UnitsError`]
pub(crate) async fn count(services: &Services) -> Result<Vec<Use>, UnitsError> {
    let site = Site::new().await.map_err(MeasureError::from)?;
    let mut uses = vec![append(&site, &services.checkin).await?];
    // Ids are as long as in life: that is what an entry of an index consists of.
    let dense = project(
        &site,
        &services.projector,
        "4c1d0b7e-2a6f-4e58-9d3c-b0a1e2f3",
        DENSE,
    )
    .await?;
    let sparse = project(
        &site,
        &services.projector,
        "7e9a3f62-81c4-4b0d-a5f7-c4d5e6f7",
        SPARSE,
    )
    .await?;
    uses.push(Use::of(Work::ProjectDense, 100, dense));
    uses.push(Use::of(Work::ProjectSparse, 100, sparse));
    uses.push(rebuild(&services.replay).await?);
    project(
        &site,
        &services.projector,
        "9c8e2d5f-71b3-4a60-b1c4-a8b9c0d1",
        LISTED,
    )
    .await?;
    let busy = "5b1f6a0e-93a4-4d0c-8d5e-f2e3d4c5";
    project(&site, &services.projector, busy, BUSY).await?;
    uses.extend(requests(&site, &services.backend, &format!("/patients/{busy}-0")).await?);
    Ok(uses)
}

impl Use {
    /// # Panics
    /// A call failed: what it consumed is missing.
    fn of(work: Work, shared_by: u32, consumed: Consumed) -> Use {
        assert_eq!(consumed.failed, 0, "{work:?}: a call failed");
        Use {
            work,
            shared_by,
            consumed,
        }
    }
}

async fn start(site: &Site, program: &Program) -> Result<Function, MeasureError> {
    let environment = site.environment(program, Connection::Metered)?;
    Ok(Function::start(program, &environment, site.folder()).await?.0)
}

async fn append(site: &Site, checkin: &Program) -> Result<Use, MeasureError> {
    let mut checkin = start(site, checkin).await?;
    let register = json!({ "command": "register-roster" }).to_string();
    checkin.invoke(register.into()).await?;
    drop(site.consumed());
    for tick in 0..TICKS {
        checkin.invoke(tick_event(tick)).await?;
    }
    checkin.end().await;
    let consumed = site.consumed();
    let events = consumed.writes.get(EVENT_TABLE).copied();
    assert_eq!(events, Some(f64::from(TICKS)), "not every tick has appended");
    Ok(Use::of(Work::Append, TICKS, consumed))
}

/// What the check-ins of such a batch consume, once their patients are registered.
async fn project(
    site: &Site,
    projector: &Program,
    name: &str,
    shape: BatchShape,
) -> Result<Consumed, MeasureError> {
    let mut projector = start(site, projector).await?;
    let batch = site.batch(name, shape);
    acknowledged(&projector.invoke(batch.registrations).await?.0);
    drop(site.consumed());
    acknowledged(&projector.invoke(batch.check_ins).await?.0);
    projector.end().await;
    site.is_applied(&batch.patients, shape.check_ins).await;
    Ok(site.consumed())
}

async fn requests(site: &Site, backend: &Program, patient: &str) -> Result<Vec<Use>, MeasureError> {
    let mut backend = start(site, backend).await?;
    let mut uses = Vec::new();
    for (work, path, query) in [
        (Work::PatientsById, "/patients", None),
        (Work::PatientsByRecent, "/patients", Some(("sort", "recent"))),
        (Work::CheckIns, &format!("{patient}/checkins"), None),
        (Work::Patient, patient, None),
    ] {
        let (answer, _) = backend.invoke(request_event(path, query)).await?;
        succeeded(&answer);
        uses.push(Use::of(work, 1, site.consumed()));
    }
    backend.end().await;
    Ok(uses)
}

async fn rebuild(replay: &Path) -> Result<Use, UnitsError> {
    let site = Site::new().await.map_err(MeasureError::from)?;
    let rebuilt = stores::rebuild(replay, &site.world, &site.metered_url(), stores::REPLAYED).await?;
    Ok(Use::of(Work::Rebuild, rebuilt.events, site.consumed()))
}
