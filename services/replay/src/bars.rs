//! Progress on a terminal; nothing is drawn elsewhere.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::builds::Pass;

/// One bar for each pass, one after the other.
#[derive(Debug)]
pub(crate) struct Bars {
    apply: ProgressBar,
    verify: ProgressBar,
    items: ProgressBar,
}

impl Bars {
    /// Of passes over about so many events.
    pub(crate) fn of_events(events: u64) -> Result<Bars, String> {
        let template = "{msg} {bar:30} {human_pos} of about {human_len} events  {per_sec}  {eta} left";
        let style = ProgressStyle::with_template(template).map_err(|error| error.to_string())?;
        let bar = |name| {
            ProgressBar::new(events)
                .with_style(style.clone())
                .with_message(name)
        };
        Ok(Bars {
            apply: bar("applying "),
            verify: bar("verifying"),
            items: ProgressBar::hidden(),
        })
    }

    /// Of something whose end is not known.
    pub(crate) fn of_items() -> Result<Bars, String> {
        let template = "{spinner} {human_pos} items removed  {per_sec}";
        let style = ProgressStyle::with_template(template).map_err(|error| error.to_string())?;
        Ok(Bars {
            apply: ProgressBar::hidden(),
            verify: ProgressBar::hidden(),
            items: ProgressBar::new_spinner().with_style(style),
        })
    }

    /// Counts events that a pass has read.
    pub(crate) fn count(&self, pass: Pass, events: u64) {
        let bar = match pass {
            Pass::Apply => &self.apply,
            Pass::Verify => {
                self.apply.finish_and_clear();
                &self.verify
            }
        };
        advance(bar, events);
    }

    /// Counts items that were removed.
    pub(crate) fn count_items(&self, items: u64) {
        advance(&self.items, items);
    }

    /// Leaves the line empty.
    pub(crate) fn clear(&self) {
        for bar in [&self.apply, &self.verify, &self.items] {
            bar.finish_and_clear();
        }
    }
}

fn advance(bar: &ProgressBar, by: u64) {
    if bar.position() == 0 {
        bar.reset();
        bar.enable_steady_tick(Duration::from_millis(100));
    }
    bar.inc(by);
    // The length is that of a few hours ago.
    if let Some(length) = bar.length() {
        bar.set_length(bar.position().max(length));
    }
}
