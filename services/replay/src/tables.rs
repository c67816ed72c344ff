//! What the commands work on.

use event_log::EventLog;
use projection::{ProjectionStore, QuarantineQueue, SweepStore};
use read_model::ReadModelStore;

use crate::audit::AuditStore;
use crate::builds::BuildStore;
use crate::letters::Letters;
use crate::prune::PruneStore;

/// Everything that a command can reach, each by its own seam: one type parameter for the commands instead of eight. Two
/// implementations: the one that the command line connects, and the simulator's.
pub trait Tables: Sync {
    /// The events, read-only.
    type Log: EventLog;
    /// The read model, writable.
    type Projection: ProjectionStore + SweepStore;
    /// The read model as queries see it.
    type ReadModel: ReadModelStore;
    /// The read model as it is stored.
    type Audit: AuditStore;
    /// How far builds have come.
    type Builds: BuildStore;
    /// What can be removed.
    type Prunable: PruneStore;
    /// Who is told about events that can't be applied.
    type Queue: QuarantineQueue;
    /// What was told, and what an event source mapping told.
    type Letters: Letters;

    /// The events.
    fn log(&self) -> &Self::Log;
    /// The read model, writable.
    fn projection(&self) -> &Self::Projection;
    /// The read model as queries see it.
    fn read_model(&self) -> &Self::ReadModel;
    /// The read model as it is stored.
    fn audit(&self) -> &Self::Audit;
    /// How far builds have come.
    fn builds(&self) -> &Self::Builds;
    /// What can be removed.
    fn prunable(&self) -> &Self::Prunable;
    /// The quarantine queue.
    fn queue(&self) -> &Self::Queue;
    /// The messages on the quarantine queue, if it is known where that is.
    fn quarantined(&self) -> Option<&Self::Letters>;
    /// The messages about batches of stream records that were given up, if it is known where they are.
    fn given_up(&self) -> Option<&Self::Letters>;
}
