//! Appending to the event table in DynamoDB.

use std::collections::HashMap;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::types::AttributeValue;
use domain::{PatientId, StoredEvent, StreamVersion};
use event_log::LogUnavailable;
use event_log::item::{self, PATIENT_ID, VERSION};
use serde::de::DeserializeOwned;

use crate::{AppendLog, InsertError, TailEntry};

const EVENT_ID: &str = "event_id";
const RECORDED_AT: &str = "recorded_at";
const HASH: &str = "hash";

type Item = HashMap<String, AttributeValue>;

/// The event table in DynamoDB, for appending.
///
/// Deliberately absent: UpdateItem, DeleteItem, and a Put without its condition. The producer's role could not
/// change an event either.
#[derive(Debug, Clone)]
pub struct EventStore {
    client: Client,
    table: String,
}

impl EventStore {
    /// The table with this name.
    #[must_use]
    pub fn new(client: Client, table: impl Into<String>) -> EventStore {
        EventStore {
            client,
            table: table.into(),
        }
    }
}

impl AppendLog for EventStore {
    async fn tail(
        &self,
        patient: &PatientId,
        before: Option<StreamVersion>,
        limit: u16,
    ) -> Result<Vec<TailEntry>, LogUnavailable> {
        let wanted = usize::from(limit);
        let mut entries = Vec::new();
        let mut start = None;
        while entries.len() < wanted {
            let condition = match before {
                Some(_) => "#patient = :patient AND #version < :before",
                None => "#patient = :patient",
            };
            let missing = i32::try_from(wanted - entries.len()).unwrap_or(i32::MAX);
            let mut query = self
                .client
                .query()
                .table_name(&self.table)
                .consistent_read(true)
                .key_condition_expression(condition)
                .projection_expression("#version, #event_id, #recorded_at, #hash")
                .expression_attribute_names("#patient", PATIENT_ID)
                .expression_attribute_names("#version", VERSION)
                .expression_attribute_names("#event_id", EVENT_ID)
                .expression_attribute_names("#recorded_at", RECORDED_AT)
                .expression_attribute_names("#hash", HASH)
                .expression_attribute_values(":patient", AttributeValue::S(patient.to_string()))
                .scan_index_forward(false)
                .limit(missing)
                .set_exclusive_start_key(start);
            if let Some(before) = before {
                query = query.expression_attribute_values(":before", AttributeValue::N(before.to_string()));
            }
            let page = query.send().await.map_err(|error| LogUnavailable(error.into()))?;
            for item in page.items.into_iter().flatten() {
                entries.push(tail_entry(item)?);
            }
            start = page.last_evaluated_key;
            if start.is_none() {
                break;
            }
        }
        Ok(entries)
    }

    async fn insert(&self, event: &StoredEvent) -> Result<(), InsertError> {
        let item = item::to_item(event).map_err(|error| InsertError::Unavailable(error.into()))?;
        // Neither the old item nor, when the condition fails, the one in the way is asked for: the tail is read
        // again anyway, and an error never carries patient data.
        let put = self
            .client
            .put_item()
            .table_name(&self.table)
            .set_item(Some(item.into()))
            .condition_expression("attribute_not_exists(#patient)")
            .expression_attribute_names("#patient", PATIENT_ID)
            .send()
            .await;
        match put {
            Ok(_) => Ok(()),
            Err(error)
                if error
                    .as_service_error()
                    .is_some_and(PutItemError::is_conditional_check_failed_exception) =>
            {
                Err(InsertError::Occupied)
            }
            Err(error) => Err(InsertError::Unavailable(error.into())),
        }
    }
}

fn tail_entry(mut item: Item) -> Result<TailEntry, LogUnavailable> {
    let version = attribute(&mut item, VERSION)
        .ok_or_else(|| LogUnavailable("the stream's last version is not a whole number".into()))?;
    Ok(TailEntry {
        version,
        event_id: attribute(&mut item, EVENT_ID),
        recorded_at: attribute(&mut item, RECORDED_AT),
        hash: attribute(&mut item, HASH),
    })
}

fn attribute<T: DeserializeOwned>(item: &mut Item, name: &str) -> Option<T> {
    serde_dynamo::from_attribute_value(item.remove(name)?).ok()
}
