//! Running futures at the same time, but not too many.

use std::future::Future;

use futures::stream::{self, StreamExt};

/// Runs all futures, `limit` of them at a time, and gives what they gave, in the order in which they finish.
///
/// The futures are made before they run. A stream of closures that make them would be shorter, but rustc cannot show
/// that such a stream, borrowing what we borrow, is `Send` (<https://github.com/rust-lang/rust/issues/102211>).
pub(crate) async fn all_at_once<F: Future>(limit: usize, futures: Vec<F>) -> Vec<F::Output> {
    stream::iter(futures)
        .buffer_unordered(limit.max(1))
        .collect()
        .await
}
