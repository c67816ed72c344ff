//! Writing many items with as few calls as DynamoDB takes them.

use std::collections::HashMap;
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::WriteRequest;

use crate::store::ProjectionUnavailable;

/// How often items that DynamoDB leaves unprocessed are written again before the call fails.
const ATTEMPTS: u32 = 6;
/// The first wait before that; each further one is twice as long.
const FIRST_BACKOFF: Duration = Duration::from_millis(25);

/// Carries out at most [`crate::MAX_ROWS_PER_PUT`] requests on a table, none of which is for the same item.
///
/// # Errors
/// [`ProjectionUnavailable`]: some may have been carried out. Carry out all of them again.
pub async fn batch_write(
    client: &Client,
    table: &str,
    requests: Vec<WriteRequest>,
) -> Result<(), ProjectionUnavailable> {
    let mut pending = Some(HashMap::from([(table.to_owned(), requests)]));
    for attempt in 0..ATTEMPTS {
        if attempt > 0 {
            tokio::time::sleep(FIRST_BACKOFF * (1 << (attempt - 1))).await;
        }
        let answer = client
            .batch_write_item()
            .set_request_items(pending.take())
            .send()
            .await
            .map_err(|error| ProjectionUnavailable(error.into()))?;
        pending = answer.unprocessed_items.filter(|left| !left.is_empty());
        if pending.is_none() {
            return Ok(());
        }
    }
    Err(ProjectionUnavailable("items were left unprocessed".into()))
}
