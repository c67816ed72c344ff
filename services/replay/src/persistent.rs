//! Reconciling until nobody is left who only failed.

use domain::{Generation, PatientId, StreamVersion, Timestamp};
use projection::{AdvanceError, Reconcile, ReconcileError, Reconciled, Retry};
use runtime::clock::Clock;

use std::collections::BTreeMap;

use crate::tables::Tables;

/// How often patients that could not be advanced are tried again before the command gives up. Each attempt
/// already contains the SDK's own, with pauses.
const ATTEMPTS: u32 = 5;

/// A reconcile that tries again those who failed.
#[derive(Debug)]
pub(crate) struct PersistentReconcile<'a, T> {
    pub(crate) tables: &'a T,
    pub(crate) generation: Generation,
    pub(crate) retry: Retry,
    pub(crate) concurrency: usize,
    pub(crate) clock: Clock,
}

/// Why somebody still lags. Run the command again: what was repaired stays so.
#[derive(Debug, thiserror::Error)]
pub enum CatchUpError {
    /// The tables can't be read.
    #[error(transparent)]
    Reconcile(#[from] ReconcileError),
    /// A patient could not be advanced, however often it was tried.
    #[error("patient {patient} could not be advanced")]
    Patient {
        /// Which one.
        patient: PatientId,
        /// What the last attempt said.
        source: AdvanceError,
    },
}

impl<T: Tables> PersistentReconcile<'_, T> {
    fn reconcile(&self) -> Reconcile<'_, T::Log, T::Projection, T::Queue> {
        Reconcile {
            log: self.tables.log(),
            store: self.tables.projection(),
            queue: self.tables.queue(),
            generation: self.generation,
            retry: self.retry,
            concurrency: self.concurrency,
            now: (self.clock)(),
        }
    }

    /// Brings these patients to the heads of their streams; those who can't get there, and where they stopped.
    pub(crate) async fn to_heads(
        &self,
        patients: &[PatientId],
    ) -> Result<BTreeMap<PatientId, StreamVersion>, CatchUpError> {
        let reconciled = self.reconcile().to_heads(patients).await?;
        self.insist(reconciled).await
    }

    /// Reconciles the patients of whom something was recorded at `from` or later; those who can't get there.
    pub(crate) async fn since(
        &self,
        from: Timestamp,
    ) -> Result<BTreeMap<PatientId, StreamVersion>, CatchUpError> {
        let reconciled = self.reconcile().since(from).await?;
        self.insist(reconciled).await
    }

    async fn insist(
        &self,
        mut reconciled: Reconciled,
    ) -> Result<BTreeMap<PatientId, StreamVersion>, CatchUpError> {
        for _ in 0..ATTEMPTS {
            let failed: Vec<PatientId> = reconciled.failed.keys().cloned().collect();
            if failed.is_empty() {
                break;
            }
            let again = self.reconcile().to_heads(&failed).await?;
            reconciled.quarantined.extend(again.quarantined);
            reconciled.failed = again.failed;
        }
        match reconciled.failed.pop_first() {
            None => Ok(reconciled.quarantined),
            Some((patient, source)) => Err(CatchUpError::Patient { patient, source }),
        }
    }
}
