//! The life of the generations: which one queries read, and which one a replay is building.

use domain::Generation;
use read_model::{Control, CursorKey};

use crate::store::{ProjectionStore, ProjectionUnavailable, PutControlError};

/// Why a build was not begun.
#[derive(Debug, thiserror::Error)]
pub enum BeginError {
    /// Somebody else began or promoted one at the same moment. Look at the status, then decide.
    #[error("somebody else changed the generations at the same moment")]
    Conflict,
    /// Retry later.
    #[error(transparent)]
    Unavailable(#[from] ProjectionUnavailable),
}

/// Why a generation was not promoted.
#[derive(Debug, thiserror::Error)]
pub enum PromoteError {
    /// It is not the one that is being built: somebody promoted it, or began another. Look at the status.
    #[error("generation {generation} is not being built")]
    NotBuilding {
        /// The generation.
        generation: Generation,
    },
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
        building: None,
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

/// Begins to build the next generation, or goes on with the one that is being built. From now on the projector
/// applies new events to it as well.
///
/// # Errors
/// [`BeginError`]: look at the status before anything else.
pub async fn begin_building(store: &impl ProjectionStore) -> Result<Generation, BeginError> {
    let control = current(store).await?;
    if let Some(building) = control.building {
        return Ok(building);
    }
    let next = control.latest.next();
    let changed = Control {
        building: Some(next),
        latest: next,
        ..control.clone()
    };
    match store.put_control(Some(&control), &changed).await {
        Ok(()) => Ok(next),
        Err(PutControlError::Conflict) => Err(BeginError::Conflict),
        Err(PutControlError::Unavailable(error)) => Err(error.into()),
    }
}

/// Gives up the generation that is being built; its number is not used again. What was built stays until it is
/// pruned.
///
/// # Errors
/// [`PromoteError`], as for [`promote`].
pub async fn abandon(store: &impl ProjectionStore, generation: Generation) -> Result<(), PromoteError> {
    end_building(store, generation, |control| Control {
        building: None,
        ..control.clone()
    })
    .await
}

/// Makes the generation that is being built the active one. Queries read it from their next request on; the
/// one that was active stays, as the previous one.
///
/// # Errors
/// [`PromoteError`]: look at the status before anything else.
pub async fn promote(store: &impl ProjectionStore, generation: Generation) -> Result<(), PromoteError> {
    end_building(store, generation, |control| Control {
        active: generation,
        building: None,
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
    match store.put_control(Some(&control), &change(&control)).await {
        Ok(()) => Ok(()),
        Err(PutControlError::Conflict) => Err(PromoteError::NotBuilding { generation }),
        Err(PutControlError::Unavailable(error)) => Err(error.into()),
    }
}
