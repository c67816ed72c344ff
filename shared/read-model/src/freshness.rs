//! Whether the read model follows the events, as far as the read model itself can tell.
//!
//! Nobody who only reads it can see that an event is missing. What can be seen is who has confirmed what, and when: the
//! projector, with each batch, how late it was; the reconciler, with each sweep, that everything up to a time is there,
//! and how late the projector would have been. When nothing happens, the projector is silent, and rightly so; the
//! reconciler never is. So the newest word counts, and a long silence of the reconciler counts as bad news. But a projector
//! that has died is silent too, and then the reconciler does its work, perhaps so often that nothing is ever very late:
//! what it had to apply twice in a row, without a word of the projector in between, counts as well.

use domain::Timestamp;

use crate::item::{Progress, Sweep};

/// How late the newest word may be, in milliseconds. Commonly it is a second or two; a minute is a throttled table.
const MAX_LAG_MILLIS: i64 = 2 * 60_000;
/// What waited no longer than this when a sweep found it, in milliseconds, the projector may have had in its hands: that
/// does not count against it.
const UNDER_WAY_MILLIS: i64 = 10_000;
/// So many sweeps that were due may be missing: one can fail, and the next be late.
const MISSED_SWEEPS: i64 = 3;
/// For how long everything need not have been compared, in milliseconds, where the time between two sweeps is not known;
/// and at most, as it is an hour at most (`terraform/application/variables.tf`) and one may fail.
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
    /// When events were last applied to the generation, by whomever.
    #[must_use]
    pub fn last_applied_at(&self) -> Option<Timestamp> {
        let by_projector = self.progress.as_ref().map(|last| last.applied_at);
        let by_reconciler = self.sweep.as_ref().and_then(|last| last.applied_at);
        by_projector.max(by_reconciler)
    }

    /// How late the generation was, in milliseconds, as far as the newest word goes. A sweep has seen all that was there; a
    /// batch says nothing of what is in no batch, so then the worse of the two counts.
    #[must_use]
    pub fn lag_millis(&self) -> Option<i64> {
        match (&self.progress, &self.sweep) {
            (None, None) => None,
            (Some(progress), None) => Some(lag_of_batch(progress)),
            (Some(progress), Some(sweep)) if progress.applied_at > sweep.swept_to => {
                Some(lag_of_batch(progress).max(millis(sweep.lag_millis)))
            }
            (_, Some(sweep)) => Some(millis(sweep.lag_millis)),
        }
    }

    /// What is wrong at the time `now`, if anything is.
    #[must_use]
    pub fn stall(&self, now: Timestamp) -> Option<Stall> {
        // A generation that nobody has swept yet is as old as its last batch at least.
        let since = match (&self.progress, &self.sweep) {
            (_, Some(sweep)) => sweep.swept_to,
            (Some(progress), None) => progress.recorded_at,
            (None, None) => return None,
        };
        let reason = if self.newest_is_late() || self.sweeps_stand_in() || self.sweeps_find_again() {
            StallReason::Lagging
        } else if now.millis_since(since) > self.max_silence() {
            StallReason::NotCompared
        } else {
            return None;
        };
        Some(Stall { since, reason })
    }

    /// Whether what was applied last, or found last, was too late.
    fn newest_is_late(&self) -> bool {
        let progress = self.progress.as_ref();
        let batch = progress.map(|last| (last.applied_at, lag_of_batch(last)));
        let sweep = self.sweep.as_ref();
        let sweep = sweep.map(|last| (last.swept_to, millis(last.lag_millis)));
        let newest = batch.into_iter().chain(sweep).max();
        newest.is_some_and(|(_, lag)| lag > MAX_LAG_MILLIS)
    }

    /// Whether the last two sweeps both had to apply what the projector should have applied, and it has applied nothing
    /// since the first of them.
    fn sweeps_stand_in(&self) -> bool {
        let silent_since = |sweep: Timestamp| {
            let spoke = self.progress.as_ref().map(|last| last.applied_at);
            spoke.is_none_or(|spoke| spoke <= sweep)
        };
        self.found_twice(UNDER_WAY_MILLIS).is_some_and(silent_since)
    }

    /// Whether the last two sweeps both found what was too late: whatever the projector does apply, it does not get all.
    fn sweeps_find_again(&self) -> bool {
        self.found_twice(MAX_LAG_MILLIS).is_some()
    }

    /// If both of the last two sweeps found what had waited for more than `waited` milliseconds, up to when the first of
    /// them had compared.
    fn found_twice(&self, waited: i64) -> Option<Timestamp> {
        let sweep = self.sweep.as_ref()?;
        let before = sweep.before?;
        let both = millis(sweep.lag_millis).min(millis(before.lag_millis)) > waited;
        both.then_some(before.swept_to)
    }

    /// For how long everything need not have been compared, in milliseconds.
    fn max_silence(&self) -> i64 {
        let period = self.sweep.as_ref().and_then(|last| last.period_millis);
        period.map_or(MAX_SILENCE_MILLIS, |period| {
            let silence = millis(period).saturating_mul(MISSED_SWEEPS);
            silence.clamp(MAX_LAG_MILLIS, MAX_SILENCE_MILLIS)
        })
    }
}

/// Two machines' clocks: the difference may come out negative.
fn lag_of_batch(progress: &Progress) -> i64 {
    progress.applied_at.millis_since(progress.recorded_at).max(0)
}

fn millis(stored: u64) -> i64 {
    i64::try_from(stored).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::item::EarlierSweep;

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_unix_millis(1_764_000_000_000 + minute * 60_000).unwrap()
    }

    /// A batch: at which minute its newest event was recorded, and at which it was applied.
    fn batch(recorded: i64, applied: i64) -> Option<Progress> {
        Some(Progress {
            recorded_at: at(recorded),
            applied_at: at(applied),
            software: None,
        })
    }

    /// A sweep: at which minute it began, and for how many seconds an event had waited then.
    fn sweep(began: i64, waited: u64) -> Option<Sweep> {
        Some(Sweep {
            lag_millis: waited * 1_000,
            ..Sweep::clean(at(began))
        })
    }

    /// Two sweeps in a row.
    fn sweeps(before: (i64, u64), last: (i64, u64)) -> Option<Sweep> {
        let before = EarlierSweep {
            swept_to: at(before.0),
            lag_millis: before.1 * 1_000,
        };
        sweep(last.0, last.1).map(|last| Sweep {
            before: Some(before),
            ..last
        })
    }

    /// What is wrong at minute 300.
    #[track_caller]
    fn check(progress: Option<Progress>, sweep: Option<Sweep>, expected: Option<(i64, StallReason)>) {
        let freshness = Freshness { progress, sweep };
        let expected = expected.map(|(since, reason)| Stall {
            since: at(since),
            reason,
        });
        assert_eq!(freshness.stall(at(300)), expected, "{freshness:?}");
    }

    #[test]
    fn a_projection_that_follows_is_well() {
        check(batch(299, 299), sweep(290, 0), None);
        check(batch(290, 292), sweep(290, 120), None);
        // Two machines' clocks may differ.
        check(batch(301, 300), sweep(301, 0), None);
    }

    #[test]
    fn silence_is_well_as_long_as_sweeps_find_nothing() {
        check(batch(0, 0), sweep(290, 0), None);
        check(None, sweep(290, 0), None);
        check(batch(0, 0), sweep(180, 0), None);
        check(batch(0, 0), sweep(179, 0), Some((179, StallReason::NotCompared)));
    }

    #[test]
    fn once_it_is_known_how_often_sweeps_come_three_may_be_missing() {
        #[track_caller]
        fn check_every(period: u64, began: i64, is_well: bool) {
            let sweep = sweep(began, 0).map(|last| Sweep {
                period_millis: Some(period),
                ..last
            });
            let expected = (!is_well).then_some((began, StallReason::NotCompared));
            check(batch(0, 0), sweep, expected);
        }
        check_every(5 * 60_000, 285, true);
        check_every(5 * 60_000, 284, false);
        // A moment in which a machine has other things to do is no silence…
        check_every(200, 298, true);
        check_every(200, 297, false);
        // …and two hours always are, even after a schedule that was off for days.
        check_every(3 * 86_400_000, 180, true);
        check_every(3 * 86_400_000, 179, false);
        check_every(u64::MAX, 179, false);
    }

    #[test]
    fn before_the_first_sweep_the_last_batch_counts() {
        check(None, None, None);
        check(batch(180, 180), None, None);
        check(batch(179, 180), None, Some((179, StallReason::NotCompared)));
        check(batch(290, 293), None, Some((290, StallReason::Lagging)));
    }

    #[test]
    fn events_that_were_applied_too_late_are_a_stall() {
        check(batch(290, 293), sweep(285, 0), Some((285, StallReason::Lagging)));
    }

    #[test]
    fn events_that_a_sweep_had_to_apply_are_a_stall_until_the_projector_is_back() {
        check(
            batch(270, 270),
            sweep(290, 900),
            Some((290, StallReason::Lagging)),
        );
        check(batch(291, 291), sweep(290, 900), None);
    }

    #[test]
    fn a_projector_that_sweeps_stand_in_for_is_a_stall_however_often_they_come() {
        let twice = || sweeps((297, 58), (298, 59));
        let lagging = Some((298, StallReason::Lagging));
        check(batch(296, 296), twice(), lagging);
        check(None, twice(), lagging);
        // Once can be bad luck.
        check(batch(296, 296), sweeps((297, 0), (298, 59)), None);
        check(batch(296, 296), sweeps((297, 59), (298, 0)), None);
        check(batch(296, 296), sweep(298, 59), None);
        // What was recorded just before may have been in the projector's hands.
        check(batch(296, 296), sweeps((297, 10), (298, 10)), None);
        // It has said something in between, or since.
        check(batch(297, 298), twice(), None);
        check(batch(299, 299), twice(), None);
    }

    #[test]
    fn a_stream_that_loses_records_again_and_again_is_a_stall_whatever_the_projector_says() {
        let again = || sweeps((290, 200), (295, 240));
        check(batch(299, 299), again(), Some((295, StallReason::Lagging)));
        check(batch(299, 299), sweeps((290, 0), (295, 240)), None);
        check(batch(299, 299), sweeps((290, 120), (295, 240)), None);
    }

    #[test]
    fn a_late_batch_is_forgiven_once_a_sweep_finds_nothing() {
        check(batch(270, 280), sweep(290, 0), None);
    }

    #[test]
    fn a_projector_that_works_does_not_stand_for_a_reconciler_that_does_not() {
        check(
            batch(300, 300),
            sweep(100, 0),
            Some((100, StallReason::NotCompared)),
        );
    }

    #[test]
    fn the_lag_is_that_of_the_newest_word_and_after_a_sweep_the_worse_one() {
        #[track_caller]
        fn check(progress: Option<Progress>, sweep: Option<Sweep>, seconds: Option<i64>) {
            let freshness = Freshness { progress, sweep };
            let expected = seconds.map(|seconds| seconds * 1_000);
            assert_eq!(freshness.lag_millis(), expected, "{freshness:?}");
        }
        check(None, None, None);
        check(batch(290, 291), None, Some(60));
        check(batch(291, 290), None, Some(0));
        check(None, sweep(290, 7), Some(7));
        // The projector is silent: what sweeps find is all there is…
        check(batch(270, 270), sweep(290, 900), Some(900));
        check(batch(270, 280), sweep(290, 0), Some(0));
        // …and when it speaks, it does not speak of what it was not told.
        check(batch(291, 292), sweep(290, 7), Some(60));
        check(batch(292, 292), sweep(290, 7), Some(7));
    }

    #[test]
    fn what_the_reconciler_applies_is_applied() {
        let by_sweep = |applied| {
            sweep(290, 0).map(|last| Sweep {
                applied_at: Some(at(applied)),
                ..last
            })
        };
        let check = |progress, sweep, expected: Option<i64>| {
            let freshness = Freshness { progress, sweep };
            assert_eq!(freshness.last_applied_at(), expected.map(at), "{freshness:?}");
        };
        check(None, sweep(290, 0), None);
        check(batch(270, 271), sweep(290, 0), Some(271));
        check(batch(270, 271), by_sweep(280), Some(280));
        check(batch(281, 281), by_sweep(280), Some(281));
        check(None, by_sweep(280), Some(280));
    }
}
