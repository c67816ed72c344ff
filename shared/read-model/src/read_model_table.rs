//! The read model in DynamoDB.

use std::collections::HashMap;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::query::builders::QueryFluentBuilder;
use aws_sdk_dynamodb::types::{AttributeValue, KeysAndAttributes};
use domain::{CheckinRow, Generation, ListingShard, PatientId, PatientState, Timestamp};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::item::{
    self, BY_ID, BY_RECENT, CONTROL, Control, PATIENT_ID, PK, PROGRESS, Progress, RECENT_KEY, RowItem, SHARD,
    SK, SUMMARY, SummaryItem,
};
use crate::store::{Consistency, Page, ReadModelStore, ReadModelUnavailable, RecentEntry, RowRange};

/// What BatchGetItem takes at most
/// (<https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchGetItem.html>).
const BATCH_GET: usize = 100;
/// How often keys that DynamoDB leaves unprocessed are asked for again before the read fails.
const BATCH_ATTEMPTS: u32 = 5;

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
        found
            .item
            .map(|item| serde_dynamo::from_item(item).map_err(unavailable))
            .transpose()
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
        let mut found: HashMap<PatientId, PatientState> = HashMap::with_capacity(patients.len());
        for chunk in patients.chunks(BATCH_GET) {
            let mut wanted = KeysAndAttributes::builder().consistent_read(consistency == Consistency::Strong);
            for patient in chunk {
                wanted = wanted.keys(HashMap::from([
                    (PK.to_owned(), text(item::patient_pk(generation, patient))),
                    (SK.to_owned(), text(SUMMARY)),
                ]));
            }
            let mut wanted = Some(HashMap::from([(
                self.table.clone(),
                wanted.build().map_err(unavailable)?,
            )]));
            for attempt in 0.. {
                let answer = self
                    .client
                    .batch_get_item()
                    .set_request_items(wanted.take())
                    .send()
                    .await
                    .map_err(unavailable)?;
                for stored in answer
                    .responses
                    .into_iter()
                    .flatten()
                    .flat_map(|(_, items)| items)
                {
                    let stored: SummaryItem = serde_dynamo::from_item(stored).map_err(unavailable)?;
                    found.insert(stored.patient_id.clone(), stored.into_state());
                }
                wanted = answer.unprocessed_keys.filter(|keys| !keys.is_empty());
                if wanted.is_none() {
                    break;
                }
                if attempt >= BATCH_ATTEMPTS {
                    return Err(ReadModelUnavailable("keys were left unprocessed".into()));
                }
                tokio::time::sleep(std::time::Duration::from_millis(20 << attempt)).await;
            }
        }
        Ok(patients
            .iter()
            .map(|patient| found.get(patient).cloned())
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
                serde_dynamo::from_item(stored)
                    .map(RowItem::into_row)
                    .map_err(unavailable)
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
        let page = query.limit(limit.into()).send().await.map_err(unavailable)?;
        let more = page.last_evaluated_key.is_some();
        let items = page
            .items
            .into_iter()
            .flatten()
            .map(|stored| {
                let stored: IdEntry = serde_dynamo::from_item(stored).map_err(unavailable)?;
                Ok(stored.patient_id)
            })
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
            .map(|stored| {
                let stored: SummaryItem = serde_dynamo::from_item(stored).map_err(unavailable)?;
                Ok(RecentEntry {
                    recent_key: stored.recent_key.clone(),
                    patient_id: stored.patient_id.clone(),
                    state: stored.into_state(),
                })
            })
            .collect::<Result<_, _>>()?;
        Ok(Page { items, more })
    }
}

#[derive(Deserialize)]
struct IdEntry {
    patient_id: PatientId,
}

/// Below every row of this moment, above every row before it.
fn row_floor(at: Timestamp) -> String {
    format!("checkin#{at}#")
}

fn text(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}

fn unavailable(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ReadModelUnavailable {
    ReadModelUnavailable(error.into())
}
