//! The life of the generations: which one queries read, and which one a replay is building or bringing back.

use domain::{Generation, Timestamp};
use read_model::{Control, CursorKey};

use crate::store::{ProjectionStore, ProjectionUnavailable, PutControlError};

/// Why a build, or a roll back, was not begun.
#[derive(Debug, thiserror::Error)]
pub enum BeginError {
    /// Somebody else began or promoted one at the same moment. Look at the status, then decide.
    #[error("somebody else changed the generations at the same moment")]
    Conflict,
    /// Another generation is being built. Promote it or give it up first.
    #[error("generation {building} is being built: promote it, or give it up, first")]
    Building {
        /// That one.
        building: Generation,
    },
    /// A generation is being brought back. Finish that, or give it up, first.
    #[error("generation {building} is being brought back: finish rolling back, or give it up, first")]
    RollingBack {
        /// That one.
        building: Generation,
    },
    /// No generation was active before, or it was given up. Rebuild instead.
    #[error("there is no generation to roll back to")]
    NoPrevious,
    /// Retry later.
    #[error(transparent)]
    Unavailable(#[from] ProjectionUnavailable),
}

/// Why the generations stay as they are.
#[derive(Debug, thiserror::Error)]
pub enum PromoteError {
    /// It is not the one that is being built: somebody promoted it, or began another. Look at the status.
    #[error("generation {generation} is not being built")]
    NotBuilding {
        /// The generation.
        generation: Generation,
    },
    /// Somebody else changed them at the same moment. Look at the status, then decide.
    #[error("somebody else changed the generations at the same moment")]
    Conflict,
    /// Retry later.
    #[error(transparent)]
    Unavailable(#[from] ProjectionUnavailable),
}

/// The control item, created if this is the first time: then the first generation is active, and cursors get
/// their key from the system's source of cryptographic randomness.
///
/// # Errors
/// [`ProjectionUnavailable`]: retry later.
pub async fn current(store: &impl ProjectionStore) -> Result<Control, ProjectionUnavailable> {
    if let Some(control) = store.control().await? {
        return Ok(control);
    }
    let mut secret = [0; 32];
    getrandom::fill(&mut secret).map_err(|error| ProjectionUnavailable(error.into()))?;
    let control = Control {
        active: Generation::FIRST,
        active_since: None,
        building: None,
        building_since: None,
        previous: None,
        latest: Generation::FIRST,
        cursor_key: CursorKey::new(secret),
    };
    match store.put_control(None, &control).await {
        Ok(()) => Ok(control),
        Err(PutControlError::Conflict) => store
            .control()
            .await?
            .ok_or_else(|| ProjectionUnavailable("the control item comes and goes".into())),
        Err(PutControlError::Unavailable(error)) => Err(error),
    }
}

/// A generation that is being built or brought back, and since when the projector applies new events to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Building {
    /// The generation.
    pub generation: Generation,
    /// From then on, at the latest. All that was recorded later has been told to the projector, which may have left
    /// gaps.
    pub since: Timestamp,
}

/// Begins to build the next generation, or goes on with the one that is being built. From now on the projector
/// applies new events to it as well.
///
/// # Errors
/// [`BeginError`]: look at the status before anything else.
pub async fn begin_building(store: &impl ProjectionStore, now: Timestamp) -> Result<Building, BeginError> {
    let control = current(store).await?;
    match control.building {
        Some(building) if building < control.active => Err(BeginError::RollingBack { building }),
        Some(building) => Ok(going_on(&control, building, now)),
        None => {
            let next = control.latest.next();
            let changed = Control {
                building: Some(next),
                building_since: Some(now),
                latest: next,
                ..control.clone()
            };
            begin(store, &control, &changed, next, now).await
        }
    }
}

/// Begins to bring back the generation that was active before, or goes on with it. From now on the projector applies
/// new events to it as well.
///
/// # Errors
/// [`BeginError`]: look at the status before anything else.
pub async fn begin_rolling_back(
    store: &impl ProjectionStore,
    now: Timestamp,
) -> Result<Building, BeginError> {
    let control = current(store).await?;
    match (control.building, control.previous) {
        (Some(building), _) if building < control.active => Ok(going_on(&control, building, now)),
        (Some(building), _) => Err(BeginError::Building { building }),
        (None, None) => Err(BeginError::NoPrevious),
        (None, Some(previous)) => {
            let changed = Control {
                building: Some(previous),
                building_since: Some(now),
                previous: None,
                ..control.clone()
            };
            begin(store, &control, &changed, previous, now).await
        }
    }
}

/// An older control item does not say since when.
fn going_on(control: &Control, generation: Generation, now: Timestamp) -> Building {
    Building {
        generation,
        since: control.building_since.unwrap_or(now),
    }
}

async fn begin(
    store: &impl ProjectionStore,
    control: &Control,
    changed: &Control,
    generation: Generation,
    since: Timestamp,
) -> Result<Building, BeginError> {
    match store.put_control(Some(control), changed).await {
        Ok(()) => Ok(Building { generation, since }),
        Err(PutControlError::Conflict) => Err(BeginError::Conflict),
        Err(PutControlError::Unavailable(error)) => Err(error.into()),
    }
}

/// Gives up the generation that is being built; its number is not used again. What was built stays until it is
/// pruned. One that was being brought back is the previous one again.
///
/// # Errors
/// [`PromoteError`], as for [`promote`].
pub async fn abandon(store: &impl ProjectionStore, generation: Generation) -> Result<(), PromoteError> {
    end_building(store, generation, |control| Control {
        building: None,
        building_since: None,
        previous: control
            .previous
            .or((generation < control.active).then_some(generation)),
        ..control.clone()
    })
    .await
}

/// Makes the generation that is being built the active one. Queries read it from their next request on; the
/// one that was active stays, as the previous one.
///
/// # Errors
/// [`PromoteError`]: look at the status before anything else.
pub async fn promote(
    store: &impl ProjectionStore,
    generation: Generation,
    now: Timestamp,
) -> Result<(), PromoteError> {
    end_building(store, generation, |control| Control {
        active: generation,
        active_since: Some(now),
        building: None,
        building_since: None,
        previous: Some(control.active),
        ..control.clone()
    })
    .await
}

async fn end_building(
    store: &impl ProjectionStore,
    generation: Generation,
    change: impl Fn(&Control) -> Control,
) -> Result<(), PromoteError> {
    let control = current(store).await?;
    if control.building != Some(generation) {
        return Err(PromoteError::NotBuilding { generation });
    }
    put(store, &control, &change(&control)).await
}

/// Gives up the generation that was active before: nobody can roll back to it any more, and it can be pruned.
///
/// # Errors
/// [`PromoteError`]: look at the status before anything else.
pub async fn forget_previous(store: &impl ProjectionStore) -> Result<(), PromoteError> {
    let control = current(store).await?;
    if control.previous.is_none() {
        return Ok(());
    }
    let changed = Control {
        previous: None,
        ..control.clone()
    };
    put(store, &control, &changed).await
}

async fn put(store: &impl ProjectionStore, control: &Control, changed: &Control) -> Result<(), PromoteError> {
    match store.put_control(Some(control), changed).await {
        Ok(()) => Ok(()),
        Err(PutControlError::Conflict) => Err(PromoteError::Conflict),
        Err(PutControlError::Unavailable(error)) => Err(error.into()),
    }
}
