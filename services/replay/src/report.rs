//! What the commands print.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use domain::{PatientId, StreamVersion};

use crate::rebuild::Rebuilt;
use crate::status::Status;

/// A status for people.
pub(crate) fn status(status: &Status) -> String {
    let mut text = String::new();
    if status.generations.is_empty() {
        text.push_str("no generation yet: nothing was projected\n");
    } else {
        let _ = writeln!(
            text,
            "{:<12}{:<10}{:>10}{:>12}{:>12}{:>13}",
            "generation", "", "patients", "check-ins", "applied", "quarantined"
        );
    }
    for line in &status.generations {
        let _ = writeln!(
            text,
            "{:<12}{:<10}{:>10}{:>12}{:>12}{:>13}",
            line.generation.to_string(),
            line.role,
            line.patients,
            line.checkins,
            line.applied,
            line.quarantined
        );
    }
    let events = &status.events;
    let _ = write!(
        text,
        "events {}, not applied {} (of {} patients)",
        events.total, events.lag, events.patients_behind
    );
    text
}

/// A rebuild for people.
pub(crate) fn rebuilt(rebuilt: &Rebuilt, seconds: f64) -> String {
    let mut text = format!(
        "generation {} is active: {} events of {} patients in {seconds:.1} s",
        rebuilt.generation, rebuilt.events, rebuilt.patients
    );
    text.push_str(&quarantined(&rebuilt.quarantined));
    text
}

fn quarantined(patients: &BTreeMap<PatientId, StreamVersion>) -> String {
    patients
        .iter()
        .fold(String::new(), |mut text, (patient, version)| {
            let _ = write!(text, "\nquarantined: {patient} at event {version}");
            text
        })
}
