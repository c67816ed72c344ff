//! What the commands print.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::ExitCode;

use domain::{Generation, PatientId, StreamVersion};
use reconciler::Summary;
use serde::Serialize;
use serde_json::{Value, json};

use crate::compare::Change;
use crate::difference::Difference;
use crate::promote::Promoted;
use crate::prune::Pruned;
use crate::rebuild::Rebuilt;
use crate::redrive::Redriven;
use crate::status::Status;
use crate::tail::TailEvent;
use crate::verify::{Finding, Verified};

/// The exit code of a verification that found something wrong.
const WRONG: u8 = 3;
/// Patients that a dry run names; the others are only counted.
const NAMED: usize = 1_000;

/// What a command has to say.
#[derive(Debug)]
pub(crate) struct Answer {
    /// For people.
    pub(crate) text: String,
    /// For scripts.
    pub(crate) json: String,
    code: u8,
}

impl Answer {
    fn new(text: String, json: &impl Serialize) -> Answer {
        Answer {
            text,
            // Maps with keys that are texts, and numbers: nothing that JSON could not hold.
            json: serde_json::to_string_pretty(json).unwrap_or_default(),
            code: 0,
        }
    }

    /// Of a command that printed as it went.
    pub(crate) fn nothing() -> Answer {
        Answer {
            text: String::new(),
            json: String::new(),
            code: 0,
        }
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code)
    }
}

/// A status.
pub(crate) fn status(status: &Status) -> Answer {
    let mut text = String::new();
    if status.generations.is_empty() {
        text.push_str("no generation yet: nothing was projected\n");
    } else {
        let _ = writeln!(
            text,
            "{:<12}{:<16}{:>10}{:>12}{:>12}{:>13}",
            "generation", "", "patients", "check-ins", "applied", "quarantined"
        );
    }
    for line in &status.generations {
        let _ = writeln!(
            text,
            "{:<12}{:<16}{:>10}{:>12}{:>12}{:>13}",
            line.generation.to_string(),
            line.role,
            line.patients,
            line.checkins,
            line.applied,
            line.quarantined
        );
    }
    if let Some(lease) = &status.at_work {
        let _ = writeln!(
            text,
            "`replay {}` was begun at {}, and has not ended",
            lease.command, lease.since
        );
    }
    let events = &status.events;
    let _ = write!(
        text,
        "events {}, not applied {} (of {} patients)",
        events.total, events.lag, events.patients_behind
    );
    if events.waiting > 0 {
        let _ = write!(
            text,
            ", waiting behind a quarantine {} (of {} patients)",
            events.waiting, events.patients_waiting
        );
    }
    Answer::new(text, status)
}

/// A rebuild.
///
/// `passes` are the seconds that each pass took.
pub(crate) fn rebuilt(rebuilt: &Rebuilt, seconds: f64, passes: Vec<(&'static str, f64)>) -> Answer {
    let passes: serde_json::Map<String, serde_json::Value> = passes
        .into_iter()
        .map(|(pass, seconds)| (pass.to_owned(), seconds.into()))
        .collect();
    let mut text = format!(
        "{}generation {} is active: {} events of {} patients",
        instead_of(rebuilt),
        rebuilt.generation,
        rebuilt.events,
        rebuilt.patients
    );
    if rebuilt.resumed > 0 {
        let _ = write!(
            text,
            "; runs that were cut short had read {} times already, and this one took {seconds:.1} s",
            rebuilt.resumed
        );
    } else {
        let _ = write!(text, " in {seconds:.1} s");
    }
    text.push_str(&quarantined(&rebuilt.quarantined));
    Answer::new(
        text,
        &json!({
            "segments": rebuilt.segments,
            "generation": rebuilt.generation,
            "promoted": true,
            "insteadOf": rebuilt.instead_of,
            "patients": rebuilt.patients,
            "events": rebuilt.events,
            "resumed": rebuilt.resumed,
            "quarantined": rebuilt.quarantined,
            "seconds": seconds,
            "passes": passes,
        }),
    )
}

/// That a dry run was for nothing, as events may have come since: only `promote` makes what it built the active one.
fn instead_of(rebuilt: &Rebuilt) -> String {
    rebuilt.instead_of.map_or_else(String::new, |given_up| {
        format!("generation {given_up}, built by a dry run and not promoted, was given up for another\n")
    })
}

/// What a dry run would change.
#[derive(Debug)]
pub(crate) struct DryRun {
    active: Generation,
    values: bool,
    changed: u64,
    changes: Vec<Change>,
    /// Of how many less would be shown.
    shows_less: u64,
    /// The first of them.
    less: Vec<PatientId>,
}

impl DryRun {
    pub(crate) fn new(active: Generation, values: bool) -> DryRun {
        DryRun {
            active,
            values,
            changed: 0,
            changes: Vec::new(),
            shows_less: 0,
            less: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, mut change: Change) {
        self.changed += 1;
        if change.shows_less {
            self.shows_less += 1;
            if self.less.len() < NAMED {
                self.less.push(change.patient_id.clone());
            }
        }
        if self.changes.len() < NAMED {
            change.differences = shown(change.differences, self.values);
            self.changes.push(change);
        }
    }
}

fn shown(differences: Vec<Difference>, values: bool) -> Vec<Difference> {
    if values {
        return differences;
    }
    differences.into_iter().map(Difference::without_values).collect()
}

fn described(difference: &Difference) -> String {
    let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "nothing".to_owned());
    if difference.found.is_none() && difference.expected.is_none() {
        return difference.field.clone();
    }
    format!(
        "{} ({} instead of {})",
        difference.field,
        value(&difference.found),
        value(&difference.expected)
    )
}

/// What to do with a generation that was built for a dry run.
fn advice(dry_run: &DryRun) -> String {
    if dry_run.shows_less == 0 {
        return "make it the active one with `replay promote`, or remove it with `replay prune --building`"
            .to_owned();
    }
    const SHOWN: usize = 10;
    let some = || dry_run.less.iter().take(SHOWN).map(ToString::to_string);
    let names: Vec<String> = some().collect();
    let flags: Vec<String> = some()
        .map(|patient| format!(" --accept-less {patient}"))
        .collect();
    let more = match dry_run.shows_less {
        less if less > SHOWN as u64 => " …",
        _ => "",
    };
    format!(
        "`replay promote` will refuse it: it shows less than now, or other events, of {} ({}{more})\n\
         restore their events, or remove it with `replay prune --building`, or accept that events are lost with\n\
         `replay promote{}{more}`",
        dry_run.shows_less,
        names.join(", "),
        flags.concat()
    )
}

/// A dry run.
pub(crate) fn dry_run(rebuilt: &Rebuilt, dry_run: &DryRun) -> Answer {
    let mut text = instead_of(rebuilt);
    for change in &dry_run.changes {
        let fields: Vec<String> = change.differences.iter().map(described).collect();
        let _ = writeln!(text, "{}: {}", change.patient_id, fields.join(", "));
    }
    let more = dry_run
        .changed
        .saturating_sub(u64::try_from(dry_run.changes.len()).unwrap_or(u64::MAX));
    if more > 0 {
        let _ = writeln!(text, "and {more} more");
    }
    let _ = writeln!(
        text,
        "generation {} is built and verified: {} events of {} patients; {} of them differ from {}",
        rebuilt.generation, rebuilt.events, rebuilt.patients, dry_run.changed, dry_run.active
    );
    text.push_str(&advice(dry_run));
    text.push_str(&quarantined(&rebuilt.quarantined));
    Answer::new(
        text,
        &json!({
            "segments": rebuilt.segments,
            "generation": rebuilt.generation,
            "promoted": false,
            "insteadOf": rebuilt.instead_of,
            "active": dry_run.active,
            "patients": rebuilt.patients,
            "events": rebuilt.events,
            "resumed": rebuilt.resumed,
            "quarantined": rebuilt.quarantined,
            "changed": dry_run.changed,
            "changes": dry_run.changes,
            "showsLess": dry_run.less,
        }),
    )
}

/// Findings without the values, which are patient data.
pub(crate) fn without_values(mut findings: Vec<Finding>) -> Vec<Finding> {
    for finding in &mut findings {
        if let Finding::Differs { differences, .. } = finding {
            *differences = shown(std::mem::take(differences), false);
        }
    }
    findings
}

/// A verification.
pub(crate) fn verified(mut verified: Verified, values: bool) -> Answer {
    if !values {
        verified.findings = without_values(std::mem::take(&mut verified.findings));
    }
    let mut text = String::new();
    for finding in &verified.findings {
        match finding {
            Finding::Differs {
                patient_id,
                version,
                differences,
            } if values => {
                let fields: Vec<String> = differences.iter().map(described).collect();
                let fields = fields.join(", ");
                let _ = writeln!(
                    text,
                    "{patient_id}: the read model at version {version}: {fields}"
                );
            }
            Finding::Differs { .. }
            | Finding::Behind { .. }
            | Finding::BrokenLink { .. }
            | Finding::Misfiled { .. }
            | Finding::Foreign { .. }
            | Finding::NoEvents { .. }
            | Finding::Unreadable { .. }
            | Finding::NotListed { .. }
            | Finding::Removed { .. } => drop(writeln!(text, "{finding}")),
        }
    }
    let verdict = match verified.wrong {
        0 => "is what the events say".to_owned(),
        wrong => format!("and the events: {wrong} found wrong"),
    };
    let _ = write!(
        text,
        "generation {} {verdict}: {} events of {} patients, {} check-ins, {} events not applied yet",
        verified.generation, verified.events, verified.patients, verified.checkins, verified.lag
    );
    text.push_str(&quarantined(&verified.quarantined));
    let code = if verified.wrong == 0 { 0 } else { WRONG };
    Answer {
        code,
        ..Answer::new(text, &verified)
    }
}

/// A promotion, or a roll back.
pub(crate) fn promoted(promoted: &Promoted) -> Answer {
    let mut text = format!(
        "generation {} is active, in place of {}",
        promoted.generation, promoted.previous
    );
    text.push_str(&quarantined(&promoted.quarantined));
    Answer::new(
        text,
        &json!({
            "generation": promoted.generation,
            "previous": promoted.previous,
            "quarantined": promoted.quarantined,
        }),
    )
}

/// What was removed.
pub(crate) fn pruned(pruned: &Pruned) -> Answer {
    let kept: Vec<String> = pruned.kept.iter().map(ToString::to_string).collect();
    Answer::new(
        format!("{} items removed; kept: {}", pruned.items, kept.join(", ")),
        &json!({ "items": pruned.items, "kept": pruned.kept }),
    )
}

/// A redrive; `unseen` says which queues were not looked at although they should have been, `note` what else is to be done.
pub(crate) fn redriven(redriven: &Redriven, unseen: Option<&str>, note: Option<&str>) -> Answer {
    let mut text = format!(
        "{} quarantined patients tried again, {} events applied",
        redriven.tried, redriven.events
    );
    if redriven.settled + redriven.unsettled + redriven.batches > 0 {
        let _ = write!(
            text,
            "\nmessages: {} settled and removed, {} stay; {} batches that had been given up reconciled",
            redriven.settled, redriven.unsettled, redriven.batches
        );
    }
    if !redriven.quarantined.is_empty() {
        let _ = write!(
            text,
            "\nstill quarantined, as the event can't be applied by this software: {} patients",
            redriven.quarantined.len()
        );
    }
    for (patient, still) in &redriven.quarantined {
        let _ = write!(
            text,
            "\nquarantined: {patient} at event {}: {}",
            still.version, still.reason
        );
    }
    if let Some(note) = note {
        let _ = write!(text, "\n{note}");
    }
    for (patient, error) in &redriven.failed {
        let _ = write!(text, "\nfailed, run it again: {patient}: {error}");
    }
    let code = u8::from(!redriven.failed.is_empty() || unseen.is_some());
    let mut json: Value = json!(redriven);
    for (name, said) in [("warning", unseen), ("note", note)] {
        if let (Some(said), Some(json)) = (said, json.as_object_mut()) {
            json.insert(name.to_owned(), said.into());
        }
    }
    Answer {
        code,
        ..Answer::new(text, &json)
    }
}

/// A reconcile.
pub(crate) fn reconciled(summary: &Summary) -> Answer {
    let text = format!(
        "{} patients compared, {} of them were behind, {} events applied, {} quarantined",
        summary.patients, summary.behind, summary.events, summary.quarantined
    );
    Answer::new(text, summary)
}

/// One event of a tail.
pub(crate) fn tail_event(event: &TailEvent, json: bool) -> String {
    if json {
        let value: Value = json!(event);
        return value.to_string();
    }
    let unread = "(can't be read)";
    format!(
        "{} {} {} {} {}",
        event.recorded_at,
        event.patient_id,
        event.version,
        event.event_type.as_deref().unwrap_or(unread),
        event.correlation_id.as_deref().unwrap_or("-")
    )
}

fn quarantined(patients: &BTreeMap<PatientId, StreamVersion>) -> String {
    patients
        .iter()
        .fold(String::new(), |mut text, (patient, version)| {
            let _ = write!(text, "\nquarantined: {patient} at event {version}");
            text
        })
}
