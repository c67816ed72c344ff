locals {
  queues = {
    # One message for each event that can't be applied, put there by whoever met it.
    quarantine = "${var.name}-quarantine"
    # One message for each batch of stream records that Lambda gave up.
    stream_failures = "${var.name}-stream-failures"
  }
}

resource "aws_sqs_queue" "this" {
  for_each = local.queues

  name = each.value

  # The longest there is: nothing takes messages off but an operator. What a message says is in the read model too.
  message_retention_seconds = 1209600

  # Without an own key SQS's own does it.
  kms_master_key_id                 = local.kms_key_arn
  kms_data_key_reuse_period_seconds = local.own_key ? 3600 : null
  sqs_managed_sse_enabled           = local.own_key ? null : true
}

resource "aws_sqs_queue_policy" "this" {
  for_each = local.queues

  queue_url = aws_sqs_queue.this[each.key].url

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "OnlyOverTls"
      Effect    = "Deny"
      Principal = "*"
      Action    = "sqs:*"
      Resource  = aws_sqs_queue.this[each.key].arn
      Condition = { Bool = { "aws:SecureTransport" = "false" } }
    }]
  })
}
