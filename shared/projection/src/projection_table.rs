//! The writing side of the read model in DynamoDB.

use std::collections::HashMap;
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::put_item::builders::PutItemFluentBuilder;
use aws_sdk_dynamodb::types::{AttributeValue, PutRequest, WriteRequest};
use domain::{Generation, PatientId, PatientState, StreamVersion, Timestamp};
use read_model::item::{self, APPLIED, CONTROL, PK, PROGRESS, RowItem, SK, SWEEP, SummaryItem, Sweep};
use read_model::{Consistency, Control, Progress, ReadModelStore, ReadModelTable};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::store::{
    PatientRow, ProjectionStore, ProjectionUnavailable, PutControlError, PutStateError, SweepStore,
};

/// How often rows that DynamoDB leaves unprocessed are put again before the call fails.
const BATCH_ATTEMPTS: u32 = 6;
/// The first wait before that; each further one is twice as long.
const FIRST_BACKOFF: Duration = Duration::from_millis(25);

/// The read model's table, writable.
#[derive(Debug, Clone)]
pub struct ProjectionTable {
    client: Client,
    table: String,
    reader: ReadModelTable,
}

/// An item with its keys, for items that belong to no patient.
#[derive(Serialize)]
struct Keyed<'a, T> {
    pk: String,
    sk: &'a str,
    #[serde(flatten)]
    content: &'a T,
}

impl ProjectionTable {
    /// The table with this name.
    #[must_use]
    pub fn new(client: Client, table: impl Into<String>) -> ProjectionTable {
        let table = table.into();
        ProjectionTable {
            reader: ReadModelTable::new(client.clone(), table.clone()),
            client,
            table,
        }
    }

    /// Reads an item that belongs to no patient; consistent.
    async fn get<T: DeserializeOwned>(&self, pk: &str, sk: &str) -> Result<Option<T>, ProjectionUnavailable> {
        let found = self
            .client
            .get_item()
            .table_name(&self.table)
            .key(PK, AttributeValue::S(pk.to_owned()))
            .key(SK, AttributeValue::S(sk.to_owned()))
            .consistent_read(true)
            .send()
            .await
            .map_err(unavailable)?;
        found
            .item
            .map(|stored| serde_dynamo::from_item(stored).map_err(unavailable))
            .transpose()
    }

    fn put(&self, content: impl Serialize) -> Result<PutItemFluentBuilder, ProjectionUnavailable> {
        let item = serde_dynamo::to_item(content).map_err(unavailable)?;
        Ok(self
            .client
            .put_item()
            .table_name(&self.table)
            .set_item(Some(item)))
    }
}

impl ProjectionStore for ProjectionTable {
    async fn states(
        &self,
        generation: Generation,
        patients: &[PatientId],
    ) -> Result<Vec<Option<PatientState>>, ProjectionUnavailable> {
        self.reader
            .states(generation, patients, Consistency::Strong)
            .await
            .map_err(unavailable)
    }

    async fn put_rows(
        &self,
        generation: Generation,
        rows: &[PatientRow],
    ) -> Result<(), ProjectionUnavailable> {
        let requests = rows
            .iter()
            .map(|PatientRow { patient_id, row }| {
                let item = serde_dynamo::to_item(RowItem::new(generation, patient_id, row));
                let put = PutRequest::builder()
                    .set_item(Some(item.map_err(unavailable)?))
                    .build();
                Ok(WriteRequest::builder()
                    .put_request(put.map_err(unavailable)?)
                    .build())
            })
            .collect::<Result<Vec<_>, ProjectionUnavailable>>()?;
        let mut pending = Some(HashMap::from([(self.table.clone(), requests)]));
        for attempt in 0..BATCH_ATTEMPTS {
            if attempt > 0 {
                tokio::time::sleep(FIRST_BACKOFF * (1 << (attempt - 1))).await;
            }
            let answer = self
                .client
                .batch_write_item()
                .set_request_items(pending.take())
                .send()
                .await
                .map_err(unavailable)?;
            pending = answer.unprocessed_items.filter(|left| !left.is_empty());
            if pending.is_none() {
                return Ok(());
            }
        }
        Err(unavailable("rows were left unprocessed"))
    }

    async fn put_state(
        &self,
        generation: Generation,
        patient: &PatientId,
        expected: StreamVersion,
        state: &PatientState,
    ) -> Result<(), PutStateError> {
        // A patient quarantined at the first event has a summary to which nothing was applied.
        let condition = if expected == StreamVersion::EMPTY {
            "attribute_not_exists(#pk) OR #applied = :expected"
        } else {
            "attribute_exists(#pk) AND #applied = :expected"
        };
        let put = self.put(SummaryItem::new(generation, patient, state))?;
        let answer = put
            .condition_expression(condition)
            .expression_attribute_names("#pk", PK)
            .expression_attribute_names("#applied", APPLIED)
            .expression_attribute_values(":expected", AttributeValue::N(expected.to_string()))
            .send()
            .await;
        match answer {
            Ok(_) => Ok(()),
            Err(error) if refused(&error) => Err(PutStateError::Conflict),
            Err(error) => Err(unavailable(error).into()),
        }
    }

    async fn control(&self) -> Result<Option<Control>, ProjectionUnavailable> {
        self.get(CONTROL, CONTROL).await
    }

    async fn put_control(
        &self,
        expected: Option<&Control>,
        control: &Control,
    ) -> Result<(), PutControlError> {
        let put = self.put(Keyed {
            pk: CONTROL.to_owned(),
            sk: CONTROL,
            content: control,
        })?;
        let put = match expected {
            None => put
                .condition_expression("attribute_not_exists(#pk)")
                .expression_attribute_names("#pk", PK),
            Some(expected) => {
                let number = |generation: Generation| AttributeValue::N(generation.get().to_string());
                let put = put
                    .expression_attribute_names("#active", "active")
                    .expression_attribute_names("#latest", "latest")
                    .expression_attribute_names("#building", "building")
                    .expression_attribute_values(":active", number(expected.active))
                    .expression_attribute_values(":latest", number(expected.latest));
                match expected.building {
                    None => put.condition_expression(
                        "#active = :active AND #latest = :latest AND attribute_not_exists(#building)",
                    ),
                    Some(building) => put
                        .condition_expression(
                            "#active = :active AND #latest = :latest AND #building = :building",
                        )
                        .expression_attribute_values(":building", number(building)),
                }
            }
        };
        match put.send().await {
            Ok(_) => Ok(()),
            Err(error) if refused(&error) => Err(PutControlError::Conflict),
            Err(error) => Err(unavailable(error).into()),
        }
    }

    async fn put_progress(
        &self,
        generation: Generation,
        progress: &Progress,
    ) -> Result<(), ProjectionUnavailable> {
        let keyed = Keyed {
            pk: item::progress_pk(generation),
            sk: PROGRESS,
            content: progress,
        };
        self.put(keyed)?.send().await.map_err(unavailable)?;
        Ok(())
    }
}

impl SweepStore for ProjectionTable {
    async fn swept_to(&self, generation: Generation) -> Result<Option<Timestamp>, ProjectionUnavailable> {
        let sweep: Option<Sweep> = self.get(&item::sweep_pk(generation), SWEEP).await?;
        Ok(sweep.map(|sweep| sweep.swept_to))
    }

    async fn put_swept_to(
        &self,
        generation: Generation,
        began: Timestamp,
    ) -> Result<(), ProjectionUnavailable> {
        let sweep = Sweep { swept_to: began };
        let keyed = Keyed {
            pk: item::sweep_pk(generation),
            sk: SWEEP,
            content: &sweep,
        };
        self.put(keyed)?.send().await.map_err(unavailable)?;
        Ok(())
    }
}

fn refused<R>(
    error: &aws_sdk_dynamodb::error::SdkError<aws_sdk_dynamodb::operation::put_item::PutItemError, R>,
) -> bool {
    error
        .as_service_error()
        .is_some_and(|error| error.is_conditional_check_failed_exception())
}

fn unavailable(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ProjectionUnavailable {
    ProjectionUnavailable(error.into())
}
