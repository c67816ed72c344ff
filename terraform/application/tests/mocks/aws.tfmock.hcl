# An account that is not there. What the provider would learn from AWS has the form that it has there, so that a test can
# tell one resource's ARN from another's.

override_data {
  target = data.aws_caller_identity.this
  values = { account_id = "123456789012" }
}

override_data {
  target = data.aws_partition.this
  values = { partition = "aws", dns_suffix = "amazonaws.com" }
}

override_resource {
  target = aws_dynamodb_table.events
  values = {
    arn        = "arn:aws:dynamodb:eu-central-1:123456789012:table/events"
    stream_arn = "arn:aws:dynamodb:eu-central-1:123456789012:table/events/stream/2026-11-24T00:00:00.000"
  }
}

override_resource {
  target = aws_dynamodb_table.read_model
  values = { arn = "arn:aws:dynamodb:eu-central-1:123456789012:table/read-model" }
}

override_resource {
  target = aws_sqs_queue.this["quarantine"]
  values = {
    arn = "arn:aws:sqs:eu-central-1:123456789012:quarantine"
    url = "https://sqs.eu-central-1.amazonaws.com/123456789012/quarantine"
  }
}

override_resource {
  target = aws_sqs_queue.this["stream_failures"]
  values = {
    arn = "arn:aws:sqs:eu-central-1:123456789012:stream-failures"
    url = "https://sqs.eu-central-1.amazonaws.com/123456789012/stream-failures"
  }
}

override_resource {
  target = aws_cloudwatch_log_group.function
  values = { arn = "arn:aws:logs:eu-central-1:123456789012:log-group:function" }
}

mock_resource "aws_iam_role" {
  defaults = { arn = "arn:aws:iam::123456789012:role/some" }
}

mock_resource "aws_lambda_function" {
  defaults = {
    arn        = "arn:aws:lambda:eu-central-1:123456789012:function:some"
    invoke_arn = "arn:aws:apigateway:eu-central-1:lambda:path/2015-03-31/functions/arn:aws:lambda:eu-central-1:123456789012:function:some/invocations"
  }
}

mock_resource "aws_cloudwatch_event_rule" {
  defaults = { arn = "arn:aws:events:eu-central-1:123456789012:rule/some" }
}

mock_resource "aws_cloudwatch_log_group" {
  defaults = { arn = "arn:aws:logs:eu-central-1:123456789012:log-group:some" }
}

mock_resource "aws_sns_topic" {
  defaults = { arn = "arn:aws:sns:eu-central-1:123456789012:some" }
}

mock_resource "aws_cloudwatch_metric_alarm" {
  defaults = { arn = "arn:aws:cloudwatch:eu-central-1:123456789012:alarm:some" }
}

mock_resource "aws_api_gateway_rest_api" {
  defaults = {
    id            = "api0000000"
    execution_arn = "arn:aws:execute-api:eu-central-1:123456789012:api0000000"
  }
}

mock_resource "aws_api_gateway_domain_name" {
  defaults = { regional_domain_name = "d-00000000.execute-api.eu-central-1.amazonaws.com" }
}

mock_resource "aws_api_gateway_stage" {
  defaults = {
    arn        = "arn:aws:apigateway:eu-central-1::/restapis/api0000000/stages/v1"
    invoke_url = "https://api0000000.execute-api.eu-central-1.amazonaws.com/v1"
  }
}

mock_resource "aws_wafv2_web_acl" {
  defaults = { arn = "arn:aws:wafv2:eu-central-1:123456789012:regional/webacl/checkin/00000000" }
}
