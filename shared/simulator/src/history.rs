//! What happened in a schedule, as people read it.

/// How to read a history.
pub const LEGEND: &str = "\
Each line is a step: its number, the worker whose turn it was, and what the worker did. A worker that fails or
crashes is begun again under another number. Where no worker is named, it happened in the world around them.
  p-0     a patient; event 2 of p-0 is the second of that patient's stream
  g1      a generation of the read model; \"at 2\" says that version 2 is applied there
  x16     the same, so many times in a row
  ***     which promise is broken, by its number in docs/ARCHITECTURE.md";

/// What happened so far.
#[derive(Debug, Default)]
pub(crate) struct History(Vec<Line>);

#[derive(Debug)]
struct Line {
    step: u32,
    who: String,
    what: String,
    times: u32,
}

impl History {
    /// Adds what somebody did, or counts that the same was done again.
    pub(crate) fn add(&mut self, step: u32, who: &str, what: String) {
        match self.0.last_mut() {
            Some(last) if last.who == who && last.what == what => last.times += 1,
            _ => self.0.push(Line {
                step,
                who: who.to_owned(),
                what,
                times: 1,
            }),
        }
    }

    pub(crate) fn into_lines(self) -> Vec<String> {
        let shown = |line: Line| {
            let Line {
                step,
                who,
                what,
                times,
            } = line;
            match times {
                1 => format!("{step:5}  {who:<26} {what}"),
                _ => format!("{step:5}  {who:<26} {what} (x{times})"),
            }
        };
        self.0.into_iter().map(shown).collect()
    }
}
