# The API: the contract, and nothing that tells whose data were asked for.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  region       = "eu-central-1"
  image_uri    = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/checkin@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
  architecture = "arm64"
  kms_key_arn  = "arn:aws:kms:eu-central-1:123456789012:key/00000000-0000-0000-0000-000000000000"
}

run "every_operation_of_the_contract_and_every_other_request_reaches_the_backend" {
  assert {
    condition = alltrue(flatten([
      for path, item in jsondecode(file("../../services/backend/openapi.json")).paths : [
        for method in ["delete", "get", "head", "options", "patch", "post", "put"] :
        jsondecode(aws_api_gateway_rest_api.this.body).paths[path][method].operationId == item[method].operationId
        if contains(keys(item), method)
      ]
    ]))
    error_message = "An operation of the contract is not in the API."
  }
  assert {
    condition = toset(keys(jsondecode(aws_api_gateway_rest_api.this.body).paths)) == setunion(
      keys(jsondecode(file("../../services/backend/openapi.json")).paths), ["/{proxy+}"]
    )
    error_message = "The API has other paths than the contract, and the one for any other."
  }
  assert {
    condition = alltrue(flatten([
      for path, item in jsondecode(aws_api_gateway_rest_api.this.body).paths : concat(
        [contains(keys(item), "x-amazon-apigateway-any-method")],
        [
          for operation in values(item) :
          operation["x-amazon-apigateway-integration"] == {
            type                = "aws_proxy"
            httpMethod          = "POST"
            uri                 = "arn:aws:apigateway:eu-central-1:lambda:path/2015-03-31/functions/arn:aws:lambda:eu-central-1:123456789012:function:some/invocations"
            passthroughBehavior = "when_no_match"
          }
        ]
      )
    ]))
    error_message = "A request does not reach the backend."
  }
}

run "required_parameters_are_those_of_the_path_and_are_checked" {
  assert {
    condition = (
      jsondecode(aws_api_gateway_rest_api.this.body)["x-amazon-apigateway-request-validator"] == "parameters"
      && jsondecode(aws_api_gateway_rest_api.this.body)["x-amazon-apigateway-request-validators"].parameters.validateRequestParameters
    )
    error_message = "Requests are not validated."
  }
  assert {
    condition = alltrue(flatten([
      for path, item in jsondecode(aws_api_gateway_rest_api.this.body).paths : [
        for name in flatten(regexall("{([a-z]+)}", path)) : [
          for method, operation in item : contains([for parameter in operation.parameters : "${parameter.in} ${parameter.name} ${parameter.required}"], "path ${name} true")
          if method != "x-amazon-apigateway-any-method"
        ]
      ]
    ]))
    error_message = "A part of a path is not a required parameter."
  }
  assert {
    condition = alltrue(flatten([
      for path, item in jsondecode(aws_api_gateway_rest_api.this.body).paths : [
        for operation in values(item) : [for parameter in try(operation.parameters, []) : parameter.required == (parameter.in == "path")]
      ]
    ]))
    error_message = "Something else than a part of the path is required: say so in api.tf."
  }
}

# API Gateway's import refuses, or drops, what is not in here.
run "import_gets_only_what_it_knows" {
  assert {
    condition     = !can(regex("\\$ref|\"example|\"links\"|\"default\"|\"nullable\"|oneOf|anyOf", aws_api_gateway_rest_api.this.body))
    error_message = "The definition has something that API Gateway does not import."
  }
}

run "every_answer_of_the_gateway_itself_is_a_problem_of_the_contract" {
  assert {
    condition = alltrue([
      for kind, answer in jsondecode(aws_api_gateway_rest_api.this.body)["x-amazon-apigateway-gateway-responses"] : (
        strcontains(
          jsondecode(file("../../services/backend/openapi.json")).info.description,
          "| `${trimprefix(jsondecode(answer.responseTemplates["application/json"]).type, "urn:problem:patient-checkins:")}` | ${jsondecode(answer.responseTemplates["application/json"]).status} |"
        )
        && answer.statusCode == tostring(jsondecode(answer.responseTemplates["application/json"]).status)
        && answer.responseParameters["gatewayresponse.header.Content-Type"] == "'application/problem+json'"
        && answer.responseParameters["gatewayresponse.header.Cache-Control"] == "'no-store'"
        && !strcontains(answer.responseTemplates["application/json"], "$")
      )
    ])
    error_message = "An answer of the gateway is no problem of the contract, has another status than it says, may be cached, or repeats something of the request."
  }
  assert {
    condition = length(setsubtract(
      ["DEFAULT_4XX", "DEFAULT_5XX", "THROTTLED", "INTEGRATION_TIMEOUT", "REQUEST_TOO_LARGE", "WAF_FILTERED"],
      keys(jsondecode(aws_api_gateway_rest_api.this.body)["x-amazon-apigateway-gateway-responses"])
    )) == 0
    error_message = "The gateway answers in its own words."
  }
  # Whatever is not listed, and keeps no status of its own.
  assert {
    condition = [
      for kind in ["DEFAULT_4XX", "DEFAULT_5XX"] : jsondecode(aws_api_gateway_rest_api.this.body)["x-amazon-apigateway-gateway-responses"][kind].statusCode
    ] == ["400", "500"]
    error_message = "An answer of the gateway that is not listed has another status than its body says."
  }
  assert {
    condition     = jsondecode(aws_api_gateway_rest_api.this.body)["x-amazon-apigateway-gateway-responses"].THROTTLED.responseParameters["gatewayresponse.header.Retry-After"] == "'5'"
    error_message = "Who asks too often is not told when to ask again."
  }
}

# As those of the backend.
run "answers_of_the_gateway_itself_tell_browsers_to_be_careful" {
  assert {
    condition = alltrue([
      for answer in values(jsondecode(aws_api_gateway_rest_api.this.body)["x-amazon-apigateway-gateway-responses"]) : (
        answer.responseParameters["gatewayresponse.header.Cross-Origin-Resource-Policy"] == "'same-origin'"
        && answer.responseParameters["gatewayresponse.header.Referrer-Policy"] == "'no-referrer'"
        && answer.responseParameters["gatewayresponse.header.X-Content-Type-Options"] == "'nosniff'"
        && answer.responseParameters["gatewayresponse.header.X-Correlation-Id"] == "context.requestId"
        && !can(answer.responseParameters["gatewayresponse.header.Access-Control-Allow-Origin"])
      )
    ])
    error_message = "An answer of the gateway lacks a header that the backend's answers have, or is for any origin."
  }
}

run "pages_of_the_origin_that_is_allowed_may_read_the_gateways_own_answers" {
  variables {
    cors_allow_origin = "https://clinic.example"
  }
  assert {
    condition = alltrue([
      for answer in values(jsondecode(aws_api_gateway_rest_api.this.body)["x-amazon-apigateway-gateway-responses"]) : (
        answer.responseParameters["gatewayresponse.header.Access-Control-Allow-Origin"] == "'https://clinic.example'"
        && answer.responseParameters["gatewayresponse.header.Access-Control-Expose-Headers"] == "'retry-after, x-correlation-id'"
      )
    ])
    error_message = "Pages of the origin that is allowed can't read when to ask again, or what to report."
  }
}

run "logs_and_traces_do_not_tell_whose_data_were_asked_for" {
  assert {
    condition = alltrue([
      for value in values(jsondecode(one(aws_api_gateway_stage.this.access_log_settings).format)) : contains([
        "$context.error.responseType", "$context.httpMethod", "$context.identity.sourceIp", "$context.identity.userAgent",
        "$context.identity.userArn", "$context.integration.error", "$context.integrationLatency", "$context.requestId",
        "$context.requestTimeEpoch", "$context.resourcePath", "$context.responseLatency", "$context.responseLength",
        "$context.status", "$context.tlsVersion", "$context.waf.status", "$context.xrayTraceId",
      ], value)
    ])
    error_message = "The access log has something that was not looked at: a path or a query names a patient."
  }
  assert {
    condition     = one(aws_api_gateway_method_settings.all.settings).logging_level == "ERROR" && !one(aws_api_gateway_method_settings.all.settings).data_trace_enabled
    error_message = "The execution log has paths or answers."
  }
  assert {
    condition     = !aws_api_gateway_stage.this.xray_tracing_enabled && aws_cloudwatch_log_group.execution.name == "API-Gateway-Execution-Logs_api0000000/v1"
    error_message = "API Gateway's traces, which have paths, are on; or its log is one of its own."
  }
}

run "requests_are_traced_on_request" {
  variables {
    trace_api_requests = true
  }

  assert {
    condition     = aws_api_gateway_stage.this.xray_tracing_enabled
    error_message = "The stage is not traced."
  }
}

run "older_tls_is_refused_at_the_apis_own_address" {
  assert {
    condition = (
      jsondecode(aws_api_gateway_rest_api.this.body)["x-amazon-apigateway-security-policy"] == "SecurityPolicy_TLS13_1_2_2021_06"
      && jsondecode(aws_api_gateway_rest_api.this.body)["x-amazon-apigateway-endpoint-access-mode"] == "STRICT"
    )
    error_message = "The API's own address accepts TLS 1.0."
  }
}

run "tls_is_left_to_aws_on_request" {
  variables {
    tls_policy = null
  }

  assert {
    condition     = !can(regex("security-policy|access-mode", aws_api_gateway_rest_api.this.body))
    error_message = "The API has a security policy that nobody asked for."
  }
}

run "requests_are_throttled" {
  assert {
    condition     = aws_api_gateway_method_settings.all.method_path == "*/*" && one(aws_api_gateway_method_settings.all.settings).throttling_rate_limit == 50 && one(aws_api_gateway_method_settings.all.settings).throttling_burst_limit == 100
    error_message = "Requests are not throttled as they should be."
  }
}

run "by_default_the_api_is_public_at_its_own_address" {
  assert {
    condition     = !strcontains(aws_api_gateway_rest_api.this.body, "sigv4") && !aws_api_gateway_rest_api.this.disable_execute_api_endpoint
    error_message = "The API is not public."
  }
  assert {
    condition     = output.record_to_make == ""
    error_message = "A record is asked for that nobody needs."
  }
  assert {
    condition     = output.patients_url == "https://api0000000.execute-api.eu-central-1.amazonaws.com/v1/patients"
    error_message = "The patients are somewhere else."
  }
}

run "with_iam_authorization_only_a_preflight_goes_unsigned" {
  variables {
    iam_authorization = true
  }

  assert {
    condition = alltrue(flatten([
      for path, item in jsondecode(aws_api_gateway_rest_api.this.body).paths : [
        for method, operation in item : jsonencode(try(operation.security, [])) == (method == "options" ? "[]" : jsonencode([{ sigv4 = [] }]))
      ]
    ]))
    error_message = "A request gets through without a signature, or a preflight does not."
  }
  assert {
    condition     = jsondecode(aws_api_gateway_rest_api.this.body).components.securitySchemes.sigv4["x-amazon-apigateway-authtype"] == "awsSigv4"
    error_message = "The signature is not IAM's."
  }
}

run "with_a_domain_nobody_goes_round_its_tls_policy" {
  variables {
    custom_domain = {
      name            = "checkins.example.org"
      certificate_arn = "arn:aws:acm:eu-central-1:123456789012:certificate/00000000"
      zone_id         = "Z0000000"
    }
  }

  assert {
    condition     = aws_api_gateway_domain_name.this[0].security_policy == "TLS_1_2" && aws_api_gateway_rest_api.this.disable_execute_api_endpoint
    error_message = "Older TLS gets through."
  }
  # Switching the old address off takes effect only with a new deployment.
  assert {
    condition     = aws_api_gateway_deployment.this.triggers.definition == sha256(jsonencode([aws_api_gateway_rest_api.this.body, true, "1024"]))
    error_message = "A running deployment would keep its old address open."
  }
  assert {
    condition     = output.patients_url == "https://checkins.example.org/patients" && length(aws_route53_record.this) == 1 && aws_api_gateway_base_path_mapping.this[0].base_path == null
    error_message = "The patients are somewhere else."
  }
}

run "without_a_zone_the_record_that_is_missing_is_named" {
  variables {
    custom_domain = {
      name            = "checkins.example.org"
      certificate_arn = "arn:aws:acm:eu-central-1:123456789012:certificate/00000000"
    }
  }

  assert {
    condition     = output.record_to_make == "checkins.example.org CNAME d-00000000.execute-api.eu-central-1.amazonaws.com" && length(aws_route53_record.this) == 0
    error_message = "Nobody is told where the domain has to lead."
  }
}

run "firewall_shows_nobody_which_patient_was_asked_for" {
  variables {
    waf = true
  }

  assert {
    condition     = length(aws_wafv2_web_acl.this[0].rule) == 4 && aws_wafv2_web_acl_association.this[0].resource_arn == aws_api_gateway_stage.this.arn
    error_message = "The firewall has other rules, or is in front of something else."
  }
  assert {
    condition = (
      !one(aws_wafv2_web_acl.this[0].visibility_config).sampled_requests_enabled
      && alltrue([for rule in aws_wafv2_web_acl.this[0].rule : !one(rule.visibility_config).sampled_requests_enabled])
    )
    error_message = "Samples show paths."
  }
  assert {
    condition     = length(aws_wafv2_web_acl_logging_configuration.this[0].redacted_fields) == 2
    error_message = "The firewall's log has paths or queries."
  }
}

run "log_role_of_the_account_is_left_alone_on_request" {
  variables {
    api_gateway_account = false
  }

  assert {
    condition     = length(aws_api_gateway_account.this) + length(aws_iam_role.api_gateway_logs) == 0
    error_message = "The account's setting is changed."
  }
}
