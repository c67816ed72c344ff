# shellcheck shell=bash
# What deploy.sh and destroy.sh have in common: steps that name themselves when they fail, the tools, the account, the
# lock, and where Terraform keeps its state. It runs on bash 3.2 too, which is what macOS has.

# Exit codes; the --help of both scripts explains them.
# shellcheck disable=SC2034 # FAILED is for those two
readonly FAILED=1 USAGE=2 NOT_READY=3 WRONG_ACCOUNT=4 LOCKED=5

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
program=$(basename "$0")
began=$SECONDS
step="" advice="" fault=""
lock=""    # the lock's file, while this run holds it
scratch="" # a folder for this run only
log=""     # what the tools print

# A terminal that was closed is no reason to stop halfway.
say() {
  printf '%s\n' "$*" >&2 || true
}

# Begins a step. If anything fails in it, its NAME is reported, and the ADVICE.
begin() { # NAME ADVICE
  step=$1 advice=$2
  [ -z "$lock" ] || printf '%s\n%s\n' "$$" "$step" >"$lock"
  say "$(printf '[%4d s] %s' "$((SECONDS - began))" "$step")"
}

# Ends the run, and says why.
refuse() { # CODE WHY…
  local code=$1
  shift
  fault=$*
  exit "$code"
}

# Every way out leads through here.
ended() {
  local code=$?
  trap - EXIT
  trap '' HUP INT TERM
  # A signal may have come while the output of some command went elsewhere.
  exec 2>&3
  if [ "$code" -ne 0 ] && [ -n "$step" ]; then
    say ""
    say "$program: failed at the step: $step (exit code $code)"
    [ -z "$fault" ] || say "$fault"
    [ -n "$fault" ] || [ -z "$log" ] || tail_of_log || true
    [ -z "$advice" ] || say "What to do: $advice"
  fi
  [ -z "$scratch" ] || rm -rf "$scratch"
  [ -z "$lock" ] || rm -f "$root"/terraform/*/adopting.tf "$lock"
  exit "$code"
}

tail_of_log() {
  say "The end of $log:"
  tail -n 25 "$log" | sed 's/^/    /' >&2
}

catch_the_end() {
  exec 3>&2
  trap ended EXIT
  trap 'fault="It was stopped by a signal (SIGHUP)."; exit 129' HUP
  trap 'fault="It was stopped by a signal (SIGINT)."; exit 130' INT
  trap 'fault="It was stopped by a signal (SIGTERM)."; exit 143' TERM
  scratch=$(mktemp -d "${TMPDIR:-/tmp}/patient-checkins.XXXXXX")
}

# Runs a command; what it prints goes to the log, and the lines that show progress to the terminal too.
#
# Ctrl-C reaches every process that belongs to the terminal. Terraform then finishes what it is creating, notes it down and
# ends; but if nobody read what it prints meanwhile, it would be killed by that. So the readers ignore signals: they
# end when it does. A terminal that is closed does not stop it at all.
logged() { # COMMAND…
  (trap '' HUP && "$@") 2>&1 </dev/null |
    (trap '' HUP INT TERM && exec tee -a "$log") |
    (trap '' HUP INT TERM && progress)
}

# Deliberately not awk or sed, some of which wait for more before they look at what there is.
progress() {
  local line
  local wanted='^[^ ].*: (Creation|Modifications|Destruction|Import) complete|^Apply complete|^(\[[0-9/]+\] )?STEP |^[^ ]+: digest: '
  while IFS= read -r line; do
    if [[ $line =~ $wanted ]]; then say "           $line"; fi
  done
}

## What has to be there before anything changes

# The settings that both scripts read; --help explains them.
read_settings() {
  name=${DEPLOYMENT:-checkin}
  if ! [[ $name =~ ^[a-z][a-z0-9]*(-[a-z0-9]+)*$ ]] || [ "${#name}" -lt 3 ] || [ "${#name}" -gt 32 ]; then
    refuse "$USAGE" "DEPLOYMENT must be 3 to 32 of a-z, 0-9 and single hyphens between them, and begin with a letter."
  fi
  if [ -n "${BACKEND:-}" ] && [ ! -r "$BACKEND" ]; then
    refuse "$NOT_READY" "BACKEND names a file that can't be read: $BACKEND"
  fi
}

# Looks for every tool, and names all that are missing.
need() { # TOOL…
  local tool missing=""
  for tool in "$@"; do
    command -v "$tool" >/dev/null || missing="$missing $tool"
  done
  [ -z "$missing" ] || refuse "$NOT_READY" "Not installed, or not on the PATH:$missing"
}

# Terraform locks a state in S3 by a file since 1.10.
need_terraform() {
  local found
  found=$(terraform version)
  found=$(printf '%s\n' "$found" | sed -n '1s/^Terraform v//p')
  case $found in
    1.[0-9] | 1.[0-9].* | 0.* | "") refuse "$NOT_READY" "Terraform 1.10 or newer is needed; this is ${found:-unknown}." ;;
  esac
}

# Whose account, and which region. Nothing but questions.
find_account() {
  if [ -z "${AWS_PROFILE:-}${AWS_ACCESS_KEY_ID:-}${AWS_WEB_IDENTITY_TOKEN_FILE:-}" ] &&
    [ -z "${AWS_CONTAINER_CREDENTIALS_RELATIVE_URI:-}${AWS_CONTAINER_CREDENTIALS_FULL_URI:-}" ]; then
    export AWS_PROFILE=inception-health
  fi
  export AWS_PAGER=""
  region=${AWS_REGION:-${AWS_DEFAULT_REGION:-}}
  if [ -z "$region" ]; then
    region=$(aws configure get region 2>"$scratch/error") ||
      refuse "$NOT_READY" "No region: set AWS_REGION, or a region in the profile. $(cat "$scratch/error")"
  fi
  export AWS_REGION=$region AWS_DEFAULT_REGION=$region
  if ! account=$(aws sts get-caller-identity --query Account --output text 2>"$scratch/error"); then
    refuse "$NOT_READY" "AWS accepts no credentials$(profile_in_words): $(tr '\n' ' ' <"$scratch/error")"
  fi
  say "           account $account, region $region$(profile_in_words), deployment $name"
  if [ "${EXPECTED_ACCOUNT:-$account}" != "$account" ]; then
    refuse "$WRONG_ACCOUNT" "These credentials are of the account $account, and EXPECTED_ACCOUNT is $EXPECTED_ACCOUNT."
  fi
}

profile_in_words() {
  if [ -n "${AWS_PROFILE:-}" ]; then printf ', profile %s' "$AWS_PROFILE"; fi
}

# What AWS answers; nothing if it is not there, which is said by an empty list, or by an error, if that can be.
question() { # NOT_FOUND COMMAND…
  local not_found=$1 found
  shift
  if ! found=$("$@" --output text 2>"$scratch/error"); then
    if [ -n "$not_found" ] && grep -q "$not_found" "$scratch/error"; then return; fi
    cat "$scratch/error" >&2
    return 1
  fi
  [ "$found" = None ] || printf '%s' "$found"
}

# API Gateway has one role for its logs in each account and region. One that somebody else has set is left as it is: not
# replaced, and not taken away with this deployment.
respect_the_logging_role() {
  local role
  others_role=""
  role=$(question "" aws apigateway get-account --query cloudwatchRoleArn)
  case $role in
    "" | */"$name-api-gateway-logs") ;;
    *)
      others_role=yes
      say "           API Gateway writes its logs with $role, which is not of this deployment, and is left as it is"
      ;;
  esac
}

# Once Terraform has set the role, it would take away whatever is set now.
has_to_forget_the_logging_role() {
  [ -n "$others_role" ] && known application | grep -q '^aws_api_gateway_account\.this\[0\]$'
}

forget_the_logging_role() {
  if has_to_forget_the_logging_role; then
    logged tf application state rm 'aws_api_gateway_account.this[0]'
  fi
}

## One run at a time

# Two runs on one checkout would work on the same files. Terraform's own lock of the state covers the rest.
take_lock() {
  local file=$root/terraform/.deploying pid at taken
  # The shell creates the file only if there is none: one of two runs wins.
  if (set -o noclobber && printf '%s\n%s\n' "$$" "$step" >"$file") 2>/dev/null; then
    lock=$file
    return
  fi
  pid=$(sed -n 1p "$file" 2>/dev/null || true)
  at=$(sed -n 2p "$file" 2>/dev/null || true)
  if [ -n "$pid" ] && kill -0 "$pid" 2>/dev/null; then
    advice="wait until it has ended. If the process $pid is something else, remove $file."
    refuse "$LOCKED" "Another run (process $pid) is at work here, at the step: $at"
  fi
  # That run was killed. Of those who notice, only one can move the file away.
  taken=$file.$$
  if ! mv "$file" "$taken" 2>/dev/null || [ "$(sed -n 1p "$taken")" != "$pid" ]; then
    [ ! -e "$taken" ] || mv "$taken" "$file"
    refuse "$LOCKED" "Another run has just begun here."
  fi
  rm -f "$taken"
  say "           The run before was killed at the step: ${at:-unknown}. This one goes on from there."
  (set -o noclobber && printf '%s\n%s\n' "$$" "$step" >"$file") 2>/dev/null ||
    refuse "$LOCKED" "Another run has just begun here."
  lock=$file
}

## Terraform, and where it keeps its state

tf() { # STAGE COMMAND…
  local stage=$1
  shift
  terraform -chdir="$root/terraform/$stage" "$@"
}

# Each account, region and deployment has a state of its own, so that none can be taken for another.
init_terraform() {
  local folder=$root/terraform/state/$account/$region/$name stage kind
  (umask 077 && mkdir -p "$folder")
  log=$folder/${program%.sh}.log
  (umask 077 && : >"$log")
  export TF_IN_AUTOMATION=1 TF_INPUT=0
  for stage in dependencies application; do
    if [ -n "${BACKEND:-}" ]; then
      kind=s3
      set -- "-backend-config=$(absolute "$BACKEND")" "-backend-config=key=$account/$region/$name/$stage.tfstate"
    else
      kind=local
      set -- "-backend-config=path=$folder/$stage.tfstate"
    fi
    printf '# Written by %s.\nterraform {\n  backend "%s" {}\n}\n' "$program" "$kind" \
      >"$root/terraform/$stage/backend_override.tf"
    # What a run that was killed left (adoption.sh).
    rm -f "$root/terraform/$stage/adopting.tf"
    logged tf "$stage" init -reconfigure -no-color "$@"
  done
}

absolute() { # FILE
  printf '%s/%s' "$(cd "$(dirname "$1")" && pwd)" "$(basename "$1")"
}

# The resources that a stage's state knows, an address a line; none if there is no state yet.
known() { # STAGE
  if ! tf "$1" state list >"$scratch/known" 2>"$scratch/error"; then
    if ! grep -q 'No state file was found' "$scratch/error"; then
      cat "$scratch/error" >>"$log"
      return 1
    fi
    : >"$scratch/known"
  fi
  cat "$scratch/known"
}

# An output of a stage; nothing if it has none yet.
output() { # STAGE NAME
  local found
  found=$(tf "$1" output -json 2>>"$log") || return
  case $found in
    *"\"$2\""*) tf "$1" output -raw "$2" 2>>"$log" ;;
  esac
}

readonly no_digest=sha256:0000000000000000000000000000000000000000000000000000000000000000

# Terraform in one of the stages, with the variables of this deployment.
stage() { # STAGE COMMAND…
  local stage=$1 command=$2
  shift 2
  local variables=(-var "name=$name" -var "region=$region")
  if [ "$stage" = application ]; then
    variables=("${variables[@]}"
      -var "image_uri=${repository:-$account.dkr.ecr.$region.amazonaws.com/$name}@${digest:-$no_digest}"
      -var "architecture=${architecture:-arm64}" -var "own_roster=${own_roster:-false}" -var "kms_key_arn=${key:-}")
    [ -z "${others_role:-}" ] || variables=("${variables[@]}" -var api_gateway_account=false)
  fi
  tf "$stage" "$command" -no-color "${variables[@]}" "$@"
}
