//! Going back to the generation that was active before.

use domain::{Generation, Timestamp};
use projection::{BeginError, Building, ProjectionUnavailable, SweepStore, begin_rolling_back, current};
use runtime::clock::Clock;

use crate::accepted::Accepted;
use crate::builds::{Pass, Seen};
use crate::promote::Promoted;
use crate::promotion::{Promotion, PromotionError};
use crate::tables::Tables;

/// Makes the generation that was active before the active one again. It is brought up to date first: since the
/// promotion it got no events. It is not compared with the events, as the reason to go back may be that today's rules are
/// wrong; but each of its summaries has to count the check-ins that there are, and it may show no fewer events than now.
#[derive(Debug, Clone, Copy)]
pub struct RollBack<'a, T> {
    /// What it works on.
    pub tables: &'a T,
    /// The generation, if it has to be that one. Without a name only an earlier one than the active is brought back.
    pub to: Option<Generation>,
    /// Of whom that is known, and no reason to refuse.
    pub accepted: &'a Accepted,
    /// How many calls are under way at once, at most.
    pub concurrency: usize,
    /// The time.
    pub clock: Clock,
}

/// Why queries read the same generation as before.
#[derive(Debug, thiserror::Error)]
pub enum RollBackError {
    /// It was not begun.
    #[error(transparent)]
    Begin(#[from] BeginError),
    /// The read model can't be read. Run the command again.
    #[error(transparent)]
    Store(#[from] ProjectionUnavailable),
    /// It was refused, or failed.
    #[error(transparent)]
    Promotion(#[from] PromotionError),
}

impl<T: Tables> RollBack<'_, T> {
    /// Rolls back, or goes on with a roll back that was cut short.
    ///
    /// # Errors
    /// [`RollBackError`]
    pub async fn run(&self) -> Result<Promoted, RollBackError> {
        self.watched(&|_, _| ()).await
    }

    /// The same. `on_pass` is told what has begun.
    ///
    /// # Errors
    /// [`RollBackError`]
    pub async fn watched(&self, on_pass: &(impl Fn(Pass, Seen) + Sync)) -> Result<Promoted, RollBackError> {
        let projection = self.tables.projection();
        let previous = current(projection).await?.active;
        let building = begin_rolling_back(projection, self.to, (self.clock)()).await?;
        let generation = building.generation;
        // What was recorded before its last sweep is in it; without one, everything is compared.
        let swept_to = projection.swept_to(generation).await?;
        let since = swept_to.map_or(Timestamp::EARLIEST, |swept_to| swept_to.min(building.since));
        let promotion = Promotion {
            tables: self.tables,
            building: Building { generation, since },
            accepted: self.accepted,
            gives_up: true,
            projector: None,
            concurrency: self.concurrency,
            clock: self.clock,
        };
        let quarantined = promotion.of_an_older_one(on_pass).await?;
        Ok(Promoted {
            generation,
            previous,
            quarantined,
        })
    }
}
