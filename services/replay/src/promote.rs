//! Promoting a generation that was built before.

use std::collections::BTreeMap;

use domain::{Generation, PatientId, StreamVersion};
use projection::{Building, ProjectionStore, ProjectionUnavailable};
use runtime::clock::Clock;

use crate::builds::BuildStore;
use crate::promotion::{Promotion, PromotionError};
use crate::tables::Tables;

/// Makes the generation that was built, and verified, the active one.
#[derive(Debug, Clone, Copy)]
pub struct Promote<'a, T> {
    /// What it works on.
    pub tables: &'a T,
    /// How many calls are under way at once, at most.
    pub concurrency: usize,
    /// The time.
    pub clock: Clock,
}

/// What queries read now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Promoted {
    /// The active generation.
    pub generation: Generation,
    /// The one that was active before.
    pub previous: Generation,
    /// Patients of the active generation whose next event can't be applied.
    pub quarantined: BTreeMap<PatientId, StreamVersion>,
}

/// Why nothing was promoted.
#[derive(Debug, thiserror::Error)]
pub enum PromoteCommandError {
    /// There is nothing to promote: rebuild first.
    #[error("no generation is being built: rebuild first")]
    NothingBuilt,
    /// The build is not finished, or it failed. Let the rebuild finish.
    #[error("generation {generation} is not verified: run the rebuild again, it goes on where it was")]
    NotVerified {
        /// The generation.
        generation: Generation,
    },
    /// The read model can't be read. Run the command again.
    #[error(transparent)]
    Store(#[from] ProjectionUnavailable),
    /// It was refused, or failed.
    #[error(transparent)]
    Promotion(#[from] PromotionError),
}

impl<T: Tables> Promote<'_, T> {
    /// Promotes.
    ///
    /// # Errors
    /// [`PromoteCommandError`]
    pub async fn run(&self) -> Result<Promoted, PromoteCommandError> {
        let control = self.tables.projection().control().await?;
        let built = control.and_then(|control| {
            let generation = control.building.filter(|_| !control.brings_back)?;
            let since = control.building_since.unwrap_or(domain::Timestamp::EARLIEST);
            Some((control.active, Building { generation, since }))
        });
        let (previous, building) = built.ok_or(PromoteCommandError::NothingBuilt)?;
        let generation = building.generation;
        if self.tables.builds().verification(generation).await?.is_none() {
            return Err(PromoteCommandError::NotVerified { generation });
        }
        let promotion = Promotion {
            tables: self.tables,
            building,
            concurrency: self.concurrency,
            clock: self.clock,
        };
        let quarantined = promotion.run().await?;
        Ok(Promoted {
            generation,
            previous,
            quarantined,
        })
    }
}
