//! Running the reconciler by hand.

use reconciler::{Reconciler, ReconcilerError, Request, Summary};
use runtime::clock::system_clock;

use crate::connection::Connection;

/// Does what the reconciler does on its schedule; `full` compares everything that was ever recorded.
///
/// # Errors
/// [`ReconcilerError`]: run it again.
pub(crate) async fn reconcile(
    connection: &Connection,
    full: bool,
    concurrency: usize,
) -> Result<Summary, ReconcilerError> {
    let reconciler = Reconciler {
        log: connection.log.clone(),
        store: connection.store.clone(),
        queue: connection.queue.clone(),
        concurrency,
        clock: system_clock,
    };
    let request = Request {
        full,
        ..Request::default()
    };
    reconciler.handle(request).await
}
