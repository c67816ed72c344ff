# From the event table's stream to the projector. Deliberately absent: a filter. It would hide from the projector that
# somebody changed an event.
resource "aws_lambda_event_source_mapping" "stream" {
  event_source_arn = aws_dynamodb_table.events.stream_arn
  function_name    = aws_lambda_function.this["projector"].arn

  # Whatever was recorded before the mapping was there, and in the moment in which it is replaced.
  starting_position = "TRIM_HORIZON"

  # The projector names the first record that failed; what is before it is done.
  function_response_types = ["ReportBatchItemFailures"]

  batch_size                         = var.stream.batch_size
  maximum_batching_window_in_seconds = var.stream.window_seconds
  parallelization_factor             = var.stream.parallel

  # An event that can't be applied is no failure: it is quarantined. So what is retried is a table that can't be
  # reached, and giving up, which lets the shard go on, costs one sweep of the reconciler.
  maximum_retry_attempts         = var.stream.retries
  maximum_record_age_in_seconds  = var.stream.record_age_seconds
  bisect_batch_on_function_error = true

  destination_config {
    on_failure {
      destination_arn = aws_sqs_queue.this["stream_failures"].arn
    }
  }

  depends_on = [aws_iam_role_policy.function]

  lifecycle {
    precondition {
      # Events wait that long when all is well, and the alarms about lag must not take it for a fault.
      condition     = !var.alarms || var.stream.window_seconds < local.found_lag_seconds
      error_message = "stream.window_seconds must be less than projection_lag_seconds, and than half of the time that reconcile_minutes says: the alarms about lag would be raised all the time."
    }
  }
}
