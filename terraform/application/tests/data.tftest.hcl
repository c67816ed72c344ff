# The tables and the queues: those that the code expects, protected, encrypted, named.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  region       = "eu-central-1"
  image_uri    = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/checkin@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
  architecture = "arm64"
  kms_key_arn  = "arn:aws:kms:eu-central-1:123456789012:key/00000000-0000-0000-0000-000000000000"
}

run "tables_are_those_that_the_code_creates_on_one_machine" {
  assert {
    condition = jsonencode([
      for made in [aws_dynamodb_table.events, aws_dynamodb_table.read_model] : {
        name       = made.name
        billing    = made.billing_mode
        keys       = [made.hash_key, made.range_key]
        attributes = toset([for attribute in made.attribute : "${attribute.name} ${attribute.type}"])
        indexes    = toset([for index in made.global_secondary_index : "${index.name}: ${index.hash_key} ${index.range_key} ${index.projection_type} ${join(" ", sort(coalesce(index.non_key_attributes, [])))}"])
        stream     = coalesce(made.stream_enabled, false) ? made.stream_view_type : "none"
      }
      ]) == jsonencode([
      for code in [for name in ["events", "read_model"] : jsondecode(file("../../shared/embedded/tables/${name}.json"))] : {
        name       = code.TableName
        billing    = code.BillingMode
        keys       = [for kind in ["HASH", "RANGE"] : one([for key in code.KeySchema : key.AttributeName if key.KeyType == kind])]
        attributes = toset([for attribute in code.AttributeDefinitions : "${attribute.AttributeName} ${attribute.AttributeType}"])
        indexes = toset([
          for index in code.GlobalSecondaryIndexes :
          "${index.IndexName}: ${join(" ", [for kind in ["HASH", "RANGE"] : one([for key in index.KeySchema : key.AttributeName if key.KeyType == kind])])} ${index.Projection.ProjectionType} ${join(" ", sort(try(index.Projection.NonKeyAttributes, [])))}"
        ])
        stream = try(code.StreamSpecification.StreamViewType, "none")
      }
    ])
    error_message = "A table is not the one that shared/embedded/tables defines."
  }
}

run "events_are_protected" {
  assert {
    condition     = aws_dynamodb_table.events.deletion_protection_enabled
    error_message = "The event table can be deleted."
  }
  assert {
    condition     = one(aws_dynamodb_table.events.point_in_time_recovery).enabled && one(aws_dynamodb_table.events.point_in_time_recovery).recovery_period_in_days == 35
    error_message = "The event table can't be restored to any second of the last 35 days."
  }
  assert {
    condition     = aws_dynamodb_table.events.stream_enabled
    error_message = "The event table has no stream."
  }
  assert {
    condition     = length(aws_dynamodb_resource_policy.events) == 1
    error_message = "The event table does not refuse changes by itself."
  }
}

run "protection_can_be_switched_off_on_purpose" {
  variables {
    deletion_protection = false
    append_only         = false
    recovery_days       = 0
  }

  assert {
    condition     = !aws_dynamodb_table.events.deletion_protection_enabled && length(aws_dynamodb_resource_policy.events) == 0 && !one(aws_dynamodb_table.events.point_in_time_recovery).enabled
    error_message = "A protection stays on."
  }
}

run "everything_at_rest_is_encrypted_with_the_one_key" {
  assert {
    condition = alltrue([
      for arn in concat(
        [for table in [aws_dynamodb_table.events, aws_dynamodb_table.read_model] : try(one([for sse in table.server_side_encryption : sse.kms_key_arn if sse.enabled]), "none")],
        values(aws_sqs_queue.this)[*].kms_master_key_id,
        values(aws_cloudwatch_log_group.function)[*].kms_key_id,
        [aws_cloudwatch_log_group.access.kms_key_id, aws_cloudwatch_log_group.execution.kms_key_id],
        values(aws_lambda_function.this)[*].kms_key_arn,
        [aws_sns_topic.alarms.kms_master_key_id],
      ) : arn == var.kms_key_arn
    ])
    error_message = "Something is encrypted with another key, or with none."
  }
}

run "without_an_own_key_queues_are_encrypted_all_the_same" {
  variables {
    kms_key_arn = ""
  }

  assert {
    condition     = alltrue([for queue in values(aws_sqs_queue.this) : queue.sqs_managed_sse_enabled && queue.kms_master_key_id == null])
    error_message = "A queue is not encrypted."
  }
}

run "messages_wait_for_an_operator_as_long_as_they_can_and_only_over_tls" {
  assert {
    condition     = toset(values(aws_sqs_queue.this)[*].message_retention_seconds) == toset([1209600])
    error_message = "A queue forgets before it has to."
  }
  assert {
    condition = alltrue([
      for policy in values(aws_sqs_queue_policy.this) :
      [for statement in jsondecode(policy.policy).Statement : [statement.Effect, statement.Condition.Bool["aws:SecureTransport"]]] == [["Deny", "false"]]
    ])
    error_message = "A queue takes messages without TLS."
  }
}

run "names_begin_with_the_deployments_name" {
  variables {
    name = "north-clinic"
  }

  assert {
    condition = toset(concat(
      [aws_dynamodb_table.events.name, aws_dynamodb_table.read_model.name],
      values(aws_sqs_queue.this)[*].name,
      values(aws_lambda_function.this)[*].function_name,
      values(aws_iam_role.function)[*].name,
      values(aws_cloudwatch_event_rule.this)[*].name,
      [aws_api_gateway_rest_api.this.name, aws_sns_topic.alarms.name],
      )) == toset([
      "north-clinic-events", "north-clinic-read-model", "north-clinic-quarantine", "north-clinic-stream-failures",
      "north-clinic-checkin", "north-clinic-projector", "north-clinic-backend", "north-clinic-reconciler",
      "north-clinic", "north-clinic-alarms",
    ])
    error_message = "Something has another name."
  }
  assert {
    condition     = alltrue([for alarm in concat(values(aws_cloudwatch_metric_alarm.this), values(aws_cloudwatch_metric_alarm.failures)) : startswith(alarm.alarm_name, "north-clinic-")])
    error_message = "An alarm has another name."
  }
}
