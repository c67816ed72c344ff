# What is wrong is refused before anything is changed, by the name of the variable.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  region       = "eu-central-1"
  image_uri    = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/checkin@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
  architecture = "arm64"
  kms_key_arn  = ""
}

run "wrong_values_are_refused_first_ones" {
  command = plan

  variables {
    name                     = "Check-in"
    region                   = "Frankfurt"
    image_uri                = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/checkin:latest"
    architecture             = "amd64"
    kms_key_arn              = "alias/checkin"
    tags                     = { "aws:mine" = "x" }
    recovery_days            = 36
    schedule                 = "every 2 minutes"
    checkins_per_tick        = 0
    stream                   = { batch_size = 10001 }
    concurrency              = 0
    reconcile_minutes        = 1
    memory_mb                = { backend = 64 }
    reserved_concurrency     = { backend = 0 }
    log_level                = "loud"
    log_retention_days       = 2
    permissions_boundary     = "boundary"
    throttle                 = { rate = 0 }
    cors_allow_origin        = "app.example.org"
    tls_policy               = "TLS_1_0"
    custom_domain            = { name = "Not a domain", certificate_arn = "arn:aws:acm:eu-central-1:123456789012:certificate/0" }
    waf_requests_per_address = 9
    alarm_email              = "nobody"
    producer_silence_minutes = 4
    projection_lag_seconds   = 9
    api_latency_ms           = 30000
  }

  expect_failures = [
    var.name,
    var.region,
    var.image_uri,
    var.architecture,
    var.kms_key_arn,
    var.tags,
    var.recovery_days,
    var.schedule,
    var.checkins_per_tick,
    var.stream,
    var.concurrency,
    var.reconcile_minutes,
    var.memory_mb,
    var.reserved_concurrency,
    var.log_level,
    var.log_retention_days,
    var.permissions_boundary,
    var.throttle,
    var.cors_allow_origin,
    var.tls_policy,
    var.custom_domain,
    var.waf_requests_per_address,
    var.alarm_email,
    var.producer_silence_minutes,
    var.projection_lag_seconds,
    var.api_latency_ms,
  ]
}

run "wrong_values_are_refused_second_ones" {
  command = plan

  variables {
    name                 = "a"
    image_uri            = "checkin@sha256:0123"
    recovery_days        = 1.5
    schedule             = "rate(1 minutes)"
    checkins_per_tick    = 1001
    stream               = { window_seconds = 301 }
    concurrency          = 256
    reserved_concurrency = { backend = 2.5 }
    throttle             = { burst = 0 }
    cors_allow_origin    = "https://app.example.org/path"
    custom_domain        = { name = "a.example.org", certificate_arn = "certificate" }
  }

  expect_failures = [
    var.name,
    var.image_uri,
    var.recovery_days,
    var.schedule,
    var.checkins_per_tick,
    var.stream,
    var.concurrency,
    var.reserved_concurrency,
    var.throttle,
    var.cors_allow_origin,
    var.custom_domain,
  ]
}

run "wrong_values_are_refused_third_ones" {
  command = plan

  variables {
    name                 = "double--hyphen"
    stream               = { parallel = 11 }
    reserved_concurrency = { checkin = 1, projector = -1 }
    custom_domain        = { name = "a.example.org", certificate_arn = "arn:aws:acm:eu-central-1:123456789012:certificate/0", zone_id = "example.org" }
  }

  expect_failures = [
    var.name,
    var.stream,
    var.reserved_concurrency,
    var.custom_domain,
  ]
}

run "wrong_values_are_refused_fourth_ones" {
  command = plan

  variables {
    stream = { retries = -1 }
  }

  expect_failures = [
    var.stream,
  ]
}

run "wrong_values_are_refused_fifth_ones" {
  command = plan

  variables {
    stream = { record_age_seconds = 59 }
  }

  expect_failures = [
    var.stream,
  ]
}

run "a_window_that_would_raise_the_alarms_about_lag_is_refused" {
  command = plan

  variables {
    stream                 = { window_seconds = 60 }
    projection_lag_seconds = 600
    reconcile_minutes      = 2
  }

  expect_failures = [
    aws_lambda_event_source_mapping.stream,
  ]
}

run "without_alarms_any_window_will_do" {
  command = plan

  variables {
    stream = { window_seconds = 300 }
    alarms = false
  }
}
