//! What has to be right after the one reconcile.

use std::collections::BTreeSet;

use domain::{EventId, StreamVersion};
use serde_json::json;

use crate::readers::Stored;
use crate::run::Run;
use crate::violation::{Violation, ensure};

/// Every fact is an event once; every patient has been brought to the end of the stream, or is quarantined at the
/// poison in it; somebody was told of that; and readers see what the events say.
pub(crate) async fn check_converged(run: &mut Run) -> Result<(), Violation> {
    run.truth.read_on()?;
    check_events(run)?;
    let stored = run.look_anew().await?;
    check_states(run, &stored)?;
    check_messages(run, &stored)
}

/// That no event is there twice, and that streams are dense and chained, was checked when they were read.
fn check_events(run: &Run) -> Result<(), Violation> {
    let found: BTreeSet<EventId> = run.truth.check_ins().collect();
    let missing = run.check_ins.difference(&found).count();
    let surplus = found.difference(&run.check_ins).count();
    ensure((missing, surplus) == (0, 0), || {
        format!("{missing} check-ins are missing, and {surplus} are events that nobody asked for")
    })?;
    for entry in run.system.roster.entries() {
        let registered = run.truth.registrations(&entry.id);
        ensure(registered == [StreamVersion::FIRST], || {
            format!("{} is registered by the events {registered:?}", entry.id)
        })?;
    }
    Ok(())
}

fn check_states(run: &Run, stored: &Stored) -> Result<(), Violation> {
    for (patient, state) in &stored.states {
        let mark = state.quarantine.as_ref();
        let found = (state.applied, mark.map(|mark| (mark.version, mark.reason.code())));
        let poison = run.truth.poison(patient);
        let expected = (
            run.truth.applicable(patient),
            poison.map(|version| (version, "unknown_schema_version")),
        );
        ensure(found == expected, || {
            format!("{patient} is at version {found:?}, and should be at {expected:?}")
        })?;
    }
    Ok(())
}

/// Messages may come twice, but only about what is true.
fn check_messages(run: &Run, stored: &Stored) -> Result<(), Violation> {
    let messages = run.system.proxy.messages();
    for patient in stored.states.keys() {
        let of_patient = messages
            .iter()
            .filter(|message| message["patientId"] == json!(patient));
        let poison = run.truth.poison(patient);
        let mut of_active = 0;
        for message in of_patient {
            ensure(
                poison.is_some_and(|version| message["version"] == json!(version)),
                || format!("there is a message that is not true: {message}"),
            )?;
            of_active += usize::from(message["generation"] == json!(stored.active));
        }
        ensure(poison.is_none() || of_active > 0, || {
            format!("{patient} is quarantined, and nobody was told")
        })?;
    }
    Ok(())
}
