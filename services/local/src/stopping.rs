//! The signal to come to an end.

use tokio::sync::watch;

/// Tells a task when to come to an end.
#[derive(Debug, Clone)]
pub(crate) struct Stopping(watch::Receiver<bool>);

impl Stopping {
    pub(crate) fn new(stop: watch::Receiver<bool>) -> Stopping {
        Stopping(stop)
    }

    /// Waits until it is time to come to an end, which includes that nobody is left to say so.
    pub(crate) async fn wait(&mut self) {
        // An error means that the sender is gone.
        let _ = self.0.wait_for(|stop| *stop).await;
    }

    pub(crate) fn is_set(&self) -> bool {
        *self.0.borrow() || self.0.has_changed().is_err()
    }
}
