//! The writing side of the read model in DynamoDB.

use std::collections::{BTreeSet, HashMap};

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::operation::put_item::builders::PutItemFluentBuilder;
use aws_sdk_dynamodb::types::{
    AttributeValue, PutRequest, ReturnValuesOnConditionCheckFailure, WriteRequest,
};
use domain::{Generation, PatientId, PatientState, StreamVersion};
use read_model::item::{self, APPLIED, CONTROL, PK, PROGRESS, RowItem, SK, SWEEP, SummaryItem, Sweep};
use read_model::{Consistency, Control, Progress, ReadModelStore, ReadModelTable};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::batch_write::batch_write;
use crate::store::{
    PatientRow, ProjectionStore, ProjectionUnavailable, PutControlError, PutStateError, StateChange,
    SweepStore,
};
use crate::summary_batch::{ConditionalSummary, put_together};

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

    /// Puts an item in the place of one that has not changed since it was read: each attribute of `read` has the same
    /// value, and each other one of `item` is missing.
    fn put_instead_of(
        &self,
        read: &HashMap<String, AttributeValue>,
        item: HashMap<String, AttributeValue>,
    ) -> PutItemFluentBuilder {
        let names: BTreeSet<&String> = read.keys().chain(item.keys()).collect();
        let mut put = self.client.put_item().table_name(&self.table);
        let mut conditions = Vec::with_capacity(names.len());
        for (number, name) in names.into_iter().enumerate() {
            put = put.expression_attribute_names(format!("#a{number}"), name);
            if let Some(value) = read.get(name) {
                put = put.expression_attribute_values(format!(":a{number}"), value.clone());
                conditions.push(format!("#a{number} = :a{number}"));
            } else {
                conditions.push(format!("attribute_not_exists(#a{number})"));
            }
        }
        put.condition_expression(conditions.join(" AND "))
            .set_item(Some(item))
    }

    /// Puts a summary in the place of one that can't be decoded, if that has not changed.
    ///
    /// Whatever meets the condition can't be decoded either: an attribute is still wrong, or one that a summary must
    /// have is still missing. So nothing that readers see is ever replaced here.
    async fn replace_malformed(
        &self,
        malformed: &HashMap<String, AttributeValue>,
        summary: &SummaryItem,
    ) -> Result<(), PutStateError> {
        let item = serde_dynamo::to_item(summary).map_err(unavailable)?;
        match self.put_instead_of(malformed, item).send().await {
            Ok(_) => {
                let patient_id = summary.patient_id.as_str();
                tracing::warn!(pk = summary.pk, patient_id, "a malformed summary was replaced");
                Ok(())
            }
            Err(error) if refused(&error) => Err(PutStateError::Conflict),
            Err(error) => Err(unavailable(error).into()),
        }
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
            .map(|states| states.into_iter().map(|stored| stored.ok().flatten()).collect())
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
        batch_write(&self.client, &self.table, requests).await
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
        let summary = SummaryItem::new(generation, patient, state);
        let answer = self
            .put(&summary)?
            .condition_expression(condition)
            .expression_attribute_names("#pk", PK)
            .expression_attribute_names("#applied", APPLIED)
            .expression_attribute_values(":expected", AttributeValue::N(expected.to_string()))
            .set_return_values_on_condition_check_failure(
                // Only what counted as none may turn out to be malformed.
                (expected == StreamVersion::EMPTY).then_some(ReturnValuesOnConditionCheckFailure::AllOld),
            )
            .send()
            .await;
        match answer {
            Ok(_) => Ok(()),
            Err(error) if refused(&error) => match malformed(&error) {
                Some(malformed) => self.replace_malformed(malformed, &summary).await,
                None => Err(PutStateError::Conflict),
            },
            Err(error) => Err(unavailable(error).into()),
        }
    }

    async fn put_states(
        &self,
        generation: Generation,
        changes: &[StateChange<'_>],
    ) -> Result<Vec<bool>, ProjectionUnavailable> {
        let summaries = changes.iter().map(|change| conditional(generation, change));
        let summaries = summaries.collect::<Result<Vec<_>, _>>()?;
        put_together(&self.client, &self.table, summaries).await
    }

    async fn control(&self) -> Result<Option<Control>, ProjectionUnavailable> {
        self.get(CONTROL, CONTROL).await
    }

    async fn put_control(
        &self,
        expected: Option<&Control>,
        control: &Control,
    ) -> Result<(), PutControlError> {
        let keyed = |content| Keyed {
            pk: CONTROL.to_owned(),
            sk: CONTROL,
            content,
        };
        let put = match expected {
            None => self
                .put(keyed(control))?
                .condition_expression("attribute_not_exists(#pk)")
                .expression_attribute_names("#pk", PK),
            Some(expected) => {
                let read = serde_dynamo::to_item(keyed(expected)).map_err(unavailable)?;
                let item = serde_dynamo::to_item(keyed(control)).map_err(unavailable)?;
                self.put_instead_of(&read, item)
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
            pk: item::freshness_pk(generation),
            sk: PROGRESS,
            content: progress,
        };
        self.put(keyed)?.send().await.map_err(unavailable)?;
        Ok(())
    }
}

impl SweepStore for ProjectionTable {
    async fn last_sweep(&self, generation: Generation) -> Result<Option<Sweep>, ProjectionUnavailable> {
        self.get(&item::freshness_pk(generation), SWEEP).await
    }

    async fn put_sweep(&self, generation: Generation, sweep: &Sweep) -> Result<(), ProjectionUnavailable> {
        let keyed = Keyed {
            pk: item::freshness_pk(generation),
            sk: SWEEP,
            content: sweep,
        };
        self.put(keyed)?.send().await.map_err(unavailable)?;
        Ok(())
    }
}

fn conditional(
    generation: Generation,
    change: &StateChange<'_>,
) -> Result<ConditionalSummary, ProjectionUnavailable> {
    let summary = SummaryItem::new(generation, change.patient_id, change.state);
    Ok(ConditionalSummary {
        expected: change.expected,
        item: serde_dynamo::to_item(summary).map_err(unavailable)?,
    })
}

fn refused<R>(error: &SdkError<PutItemError, R>) -> bool {
    error
        .as_service_error()
        .is_some_and(PutItemError::is_conditional_check_failed_exception)
}

/// The summary because of which a put was refused, if it can't be decoded.
fn malformed<R>(error: &SdkError<PutItemError, R>) -> Option<&HashMap<String, AttributeValue>> {
    let Some(PutItemError::ConditionalCheckFailedException(refused)) = error.as_service_error() else {
        return None;
    };
    let stored = refused.item()?;
    let decoded: Result<SummaryItem, _> = serde_dynamo::from_item(stored.clone());
    decoded.is_err().then_some(stored)
}

fn unavailable(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ProjectionUnavailable {
    ProjectionUnavailable(error.into())
}

#[cfg(test)]
mod tests {
    use domain::{Patient, Quarantine, QuarantineReason, Timestamp};
    use embedded::{EmbeddedDynamoDb, READ_MODEL_TABLE};

    use super::*;

    const GENERATION: Generation = Generation::FIRST;

    fn state(applied: u64) -> PatientState {
        PatientState {
            applied: StreamVersion::new(applied),
            history: None,
            patient: Some(Patient {
                name: "Ada".parse().unwrap(),
                registered_at: Timestamp::EARLIEST,
                checkin_count: applied - 1,
                last_checkin_at: Some(Timestamp::EARLIEST),
            }),
            quarantine: None,
        }
    }

    #[tokio::test]
    async fn of_many_states_those_are_put_whose_condition_holds() {
        let dynamodb = EmbeddedDynamoDb::temporary().await.unwrap();
        let table = ProjectionTable::new(dynamodb.client(), READ_MODEL_TABLE);
        let empty = StreamVersion::EMPTY;
        let unregistered = PatientState::default();
        let (two, five, nine) = (state(2), state(5), state(9));
        // Marked after it was read: the mark goes with what it was a mark of.
        let marked = PatientState {
            quarantine: Some(Quarantine {
                version: StreamVersion::new(6),
                reason: QuarantineReason::missing(),
                since: Timestamp::EARLIEST,
            }),
            ..state(5)
        };
        // What is there, what is expected, what is put; whether it is together with others, and alone.
        let cases = [
            (None, empty, &two, true, true),
            (Some(&five), StreamVersion::new(5), &nine, true, true),
            (Some(&marked), StreamVersion::new(5), &nine, false, true),
            (Some(&five), StreamVersion::new(3), &nine, false, false),
            (Some(&five), empty, &nine, false, false),
            (None, StreamVersion::new(5), &nine, false, false),
            (Some(&unregistered), empty, &two, false, true),
            (Some(&unregistered), StreamVersion::new(5), &nine, false, false),
        ];
        for size in [1, 2, cases.len()] {
            for (number, some) in cases.chunks(size).enumerate() {
                let patients: Vec<PatientId> = (0..some.len())
                    .map(|place| format!("p-{size}-{number}-{place}").parse().unwrap())
                    .collect();
                for (patient, (there, ..)) in patients.iter().zip(some) {
                    if let Some(there) = there {
                        table.put_state(GENERATION, patient, empty, there).await.unwrap();
                    }
                }
                let changes: Vec<StateChange<'_>> = patients
                    .iter()
                    .zip(some)
                    .map(|(patient_id, (_, expected, state, ..))| StateChange {
                        patient_id,
                        expected: *expected,
                        state,
                    })
                    .collect();
                let stored = async || table.states(GENERATION, &patients).await.unwrap();
                let put = table.put_states(GENERATION, &changes).await.unwrap();
                let expected: Vec<bool> = some.iter().map(|(.., together, _)| *together).collect();
                assert_eq!(put, expected);
                for ((case, change), stored) in some.iter().zip(&changes).zip(stored().await) {
                    let (there, .., together, _) = *case;
                    let now = if together { Some(change.state) } else { there };
                    assert_eq!(stored.as_ref(), now, "{size}: {case:?}");
                }
                for (case, change) in some.iter().zip(&changes) {
                    let (.., together, alone) = *case;
                    if !together {
                        let put = table
                            .put_state(GENERATION, change.patient_id, change.expected, change.state)
                            .await;
                        let is_so = if alone {
                            put.is_ok()
                        } else {
                            matches!(put, Err(PutStateError::Conflict))
                        };
                        assert!(is_so, "{size}: {case:?}: {put:?}");
                    }
                }
                for (case, stored) in some.iter().zip(stored().await) {
                    let (there, _, state, _, alone) = *case;
                    let now = if alone { Some(state) } else { there };
                    assert_eq!(stored.as_ref(), now, "{size}: {case:?}");
                }
            }
        }
    }

    #[tokio::test]
    async fn a_summary_is_the_same_item_however_it_was_put() {
        let dynamodb = EmbeddedDynamoDb::temporary().await.unwrap();
        let table = ProjectionTable::new(dynamodb.client(), READ_MODEL_TABLE);
        let patients: [PatientId; 2] = ["p-1", "p-2"].map(|id| id.parse().unwrap());
        let states = [(0, state(2)), (2, state(7))].map(|(at, state)| (StreamVersion::new(at), state));
        for (expected, state) in &states {
            let changes = patients.each_ref().map(|patient_id| StateChange {
                patient_id,
                expected: *expected,
                state,
            });
            let put = table.put_states(GENERATION, &changes).await.unwrap();
            assert_eq!(put, [true, true]);
            for patient in &patients {
                let summary = SummaryItem::new(GENERATION, patient, state);
                let stored = dynamodb.client().get_item().table_name(READ_MODEL_TABLE);
                let stored = stored
                    .key(PK, AttributeValue::S(summary.pk.clone()))
                    .key(SK, AttributeValue::S(summary.sk.clone()));
                let stored = stored.send().await.unwrap().item.unwrap();
                assert_eq!(stored, serde_dynamo::to_item(summary).unwrap());
            }
        }
    }

    /// Spoils one attribute of the summary at version 5, or takes it away; then another worker puts version `there`
    /// before ours, which read the spoilt one, puts version 3.
    async fn check(attribute: &str, spoilt: Option<AttributeValue>, there: Option<u64>, expected: u64) {
        let dynamodb = EmbeddedDynamoDb::temporary().await.unwrap();
        let table = ProjectionTable::new(dynamodb.client(), READ_MODEL_TABLE);
        let patient: PatientId = "p-1".parse().unwrap();
        let mut malformed: HashMap<String, AttributeValue> =
            serde_dynamo::to_item(SummaryItem::new(GENERATION, &patient, &state(5))).unwrap();
        malformed.remove(attribute);
        malformed.extend(spoilt.map(|value| (attribute.to_owned(), value)));
        let put = dynamodb.client().put_item().table_name(READ_MODEL_TABLE);
        put.set_item(Some(malformed.clone())).send().await.unwrap();
        let states = || async { table.states(GENERATION, std::slice::from_ref(&patient)).await };
        assert_eq!(states().await.unwrap(), [None], "{attribute}");

        let put = async |version: u64| {
            let state = state(version);
            table
                .put_state(GENERATION, &patient, StreamVersion::EMPTY, &state)
                .await
        };
        if let Some(there) = there {
            put(there).await.unwrap();
        }
        let ours = SummaryItem::new(GENERATION, &patient, &state(3));
        let replaced = table.replace_malformed(&malformed, &ours).await;
        assert_eq!(replaced.is_ok(), there.is_none(), "{attribute}");
        assert!(
            !matches!(replaced, Err(PutStateError::Unavailable(_))),
            "{attribute}"
        );
        assert!(
            matches!(put(9).await, Err(PutStateError::Conflict)),
            "{attribute}"
        );
        assert_eq!(states().await.unwrap(), [Some(state(expected))], "{attribute}");
    }

    #[tokio::test]
    async fn a_malformed_summary_is_replaced_unless_another_worker_was_faster() {
        let text = |text: &str| AttributeValue::S(text.to_owned());
        let number = |number: &str| AttributeValue::N(number.to_owned());
        let list = AttributeValue::L(vec![text("a"), AttributeValue::M(HashMap::new())]);
        for (attribute, spoilt) in [
            ("applied", None),
            ("applied", Some(text("5"))),
            ("applied", Some(number("-1"))),
            ("applied", Some(AttributeValue::Null(true))),
            ("shard", None),
            ("patient_id", Some(text("p_1"))),
            ("recent_key", None),
            ("name", Some(list)),
            ("name", Some(text(""))),
            ("registered_at", Some(text("yesterday"))),
            ("checkin_count", Some(number("1.5"))),
            (
                "checkin_count",
                Some(AttributeValue::Ns(vec!["1".to_owned(), "2".to_owned()])),
            ),
            ("quarantine", Some(text("yes"))),
        ] {
            check(attribute, spoilt.clone(), None, 3).await;
            // The other one put what the spoilt summary was before, so that all else is the same.
            check(attribute, spoilt, Some(5), 5).await;
        }
    }
}
