//! Building the next generation from the events, while live traffic goes on.
//!
//! From the moment that a generation is being built, the projector applies new events to it as well, where they
//! continue what is there. The rebuild has two passes over the event table, in parallel segments: it applies all
//! events, and it verifies what came of them, after bringing each patient to the head of its stream. Then it promotes.
//! How far each segment has come is kept, so that a rebuild which is cut short goes on where it was.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};

use domain::{Generation, PatientId, StoredEntry, StreamVersion};
use event_log::{EventLog, LogUnavailable, Segment};
use futures::stream::{self, StreamExt, TryStreamExt};
use projection::{
    Advance, BeginError, Building, CatchUp, Hints, ProjectionUnavailable, PromoteError, Retry, abandon,
    begin_building,
};
use runtime::clock::Clock;

use crate::builds::{BuildStore, Checkpoint, Pass, Verification};
use crate::persistent::{CatchUpError, PersistentReconcile};
use crate::promotion::{Promotion, PromotionError};
use crate::streams::Walk;
use crate::tables::Tables;
use crate::verify::{Finding, Verified, Verify, VerifyError};

/// A rebuild of the read model.
#[derive(Debug, Clone, Copy)]
pub struct Rebuild<'a, T> {
    /// What it works on.
    pub tables: &'a T,
    /// Into how many parts the event table is divided; all of them are read at once.
    pub segments: u16,
    /// How many calls each of them has under way at once, at most.
    pub concurrency: usize,
    /// Patients whose broken hash chains are known, and no reason to refuse.
    pub accepted: &'a BTreeSet<PatientId>,
    /// Whether the generation is promoted, once it is verified.
    pub promote: bool,
    /// The time.
    pub clock: Clock,
}

/// What a rebuild came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rebuilt {
    /// The generation that was built, and is active now if it was to be.
    pub generation: Generation,
    /// How many patients it has.
    pub patients: u64,
    /// How many events they have.
    pub events: u64,
    /// How many events earlier runs, which were cut short, had read already, both passes together.
    pub resumed: u64,
    /// Patients that stay behind, as they did before, at the event that can't be applied; those of segments that were
    /// finished earlier are not among them.
    pub quarantined: BTreeMap<PatientId, StreamVersion>,
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
    /// Somebody could not be brought to the last event. Run the command again: it goes on where it was.
    #[error(transparent)]
    CatchUp(#[from] CatchUpError),
    /// The generation could not be verified. Run the command again: it goes on where it was.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// The generation is not what was appended, and was given up. Look into each finding; a patient whose broken chain
    /// is known can be accepted.
    #[error("not promoted: generation {generation} failed its verification: {}", shown(findings, *wrong))]
    Wrong {
        /// The generation.
        generation: Generation,
        /// How many findings there are.
        wrong: u64,
        /// The first of them.
        findings: Vec<Finding>,
    },
    /// Somebody else promoted it, or gave it up.
    #[error(transparent)]
    Abandon(#[from] PromoteError),
    /// The generation was not promoted.
    #[error(transparent)]
    Promotion(#[from] PromotionError),
}

fn shown(findings: &[Finding], wrong: u64) -> String {
    let first: Vec<String> = findings.iter().take(5).map(ToString::to_string).collect();
    let more = wrong.saturating_sub(u64::try_from(first.len()).unwrap_or(u64::MAX));
    let more = if more > 0 {
        format!("; {more} more")
    } else {
        String::new()
    };
    format!("{}{more}", first.join("; "))
}

impl<T: Tables> Rebuild<'_, T> {
    /// Builds the next generation, or goes on with the one that is being built; verifies it; and promotes it, if it is
    /// to be. Two at once do no harm, only needless work.
    ///
    /// `on_events` is told how many events a pass has read since it was last called; what earlier runs read counts.
    ///
    /// # Errors
    /// [`RebuildError`]
    pub async fn run(&self, on_events: &(impl Fn(Pass, u64) + Sync)) -> Result<Rebuilt, RebuildError> {
        let building = self.begin().await?;
        let generation = building.generation;
        let mut quarantined = BTreeMap::new();
        let resumed = AtomicU64::new(0);
        let verification = match self.tables.builds().verification(generation).await? {
            Some(verification) => verification,
            None => {
                self.all_segments(|segment| self.apply(generation, segment, &resumed, on_events))
                    .await?;
                let parts = self
                    .all_segments(|segment| self.verify(generation, segment, &resumed, on_events))
                    .await?;
                let verified = parts
                    .into_iter()
                    .fold(Verified::nothing(generation), Verified::plus);
                self.put_verification(&verified, &mut quarantined).await?
            }
        };
        if self.promote {
            let promotion = Promotion {
                tables: self.tables,
                building,
                concurrency: self.concurrency,
                clock: self.clock,
            };
            quarantined.extend(promotion.run().await?);
        }
        Ok(Rebuilt {
            generation,
            patients: verification.patients,
            events: verification.events,
            resumed: resumed.into_inner(),
            quarantined,
        })
    }

    /// Begins, or goes on with a build that was cut short. What a dry run has finished is not gone on with: the software may
    /// be another one by now, and the next dry run has to show what that makes of the events.
    async fn begin(&self) -> Result<Building, RebuildError> {
        let projection = self.tables.projection();
        let building = begin_building(projection, (self.clock)()).await?;
        let verification = self.tables.builds().verification(building.generation).await?;
        if verification.is_none_or(|verification| !verification.dry_run) {
            return Ok(building);
        }
        abandon(projection, building.generation).await?;
        Ok(begin_building(projection, (self.clock)()).await?)
    }

    async fn all_segments<F, V>(&self, run: impl Fn(Segment) -> F) -> Result<Vec<V>, RebuildError>
    where
        F: Future<Output = Result<V, RebuildError>>,
    {
        let segments = (0..self.segments).map(|index| Segment {
            index,
            total: self.segments,
        });
        // They are made before they run, see `projection::at_once`.
        let runs: Vec<F> = segments.map(run).collect();
        stream::iter(runs)
            .buffer_unordered(self.segments.into())
            .try_collect()
            .await
    }

    /// Where a pass has to go on in a segment.
    async fn checkpoint(
        &self,
        generation: Generation,
        pass: Pass,
        segment: Segment,
    ) -> Result<Checkpoint, ProjectionUnavailable> {
        let kept = self.tables.builds().checkpoint(generation, pass, segment).await?;
        Ok(kept.unwrap_or(Checkpoint {
            segments: segment.total,
            ..Checkpoint::default()
        }))
    }

    /// Applies all events of a segment.
    async fn apply(
        &self,
        generation: Generation,
        segment: Segment,
        resumed: &AtomicU64,
        on_events: &(impl Fn(Pass, u64) + Sync),
    ) -> Result<(), RebuildError> {
        let mut checkpoint = self.checkpoint(generation, Pass::Apply, segment).await?;
        resumed.fetch_add(checkpoint.events, Ordering::Relaxed);
        on_events(Pass::Apply, checkpoint.events);
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
            let builds = self.tables.builds();
            builds
                .put_checkpoint(generation, Pass::Apply, segment.index, &checkpoint)
                .await?;
            on_events(Pass::Apply, read);
        }
        Ok(())
    }

    /// Brings the patients of a segment to the heads of their streams, and compares them with their events.
    async fn verify(
        &self,
        generation: Generation,
        segment: Segment,
        resumed: &AtomicU64,
        on_events: &(impl Fn(Pass, u64) + Sync),
    ) -> Result<Verified, RebuildError> {
        let mut checkpoint = self.checkpoint(generation, Pass::Verify, segment).await?;
        resumed.fetch_add(checkpoint.events, Ordering::Relaxed);
        on_events(Pass::Verify, checkpoint.events);
        let mut verified = Verified {
            patients: checkpoint.patients,
            events: checkpoint.events,
            ..Verified::nothing(generation)
        };
        if checkpoint.done {
            return Ok(verified);
        }
        let reconcile = PersistentReconcile {
            tables: self.tables,
            generation,
            retry: Retry::Quarantined,
            concurrency: self.concurrency,
            clock: self.clock,
        };
        let verify = Verify {
            tables: self.tables,
            generation,
            segments: self.segments,
            concurrency: self.concurrency,
            accepted: Some(self.accepted),
            now: (self.clock)(),
        };
        let mut walk = Walk::new(self.tables.log(), segment, checkpoint.next.take());
        while let Some(found) = walk.next().await? {
            let patients: Vec<PatientId> = found
                .streams
                .iter()
                .map(|stream| stream.patient.clone())
                .collect();
            reconcile.to_heads(&patients).await?;
            let part = verify.streams(found.streams).await?;
            on_events(Pass::Verify, part.events);
            verified = verified.plus(part);
            checkpoint.next = found.position;
            self.keep(&mut checkpoint, &verified, segment.index).await?;
        }
        checkpoint.done = true;
        self.keep(&mut checkpoint, &verified, segment.index).await?;
        Ok(verified)
    }

    /// Keeps how far the second pass has come; not beyond a finding, which the next run has to meet again.
    async fn keep(
        &self,
        checkpoint: &mut Checkpoint,
        verified: &Verified,
        index: u16,
    ) -> Result<(), ProjectionUnavailable> {
        if verified.wrong > 0 {
            return Ok(());
        }
        checkpoint.events = verified.events;
        checkpoint.patients = verified.patients;
        let builds = self.tables.builds();
        builds
            .put_checkpoint(verified.generation, Pass::Verify, index, checkpoint)
            .await
    }

    async fn put_verification(
        &self,
        verified: &Verified,
        quarantined: &mut BTreeMap<PatientId, StreamVersion>,
    ) -> Result<Verification, RebuildError> {
        let generation = verified.generation;
        if verified.wrong > 0 {
            match abandon(self.tables.projection(), generation).await {
                // Somebody gave it up, and has perhaps begun to prune it: no wonder.
                Err(given_up @ PromoteError::NotBuilding { .. }) => return Err(given_up.into()),
                // If it stays, the next run meets the same findings.
                Ok(()) | Err(PromoteError::Conflict | PromoteError::Unavailable(_)) => {}
            }
            return Err(RebuildError::Wrong {
                generation,
                wrong: verified.wrong,
                findings: verified.findings.clone(),
            });
        }
        quarantined.clone_from(&verified.quarantined);
        let verification = Verification {
            verified_at: (self.clock)(),
            patients: verified.patients,
            events: verified.events,
            dry_run: !self.promote,
        };
        let builds = self.tables.builds();
        builds.put_verification(generation, verification).await?;
        Ok(verification)
    }
}
