#!/usr/bin/env bats
# destroy.sh against a faked account.

# shellcheck disable=SC2154 # what scripts.bash sets
load scripts

everything() {
  deployed
}

@test "it keeps the event table, its policy and its key, and the next deployment is built around them" {
  deployed
  check 0 "These stay" destroy.sh --yes
  [ "$(account | cut -d: -f1 | sort | tr '\n' ' ')" = "./alias ./events ./key ./policy ./tag-roster " ]
  [ "$(cat "$WORLD/account/events")" = protected ]
  check 0 "These stay" destroy.sh --yes
  deployed
  [ -e "$WORLD/account/projector" ]
}

@test "--delete-data removes everything" {
  deployed
  check 0 "" destroy.sh --yes --delete-data
  [ -z "$(account)" ]
  check 0 "nothing is deployed" destroy.sh --yes --delete-data
  deployed
}

@test "log groups that API Gateway makes anew while it is removed go too" {
  deployed
  LATE_LOGS=yes check 0 "" destroy.sh --yes --delete-data
  [ -z "$(account)" ]
}

@test "--delete-data removes what was kept before" {
  deployed
  check 0 "" destroy.sh --yes
  check 0 "" destroy.sh --yes --delete-data
  [ -z "$(account)" ]
}

@test "every call fails, and destroy.sh is killed at every call: it says so, and the next run completes it" {
  every_fault 1 everything destroy.sh --yes
}

@test "the same with the data" {
  every_fault 1 everything destroy.sh --yes --delete-data
}

@test "it asks, and only the right answer counts" {
  deployed
  before=$(account)
  check 6 "Nothing was changed" destroy.sh </dev/null
  check 6 "Nothing was changed" destroy.sh <<<no
  check 6 "Type checkin-events to go on" destroy.sh --delete-data <<<yes
  [ "$(account)" = "$before" ]
  check 0 'aws_lambda_function.this["projector"]' destroy.sh <<<yes
  check 0 "deletes every event of every patient" destroy.sh --delete-data <<<checkin-events
  [ -z "$(account)" ]
}

@test "--delete-data has to be typed out" {
  for wrong in --delete --delete-dat --data --all -d; do
    check 2 "unknown argument $wrong" destroy.sh --yes "$wrong"
  done
  [ "$(wc -l <"$WORLD/calls")" -eq 0 ]
}

@test "the wrong account: not one call that changes anything" {
  deployed
  count=$(changes)
  EXPECTED_ACCOUNT=999999999999 check 4 "EXPECTED_ACCOUNT is 999999999999" destroy.sh --yes --delete-data
  ACCOUNT=999999999999 check 0 "nothing is deployed" destroy.sh --yes --delete-data
  [ "$(changes)" -eq "$count" ]
}

@test "an account in which nothing is deployed is left as it is" {
  check 0 "nothing is deployed, as far as this state knows" destroy.sh --yes
  [ "$(changes)" -eq 0 ]
}

@test "the help names every setting and exit code" {
  check 0 "" destroy.sh --help
  for word in --yes --delete-data AWS_PROFILE EXPECTED_ACCOUNT DEPLOYMENT BACKEND 143; do
    [[ $output == *"$word"* ]]
  done
}
