//! Stream records to the read model: rows first, then each patient's summary on condition.

use std::collections::{BTreeMap, HashMap};

use aws_config::BehaviorVersion;
use aws_lambda_events::dynamodb::Event;
use aws_lambda_events::streams::{DynamoDbBatchItemFailure, DynamoDbEventResponse};
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{AttributeValue, KeysAndAttributes, PutRequest, WriteRequest};
use chrono::{SecondsFormat, Utc};
use futures::{StreamExt, TryStreamExt, stream};
use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

const AT_ONCE: usize = 16;

#[derive(Deserialize)]
struct Control {
    active: u64,
}

#[derive(Clone, Deserialize)]
struct Image {
    patient_id: String,
    version: u64,
    event_type: String,
    occurred_at: String,
    recorded_at: String,
    data: HashMap<String, String>,
}

#[derive(Clone, Serialize, Deserialize)]
struct Summary {
    pk: String,
    sk: String,
    shard: String,
    patient_id: String,
    recent_key: String,
    applied: u64,
    name: Option<String>,
    registered_at: Option<String>,
    checkin_count: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_checkin_at: Option<String>,
}

#[derive(Serialize)]
struct Row {
    pk: String,
    sk: String,
    checkin_id: String,
}

#[derive(Serialize)]
struct Progress {
    pk: String,
    sk: &'static str,
    recorded_at: String,
    applied_at: String,
}

struct Step {
    first: usize,
    before: u64,
    summary: Summary,
    rows: Vec<Row>,
}

struct Projector {
    client: Client,
    table: String,
}

impl Projector {
    async fn generation(&self) -> Result<u64, Error> {
        let found = self
            .client
            .get_item()
            .table_name(&self.table)
            .key("pk", AttributeValue::S("control".to_owned()))
            .key("sk", AttributeValue::S("control".to_owned()))
            .consistent_read(true)
            .send()
            .await?;
        let control: Option<Control> = found.item.map(serde_dynamo::from_item).transpose()?;
        Ok(control.map_or(1, |control| control.active))
    }

    async fn summaries(&self, generation: u64, patients: &[String]) -> Result<Vec<Summary>, Error> {
        let keys = patients.iter().map(|patient| {
            HashMap::from([
                (
                    "pk".to_owned(),
                    AttributeValue::S(format!("g{generation}#patient#{patient}")),
                ),
                ("sk".to_owned(), AttributeValue::S("summary".to_owned())),
            ])
        });
        let keys = KeysAndAttributes::builder()
            .consistent_read(true)
            .set_keys(Some(keys.collect()))
            .build()?;
        let mut wanted = HashMap::from([(self.table.clone(), keys)]);
        let mut found = Vec::new();
        while !wanted.is_empty() {
            let answer = self
                .client
                .batch_get_item()
                .set_request_items(Some(wanted))
                .send()
                .await?;
            for items in answer.responses.unwrap_or_default().into_values() {
                let some: Vec<Summary> = serde_dynamo::from_items(items)?;
                found.extend(some);
            }
            wanted = answer.unprocessed_keys.unwrap_or_default();
        }
        Ok(found)
    }

    async fn put_rows(&self, rows: &[&Row]) -> Result<(), Error> {
        let mut requests = Vec::new();
        for row in rows {
            let item = serde_dynamo::to_item(row)?;
            let put = PutRequest::builder().set_item(Some(item)).build()?;
            requests.push(WriteRequest::builder().put_request(put).build());
        }
        let mut left = HashMap::from([(self.table.clone(), requests)]);
        while !left.is_empty() {
            let answer = self
                .client
                .batch_write_item()
                .set_request_items(Some(left))
                .send()
                .await?;
            left = answer.unprocessed_items.unwrap_or_default();
        }
        Ok(())
    }

    /// Whether it was still as it was read.
    async fn put_summary(&self, step: &Step) -> Result<bool, Error> {
        let condition = if step.before == 0 {
            "attribute_not_exists(pk) OR applied = :before"
        } else {
            "applied = :before"
        };
        let put = self
            .client
            .put_item()
            .table_name(&self.table)
            .set_item(Some(serde_dynamo::to_item(&step.summary)?))
            .condition_expression(condition)
            .expression_attribute_values(":before", AttributeValue::N(step.before.to_string()))
            .send()
            .await;
        match put {
            Ok(_) => Ok(true),
            Err(error)
                if error
                    .as_service_error()
                    .is_some_and(|error| error.is_conditional_check_failed_exception()) =>
            {
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn handle(&self, event: Event) -> Result<DynamoDbEventResponse, Error> {
        let generation = self.generation().await?;
        let mut patients: BTreeMap<String, (usize, Vec<Image>)> = BTreeMap::new();
        let mut newest = String::new();
        let mut sequence_numbers = Vec::new();
        for (index, record) in event.records.into_iter().enumerate() {
            sequence_numbers.push(record.change.sequence_number);
            if record.event_name != "INSERT" {
                continue;
            }
            let image: Image = serde_dynamo::from_item(record.change.new_image)?;
            newest = newest.max(image.recorded_at.clone());
            let (_, events) = patients
                .entry(image.patient_id.clone())
                .or_insert_with(|| (index, Vec::new()));
            events.push(image);
        }
        let ids: Vec<String> = patients.keys().cloned().collect();
        let known: HashMap<String, Summary> = stream::iter(ids.chunks(100))
            .map(|some| self.summaries(generation, some))
            .buffer_unordered(AT_ONCE)
            .try_collect::<Vec<_>>()
            .await?
            .into_iter()
            .flatten()
            .map(|summary| (summary.patient_id.clone(), summary))
            .collect();
        let mut failed = Vec::new();
        let mut steps = Vec::new();
        for (patient, (first, events)) in patients {
            match fold(generation, &patient, first, known.get(&patient), events) {
                None => failed.push(first),
                Some(step) if step.summary.applied > step.before => steps.push(step),
                Some(_) => {}
            }
        }
        let rows: Vec<&Row> = steps.iter().flat_map(|step| &step.rows).collect();
        stream::iter(rows.chunks(25))
            .map(|some| self.put_rows(some))
            .buffer_unordered(AT_ONCE)
            .try_collect::<Vec<()>>()
            .await?;
        let put: Vec<(usize, bool)> = stream::iter(&steps)
            .map(|step| async move { Ok::<_, Error>((step.first, self.put_summary(step).await?)) })
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        failed.extend(put.into_iter().filter(|(_, put)| !put).map(|(first, _)| first));
        let progress = Progress {
            pk: format!("g{generation}#freshness"),
            sk: "progress",
            recorded_at: newest,
            applied_at: Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true),
        };
        self.client
            .put_item()
            .table_name(&self.table)
            .set_item(Some(serde_dynamo::to_item(progress)?))
            .send()
            .await?;
        tracing::info!(records = sequence_numbers.len(), failed = failed.len(), "batch applied");
        let mut response = DynamoDbEventResponse::default();
        if let Some(first) = failed.into_iter().min() {
            let mut failure = DynamoDbBatchItemFailure::default();
            failure.item_identifier = sequence_numbers.into_iter().nth(first).flatten();
            response.batch_item_failures.push(failure);
        }
        Ok(response)
    }
}

/// What the events that follow the summary come to; `None` if one is missing.
fn fold(
    generation: u64,
    patient: &str,
    first: usize,
    before: Option<&Summary>,
    mut events: Vec<Image>,
) -> Option<Step> {
    let pk = format!("g{generation}#patient#{patient}");
    let mut summary = before.cloned().unwrap_or_else(|| Summary {
        pk: pk.clone(),
        sk: "summary".to_owned(),
        shard: format!("g{generation}#{:02}", Sha256::digest(patient)[0] % 8),
        patient_id: patient.to_owned(),
        recent_key: String::new(),
        applied: 0,
        name: None,
        registered_at: None,
        checkin_count: 0,
        last_checkin_at: None,
    });
    let before = summary.applied;
    let mut rows = Vec::new();
    events.sort_by_key(|event| event.version);
    for mut event in events {
        if event.version <= summary.applied {
            continue;
        }
        if event.version != summary.applied + 1 {
            return None;
        }
        if event.event_type == "PatientRegistered" {
            summary.name = event.data.remove("name");
            summary.registered_at = Some(event.occurred_at);
        } else {
            summary.checkin_count += 1;
            summary.last_checkin_at = summary.last_checkin_at.max(Some(event.occurred_at.clone()));
            rows.push(Row {
                pk: pk.clone(),
                sk: format!("checkin#{}#{:012}", event.occurred_at, event.version),
                checkin_id: event.data.remove("checkin_id")?,
            });
        }
        summary.applied = event.version;
    }
    let last = summary.last_checkin_at.as_deref().unwrap_or("-");
    summary.recent_key = format!("{last}#{patient}");
    Some(Step {
        first,
        before,
        summary,
        rows,
    })
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    tracing_subscriber::fmt().json().init();
    let config = aws_config::load_defaults(BehaviorVersion::latest()).await;
    let projector = &Projector {
        client: Client::new(&config),
        table: std::env::var("READ_MODEL_TABLE")?,
    };
    run(service_fn(|event: LambdaEvent<Event>| projector.handle(event.payload))).await
}
