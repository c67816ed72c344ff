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
    #[error(
        "generation {building} is being built: `replay promote` makes it the active one once it is verified, `replay prune --building` gives it up"
    )]
    Building {
        /// That one.
        building: Generation,
    },
    /// A generation is being brought back. Finish that, or give it up, first.
    #[error(
        "generation {building} is being brought back: `replay rollback` goes on with that, `replay prune --building` gives it up"
    )]
    RollingBack {
        /// That one.
        building: Generation,
    },
    /// No generation was active before, or it was given up. Rebuild instead.
    #[error("there is no generation to roll back to")]
    NoPrevious,
    /// The one that was active before is the later one: the last roll back is done. Name it, to go forward again.
    #[error(
        "{previous} is later than {active}, which is active: to go forward to it again, name it with --to"
    )]
    Forward {
        /// The one that was active before.
        previous: Generation,
        /// The active one.
        active: Generation,
    },
    /// The generation that was named is not the one that was active before.
    #[error("{named} is not the generation that was active before")]
    NotPrevious {
        /// The one that was named.
        named: Generation,
    },
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
        building_software: None,
        brings_back: false,
        previous: None,
        latest: Generation::FIRST,
        changes: 0,
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

/// Begins to build the next generation, or goes on with the one that this software is building. From now on a projector
/// of the same software applies new events to it as well. What other software is building, whose rules may be others, is
/// given up.
///
/// # Errors
/// [`BeginError`]: look at the status before anything else.
pub async fn begin_building(
    store: &impl ProjectionStore,
    software: &str,
    now: Timestamp,
) -> Result<Building, BeginError> {
    let control = current(store).await?;
    match control.building {
        Some(building) if control.brings_back => Err(BeginError::RollingBack { building }),
        Some(building) if control.building_software.as_deref() == Some(software) => {
            Ok(going_on(&control, building, now))
        }
        Some(_) | None => {
            let next = control.latest.next();
            let changed = Control {
                building: Some(next),
                building_since: Some(now),
                building_software: Some(software.to_owned()),
                latest: next,
                ..control.clone()
            };
            begin(store, &control, changed, next, now).await
        }
    }
}

/// Begins to bring back the generation that was active before, or goes on with it. From now on the projector applies
/// new events to it as well. Without a name only an earlier one is brought back, so that a roll back which is repeated does
/// not undo itself.
///
/// # Errors
/// [`BeginError`]: look at the status before anything else.
pub async fn begin_rolling_back(
    store: &impl ProjectionStore,
    named: Option<Generation>,
    now: Timestamp,
) -> Result<Building, BeginError> {
    let control = current(store).await?;
    let active = control.active;
    match (control.building, control.previous) {
        (Some(building), _) if control.brings_back => Ok(going_on(&control, building, now)),
        (Some(building), _) => Err(BeginError::Building { building }),
        (None, None) => Err(BeginError::NoPrevious),
        (None, Some(previous)) if named.is_none() && previous > active => {
            Err(BeginError::Forward { previous, active })
        }
        (None, Some(previous)) if named.is_some_and(|named| named != previous) => {
            Err(BeginError::NotPrevious {
                named: named.unwrap_or(previous),
            })
        }
        (None, Some(previous)) => {
            let changed = Control {
                building: Some(previous),
                building_since: Some(now),
                brings_back: true,
                previous: None,
                ..control.clone()
            };
            begin(store, &control, changed, previous, now).await
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
    changed: Control,
    generation: Generation,
    since: Timestamp,
) -> Result<Building, BeginError> {
    match put_surely(store, control, changed).await {
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
        building_software: None,
        brings_back: false,
        previous: control.previous.or(control.brings_back.then_some(generation)),
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
        building_software: None,
        brings_back: false,
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
    put(store, &control, change(&control)).await
}

/// Gives up the generation that was active before: nobody can roll back to it any more, and it can be pruned.
/// The control item has to be this one still, so that a generation which was promoted since is not meant.
///
/// # Errors
/// [`PromoteError`]: look at the status before anything else.
pub async fn forget_previous(store: &impl ProjectionStore, control: &Control) -> Result<(), PromoteError> {
    if control.previous.is_none() {
        return Ok(());
    }
    let changed = Control {
        previous: None,
        ..control.clone()
    };
    put(store, control, changed).await
}

/// Puts the control item, as one change more. A put whose reply was lost, and which was perhaps repeated and then refused, has taken effect all
/// the same: so after a failure the item itself says what became of it.
async fn put_surely(
    store: &impl ProjectionStore,
    control: &Control,
    changed: Control,
) -> Result<(), PutControlError> {
    let changed = Control {
        changes: control.changes + 1,
        ..changed
    };
    let failure = match store.put_control(Some(control), &changed).await {
        Ok(()) => return Ok(()),
        Err(failure) => failure,
    };
    match store.control().await {
        Ok(Some(now)) if now == changed => Ok(()),
        Ok(_) | Err(_) => Err(failure),
    }
}

async fn put(store: &impl ProjectionStore, control: &Control, changed: Control) -> Result<(), PromoteError> {
    match put_surely(store, control, changed).await {
        Ok(()) => Ok(()),
        Err(PutControlError::Conflict) => Err(PromoteError::Conflict),
        Err(PutControlError::Unavailable(error)) => Err(error.into()),
    }
}
