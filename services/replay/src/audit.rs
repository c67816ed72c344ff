//! What is stored of a patient, with the keys that it is stored under. Queries trust the keys; a verification does not.

use std::future::Future;

use domain::{CheckinRow, Generation, PatientId, StreamVersion};
use projection::ProjectionUnavailable;
use read_model::item;

use crate::difference::{Account, Difference};
use domain::PatientState;

/// One item of a patient's partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoredItem {
    /// The summary.
    Summary {
        /// The attributes by which the indexes find it, where they are not what its content gives.
        misfiled: Vec<Difference>,
    },
    /// Any other.
    Row {
        /// Its sort key.
        key: String,
        /// The check-in; `None` if it can't be read.
        row: Option<CheckinRow>,
    },
}

/// Some items.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ItemPage {
    /// In the order of their keys.
    pub items: Vec<StoredItem>,
    /// After which sort key to go on; `None` at the end.
    pub next: Option<String>,
}

/// Reading the read model as it is stored. Two implementations: [`crate::ReplayTable`], and the simulator's.
pub trait AuditStore: Send + Sync {
    /// A page of everything that is stored of a patient, after this sort key; consistent.
    fn items(
        &self,
        generation: Generation,
        patient: &PatientId,
        after: Option<String>,
    ) -> impl Future<Output = Result<ItemPage, ProjectionUnavailable>> + Send;
}

/// What queries see of a patient with this summary, which was read before.
pub(crate) async fn account(
    store: &impl AuditStore,
    generation: Generation,
    patient: &PatientId,
    state: PatientState,
) -> Result<Account, ProjectionUnavailable> {
    let mut account = Account {
        state,
        ..Account::default()
    };
    let mut after = None;
    loop {
        let page = store.items(generation, patient, after).await?;
        for stored in page.items {
            match stored {
                StoredItem::Summary { misfiled } => account.misfiled.extend(misfiled),
                StoredItem::Row { key, row } => account.add(key, row),
            }
        }
        after = page.next;
        if after.is_none() {
            return Ok(account);
        }
    }
}

impl Account {
    /// Takes in an item that readers take for a check-in. A row that is not applied yet is none, but one that is not where
    /// its content says would be one in the wrong place.
    fn add(&mut self, key: String, row: Option<CheckinRow>) {
        let version = row.map(|row| row.version);
        let in_place = row.filter(|row| item::row_sk(row.occurred_at, row.version) == key);
        match in_place {
            Some(row) if row.version > self.state.applied => {}
            Some(row) if !self.rows.contains_key(&row.version) => drop(self.rows.insert(row.version, row)),
            Some(_) | None => _ = self.extra.insert((version.unwrap_or(StreamVersion::EMPTY), key)),
        }
    }
}
