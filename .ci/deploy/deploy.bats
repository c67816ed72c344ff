#!/usr/bin/env bats
# deploy.sh against a faked account.

# shellcheck disable=SC2154 # what scripts.bash sets
load scripts

nothing() { :; }

@test "a new account gets everything, and the last line is the URL" {
  deployed
  [ "$output" = https://api.example/v1/patients ]
  [ -e "$WORLD/account/projector" ]
  grep -q '@sha256:[0-9a-f]\{64\} arm64 false' "$WORLD/account/projector"
}

@test "a second run builds nothing, pushes nothing and changes nothing" {
  deployed
  before=$(account) count=$(changes)
  deployed
  [ "$(account)" = "$before" ]
  [ "$(grep -c ' docker build\| docker push' "$WORLD/calls")" -eq 2 ]
  [ "$(changes)" -eq "$count" ]
  [[ $errors == *"nothing is built"* ]]
}

@test "changed sources get an image of their own, changed tests do not" {
  deployed
  echo '#[test]' >"$checkout/services/backend/tests/test.rs"
  deployed
  [ "$(find "$WORLD/account/images" -type f | wc -l)" -eq 1 ]
  echo 'fn main() { todo!() }' >"$checkout/services/backend/src/main.rs"
  deployed
  [ "$(find "$WORLD/account/images" -type f | wc -l)" -eq 2 ]
  ARCH=x86_64 deployed
  [ "$(find "$WORLD/account/images" -type f | wc -l)" -eq 3 ]
  grep -q ' x86_64 ' "$WORLD/account/projector"
}

@test "every call fails, and deploy.sh is killed at every call: it says so, and the next run completes it" {
  every_fault 2 nothing deploy.sh
}

@test "the same when it changes what is there" {
  older() {
    deployed
    echo 'fn main() { todo!() }' >"$checkout/services/backend/src/main.rs"
  }
  every_fault 2 older deploy.sh
}

@test "Ctrl-C while Terraform creates something: it notes that down before it ends" {
  deployed
  apply=$(grep -n ' terraform .*/application apply' "$WORLD/calls" | cut -d: -f1)
  for signal in INT HUP; do
    new_world
    echo "$apply $signal" >"$WORLD/fault"
    status=0
    script deploy.sh
    rm "$WORLD/fault"
    [ "$status" -eq "$((128 + $(kill -l "$signal")))" ]
    [[ $errors == *"failed at the step: create or update the application"*"stopped by a signal (SIG$signal)"* ]]
    grep -q 'Gracefully shutting down' "$checkout"/terraform/state/*/*/*/deploy.log
    grep -q 'aws_api_gateway_rest_api.this' "$checkout"/terraform/state/*/*/*/application.tfstate
    [ ! -e "$checkout/terraform/.deploying" ]
  done
}

@test "the wrong account: not one call that changes anything" {
  EXPECTED_ACCOUNT=999999999999 check 4 "EXPECTED_ACCOUNT is 999999999999" deploy.sh
  [ "$(changes)" -eq 0 ]
  [ "$(grep -c ' terraform .*\(init\|apply\)' "$WORLD/calls")" -eq 0 ]
  EXPECTED_ACCOUNT=012345678901 deployed
}

@test "without credentials nothing is changed" {
  echo "3 before" >"$WORLD/fault"
  AWS_REGION=eu-central-1 check 3 "AWS accepts no credentials, profile inception-health" deploy.sh
  [ "$(changes)" -eq 0 ]
}

@test "missing tools are named, all of them" {
  mkdir "$BATS_TEST_TMPDIR/few"
  for tool in bash basename dirname rm mktemp sed cat; do ln -s "$(command -v "$tool")" "$BATS_TEST_TMPDIR/few/"; done
  PATH=$BATS_TEST_TMPDIR/few check 3 "Not installed, or not on the PATH: terraform aws curl tar" deploy.sh
  [ "$(wc -l <"$WORLD/calls")" -eq 0 ]
}

@test "an old Terraform is refused" {
  TERRAFORM_VERSION=1.9.8 check 3 "Terraform 1.10 or newer is needed; this is 1.9.8." deploy.sh
}

@test "no engine of containers: refused before anything is asked" {
  echo "2 before" >"$WORLD/fault"
  check 3 "Neither builds images here: docker" deploy.sh
  CONTAINER_TOOL=no-such-tool check 3 "Neither builds images here: no-such-tool" deploy.sh
}

@test "wrong arguments and settings are refused before anything is asked" {
  check 2 "unknown argument --plam" deploy.sh --plam
  ARCH=riscv check 2 "ARCH must be" deploy.sh
  DEPLOYMENT=Two check 2 "DEPLOYMENT must be" deploy.sh
  DEPLOYMENT=a--b check 2 "DEPLOYMENT must be" deploy.sh
  for wrong in 5m 08 -1; do
    SMOKE_SECONDS=$wrong check 2 "SMOKE_SECONDS must be" deploy.sh
  done
  BACKEND=/no/such check 3 "BACKEND names a file that can't be read" deploy.sh
  ROSTER=/no/such check 3 "ROSTER names no file" deploy.sh
  [ "$(changes)" -eq 0 ]
}

@test "--plan says what would change, and changes nothing" {
  check 6 "" deploy.sh --plan
  [[ $output == *"aws_kms_key.this[0] will be created"*"The key is not there yet."*"would be built and pushed"*"aws_dynamodb_table.events will be created"* ]]
  [ "$(changes)" -eq 0 ]
  deployed
  count=$(changes)
  check 0 "" deploy.sh --plan
  echo 'fn main() { todo!() }' >"$checkout/services/backend/src/main.rs"
  check 6 "" deploy.sh --plan
  [ "$(changes)" -eq "$count" ]
}

@test "two runs at once: the second one is refused" {
  sleep 60 &
  printf '%s\nbuild the image\n' "$!" >"$checkout/terraform/.deploying"
  check 5 "Another run (process $!) is at work here, at the step: build the image" deploy.sh
  [ "$(changes)" -eq 0 ]
  [ -e "$checkout/terraform/.deploying" ]
  kill "$!"
  wait "$!" || true
  check 0 "was killed at the step: build the image" deploy.sh
  [ ! -e "$checkout/terraform/.deploying" ]
}

@test "a deployment that this state does not know is left alone" {
  deployed
  rm -rf "$checkout/terraform/state"
  count=$(changes)
  check 3 "is there already, and this state does not know it" deploy.sh
  [ "$(changes)" -eq "$count" ]
}

@test "a deployment whose state is lost for good is taken over with --adopt, and changed nowhere" {
  deployed
  before=$(account)
  rm -rf "$checkout/terraform/state"
  check 6 "" deploy.sh --plan --adopt
  [[ $output == *'aws_api_gateway_rest_api.this will be imported'* && $output != *'aws_dynamodb_table.events will be created'* ]]
  [ "$(account)" = "$before" ]
  check 0 "is there, and Terraform does not know it" deploy.sh --adopt
  [ "$(account)" = "$before" ]
  check 0 "nothing to change" deploy.sh
  # Nothing is left that would import it again.
  [ -z "$(find "$checkout" -name 'adopting.tf')" ]
}

@test "what a killed run created is taken over only if it is this deployment's" {
  deployed
  apply=$(grep -n ' terraform .*/application apply' "$WORLD/calls" | cut -d: -f1)
  new_world
  echo "$apply half8" >"$WORLD/fault"
  check 1 "killed while it created aws_lambda_function" deploy.sh
  rm "$WORLD/fault"
  count=$(changes)
  FUNCTION_OWNER=None check 1 "There is checkin-projector, and it is not of this deployment" deploy.sh
  FUNCTION_OWNER=other check 1 "\"application\" says: other" deploy.sh
  [ "$(changes)" -eq "$count" ]
  deployed
}

@test "API Gateway's role for logs, if somebody else has set it, is neither replaced nor taken away" {
  theirs=arn:aws:iam::012345678901:role/theirs
  echo $theirs >"$WORLD/account/logging-role"
  check 0 "writes its logs with $theirs, which is not of this deployment, and is left as it is" deploy.sh
  [ "$(cat "$WORLD/account/logging-role")" = $theirs ]
  check 0 "" destroy.sh --yes --delete-data
  [ "$(account)" = "./logging-role:$theirs" ]
  # Set by somebody else after this deployment had set its own.
  rm "$WORLD/account/logging-role"
  deployed
  echo $theirs >"$WORLD/account/logging-role"
  check 6 "" deploy.sh --plan
  [[ $output == *"aws_api_gateway_account.this[0] will be destroyed. It would only be forgotten"* ]]
  grep -q 'aws_api_gateway_account' "$checkout"/terraform/state/*/*/*/application.tfstate
  deployed
  ! grep -q 'aws_api_gateway_account' "$checkout"/terraform/state/*/*/*/application.tfstate || false
  check 0 "" deploy.sh --plan
  [[ $output != *"forgotten"* ]]
  check 0 "" destroy.sh --yes --delete-data
  [ "$(account)" = "./logging-role:$theirs" ]
  deployed
  rm "$WORLD/account/logging-role"
  deployed
  echo $theirs >"$WORLD/account/logging-role"
  check 0 "" destroy.sh --yes --delete-data
  [ "$(account)" = "./logging-role:$theirs" ]
}

@test "a question about what is there that gets no answer is no answer" {
  deployed
  rm -rf "$checkout/terraform/state"
  before=$(wc -l <"$WORLD/calls")
  check 6 "" deploy.sh --plan --adopt
  sed -n "$((before + 1)),\$p" "$WORLD/calls" | grep -n '^[0-9]* asks aws ' | grep -v 'configure get' | cut -d: -f1 >"$BATS_TEST_TMPDIR/questions"
  [ "$(wc -l <"$BATS_TEST_TMPDIR/questions")" -gt 20 ]
  while read -r number; do
    before=$(wc -l <"$WORLD/calls")
    echo "$((before + number)) before" >"$WORLD/fault"
    status=0
    script deploy.sh --plan --adopt
    rm "$WORLD/fault"
    [[ "$status $errors" == [13]*"failed at the step: "* ]] || { echo "question $number: $status"; return 1; }
  done <"$BATS_TEST_TMPDIR/questions"
}

@test "somebody else's table or repository is left alone" {
  echo theirs >"$WORLD/account/events"
  OWNER=somebody check 3 "a table checkin-events that is not of this system" deploy.sh
  mv "$WORLD/account/events" "$WORLD/account/repository"
  OWNER=somebody check 3 "an image repository checkin that is not of this system" deploy.sh
  [ "$(changes)" -eq 0 ]
}

@test "an event table that was kept is adopted, though the state was lost" {
  deployed
  check 0 "" destroy.sh --yes
  rm -rf "$checkout/terraform/state"
  deployed
  [[ $errors == *"does not know it:"*"aws_dynamodb_table.events"* ]]
  [ "$(cat "$WORLD/account/events")" = protected ]
}

@test "an own roster is in the image, and is not replaced by the made-up one by mistake" {
  echo '[]' >"$BATS_TEST_TMPDIR/roster.json"
  ROSTER=$BATS_TEST_TMPDIR/roster.json deployed
  grep -q ' true$' "$WORLD/account/projector"
  check 3 "has a roster of its own" deploy.sh
  ROSTER=$BATS_TEST_TMPDIR/roster.json deployed
  [[ $errors == *"nothing is built"* ]]
  echo '[{}]' >"$BATS_TEST_TMPDIR/roster.json"
  ROSTER=$BATS_TEST_TMPDIR/roster.json deployed
  [ "$(find "$WORLD/account/images" -type f | wc -l)" -eq 2 ]
  ROSTER=built-in deployed
  grep -q ' false$' "$WORLD/account/projector"
  # No roster is left in the checkout.
  [ -z "$(find "$checkout" -name 'own-roster*')" ]
}

@test "an API that lists nobody is reported, and its URL" {
  ANSWER='{"patients":[]}' check 1 "It answered with 200: {\"patients\":[]}" deploy.sh
  [[ $errors == *"wait for the deployed API"*"https://api.example/v1/patients"* ]]
  [ -z "$output" ]
  STATUS=500 check 1 "It answered with 500" deploy.sh
  # An API that demands signatures turns strangers away; this one does not.
  STATUS=403 check 1 "It answered with 403" deploy.sh
}

@test "an API that demands signatures is asked with one, and without" {
  SIGNED=true deployed
  [ "$(grep -c ' curl ' "$WORLD/calls")" -eq 2 ]
  ! grep secret "$WORLD/calls" || false
  SIGNED=true STATUS=403 check 1 "It answered with 403" deploy.sh
  SIGNED=true OPEN=true check 1 "It answered with 200 to a request without a signature" deploy.sh
}

@test "a domain without a record is asked for all the same, and the record is named" {
  RECORD="checkins.example.org CNAME d-0.execute-api" check 0 "The domain has no record yet, unless you have made it: checkins.example.org CNAME d-0.execute-api" deploy.sh
  [ "$output" = https://api.example/v1/patients ]
}

@test "the state can be kept in S3, one for each account, region and deployment" {
  echo 'bucket = "states"' >"$BATS_TEST_TMPDIR/backend.hcl"
  BACKEND=$BATS_TEST_TMPDIR/backend.hcl deployed
  [ -e "$WORLD/bucket/012345678901/eu-central-1/checkin/dependencies.tfstate" ]
  [ -e "$WORLD/bucket/012345678901/eu-central-1/checkin/application.tfstate" ]
}

@test "another machine pushed the same image in the meantime: the next run takes theirs" {
  deployed
  tag=$(ls "$WORLD/account/images")
  push=$(grep -n ' docker push' "$WORLD/calls" | cut -d: -f1)
  new_world
  # The push fails having been done, as if somebody else had done it.
  echo "$push after" >"$WORLD/fault"
  check 1 "failed at the step: push the image" deploy.sh
  rm "$WORLD/fault"
  check 0 "nothing is pushed" deploy.sh
  [ "$(ls "$WORLD/account/images")" = "$tag" ]
}

@test "the help names every setting and exit code" {
  check 0 "" deploy.sh --help
  for word in --plan --adopt AWS_PROFILE AWS_REGION EXPECTED_ACCOUNT DEPLOYMENT ROSTER ARCH CONTAINER_TOOL RUST_IMAGE BACKEND \
    SMOKE_SECONDS 143; do
    [[ $output == *"$word"* ]]
  done
  [ "$(wc -l <"$WORLD/calls")" -eq 0 ]
}
