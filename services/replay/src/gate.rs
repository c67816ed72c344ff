//! What every generation has to pass before it is promoted: each patient is brought to the head of its stream, and compared
//! with the events by the code of `replay verify`.

use std::sync::atomic::{AtomicU64, Ordering};

use domain::{Generation, PatientId};
use event_log::{LogUnavailable, Segment};
use projection::{ProjectionUnavailable, Retry};
use runtime::clock::Clock;

use crate::accepted::Accepted;
use crate::builds::{BuildStore, Checkpoint, Pass, Seen};
use crate::persistent::{CatchUpError, PersistentReconcile};
use crate::segments::all_segments;
use crate::streams::Walk;
use crate::tables::Tables;
use crate::verify::{Finding, Verified, Verify, VerifyError};

/// The verification of a generation that is being built.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gate<'a, T> {
    pub(crate) tables: &'a T,
    pub(crate) generation: Generation,
    /// Into how many parts the event table is divided; all of them are read at once.
    pub(crate) segments: u16,
    /// How many calls each of them has under way at once, at most.
    pub(crate) concurrency: usize,
    /// What is known, and no reason to refuse.
    pub(crate) accepted: &'a Accepted,
    pub(crate) clock: Clock,
}

/// Why there is no verdict. Run the command again.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    /// The event table can't be read.
    #[error(transparent)]
    Log(#[from] LogUnavailable),
    /// How far it has come can't be read or kept.
    #[error(transparent)]
    Store(#[from] ProjectionUnavailable),
    /// Somebody could not be brought to the last event.
    #[error(transparent)]
    CatchUp(#[from] CatchUpError),
    /// Somebody could not be compared.
    #[error(transparent)]
    Verify(#[from] VerifyError),
}

/// The first findings, in words.
pub(crate) fn shown(findings: &[Finding], wrong: u64) -> String {
    const SHOWN: usize = 5;
    let mut shown: Vec<String> = findings.iter().take(SHOWN).map(ToString::to_string).collect();
    let more = wrong.saturating_sub(u64::try_from(shown.len()).unwrap_or(u64::MAX));
    if more > 0 {
        shown.push(format!("{more} more"));
    }
    shown.join("; ")
}

impl<T: Tables> Gate<'_, T> {
    /// Verifies. With `resumes` it goes on where an earlier run of the same build was cut short, and `resumed` counts what
    /// that one read; without, it compares everything now.
    pub(crate) async fn run(
        &self,
        resumes: bool,
        resumed: &AtomicU64,
        on_events: &(impl Fn(Pass, Seen) + Sync),
    ) -> Result<Verified, GateError> {
        let segment = |segment| self.segment(segment, resumes, resumed, on_events);
        let parts = all_segments(self.segments, segment).await?;
        Ok(parts
            .into_iter()
            .fold(Verified::nothing(self.generation), Verified::plus))
    }

    async fn segment(
        &self,
        segment: Segment,
        resumes: bool,
        resumed: &AtomicU64,
        on_events: &(impl Fn(Pass, Seen) + Sync),
    ) -> Result<Verified, GateError> {
        let mut checkpoint = self.checkpoint(segment, resumes).await?;
        resumed.fetch_add(checkpoint.events, Ordering::Relaxed);
        on_events(Pass::Verify, Seen::earlier(checkpoint.events));
        let mut verified = Verified {
            patients: checkpoint.patients,
            events: checkpoint.events,
            ..Verified::nothing(self.generation)
        };
        if checkpoint.done {
            return Ok(verified);
        }
        let reconcile = PersistentReconcile {
            tables: self.tables,
            generation: self.generation,
            retry: Retry::Quarantined,
            concurrency: self.concurrency,
            clock: self.clock,
        };
        let verify = Verify {
            tables: self.tables,
            generation: self.generation,
            segments: self.segments,
            concurrency: self.concurrency,
            accepted: self.accepted,
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
            let part = verify.before_promotion(found.streams).await?;
            on_events(Pass::Verify, Seen::now(part.events));
            verified = verified.plus(part);
            checkpoint.next = found.position;
            self.keep(&mut checkpoint, &verified, segment.index).await?;
        }
        checkpoint.done = true;
        self.keep(&mut checkpoint, &verified, segment.index).await?;
        Ok(verified)
    }

    /// Where to go on. What was compared while more was accepted than now says nothing.
    async fn checkpoint(&self, segment: Segment, resumes: bool) -> Result<Checkpoint, ProjectionUnavailable> {
        let builds = self.tables.builds();
        let kept = if resumes {
            builds.checkpoint(self.generation, Pass::Verify, segment).await?
        } else {
            None
        };
        let accepted = self.accepted.kept();
        let kept = kept.filter(|kept| kept.accepted.is_subset(&accepted));
        Ok(Checkpoint {
            accepted,
            ..kept.unwrap_or_else(|| Checkpoint::beginning(segment))
        })
    }

    /// Keeps how far it has come; not beyond a finding, which the next run has to meet again.
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
            .put_checkpoint(self.generation, Pass::Verify, index, checkpoint)
            .await
    }
}
