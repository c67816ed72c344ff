//! x

/// Runs the service on the Lambda Runtime API, configured by its environment.
///
/// # Errors
/// Whatever keeps the service from starting or going on; `main` shows it.
pub async fn run() -> Result<(), runtime::BoxError> {
    Ok(())
}
