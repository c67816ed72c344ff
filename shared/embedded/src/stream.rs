//! The stream of the event table, as a poller in the same process reads it.

use dynoxide::Database;
use dynoxide::actions::describe_stream::DescribeStreamRequest;
use dynoxide::actions::get_records::GetRecordsRequest;
use dynoxide::actions::get_shard_iterator::GetShardIteratorRequest;
use dynoxide::actions::list_streams::ListStreamsRequest;
use serde_json::Value;

use crate::{EVENT_TABLE, Unreadable};

/// Most records that one GetRecords gives
/// (<https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_streams_GetRecords.html>).
const RECORDS_PER_READ: usize = 1_000;

/// Up to `limit` stream records of the event table after sequence number `after`, or from the oldest on, in the
/// form that Lambda's DynamoDB event has them.
///
/// # Errors
/// [`Unreadable`]
pub fn records(database: &Database, after: Option<&str>, limit: usize) -> Result<Vec<Value>, Unreadable> {
    let failed = |error: &dyn std::fmt::Display| Unreadable(error.to_string());
    let streams = database
        .list_streams(ListStreamsRequest {
            table_name: Some(EVENT_TABLE.to_owned()),
            ..Default::default()
        })
        .map_err(|e| failed(&e))?;
    let stream_arn = streams
        .streams
        .into_iter()
        .next()
        .ok_or_else(|| failed(&"the event table has no stream"))?
        .stream_arn;
    let described = database
        .describe_stream(DescribeStreamRequest {
            stream_arn: stream_arn.clone(),
            ..Default::default()
        })
        .map_err(|e| failed(&e))?;
    // The embedded DynamoDB has one shard per stream, and it stays open.
    let Some(shard) = described.stream_description.shards.into_iter().next() else {
        return Ok(Vec::new());
    };
    let start = database
        .get_shard_iterator(GetShardIteratorRequest {
            stream_arn: stream_arn.clone(),
            shard_id: shard.shard_id,
            shard_iterator_type: match after {
                Some(_) => "AFTER_SEQUENCE_NUMBER",
                None => "TRIM_HORIZON",
            }
            .to_owned(),
            sequence_number: after.map(str::to_owned),
        })
        .map_err(|e| failed(&e))?;
    let mut iterator = start.shard_iterator;
    let mut records = Vec::new();
    while let Some(shard_iterator) = iterator.take()
        && records.len() < limit
    {
        let wanted = RECORDS_PER_READ.min(limit - records.len());
        let read = database
            .get_records(GetRecordsRequest {
                shard_iterator,
                limit: Some(wanted),
            })
            .map_err(|e| failed(&e))?;
        if read.records.is_empty() {
            break;
        }
        for record in read.records {
            let mut record = serde_json::to_value(record).map_err(|e| failed(&e))?;
            if let Some(fields) = record.as_object_mut() {
                fields.insert("eventSourceARN".to_owned(), stream_arn.clone().into());
            }
            records.push(record);
        }
        iterator = read.next_shard_iterator;
    }
    Ok(records)
}
