locals {
  read_model_only = { READ_MODEL_TABLE = aws_dynamodb_table.read_model.name }

  projection_environment = {
    EVENT_TABLE          = aws_dynamodb_table.events.name
    READ_MODEL_TABLE     = aws_dynamodb_table.read_model.name
    QUARANTINE_QUEUE_URL = aws_sqs_queue.this["quarantine"].url
    CONCURRENCY          = tostring(var.concurrency)
  }

  # The names are those that each service's config.rs reads; a test compares them.
  functions = {
    checkin = {
      description = "Registers the roster, and checks patients in on each tick"
      timeout     = 60
      environment = merge(
        {
          EVENT_TABLE       = aws_dynamodb_table.events.name
          CHECKINS_PER_TICK = tostring(var.checkins_per_tick)
        },
        var.own_roster ? { ROSTER_FILE = "/roster.json" } : {},
      )
    }
    projector = {
      description = "Applies the stream of the event table to the read model"
      timeout     = 60
      environment = local.projection_environment
    }
    backend = {
      description = "Answers queries from the read model"
      # Just below the 29 seconds after which API Gateway gives up.
      timeout = 28
      environment = merge(
        local.read_model_only,
        var.cors_allow_origin == null ? {} : { CORS_ALLOW_ORIGIN = var.cors_allow_origin },
      )
    }
    reconciler = {
      description = "Finds and repairs what the stream lost"
      timeout     = 300
      environment = local.projection_environment
    }
  }

  function_names = { for service in keys(local.services_may) : service => "${var.name}-${service}" }
}

resource "aws_lambda_function" "this" {
  #checkov:skip=CKV_AWS_115:Reserved concurrency is a variable: a new account has 10 instances in all, of which AWS lets nobody reserve any.
  #checkov:skip=CKV_AWS_116:Nothing is left for a dead-letter queue: the projector's failed records go to the stream-failures queue, a query is answered or not, the next sweep begins where the last came to, and a tick that failed three times is counted by an alarm.
  #checkov:skip=CKV_AWS_117:The functions reach AWS services only, over TLS and by IAM; a VPC would add endpoints that cost money all day, and no protection that IAM does not give.
  #checkov:skip=CKV_AWS_272:Code signing does not exist for functions of image type; the image is named by its digest.
  for_each = local.functions

  function_name = local.function_names[each.key]
  description   = each.value.description
  role          = aws_iam_role.function[each.key].arn

  package_type  = "Image"
  image_uri     = var.image_uri
  architectures = [var.architecture]

  image_config {
    entry_point = ["/${each.key}"]
  }

  memory_size                    = var.memory_mb[each.key]
  timeout                        = each.value.timeout
  reserved_concurrent_executions = coalesce(var.reserved_concurrency[each.key], -1)

  # Its environment, which has no secrets, and its copy of the image.
  kms_key_arn = local.kms_key_arn

  environment {
    variables = merge(each.value.environment, { DEPLOYMENT = var.name, LOG_LEVEL = var.log_level })
  }

  tracing_config {
    mode = "Active"
  }

  depends_on = [
    # Or the function's first invocation would make a log group that no retention ends and destroy leaves behind.
    aws_cloudwatch_log_group.function,
    aws_iam_role_policy.function,
  ]
}

resource "aws_cloudwatch_log_group" "function" {
  for_each = local.services_may

  name              = "/aws/lambda/${local.function_names[each.key]}"
  retention_in_days = var.log_retention_days
  kms_key_id        = local.kms_key_arn
}
