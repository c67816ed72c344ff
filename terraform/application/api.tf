# The REST API. Its paths, methods and parameters are those of the contract, services/backend/openapi.json, which the
# backend serves to clients; what is added here is how API Gateway is to answer.

locals {
  contract = jsondecode(file("${path.module}/../../services/backend/openapi.json"))
  stage    = "v1"

  http_methods = ["delete", "get", "head", "options", "patch", "post", "put", "trace"]

  to_backend = {
    x-amazon-apigateway-integration = {
      type                = "aws_proxy"
      httpMethod          = "POST"
      uri                 = aws_lambda_function.this["backend"].invoke_arn
      passthroughBehavior = "when_no_match"
    }
  }

  # A preflight carries no signature, so OPTIONS must do without.
  signed = var.iam_authorization ? { security = [{ sigv4 = [] }] } : {}

  # API Gateway reads a part of OpenAPI only: no examples, no links, no default responses, models with alphanumeric
  # names (https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-known-issues.html). So it gets
  # what it acts on, and clients get the contract itself. Of parameters it checks only that required ones are there, and
  # the only ones are parts of the path; values are checked by the backend, which can say what is wrong.
  paths = {
    for path, item in local.contract.paths : path => merge(
      {
        for method, operation in item : method => merge(
          local.to_backend,
          method == "options" ? {} : local.signed,
          {
            operationId = operation.operationId
            parameters = [
              for parameter in [
                for given in concat(try(item.parameters, []), try(operation.parameters, [])) :
                try(local.contract.components.parameters[basename(given["$ref"])], given)
                ] : {
                name     = parameter.name
                in       = parameter.in
                required = try(parameter.required, false)
                schema   = { type = try(parameter.schema.type, "string") }
              }
            ]
            responses = { for status in keys(operation.responses) : status => { description = "As the contract says" } if can(tonumber(status)) }
          },
        ) if contains(local.http_methods, method)
      },
      # Any other method: the backend says which ones there are.
      { x-amazon-apigateway-any-method = merge(local.to_backend, local.signed) },
    )
  }

  # Any other path: the backend says so, as a problem.
  every_path = merge(local.paths, {
    "/{proxy+}" = {
      x-amazon-apigateway-any-method = merge(local.to_backend, local.signed, {
        parameters = [{ name = "proxy", in = "path", required = true, schema = { type = "string" } }]
      })
    }
  })

  # What API Gateway answers by itself, in the contract's types. The words are constant: what was wrong with a request
  # could quote a patient.
  problems = {
    forbidden         = { status = 403, title = "The request is not allowed", detail = "Access to this API is restricted." }
    internal          = { status = 500, title = "Something went wrong", detail = "Ask again later." }
    invalid-parameter = { status = 400, title = "A query parameter is invalid", detail = "The request is malformed." }
    request-too-large = { status = 413, title = "The request is too large", detail = "Ask with a shorter one." }
    throttled         = { status = 429, title = "Too many requests", detail = "Ask again later, and less often." }
    timeout           = { status = 504, title = "There was no answer in time", detail = "Ask again later." }
    unknown-route     = { status = 404, title = "There is nothing at this path", detail = "The document at openapi.json has all paths." }
  }

  # By the kinds that there are of them
  # (https://docs.aws.amazon.com/apigateway/latest/developerguide/supported-gateway-response-types.html).
  problem_types = {
    ACCESS_DENIED                  = "forbidden"
    API_CONFIGURATION_ERROR        = "internal"
    AUTHORIZER_CONFIGURATION_ERROR = "internal"
    AUTHORIZER_FAILURE             = "internal"
    BAD_REQUEST_BODY               = "invalid-parameter"
    BAD_REQUEST_PARAMETERS         = "invalid-parameter"
    DEFAULT_4XX                    = "invalid-parameter"
    DEFAULT_5XX                    = "internal"
    EXPIRED_TOKEN                  = "forbidden"
    INTEGRATION_FAILURE            = "internal"
    INTEGRATION_TIMEOUT            = "timeout"
    INVALID_API_KEY                = "forbidden"
    INVALID_SIGNATURE              = "forbidden"
    MISSING_AUTHENTICATION_TOKEN   = "forbidden"
    QUOTA_EXCEEDED                 = "throttled"
    REQUEST_TOO_LARGE              = "request-too-large"
    RESOURCE_NOT_FOUND             = "unknown-route"
    THROTTLED                      = "throttled"
    UNAUTHORIZED                   = "forbidden"
    UNSUPPORTED_MEDIA_TYPE         = "invalid-parameter"
    WAF_FILTERED                   = "forbidden"
  }

  problem_headers = merge(
    {
      "Cache-Control"                = "'no-store'"
      "Content-Type"                 = "'application/problem+json'"
      "Cross-Origin-Resource-Policy" = "'same-origin'"
      "Referrer-Policy"              = "'no-referrer'"
      "Strict-Transport-Security"    = "'max-age=31536000'"
      "X-Content-Type-Options"       = "'nosniff'"
      "X-Correlation-Id"             = "context.requestId"
    },
    var.cors_allow_origin == null ? {} : {
      "Access-Control-Allow-Origin"   = "'${var.cors_allow_origin}'"
      "Access-Control-Expose-Headers" = "'retry-after, x-correlation-id'"
    },
  )

  gateway_responses = {
    for kind, type in local.problem_types : kind => {
      # For DEFAULT_4XX and DEFAULT_5XX too, which are for whatever else there is: the body could not say another status.
      statusCode = tostring(local.problems[type].status)
      responseParameters = {
        for name, value in merge(local.problem_headers, type == "throttled" ? { "Retry-After" = "'5'" } : {}) :
        "gatewayresponse.header.${name}" => value
      }
      responseTemplates = {
        "application/json" = jsonencode(merge({ type = "urn:problem:patient-checkins:${type}" }, local.problems[type]))
      }
    }
  }

  api_definition = merge(
    {
      openapi                                = "3.0.1"
      info                                   = { title = var.name, version = local.contract.info.version }
      paths                                  = local.every_path
      x-amazon-apigateway-gateway-responses  = local.gateway_responses
      x-amazon-apigateway-request-validator  = "parameters"
      x-amazon-apigateway-request-validators = { parameters = { validateRequestParameters = true, validateRequestBody = false } }
    },
    # TLS 1.2 and 1.3 only, on the API's own address too. The provider has no argument for it in this version.
    var.tls_policy == null ? {} : {
      x-amazon-apigateway-security-policy      = var.tls_policy
      x-amazon-apigateway-endpoint-access-mode = "STRICT"
    },
    var.iam_authorization ? {
      components = {
        securitySchemes = {
          sigv4 = { type = "apiKey", name = "Authorization", in = "header", x-amazon-apigateway-authtype = "awsSigv4" }
        }
      }
    } : {},
  )
}

resource "aws_api_gateway_rest_api" "this" {
  name        = var.name
  description = "Who checked in when"
  body        = jsonencode(local.api_definition)

  # With a domain, nobody goes round its TLS policy.
  disable_execute_api_endpoint = var.custom_domain != null
  minimum_compression_size     = "1024"

  endpoint_configuration {
    types = ["REGIONAL"]
  }

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_api_gateway_deployment" "this" {
  rest_api_id = aws_api_gateway_rest_api.this.id

  triggers = {
    # All that takes effect only with a new deployment.
    definition = sha256(jsonencode([
      aws_api_gateway_rest_api.this.body,
      aws_api_gateway_rest_api.this.disable_execute_api_endpoint,
      aws_api_gateway_rest_api.this.minimum_compression_size,
    ]))
  }

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_api_gateway_stage" "this" {
  #checkov:skip=CKV_AWS_73:Behind the variable trace_api_requests, since API Gateway's traces have paths, which name patients; the functions are traced in any case.
  #checkov:skip=CKV_AWS_120:A cache would keep patient data in one more place, for 14 USD a month at least; answers have ETags, and a 304 is cheap.
  #checkov:skip=CKV2_AWS_4:The level is ERROR; what the check misses are metrics for each method, some fifty at 0.30 USD a month, and the alarms look at those of the stage, which are free.
  #checkov:skip=CKV2_AWS_29:The firewall is behind the variable waf, since it costs money while idle.
  #checkov:skip=CKV2_AWS_77:See CKV2_AWS_29; with it, AWSManagedRulesKnownBadInputsRuleSet is among the rules.
  #checkov:skip=CKV2_AWS_51:A client certificate is for integrations over HTTP; Lambda is called by IAM.
  rest_api_id   = aws_api_gateway_rest_api.this.id
  deployment_id = aws_api_gateway_deployment.this.id
  stage_name    = local.stage
  description   = "The contract's version 1"

  xray_tracing_enabled = var.trace_api_requests

  access_log_settings {
    destination_arn = aws_cloudwatch_log_group.access.arn

    # Deliberately absent: the path and the query, which name patients. resourcePath is the template: /patients/{id}.
    format = jsonencode({
      requestId         = "$context.requestId"
      time              = "$context.requestTimeEpoch"
      method            = "$context.httpMethod"
      resourcePath      = "$context.resourcePath"
      status            = "$context.status"
      responseBytes     = "$context.responseLength"
      latencyMillis     = "$context.responseLatency"
      integrationMillis = "$context.integrationLatency"
      integrationError  = "$context.integration.error"
      gatewayResponse   = "$context.error.responseType"
      address           = "$context.identity.sourceIp"
      caller            = "$context.identity.userArn"
      userAgent         = "$context.identity.userAgent"
      tlsVersion        = "$context.tlsVersion"
      wafStatus         = "$context.waf.status"
      traceId           = "$context.xrayTraceId"
    })
  }

  depends_on = [
    aws_api_gateway_account.this,
    aws_cloudwatch_log_group.execution,
  ]
}

resource "aws_api_gateway_method_settings" "all" {
  #checkov:skip=CKV_AWS_225:See CKV_AWS_120.
  rest_api_id = aws_api_gateway_rest_api.this.id
  stage_name  = aws_api_gateway_stage.this.stage_name
  method_path = "*/*"

  settings {
    throttling_rate_limit  = var.throttle.rate
    throttling_burst_limit = var.throttle.burst

    # Metrics for each method would be some fifty, at 0.30 USD a month each. Those of the stage are there without.
    metrics_enabled = false

    # Errors of API Gateway itself. INFO, and the trace of data, would log paths and answers.
    logging_level      = "ERROR"
    data_trace_enabled = false
  }
}

resource "aws_lambda_permission" "api" {
  statement_id  = "api"
  function_name = aws_lambda_function.this["backend"].function_name
  action        = "lambda:InvokeFunction"
  principal     = "apigateway.amazonaws.com"
  source_arn    = "${aws_api_gateway_rest_api.this.execution_arn}/${local.stage}/*"
}

resource "aws_cloudwatch_log_group" "access" {
  name              = "/aws/apigateway/${var.name}/access"
  retention_in_days = var.log_retention_days
  kms_key_id        = local.kms_key_arn
}

# API Gateway would make it by itself, without encryption and for ever.
resource "aws_cloudwatch_log_group" "execution" {
  name              = "API-Gateway-Execution-Logs_${aws_api_gateway_rest_api.this.id}/${local.stage}"
  retention_in_days = var.log_retention_days
  kms_key_id        = local.kms_key_arn
}

# The role with which API Gateway writes logs: one for the account and region, so its log groups can't be named. The
# actions are those that API Gateway demands of it
# (https://docs.aws.amazon.com/apigateway/latest/developerguide/set-up-logging.html).
resource "aws_iam_role" "api_gateway_logs" {
  count = var.api_gateway_account ? 1 : 0

  name                 = "${var.name}-api-gateway-logs"
  description          = "What API Gateway writes logs with, in the whole account and region"
  permissions_boundary = var.permissions_boundary

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "apigateway.amazonaws.com" }
      Action    = "sts:AssumeRole"
    }]
  })
}

resource "aws_iam_role_policy" "api_gateway_logs" {
  #checkov:skip=CKV_AWS_355:One role serves every API of the account and region; API Gateway refuses one that is bound to some log groups.
  #checkov:skip=CKV_AWS_290:See CKV_AWS_355.
  count = var.api_gateway_account ? 1 : 0

  name = "logs"
  role = aws_iam_role.api_gateway_logs[0].name

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect = "Allow"
      Action = [
        "logs:CreateLogGroup",
        "logs:CreateLogStream",
        "logs:DescribeLogGroups",
        "logs:DescribeLogStreams",
        "logs:FilterLogEvents",
        "logs:GetLogEvents",
        "logs:PutLogEvents",
      ]
      Resource = "*"
    }]
  })
}

resource "aws_api_gateway_account" "this" {
  count = var.api_gateway_account ? 1 : 0

  cloudwatch_role_arn = aws_iam_role.api_gateway_logs[0].arn

  # Deprecated, since the next major version always does it; without it destroy would leave the setting, pointing at a
  # role that is gone.
  reset_on_delete = true

  depends_on = [aws_iam_role_policy.api_gateway_logs]
}
