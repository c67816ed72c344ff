# Alarms: there is one for everything that can go wrong unseen, it says so, and the runbook has an entry for it.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  region       = "eu-central-1"
  image_uri    = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/checkin@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
  architecture = "arm64"
  kms_key_arn  = "arn:aws:kms:eu-central-1:123456789012:key/00000000-0000-0000-0000-000000000000"
}

run "there_is_an_alarm_for_everything_that_can_go_wrong_unseen" {
  assert {
    condition = {
      for name, alarm in aws_cloudwatch_metric_alarm.this :
      name => "${alarm.namespace} ${alarm.metric_name} ${coalesce(alarm.statistic, alarm.extended_statistic, "none")} ${alarm.comparison_operator} ${alarm.threshold} ${alarm.datapoints_to_alarm}/${alarm.evaluation_periods}x${alarm.period}s ${alarm.treat_missing_data}"
      } == {
      api-errors           = "AWS/ApiGateway 5XXError Average GreaterThanThreshold 0.05 3/5x60s notBreaching"
      api-latency          = "AWS/ApiGateway Latency p99 GreaterThanThreshold 2000 2/3x300s notBreaching"
      event-table-modified = "PatientCheckins IntegrityViolations Sum GreaterThanThreshold 0 1/1x60s notBreaching"
      iterator-age         = "AWS/Lambda IteratorAge Maximum GreaterThanThreshold 60000 3/5x60s notBreaching"
      producer-silence     = "PatientCheckins EventsAppended Sum LessThanThreshold 1 1/1x600s breaching"
      projection-lag       = "PatientCheckins ProjectionLag Maximum GreaterThanThreshold 60000 3/5x60s notBreaching"
      quarantine           = "AWS/SQS ApproximateNumberOfMessagesVisible Maximum GreaterThanThreshold 0 1/1x60s notBreaching"
      reconciler-finds-lag = "PatientCheckins ReconcileLag Maximum GreaterThanThreshold 60000 2/3x300s notBreaching"
      reconciler-silence   = "AWS/Lambda Invocations Sum LessThanThreshold 1 3/3x300s breaching"
      stream-failures      = "AWS/SQS ApproximateNumberOfMessagesVisible Maximum GreaterThanThreshold 0 1/1x60s notBreaching"
    }
    error_message = "The alarms are not those that are written here."
  }
  assert {
    condition     = toset(keys(aws_cloudwatch_metric_alarm.failures)) == toset(["checkin", "projector", "backend", "reconciler"])
    error_message = "A function can fail unseen."
  }
}

# A sweep applies what it finds, so the next one finds at most what was recorded between the two.
run "what_the_reconciler_finds_can_reach_its_alarm" {
  assert {
    condition = (
      aws_cloudwatch_metric_alarm.this["reconciler-finds-lag"].threshold <= 1000 * aws_cloudwatch_metric_alarm.this["reconciler-finds-lag"].period / 2
      && aws_cloudwatch_event_rule.this["reconciler"].schedule_expression == "rate(${aws_cloudwatch_metric_alarm.this["reconciler-finds-lag"].period / 60} minutes)"
    )
    error_message = "The reconciler never finds a lag that raises its alarm."
  }
}

run "what_the_reconciler_finds_can_reach_its_alarm_however_much_lag_is_allowed" {
  variables {
    projection_lag_seconds = 3600
    reconcile_minutes      = 2
  }

  assert {
    condition     = aws_cloudwatch_metric_alarm.this["reconciler-finds-lag"].threshold == 60000 && aws_cloudwatch_metric_alarm.this["reconciler-finds-lag"].period == 120
    error_message = "The reconciler never finds a lag that raises its alarm."
  }
  assert {
    condition     = aws_cloudwatch_metric_alarm.this["projection-lag"].threshold == 3600000
    error_message = "The other alarms do not allow the lag that they should."
  }
}

run "what_the_reconciler_finds_raises_its_alarm_at_the_lag_that_is_allowed" {
  variables {
    projection_lag_seconds = 90
    reconcile_minutes      = 60
  }

  assert {
    condition     = aws_cloudwatch_metric_alarm.this["reconciler-finds-lag"].threshold == 90000 && aws_cloudwatch_metric_alarm.this["reconciler-finds-lag"].period == 3600
    error_message = "The alarm allows another lag."
  }
}

run "every_alarm_has_its_entry_in_the_runbook" {
  assert {
    condition = alltrue([
      for name in concat(keys(aws_cloudwatch_metric_alarm.this), [for service in keys(aws_cloudwatch_metric_alarm.failures) : "${service}-fails"]) :
      strcontains(file("../../docs/OPERATIONS.md"), "\n### `${name}`\n")
    ])
    error_message = "An alarm has no entry in docs/OPERATIONS.md: a heading ### `its name`."
  }
  assert {
    condition = alltrue([
      for heading in flatten(regexall("\n### `([a-z-]+)`\n", file("../../docs/OPERATIONS.md"))) :
      contains(concat(keys(aws_cloudwatch_metric_alarm.this), [for service in keys(aws_cloudwatch_metric_alarm.failures) : "${service}-fails"]), heading)
    ])
    error_message = "docs/OPERATIONS.md has an entry for an alarm that does not exist."
  }
}

# A metric's name that nobody emits would be an alarm that never comes.
run "the_systems_own_metrics_are_those_that_the_code_emits" {
  assert {
    condition = alltrue([
      for alarm in values(aws_cloudwatch_metric_alarm.this) : strcontains(
        join("", [for source in fileset("../../services/${alarm.dimensions.Service}/src", "*.rs") : file("../../services/${alarm.dimensions.Service}/src/${source}")]),
        "\"${alarm.metric_name}\""
      ) if alarm.namespace == "PatientCheckins"
    ])
    error_message = "An alarm looks at a metric that its service does not emit."
  }
  # And with other dimensions it would be another metric.
  assert {
    condition = alltrue([
      for alarm in values(aws_cloudwatch_metric_alarm.this) : (
        strcontains(
          join("", [for source in fileset("../../services/${alarm.dimensions.Service}/src", "*.rs") : file("../../services/${alarm.dimensions.Service}/src/${source}")]),
          "Reporter::from_lookup(\"${alarm.dimensions.Service}\""
        )
        && alarm.dimensions.Deployment == one(aws_lambda_function.this[alarm.dimensions.Service].environment).variables.DEPLOYMENT
        && strcontains(file("../../shared/runtime/src/metrics.rs"), "\"Dimensions\": [[${join(", ", [for name in keys(alarm.dimensions) : "\"${name}\""])}]]")
      ) if alarm.namespace == "PatientCheckins"
    ])
    error_message = "An alarm looks at a metric with other dimensions than its service emits."
  }
  assert {
    condition     = strcontains(file("../../shared/runtime/src/metrics.rs"), "\"${aws_cloudwatch_metric_alarm.this["projection-lag"].namespace}\"")
    error_message = "The code emits its metrics elsewhere."
  }
}

run "every_alarm_is_heard" {
  variables {
    alarm_email = "someone@example.org"
  }

  assert {
    condition = alltrue([
      for alarm in concat(values(aws_cloudwatch_metric_alarm.this), values(aws_cloudwatch_metric_alarm.failures)) :
      alarm.alarm_actions == toset([aws_sns_topic.alarms.arn]) && alarm.ok_actions == toset([aws_sns_topic.alarms.arn])
    ])
    error_message = "An alarm tells nobody, or not when it is over."
  }
  assert {
    condition     = aws_sns_topic_subscription.alarm_email[0].endpoint == "someone@example.org" && aws_sns_topic_subscription.alarm_email[0].protocol == "email"
    error_message = "Nobody is told."
  }
}

run "dashboard_shows_every_alarm" {
  assert {
    condition     = length(jsondecode(aws_cloudwatch_dashboard.this[0].dashboard_body).widgets[0].properties.alarms) == 14
    error_message = "An alarm is not on the dashboard."
  }
}

run "dashboard_shows_metrics_that_the_code_emits" {
  assert {
    condition = alltrue(flatten([
      for widget in jsondecode(aws_cloudwatch_dashboard.this[0].dashboard_body).widgets : [
        for series in try(widget.properties.metrics, []) : strcontains(
          join("", [for source in fileset("../../services/${series[5]}/src", "*.rs") : file("../../services/${series[5]}/src/${source}")]),
          "\"${series[1]}\""
        ) if series[0] == "PatientCheckins"
      ]
    ]))
    error_message = "The dashboard shows a metric that its service does not emit."
  }
}

run "dashboard_is_optional" {
  variables {
    dashboard = false
  }

  assert {
    condition     = length(aws_cloudwatch_dashboard.this) == 0 && output.dashboard_url == null
    error_message = "There is a dashboard."
  }
}

run "alarms_are_optional" {
  variables {
    alarms = false
  }

  assert {
    condition     = length(aws_cloudwatch_metric_alarm.this) + length(aws_cloudwatch_metric_alarm.failures) == 0
    error_message = "There are alarms."
  }
  assert {
    condition     = alltrue([for widget in jsondecode(aws_cloudwatch_dashboard.this[0].dashboard_body).widgets : widget.type == "metric"])
    error_message = "The dashboard shows alarms that are not there."
  }
}
