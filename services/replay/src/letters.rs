//! Messages about what went wrong, as an operator takes them from their queues.

use std::future::Future;

use aws_sdk_sqs::Client;
use domain::{Generation, PatientId, StreamVersion, Timestamp};
use serde::Deserialize;

/// Messages that are received at once, at most
/// (<https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_ReceiveMessage.html>).
const RECEIVED_AT_ONCE: i32 = 10;
/// For how many seconds SQS looks for messages, on all its servers; without waiting it asks only some of them, so that no
/// answer would be no news.
const WAIT_SECONDS: i32 = 2;
/// For how many seconds nobody else sees them: longer than it takes to deal with ten.
const INVISIBLE_SECONDS: i32 = 60;
/// For how many seconds nobody sees a message that is held: longer than a run takes.
const HELD_SECONDS: i32 = 3_600;

/// A queue can't be reached. Run the command again: a message that was dealt with twice changes nothing.
#[derive(Debug, thiserror::Error)]
#[error("the queue is unavailable")]
pub struct LettersUnavailable(#[source] pub Box<dyn std::error::Error + Send + Sync>);

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// Which message.
    pub id: String,
    /// What it is removed by.
    pub receipt: String,
    /// What it says.
    pub body: String,
}

/// Taking messages from a queue. Two implementations: [`SqsLetters`], and the simulator's.
pub trait Letters: Send + Sync {
    /// Some messages, which nobody else sees for a while; none if there are none at the moment.
    fn receive(&self) -> impl Future<Output = Result<Vec<Letter>, LettersUnavailable>> + Send;

    /// Lets nobody see a message for as long as a run may take, so that those are received which have not been yet. If
    /// the run ends without a word, they come again by themselves.
    fn hold(&self, letter: &Letter) -> impl Future<Output = Result<(), LettersUnavailable>> + Send;

    /// Lets everybody see a message again, at once.
    fn put_back(&self, letter: &Letter) -> impl Future<Output = Result<(), LettersUnavailable>> + Send;

    /// Removes a message that was dealt with.
    fn remove(&self, letter: &Letter) -> impl Future<Output = Result<(), LettersUnavailable>> + Send;
}

/// The messages of a queue in SQS.
#[derive(Debug, Clone)]
pub struct SqsLetters {
    client: Client,
    url: String,
}

impl SqsLetters {
    /// Those of the queue at this URL.
    #[must_use]
    pub fn new(client: Client, url: impl Into<String>) -> SqsLetters {
        SqsLetters {
            client,
            url: url.into(),
        }
    }

    async fn show_after(&self, letter: &Letter, seconds: i32) -> Result<(), LettersUnavailable> {
        self.client
            .change_message_visibility()
            .queue_url(&self.url)
            .receipt_handle(&letter.receipt)
            .visibility_timeout(seconds)
            .send()
            .await
            .map_err(|error| LettersUnavailable(error.into()))?;
        Ok(())
    }
}

impl Letters for SqsLetters {
    async fn receive(&self) -> Result<Vec<Letter>, LettersUnavailable> {
        let received = self
            .client
            .receive_message()
            .queue_url(&self.url)
            .max_number_of_messages(RECEIVED_AT_ONCE)
            .visibility_timeout(INVISIBLE_SECONDS)
            .wait_time_seconds(WAIT_SECONDS)
            .send()
            .await
            .map_err(|error| LettersUnavailable(error.into()))?;
        let messages = received.messages.unwrap_or_default().into_iter();
        Ok(messages
            .filter_map(|message| {
                Some(Letter {
                    id: message.message_id?,
                    receipt: message.receipt_handle?,
                    body: message.body.unwrap_or_default(),
                })
            })
            .collect())
    }

    async fn hold(&self, letter: &Letter) -> Result<(), LettersUnavailable> {
        self.show_after(letter, HELD_SECONDS).await
    }

    async fn put_back(&self, letter: &Letter) -> Result<(), LettersUnavailable> {
        self.show_after(letter, 0).await
    }

    async fn remove(&self, letter: &Letter) -> Result<(), LettersUnavailable> {
        self.client
            .delete_message()
            .queue_url(&self.url)
            .receipt_handle(&letter.receipt)
            .send()
            .await
            .map_err(|error| LettersUnavailable(error.into()))?;
        Ok(())
    }
}

/// What a message on the quarantine queue says of an event that can't be applied (docs/EVENTS.md).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct QuarantinedEvent {
    pub(crate) generation: Generation,
    pub(crate) patient_id: PatientId,
    pub(crate) version: StreamVersion,
}

impl QuarantinedEvent {
    /// Reads a message; `None` if it is about something else.
    pub(crate) fn read(letter: &Letter) -> Option<QuarantinedEvent> {
        serde_json::from_str(&letter.body).ok()
    }
}

/// When the first record of a batch that was given up came into the stream, as the message on the on-failure queue says
/// (<https://docs.aws.amazon.com/lambda/latest/dg/services-dynamodb-errors.html>).
pub(crate) fn given_up_from(letter: &Letter) -> Option<Timestamp> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct BatchInfo {
        approximate_arrival_of_first_record: String,
    }
    #[derive(Deserialize)]
    struct Message {
        #[serde(rename = "DDBStreamBatchInfo")]
        batch: BatchInfo,
    }
    let message: Message = serde_json::from_str(&letter.body).ok()?;
    Timestamp::parse_rfc3339(&message.batch.approximate_arrival_of_first_record).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(body: &str) -> Letter {
        Letter {
            id: "1".to_owned(),
            receipt: "r".to_owned(),
            body: body.to_owned(),
        }
    }

    #[test]
    fn notice_of_the_projector_is_read() {
        let quarantine = domain::Quarantine {
            version: StreamVersion::new(9),
            reason: domain::QuarantineReason::missing(),
            since: Timestamp::EARLIEST,
        };
        let patient_id: PatientId = "p-003".parse().unwrap();
        let notice = projection::QuarantineNotice::Event {
            generation: Generation::FIRST,
            patient_id: patient_id.clone(),
            quarantine,
        };
        let read = QuarantinedEvent::read(&letter(&serde_json::to_string(&notice).unwrap())).unwrap();
        assert_eq!((read.patient_id, read.version.get()), (patient_id, 9));
        let other = projection::QuarantineNotice::Record {
            sequence_number: "1".to_owned(),
            reason: "invalid_key",
        };
        assert_eq!(
            QuarantinedEvent::read(&letter(&serde_json::to_string(&other).unwrap())),
            None
        );
    }

    #[test]
    fn message_of_lambda_says_since_when_records_are_missing() {
        let body = r#"{"version":"1.0","DDBStreamBatchInfo":{"shardId":"shardId-1","batchSize":1,
            "approximateArrivalOfFirstRecord":"2026-11-24T09:32:00Z"}}"#;
        let from = given_up_from(&letter(body)).unwrap();
        assert_eq!(from.to_string(), "2026-11-24T09:32:00.000Z");
        for other in ["", "{}", r#"{"DDBStreamBatchInfo":{}}"#] {
            assert_eq!(given_up_from(&letter(other)), None);
        }
    }
}
