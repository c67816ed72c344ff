//! The stream of the event table, as a poller in the same process reads it.

use domain::Timestamp;
use dynoxide::Database;
use dynoxide::actions::describe_stream::DescribeStreamRequest;
use dynoxide::actions::get_records::{GetRecordsRequest, Record};
use dynoxide::actions::get_shard_iterator::GetShardIteratorRequest;
use dynoxide::actions::list_streams::ListStreamsRequest;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{EVENT_TABLE, Unreadable};

/// DynamoDB Streams' opaque position of a record. Its order is that of the stream, and never that of versions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SequenceNumber(String);

impl SequenceNumber {
    /// The number with this text.
    #[must_use]
    pub fn new(text: impl Into<String>) -> SequenceNumber {
        SequenceNumber(text.into())
    }

    /// The number as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// One record of the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamRecord {
    /// Where it is.
    pub sequence_number: SequenceNumber,
    /// When the change was made, to the second.
    pub created_at: Timestamp,
    /// The record as a function gets it: JSON.
    pub json: String,
}

/// Most records that one read gives
/// (<https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_streams_GetRecords.html>).
pub const MAX_READ: usize = 1_000;

/// The stream of the event table. It has one shard, which never closes (that the database reports where it ends
/// does not mean that it is closed).
#[derive(Clone)]
pub struct Stream {
    database: Database,
    arn: String,
    shard_id: String,
}

impl Stream {
    /// The stream in this database.
    ///
    /// # Errors
    /// [`Unreadable`] also if the event table has no stream.
    pub fn open(database: &Database) -> Result<Stream, Unreadable> {
        let streams = database
            .list_streams(ListStreamsRequest {
                table_name: Some(EVENT_TABLE.to_owned()),
                ..Default::default()
            })
            .map_err(unreadable)?;
        let stream = streams
            .streams
            .into_iter()
            .next()
            .ok_or_else(|| unreadable("the event table has no stream"))?;
        let described = database
            .describe_stream(DescribeStreamRequest {
                stream_arn: stream.stream_arn.clone(),
                ..Default::default()
            })
            .map_err(unreadable)?;
        let shard = described
            .stream_description
            .shards
            .into_iter()
            .next()
            .ok_or_else(|| unreadable("the stream has no shard"))?;
        Ok(Stream {
            database: database.clone(),
            arn: stream.stream_arn,
            shard_id: shard.shard_id,
        })
    }

    /// The stream's name. A table that is created anew has a new one.
    #[must_use]
    pub fn arn(&self) -> &str {
        &self.arn
    }

    /// The name of the stream's only shard.
    #[must_use]
    pub fn shard_id(&self) -> &str {
        &self.shard_id
    }

    /// Up to `limit` records, and no more than [`MAX_READ`], after this one, or from the oldest on, in order.
    /// Fewer: the end has been reached. It blocks: the database does its file access on the calling thread.
    ///
    /// # Errors
    /// [`Unreadable`]
    pub fn read(
        &self,
        after: Option<&SequenceNumber>,
        limit: usize,
    ) -> Result<Vec<StreamRecord>, Unreadable> {
        let iterator = self
            .database
            .get_shard_iterator(GetShardIteratorRequest {
                stream_arn: self.arn.clone(),
                shard_id: self.shard_id.clone(),
                shard_iterator_type: match after {
                    None => "TRIM_HORIZON",
                    Some(_) => "AFTER_SEQUENCE_NUMBER",
                }
                .to_owned(),
                sequence_number: after.map(|number| number.0.clone()),
            })
            .map_err(unreadable)?;
        let read = self
            .database
            .get_records(GetRecordsRequest {
                shard_iterator: iterator.shard_iterator.unwrap_or_default(),
                limit: Some(limit.min(MAX_READ)),
            })
            .map_err(unreadable)?;
        read.records.iter().map(|record| self.record(record)).collect()
    }

    fn record(&self, record: &Record) -> Result<StreamRecord, Unreadable> {
        #[derive(Serialize)]
        struct Delivered<'a> {
            #[serde(flatten)]
            record: &'a Record,
            #[serde(rename = "eventSourceARN")]
            stream_arn: &'a str,
        }
        let change = &record.dynamodb;
        #[allow(
            clippy::cast_possible_truncation,
            reason = "seconds since 1970 are far below the limit of an i64"
        )]
        let created_millis = (change.approximate_creation_date_time * 1_000.0) as i64;
        Ok(StreamRecord {
            sequence_number: SequenceNumber(change.sequence_number.clone()),
            created_at: Timestamp::from_unix_millis(created_millis).map_err(unreadable)?,
            json: serde_json::to_string(&Delivered {
                record,
                stream_arn: &self.arn,
            })
            .map_err(unreadable)?,
        })
    }
}

/// Up to `limit` stream records of the event table after sequence number `after`, or from the oldest on, in the
/// form that Lambda's DynamoDB event has them.
///
/// # Errors
/// [`Unreadable`]
pub fn records(database: &Database, after: Option<&str>, limit: usize) -> Result<Vec<Value>, Unreadable> {
    let stream = Stream::open(database)?;
    let mut after = after.map(SequenceNumber::new);
    let mut records = Vec::new();
    while records.len() < limit {
        let read = stream.read(after.as_ref(), limit - records.len())?;
        let Some(last) = read.last() else { break };
        after = Some(last.sequence_number.clone());
        for record in read {
            records.push(serde_json::from_str(&record.json).map_err(unreadable)?);
        }
    }
    Ok(records)
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn unreadable(error: impl ToString) -> Unreadable {
    Unreadable(error.to_string())
}
