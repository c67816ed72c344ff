//! Readers, who must never see anything but the fold of a patient's events up to one version.

use std::collections::BTreeMap;

use domain::{Generation, Patient, PatientId, PatientState, StreamVersion};
use read_model::{
    CheckinsQuery, Consistency, PageLimit, PatientError, PatientSummary, Queries, ReadModelStore as _,
    ReadModelTable, ReadModelUnavailable, RowRange,
};

use crate::truth::Truth;
use crate::violation::{Violation, ensure};

/// What readers have seen so far.
#[derive(Default)]
pub(crate) struct Readers {
    seen: BTreeMap<PatientId, StreamVersion>,
}

/// What is stored of every patient of whom there is an event.
pub(crate) struct Stored {
    /// The generation that readers see.
    pub(crate) active: Generation,
    pub(crate) states: BTreeMap<PatientId, PatientState>,
}

/// Why a look at the read model was not finished.
#[derive(Debug)]
pub(crate) enum LookError {
    /// The read model could not be read. Look again.
    Unavailable(ReadModelUnavailable),
    /// What was seen is wrong.
    Wrong(Violation),
}

/// A page smaller than most lists here.
const SMALL: PageLimit = PageLimit::new(2).unwrap();

impl Readers {
    /// Looks at every patient that changed since the last time. Gives what is stored now.
    pub(crate) async fn look(&mut self, truth: &Truth, store: &ReadModelTable) -> Result<Stored, LookError> {
        let active = store
            .control()
            .await?
            .map_or(Generation::FIRST, |control| control.active);
        let patients: Vec<PatientId> = truth.patients().cloned().collect();
        let states = store.states(active, &patients, Consistency::Strong).await?;
        // Nothing here makes one malformed.
        let states = states.into_iter().map(|state| state.unwrap().unwrap_or_default());
        let stored = Stored {
            active,
            states: patients.into_iter().zip(states).collect(),
        };
        let queries = Queries::new(store, active);
        for (patient, state) in &stored.states {
            let PatientState {
                applied,
                patient: known,
                ..
            } = state;
            // Across a promotion too, as nothing else happens at that moment.
            let before = self.seen.insert(patient.clone(), *applied).unwrap_or_default();
            ensure(before <= *applied, || {
                format!("{patient} goes back from version {before} to {applied}")
            })?;
            if before != *applied {
                check_patient(truth, patient, *applied, known.as_ref())?;
            }
            if before != *applied && known.is_some() {
                check_checkins(truth, &queries, patient, PageLimit::MAX).await?;
            }
        }
        Ok(stored)
    }

    /// Walks through the list of patients and through the check-ins of each, in small pages.
    pub(crate) async fn walk(&self, truth: &Truth, store: &ReadModelTable) -> Result<(), LookError> {
        let Some(control) = store.control().await? else {
            return Ok(());
        };
        let queries = Queries::new(store, control.active);
        let mut listed = Vec::new();
        let mut after: Option<PatientId> = None;
        loop {
            let page = queries.patients_by_id(after.as_ref(), SMALL).await?;
            for summary in page.items {
                let PatientSummary {
                    id,
                    patient,
                    version,
                    quarantined_since,
                } = summary;
                check_patient(truth, &id, version, Some(&patient))?;
                ensure(
                    quarantined_since.is_none() || truth.poison(&id) == Some(version.next()),
                    || format!("{id} is shown as quarantined at version {version}"),
                )?;
                listed.push(id);
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        let visible = self
            .seen
            .iter()
            .filter(|(_, version)| **version > StreamVersion::EMPTY);
        let expected: Vec<PatientId> = visible.map(|(patient, _)| patient.clone()).collect();
        ensure(listed == expected, || {
            format!("the list has {listed:?}, and {expected:?} are visible")
        })?;
        for patient in &listed {
            check_checkins(truth, &queries, patient, SMALL).await?;
        }
        Ok(())
    }
}

fn check_patient(
    truth: &Truth,
    id: &PatientId,
    version: StreamVersion,
    found: Option<&Patient>,
) -> Result<(), Violation> {
    let applicable = truth.applicable(id);
    ensure(version <= applicable, || {
        format!("{id} is shown at version {version}, and only {applicable} can be applied")
    })?;
    let expected = truth.as_of(id, version).patient;
    ensure(found == expected.as_ref(), || {
        format!("as of version {version} the events of {id} say {expected:?}, the read model {found:?}")
    })
}

/// Walks through the check-ins of one patient, pinned to the version of the first page.
async fn check_checkins(
    truth: &Truth,
    queries: &Queries<'_, ReadModelTable>,
    patient: &PatientId,
    limit: PageLimit,
) -> Result<(), LookError> {
    let mut query = CheckinsQuery {
        pinned: None,
        at_least: StreamVersion::EMPTY,
        range: RowRange {
            ascending: true,
            ..RowRange::default()
        },
        limit,
    };
    let mut rows = Vec::new();
    let version = loop {
        let listing = match queries.checkins(patient, query).await {
            Ok(listing) => listing,
            Err(PatientError::Unavailable(error)) => return Err(error.into()),
            Err(error @ (PatientError::Unknown | PatientError::NotYet { .. })) => {
                return Err(Violation(format!("{patient} was there and is not: {error}")).into());
            }
        };
        rows.extend(listing.page.items);
        query.pinned = Some(listing.version);
        query.range.after = listing.page.next;
        if listing.page.next.is_none() {
            break listing.version;
        }
    };
    let expected = truth.as_of(patient, version).rows;
    ensure(rows == expected, || {
        format!(
            "as of version {version} the check-ins of {patient} are {expected:?}, and {rows:?} are listed"
        )
    })?;
    Ok(())
}

impl From<ReadModelUnavailable> for LookError {
    fn from(error: ReadModelUnavailable) -> LookError {
        LookError::Unavailable(error)
    }
}

impl From<Violation> for LookError {
    fn from(violation: Violation) -> LookError {
        LookError::Wrong(violation)
    }
}
