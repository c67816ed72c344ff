//! Projecting with one transaction per event, the plain way that survives redelivery: the row and the summary together, on condition
//! that the summary is at the version before. Patients at the same time, each one's events in order.

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{AttributeValue, Put, TransactWriteItem, Update};
use chrono::{DateTime, SecondsFormat, TimeDelta};
use futures::{StreamExt, TryStreamExt, stream};
use uuid::Uuid;

use crate::{Error, Work, done, ready};

const AT_ONCE: usize = 16;

fn text(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}

fn number(value: usize) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

/// The projector's own table, keys and indexes, in a generation that nobody else writes to.
fn pk(patient: &str) -> String {
    format!("g9#patient#{patient}")
}

async fn register(client: &Client, table: &str, patient: &str) -> Result<(), Error> {
    client
        .put_item()
        .table_name(table)
        .item("pk", text(pk(patient)))
        .item("sk", text("summary"))
        .item("shard", text("g9#00"))
        .item("patient_id", text(patient))
        .item("recent_key", text(format!("-#{patient}")))
        .item("applied", number(1))
        .item("name", text("Ada Example"))
        .item("registered_at", text("2026-11-24T00:00:00.000Z"))
        .item("checkin_count", number(0))
        .send()
        .await?;
    Ok(())
}

async fn apply(client: &Client, table: &str, patient: &str, version: usize) -> Result<(), Error> {
    let at = DateTime::UNIX_EPOCH + TimeDelta::minutes(version.try_into()?);
    let at = at.to_rfc3339_opts(SecondsFormat::Millis, true);
    let row = Put::builder()
        .table_name(table)
        .item("pk", text(pk(patient)))
        .item("sk", text(format!("checkin#{at}#{version:012}")))
        .item("checkin_id", text(Uuid::new_v4().to_string()))
        .build()?;
    let summary = Update::builder()
        .table_name(table)
        .key("pk", text(pk(patient)))
        .key("sk", text("summary"))
        .update_expression("SET applied = :new, last_checkin_at = :at, recent_key = :recent ADD checkin_count :one")
        .condition_expression("applied = :old")
        .expression_attribute_values(":new", number(version))
        .expression_attribute_values(":old", number(version - 1))
        .expression_attribute_values(":at", text(at.as_str()))
        .expression_attribute_values(":recent", text(format!("{at}#{patient}")))
        .expression_attribute_values(":one", number(1))
        .build()?;
    client
        .transact_write_items()
        .transact_items(TransactWriteItem::builder().put(row).build())
        .transact_items(TransactWriteItem::builder().update(summary).build())
        .send()
        .await?;
    Ok(())
}

pub(crate) async fn run(client: &Client, work: Work) -> Result<(), Error> {
    let table = &std::env::var("READ_MODEL_TABLE")?;
    for id in work.patient_ids() {
        register(client, table, &id).await?;
    }
    ready().await?;
    stream::iter(work.patient_ids())
        .map(|id| async move {
            for version in 2..work.check_ins + 2 {
                apply(client, table, &id, version).await?;
            }
            Ok::<_, Error>(())
        })
        .buffer_unordered(AT_ONCE)
        .try_collect::<Vec<()>>()
        .await?;
    done(work.patients * work.check_ins).await
}
