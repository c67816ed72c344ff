//! What only a replay keeps in, or removes from, the read model's table.

use std::collections::HashMap;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{AttributeValue, DeleteRequest, WriteRequest};
use domain::{Generation, PatientId};
use event_log::Segment;
use projection::{MAX_ROWS_PER_PUT, ProjectionUnavailable, batch_write};
use read_model::item::{self, PK, RowItem, SK, SUMMARY, SummaryItem};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::audit::{AuditStore, ItemPage, StoredItem};
use crate::builds::{Begun, BuildStore, Checkpoint, Pass, Verification};
use crate::difference::Difference;
use crate::lease::{Lease, LeaseStore};
use crate::prune::{Doomed, ItemKey, KeyPage, PruneStore};

/// Both keys of the lease.
const REPLAY: &str = "replay";
const LEASE: &str = "lease";
/// The sort key of how a build was begun.
const BEGUN: &str = "begun";
/// The sort key of a verification.
const VERIFIED: &str = "verified";

/// The read model's table, as far as only a replay uses it.
#[derive(Debug, Clone)]
pub struct ReplayTable {
    client: Client,
    table: String,
    page_limit: Option<i32>,
}

#[derive(Serialize)]
struct Keyed<'a, T> {
    pk: &'a str,
    sk: &'a str,
    #[serde(flatten)]
    content: &'a T,
}

impl ReplayTable {
    /// The table with this name.
    #[must_use]
    pub fn new(client: Client, table: impl Into<String>) -> ReplayTable {
        ReplayTable {
            client,
            table: table.into(),
            page_limit: None,
        }
    }

    /// Scans pages of at most `items` items, where DynamoDB would fill 1 MB. For tests of paging.
    #[must_use]
    pub fn with_page_limit(mut self, items: u16) -> ReplayTable {
        self.page_limit = Some(items.into());
        self
    }

    async fn get<T: DeserializeOwned>(&self, pk: &str, sk: &str) -> Result<Option<T>, ProjectionUnavailable> {
        let found = self
            .client
            .get_item()
            .table_name(&self.table)
            .set_key(Some(key(pk, sk)))
            .consistent_read(true)
            .send()
            .await
            .map_err(unavailable)?;
        found
            .item
            .map(|stored| serde_dynamo::from_item(stored).map_err(unavailable))
            .transpose()
    }

    async fn put(&self, pk: &str, sk: &str, content: &impl Serialize) -> Result<(), ProjectionUnavailable> {
        let item = serde_dynamo::to_item(Keyed { pk, sk, content }).map_err(unavailable)?;
        let put = self.client.put_item().table_name(&self.table);
        put.set_item(Some(item)).send().await.map_err(unavailable)?;
        Ok(())
    }

    async fn remove_some(&self, keys: &[ItemKey]) -> Result<(), ProjectionUnavailable> {
        let requests = keys
            .iter()
            .map(|ItemKey { pk, sk }| {
                let delete = DeleteRequest::builder().set_key(Some(key(pk, sk))).build();
                let delete = delete.map_err(unavailable)?;
                Ok(WriteRequest::builder().delete_request(delete).build())
            })
            .collect::<Result<Vec<_>, ProjectionUnavailable>>()?;
        batch_write(&self.client, &self.table, requests).await
    }
}

fn build_pk(generation: Generation) -> String {
    format!("{generation}#build")
}

fn checkpoint_sk(pass: Pass, index: u16) -> String {
    format!("{}#{index:03}", pass.name())
}

impl BuildStore for ReplayTable {
    async fn begun(&self, generation: Generation) -> Result<Option<Begun>, ProjectionUnavailable> {
        self.get(&build_pk(generation), BEGUN).await
    }

    async fn put_begun(&self, generation: Generation, begun: &Begun) -> Result<(), ProjectionUnavailable> {
        self.put(&build_pk(generation), BEGUN, begun).await
    }

    async fn checkpoint(
        &self,
        generation: Generation,
        pass: Pass,
        segment: Segment,
    ) -> Result<Option<Checkpoint>, ProjectionUnavailable> {
        let sk = checkpoint_sk(pass, segment.index);
        let kept: Option<Checkpoint> = self.get(&build_pk(generation), &sk).await?;
        Ok(kept.filter(|kept| kept.segments == segment.total))
    }

    async fn put_checkpoint(
        &self,
        generation: Generation,
        pass: Pass,
        index: u16,
        checkpoint: &Checkpoint,
    ) -> Result<(), ProjectionUnavailable> {
        let sk = checkpoint_sk(pass, index);
        self.put(&build_pk(generation), &sk, checkpoint).await
    }

    async fn verification(
        &self,
        generation: Generation,
    ) -> Result<Option<Verification>, ProjectionUnavailable> {
        self.get(&build_pk(generation), VERIFIED).await
    }

    async fn put_verification(
        &self,
        generation: Generation,
        verification: &Verification,
    ) -> Result<(), ProjectionUnavailable> {
        self.put(&build_pk(generation), VERIFIED, verification).await
    }
}

impl AuditStore for ReplayTable {
    async fn items(
        &self,
        generation: Generation,
        patient: &PatientId,
        after: Option<String>,
    ) -> Result<ItemPage, ProjectionUnavailable> {
        let pk = item::patient_pk(generation, patient);
        let page = self
            .client
            .query()
            .table_name(&self.table)
            .consistent_read(true)
            .key_condition_expression("#pk = :pk")
            .expression_attribute_names("#pk", PK)
            .expression_attribute_values(":pk", AttributeValue::S(pk.clone()))
            .set_limit(self.page_limit)
            .set_exclusive_start_key(after.map(|after| key(&pk, &after)))
            .send()
            .await
            .map_err(unavailable)?;
        let items = page.items.into_iter().flatten();
        Ok(ItemPage {
            items: items
                .filter_map(|stored| stored_item(generation, patient, stored))
                .collect(),
            next: page
                .last_evaluated_key
                .as_ref()
                .and_then(item_key)
                .map(|key| key.sk),
        })
    }
}

/// `None` for what nobody takes for a check-in: an item under another sort key than theirs, or a summary that can't be
/// read, which its reader has found already.
fn stored_item(
    generation: Generation,
    patient: &PatientId,
    stored: HashMap<String, AttributeValue>,
) -> Option<StoredItem> {
    let key = item_key(&stored)?.sk;
    if key == SUMMARY {
        let found: SummaryItem = serde_dynamo::from_item(stored).ok()?;
        let expected = SummaryItem::new(generation, patient, &found.clone().into_state());
        let attributes = [
            (item::SHARD, found.shard, expected.shard),
            (item::RECENT_KEY, found.recent_key, expected.recent_key),
            (
                item::PATIENT_ID,
                found.patient_id.to_string(),
                expected.patient_id.to_string(),
            ),
        ];
        let misfiled = attributes
            .into_iter()
            .filter_map(|(attribute, found, expected)| {
                Difference::between(attribute, Some(found), Some(expected), |value| value)
            })
            .collect();
        return Some(StoredItem::Summary { misfiled });
    }
    if !key.starts_with(item::ROW_PREFIX) {
        return None;
    }
    let row: Option<RowItem> = serde_dynamo::from_item(stored).ok();
    let row = row.and_then(RowItem::into_row);
    Some(StoredItem::Row { key, row })
}

impl PruneStore for ReplayTable {
    async fn keys(
        &self,
        doomed: &Doomed,
        segment: Segment,
        after: Option<ItemKey>,
    ) -> Result<KeyPage, ProjectionUnavailable> {
        let page = self
            .client
            .scan()
            .table_name(&self.table)
            .consistent_read(true)
            .projection_expression("#pk, #sk")
            .expression_attribute_names("#pk", PK)
            .expression_attribute_names("#sk", SK)
            .segment(segment.index.into())
            .total_segments(segment.total.into())
            .set_limit(self.page_limit)
            .set_exclusive_start_key(after.map(|after| key(&after.pk, &after.sk)))
            .send()
            .await
            .map_err(unavailable)?;
        let keys = page.items.unwrap_or_default();
        let keys = keys.iter().filter_map(item_key);
        let doomed = |key: &ItemKey| item::generation_of(&key.pk).is_some_and(|of| doomed.contains(of));
        Ok(KeyPage {
            keys: keys.filter(doomed).collect(),
            next: page.last_evaluated_key.as_ref().and_then(item_key),
        })
    }

    async fn remove(&self, keys: &[ItemKey]) -> Result<(), ProjectionUnavailable> {
        for some in keys.chunks(MAX_ROWS_PER_PUT) {
            self.remove_some(some).await?;
        }
        Ok(())
    }
}

impl LeaseStore for ReplayTable {
    async fn lease(&self) -> Result<Option<Lease>, ProjectionUnavailable> {
        self.get(REPLAY, LEASE).await
    }

    async fn put_lease(
        &self,
        expected: Option<&Lease>,
        lease: &Lease,
    ) -> Result<bool, ProjectionUnavailable> {
        let content = Keyed {
            pk: REPLAY,
            sk: LEASE,
            content: lease,
        };
        let item = serde_dynamo::to_item(content).map_err(unavailable)?;
        let put = self
            .client
            .put_item()
            .table_name(&self.table)
            .set_item(Some(item));
        let put = match expected {
            None => put
                .condition_expression("attribute_not_exists(#pk)")
                .expression_attribute_names("#pk", PK),
            Some(expected) => put
                .condition_expression("#holder = :holder AND #beat = :beat")
                .expression_attribute_names("#holder", "holder")
                .expression_attribute_names("#beat", "beat")
                .expression_attribute_values(":holder", AttributeValue::S(expected.holder.clone()))
                .expression_attribute_values(":beat", AttributeValue::N(expected.beat.to_string())),
        };
        match put.send().await {
            Ok(_) => Ok(true),
            Err(error)
                if error
                    .as_service_error()
                    .is_some_and(|error| error.is_conditional_check_failed_exception()) =>
            {
                Ok(false)
            }
            Err(error) => Err(unavailable(error)),
        }
    }

    async fn end_lease(&self, holder: &str) -> Result<(), ProjectionUnavailable> {
        self.client
            .delete_item()
            .table_name(&self.table)
            .set_key(Some(key(REPLAY, LEASE)))
            .condition_expression("#holder = :holder")
            .expression_attribute_names("#holder", "holder")
            .expression_attribute_values(":holder", AttributeValue::S(holder.to_owned()))
            .send()
            .await
            .map_err(unavailable)?;
        Ok(())
    }
}

fn key(pk: &str, sk: &str) -> HashMap<String, AttributeValue> {
    HashMap::from([
        (PK.to_owned(), AttributeValue::S(pk.to_owned())),
        (SK.to_owned(), AttributeValue::S(sk.to_owned())),
    ])
}

fn item_key(key: &HashMap<String, AttributeValue>) -> Option<ItemKey> {
    let text = |name| key.get(name)?.as_s().ok().cloned();
    Some(ItemKey {
        pk: text(PK)?,
        sk: text(SK)?,
    })
}

fn unavailable(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ProjectionUnavailable {
    ProjectionUnavailable(error.into())
}
