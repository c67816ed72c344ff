//! Whether the read model follows the events, as far as the read model itself can tell.
//!
//! Nobody who only reads it can see that an event is missing. What can be seen is who has confirmed what, and when: the
//! projector, with each batch, how late it was; the reconciler, with each sweep, that everything up to a time is there,
//! and how late the projector would have been. When nothing happens, the projector is silent, and rightly so; the
//! reconciler never is. So the newest word counts, and a long silence of the reconciler counts as bad news.

use domain::Timestamp;

use crate::item::{Progress, Sweep};

/// How late the newest word may be, in milliseconds. Commonly it is a second or two; a minute is a throttled table.
const MAX_LAG_MILLIS: i64 = 2 * 60_000;
/// For how long everything need not have been compared, in milliseconds: more than the hour that is the longest time
/// between two sweeps (`terraform/application/variables.tf`), and another in which one may fail.
const MAX_SILENCE_MILLIS: i64 = 2 * 60 * 60_000;

/// Who has confirmed what of a generation.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Freshness {
    /// The projector's last word; `None` before anything was projected.
    pub progress: Option<Progress>,
    /// The reconciler's last word; `None` before its first sweep.
    pub sweep: Option<Sweep>,
}

/// The generation is known to be behind, or may be without anybody noticing. Tell whoever relies on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stall {
    /// What was recorded from then on may be missing.
    pub since: Timestamp,
    /// What shows it.
    pub reason: StallReason,
}

/// What shows a stall.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StallReason {
    /// The last events waited too long until they were applied, or until a sweep found them.
    Lagging,
    /// Too long ago, everything was compared the last time.
    NotCompared,
}

impl Freshness {
    /// What is wrong at the time `now`, if anything is.
    #[must_use]
    pub fn stall(&self, now: Timestamp) -> Option<Stall> {
        let progress = self.progress.as_ref();
        let sweep = self.sweep.as_ref();
        let applied = progress.map(|last| (last.applied_at, last.applied_at.millis_since(last.recorded_at)));
        let swept = sweep.map(|last| {
            let lag = i64::try_from(last.lag_millis).unwrap_or(i64::MAX);
            (last.swept_to, lag)
        });
        let (_, lag) = applied.into_iter().chain(swept).max()?;
        // A generation that nobody has swept yet is as old as its last batch at least.
        let since = sweep
            .map(|last| last.swept_to)
            .or(progress.map(|last| last.recorded_at))?;
        let reason = if lag > MAX_LAG_MILLIS {
            StallReason::Lagging
        } else if now.millis_since(since) > MAX_SILENCE_MILLIS {
            StallReason::NotCompared
        } else {
            return None;
        };
        Some(Stall { since, reason })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_unix_millis(1_764_000_000_000 + minute * 60_000).unwrap()
    }

    /// What is wrong at minute 300. A batch: when its newest event was recorded, and when it was applied. A sweep:
    /// when it began, and for how many minutes an event had waited then.
    #[track_caller]
    fn check(batch: Option<(i64, i64)>, sweep: Option<(i64, u64)>, expected: Option<(i64, StallReason)>) {
        let freshness = Freshness {
            progress: batch.map(|(recorded, applied)| Progress {
                recorded_at: at(recorded),
                applied_at: at(applied),
                software: None,
            }),
            sweep: sweep.map(|(began, waited)| Sweep {
                swept_to: at(began),
                lag_millis: waited * 60_000,
            }),
        };
        let expected = expected.map(|(since, reason)| Stall {
            since: at(since),
            reason,
        });
        assert_eq!(freshness.stall(at(300)), expected, "{freshness:?}");
    }

    #[test]
    fn a_projection_that_follows_is_well() {
        check(Some((299, 299)), Some((290, 0)), None);
        check(Some((290, 292)), Some((290, 2)), None);
        // Two machines' clocks may differ.
        check(Some((301, 300)), Some((301, 0)), None);
    }

    #[test]
    fn silence_is_well_as_long_as_sweeps_find_nothing() {
        check(Some((0, 0)), Some((290, 0)), None);
        check(None, Some((290, 0)), None);
        check(Some((0, 0)), Some((180, 0)), None);
        check(
            Some((0, 0)),
            Some((179, 0)),
            Some((179, StallReason::NotCompared)),
        );
    }

    #[test]
    fn before_the_first_sweep_the_last_batch_counts() {
        check(None, None, None);
        check(Some((180, 180)), None, None);
        check(Some((179, 180)), None, Some((179, StallReason::NotCompared)));
        check(Some((290, 293)), None, Some((290, StallReason::Lagging)));
    }

    #[test]
    fn events_that_were_applied_too_late_are_a_stall() {
        check(
            Some((290, 293)),
            Some((285, 0)),
            Some((285, StallReason::Lagging)),
        );
    }

    #[test]
    fn events_that_a_sweep_had_to_apply_are_a_stall_until_the_projector_is_back() {
        check(
            Some((270, 270)),
            Some((290, 15)),
            Some((290, StallReason::Lagging)),
        );
        check(Some((291, 291)), Some((290, 15)), None);
    }

    #[test]
    fn a_late_batch_is_forgiven_once_a_sweep_finds_nothing() {
        check(Some((270, 280)), Some((290, 0)), None);
    }

    #[test]
    fn a_projector_that_works_does_not_stand_for_a_reconciler_that_does_not() {
        check(
            Some((300, 300)),
            Some((100, 0)),
            Some((100, StallReason::NotCompared)),
        );
    }
}
