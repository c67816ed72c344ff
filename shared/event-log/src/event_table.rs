//! The event log in DynamoDB.

use std::collections::HashMap;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::AttributeValue;
use domain::{EventShard, PatientId, StoredEntry, StreamVersion, Timestamp};
use serde::Deserialize;

use crate::item::{
    self, BY_RECORDED_AT, EventKey, PATIENT_ID, RECORDED_KEY, SHARD, VERSION, recorded_key, stored_entry,
};
use crate::{EventLog, LogPage, LogPosition, LogUnavailable, RecordedKey, Segment};

type Key = HashMap<String, AttributeValue>;

/// The event log in a DynamoDB table, read-only.
#[derive(Debug, Clone)]
pub struct EventTable {
    client: Client,
    table: String,
    page_limit: Option<i32>,
}

impl EventTable {
    /// The table with this name.
    #[must_use]
    pub fn new(client: Client, table: impl Into<String>) -> EventTable {
        EventTable {
            client,
            table: table.into(),
            page_limit: None,
        }
    }

    /// Reads pages of at most `items` items, where DynamoDB would fill 1 MB. For tests of paging.
    #[must_use]
    pub fn with_page_limit(mut self, items: u16) -> EventTable {
        self.page_limit = Some(items.into());
        self
    }

    /// About how many events there are. DynamoDB counts about every six hours
    /// (<https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_TableDescription.html>), so this is for
    /// progress bars only.
    ///
    /// # Errors
    /// [`LogUnavailable`]: do without.
    pub async fn approximate_len(&self) -> Result<u64, LogUnavailable> {
        let described = self
            .client
            .describe_table()
            .table_name(&self.table)
            .send()
            .await
            .map_err(unavailable)?;
        let count = described
            .table
            .and_then(|table| table.item_count)
            .unwrap_or_default();
        Ok(u64::try_from(count).unwrap_or_default())
    }
}

impl EventLog for EventTable {
    async fn read(
        &self,
        patient: &PatientId,
        after: StreamVersion,
        limit: u16,
    ) -> Result<Vec<StoredEntry>, LogUnavailable> {
        let wanted = usize::from(limit);
        let mut entries = Vec::new();
        let mut start = None;
        while entries.len() < wanted {
            let missing = i32::try_from(wanted - entries.len()).unwrap_or(i32::MAX);
            let page = self
                .client
                .query()
                .table_name(&self.table)
                .consistent_read(true)
                .key_condition_expression("#patient = :patient AND #version > :after")
                .expression_attribute_names("#patient", PATIENT_ID)
                .expression_attribute_names("#version", VERSION)
                .expression_attribute_values(":patient", text(patient.as_str()))
                .expression_attribute_values(":after", number(after))
                .limit(self.page_limit.map_or(missing, |page| page.min(missing)))
                .set_exclusive_start_key(start)
                .send()
                .await
                .map_err(unavailable)?;
            entries.extend(
                page.items
                    .into_iter()
                    .flatten()
                    .filter_map(|item| stored_entry(item.into())),
            );
            start = page.last_evaluated_key;
            if start.is_none() {
                break;
            }
        }
        Ok(entries)
    }

    async fn head(&self, patient: &PatientId) -> Result<StreamVersion, LogUnavailable> {
        let page = self
            .client
            .query()
            .table_name(&self.table)
            .consistent_read(true)
            .key_condition_expression("#patient = :patient")
            .projection_expression("#patient, #version")
            .expression_attribute_names("#patient", PATIENT_ID)
            .expression_attribute_names("#version", VERSION)
            .expression_attribute_values(":patient", text(patient.as_str()))
            .scan_index_forward(false)
            .limit(1)
            .send()
            .await
            .map_err(unavailable)?;
        let Some(item) = page.items.into_iter().flatten().next() else {
            return Ok(StreamVersion::EMPTY);
        };
        let key: EventKey = serde_dynamo::from_item(item).map_err(unavailable)?;
        Ok(key.version)
    }

    async fn scan(
        &self,
        segment: Segment,
        after: Option<LogPosition>,
    ) -> Result<LogPage<StoredEntry>, LogUnavailable> {
        let mut entries = Vec::new();
        let mut start = after.map(|position| table_key(&position));
        loop {
            let page = self
                .client
                .scan()
                .table_name(&self.table)
                .consistent_read(true)
                .segment(segment.index.into())
                .total_segments(segment.total.into())
                .set_limit(self.page_limit)
                .set_exclusive_start_key(start)
                .send()
                .await
                .map_err(unavailable)?;
            entries.extend(
                page.items
                    .into_iter()
                    .flatten()
                    .filter_map(|item| stored_entry(item.into())),
            );
            match after_page(page.last_evaluated_key) {
                Ok(next) => return Ok(LogPage { entries, next }),
                Err(key) => start = Some(key),
            }
        }
    }

    async fn recorded_since(
        &self,
        shard: EventShard,
        from: Timestamp,
        after: Option<LogPosition>,
    ) -> Result<LogPage<RecordedKey>, LogUnavailable> {
        let mut entries = Vec::new();
        let mut start = after.map(|position| index_key(shard, &position));
        loop {
            let page = self
                .client
                .query()
                .table_name(&self.table)
                .index_name(BY_RECORDED_AT)
                .key_condition_expression("#shard = :shard AND #recorded >= :from")
                .expression_attribute_names("#shard", SHARD)
                .expression_attribute_names("#recorded", RECORDED_KEY)
                .expression_attribute_values(":shard", text(shard.to_string()))
                .expression_attribute_values(":from", text(from.to_string()))
                .set_limit(self.page_limit)
                .set_exclusive_start_key(start)
                .send()
                .await
                .map_err(unavailable)?;
            entries.extend(page.items.into_iter().flatten().filter_map(|item| {
                let entry: IndexEntry = serde_dynamo::from_item(item).ok()?;
                // An item that was put by hand may say anything about its time; its stream is known all the same.
                let recorded_at = recorded_at(&entry.recorded_key).unwrap_or(from);
                Some(RecordedKey {
                    patient_id: entry.patient_id,
                    version: entry.version,
                    recorded_at,
                })
            }));
            match after_page(page.last_evaluated_key) {
                Ok(next) => return Ok(LogPage { entries, next }),
                Err(key) => start = Some(key),
            }
        }
    }
}

#[derive(Deserialize)]
struct IndexEntry {
    patient_id: PatientId,
    version: StreamVersion,
    recorded_key: String,
}

fn table_key(position: &LogPosition) -> Key {
    HashMap::from([
        (item::PATIENT_ID.to_owned(), text(position.patient_id.as_str())),
        (item::VERSION.to_owned(), number(position.version)),
    ])
}

fn index_key(shard: EventShard, position: &LogPosition) -> Key {
    let mut key = table_key(position);
    if let Some(recorded_at) = position.recorded_at {
        key.insert(SHARD.to_owned(), text(shard.to_string()));
        let recorded = recorded_key(recorded_at, &position.patient_id, position.version);
        key.insert(RECORDED_KEY.to_owned(), text(recorded));
    }
    key
}

/// Where to go on after a page. `Err` with the key itself if it is that of an item which this system did not
/// write: no position says it, so the reading goes on at once.
fn after_page(last_evaluated: Option<Key>) -> Result<Option<LogPosition>, Key> {
    let Some(key) = last_evaluated else {
        return Ok(None);
    };
    position(&key).map(Some).ok_or(key)
}

fn position(key: &Key) -> Option<LogPosition> {
    let EventKey { patient_id, version } = serde_dynamo::from_item(key.clone()).ok()?;
    let recorded_at = match key.get(RECORDED_KEY) {
        Some(AttributeValue::S(text)) => {
            let at = recorded_at(text)?;
            if *text != recorded_key(at, &patient_id, version) {
                return None;
            }
            Some(at)
        }
        _ => None,
    };
    Some(LogPosition {
        patient_id,
        version,
        recorded_at,
    })
}

fn recorded_at(recorded_key: &str) -> Option<Timestamp> {
    recorded_key.split('#').next()?.parse().ok()
}

fn text(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}

fn number(version: StreamVersion) -> AttributeValue {
    AttributeValue::N(version.to_string())
}

fn unavailable(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> LogUnavailable {
    LogUnavailable(error.into())
}
