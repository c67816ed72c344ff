//! Working on all parts of a table at once.

use std::future::Future;

use event_log::Segment;
use futures::stream::{self, StreamExt, TryStreamExt};

/// Does it for each of `total` parts, all at once. The first error ends it.
pub(crate) async fn all_segments<F, V, E>(total: u16, run: impl Fn(Segment) -> F) -> Result<Vec<V>, E>
where
    F: Future<Output = Result<V, E>>,
{
    let segments = (0..total).map(|index| Segment { index, total });
    // They are made before they run, see `projection::at_once`.
    let runs: Vec<F> = segments.map(run).collect();
    stream::iter(runs)
        .buffer_unordered(total.into())
        .try_collect()
        .await
}
