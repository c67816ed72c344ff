//! The read model in DynamoDB.

use std::collections::HashMap;
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::query::builders::QueryFluentBuilder;
use aws_sdk_dynamodb::types::{AttributeValue, KeysAndAttributes};
use domain::{CheckinId, CheckinRow, Generation, ListingShard, PatientId, PatientState, Timestamp};
use futures::future::try_join_all;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::freshness::Freshness;
use crate::item::{
    self, BY_ID, BY_RECENT, CHECKIN_ID, CONTROL, Control, PATIENT_ID, PK, PROGRESS, RECENT_KEY, SHARD, SK,
    SUMMARY, SWEEP, SummaryItem,
};
use crate::store::{
    Consistency, MalformedSummary, Page, ReadModelStore, ReadModelUnavailable, RecentEntry, RowRange,
    StoredState,
};

/// What BatchGetItem takes at most
/// (<https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchGetItem.html>).
const BATCH_GET: usize = 100;
/// How often keys that DynamoDB leaves unprocessed are asked for before the read fails.
const BATCH_ATTEMPTS: u32 = 6;
/// The wait before they are asked for again; each further one is twice as long.
const FIRST_BACKOFF: Duration = Duration::from_millis(20);

/// The read model in a DynamoDB table.
#[derive(Debug, Clone)]
pub struct ReadModelTable {
    client: Client,
    table: String,
}

impl ReadModelTable {
    /// The table with this name.
    #[must_use]
    pub fn new(client: Client, table: impl Into<String>) -> ReadModelTable {
        ReadModelTable {
            client,
            table: table.into(),
        }
    }

    /// The summaries of at most [`BATCH_GET`] patients, by their partition keys: a malformed one may not say whose
    /// it is.
    async fn summaries(
        &self,
        generation: Generation,
        patients: &[PatientId],
        consistency: Consistency,
    ) -> Result<HashMap<String, Result<PatientState, MalformedSummary>>, ReadModelUnavailable> {
        let keys = patients.iter().map(|patient| {
            HashMap::from([
                (PK.to_owned(), text(item::patient_pk(generation, patient))),
                (SK.to_owned(), text(SUMMARY)),
            ])
        });
        let wanted = KeysAndAttributes::builder()
            .consistent_read(consistency == Consistency::Strong)
            .set_keys(Some(keys.collect()))
            .build()
            .map_err(unavailable)?;
        let mut wanted = HashMap::from([(self.table.clone(), wanted)]);
        let mut found = HashMap::with_capacity(patients.len());
        for attempt in 0..BATCH_ATTEMPTS {
            if attempt > 0 {
                tokio::time::sleep(FIRST_BACKOFF * (1 << (attempt - 1))).await;
            }
            let answer = self
                .client
                .batch_get_item()
                .set_request_items(Some(wanted))
                .send()
                .await
                .map_err(unavailable)?;
            for items in answer.responses.into_iter().flat_map(HashMap::into_values) {
                for stored in items {
                    let pk = stored.get(PK).and_then(|pk| pk.as_s().ok()).cloned();
                    let state = decode_summary(stored).map(SummaryItem::into_state);
                    found.extend(pk.map(|pk| (pk, state)));
                }
            }
            wanted = answer.unprocessed_keys.unwrap_or_default();
            if wanted.is_empty() {
                return Ok(found);
            }
        }
        Err(unavailable("keys were left unprocessed"))
    }

    fn query_shard(&self, index: &str, generation: Generation, shard: ListingShard) -> QueryFluentBuilder {
        self.client
            .query()
            .table_name(&self.table)
            .index_name(index)
            .expression_attribute_names("#shard", SHARD)
            .expression_attribute_values(":shard", text(item::shard_key(generation, shard)))
    }
}

impl ReadModelStore for ReadModelTable {
    async fn control(&self) -> Result<Option<Control>, ReadModelUnavailable> {
        let found = self
            .client
            .get_item()
            .table_name(&self.table)
            .key(PK, text(CONTROL))
            .key(SK, text(CONTROL))
            .send()
            .await
            .map_err(unavailable)?;
        found.item.map(decode).transpose()
    }

    async fn freshness(&self, generation: Generation) -> Result<Freshness, ReadModelUnavailable> {
        let found = self
            .client
            .query()
            .table_name(&self.table)
            .key_condition_expression("#pk = :pk")
            .expression_attribute_names("#pk", PK)
            .expression_attribute_values(":pk", text(item::freshness_pk(generation)))
            .send()
            .await
            .map_err(unavailable)?;
        let mut freshness = Freshness::default();
        for stored in found.items.into_iter().flatten() {
            match stored.get(SK).and_then(|sk| sk.as_s().ok()).map(String::as_str) {
                Some(PROGRESS) => freshness.progress = Some(decode(stored)?),
                Some(SWEEP) => freshness.sweep = Some(decode(stored)?),
                _ => {}
            }
        }
        Ok(freshness)
    }

    async fn states(
        &self,
        generation: Generation,
        patients: &[PatientId],
        consistency: Consistency,
    ) -> Result<Vec<StoredState>, ReadModelUnavailable> {
        let chunks = patients
            .chunks(BATCH_GET)
            .map(|chunk| self.summaries(generation, chunk, consistency));
        let mut found: HashMap<String, Result<PatientState, MalformedSummary>> =
            try_join_all(chunks).await?.into_iter().flatten().collect();
        Ok(patients
            .iter()
            .map(|patient| found.remove(&item::patient_pk(generation, patient)).transpose())
            .collect())
    }

    async fn rows(
        &self,
        generation: Generation,
        patient: &PatientId,
        range: RowRange,
        limit: u16,
    ) -> Result<Page<CheckinRow>, ReadModelUnavailable> {
        let pk = item::patient_pk(generation, patient);
        let first = range.from.map_or_else(|| "checkin#".to_owned(), row_floor);
        // `$` follows `#`, so this is above every row.
        let last = range.to.map_or_else(|| "checkin$".to_owned(), row_floor);
        if first > last {
            return Ok(Page {
                items: Vec::new(),
                more: false,
            });
        }
        let start = range.after.map(|key| {
            HashMap::from([
                (PK.to_owned(), text(pk.as_str())),
                (SK.to_owned(), text(item::row_sk(key.occurred_at, key.version))),
            ])
        });
        let page = self
            .client
            .query()
            .table_name(&self.table)
            .consistent_read(true)
            // No row has a key equal to a bound, so BETWEEN is half-open here.
            .key_condition_expression("#pk = :pk AND #sk BETWEEN :first AND :last")
            .expression_attribute_names("#pk", PK)
            .expression_attribute_names("#sk", SK)
            // Who asks knows whose rows they are. That costs as many units, and a third less to read.
            .projection_expression("#sk, #checkin_id")
            .expression_attribute_names("#checkin_id", CHECKIN_ID)
            .expression_attribute_values(":pk", text(pk.as_str()))
            .expression_attribute_values(":first", text(first))
            .expression_attribute_values(":last", text(last))
            .scan_index_forward(range.ascending)
            .limit(limit.into())
            .set_exclusive_start_key(start)
            .send()
            .await
            .map_err(unavailable)?;
        let more = page.last_evaluated_key.is_some();
        let items = page
            .items
            .into_iter()
            .flatten()
            .map(|stored| {
                let RowContent { sk, checkin_id } = decode(stored)?;
                item::row(&sk, checkin_id).ok_or_else(|| unavailable("a check-in has the key of none"))
            })
            .collect::<Result<_, _>>()?;
        Ok(Page { items, more })
    }

    async fn ids(
        &self,
        generation: Generation,
        shard: ListingShard,
        after: Option<&PatientId>,
        limit: u16,
    ) -> Result<Page<PatientId>, ReadModelUnavailable> {
        let mut query = self
            .query_shard(BY_ID, generation, shard)
            .key_condition_expression("#shard = :shard");
        if let Some(after) = after {
            query = query
                .key_condition_expression("#shard = :shard AND #id > :after")
                .expression_attribute_names("#id", PATIENT_ID)
                .expression_attribute_values(":after", text(after.as_str()));
        }
        entries(query.limit(limit.into()), id_entry).await
    }

    async fn recent(
        &self,
        generation: Generation,
        shard: ListingShard,
        after: Option<&str>,
        limit: u16,
    ) -> Result<Page<RecentEntry>, ReadModelUnavailable> {
        let mut query = self
            .query_shard(BY_RECENT, generation, shard)
            .key_condition_expression("#shard = :shard");
        if let Some(after) = after {
            query = query
                .key_condition_expression("#shard = :shard AND #recent < :after")
                .expression_attribute_names("#recent", RECENT_KEY)
                .expression_attribute_values(":after", text(after));
        }
        let query = query.scan_index_forward(false).limit(limit.into());
        entries(query, recent_entry).await
    }
}

/// A page of an index. Malformed entries are left out, so that they cost only their own patients.
async fn entries<T>(
    query: QueryFluentBuilder,
    entry: fn(HashMap<String, AttributeValue>) -> Result<T, MalformedSummary>,
) -> Result<Page<T>, ReadModelUnavailable> {
    let mut start = None;
    loop {
        let query = query.clone().set_exclusive_start_key(start);
        let page = query.send().await.map_err(unavailable)?;
        let mut items = Vec::new();
        for stored in page.items.into_iter().flatten() {
            match entry(stored) {
                Ok(entry) => items.push(entry),
                Err(malformed) => malformed.log_not_listed(),
            }
        }
        start = page.last_evaluated_key;
        // An empty page would be taken for the end.
        if !items.is_empty() || start.is_none() {
            let more = start.is_some();
            return Ok(Page { items, more });
        }
    }
}

/// What is read of a row.
#[derive(Deserialize)]
struct RowContent {
    sk: String,
    checkin_id: CheckinId,
}

#[derive(Deserialize)]
struct IdEntry {
    patient_id: PatientId,
}

#[derive(Deserialize)]
struct RecentKeys {
    patient_id: PatientId,
    recent_key: String,
}

fn id_entry(stored: HashMap<String, AttributeValue>) -> Result<PatientId, MalformedSummary> {
    decode_summary(stored).map(|IdEntry { patient_id }| patient_id)
}

/// An entry of a known patient whose summary is malformed stays in its place, empty.
fn recent_entry(stored: HashMap<String, AttributeValue>) -> Result<RecentEntry, MalformedSummary> {
    let keys = [PATIENT_ID, RECENT_KEY].map(|key| (key.to_owned(), stored.get(key).cloned()));
    let keys = keys.into_iter().filter_map(|(key, value)| Some((key, value?)));
    let RecentKeys {
        patient_id,
        recent_key,
    } = decode_summary(keys.collect())?;
    let state = decode_summary(stored).map(SummaryItem::into_state);
    let state = state.unwrap_or_else(|malformed| {
        malformed.log_not_listed();
        PatientState::default()
    });
    Ok(RecentEntry {
        recent_key,
        patient_id,
        state,
    })
}

/// Below every row of this moment, above every row before it.
fn row_floor(at: Timestamp) -> String {
    format!("checkin#{at}#")
}

/// The error does not say what is wrong with the item: that would quote patient data into the log.
fn decode<T: DeserializeOwned>(stored: HashMap<String, AttributeValue>) -> Result<T, ReadModelUnavailable> {
    serde_dynamo::from_item(stored).map_err(|_| {
        let kind = std::any::type_name::<T>();
        unavailable(format!("a stored item is not a {kind}"))
    })
}

/// As [`decode`], for a summary, or for what an index has of one.
fn decode_summary<T: DeserializeOwned>(
    stored: HashMap<String, AttributeValue>,
) -> Result<T, MalformedSummary> {
    serde_dynamo::from_item(stored).map_err(|_| MalformedSummary)
}

fn text(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}

fn unavailable(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ReadModelUnavailable {
    ReadModelUnavailable(error.into())
}
