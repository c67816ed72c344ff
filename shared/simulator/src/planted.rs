//! Deliberate mistakes, each of which takes the place of something correct. A simulator that does not find them
//! would not find those that nobody planted either.

use std::fmt;

/// A deliberate mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// A state is put whatever the applied version is.
    StateWithoutCondition,
    /// The rows are put after the state that counts them.
    RowsAfterState,
    /// The state's count is increased in place, so what is delivered twice is counted twice.
    CountAddedTwice,
    /// An event is put whether or not there is one of its version.
    EventWithoutCondition,
    /// An event has a new id at each attempt.
    RandomEventId,
    /// The projector answers that all went well, whatever happened.
    SwallowedFailure,
    /// The projector names the record after the one that failed.
    WrongSequenceNumber,
    /// An event that can't be applied fails its batch again and again.
    PoisonFailsTheBatch,
    /// A patient is marked as quarantined before the message is on the queue.
    MarkBeforeMessage,
    /// A failure of the queue is ignored.
    LostMessage,
    /// A reader looks at rows above the applied version.
    ReaderIgnoresApplied,
    /// A reader reads the rows before the summary.
    RowsReadBeforeSummary,
    /// A reader's rows come from the generation that is active by then.
    GenerationsMixed,
    /// A walk through check-ins does not stay at one version.
    CursorNotPinned,
    /// A generation is promoted as soon as it was begun.
    PromotedUnbuilt,
    /// Projection reads copies of the event table that may be old.
    OldEventsRead,
    /// The projector takes an event that does not follow what was applied.
    GapIgnored,
    /// A sweep begins exactly where the last one ended.
    SweepWithoutOverlap,
    /// A walk through the patients begins each page with the last one of the page before.
    PageRepeatsLast,
}

impl Bug {
    /// All of them.
    pub const ALL: [Bug; 19] = [
        Bug::StateWithoutCondition,
        Bug::RowsAfterState,
        Bug::CountAddedTwice,
        Bug::EventWithoutCondition,
        Bug::RandomEventId,
        Bug::SwallowedFailure,
        Bug::WrongSequenceNumber,
        Bug::PoisonFailsTheBatch,
        Bug::MarkBeforeMessage,
        Bug::LostMessage,
        Bug::ReaderIgnoresApplied,
        Bug::RowsReadBeforeSummary,
        Bug::GenerationsMixed,
        Bug::CursorNotPinned,
        Bug::PromotedUnbuilt,
        Bug::OldEventsRead,
        Bug::GapIgnored,
        Bug::SweepWithoutOverlap,
        Bug::PageRepeatsLast,
    ];
}

impl fmt::Display for Bug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
