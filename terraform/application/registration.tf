# Makes the patients known, once for each image, since the image holds the roster. Who is registered already stays as
# they are. An apply fails here if somebody could not be registered; the next one goes on.
resource "aws_lambda_invocation" "register_roster" {
  function_name = aws_lambda_function.this["checkin"].function_name
  input         = jsonencode({ command = "register-roster" })
  triggers      = { image = var.image_uri }

  depends_on = [
    # Late, so that the new role is known everywhere by then.
    aws_api_gateway_stage.this,
    aws_dynamodb_resource_policy.events,
    aws_lambda_event_source_mapping.stream,
  ]
}
