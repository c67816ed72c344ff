locals {
  schedules = {
    checkin = {
      description = "Patients check in"
      expression  = var.schedule
      enabled     = var.schedule_enabled
    }
    reconciler = {
      description = "The read model is compared with the events"
      expression  = "rate(${var.reconcile_minutes} minutes)"
      enabled     = true
    }
  }
}

# A rule, not an EventBridge Scheduler: its events name the rule and the time for which they were meant, and that is what
# makes a tick that is delivered twice the same tick.
resource "aws_cloudwatch_event_rule" "this" {
  for_each = local.schedules

  name                = local.function_names[each.key]
  description         = each.value.description
  schedule_expression = each.value.expression
  state               = each.value.enabled ? "ENABLED" : "DISABLED"
}

resource "aws_cloudwatch_event_target" "this" {
  for_each = local.schedules

  rule = aws_cloudwatch_event_rule.this[each.key].name
  arn  = aws_lambda_function.this[each.key].arn

  # Always the same, so that it is put in its own place, and never beside one that a killed run left.
  target_id = "function"

  retry_policy {
    # A tick that comes late is as good; a day later nobody waits for it.
    maximum_event_age_in_seconds = 3600
    maximum_retry_attempts       = 10
  }
}

resource "aws_lambda_permission" "schedule" {
  for_each = local.schedules

  statement_id  = "schedule"
  function_name = aws_lambda_function.this[each.key].function_name
  action        = "lambda:InvokeFunction"
  principal     = "events.amazonaws.com"
  source_arn    = aws_cloudwatch_event_rule.this[each.key].arn
}

resource "aws_lambda_function_event_invoke_config" "this" {
  for_each = local.schedules

  function_name = aws_lambda_function.this[each.key].function_name

  # Both recognise what they have done already.
  maximum_retry_attempts       = 2
  maximum_event_age_in_seconds = 3600
}
