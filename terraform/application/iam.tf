# Who may do what. Each function has a role of its own, with the actions that its code calls, on the resources that it
# calls them on, and nothing else. tests/iam.tftest.hcl repeats the actions, so that none is added unnoticed.

locals {
  events         = aws_dynamodb_table.events.arn
  events_by_time = "${aws_dynamodb_table.events.arn}/index/by_recorded_at"
  events_stream  = aws_dynamodb_table.events.stream_arn
  read_model     = aws_dynamodb_table.read_model.arn
  read_model_by  = [for index in ["by_id", "by_recent"] : "${aws_dynamodb_table.read_model.arn}/index/${index}"]

  services_may = {
    # Adds events; can't update or delete one.
    checkin = [
      { sid = "AppendEvents", actions = ["dynamodb:PutItem"], resources = [local.events] },
      { sid = "ReadTheTail", actions = ["dynamodb:Query"], resources = [local.events] },
    ]

    # Reads events and writes the read model; can't append. Its role is also what Lambda reads the stream with.
    projector = concat(local.projection_may, [
      { sid = "ReadEvents", actions = ["dynamodb:Query"], resources = [local.events] },
      {
        sid       = "ReadTheStream"
        actions   = ["dynamodb:DescribeStream", "dynamodb:GetRecords", "dynamodb:GetShardIterator"]
        resources = [local.events_stream]
      },
      {
        # IAM knows no resource for it: https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazondynamodb.html
        sid       = "FindTheStream"
        actions   = ["dynamodb:ListStreams"]
        resources = ["*"]
      },
      { sid = "ReportRecordsThatWereGivenUp", actions = ["sqs:SendMessage"], resources = [aws_sqs_queue.this["stream_failures"].arn] },
    ])

    # Reads the read model. Has no way to the events, nor to write anything.
    backend = [
      { sid = "ReadItems", actions = ["dynamodb:BatchGetItem", "dynamodb:GetItem"], resources = [local.read_model] },
      { sid = "ReadLists", actions = ["dynamodb:Query"], resources = concat([local.read_model], local.read_model_by) },
    ]

    # As the projector, but it finds what was recorded by time.
    reconciler = concat(local.projection_may, [
      { sid = "ReadEvents", actions = ["dynamodb:Query"], resources = [local.events, local.events_by_time] },
    ])
  }

  projection_may = [
    {
      sid = "WriteTheReadModel"
      actions = [
        "dynamodb:BatchGetItem", "dynamodb:BatchWriteItem", "dynamodb:GetItem", "dynamodb:PutItem",
        # BatchExecuteStatement has no action of its own.
        "dynamodb:PartiQLInsert", "dynamodb:PartiQLUpdate",
      ]
      resources = [local.read_model]
    },
    { sid = "Quarantine", actions = ["sqs:SendMessage"], resources = [aws_sqs_queue.this["quarantine"].arn] },
  ]

  # With an own key, DynamoDB and SQS use it in the name of whoever calls them.
  services_decrypt = {
    checkin    = { services = ["dynamodb"], actions = local.key_write }
    projector  = { services = ["dynamodb", "sqs"], actions = local.key_write }
    backend    = { services = ["dynamodb"], actions = local.key_read }
    reconciler = { services = ["dynamodb", "sqs"], actions = local.key_write }
  }
  key_read  = ["kms:Decrypt", "kms:DescribeKey"]
  key_write = concat(local.key_read, ["kms:Encrypt", "kms:GenerateDataKey", "kms:ReEncryptFrom", "kms:ReEncryptTo"])

  partition   = data.aws_partition.this.partition
  account     = data.aws_caller_identity.this.account_id
  dns_suffix  = data.aws_partition.this.dns_suffix
  lambda_arns = { for service, name in local.function_names : service => "arn:${local.partition}:lambda:${var.region}:${local.account}:function:${name}" }
}

resource "aws_iam_role" "function" {
  for_each = local.services_may

  name                 = local.function_names[each.key]
  description          = "What the function ${local.function_names[each.key]} may do"
  permissions_boundary = var.permissions_boundary

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "lambda.amazonaws.com" }
      Action    = "sts:AssumeRole"
    }]
  })
}

resource "aws_iam_role_policy" "function" {
  for_each = local.services_may

  # Not a name of its own: as what the API's deployment needs, one that has to be replaced is made before the other is removed,
  # and that would remove the new one.
  name_prefix = "calls-"
  role        = aws_iam_role.function[each.key].name

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      [for may in each.value : { Sid = may.sid, Effect = "Allow", Action = may.actions, Resource = may.resources }],
      [
        {
          # The log's streams, which Lambda names.
          Sid      = "WriteItsLog"
          Effect   = "Allow"
          Action   = ["logs:CreateLogStream", "logs:PutLogEvents"]
          Resource = ["${aws_cloudwatch_log_group.function[each.key].arn}:*"]
        },
        {
          # IAM knows no resource for it: https://docs.aws.amazon.com/service-authorization/latest/reference/list_awsx-ray.html
          Sid      = "SendTraces"
          Effect   = "Allow"
          Action   = ["xray:PutTelemetryRecords", "xray:PutTraceSegments"]
          Resource = ["*"]
        },
      ],
      [for decrypt in [local.services_decrypt[each.key]] : {
        Sid      = "UseTheKeyThroughServices"
        Effect   = "Allow"
        Action   = decrypt.actions
        Resource = [local.kms_key_arn]
        Condition = {
          StringEquals = {
            "kms:ViaService" = [for service in decrypt.services : "${service}.${var.region}.${local.dns_suffix}"]
          }
        }
      } if local.own_key],
      [for arn in [local.lambda_arns[each.key]] : {
        Sid       = "ReadItsEnvironment"
        Effect    = "Allow"
        Action    = ["kms:Decrypt"]
        Resource  = [local.kms_key_arn]
        Condition = { StringEquals = { "kms:EncryptionContext:aws:lambda:FunctionArn" = arn } }
      } if local.own_key],
    )
  })
}
