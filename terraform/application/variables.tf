# --- What it is, and where ---------------------------------------------------------------------------------------

variable "name" {
  description = "Prefix of the name of everything. Two deployments in one account and region need two names."
  type        = string
  default     = "checkin"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9]*(-[a-z0-9]+)*$", var.name)) && length(var.name) >= 3 && length(var.name) <= 32
    error_message = "name must be 3 to 32 of a-z, 0-9 and single hyphens between them, and begin with a letter."
  }
}

variable "region" {
  description = "AWS region of everything, such as eu-central-1."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z]{2,3}(-[a-z]+)+-[0-9]$", var.region))
    error_message = "region must be the name of an AWS region, such as eu-central-1."
  }
}

variable "image_uri" {
  description = "The image of all functions, by digest: REPOSITORY@sha256:… A tag would not do: Lambda does not notice when it moves."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[^@\\s]+@sha256:[0-9a-f]{64}$", var.image_uri))
    error_message = "image_uri must name an image by its digest: REPOSITORY@sha256: and 64 hexadecimal digits."
  }
}

variable "architecture" {
  description = "What the image was built for: arm64 or x86_64."
  type        = string
  nullable    = false

  validation {
    condition     = contains(["arm64", "x86_64"], var.architecture)
    error_message = "architecture must be arm64 or x86_64."
  }
}

variable "kms_key_arn" {
  description = "The key that encrypts everything, as the first stage put it out; empty for AWS's own keys. There is no default, so that it can't be forgotten."
  type        = string
  nullable    = false

  validation {
    condition     = var.kms_key_arn == "" || can(regex("^arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/[0-9A-Za-z-]+$", var.kms_key_arn))
    error_message = "kms_key_arn must be the ARN of a KMS key, or empty."
  }
}

variable "tags" {
  description = "Further tags for everything, such as a cost centre."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue([for key in keys(var.tags) : !startswith(lower(key), "aws:") && length(key) <= 128])
    error_message = "tags must have keys of at most 128 characters that do not begin with aws:."
  }
}

# --- Data --------------------------------------------------------------------------------------------------------

variable "deletion_protection" {
  description = "Whether DynamoDB refuses to delete the event table. The read model needs no such thing: it can be computed again."
  type        = bool
  default     = true
  nullable    = false
}

variable "append_only" {
  description = "Whether the event table itself refuses updates and deletes of events to everybody in the account, and puts to everybody but the producer, whatever their IAM policies say."
  type        = bool
  default     = true
  nullable    = false
}

variable "recovery_days" {
  description = "How far back the event table can be restored to any second: 1 to 35 days. 0 switches it off; then nothing shows when somebody rewrites a whole stream."
  type        = number
  default     = 35
  nullable    = false

  validation {
    condition     = var.recovery_days >= 0 && var.recovery_days <= 35 && floor(var.recovery_days) == var.recovery_days
    error_message = "recovery_days must be a whole number from 0 to 35."
  }
}

# --- The producer ------------------------------------------------------------------------------------------------

variable "own_roster" {
  description = "Whether the image contains the operator's own roster, as /roster.json, instead of the built-in one."
  type        = bool
  default     = false
  nullable    = false
}

variable "schedule" {
  description = "When patients check in: an EventBridge rate() or cron() expression."
  type        = string
  default     = "rate(2 minutes)"
  nullable    = false

  validation {
    condition     = can(regex("^(rate\\((1 (minute|hour|day)|([2-9]|[1-9][0-9]+) (minutes|hours|days))\\)|cron\\(\\S+( \\S+){5}\\))$", var.schedule))
    error_message = "schedule must be of the form rate(2 minutes) or cron(0 9 * * ? *)."
  }
}

variable "schedule_enabled" {
  description = "Whether the schedule fires. Off, nobody checks in, and the alarm about a silent producer is not there."
  type        = bool
  default     = true
  nullable    = false
}

variable "checkins_per_tick" {
  description = "How many patients check in each time: 1 to 1000."
  type        = number
  default     = 1
  nullable    = false

  validation {
    condition     = var.checkins_per_tick >= 1 && var.checkins_per_tick <= 1000 && floor(var.checkins_per_tick) == var.checkins_per_tick
    error_message = "checkins_per_tick must be a whole number from 1 to 1000."
  }
}

# --- The projection ----------------------------------------------------------------------------------------------

variable "stream" {
  description = <<-EOT
    How the stream's records reach the projector. The defaults are meant for anything from one event a minute to
    thousands a second.
    batch_size: records in one invocation at most, 1 to 10000.
    window_seconds: how long a batch may take to fill, 0 to 300. Each second of it is a second of lag, and spares
    invocations and write units where events come often.
    parallel: batches of one shard at once, 1 to 10. A patient's records stay in order in each.
    retries: how often a batch that failed is tried again before it is given up, 0 to 10000.
    record_age_seconds: how old a record may become before it is given up, 60 to 86400 (the stream keeps a day).
    What was given up is on the on-failure queue, and the reconciler finds its events.
  EOT
  type = object({
    batch_size         = optional(number, 1000)
    window_seconds     = optional(number, 1)
    parallel           = optional(number, 1)
    retries            = optional(number, 10)
    record_age_seconds = optional(number, 21600)
  })
  default  = {}
  nullable = false

  validation {
    condition     = var.stream.batch_size >= 1 && var.stream.batch_size <= 10000 && floor(var.stream.batch_size) == var.stream.batch_size
    error_message = "stream.batch_size must be a whole number from 1 to 10000."
  }
  validation {
    condition     = var.stream.window_seconds >= 0 && var.stream.window_seconds <= 300 && floor(var.stream.window_seconds) == var.stream.window_seconds
    error_message = "stream.window_seconds must be a whole number from 0 to 300."
  }
  validation {
    condition     = var.stream.parallel >= 1 && var.stream.parallel <= 10 && floor(var.stream.parallel) == var.stream.parallel
    error_message = "stream.parallel must be a whole number from 1 to 10."
  }
  validation {
    # -1, which AWS has for "for ever", would let one bad batch hold up a shard until its records are lost.
    condition     = var.stream.retries >= 0 && var.stream.retries <= 10000 && floor(var.stream.retries) == var.stream.retries
    error_message = "stream.retries must be a whole number from 0 to 10000."
  }
  validation {
    condition     = var.stream.record_age_seconds >= 60 && var.stream.record_age_seconds <= 86400 && floor(var.stream.record_age_seconds) == var.stream.record_age_seconds
    error_message = "stream.record_age_seconds must be a whole number from 60 to 86400."
  }
}

variable "concurrency" {
  description = "How many calls to DynamoDB an invocation of the projector or the reconciler has under way at once: 1 to 255."
  type        = number
  default     = 16
  nullable    = false

  validation {
    condition     = var.concurrency >= 1 && var.concurrency <= 255 && floor(var.concurrency) == var.concurrency
    error_message = "concurrency must be a whole number from 1 to 255."
  }
}

variable "reconcile_minutes" {
  description = "Minutes between two comparisons of the read model with the events: 2 to 60. What the stream loses is visible that much later at most."
  type        = number
  default     = 5
  nullable    = false

  validation {
    condition     = var.reconcile_minutes >= 2 && var.reconcile_minutes <= 60 && floor(var.reconcile_minutes) == var.reconcile_minutes
    error_message = "reconcile_minutes must be a whole number from 2 to 60."
  }
}

# --- The functions -----------------------------------------------------------------------------------------------

variable "memory_mb" {
  description = "Memory of each function, 128 to 10240. CPU comes with it: one whole CPU with 1769."
  type = object({
    checkin    = optional(number, 256)
    projector  = optional(number, 512)
    backend    = optional(number, 512)
    reconciler = optional(number, 512)
  })
  default  = {}
  nullable = false

  validation {
    condition     = alltrue([for mb in values(var.memory_mb) : mb >= 128 && mb <= 10240 && floor(mb) == mb])
    error_message = "memory_mb must have whole numbers from 128 to 10240."
  }
}

variable "reserved_concurrency" {
  description = "For each function how many instances are reserved for it, and are its most; null for none. A new account has 10 in all, of which nothing can be reserved."
  type = object({
    checkin    = optional(number)
    projector  = optional(number)
    backend    = optional(number)
    reconciler = optional(number)
  })
  default  = {}
  nullable = false

  validation {
    # 0 would switch the function off: do that with its schedule or its mapping, where it can be seen.
    condition     = alltrue([for count in values(var.reserved_concurrency) : count == null ? true : count >= 1 && floor(count) == count])
    error_message = "reserved_concurrency must have whole numbers of at least 1, or null."
  }
}

variable "log_level" {
  description = "What the functions log at least: error, warn, info, debug or trace."
  type        = string
  default     = "info"
  nullable    = false

  validation {
    condition     = contains(["error", "warn", "info", "debug", "trace"], var.log_level)
    error_message = "log_level must be error, warn, info, debug or trace."
  }
}

variable "log_retention_days" {
  description = "For how many days logs are kept; a number that CloudWatch Logs knows. A year by default: who asked for what is often asked late."
  type        = number
  default     = 365
  nullable    = false

  validation {
    condition     = contains([1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653], var.log_retention_days)
    error_message = "log_retention_days must be a number of days that CloudWatch Logs knows, such as 30, 90, 365 or 2192."
  }
}

variable "permissions_boundary" {
  description = "ARN of a policy that bounds every role made here, where the account demands one; null for none."
  type        = string
  default     = null

  validation {
    condition     = var.permissions_boundary == null || can(regex("^arn:aws[a-z-]*:iam::([0-9]{12}|aws):policy/.+$", var.permissions_boundary))
    error_message = "permissions_boundary must be the ARN of an IAM policy, or null."
  }
}

# --- The API -----------------------------------------------------------------------------------------------------

variable "throttle" {
  description = "Requests that the API takes: rate a second on the average, burst at once. More get 429."
  type = object({
    rate  = optional(number, 50)
    burst = optional(number, 100)
  })
  default  = {}
  nullable = false

  validation {
    condition     = var.throttle.rate >= 1 && var.throttle.burst >= 1 && floor(var.throttle.burst) == var.throttle.burst
    error_message = "throttle.rate and throttle.burst must be at least 1, and throttle.burst whole."
  }
}

variable "iam_authorization" {
  description = "Whether every request has to be signed by an IAM identity that may invoke the API (AWS_IAM). Off, the API is public. Browsers can't sign, so the page is not for them then."
  type        = bool
  default     = false
  nullable    = false
}

variable "trace_api_requests" {
  description = "Whether API Gateway adds its part to the X-Ray traces. It holds the path and the query, so ids of patients, and the caller's address. Off, there are the functions' own parts, which have neither."
  type        = bool
  default     = false
  nullable    = false
}

variable "cors_allow_origin" {
  description = "Origin whose pages may read the API, such as https://app.example.org, or *; null for none but the API's own."
  type        = string
  default     = null

  validation {
    condition     = var.cors_allow_origin == null || can(regex("^(\\*|https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?)$", var.cors_allow_origin))
    error_message = "cors_allow_origin must be an origin such as https://app.example.org, or *."
  }
}

variable "tls_policy" {
  description = "What TLS the API's own address takes: the name of an API Gateway security policy that begins with SecurityPolicy_. null leaves it at AWS's default, which accepts TLS 1.0."
  type        = string
  default     = "SecurityPolicy_TLS13_1_2_2021_06"

  validation {
    condition     = var.tls_policy == null || can(regex("^SecurityPolicy_[A-Za-z0-9_]+$", var.tls_policy))
    error_message = "tls_policy must be the name of a security policy that begins with SecurityPolicy_."
  }
}

variable "custom_domain" {
  description = "Domain of the API with TLS 1.2 or later: name, ARN of its ACM certificate in this region, and the Route 53 zone for its record (null: make the record yourself, as the output record_to_make says). With a domain the API's own address is switched off. null: the API's own address."
  type = object({
    name            = string
    certificate_arn = string
    zone_id         = optional(string)
  })
  default = null

  validation {
    condition     = var.custom_domain == null || can(regex("^([a-z0-9]([a-z0-9-]*[a-z0-9])?\\.)+[a-z]{2,}$", var.custom_domain.name))
    error_message = "custom_domain.name must be a domain name in lower case."
  }
  validation {
    condition     = var.custom_domain == null || can(regex("^arn:aws[a-z-]*:acm:[a-z0-9-]+:[0-9]{12}:certificate/.+$", var.custom_domain.certificate_arn))
    error_message = "custom_domain.certificate_arn must be the ARN of an ACM certificate."
  }
  validation {
    condition     = try(var.custom_domain.zone_id, null) == null || can(regex("^Z[A-Z0-9]+$", var.custom_domain.zone_id))
    error_message = "custom_domain.zone_id must be the ID of a Route 53 zone, such as Z0123456789ABCDEFGHIJ, or null."
  }
}

variable "waf" {
  description = "Whether AWS WAF is in front of the API: AWS's common rules, known bad inputs, addresses of ill repute, and a limit for each address. 9 USD a month, and 0.60 for each million requests."
  type        = bool
  default     = false
  nullable    = false
}

variable "waf_requests_per_address" {
  description = "With WAF: requests that one address has in five minutes, 10 to 2000000000."
  type        = number
  default     = 2000
  nullable    = false

  validation {
    condition     = var.waf_requests_per_address >= 10 && var.waf_requests_per_address <= 2000000000 && floor(var.waf_requests_per_address) == var.waf_requests_per_address
    error_message = "waf_requests_per_address must be a whole number from 10 to 2000000000."
  }
}

variable "api_gateway_account" {
  description = "Whether to set the role with which API Gateway writes logs. There is one for the whole account and region; deploy.sh makes it false where somebody else has set one."
  type        = bool
  default     = true
  nullable    = false
}

# --- Watching it -------------------------------------------------------------------------------------------------

variable "alarms" {
  description = "Whether there are alarms. They cost about 2 USD a month, less what is free, and without them nobody learns of what docs/OPERATIONS.md is about."
  type        = bool
  default     = true
  nullable    = false
}

variable "alarm_email" {
  description = "Who gets the alarms by e-mail, after a click on the link in the first one; null for nobody."
  type        = string
  default     = null

  validation {
    condition     = var.alarm_email == null || can(regex("^[^@\\s]+@[^@\\s]+\\.[^@\\s]+$", var.alarm_email))
    error_message = "alarm_email must be an e-mail address."
  }
}

variable "producer_silence_minutes" {
  description = "After how many minutes without a new event the alarm about a silent producer is raised, 5 to 1440; longer than the longest pause of the schedule."
  type        = number
  default     = 10
  nullable    = false

  validation {
    condition     = var.producer_silence_minutes >= 5 && var.producer_silence_minutes <= 1440 && floor(var.producer_silence_minutes) == var.producer_silence_minutes
    error_message = "producer_silence_minutes must be a whole number from 5 to 1440."
  }
}

variable "projection_lag_seconds" {
  description = "How far the read model may lag behind the events, in seconds, before the alarms about it are raised: 10 to 3600. For what the reconciler finds, half the time between two sweeps at most: it finds nothing that is much older."
  type        = number
  default     = 60
  nullable    = false

  validation {
    condition     = var.projection_lag_seconds >= 10 && var.projection_lag_seconds <= 3600
    error_message = "projection_lag_seconds must be from 10 to 3600."
  }
}

variable "api_latency_ms" {
  description = "How long the API may take for 99 of 100 requests, in milliseconds, before the alarm about it is raised: 100 to 29000."
  type        = number
  default     = 2000
  nullable    = false

  validation {
    condition     = var.api_latency_ms >= 100 && var.api_latency_ms <= 29000
    error_message = "api_latency_ms must be from 100 to 29000."
  }
}

variable "dashboard" {
  description = "Whether there is a CloudWatch dashboard. Three are free in an account, each further one costs 3 USD a month."
  type        = bool
  default     = true
  nullable    = false
}
