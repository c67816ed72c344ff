//! How far a mapping has come in a stream, kept in the table of `local`.

use serde::{Deserialize, Serialize};

use crate::local_table::{LocalTable, LocalTableUnavailable};
use embedded::stream::SequenceNumber;

/// How far mappings have come.
#[derive(Debug, Clone)]
pub(crate) struct Checkpoints(LocalTable);

#[derive(Serialize, Deserialize)]
struct CheckpointItem {
    pk: String,
    sk: String,
    done: SequenceNumber,
}

const CHECKPOINT: &str = "checkpoint";

impl Checkpoints {
    /// The checkpoints in this table.
    #[must_use]
    pub(crate) fn new(table: LocalTable) -> Checkpoints {
        Checkpoints(table)
    }

    /// The last record of the stream that is done together with all before it; `None` if none is.
    ///
    /// # Errors
    /// [`LocalTableUnavailable`]: try again.
    pub(crate) async fn load(
        &self,
        stream_arn: &str,
    ) -> Result<Option<SequenceNumber>, LocalTableUnavailable> {
        let item: Option<CheckpointItem> = self.0.get(&key(stream_arn), CHECKPOINT).await?;
        Ok(item.map(|item| item.done))
    }

    /// Remembers that this record of the stream is done together with all before it.
    ///
    /// # Errors
    /// [`LocalTableUnavailable`]: try again, or deliver the records again.
    pub(crate) async fn store(
        &self,
        stream_arn: &str,
        done: &SequenceNumber,
    ) -> Result<(), LocalTableUnavailable> {
        self.0
            .put(&CheckpointItem {
                pk: key(stream_arn),
                sk: CHECKPOINT.to_owned(),
                done: done.clone(),
            })
            .await
    }
}

fn key(stream_arn: &str) -> String {
    format!("stream#{stream_arn}")
}
