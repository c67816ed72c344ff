//! Deliberate mistakes, each of which takes the place of something correct. A simulator that does not find them
//! would not find those that nobody planted either.

/// A deliberate mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "planted-bugs", derive(clap::ValueEnum))]
pub enum Bug {
    /// A state is put whatever the applied version is.
    StateWithoutCondition,
    /// A state is put if it is newer than the stored one (`>`), rather than if it was made from that one (`=`).
    NewerStateAccepted,
    /// Of states that are put together, one that was refused is taken for one that was put.
    RefusedTakenForPut,
    /// What became of states that are put together is taken for what became of others of them.
    OutcomesOutOfOrder,
    /// The rows are put after the state that counts them.
    RowsAfterState,
    /// The state's count is increased in place, so what is delivered twice is counted twice.
    CountAddedTwice,
    /// An event is put whether or not there is one of its version.
    EventWithoutCondition,
    /// An event has a new id at each attempt.
    RandomEventId,
    /// Only the last event of a stream is compared with a fact, whatever came in between.
    LookBackOfOne,
    /// A fact whose version was taken gets the next one, though the event in the way may be the fact itself.
    VersionBumpedOnConflict,
    /// The projector answers that all went well, whatever happened.
    SwallowedFailure,
    /// The projector takes a changed event for a new one.
    ChangedEventApplied,
    /// The projector names the record after the one that failed.
    WrongSequenceNumber,
    /// An event that can't be applied fails its batch again and again.
    PoisonFailsTheBatch,
    /// An event that can't be applied is left out, and the next one applied.
    PoisonSkipped,
    /// A redrive applies the event that was in the way, and leaves the mark.
    MarkNeverLifted,
    /// A patient is marked as quarantined before the message is on the queue.
    MarkBeforeMessage,
    /// A failure of the queue is ignored.
    LostMessage,
    /// A reader looks at rows above the applied version.
    ReaderIgnoresApplied,
    /// A reader reads the rows before the summary.
    RowsReadBeforeSummary,
    /// A reader takes the first page of rows for all of them.
    FirstPageTakenForAll,
    /// A reader's rows come from the generation that is active by then.
    GenerationsMixed,
    /// A walk through check-ins does not stay at one version.
    CursorNotPinned,
    /// A generation is promoted as soon as it was begun.
    PromotedUnbuilt,
    /// A generation is promoted as soon as its events were applied once, whoever failed: it is neither verified nor
    /// compared with the active one.
    PromotedUnverified,
    /// What is put in the place of the control item depends on which generations there are, and on nothing else of it.
    ControlComparedInPart,
    /// A projector applies events to a generation that other software is building.
    BuildOfOthersApplied,
    /// Projection reads copies of the event table that may be old.
    OldEventsRead,
    /// The projector takes an event that does not follow what was applied.
    GapIgnored,
    /// A sweep begins exactly where the last one ended.
    SweepWithoutOverlap,
    /// A sweep takes the first page of the index for all of it.
    SweepNotPaged,
    /// A sweep is remembered by when it ended, rather than by when it began.
    SweptToItsEnd,
    /// A walk through the patients begins each page with the last one of the page before.
    PageRepeatsLast,
}

#[cfg(feature = "planted-bugs")]
impl Bug {
    /// All of them.
    #[must_use]
    pub fn all() -> &'static [Bug] {
        clap::ValueEnum::value_variants()
    }
}

#[cfg(feature = "planted-bugs")]
impl std::fmt::Display for Bug {
    /// The name by which the command line knows it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        clap::ValueEnum::to_possible_value(self).map_or(Ok(()), |value| f.write_str(value.get_name()))
    }
}
