//! What came of a run, and how it compares with what was aimed at (docs/PERFORMANCE.md).

use std::fmt;
use std::time::Duration;

use crate::Measured;
use crate::measure::{BatchCost, ProjectorCost, RequestCost, StartCost};
use crate::stores::Stores;
use crate::table::{Table, digits, mebibytes, megabytes, millis, times};
use crate::units::{Use, Work};

/// What came of a run.
pub(crate) struct Summary<'a> {
    /// The services first, then the peers.
    pub(crate) measured: &'a [Measured],
    /// The projection, by the same connection as the other ways to project.
    pub(crate) rate: &'a ProjectorCost,
    /// How long from an append to an answer with it, the shortest first.
    pub(crate) readable: &'a [Duration],
    /// Storing, and replaying.
    pub(crate) stores: &'a Stores,
    /// What is consumed of DynamoDB's capacity.
    pub(crate) uses: &'a [Use],
    /// What a request is made of.
    pub(crate) requests: &'a [RequestCost],
    /// The functions: their programs' sizes in bytes, and how they start.
    pub(crate) starts: &'a [(&'static str, u64, StartCost)],
    /// What it was measured on, and with.
    pub(crate) machine: String,
    /// How long building took: little, if all was built before.
    pub(crate) built: Duration,
    /// How long measuring took.
    pub(crate) took: Duration,
}

/// Something aimed at.
struct Target {
    what: String,
    aim: String,
    found: String,
    met: bool,
}

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\nA query, GET /patients/{{id}}/checkins with 50 rows, DynamoDB over TLS\n"
        )?;
        writeln!(f, "{}", self.queries())?;
        writeln!(f, "What a request of this system is made of, warm\n")?;
        let mut requests = Table::new(&["", "CPU"]);
        for request in self.requests {
            requests.row(&[request.what.to_owned(), millis(request.cpu)]);
        }
        writeln!(f, "{requests}")?;
        writeln!(
            f,
            "A projector, CPU time for 100 stream records (time on the clock for the batch)\n"
        )?;
        writeln!(f, "{}", self.projectors())?;
        writeln!(f, "Appending a check-in\n")?;
        writeln!(f, "{}", self.appends())?;
        writeln!(f, "Applying events, DynamoDB's time included, and without TLS\n")?;
        writeln!(f, "{}", self.rates())?;
        let part = |percent: usize| {
            let place = (self.readable.len() * percent / 100).min(self.readable.len().saturating_sub(1));
            millis(self.readable.get(place).copied().unwrap_or_default())
        };
        writeln!(
            f,
            "From an append to an answer with it: p50 {}, p99 {} on the clock\n",
            part(50),
            part(99)
        )?;
        writeln!(
            f,
            "Calls, and the capacity units that DynamoDB says they consumed, for one event or request\n"
        )?;
        writeln!(f, "{}", self.capacity())?;
        writeln!(
            f,
            "The functions: their programs, and their starts (to the first request for an invocation)\n"
        )?;
        writeln!(f, "{}", self.functions())?;
        writeln!(f, "Targets\n")?;
        let mut targets = Table::new(&["", "aim", "found", ""]);
        for target in self.targets() {
            let met = if target.met { "ok" } else { "NOT MET" };
            targets.row(&[target.what, target.aim, target.found, met.to_owned()]);
        }
        writeln!(f, "{targets}")?;
        writeln!(f, "{}", self.machine)?;
        let (built, took) = (self.built.as_secs_f64(), self.took.as_secs_f64());
        writeln!(f, "built in {built:.0} s, measured in {took:.0} s")
    }
}

impl Summary<'_> {
    fn queries(&self) -> Table {
        let heading = [
            "",
            "cold CPU",
            "(init)",
            "cold wall",
            "warm CPU",
            "warm wall",
            "peak memory",
        ];
        let mut table = Table::new(&heading);
        for Measured { name, query, .. } in self.measured {
            table.row(&[
                (*name).to_owned(),
                millis(query.cold.cpu),
                millis(query.init.cpu),
                millis(query.cold.wall),
                millis(query.warm.cpu),
                millis(query.warm.wall),
                mebibytes(query.peak_memory),
            ]);
        }
        table
    }

    fn projectors(&self) -> Table {
        let Some(first) = self.measured.first() else {
            return Table::default();
        };
        let mut heading = vec![String::new()];
        heading.extend(first.projector.batches.iter().map(|batch| {
            let kind = if batch.shape.check_ins > 1 {
                "dense"
            } else {
                "sparse"
            };
            format!("{} {kind}", batch.shape.records())
        }));
        heading.push("peak memory".to_owned());
        let mut table = Table::default();
        table.row(&heading);
        for Measured { name, projector, .. } in self.measured {
            let mut row = vec![(*name).to_owned()];
            for index in 0..first.projector.batches.len() {
                row.push(projector.batches.get(index).map_or_else(
                    || "-".to_owned(),
                    |batch| format!("{} ({})", millis(batch.cpu_per_100()), millis(batch.taken.wall)),
                ));
            }
            row.push(mebibytes(projector.peak_memory));
            table.row(&row);
        }
        table
    }

    fn functions(&self) -> Table {
        let mut table = Table::new(&["", "size", "start CPU", "start wall", "memory then"]);
        for (name, size, start) in self.starts {
            table.row(&[
                (*name).to_owned(),
                mebibytes(*size),
                millis(start.init.cpu),
                millis(start.init.wall),
                mebibytes(start.memory),
            ]);
        }
        table
    }

    fn appends(&self) -> Table {
        let heading = ["", "CPU", "rate", "long streams: CPU", "rate", "write units"];
        let mut table = Table::new(&heading);
        for (short, long) in self.stores.appends.iter().zip(&self.stores.long_appends) {
            table.row(&[
                short.name.to_owned(),
                millis(short.work.cpu_per_event()),
                format!("{}/s", digits(short.work.rate())),
                millis(long.work.cpu_per_event()),
                format!("{}/s", digits(long.work.rate())),
                digits(short.write_units),
            ]);
        }
        table
    }

    /// Events a second that the projector applies.
    fn projector_rate(&self) -> Option<f64> {
        self.rate.batches.first().map(BatchCost::rate)
    }

    fn rates(&self) -> Table {
        let rate = |events: f64| format!("{}/s", digits(events));
        let mut table = Table::new(&["", "events"]);
        if let Some(events) = self.projector_rate() {
            table.row(&["the projector, batches of 1,000, dense".to_owned(), rate(events)]);
        }
        if let Some(one_by_one) = &self.stores.transactions {
            table.row(&[
                "one transaction per event".to_owned(),
                rate(one_by_one.work.rate()),
            ]);
        }
        let replay = &self.stores.replay;
        table.row(&["a replay, while it applies".to_owned(), rate(replay.rate())]);
        let whole = f64::from(replay.events) / replay.all.as_secs_f64();
        table.row(&["the same, verified and promoted".to_owned(), rate(whole)]);
        table.row(&[
            "BatchWriteItem and nothing else".to_owned(),
            rate(replay.ceiling.rate()),
        ]);
        table
    }

    fn capacity(&self) -> Table {
        let mut table = Table::new(&["", "calls", "read units", "write units", "of which"]);
        for one in self.uses {
            let what = match one.work {
                Work::Append => "append, an event",
                Work::ProjectDense => "project, an event of 100, dense",
                Work::ProjectSparse => "project, an event of 100, sparse",
                Work::Rebuild => "rebuild, verify and promote, an event",
                Work::PatientsById => "GET /patients, 50 by id",
                Work::PatientsByRecent => "GET /patients, 50 by most recent",
                Work::CheckIns => "GET /patients/{id}/checkins, 50",
                Work::Patient => "GET /patients/{id}",
            };
            let writes: Vec<String> = one
                .writes()
                .map(|(name, units)| format!("{units:.2} {name}"))
                .collect();
            table.row(&[
                what.to_owned(),
                format!("{:.2}", one.calls()),
                format!("{:.2}", one.read_units()),
                format!("{:.2}", one.write_units()),
                writes.join(", "),
            ]);
        }
        table
    }

    fn capacity_targets(&self) -> Vec<Target> {
        let of = |work: Work| self.uses.iter().find(|one| one.work == work);
        let mut targets = Vec::new();
        for (name, work, aim) in [
            ("dense", Work::ProjectDense, 3.5),
            ("sparse", Work::ProjectSparse, 6.0),
        ] {
            if let (Some(append), Some(project)) = (of(Work::Append), of(work)) {
                let what = format!("write units of an event, append and projection, {name}");
                targets.push(at_most(&what, aim, append.write_units() + project.write_units()));
            }
        }
        for (name, work, aim) in [
            ("patients by id", Work::PatientsById, 30.0),
            ("patients by most recent", Work::PatientsByRecent, 8.0),
            ("check-ins", Work::CheckIns, 2.5),
        ] {
            if let Some(page) = of(work) {
                let what = format!("read units of a page of 50, {name}");
                targets.push(at_most(&what, aim, page.read_units()));
            }
        }
        targets
    }

    fn store_targets(&self) -> Vec<Target> {
        let mut targets = Vec::new();
        for (streams, contests) in [
            ("", &self.stores.appends),
            (", long streams", &self.stores.long_appends),
        ] {
            let Some((ours, others)) = contests.split_first() else {
                continue;
            };
            for (other, aim) in others.iter().zip([1.5, 3.0]) {
                let what = format!("append{streams}, CPU, against {}", other.name);
                let cpu = times(other.work.cpu_per_event(), ours.work.cpu_per_event());
                targets.push(at_least(&what, aim, cpu));
                let what = format!("append{streams}, rate, against {}", other.name);
                targets.push(at_least(&what, aim, ours.work.rate() / other.work.rate()));
            }
        }
        if let (Some(ours), Some(one_by_one)) = (self.projector_rate(), &self.stores.transactions) {
            let what = "projection, rate, against one transaction per event";
            targets.push(at_least(what, 5.0, ours / one_by_one.work.rate()));
        }
        let replay = &self.stores.replay;
        let ratio = replay.rate() / replay.ceiling.rate();
        targets.push(at_least("replay, rate, against BatchWriteItem", 0.8, ratio));
        targets
    }

    fn targets(&self) -> Vec<Target> {
        let Some((ours, peers)) = self.measured.split_first() else {
            return Vec::new();
        };
        let peer = |name: &str| peers.iter().find(|peer| peer.name == name);
        let mut targets = Vec::new();
        for (name, aim) in [("Node", 20.0), ("stock Rust", 5.0)] {
            if let Some(peer) = peer(name) {
                let what = format!("cold start, CPU, against {name}");
                targets.push(at_least(
                    &what,
                    aim,
                    times(peer.query.cold.cpu, ours.query.cold.cpu),
                ));
                let what = format!("cold start, wall, against {name}");
                targets.push(at_least(
                    &what,
                    aim,
                    times(peer.query.cold.wall, ours.query.cold.wall),
                ));
            }
        }
        let cold = ours.query.cold.cpu;
        targets.push(Target {
            what: "cold start, CPU".to_owned(),
            aim: "<= 6 ms".to_owned(),
            found: millis(cold),
            met: cold <= Duration::from_millis(6),
        });
        targets.push(at_most_megabytes(
            "peak memory of a query",
            8,
            ours.query.peak_memory,
        ));
        let largest = self
            .starts
            .iter()
            .map(|(_, bytes, _)| *bytes)
            .max()
            .unwrap_or_default();
        targets.push(at_most_megabytes("largest program", 5, largest));
        for (name, aim) in [("Node", 10.0), ("Python", 8.0)] {
            if let Some(peer) = peer(name) {
                let what = format!("warm query, CPU, against {name}");
                targets.push(at_least(
                    &what,
                    aim,
                    times(peer.query.warm.cpu, ours.query.warm.cpu),
                ));
            }
        }
        if let Some(node) = peer("Node") {
            let pairs = ours.projector.batches.iter().zip(&node.projector.batches);
            for (one, other) in pairs.filter(|(one, _)| one.shape.records() == 100) {
                let kind = if one.shape.check_ins > 1 {
                    "dense"
                } else {
                    "sparse"
                };
                let what = format!("projector, 100 {kind} records, CPU, against Node");
                let ratio = times(BatchCost::cpu_per_100(other), BatchCost::cpu_per_100(one));
                targets.push(at_least(&what, 10.0, ratio));
            }
        }
        targets.extend(self.capacity_targets());
        targets.extend(self.store_targets());
        targets
    }
}

fn at_least(what: &str, aim: f64, found: f64) -> Target {
    Target {
        what: what.to_owned(),
        aim: format!(">= {aim} x"),
        found: format!("{} x", digits(found)),
        met: found >= aim,
    }
}

fn at_most(what: &str, aim: f64, found: f64) -> Target {
    Target {
        what: what.to_owned(),
        aim: format!("<= {aim}"),
        found: format!("{found:.2}"),
        met: found <= aim,
    }
}

fn at_most_megabytes(what: &str, aim: u64, found: u64) -> Target {
    Target {
        what: what.to_owned(),
        aim: format!("<= {aim} MB"),
        found: megabytes(found),
        met: found <= aim * 1_000_000,
    }
}
