# The definitions are those that the code makes for itself on one machine, shared/embedded/tables: a test compares them.
# What the attributes mean is in docs/EVENTS.md.

# The truth. Nothing here is ever changed or removed.
resource "aws_dynamodb_table" "events" {
  name         = "${var.name}-events"
  billing_mode = "PAY_PER_REQUEST"
  hash_key     = "patient_id"
  range_key    = "version"

  deletion_protection_enabled = var.deletion_protection

  # Whose patients these are. deploy.sh reads it: made-up ones among real ones could never be removed again.
  tags = { roster = var.own_roster ? "own" : "built-in" }

  attribute {
    name = "patient_id"
    type = "S"
  }
  attribute {
    name = "version"
    type = "N"
  }
  attribute {
    name = "shard"
    type = "S"
  }
  attribute {
    name = "recorded_key"
    type = "S"
  }

  global_secondary_index {
    name            = "by_recorded_at"
    hash_key        = "shard"
    range_key       = "recorded_key"
    projection_type = "KEYS_ONLY"
  }

  stream_enabled   = true
  stream_view_type = "NEW_IMAGE"

  point_in_time_recovery {
    enabled                 = var.recovery_days > 0
    recovery_period_in_days = var.recovery_days > 0 ? var.recovery_days : null
  }

  # Without one, DynamoDB encrypts with a key of its own.
  dynamic "server_side_encryption" {
    for_each = local.own_key ? [local.kms_key_arn] : []

    content {
      enabled     = true
      kms_key_arn = server_side_encryption.value
    }
  }
}

# The table's own word, above every IAM policy of the account. IAM can't tell a put of a new item from one in the
# place of another: that no event is replaced is up to the producer's condition, so nobody else may put at all. The
# producer's role is named, not referred to, so that the policy stays with the table when all else is destroyed.
resource "aws_dynamodb_resource_policy" "events" {
  count = var.append_only ? 1 : 0

  resource_arn = aws_dynamodb_table.events.arn

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid       = "AnEventNeverChanges"
        Effect    = "Deny"
        Principal = "*"
        Action = [
          "dynamodb:BatchWriteItem",
          "dynamodb:DeleteItem",
          "dynamodb:PartiQLDelete",
          "dynamodb:PartiQLInsert",
          "dynamodb:PartiQLUpdate",
          "dynamodb:UpdateItem",
        ]
        Resource = aws_dynamodb_table.events.arn
      },
      {
        Sid       = "OnlyTheProducerAppends"
        Effect    = "Deny"
        Principal = "*"
        Action    = ["dynamodb:PutItem"]
        Resource  = aws_dynamodb_table.events.arn
        Condition = {
          ArnNotEquals = { "aws:PrincipalArn" = "arn:${local.partition}:iam::${local.account}:role/${var.name}-checkin" }
        }
      },
    ]
  })
}

# What queries see. It can be computed from the events at any time, by `replay rebuild`: so no backup, no deletion
# protection.
resource "aws_dynamodb_table" "read_model" {
  #checkov:skip=CKV_AWS_28:The read model is computed from the events; `replay rebuild` makes it anew, verified, sooner than a restore would, and a restored one would lag.
  name         = "${var.name}-read-model"
  billing_mode = "PAY_PER_REQUEST"
  hash_key     = "pk"
  range_key    = "sk"

  attribute {
    name = "pk"
    type = "S"
  }
  attribute {
    name = "sk"
    type = "S"
  }
  attribute {
    name = "shard"
    type = "S"
  }
  attribute {
    name = "patient_id"
    type = "S"
  }
  attribute {
    name = "recent_key"
    type = "S"
  }

  global_secondary_index {
    name            = "by_id"
    hash_key        = "shard"
    range_key       = "patient_id"
    projection_type = "KEYS_ONLY"
  }
  global_secondary_index {
    name            = "by_recent"
    hash_key        = "shard"
    range_key       = "recent_key"
    projection_type = "INCLUDE"
    # What a list shows.
    non_key_attributes = ["patient_id", "applied", "name", "registered_at", "checkin_count", "last_checkin_at", "quarantine"]
  }

  # Without one, DynamoDB encrypts with a key of its own.
  dynamic "server_side_encryption" {
    for_each = local.own_key ? [local.kms_key_arn] : []

    content {
      enabled     = true
      kms_key_arn = server_side_encryption.value
    }
  }
}
