//! Progress: bars on a terminal, and elsewhere a line every now and then.

use std::fmt::Write as _;
use std::future::Future;
use std::io::IsTerminal as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{HumanCount, HumanDuration, ProgressBar, ProgressState, ProgressStyle};

use crate::builds::{Pass, Seen};

/// How often a line is written where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(30);

/// One bar for each pass, one after the other.
#[derive(Debug)]
pub(crate) struct Bars {
    apply: Bar,
    verify: Bar,
    /// Of what counts nothing.
    phase: ProgressBar,
    items: Bar,
    /// What there was to do so far, and since when; what is going on now is the last.
    begun: Mutex<Vec<(Now, Instant)>>,
}

/// What is going on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Now {
    Beginning,
    In(Pass),
    Removing,
}

/// What a pass does, in words.
const fn doing(pass: Pass) -> &'static str {
    match pass {
        Pass::Apply => "applying ",
        Pass::Verify => "verifying",
        Pass::Audit => "looking whether it agrees with itself",
        Pass::Reconcile => "applying what was recorded meanwhile",
        Pass::Compare => "comparing with what is shown now",
        Pass::ReconcileAgain => "it is active; applying what was left out until now",
    }
}

/// What a pass is called in JSON.
const fn name(pass: Pass) -> &'static str {
    match pass {
        Pass::Apply => "apply",
        Pass::Verify => "verify",
        Pass::Audit => "audit",
        Pass::Reconcile => "reconcile",
        Pass::Compare => "compare",
        Pass::ReconcileAgain => "reconcileAgain",
    }
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
        Bars::new(
            ProgressBar::new(events),
            ProgressBar::new(events),
            ProgressBar::hidden(),
        )
    }

    /// Of something whose end is not known.
    pub(crate) fn of_items() -> Result<Bars, String> {
        Bars::new(
            ProgressBar::hidden(),
            ProgressBar::hidden(),
            ProgressBar::new_spinner(),
        )
    }

    fn new(apply: ProgressBar, verify: ProgressBar, items: ProgressBar) -> Result<Bars, String> {
        let events = "{msg} {bar:30} {human_pos} of about {human_len} events  {rate}  {left}";
        let phase = ProgressStyle::with_template("{spinner} {msg}  {elapsed}");
        let phase = ProgressBar::new_spinner().with_style(phase.map_err(|error| error.to_string())?);
        Ok(Bars {
            apply: Bar::new(apply.with_message(doing(Pass::Apply)), events)?,
            verify: Bar::new(verify.with_message(doing(Pass::Verify)), events)?,
            phase,
            items: Bar::new(items, "{spinner} {human_pos} items removed  {rate}")?,
            begun: Mutex::new(vec![(Now::Beginning, Instant::now())]),
        })
    }

    /// Counts events that a pass has read, or shows that it has begun.
    pub(crate) fn count(&self, pass: Pass, seen: Seen) {
        self.is_now(Now::In(pass));
        match pass {
            Pass::Apply => self.apply.advance(seen),
            Pass::Verify => {
                self.apply.bar.finish_and_clear();
                self.verify.advance(seen);
            }
            Pass::Audit | Pass::Reconcile | Pass::Compare | Pass::ReconcileAgain => {
                self.apply.bar.finish_and_clear();
                self.verify.bar.finish_and_clear();
                self.phase.reset_elapsed();
                self.phase.set_message(doing(pass));
                self.phase.enable_steady_tick(Duration::from_millis(100));
            }
        }
    }

    /// Counts items that were removed.
    pub(crate) fn count_items(&self, items: u64) {
        self.is_now(Now::Removing);
        self.items.advance(Seen::now(items));
    }

    /// Does the work, and leaves the line empty at its end. Where nobody sees the bars, `say` is given a line every now and
    /// then.
    pub(crate) async fn watch<V>(&self, work: impl Future<Output = V>, say: impl Fn(&str)) -> V {
        let done = if std::io::stderr().is_terminal() {
            work.await
        } else {
            self.tell(work, say).await
        };
        for bar in [&self.apply.bar, &self.verify.bar, &self.phase, &self.items.bar] {
            bar.finish_and_clear();
        }
        done
    }

    async fn tell<V>(&self, work: impl Future<Output = V>, say: impl Fn(&str)) -> V {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return done,
                () = tokio::time::sleep(LINE_EVERY) => say(&self.line()),
            }
        }
    }

    /// How long each pass has taken, in seconds, in their order.
    pub(crate) fn seconds(&self) -> Vec<(&'static str, f64)> {
        let begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        let ends = begun.iter().skip(1).map(|(_, began)| *began);
        begun
            .iter()
            .zip(ends.chain([Instant::now()]))
            .filter_map(|((now, began), end)| match now {
                Now::In(pass) => Some((name(*pass), end.duration_since(*began).as_secs_f64())),
                Now::Beginning | Now::Removing => None,
            })
            .collect()
    }

    fn is_now(&self, now: Now) {
        let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        if begun.last().is_none_or(|(last, _)| *last != now) {
            begun.push((now, Instant::now()));
        }
    }

    /// What is going on, in a line.
    fn line(&self) -> String {
        let begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        let now = begun.last().map_or(Now::Beginning, |(now, _)| *now);
        let of_events = |pass, bar: &Bar| {
            let position = HumanCount(bar.bar.position());
            let length = HumanCount(bar.bar.length().unwrap_or_default());
            format!("{}: {position} of about {length} events", doing(pass).trim_end())
        };
        match now {
            Now::Beginning => "at work".to_owned(),
            Now::In(pass @ Pass::Apply) => of_events(pass, &self.apply),
            Now::In(pass @ Pass::Verify) => of_events(pass, &self.verify),
            Now::In(pass) => doing(pass).to_owned(),
            Now::Removing => format!("{} items removed", HumanCount(self.items.bar.position())),
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

    #[tokio::test(start_paused = true)]
    async fn where_there_is_no_terminal_a_line_says_every_half_minute_what_is_going_on() {
        let bars = Bars::of_events(40_000).unwrap();
        let work = async {
            tokio::time::sleep(Duration::from_secs(31)).await;
            bars.count(Pass::Apply, Seen::now(12_000));
            tokio::time::sleep(Duration::from_secs(30)).await;
            bars.count(Pass::Verify, Seen::now(40_001));
            tokio::time::sleep(Duration::from_secs(30)).await;
            bars.count(Pass::Compare, Seen::NOTHING);
            tokio::time::sleep(Duration::from_secs(58)).await;
            "done"
        };
        let said = Mutex::new(Vec::new());
        let done = bars
            .tell(work, |line| said.lock().unwrap().push(line.to_owned()))
            .await;
        assert_eq!(done, "done");
        let expected = [
            "at work",
            "applying: 12,000 of about 40,000 events",
            "verifying: 40,001 of about 40,001 events",
            "comparing with what is shown now",
        ];
        assert_eq!(*said.lock().unwrap(), expected);
    }

    #[tokio::test(start_paused = true)]
    async fn what_takes_no_half_minute_says_nothing() {
        let bars = Bars::of_items().unwrap();
        let work = tokio::time::sleep(Duration::from_secs(29));
        bars.tell(work, |line| panic!("{line}")).await;
    }

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
