//! How the read model is stored (docs/EVENTS.md): one table, keys `pk` and `sk`, where everything that belongs to
//! a generation has a `pk` that opens with it.
//!
//! | `pk` | `sk` | item |
//! |---|---|---|
//! | `control` | `control` | [`Control`]: which generations there are |
//! | `g1#freshness` | `progress` | [`Progress`] |
//! | `g1#freshness` | `sweep` | [`Sweep`] |
//! | `g1#build` | … | how far a replay has come; the crate `replay` |
//! | `g1#patient#p-001` | `summary` | [`SummaryItem`] |
//! | `g1#patient#p-001` | `checkin#2026-11-24T09:30:00.000Z#000000000002` | [`RowItem`] |

use domain::{
    CheckinId, CheckinRow, Generation, HistoryDigest, ListingShard, Patient, PatientId, PatientName,
    PatientState, Quarantine, StreamVersion, Timestamp,
};
use serde::{Deserialize, Serialize};

/// Partition key.
pub const PK: &str = "pk";
/// Sort key.
pub const SK: &str = "sk";
/// Partition key of both indexes.
pub const SHARD: &str = "shard";
/// The attribute of a summary that is there while the patient is quarantined.
pub const QUARANTINE: &str = "quarantine";
/// The attribute of a row that is not in its key.
pub const CHECKIN_ID: &str = "checkin_id";
/// Sort key of [`BY_ID`].
pub const PATIENT_ID: &str = "patient_id";
/// Sort key of [`BY_RECENT`].
pub const RECENT_KEY: &str = "recent_key";
/// The attribute that the projection's conditional writes compare.
pub const APPLIED: &str = "applied";
/// The index of patients by id. It holds keys only, so a check-in never rewrites it.
pub const BY_ID: &str = "by_id";
/// The index of patients by most recent check-in. It holds all that a list shows, so a page needs no second read.
pub const BY_RECENT: &str = "by_recent";
/// Both keys of the control item.
pub const CONTROL: &str = "control";
/// The sort key of a patient's summary.
pub const SUMMARY: &str = "summary";
/// What the sort key of every check-in begins with.
pub const ROW_PREFIX: &str = "checkin#";
/// The sort key of a generation's progress.
pub const PROGRESS: &str = "progress";
/// The sort key of a generation's sweep.
pub const SWEEP: &str = "sweep";

/// Which generations there are, and the key that cursors are authenticated with. The one item outside every
/// generation; changed only by conditional writes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Control {
    /// The generation that queries read.
    pub active: Generation,
    /// Since when they do; absent for the first one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_since: Option<Timestamp>,
    /// The generation that a replay is building, or bringing back, if one is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub building: Option<Generation>,
    /// Since when the projector applies new events to it; present with `building`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub building_since: Option<Timestamp>,
    /// Which software folds the events into it; absent while one is brought back. Nobody else writes to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub building_software: Option<String>,
    /// Whether it was active before, and is being brought back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub brings_back: bool,
    /// The generation that was active before, if it is still there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Generation>,
    /// The highest generation ever begun; the next one is above it.
    pub latest: Generation,
    /// How often the item was changed. Each change counts it up, so that the item is never again what it was: a change
    /// that takes effect late is refused, even if all else is as it was when it was asked for.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub changes: u64,
    /// The key that cursors are authenticated with.
    pub cursor_key: CursorKey,
}

impl Control {
    /// The generation that is being built or brought back, unless it is none of the business of this software: what
    /// another one builds may follow other rules.
    #[must_use]
    pub fn building_for(&self, software: &str) -> Option<Generation> {
        let of_others = self
            .building_software
            .as_ref()
            .is_some_and(|other| other != software);
        self.building.filter(|_| !of_others)
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_zero(changes: &u64) -> bool {
    *changes == 0
}

/// A secret of 32 bytes, in 64 hexadecimal digits. It has no readable `Debug`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CursorKey(String);

impl CursorKey {
    /// A key of these bytes, which must come from a source of cryptographic randomness.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> CursorKey {
        CursorKey(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// What to key an HMAC with: the text form.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl std::fmt::Debug for CursorKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CursorKey(..)")
    }
}

/// How far a generation has come: written once per batch of stream records that the projector applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// When the newest event of the batch was recorded.
    pub recorded_at: Timestamp,
    /// When the batch had been applied. The difference is the lag.
    pub applied_at: Timestamp,
    /// Which software folds the events in the projector; absent in what older ones wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub software: Option<String>,
}

/// How far the reconciler has compared a generation with the events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sweep {
    /// What was recorded before is in the generation, but for what waits behind a quarantine: when the last sweep that
    /// finished began; or how far one came that was cut short; or the oldest event that one could not apply.
    pub swept_to: Timestamp,
    /// How long, at that time, the oldest event had waited that the projector had not applied, in milliseconds; 0 if
    /// there was none. The sweep applied it.
    #[serde(default)]
    pub lag_millis: u64,
    /// When a sweep last applied anything; absent if none ever did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied_at: Option<Timestamp>,
    /// What the sweep before this one came to; absent for the first one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<EarlierSweep>,
    /// The tick of the schedule that the last scheduled sweep was for; absent before there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tick: Option<Timestamp>,
    /// The time between that tick and the one before, in milliseconds; absent before there were two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub period_millis: Option<u64>,
}

/// What is kept of the sweep before the last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct EarlierSweep {
    /// As [`Sweep::swept_to`].
    pub swept_to: Timestamp,
    /// As [`Sweep::lag_millis`].
    pub lag_millis: u64,
}

impl Sweep {
    /// One that found nothing, and of which nothing else is known.
    #[must_use]
    pub const fn clean(swept_to: Timestamp) -> Sweep {
        Sweep {
            swept_to,
            lag_millis: 0,
            applied_at: None,
            before: None,
            tick: None,
            period_millis: None,
        }
    }
}

/// A patient's summary. It is listed by both indexes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SummaryItem {
    /// `g1#patient#p-001`
    pub pk: String,
    /// `summary`
    pub sk: String,
    /// `g1#05`
    pub shard: String,
    /// Which patient.
    pub patient_id: PatientId,
    /// The time of the last check-in, or `-` (which sorts before any time), then the patient's id.
    pub recent_key: String,
    /// The highest version folded in.
    pub applied: StreamVersion,
    /// Of which events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<HistoryDigest>,
    /// Present once the registration was applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<PatientName>,
    /// Present with `name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registered_at: Option<Timestamp>,
    /// How many rows readers see.
    #[serde(default)]
    pub checkin_count: u64,
    /// Present once there is a check-in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_checkin_at: Option<Timestamp>,
    /// Present while the patient is quarantined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quarantine: Option<Quarantine>,
}

/// One check-in. Its time and its version are in its key and nowhere else: a page of check-ins costs by the size of these.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowItem {
    /// `g1#patient#p-001`
    pub pk: String,
    /// `checkin#2026-11-24T09:30:00.000Z#000000000002`: when, and the version of its event; readers see it once that has been
    /// applied.
    pub sk: String,
    /// Which check-in.
    pub checkin_id: CheckinId,
}

/// Partition key of everything about one patient.
#[must_use]
pub fn patient_pk(generation: Generation, patient: &PatientId) -> String {
    format!("{generation}#patient#{patient}")
}

/// Partition key of what tells how fresh a generation is: its progress, and its sweep. Every request asks for both, so they are
/// where one query finds them.
#[must_use]
pub fn freshness_pk(generation: Generation) -> String {
    format!("{generation}#freshness")
}

/// The generation that an item with this partition key belongs to, if it belongs to one.
#[must_use]
pub fn generation_of(pk: &str) -> Option<Generation> {
    let (generation, _) = pk.split_once('#')?;
    generation.strip_prefix('g')?.parse().ok().map(Generation::new)
}

/// Partition key of both indexes.
#[must_use]
pub fn shard_key(generation: Generation, shard: ListingShard) -> String {
    format!("{generation}#{shard}")
}

/// Sort key of a row. Versions are padded, so that they sort as text.
#[must_use]
pub fn row_sk(occurred_at: Timestamp, version: StreamVersion) -> String {
    format!("{ROW_PREFIX}{occurred_at}#{:012}", version.get())
}

/// The row with this sort key; `None` if it is not that of a row.
#[must_use]
pub fn row(sk: &str, checkin_id: CheckinId) -> Option<CheckinRow> {
    let (occurred_at, version) = sk.strip_prefix(ROW_PREFIX)?.split_once('#')?;
    let row = CheckinRow {
        checkin_id,
        occurred_at: occurred_at.parse().ok()?,
        version: StreamVersion::new(version.parse().ok()?),
    };
    (row_sk(row.occurred_at, row.version) == sk).then_some(row)
}

/// Sort key of [`BY_RECENT`].
#[must_use]
pub fn recent_key(last_checkin_at: Option<Timestamp>, patient: &PatientId) -> String {
    match last_checkin_at {
        Some(at) => format!("{at}#{patient}"),
        None => format!("-#{patient}"),
    }
}

impl SummaryItem {
    /// The item that holds this state.
    #[must_use]
    pub fn new(generation: Generation, patient: &PatientId, state: &PatientState) -> SummaryItem {
        let known = state.patient.as_ref();
        let last_checkin_at = known.and_then(|known| known.last_checkin_at);
        SummaryItem {
            pk: patient_pk(generation, patient),
            sk: SUMMARY.to_owned(),
            shard: shard_key(generation, ListingShard::of(patient)),
            patient_id: patient.clone(),
            recent_key: recent_key(last_checkin_at, patient),
            applied: state.applied,
            history: state.history,
            name: known.map(|known| known.name.clone()),
            registered_at: known.map(|known| known.registered_at),
            checkin_count: known.map_or(0, |known| known.checkin_count),
            last_checkin_at,
            quarantine: state.quarantine.clone(),
        }
    }

    /// The state that the item holds.
    #[must_use]
    pub fn into_state(self) -> PatientState {
        let patient = self
            .name
            .zip(self.registered_at)
            .map(|(name, registered_at)| Patient {
                name,
                registered_at,
                checkin_count: self.checkin_count,
                last_checkin_at: self.last_checkin_at,
            });
        PatientState {
            applied: self.applied,
            history: self.history,
            patient,
            quarantine: self.quarantine,
        }
    }
}

impl RowItem {
    /// The item that holds this row.
    #[must_use]
    pub fn new(generation: Generation, patient: &PatientId, row: &CheckinRow) -> RowItem {
        RowItem {
            pk: patient_pk(generation, patient),
            sk: row_sk(row.occurred_at, row.version),
            checkin_id: row.checkin_id,
        }
    }

    /// The row that the item holds; `None` if its sort key is not one that a row has.
    #[must_use]
    pub fn into_row(self) -> Option<CheckinRow> {
        row(&self.sk, self.checkin_id)
    }
}
