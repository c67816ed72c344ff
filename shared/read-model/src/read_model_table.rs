//! The read model in DynamoDB.

use std::collections::HashMap;
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::query::builders::QueryFluentBuilder;
use aws_sdk_dynamodb::types::{AttributeValue, KeysAndAttributes};
use domain::{CheckinRow, Generation, ListingShard, PatientId, PatientState, Timestamp};
use futures::future::try_join_all;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::item::{
    self, BY_ID, BY_RECENT, CONTROL, Control, PATIENT_ID, PK, PROGRESS, Progress, RECENT_KEY, RowItem, SHARD,
    SK, SUMMARY, SummaryItem,
};
use crate::store::{
    Consistency, Malformed, Page, ReadModelStore, ReadModelUnavailable, RecentEntry, RowRange,
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

    async fn get<T: DeserializeOwned>(&self, pk: &str, sk: &str) -> Result<Option<T>, ReadModelUnavailable> {
        let found = self
            .client
            .get_item()
            .table_name(&self.table)
            .key(PK, text(pk))
            .key(SK, text(sk))
            .send()
            .await
            .map_err(unavailable)?;
        found.item.map(decode).transpose()
    }

    /// The summaries of at most [`BATCH_GET`] patients, in any order.
    async fn summaries(
        &self,
        generation: Generation,
        patients: &[PatientId],
        consistency: Consistency,
    ) -> Result<Vec<SummaryItem>, ReadModelUnavailable> {
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
        let mut found = Vec::with_capacity(patients.len());
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
                    found.push(decode::<SummaryItem>(stored)?);
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
        self.get(CONTROL, CONTROL).await
    }

    async fn progress(&self, generation: Generation) -> Result<Option<Progress>, ReadModelUnavailable> {
        self.get(&item::progress_pk(generation), PROGRESS).await
    }

    async fn states(
        &self,
        generation: Generation,
        patients: &[PatientId],
        consistency: Consistency,
    ) -> Result<Vec<Option<PatientState>>, ReadModelUnavailable> {
        let chunks = patients
            .chunks(BATCH_GET)
            .map(|chunk| self.summaries(generation, chunk, consistency));
        let mut found: HashMap<PatientId, PatientState> = try_join_all(chunks)
            .await?
            .into_iter()
            .flatten()
            .map(|summary| (summary.patient_id.clone(), summary.into_state()))
            .collect();
        Ok(patients.iter().map(|patient| found.remove(patient)).collect())
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
            .map(|stored| decode(stored).map(RowItem::into_row))
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
        let page = query.limit(limit.into()).send().await.map_err(unavailable)?;
        let more = page.last_evaluated_key.is_some();
        let items = page
            .items
            .into_iter()
            .flatten()
            .map(|stored| decode::<IdEntry>(stored).map(|entry| entry.patient_id))
            .collect::<Result<_, _>>()?;
        Ok(Page { items, more })
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
        let page = query
            .scan_index_forward(false)
            .limit(limit.into())
            .send()
            .await
            .map_err(unavailable)?;
        let more = page.last_evaluated_key.is_some();
        let items = page
            .items
            .into_iter()
            .flatten()
            .map(recent_entry)
            .collect::<Result<_, _>>()?;
        Ok(Page { items, more })
    }
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

/// An entry whose summary is malformed stays in its place, empty: it keeps neither the other patients from being
/// listed nor a walk from going on behind it.
fn recent_entry(stored: HashMap<String, AttributeValue>) -> Result<RecentEntry, ReadModelUnavailable> {
    let keys = [PATIENT_ID, RECENT_KEY].map(|key| (key.to_owned(), stored.get(key).cloned()));
    let keys = keys.into_iter().filter_map(|(key, value)| Some((key, value?)));
    let RecentKeys {
        patient_id,
        recent_key,
    } = decode(keys.collect())?;
    let state = match decode(stored).map(SummaryItem::into_state) {
        Ok(state) => state,
        Err(_) => {
            tracing::error!("a patient is not listed: the stored summary is malformed");
            PatientState::default()
        }
    };
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
        unavailable(Malformed { kind })
    })
}

fn text(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}

fn unavailable(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ReadModelUnavailable {
    ReadModelUnavailable(error.into())
}
