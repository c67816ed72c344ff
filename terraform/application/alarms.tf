# Each alarm has its entry in docs/OPERATIONS.md, under the name that follows the deployment's; a test looks for it.

locals {
  metrics_namespace = "PatientCheckins"

  # A sweep applies all that it finds, so the next one finds nothing older than the time between the two. A threshold
  # above that would never be reached; half of it is, if the projector does not run and events come often enough that
  # each half has one.
  found_lag_seconds = min(var.projection_lag_seconds, 60 * var.reconcile_minutes / 2)

  # Unless it says otherwise, an alarm looks at the worst minute, and no data are good news: a metric of something that
  # did not happen has none.
  alarms = merge(
    {
      iterator-age = {
        description = "Stream records wait for the projector: the read model falls behind"
        namespace   = "AWS/Lambda", metric = "IteratorAge", dimensions = { FunctionName = local.function_names.projector }
        statistic   = "Maximum", period = 60, threshold = var.projection_lag_seconds * 1000
        periods     = 5, of_them = 3
      }
      projection-lag = {
        description = "Events become visible late"
        namespace   = local.metrics_namespace, metric = "ProjectionLag", dimensions = { Deployment = var.name, Service = "projector" }
        statistic   = "Maximum", period = 60, threshold = var.projection_lag_seconds * 1000
        periods     = 5, of_them = 3
      }
      # The only one that tells of a projector that is handed nothing, since its mapping is disabled or gone: it then has
      # neither an iterator's age nor a lag of its own.
      reconciler-finds-lag = {
        description = "The projector gets no events, or not all of them: the reconciler finds patients behind, sweep after sweep"
        namespace   = local.metrics_namespace, metric = "ReconcileLag", dimensions = { Deployment = var.name, Service = "reconciler" }
        statistic   = "Maximum", period = 60 * var.reconcile_minutes, threshold = 1000 * local.found_lag_seconds
        periods     = 3, of_them = 2
      }
      quarantine = {
        description = "An event can't be applied, and its patient waits"
        namespace   = "AWS/SQS", metric = "ApproximateNumberOfMessagesVisible", dimensions = { QueueName = local.queues.quarantine }
        statistic   = "Maximum", period = 60, threshold = 0
        periods     = 1, of_them = 1
      }
      stream-failures = {
        description = "Lambda gave up a batch of stream records"
        namespace   = "AWS/SQS", metric = "ApproximateNumberOfMessagesVisible", dimensions = { QueueName = local.queues.stream_failures }
        statistic   = "Maximum", period = 60, threshold = 0
        periods     = 1, of_them = 1
      }
      event-table-modified = {
        description = "Somebody changed or removed an event in the event table"
        namespace   = local.metrics_namespace, metric = "IntegrityViolations", dimensions = { Deployment = var.name, Service = "projector" }
        statistic   = "Sum", period = 60, threshold = 0
        periods     = 1, of_them = 1
      }
      api-errors = {
        description = "The API fails: more than 5 in 100 requests are answered with 5xx"
        namespace   = "AWS/ApiGateway", metric = "5XXError", dimensions = local.api_dimensions
        statistic   = "Average", period = 60, threshold = 0.05
        periods     = 5, of_them = 3
      }
      api-latency = {
        description = "The API is slow"
        namespace   = "AWS/ApiGateway", metric = "Latency", dimensions = local.api_dimensions
        statistic   = "p99", period = 300, threshold = var.api_latency_ms
        periods     = 3, of_them = 2
      }
      # Here silence is the fault, so missing data are, too.
      reconciler-silence = {
        description = "The reconciler does not run"
        namespace   = "AWS/Lambda", metric = "Invocations", dimensions = { FunctionName = local.function_names.reconciler }
        statistic   = "Sum", period = 60 * var.reconcile_minutes, threshold = 1
        periods     = 3, of_them = 3
        silence     = true
      }
    },
    var.schedule_enabled ? {
      producer-silence = {
        description = "Nobody checks in: no event was appended for ${var.producer_silence_minutes} minutes"
        namespace   = local.metrics_namespace, metric = "EventsAppended", dimensions = { Deployment = var.name, Service = "checkin" }
        statistic   = "Sum", period = 60 * var.producer_silence_minutes, threshold = 1
        periods     = 1, of_them = 1
        silence     = true
      }
    } : {},
  )

  api_dimensions = { ApiName = aws_api_gateway_rest_api.this.name, Stage = local.stage }
  percentile     = "^p[0-9.]+$"
  runbook        = "See docs/OPERATIONS.md."
}

resource "aws_cloudwatch_metric_alarm" "this" {
  for_each = { for name, alarm in local.alarms : name => alarm if var.alarms }

  alarm_name        = "${var.name}-${each.key}"
  alarm_description = "${each.value.description}. ${local.runbook}"

  namespace          = each.value.namespace
  metric_name        = each.value.metric
  dimensions         = each.value.dimensions
  statistic          = can(regex(local.percentile, each.value.statistic)) ? null : each.value.statistic
  extended_statistic = can(regex(local.percentile, each.value.statistic)) ? each.value.statistic : null
  period             = each.value.period

  comparison_operator = try(each.value.silence, false) ? "LessThanThreshold" : "GreaterThanThreshold"
  threshold           = each.value.threshold
  evaluation_periods  = each.value.periods
  datapoints_to_alarm = each.value.of_them
  treat_missing_data  = try(each.value.silence, false) ? "breaching" : "notBreaching"

  alarm_actions = [aws_sns_topic.alarms.arn]
  ok_actions    = [aws_sns_topic.alarms.arn]
}

# Twice in a quarter of an hour: once can be a moment in which a table did not answer, and is retried.
resource "aws_cloudwatch_metric_alarm" "failures" {
  for_each = { for service, function in local.functions : service => function if var.alarms }

  alarm_name        = "${var.name}-${each.key}-fails"
  alarm_description = "The function ${local.function_names[each.key]} fails, or is throttled, again and again. ${local.runbook}"

  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  evaluation_periods  = 3
  datapoints_to_alarm = 2
  treat_missing_data  = "notBreaching"

  metric_query {
    id          = "failures"
    expression  = "FILL(errors, 0) + FILL(throttles, 0)"
    label       = "Errors and throttles"
    return_data = true
  }

  dynamic "metric_query" {
    for_each = { errors = "Errors", throttles = "Throttles" }

    content {
      id = metric_query.key

      metric {
        namespace   = "AWS/Lambda"
        metric_name = metric_query.value
        dimensions  = { FunctionName = local.function_names[each.key] }
        stat        = "Sum"
        period      = 300
      }
    }
  }

  alarm_actions = [aws_sns_topic.alarms.arn]
  ok_actions    = [aws_sns_topic.alarms.arn]
}

resource "aws_sns_topic" "alarms" {
  name              = "${var.name}-alarms"
  kms_master_key_id = local.kms_key_arn
}

resource "aws_sns_topic_policy" "alarms" {
  arn = aws_sns_topic.alarms.arn

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "AlarmsOfThisAccount"
      Effect    = "Allow"
      Principal = { Service = "cloudwatch.amazonaws.com" }
      Action    = "sns:Publish"
      Resource  = aws_sns_topic.alarms.arn
      Condition = { StringEquals = { "aws:SourceAccount" = local.account } }
    }]
  })
}

resource "aws_sns_topic_subscription" "alarm_email" {
  count = var.alarm_email == null ? 0 : 1

  topic_arn = aws_sns_topic.alarms.arn
  protocol  = "email"
  endpoint  = var.alarm_email
}
