//! Queues with SQS's behaviour: at-least-once delivery, visibility timeouts, receipt handles. Messages are kept in
//! the table of `local`, so they survive whatever it survives.
//!
//! Deliberately absent: FIFO queues, dead-letter queues, and retention (a message stays until it is deleted).
//! Receiving reads the whole queue; these queues hold what went wrong, so they are short.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use domain::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use uuid::Uuid;

use crate::local_table::{LocalTable, LocalTableUnavailable};

/// How long a received message stays invisible, if the receiver does not say.
pub(crate) const VISIBILITY_TIMEOUT: Duration = Duration::from_secs(30);

/// Why a queue did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum QueueError {
    /// No such queue. Create it, or correct its name.
    #[error("the queue {queue} does not exist")]
    NoSuchQueue {
        /// The name.
        queue: String,
    },
    /// The receipt handle was never given out, or the message has gone. Receive it again.
    #[error("the receipt handle is not valid")]
    InvalidReceipt,
    /// The messages can't be reached. Try again.
    #[error(transparent)]
    Unavailable(#[from] LocalTableUnavailable),
}

/// A message that was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SentMessage {
    /// Its id.
    pub(crate) id: Uuid,
}

/// A message that was received.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ReceivedMessage {
    /// Its id.
    pub(crate) id: Uuid,
    /// What its receiver deletes it with.
    pub(crate) receipt_handle: String,
    /// What it says.
    pub(crate) body: String,
    /// Its attributes, as the sender put them.
    pub(crate) attributes: Option<serde_json::Value>,
    /// When it was sent.
    pub(crate) sent_at: Timestamp,
    /// When it was received for the first time.
    pub(crate) first_received_at: Timestamp,
    /// How often it was received, this time included.
    pub(crate) receive_count: u32,
}

/// How many messages a queue holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct QueueDepth {
    /// Messages that can be received.
    pub(crate) visible: usize,
    /// Messages that were received and not deleted yet.
    pub(crate) in_flight: usize,
    /// Messages that are not to be received yet.
    pub(crate) delayed: usize,
}

#[derive(Debug, Serialize, Deserialize)]
struct QueueItem {
    pk: String,
    sk: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct MessageItem {
    pk: String,
    sk: String,
    id: Uuid,
    body: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    attributes: Option<serde_json::Value>,
    sent_at: Timestamp,
    visible_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    first_received_at: Option<Timestamp>,
    receive_count: u32,
}

/// All queues.
#[derive(Debug, Clone)]
pub(crate) struct Queues {
    table: LocalTable,
    sent: Arc<AtomicU64>,
    /// Held while messages change hands, so that no two receivers get the same one.
    handing_out: Arc<Mutex<()>>,
}

impl Queues {
    /// The queues in this table.
    #[must_use]
    pub(crate) fn new(table: LocalTable) -> Queues {
        Queues {
            table,
            sent: Arc::default(),
            handing_out: Arc::default(),
        }
    }

    /// Creates a queue, if it is not there yet.
    ///
    /// # Errors
    /// [`QueueError::Unavailable`]
    pub(crate) async fn create(&self, queue: &str) -> Result<(), QueueError> {
        Ok(self
            .table
            .put(&QueueItem {
                pk: QUEUES.to_owned(),
                sk: queue.to_owned(),
            })
            .await?)
    }

    /// The names of all queues, in order.
    ///
    /// # Errors
    /// [`QueueError::Unavailable`]
    pub(crate) async fn names(&self) -> Result<Vec<String>, QueueError> {
        let queues: Vec<QueueItem> = self.table.list(QUEUES).await?;
        Ok(queues.into_iter().map(|queue| queue.sk).collect())
    }

    /// Finds out whether a queue is there.
    ///
    /// # Errors
    /// [`QueueError::NoSuchQueue`] if not.
    pub(crate) async fn check(&self, queue: &str) -> Result<(), QueueError> {
        match self.table.get::<QueueItem>(QUEUES, queue).await? {
            Some(_) => Ok(()),
            None => Err(QueueError::NoSuchQueue {
                queue: queue.to_owned(),
            }),
        }
    }

    /// Sends a message, which can be received once `delay` is over.
    ///
    /// # Errors
    /// [`QueueError`]; if it is unavailable, the message may have been sent.
    pub(crate) async fn send(
        &self,
        queue: &str,
        body: &str,
        attributes: Option<serde_json::Value>,
        delay: Duration,
        now: Timestamp,
    ) -> Result<SentMessage, QueueError> {
        self.check(queue).await?;
        let number = self.sent.fetch_add(1, Ordering::Relaxed);
        // Keys are in the order of sending, and two runs differ in the time.
        let sk = format!("{now}#{number:012}");
        let id = Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("{queue}#{sk}").as_bytes());
        let message = MessageItem {
            pk: messages_pk(queue),
            sk,
            id,
            body: body.to_owned(),
            attributes,
            sent_at: now,
            visible_at: later(now, delay),
            first_received_at: None,
            receive_count: 0,
        };
        self.table.put(&message).await?;
        Ok(SentMessage { id })
    }

    /// Receives up to `limit` messages, oldest first. They stay invisible for `visibility_timeout`.
    ///
    /// # Errors
    /// [`QueueError`]
    pub(crate) async fn receive(
        &self,
        queue: &str,
        limit: usize,
        visibility_timeout: Duration,
        now: Timestamp,
    ) -> Result<Vec<ReceivedMessage>, QueueError> {
        self.check(queue).await?;
        let _handing_out = self.handing_out.lock().await;
        let mut received = Vec::new();
        for mut message in self.messages(queue).await? {
            if received.len() == limit {
                break;
            }
            if message.visible_at > now {
                continue;
            }
            message.receive_count += 1;
            message.visible_at = later(now, visibility_timeout);
            let first_received_at = *message.first_received_at.get_or_insert(now);
            self.table.put(&message).await?;
            received.push(ReceivedMessage {
                id: message.id,
                receipt_handle: format!("{}#{}", message.sk, message.receive_count),
                body: message.body,
                attributes: message.attributes,
                sent_at: message.sent_at,
                first_received_at,
                receive_count: message.receive_count,
            });
        }
        Ok(received)
    }

    /// Deletes a message. One that has gone already is fine; one that somebody else has received since stays.
    ///
    /// # Errors
    /// [`QueueError`]
    pub(crate) async fn delete(&self, queue: &str, receipt_handle: &str) -> Result<(), QueueError> {
        self.check(queue).await?;
        let (sk, receive_count) = parse_receipt(receipt_handle)?;
        let _handing_out = self.handing_out.lock().await;
        let pk = messages_pk(queue);
        let message: Option<MessageItem> = self.table.get(&pk, sk).await?;
        if message.is_some_and(|message| message.receive_count == receive_count) {
            self.table.delete(&pk, sk).await?;
        }
        Ok(())
    }

    /// Makes a received message visible again after `visibility_timeout` from now.
    ///
    /// # Errors
    /// [`QueueError::InvalidReceipt`] also if the message has gone or was received again.
    pub(crate) async fn change_visibility(
        &self,
        queue: &str,
        receipt_handle: &str,
        visibility_timeout: Duration,
        now: Timestamp,
    ) -> Result<(), QueueError> {
        self.check(queue).await?;
        let (sk, receive_count) = parse_receipt(receipt_handle)?;
        let _handing_out = self.handing_out.lock().await;
        let message: Option<MessageItem> = self.table.get(&messages_pk(queue), sk).await?;
        let mut message = message
            .filter(|message| message.receive_count == receive_count)
            .ok_or(QueueError::InvalidReceipt)?;
        message.visible_at = later(now, visibility_timeout);
        Ok(self.table.put(&message).await?)
    }

    /// Deletes all messages of a queue.
    ///
    /// # Errors
    /// [`QueueError`]
    pub(crate) async fn purge(&self, queue: &str) -> Result<(), QueueError> {
        self.check(queue).await?;
        let _handing_out = self.handing_out.lock().await;
        for message in self.messages(queue).await? {
            self.table.delete(&message.pk, &message.sk).await?;
        }
        Ok(())
    }

    /// How many messages a queue holds.
    ///
    /// # Errors
    /// [`QueueError`]
    pub(crate) async fn depth(&self, queue: &str, now: Timestamp) -> Result<QueueDepth, QueueError> {
        self.check(queue).await?;
        let mut depth = QueueDepth::default();
        for message in self.messages(queue).await? {
            if message.visible_at <= now {
                depth.visible += 1;
            } else if message.receive_count > 0 {
                depth.in_flight += 1;
            } else {
                depth.delayed += 1;
            }
        }
        Ok(depth)
    }

    async fn messages(&self, queue: &str) -> Result<Vec<MessageItem>, QueueError> {
        Ok(self.table.list(&messages_pk(queue)).await?)
    }
}

const QUEUES: &str = "queues";

fn messages_pk(queue: &str) -> String {
    format!("messages#{queue}")
}

fn parse_receipt(receipt_handle: &str) -> Result<(&str, u32), QueueError> {
    let (sk, count) = receipt_handle
        .rsplit_once('#')
        .ok_or(QueueError::InvalidReceipt)?;
    Ok((sk, count.parse().map_err(|_| QueueError::InvalidReceipt)?))
}

fn later(now: Timestamp, by: Duration) -> Timestamp {
    now.plus_millis(i64::try_from(by.as_millis()).unwrap_or(i64::MAX))
}
