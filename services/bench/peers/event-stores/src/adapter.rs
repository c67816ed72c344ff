//! Appending with event-store-adapter-rs: the head, then the next event in a transaction with the new head. No command here needs
//! to know the state, so no snapshot is written, and none is read: the least that the crate does for an append.

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::ScalarAttributeType::{N, S};
use chrono::Utc;
use event_store_adapter_rs::{
    AggregateId, DynamoDbOptions, DynamoDbTables, EventEnvelope, EventStoreForDynamoDB,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Error, Work, done, ready, tables};

#[derive(Debug, Clone)]
struct PatientId(String);

impl AggregateId for PatientId {
    fn type_name(&self) -> String {
        "Patient".to_owned()
    }

    fn value(&self) -> String {
        self.0.clone()
    }
}

#[derive(Serialize, Deserialize)]
enum PatientEvent {
    Registered { name: String },
    CheckedIn { checkin_id: Uuid },
}

/// What a snapshot would hold.
#[derive(Serialize, Deserialize)]
struct Patient;

type Store = EventStoreForDynamoDB<PatientId, Patient, PatientEvent>;

async fn append(store: &Store, id: &PatientId, event: PatientEvent) -> Result<(), Error> {
    let head = store.get_latest_snapshot_by_id(id).await?.map_or(0, |read| read.head_seq_nr());
    store.persist_event(EventEnvelope::new(id.clone(), head + 1, Utc::now(), event)).await?;
    Ok(())
}

pub(crate) async fn run(client: &Client, work: Work) -> Result<(), Error> {
    let names = DynamoDbTables {
        journal_table_name: "adapter-journal".to_owned(),
        snapshot_table_name: "adapter-snapshot".to_owned(),
        head_table_name: "adapter-head-table".to_owned(),
        snapshot_history_index_name: "active-history".to_owned(),
    };
    let history = [("aid", S), ("active_history_seq_nr", N)];
    tables::create_journal(client, &names.journal_table_name, &[("aid", S), ("seq_nr", N)]).await?;
    let index = (names.snapshot_history_index_name.as_str(), &history[..]);
    tables::create_indexed(client, &names.snapshot_table_name, &[("aid", S), ("skey", N)], index).await?;
    tables::create(client, &names.head_table_name, &[("aid", S)]).await?;
    let store = Store::open(client.clone(), names, DynamoDbOptions::default()).await?;
    for id in work.patient_ids() {
        append(&store, &PatientId(id), PatientEvent::Registered { name: "Ada Example".to_owned() }).await?;
    }
    ready().await?;
    for _ in 0..work.check_ins {
        for id in work.patient_ids() {
            let checkin_id = Uuid::new_v4();
            append(&store, &PatientId(id), PatientEvent::CheckedIn { checkin_id }).await?;
        }
    }
    done(work.patients * work.check_ins).await
}
