//! Telling operators about an event that can't be applied.

use std::future::Future;

use aws_sdk_sqs::Client;
use domain::{Generation, PatientId, Quarantine};
use serde::Serialize;

/// The queue could not be reached. Retry later; nothing was marked as quarantined.
#[derive(Debug, thiserror::Error)]
#[error("the quarantine queue is unavailable")]
pub struct QueueUnavailable(#[source] pub Box<dyn std::error::Error + Send + Sync>);

/// One event that can't be applied: keys and a reason, no patient data. The JSON is the message on the queue,
/// documented in docs/EVENTS.md.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum QuarantineNotice {
    /// A patient was quarantined at an event. Once it can be applied, a rebuild (or a redrive) tries again.
    Event {
        /// In which build of the read model.
        generation: Generation,
        /// Which patient.
        patient_id: PatientId,
        /// Which event, and why.
        #[serde(flatten)]
        quarantine: Quarantine,
    },
    /// A stream record names no patient that could be quarantined: its key is not one that this system writes.
    Record {
        /// Which record.
        sequence_number: String,
        /// Why.
        reason: &'static str,
    },
}

/// Where notices go: to [`SqsQuarantineQueue`]. The simulator has another implementation, and the replay can do
/// without a queue.
pub trait QuarantineQueue: Send + Sync {
    /// Puts a notice on the queue. It is put again when what follows fails, so a reader may see it twice.
    fn put(&self, notice: &QuarantineNotice) -> impl Future<Output = Result<(), QueueUnavailable>> + Send;
}

/// The quarantine queue in SQS.
#[derive(Debug, Clone)]
pub struct SqsQuarantineQueue {
    client: Client,
    url: String,
}

impl SqsQuarantineQueue {
    /// The queue at this URL.
    #[must_use]
    pub fn new(client: Client, url: impl Into<String>) -> SqsQuarantineQueue {
        SqsQuarantineQueue {
            client,
            url: url.into(),
        }
    }
}

impl QuarantineQueue for SqsQuarantineQueue {
    async fn put(&self, notice: &QuarantineNotice) -> Result<(), QueueUnavailable> {
        let body = serde_json::to_string(notice).map_err(|error| QueueUnavailable(error.into()))?;
        self.client
            .send_message()
            .queue_url(&self.url)
            .message_body(body)
            .send()
            .await
            .map_err(|error| QueueUnavailable(error.into()))?;
        Ok(())
    }
}
