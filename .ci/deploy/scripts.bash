# shellcheck shell=bash
# What the tests of deploy.sh and destroy.sh share: a checkout with a few small files, and an account that is faked
# (fakes/fake), so that every call can fail, and either script be killed, at any point.

here=$(cd "$BATS_TEST_DIRNAME" && pwd)
root=$(cd "$here/../.." && pwd)

setup() {
  export WORLD=$BATS_TEST_TMPDIR/world
  checkout=$BATS_TEST_TMPDIR/checkout
  new_world
  # Only the fakes, and what every system has.
  export PATH=$here/fakes:/usr/bin:/bin
  export CONTAINER_TOOL=docker SMOKE_SECONDS=0 ARCH=arm64 LC_ALL=C
  unset AWS_PROFILE AWS_ACCESS_KEY_ID AWS_REGION AWS_DEFAULT_REGION EXPECTED_ACCOUNT DEPLOYMENT ROSTER BACKEND RUST_IMAGE
}

# An empty account, and a new checkout.
new_world() {
  rm -rf "$WORLD" "$checkout"
  mkdir -p "$WORLD/account" "$checkout/terraform/dependencies" "$checkout/terraform/application" \
    "$checkout/services/backend/src" "$checkout/services/backend/tests" "$checkout/shared"
  : >"$WORLD/calls"
  cp "$root/deploy.sh" "$root/destroy.sh" "$checkout/"
  cp "$root"/terraform/*.sh "$checkout/terraform/"
  touch "$checkout/Cargo.toml" "$checkout/Cargo.lock" "$checkout/services/Dockerfile"
  echo 'fn main() {}' >"$checkout/services/backend/src/main.rs"
}

# Runs one of the scripts as a process of its own, in a group of its own, both of which the fakes can kill. What it
# prints: $output and $errors.
script() { # NAME ARGUMENT…
  local name=$1
  shift
  # The variables are those of the inner shell.
  # shellcheck disable=SC2016
  /usr/bin/env --default-signal=HUP,INT,TERM /usr/bin/setsid --wait bash -c 'echo $$ >"$WORLD/pid"; exec "$@"' run "$checkout/$name" "$@" \
    >"$WORLD/output" 2>"$WORLD/errors" || status=$?
  output=$(cat "$WORLD/output") errors=$(cat "$WORLD/errors")
}

# Expects an exit code, and words on stderr.
check() { # CODE WORDS SCRIPT ARGUMENT…
  local code=$1 words=$2
  shift 2
  status=0
  script "$@"
  if [ "$status" -ne "$code" ] || [[ $errors != *"$words"* ]]; then
    echo "expected $code and \"$words\" of $*; was $status and"
    echo "$errors"
    return 1
  fi
}

deployed() {
  check 0 "" deploy.sh
  [ "$(tail -n 1 <<<"$output")" = https://api.example/v1/patients ]
}

# Everything that exists on AWS, with its content.
account() {
  (cd "$WORLD/account" && find . -type f | sort | xargs -r grep -H .) || true
}

changes() {
  grep -c ' changes ' "$WORLD/calls" || true
}

steps_of() { # FILE: the steps that a run has begun
  sed -n 's/^\[ *[0-9]* s\] //p' "$1"
}

keep_world() {
  mkdir "$BATS_TEST_TMPDIR/kept"
  cp -a "$WORLD" "$BATS_TEST_TMPDIR/kept/world"
  cp -a "$checkout" "$BATS_TEST_TMPDIR/kept/checkout"
}
kept_world() {
  rm -rf "$WORLD" "$checkout"
  cp -a "$BATS_TEST_TMPDIR/kept/world" "$WORLD"
  cp -a "$BATS_TEST_TMPDIR/kept/checkout" "$checkout"
}

# Lets the run fail at each of its calls in each way, from the world that PREPARE makes; it must then fail, and name the
# step, and a second run must come to the same account as one that nothing happened to. UNLOCKED calls are made before
# the lock is taken: if it is killed there, nobody remembers.
every_fault() { # UNLOCKED PREPARE SCRIPT ARGUMENT…
  local unlocked=$1 prepare=$2 calls before number kind expected step
  shift 2
  $prepare
  keep_world
  before=$(wc -l <"$WORLD/calls")
  check 0 "" "$@"
  expected=$(account)
  calls=$(($(wc -l <"$WORLD/calls") - before))
  sed -n "$((before + 1)),\$p" "$WORLD/calls" >"$BATS_TEST_TMPDIR/calls"
  steps_of "$WORLD/errors" >"$BATS_TEST_TMPDIR/steps"
  [ "$calls" -gt 8 ]
  for number in $(seq 1 "$calls"); do
    for kind in before after half half2 half3 half4 half5 half6 half7 half8 half9 half10 half11 half12 TERM INT HUP KILL gone; do
      # What only asks does the same before and after, and is stopped by one signal as by another. Only Terraform does
      # several things: three in the first stage, twelve in the second; of a removal that was cut short, the first one is
      # enough.
      case "$kind $1 $(sed -n "${number}p" "$BATS_TEST_TMPDIR/calls")" in
        "after "*" asks "* | [KIH]*" asks "* | half*" asks "* | half*" aws "* | half*" docker "*) continue ;;
        half[0-9]*" destroy.sh "* | half[4-9]*"/dependencies "* | half1[0-9]*"/dependencies "*) continue ;;
      esac
      # Where everything exists, nothing is created that could be left half done.
      [[ "$prepare $kind" != "older half"* ]] || continue
      kept_world
      echo "$((before + number)) $kind" >"$WORLD/fault"
      status=0
      script "$@"
      rm "$WORLD/fault"
      if [ "$status" -eq 0 ]; then
        echo "$kind of call $number went unnoticed: $(sed -n "${number}p" "$BATS_TEST_TMPDIR/calls")"
        return 1
      fi
      step=$(sed -n 's/.*failed at the step: \(.*\) (exit code .*/\1/p' "$WORLD/errors")
      case $kind in
        # What is killed can't say anything; the next run does.
        KILL | gone) step="" ;;
        *)
          if ! grep -qxF -- "$step" "$BATS_TEST_TMPDIR/steps"; then
            echo "$kind of call $number: no step is named"
            echo "$errors"
            return 1
          fi
          grep -q '^What to do: ' "$WORLD/errors"
          [ -z "$output" ]
          ;;
      esac
      check 0 "" "$@" || { echo "after $kind of call $number"; return 1; }
      case $kind in
        KILL | gone)
          if [ "$number" -gt "$unlocked" ] && [[ $errors != *"was killed at the step: "* ]]; then
            echo "$kind of call $number: nobody says so"
            echo "$errors"
            return 1
          fi
          ;;
      esac
      if [ "$(account)" != "$expected" ]; then
        echo "after $kind of call $number:"
        diff <(echo "$expected") <(account)
        return 1
      fi
    done
  done
}
