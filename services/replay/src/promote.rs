//! Promoting a generation that was built before.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;

use domain::{Generation, PatientId, StreamVersion};
use projection::{Building, ProjectionStore, ProjectionUnavailable, PromoteError};
use runtime::clock::Clock;

use crate::accepted::Accepted;
use crate::builds::{BuildStore, Pass, Seen};
use crate::gate::{Gate, GateError, shown};
use crate::promotion::{Promotion, PromotionError, next_step};
use crate::tables::Tables;
use crate::verify::Finding;

/// Makes the generation that was built, and verified, the active one. It is verified once more: what happened to it, and
/// to the events, since it was built is not known. One that is refused stays as it is.
#[derive(Debug, Clone, Copy)]
pub struct Promote<'a, T> {
    /// What it works on.
    pub tables: &'a T,
    /// Into how many parts the event table is divided; all of them are read at once.
    pub segments: u16,
    /// How many calls each of them has under way at once, at most.
    pub concurrency: usize,
    /// What is known, and no reason to refuse.
    pub accepted: &'a Accepted,
    /// Which software folds the events here, [`projection::SOFTWARE`]. What another one has built is not promoted.
    pub software: &'a str,
    /// Whether it is promoted even if the projector is of other software.
    pub any_projector: bool,
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
    /// A generation is being brought back, since a roll back was cut short. Finish that, or give it up.
    #[error(
        "generation {generation} is being brought back, not built: `replay rollback` goes on with that, \
         `replay prune --building` gives it up"
    )]
    BroughtBack {
        /// The generation.
        generation: Generation,
    },
    /// The build is not finished, or it failed. Let the rebuild finish.
    #[error("generation {generation} is not verified: run the rebuild again, it goes on where it was")]
    NotVerified {
        /// The generation.
        generation: Generation,
    },
    /// Whatever is still missing would be applied by other rules, perhaps, than all the rest. Rebuild, or promote with the
    /// program that has built it.
    #[error(
        "generation {generation} was built by other software, whose rules may be others: promote it with that, or rebuild"
    )]
    OtherSoftware {
        /// The generation.
        generation: Generation,
    },
    /// The read model can't be read. Run the command again.
    #[error(transparent)]
    Store(#[from] ProjectionUnavailable),
    /// It could not be verified. Run the command again.
    #[error(transparent)]
    Gate(#[from] GateError),
    /// The generation is not what was appended, and stays as it is. Look into each finding; a patient whose broken chain is
    /// known can be accepted.
    #[error(
        "not promoted: generation {generation} is not, or no longer, what the events say: {}; {}",
        shown(findings, *wrong),
        next_step(findings)
    )]
    Wrong {
        /// The generation.
        generation: Generation,
        /// How many findings there are.
        wrong: u64,
        /// The first of them.
        findings: Vec<Finding>,
    },
    /// It was refused, or failed.
    #[error(transparent)]
    Promotion(#[from] PromotionError),
}

impl<T: Tables> Promote<'_, T> {
    /// Promotes. `on_events` is told how many events were compared since it was last called.
    ///
    /// # Errors
    /// [`PromoteCommandError`]
    pub async fn run(
        &self,
        on_events: &(impl Fn(Pass, Seen) + Sync),
    ) -> Result<Promoted, PromoteCommandError> {
        let control = self.tables.projection().control().await?;
        let control = control.ok_or(PromoteCommandError::NothingBuilt)?;
        let generation = control.building.ok_or(PromoteCommandError::NothingBuilt)?;
        if control.brings_back {
            return Err(PromoteCommandError::BroughtBack { generation });
        }
        if control.building_for(self.software).is_none() {
            return Err(PromoteCommandError::OtherSoftware { generation });
        }
        let previous = control.active;
        let since = control.building_since.unwrap_or(domain::Timestamp::EARLIEST);
        let building = Building { generation, since };
        if self.tables.builds().verification(generation).await?.is_none() {
            return Err(PromoteCommandError::NotVerified { generation });
        }
        let promotion = Promotion {
            tables: self.tables,
            building,
            accepted: self.accepted,
            gives_up: false,
            projector: (!self.any_projector).then_some(self.software),
            concurrency: self.concurrency,
            clock: self.clock,
        };
        promotion.check_projector().await?;
        let gate = Gate {
            tables: self.tables,
            generation,
            segments: self.segments,
            concurrency: self.concurrency,
            accepted: self.accepted,
            clock: self.clock,
        };
        let verified = gate.run(false, &AtomicU64::new(0), on_events).await?;
        if verified.wrong > 0 {
            let control = self.tables.projection().control().await?;
            if control.is_none_or(|control| control.building != Some(generation)) {
                // Somebody gave it up, and has perhaps begun to prune it: no wonder.
                let gone = PromoteError::NotBuilding { generation };
                return Err(PromotionError::from(gone).into());
            }
            return Err(PromoteCommandError::Wrong {
                generation,
                wrong: verified.wrong,
                findings: verified.findings,
            });
        }
        let mut quarantined = verified.quarantined;
        quarantined.extend(promotion.run(on_events).await?);
        Ok(Promoted {
            generation,
            previous,
            quarantined,
        })
    }
}
