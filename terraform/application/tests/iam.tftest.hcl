# Who may do what, written a second time: an action that is added to a role, or a resource that is widened, has to be
# added here too.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  region       = "eu-central-1"
  image_uri    = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/checkin@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
  architecture = "arm64"
  kms_key_arn  = "arn:aws:kms:eu-central-1:123456789012:key/00000000-0000-0000-0000-000000000000"
}

run "each_role_has_exactly_the_actions_that_its_code_calls" {
  # What every function has: its log, its traces, its environment.
  assert {
    condition = alltrue([
      for service, policy in aws_iam_role_policy.function : toset(flatten([
        for statement in jsondecode(policy.policy).Statement : [
          for action in statement.Action : "${action} ${join(" ", statement.Resource)}"
        ]
        ])) == toset(concat(
        [
          "kms:Decrypt arn:aws:kms:eu-central-1:123456789012:key/00000000-0000-0000-0000-000000000000",
          "kms:DescribeKey arn:aws:kms:eu-central-1:123456789012:key/00000000-0000-0000-0000-000000000000",
          "logs:CreateLogStream arn:aws:logs:eu-central-1:123456789012:log-group:function:*",
          "logs:PutLogEvents arn:aws:logs:eu-central-1:123456789012:log-group:function:*",
          "xray:PutTelemetryRecords *",
          "xray:PutTraceSegments *",
        ],
        service == "backend" ? [] : [
          "kms:Encrypt arn:aws:kms:eu-central-1:123456789012:key/00000000-0000-0000-0000-000000000000",
          "kms:GenerateDataKey arn:aws:kms:eu-central-1:123456789012:key/00000000-0000-0000-0000-000000000000",
          "kms:ReEncryptFrom arn:aws:kms:eu-central-1:123456789012:key/00000000-0000-0000-0000-000000000000",
          "kms:ReEncryptTo arn:aws:kms:eu-central-1:123456789012:key/00000000-0000-0000-0000-000000000000",
        ],
        {
          checkin = [
            "dynamodb:PutItem arn:aws:dynamodb:eu-central-1:123456789012:table/events",
            "dynamodb:Query arn:aws:dynamodb:eu-central-1:123456789012:table/events",
          ]
          projector = [
            "dynamodb:BatchGetItem arn:aws:dynamodb:eu-central-1:123456789012:table/read-model",
            "dynamodb:BatchWriteItem arn:aws:dynamodb:eu-central-1:123456789012:table/read-model",
            "dynamodb:DescribeStream arn:aws:dynamodb:eu-central-1:123456789012:table/events/stream/2026-11-24T00:00:00.000",
            "dynamodb:GetItem arn:aws:dynamodb:eu-central-1:123456789012:table/read-model",
            "dynamodb:GetRecords arn:aws:dynamodb:eu-central-1:123456789012:table/events/stream/2026-11-24T00:00:00.000",
            "dynamodb:GetShardIterator arn:aws:dynamodb:eu-central-1:123456789012:table/events/stream/2026-11-24T00:00:00.000",
            "dynamodb:ListStreams *",
            "dynamodb:PartiQLInsert arn:aws:dynamodb:eu-central-1:123456789012:table/read-model",
            "dynamodb:PartiQLUpdate arn:aws:dynamodb:eu-central-1:123456789012:table/read-model",
            "dynamodb:PutItem arn:aws:dynamodb:eu-central-1:123456789012:table/read-model",
            "dynamodb:Query arn:aws:dynamodb:eu-central-1:123456789012:table/events",
            "sqs:SendMessage arn:aws:sqs:eu-central-1:123456789012:quarantine",
            "sqs:SendMessage arn:aws:sqs:eu-central-1:123456789012:stream-failures",
          ]
          backend = [
            "dynamodb:BatchGetItem arn:aws:dynamodb:eu-central-1:123456789012:table/read-model",
            "dynamodb:GetItem arn:aws:dynamodb:eu-central-1:123456789012:table/read-model",
            "dynamodb:Query arn:aws:dynamodb:eu-central-1:123456789012:table/read-model arn:aws:dynamodb:eu-central-1:123456789012:table/read-model/index/by_id arn:aws:dynamodb:eu-central-1:123456789012:table/read-model/index/by_recent",
          ]
          reconciler = [
            "dynamodb:BatchGetItem arn:aws:dynamodb:eu-central-1:123456789012:table/read-model",
            "dynamodb:BatchWriteItem arn:aws:dynamodb:eu-central-1:123456789012:table/read-model",
            "dynamodb:GetItem arn:aws:dynamodb:eu-central-1:123456789012:table/read-model",
            "dynamodb:PartiQLInsert arn:aws:dynamodb:eu-central-1:123456789012:table/read-model",
            "dynamodb:PartiQLUpdate arn:aws:dynamodb:eu-central-1:123456789012:table/read-model",
            "dynamodb:PutItem arn:aws:dynamodb:eu-central-1:123456789012:table/read-model",
            "dynamodb:Query arn:aws:dynamodb:eu-central-1:123456789012:table/events arn:aws:dynamodb:eu-central-1:123456789012:table/events/index/by_recorded_at",
            "sqs:SendMessage arn:aws:sqs:eu-central-1:123456789012:quarantine",
          ]
        }[service],
      ))
    ])
    error_message = "A role has other actions, or other resources, than those that are written here."
  }

  assert {
    condition     = toset(keys(aws_iam_role_policy.function)) == toset(["checkin", "projector", "backend", "reconciler"])
    error_message = "There are functions whose actions nobody has written down here."
  }
}

run "no_role_has_a_wildcard_action" {
  assert {
    condition = alltrue(flatten([
      for policy in concat(values(aws_iam_role_policy.function), aws_iam_role_policy.api_gateway_logs[*]) : [
        for statement in jsondecode(policy.policy).Statement : [for action in statement.Action : !strcontains(action, "*")]
      ]
    ]))
    error_message = "An action with a wildcard is in a role."
  }

  assert {
    condition = toset(flatten([
      for policy in values(aws_iam_role_policy.function) : [
        for statement in jsondecode(policy.policy).Statement : statement.Action if contains(statement.Resource, "*")
      ]
    ])) == toset(["dynamodb:ListStreams", "xray:PutTelemetryRecords", "xray:PutTraceSegments"])
    error_message = "A resource that IAM could name is not named."
  }

  assert {
    condition = alltrue([
      for role in values(aws_iam_role.function) :
      flatten([for statement in jsondecode(role.assume_role_policy).Statement : [statement.Action, values(statement.Principal)]])
      == ["sts:AssumeRole", "lambda.amazonaws.com"]
    ])
    error_message = "Somebody else than Lambda may take a function's role."
  }
}

run "nobody_changes_an_event" {
  assert {
    condition = alltrue(flatten([
      for policy in values(aws_iam_role_policy.function) : [
        for statement in jsondecode(policy.policy).Statement : [
          for action in statement.Action :
          !contains(["dynamodb:UpdateItem", "dynamodb:DeleteItem", "dynamodb:DeleteTable", "dynamodb:UpdateTable"], action)
        ]
      ]
    ]))
    error_message = "A function may update or delete items."
  }

  assert {
    condition = {
      for statement in jsondecode(aws_dynamodb_resource_policy.events[0].policy).Statement : statement.Sid => [
        statement.Effect, join(" ", statement.Action), statement.Resource, try(statement.Condition.ArnNotEquals["aws:PrincipalArn"], "")
      ]
      } == {
      AnEventNeverChanges    = ["Deny", "dynamodb:BatchWriteItem dynamodb:DeleteItem dynamodb:PartiQLDelete dynamodb:PartiQLInsert dynamodb:PartiQLUpdate dynamodb:UpdateItem", "arn:aws:dynamodb:eu-central-1:123456789012:table/events", ""]
      OnlyTheProducerAppends = ["Deny", "dynamodb:PutItem", "arn:aws:dynamodb:eu-central-1:123456789012:table/events", "arn:aws:iam::123456789012:role/checkin-checkin"]
    }
    error_message = "The event table's own policy is not the one that is written here."
  }
  assert {
    condition     = aws_iam_role.function["checkin"].name == "checkin-checkin"
    error_message = "The event table's own policy names another role than the producer's."
  }
}

run "the_key_is_used_only_through_the_services_of_the_role" {
  assert {
    condition = {
      for service, policy in aws_iam_role_policy.function : service => [
        for statement in jsondecode(policy.policy).Statement : statement.Condition.StringEquals["kms:ViaService"]
        if statement.Sid == "UseTheKeyThroughServices"
      ]
      } == {
      checkin    = [["dynamodb.eu-central-1.amazonaws.com"]]
      projector  = [["dynamodb.eu-central-1.amazonaws.com", "sqs.eu-central-1.amazonaws.com"]]
      backend    = [["dynamodb.eu-central-1.amazonaws.com"]]
      reconciler = [["dynamodb.eu-central-1.amazonaws.com", "sqs.eu-central-1.amazonaws.com"]]
    }
    error_message = "A role may use the key for something else than its tables and queues."
  }

  assert {
    condition = alltrue([
      for service, policy in aws_iam_role_policy.function : [
        for statement in jsondecode(policy.policy).Statement : statement.Condition.StringEquals["kms:EncryptionContext:aws:lambda:FunctionArn"]
        if statement.Sid == "ReadItsEnvironment"
      ] == ["arn:aws:lambda:eu-central-1:123456789012:function:checkin-${service}"]
    ])
    error_message = "A role may decrypt the environment of another function."
  }
}

run "without_a_key_no_role_may_use_one" {
  variables {
    kms_key_arn = ""
  }

  assert {
    condition     = !strcontains(join("", [for policy in aws_iam_role_policy.function : policy.policy]), "kms:")
    error_message = "A role may use a key although there is none."
  }
}

run "every_role_is_bounded_where_the_account_demands_it" {
  variables {
    permissions_boundary = "arn:aws:iam::123456789012:policy/boundary"
  }

  assert {
    condition = alltrue([
      for role in concat(values(aws_iam_role.function), aws_iam_role.api_gateway_logs[*]) :
      role.permissions_boundary == "arn:aws:iam::123456789012:policy/boundary"
    ])
    error_message = "A role has no boundary."
  }
}

run "only_the_api_and_the_schedules_may_invoke_functions" {
  assert {
    condition = {
      for permission in concat(values(aws_lambda_permission.schedule), [aws_lambda_permission.api]) :
      permission.function_name => "${permission.principal} ${permission.source_arn}"
      } == {
      checkin-checkin    = "events.amazonaws.com arn:aws:events:eu-central-1:123456789012:rule/some"
      checkin-reconciler = "events.amazonaws.com arn:aws:events:eu-central-1:123456789012:rule/some"
      checkin-backend    = "apigateway.amazonaws.com arn:aws:execute-api:eu-central-1:123456789012:api0000000/v1/*"
    }
    error_message = "Somebody else may invoke a function."
  }
}
