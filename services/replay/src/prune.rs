//! Removing generations that nobody needs any more.

use std::future::Future;

use domain::{Generation, Timestamp};
use event_log::Segment;
use projection::{ProjectionUnavailable, PromoteError, abandon, current, forget_previous};
use read_model::Control;
use runtime::clock::Clock;

use crate::segments::all_segments;
use crate::tables::Tables;

/// How long after a promotion nothing is removed: a request that began before it may still read the old generation. An
/// HTTP request takes 29 seconds at most
/// (<https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-execution-service-limits-table.html>).
pub const QUIET_MILLIS: i64 = 60_000;

/// The key of an item of the read model's table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ItemKey {
    /// Partition key.
    pub pk: String,
    /// Sort key.
    pub sk: String,
}

/// Some keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyPage {
    /// Those of generations that may go.
    pub keys: Vec<ItemKey>,
    /// Where to go on; `None` at the end.
    pub next: Option<ItemKey>,
}

/// The generations that may go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Doomed {
    /// The highest there was when it was decided: a later one has begun since.
    pub latest: Generation,
    /// Those that stay.
    pub kept: Vec<Generation>,
}

impl Doomed {
    /// Whether this one may go.
    #[must_use]
    pub fn contains(&self, generation: Generation) -> bool {
        generation <= self.latest && !self.kept.contains(&generation)
    }
}

/// Removing items of the read model, which nothing else can do. Two implementations: [`crate::ReplayTable`], and the
/// simulator's.
pub trait PruneStore: Send + Sync {
    /// A page of the keys of these generations, in a segment of the whole table after `after`.
    fn keys(
        &self,
        doomed: &Doomed,
        segment: Segment,
        after: Option<ItemKey>,
    ) -> impl Future<Output = Result<KeyPage, ProjectionUnavailable>> + Send;

    /// Removes items. One that is not there is removed.
    fn remove(&self, keys: &[ItemKey]) -> impl Future<Output = Result<(), ProjectionUnavailable>> + Send;
}

/// Removes every generation but the active one, the previous one and the one that is being built.
///
/// It reads the whole table of the read model: what a crash left behind is in no index.
#[derive(Debug, Clone, Copy)]
pub struct Prune<'a, T> {
    /// What it works on.
    pub tables: &'a T,
    /// Whether the previous one goes too, so that nobody can roll back to it.
    pub previous: bool,
    /// Whether the one that is being built goes too. One that is being brought back is only given up.
    pub building: bool,
    /// Into how many parts the table is divided; all of them are read at once.
    pub segments: u16,
    /// The time.
    pub clock: Clock,
}

/// What was removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pruned {
    /// How many items.
    pub items: u64,
    /// What is left.
    pub kept: Vec<Generation>,
}

/// Why not everything was removed.
#[derive(Debug, thiserror::Error)]
pub enum PruneError {
    /// Readers may still be in an old generation. Run the command again after this time.
    #[error(
        "generation {active} was promoted a moment ago: prune in {seconds} s, when nobody reads an older one"
    )]
    TooSoon {
        /// The active generation.
        active: Generation,
        /// How many seconds from now.
        seconds: i64,
    },
    /// Somebody else changed the generations.
    #[error(transparent)]
    Changed(#[from] PromoteError),
    /// The table can't be read or written. Run the command again.
    #[error(transparent)]
    Store(#[from] ProjectionUnavailable),
}

impl<T: Tables> Prune<'_, T> {
    /// Removes what can go. `on_items` is told how many items were removed since it was last called.
    ///
    /// # Errors
    /// [`PruneError`]
    pub async fn run(&self, on_items: &(impl Fn(u64) + Sync)) -> Result<Pruned, PruneError> {
        let projection = self.tables.projection();
        let mut control = current(projection).await?;
        self.is_quiet(&control)?;
        if let (true, Some(building)) = (self.building, control.building) {
            abandon(projection, building).await?;
            control = current(projection).await?;
            self.is_quiet(&control)?;
        }
        if self.previous {
            forget_previous(projection, &control).await?;
        }
        // Somebody may have promoted meanwhile.
        let control = current(projection).await?;
        self.is_quiet(&control)?;
        let kept = [Some(control.active), control.previous, control.building]
            .into_iter()
            .flatten()
            .collect();
        let doomed = Doomed {
            latest: control.latest,
            kept,
        };
        let segment = |segment| self.segment(&doomed, segment, on_items);
        let removed = all_segments(self.segments, segment).await?;
        Ok(Pruned {
            items: removed.iter().sum(),
            kept: doomed.kept,
        })
    }

    /// Whether the last promotion is long enough ago.
    fn is_quiet(&self, control: &Control) -> Result<(), PruneError> {
        let quiet_from = control
            .active_since
            .map_or(Timestamp::EARLIEST, |since| since.plus_millis(QUIET_MILLIS));
        let millis = quiet_from.millis_since((self.clock)());
        if millis > 0 {
            return Err(PruneError::TooSoon {
                active: control.active,
                seconds: 1 + millis / 1_000,
            });
        }
        Ok(())
    }

    async fn segment(
        &self,
        doomed: &Doomed,
        segment: Segment,
        on_items: &(impl Fn(u64) + Sync),
    ) -> Result<u64, ProjectionUnavailable> {
        let prunable = self.tables.prunable();
        let mut removed = 0;
        let mut next = None;
        loop {
            let page = prunable.keys(doomed, segment, next).await?;
            prunable.remove(&page.keys).await?;
            let items = u64::try_from(page.keys.len()).unwrap_or(u64::MAX);
            removed += items;
            on_items(items);
            next = page.next;
            if next.is_none() {
                return Ok(removed);
            }
        }
    }
}
