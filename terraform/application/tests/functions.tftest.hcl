# The functions, what starts them, and how the stream reaches the projector.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  region       = "eu-central-1"
  image_uri    = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/checkin@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
  architecture = "arm64"
  kms_key_arn  = "arn:aws:kms:eu-central-1:123456789012:key/00000000-0000-0000-0000-000000000000"
}

run "functions_are_entry_points_of_one_image" {
  assert {
    condition = {
      for service, made in aws_lambda_function.this : service => [
        made.function_name, made.package_type, made.image_uri, one(made.architectures), one(one(made.image_config).entry_point), one(made.tracing_config).mode
      ]
      } == {
      for service in ["checkin", "projector", "backend", "reconciler"] : service => [
        "checkin-${service}", "Image", var.image_uri, "arm64", "/${service}", "Active"
      ]
    }
    error_message = "A function is not its entry point of the image, traced."
  }
  assert {
    condition     = { for service, made in aws_lambda_function.this : service => made.timeout } == { checkin = 60, projector = 60, backend = 28, reconciler = 300 }
    error_message = "A function has more or less time; API Gateway waits for 29 s."
  }
  assert {
    condition     = toset(values(aws_lambda_function.this)[*].reserved_concurrent_executions) == toset([-1])
    error_message = "Instances are reserved though nobody asked for it: in a new account that fails."
  }
  assert {
    condition = alltrue([
      for service, made in aws_lambda_function.this :
      aws_cloudwatch_log_group.function[service].name == "/aws/lambda/${made.function_name}" && aws_cloudwatch_log_group.function[service].retention_in_days == 365
    ])
    error_message = "A function logs where nothing is ever removed."
  }
}

run "environment_has_exactly_the_names_that_the_code_reads" {
  variables {
    own_roster        = true
    cors_allow_origin = "https://app.example.org"
  }

  # `required`, `optional` and `parsed_or` are how the code reads its environment.
  assert {
    condition = alltrue([
      for service, sources in {
        checkin    = ["services/checkin/src/config.rs"]
        backend    = ["services/backend/src/config.rs"]
        projector  = ["shared/runtime/src/projection_config.rs"]
        reconciler = ["shared/runtime/src/projection_config.rs"]
      } :
      length(setsubtract(
        toset(flatten([
          for source in concat(sources, ["shared/runtime/src/telemetry.rs", "shared/runtime/src/report.rs"]) :
          regexall("(?:required|optional|parsed_or)\\(\\s*lookup,\\s*\"?([A-Z_]+)\"?", file("../../${source}"))
        ])),
        keys(one(aws_lambda_function.this[service].environment).variables)
      )) == 0
    ])
    error_message = "The code reads a variable that is not set."
  }
  assert {
    condition = alltrue([
      for service, made in aws_lambda_function.this : alltrue([
        for name in keys(one(made.environment).variables) : strcontains(
          join("", [for source in ["services/checkin/src/config.rs", "services/backend/src/config.rs", "shared/runtime/src/projection_config.rs", "shared/runtime/src/telemetry.rs", "shared/runtime/src/report.rs"] : file("../../${source}")]),
          "\"${name}\""
        )
      ])
    ])
    error_message = "A variable is set that no code reads."
  }
  assert {
    condition = jsonencode({ for service, made in aws_lambda_function.this : service => one(made.environment).variables }) == jsonencode({
      checkin = { EVENT_TABLE = "checkin-events", CHECKINS_PER_TICK = "1", ROSTER_FILE = "/roster.json", DEPLOYMENT = "checkin", LOG_LEVEL = "info" }
      backend = { READ_MODEL_TABLE = "checkin-read-model", CORS_ALLOW_ORIGIN = "https://app.example.org", DEPLOYMENT = "checkin", LOG_LEVEL = "info" }
      projector = {
        EVENT_TABLE          = "checkin-events", READ_MODEL_TABLE = "checkin-read-model", CONCURRENCY = "16", DEPLOYMENT = "checkin", LOG_LEVEL = "info"
        QUARANTINE_QUEUE_URL = "https://sqs.eu-central-1.amazonaws.com/123456789012/quarantine"
      }
      reconciler = {
        EVENT_TABLE          = "checkin-events", READ_MODEL_TABLE = "checkin-read-model", CONCURRENCY = "16", DEPLOYMENT = "checkin", LOG_LEVEL = "info"
        QUARANTINE_QUEUE_URL = "https://sqs.eu-central-1.amazonaws.com/123456789012/quarantine"
      }
    })
    error_message = "A function has another environment."
  }
}

run "replay_is_told_what_it_reads" {
  assert {
    condition = output.replay_environment == { AWS_REGION = "eu-central-1", DEPLOYMENT = "checkin" } && alltrue([
      for name in keys(output.replay_environment) :
      strcontains(file("../../services/replay/src/connection.rs"), "env = \"${name}\"") if !startswith(name, "AWS_")
    ])
    error_message = "replay is told something that it does not read, or not where its deployment is."
  }
}

run "what_is_optional_is_not_there_unless_asked_for" {
  assert {
    condition     = !contains(keys(one(aws_lambda_function.this["checkin"].environment).variables), "ROSTER_FILE") && !contains(keys(one(aws_lambda_function.this["backend"].environment).variables), "CORS_ALLOW_ORIGIN")
    error_message = "A function is told something that nobody asked for."
  }
  assert {
    condition     = length(aws_wafv2_web_acl.this) + length(aws_sns_topic_subscription.alarm_email) + length(aws_api_gateway_domain_name.this) + length(aws_route53_record.this) == 0
    error_message = "Something optional is there."
  }
}

run "stream_loses_nothing_and_holds_nobody_up" {
  assert {
    condition     = aws_lambda_event_source_mapping.stream.starting_position == "TRIM_HORIZON"
    error_message = "What was recorded before the mapping was there is lost."
  }
  assert {
    condition     = aws_lambda_event_source_mapping.stream.function_response_types == toset(["ReportBatchItemFailures"])
    error_message = "A record that failed would be acknowledged."
  }
  assert {
    condition     = aws_lambda_event_source_mapping.stream.bisect_batch_on_function_error && aws_lambda_event_source_mapping.stream.maximum_retry_attempts == 10 && aws_lambda_event_source_mapping.stream.maximum_record_age_in_seconds == 21600
    error_message = "A batch that fails holds up its shard for too long."
  }
  assert {
    condition     = aws_lambda_event_source_mapping.stream.batch_size == 1000 && aws_lambda_event_source_mapping.stream.maximum_batching_window_in_seconds == 1 && aws_lambda_event_source_mapping.stream.parallelization_factor == 1
    error_message = "Batches are of another size."
  }
  assert {
    condition     = one(one(aws_lambda_event_source_mapping.stream.destination_config).on_failure).destination_arn == aws_sqs_queue.this["stream_failures"].arn
    error_message = "Nobody is told what was given up."
  }
  assert {
    condition     = length(aws_lambda_event_source_mapping.stream.filter_criteria) == 0
    error_message = "A filter hides changed events from the projector."
  }
  assert {
    condition     = aws_lambda_event_source_mapping.stream.event_source_arn == aws_dynamodb_table.events.stream_arn
    error_message = "The mapping reads something else."
  }
}

run "schedules_fire_and_retry" {
  assert {
    condition = { for service, rule in aws_cloudwatch_event_rule.this : service => "${rule.schedule_expression} ${rule.state}" } == {
      checkin    = "rate(2 minutes) ENABLED"
      reconciler = "rate(5 minutes) ENABLED"
    }
    error_message = "A schedule is another one."
  }
  assert {
    condition     = alltrue([for target in values(aws_cloudwatch_event_target.this) : target.input == null && target.input_path == null && length(target.input_transformer) == 0])
    error_message = "A tick does not say which one it is."
  }
}

run "roster_is_registered_once_for_each_image" {
  assert {
    condition     = jsondecode(aws_lambda_invocation.register_roster.input) == { command = "register-roster" } && aws_lambda_invocation.register_roster.triggers == tomap({ image = var.image_uri }) && aws_lambda_invocation.register_roster.function_name == "checkin-checkin"
    error_message = "The roster is not registered."
  }
}

run "switched_off_nobody_checks_in" {
  variables {
    schedule_enabled     = false
    reserved_concurrency = { backend = 5 }
  }

  assert {
    condition     = aws_cloudwatch_event_rule.this["checkin"].state == "DISABLED" && aws_cloudwatch_event_rule.this["reconciler"].state == "ENABLED"
    error_message = "The schedule still fires, or the reconciler stopped too."
  }
  assert {
    condition     = !contains(keys(aws_cloudwatch_metric_alarm.this), "producer-silence")
    error_message = "Silence that was asked for is alarmed about."
  }
  assert {
    condition     = aws_lambda_function.this["backend"].reserved_concurrent_executions == 5 && aws_lambda_function.this["checkin"].reserved_concurrent_executions == -1
    error_message = "Other instances are reserved than were asked for."
  }
}
