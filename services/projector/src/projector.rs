//! What the projector does with a batch of stream records.

use std::collections::BTreeSet;

use aws_lambda_events::streams::{DynamoDbBatchItemFailure, DynamoDbEventResponse};
use domain::{PatientId, Timestamp};
use event_log::EventLog;
use projection::{
    Advance, CatchUp, Hints, Outcome, ProjectionStore, QuarantineNotice, QuarantineQueue, Retry, current,
};
use read_model::Progress;
use runtime::clock::Clock;
use runtime::telemetry::chain;

use crate::Summary;
use crate::batch::{Batch, NoSequenceNumber};
use crate::record::StreamBatch;

/// Applies batches of stream records to the read model.
#[derive(Debug, Clone)]
pub struct Projector<L, S, Q> {
    /// The event table.
    pub log: L,
    /// The read model's table.
    pub store: S,
    /// Where events that can't be applied are reported.
    pub queue: Q,
    /// How many calls are under way at once, at most.
    pub concurrency: usize,
    /// Which software folds the events here, [`projection::SOFTWARE`]: what another one builds is left alone.
    pub software: &'static str,
    /// The time.
    pub clock: Clock,
}

/// What became of a batch.
#[derive(Debug)]
pub struct Handled {
    /// What Lambda is told.
    pub response: DynamoDbEventResponse,
    /// What operators are told.
    pub summary: Summary,
}

/// What became of a batch in one generation.
struct Advanced {
    /// Patients that have to be tried again.
    failed: Vec<PatientId>,
    summary: Summary,
}

impl<L: EventLog, S: ProjectionStore, Q: QuarantineQueue> Projector<L, S, Q> {
    /// Applies a batch to the active generation, and to the one that is being built, if any, and by the same software.
    ///
    /// The answer names at most one record: the first that has to be delivered again, with all that follow it.
    /// Patients whose events were applied are not undone by that; applying them again changes nothing. An event
    /// that can never be applied is not a failure: its patient is quarantined, and the batch goes on.
    ///
    /// # Errors
    /// [`NoSequenceNumber`]: Lambda must deliver the whole batch again. An empty answer would acknowledge it.
    pub async fn handle(&self, delivered: StreamBatch) -> Result<Handled, NoSequenceNumber> {
        let batch = Batch::read(delivered)?;
        let (first_failed, summary) = self.apply(&batch).await;
        let mut response = DynamoDbEventResponse::default();
        if let Some(sequence_number) = first_failed {
            let mut failure = DynamoDbBatchItemFailure::default();
            failure.item_identifier = Some(sequence_number.to_owned());
            response.batch_item_failures.push(failure);
        }
        Ok(Handled { response, summary })
    }

    /// Applies the batch; the sequence number of the first record that has to be delivered again, if any.
    async fn apply<'b>(&self, batch: &'b Batch) -> (Option<&'b str>, Summary) {
        for violation in &batch.violations {
            let key = violation.key.as_ref();
            tracing::error!(
                integrity_violation = violation.event_name,
                patient_id = key.map(|key| key.patient_id.as_str()),
                version = key.map(|key| key.version.get()),
                "an event was changed in the event table; nothing was applied"
            );
        }
        let mut failed_records = self.report_unreadable(batch).await;
        let mut failed_patients = BTreeSet::new();
        let mut summary = Summary::default();
        match current(&self.store).await {
            Ok(control) => {
                // The one that is being built first: when it takes over, it shows no less than the active one did.
                let building = control.building_for(self.software);
                let building = building.map(|building| (building, CatchUp::LeaveGaps));
                let active = (control.active, CatchUp::FromEventTable);
                for (generation, catch_up) in building.into_iter().chain([active]) {
                    let advanced = self.advance(batch, &batch.hints, generation, catch_up).await;
                    // Once, even who failed in both.
                    failed_patients.extend(advanced.failed);
                    // The last one is the active one.
                    summary = advanced.summary;
                }
            }
            Err(error) => {
                tracing::error!(error = chain(&error), "the control item cannot be read");
                failed_records.push(0);
            }
        }
        summary.violations = count(batch.violations.len());
        summary.failed = count(failed_patients.len() + failed_records.len());
        summary.correlation_id = batch.correlation_id();
        (batch.first_failed(&failed_patients, failed_records), summary)
    }

    /// Puts records without a readable key on the quarantine queue; those that it could not put there.
    async fn report_unreadable(&self, batch: &Batch) -> Vec<usize> {
        let mut failed = Vec::new();
        for index in batch.unreadable.iter().copied() {
            let Some(sequence_number) = batch.sequence_number(index) else {
                continue;
            };
            tracing::error!(
                sequence_number,
                "a stream record's key is not one that this system writes"
            );
            let sequence_number = sequence_number.to_owned();
            let notice = QuarantineNotice::Record {
                sequence_number,
                reason: "invalid_key",
            };
            if let Err(error) = self.queue.put(&notice).await {
                tracing::error!(error = chain(&error), "the quarantine queue cannot be reached");
                failed.push(index);
            }
        }
        failed
    }

    /// Advances one generation.
    async fn advance(
        &self,
        batch: &Batch,
        hints: &Hints,
        generation: domain::Generation,
        catch_up: CatchUp,
    ) -> Advanced {
        let advance = Advance {
            log: &self.log,
            store: &self.store,
            queue: &self.queue,
            generation,
            catch_up,
            retry: Retry::No,
            concurrency: self.concurrency,
            now: (self.clock)(),
        };
        let outcomes = advance.run(hints).await;
        let mut failed = Vec::new();
        let mut summary = Summary::default();
        let (mut gaps, mut waiting) = (0, 0);
        let mut newest: Option<Timestamp> = None;
        for (patient, outcome) in outcomes {
            let event = batch.newest(&patient);
            let correlation_id = event.map(|event| tracing::field::display(event.correlation_id));
            match outcome {
                Outcome::Reached { from, to, caught_up } => {
                    summary.applied += from.behind(to);
                    summary.catch_ups += u64::from(caught_up);
                    if to > from {
                        newest = newest.max(event.map(|event| event.recorded_at));
                    }
                    tracing::debug!(
                        patient_id = patient.as_str(),
                        correlation_id,
                        from = from.get(),
                        to = to.get(),
                        generation = generation.get(),
                        "patient advanced"
                    );
                }
                Outcome::GapLeft => gaps += 1,
                Outcome::Quarantined {
                    at,
                    reason,
                    newly: true,
                } => {
                    summary.quarantined += 1;
                    tracing::error!(
                        patient_id = patient.as_str(),
                        correlation_id,
                        version = at.get(),
                        reason = reason.code(),
                        generation = generation.get(),
                        "patient quarantined: the event can't be applied"
                    );
                }
                Outcome::Quarantined { newly: false, .. } => waiting += 1,
                Outcome::Failed(error) => {
                    let id = patient.as_str();
                    tracing::warn!(
                        patient_id = id,
                        correlation_id,
                        error = chain(&error),
                        "patient not advanced; will be retried"
                    );
                    failed.push(patient);
                }
            }
        }
        let applied_at = (self.clock)();
        // Two machines' clocks: the difference may come out negative.
        summary.lag_millis =
            newest.map(|recorded_at| u64::try_from(applied_at.millis_since(recorded_at)).unwrap_or_default());
        let correlation_id = batch.correlation_id().map(tracing::field::display);
        tracing::info!(
            generation = generation.get(),
            records = batch.records(),
            patients = hints.len(),
            correlation_id,
            applied = summary.applied,
            catch_ups = summary.catch_ups,
            gaps,
            quarantined = summary.quarantined,
            waiting,
            failed = failed.len(),
            lag_millis = summary.lag_millis,
            "batch applied"
        );
        if let Some(recorded_at) = newest {
            let progress = Progress {
                recorded_at,
                applied_at,
                software: Some(self.software.to_owned()),
            };
            // Only what /health says depends on it, and the next batch repeats it.
            if let Err(error) = self.store.put_progress(generation, &progress).await {
                tracing::warn!(error = chain(&error), "progress not recorded");
            }
        }
        Advanced { failed, summary }
    }
}

fn count(entries: usize) -> u64 {
    u64::try_from(entries).unwrap_or(u64::MAX)
}
