//! Wiring only: the handler is a library function.

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), runtime::BoxError> {
    reconciler::run().await
}
