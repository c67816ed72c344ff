//! Building the next generation from the events, while live traffic goes on.
//!
//! From the moment that a generation is being built, the projector applies new events to it as well, where they
//! continue what is there. The rebuild has two passes over the event table, in parallel segments: it applies all
//! events, and it verifies what came of them, after bringing each patient to the head of its stream. Then it promotes.
//! How far each segment has come is kept, so that a rebuild which is cut short goes on where it was.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use domain::{Generation, PatientId, StoredEntry, StreamVersion};
use event_log::{EventLog, LogUnavailable, Segment};
use projection::{
    Advance, BeginError, Building, CatchUp, Hints, ProjectionUnavailable, PromoteError, Retry, abandon,
    begin_building,
};
use runtime::clock::Clock;

use crate::accepted::Accepted;
use crate::builds::{Begun, BuildStore, Checkpoint, Pass, Seen, Verification};
use crate::gate::{Gate, GateError, shown};
use crate::promotion::{Promotion, PromotionError, fate, next_step};
use crate::segments::all_segments;
use crate::tables::Tables;
use crate::verify::{Finding, Verified};

/// A rebuild of the read model.
#[derive(Debug, Clone, Copy)]
pub struct Rebuild<'a, T> {
    /// What it works on.
    pub tables: &'a T,
    /// Into how many parts the event table is divided; all of them are read at once. A build that was cut short goes on
    /// with the number that it was begun with.
    pub segments: u16,
    /// How many calls each of them has under way at once, at most.
    pub concurrency: usize,
    /// What is known, and no reason to refuse.
    pub accepted: &'a Accepted,
    /// Which software folds the events here, [`projection::SOFTWARE`]: what another one began is not gone on with.
    pub software: &'a str,
    /// Whether the generation is promoted, once it is verified.
    pub promote: bool,
    /// Whether that is so even if the projector is of other software.
    pub any_projector: bool,
    /// The time.
    pub clock: Clock,
}

/// What a rebuild came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rebuilt {
    /// The generation that was built, and is active now if it was to be.
    pub generation: Generation,
    /// What a dry run had built, and nobody promoted: it was given up for this one.
    pub instead_of: Option<Generation>,
    /// How many patients it has.
    pub patients: u64,
    /// How many events they have.
    pub events: u64,
    /// Into how many parts the event table was divided.
    pub segments: u16,
    /// How many events earlier runs, which were cut short, had read already, both passes together.
    pub resumed: u64,
    /// Patients that stay behind, as they did before, at the event that can't be applied; those of segments that were
    /// finished earlier are not among them.
    pub quarantined: BTreeMap<PatientId, StreamVersion>,
}

/// What a rebuild begins with.
struct Start {
    building: Building,
    segments: u16,
    instead_of: Option<Generation>,
}

/// Why a rebuild did not end as it should.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    /// The build could not be begun.
    #[error(transparent)]
    Begin(#[from] BeginError),
    /// The event table can't be read. Run the command again: it goes on where it was.
    #[error(transparent)]
    Log(#[from] LogUnavailable),
    /// The read model can't be read or written. Run the command again: it goes on where it was.
    #[error(transparent)]
    Store(#[from] ProjectionUnavailable),
    /// The generation could not be verified. Run the command again: it goes on where it was.
    #[error(transparent)]
    Gate(#[from] GateError),
    /// The generation is not what was appended. Look into each finding; a patient whose broken chain is known can be
    /// accepted.
    #[error(
        "not promoted: generation {generation} failed its verification{}: {}; {}",
        fate(*given_up),
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
        /// Whether it was given up: then the next run builds another one.
        given_up: bool,
    },
    /// Somebody else promoted it, or gave it up.
    #[error(transparent)]
    Abandon(#[from] PromoteError),
    /// The generation was not promoted.
    #[error(transparent)]
    Promotion(#[from] PromotionError),
}

impl<T: Tables> Rebuild<'_, T> {
    /// Builds the next generation, or goes on with the one that is being built; verifies it; and promotes it, if it is
    /// to be. Two at once do no harm, only needless work.
    ///
    /// `on_events` is told how many events a pass has read since it was last called; what earlier runs read counts.
    ///
    /// # Errors
    /// [`RebuildError`]
    pub async fn run(&self, on_events: &(impl Fn(Pass, Seen) + Sync)) -> Result<Rebuilt, RebuildError> {
        let Start {
            building,
            segments,
            instead_of,
        } = self.begin().await?;
        let generation = building.generation;
        let mut quarantined = BTreeMap::new();
        let resumed = AtomicU64::new(0);
        let finished = self.tables.builds().verification(generation).await?.is_some();
        if !finished {
            all_segments(segments, |segment| {
                self.apply(generation, segment, &resumed, on_events)
            })
            .await?;
        }
        let gate = Gate {
            tables: self.tables,
            generation,
            segments,
            concurrency: self.concurrency,
            accepted: self.accepted,
            clock: self.clock,
        };
        // One that finished says nothing of what happened since.
        let verified = gate.run(!finished, &resumed, on_events).await?;
        let verification = self.put_verification(&verified, &mut quarantined).await?;
        if self.promote {
            let promotion = Promotion {
                tables: self.tables,
                building,
                accepted: self.accepted,
                gives_up: true,
                projector: (!self.any_projector).then_some(self.software),
                concurrency: self.concurrency,
                clock: self.clock,
            };
            quarantined.extend(promotion.run(on_events).await?);
        }
        Ok(Rebuilt {
            generation,
            instead_of,
            patients: verification.patients,
            events: verification.events,
            segments,
            resumed: resumed.into_inner(),
            quarantined,
        })
    }

    /// Begins, or goes on with a build that was cut short. What a dry run has finished is not gone on with: the next one
    /// has to show what is made of the events now.
    async fn begin(&self) -> Result<Start, RebuildError> {
        let projection = self.tables.projection();
        let builds = self.tables.builds();
        let mut building = begin_building(projection, self.software, (self.clock)()).await?;
        let mut instead_of = None;
        let verification = builds.verification(building.generation).await?;
        if verification.is_some_and(|verification| verification.dry_run) {
            instead_of = Some(building.generation);
            abandon(projection, building.generation).await?;
            building = begin_building(projection, self.software, (self.clock)()).await?;
        }
        let segments = if let Some(begun) = builds.begun(building.generation).await? {
            begun.segments
        } else {
            let segments = self.segments;
            builds.put_begun(building.generation, &Begun { segments }).await?;
            segments
        };
        Ok(Start {
            building,
            segments,
            instead_of,
        })
    }

    /// Applies all events of a segment.
    async fn apply(
        &self,
        generation: Generation,
        segment: Segment,
        resumed: &AtomicU64,
        on_events: &(impl Fn(Pass, Seen) + Sync),
    ) -> Result<(), RebuildError> {
        let builds = self.tables.builds();
        let kept = builds.checkpoint(generation, Pass::Apply, segment).await?;
        let mut checkpoint = kept.unwrap_or_else(|| Checkpoint::beginning(segment));
        resumed.fetch_add(checkpoint.events, Ordering::Relaxed);
        on_events(Pass::Apply, Seen::earlier(checkpoint.events));
        while !checkpoint.done {
            let page = self.tables.log().scan(segment, checkpoint.next.take()).await?;
            let read = u64::try_from(page.entries.len()).unwrap_or(u64::MAX);
            let mut hints = Hints::default();
            page.entries
                .into_iter()
                .map(StoredEntry::decode)
                .for_each(|entry| hints.add(entry));
            let advance = Advance {
                log: self.tables.log(),
                store: self.tables.projection(),
                queue: self.tables.queue(),
                generation,
                catch_up: CatchUp::FromEventTable,
                retry: Retry::Quarantined,
                concurrency: self.concurrency,
                now: (self.clock)(),
            };
            // Whoever fails, or is quarantined, is looked at again in the second pass.
            advance.run(&hints).await;
            checkpoint.events += read;
            checkpoint.done = page.next.is_none();
            checkpoint.next = page.next;
            builds
                .put_checkpoint(generation, Pass::Apply, segment.index, &checkpoint)
                .await?;
            on_events(Pass::Apply, Seen::now(read));
        }
        Ok(())
    }

    async fn put_verification(
        &self,
        verified: &Verified,
        quarantined: &mut BTreeMap<PatientId, StreamVersion>,
    ) -> Result<Verification, RebuildError> {
        let generation = verified.generation;
        if verified.wrong > 0 {
            let given_up = match abandon(self.tables.projection(), generation).await {
                // Somebody gave it up, and has perhaps begun to prune it: no wonder.
                Err(given_up @ PromoteError::NotBuilding { .. }) => return Err(given_up.into()),
                Ok(()) => true,
                // If it stays, the next run meets the same findings.
                Err(PromoteError::Conflict | PromoteError::Unavailable(_)) => false,
            };
            return Err(RebuildError::Wrong {
                generation,
                wrong: verified.wrong,
                findings: verified.findings.clone(),
                given_up,
            });
        }
        quarantined.clone_from(&verified.quarantined);
        let verification = Verification {
            verified_at: (self.clock)(),
            patients: verified.patients,
            events: verified.events,
            dry_run: !self.promote,
            accepted: self.accepted.kept(),
        };
        let builds = self.tables.builds();
        builds.put_verification(generation, &verification).await?;
        Ok(verification)
    }
}
