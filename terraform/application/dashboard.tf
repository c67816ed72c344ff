locals {
  # Title, and series of [namespace, metric, dimension, value, …] with their statistic.
  dashboard_graphs = [
    {
      title = "Events: appended, and applied"
      stat  = "Sum"
      series = [
        [local.metrics_namespace, "EventsAppended", "Deployment", var.name, "Service", "checkin"],
        [local.metrics_namespace, "EventsApplied", "Deployment", var.name, "Service", "projector"],
        [local.metrics_namespace, "EventsReconciled", "Deployment", var.name, "Service", "reconciler"],
        [local.metrics_namespace, "EventsAlreadyAppended", "Deployment", var.name, "Service", "checkin"],
      ]
    },
    {
      title = "How late events become visible (ms)"
      stat  = "Maximum"
      series = [
        [local.metrics_namespace, "ProjectionLag", "Deployment", var.name, "Service", "projector"],
        [local.metrics_namespace, "ReconcileLag", "Deployment", var.name, "Service", "reconciler"],
        ["AWS/Lambda", "IteratorAge", "FunctionName", local.function_names.projector],
      ]
    },
    {
      title = "What went wrong with events"
      stat  = "Sum"
      series = [
        [local.metrics_namespace, "IntegrityViolations", "Deployment", var.name, "Service", "projector"],
        [local.metrics_namespace, "PatientsQuarantined", "Deployment", var.name, "Service", "projector"],
        [local.metrics_namespace, "PatientsFailed", "Deployment", var.name, "Service", "projector"],
        [local.metrics_namespace, "CatchUps", "Deployment", var.name, "Service", "projector"],
        [local.metrics_namespace, "PatientsBehind", "Deployment", var.name, "Service", "reconciler"],
      ]
    },
    {
      title = "Messages that wait for an operator"
      stat  = "Maximum"
      series = [for queue in [local.queues.quarantine, local.queues.stream_failures] :
        ["AWS/SQS", "ApproximateNumberOfMessagesVisible", "QueueName", queue]
      ]
    },
    {
      title = "Requests, and those that failed"
      stat  = "Sum"
      series = [for metric in ["Count", "4XXError", "5XXError"] :
        ["AWS/ApiGateway", metric, "ApiName", var.name, "Stage", local.stage]
      ]
    },
    {
      title = "How long requests take, 99 of 100 (ms)"
      stat  = "p99"
      series = [for metric in ["Latency", "IntegrationLatency"] :
        ["AWS/ApiGateway", metric, "ApiName", var.name, "Stage", local.stage]
      ]
    },
    {
      title  = "Functions: errors"
      stat   = "Sum"
      series = [for name in values(local.function_names) : ["AWS/Lambda", "Errors", "FunctionName", name]]
    },
    {
      title  = "Functions: duration (ms)"
      stat   = "p99"
      series = [for name in values(local.function_names) : ["AWS/Lambda", "Duration", "FunctionName", name]]
    },
  ]

  dashboard_alarms = concat(
    values(aws_cloudwatch_metric_alarm.this)[*].arn,
    values(aws_cloudwatch_metric_alarm.failures)[*].arn,
  )
}

resource "aws_cloudwatch_dashboard" "this" {
  count = var.dashboard ? 1 : 0

  dashboard_name = var.name

  dashboard_body = jsonencode({
    widgets = concat(
      [for alarms in [local.dashboard_alarms] : {
        type   = "alarm"
        x      = 0
        y      = 0
        width  = 24
        height = 4
        properties = {
          title  = "Alarms"
          alarms = alarms
        }
      } if var.alarms],
      [for index, graph in local.dashboard_graphs : {
        type   = "metric"
        x      = 12 * (index % 2)
        y      = 4 + 6 * floor(index / 2)
        width  = 12
        height = 6
        properties = {
          title   = graph.title
          region  = var.region
          stat    = graph.stat
          period  = 60
          view    = "timeSeries"
          metrics = graph.series
        }
      }],
    )
  })
}
