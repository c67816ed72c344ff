//! Progress on a terminal; nothing is drawn elsewhere.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use indicatif::{HumanCount, HumanDuration, ProgressBar, ProgressState, ProgressStyle};

use crate::builds::{Pass, Seen};

/// One bar for each pass, one after the other.
#[derive(Debug)]
pub(crate) struct Bars {
    apply: Bar,
    verify: Bar,
    items: Bar,
}

/// A bar that says how fast this run is, whatever earlier ones had done.
#[derive(Debug)]
struct Bar {
    bar: ProgressBar,
    pace: Arc<Pace>,
}

/// What this run has done.
#[derive(Debug, Default)]
struct Pace {
    done: AtomicU64,
    /// In milliseconds after the bar was made, plus 1; 0 before it began.
    began: AtomicU64,
}

impl Bars {
    /// Of passes over about so many events.
    pub(crate) fn of_events(events: u64) -> Result<Bars, String> {
        let template = "{msg} {bar:30} {human_pos} of about {human_len} events  {rate}  {left}";
        Ok(Bars {
            apply: Bar::new(ProgressBar::new(events).with_message("applying "), template)?,
            verify: Bar::new(ProgressBar::new(events).with_message("verifying"), template)?,
            items: Bar::new(ProgressBar::hidden(), template)?,
        })
    }

    /// Of something whose end is not known.
    pub(crate) fn of_items() -> Result<Bars, String> {
        let template = "{spinner} {human_pos} items removed  {rate}";
        Ok(Bars {
            apply: Bar::new(ProgressBar::hidden(), template)?,
            verify: Bar::new(ProgressBar::hidden(), template)?,
            items: Bar::new(ProgressBar::new_spinner(), template)?,
        })
    }

    /// Counts events that a pass has read.
    pub(crate) fn count(&self, pass: Pass, seen: Seen) {
        let bar = match pass {
            Pass::Apply => &self.apply,
            Pass::Verify => {
                self.apply.bar.finish_and_clear();
                &self.verify
            }
        };
        bar.advance(seen);
    }

    /// Counts items that were removed.
    pub(crate) fn count_items(&self, items: u64) {
        self.items.advance(Seen::now(items));
    }

    /// Leaves the line empty.
    pub(crate) fn clear(&self) {
        for bar in [&self.apply, &self.verify, &self.items] {
            bar.bar.finish_and_clear();
        }
    }
}

impl Bar {
    fn new(bar: ProgressBar, template: &str) -> Result<Bar, String> {
        let pace = Arc::new(Pace::default());
        let (of_rate, of_left) = (Arc::clone(&pace), Arc::clone(&pace));
        let style = ProgressStyle::with_template(template)
            .map_err(|error| error.to_string())?
            .with_key(
                "rate",
                move |state: &ProgressState, line: &mut dyn std::fmt::Write| {
                    let _ = line.write_str(&rate(of_rate.per_second(state.elapsed())));
                },
            )
            .with_key(
                "left",
                move |state: &ProgressState, line: &mut dyn std::fmt::Write| {
                    let missing = state.len().unwrap_or_default().saturating_sub(state.pos());
                    let _ = line.write_str(&left(missing, of_left.per_second(state.elapsed())));
                },
            );
        Ok(Bar {
            bar: bar.with_style(style),
            pace,
        })
    }

    fn advance(&self, seen: Seen) {
        if self.pace.began.load(Ordering::Relaxed) == 0 {
            self.bar.enable_steady_tick(Duration::from_millis(100));
        }
        self.pace.count(seen, self.bar.elapsed());
        self.bar.inc(seen.events);
        // The length is that of a few hours ago.
        if let Some(length) = self.bar.length() {
            self.bar.set_length(self.bar.position().max(length));
        }
    }
}

impl Pace {
    /// Counts what was done `elapsed` after the bar was made.
    fn count(&self, seen: Seen, elapsed: Duration) {
        let millis = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        let _ =
            self.began
                .compare_exchange(0, millis.saturating_add(1), Ordering::Relaxed, Ordering::Relaxed);
        if !seen.earlier {
            self.done.fetch_add(seen.events, Ordering::Relaxed);
        }
    }

    /// How many a second, since it began; `None` before anything was done.
    fn per_second(&self, elapsed: Duration) -> Option<u64> {
        let done = self.done.load(Ordering::Relaxed);
        let now = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        let began = self.began.load(Ordering::Relaxed).saturating_sub(1);
        let millis = now.saturating_sub(began).max(1);
        (done > 0).then(|| done.saturating_mul(1_000).div_ceil(millis))
    }
}

fn rate(per_second: Option<u64>) -> String {
    per_second.map_or(String::new(), |rate| format!("{}/s", HumanCount(rate)))
}

fn left(missing: u64, per_second: Option<u64>) -> String {
    let mut text = String::new();
    if let Some(rate) = per_second {
        let left = Duration::from_secs(missing.div_ceil(rate.max(1)));
        let _ = write!(text, "{} left", HumanDuration(left));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(seen: &[Seen], missing: u64, expected: (&str, &str)) {
        let pace = Pace::default();
        for seen in seen {
            pace.count(*seen, Duration::from_secs(5));
        }
        let per_second = pace.per_second(Duration::from_secs(9));
        let found = (rate(per_second), left(missing, per_second));
        assert_eq!((found.0.as_str(), found.1.as_str()), expected);
    }

    #[test]
    fn nothing_is_foretold_before_the_first_page() {
        check(&[], 40_000, ("", ""));
        check(&[Seen::earlier(70_000)], 30_000, ("", ""));
    }

    #[test]
    fn rate_is_that_of_this_run_in_whole_numbers() {
        check(
            &[Seen::now(0), Seen::now(10_001)],
            0,
            ("2,501/s", "0 seconds left"),
        );
        check(&[Seen::now(10_000)], 50_000, ("2,500/s", "20 seconds left"));
        check(
            &[Seen::earlier(70_000), Seen::now(10_000)],
            50_000,
            ("2,500/s", "20 seconds left"),
        );
    }
}
