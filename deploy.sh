#!/usr/bin/env bash
# Deploys everything to AWS; see --help.
set -euo pipefail
# shellcheck source=terraform/deployment.sh
. "$(dirname "${BASH_SOURCE[0]}")/terraform/deployment.sh"
# shellcheck source=terraform/adoption.sh
. "$root/terraform/adoption.sh"

readonly CHANGES=6

usage() {
  cat <<'END'
Usage: ./deploy.sh [--plan] [--adopt]

Builds the image of the four functions, and creates or updates everything on AWS. The last line of its output is the URL
that GETs the patients; all the rest goes to stderr. Whatever interrupted it, run it again: it goes on from what is
there, and where the sources are unchanged it changes nothing.

  --plan     show what would be changed, and change nothing
  --adopt    the state of a whole deployment is lost for good: take what is there into a new one
  --help     this text

Settings, from the environment:

  AWS_PROFILE, or the usual AWS variables     whose account; without any of them the profile inception-health
  AWS_REGION        where; without it the profile's region
  EXPECTED_ACCOUNT  refuse to work on any other account than this one
  DEPLOYMENT        prefix of all names, if there is to be more than one in an account and region (checkin)
  ROSTER            a file with the patients to register, instead of fifty made-up ones; or built-in for those
  ARCH              arm64 or x86_64; without it that of this machine
  CONTAINER_TOOL    docker or podman; without it docker, if it works, or else podman
  RUST_IMAGE        what to build with, such as an image pinned by digest
  BACKEND           a file of settings for Terraform's S3 backend; without it the state is kept in terraform/state
  TF_VAR_...        any variable of terraform/dependencies or terraform/application; or put them into a
                    terraform.tfvars there
  SMOKE_SECONDS     for how long to wait for the first answer (300)

Exit codes:

  0  done; with --plan: nothing would change
  1  a step failed; which one, and what to do about it, is said at the end of stderr
  2  the command line or a setting is wrong
  3  a tool, the credentials or something else is missing: nothing was changed
  4  it is another account than EXPECTED_ACCOUNT: nothing was changed
  5  another run is at work on this checkout: nothing was changed
  6  with --plan: something would change
  129, 130, 143   stopped by SIGHUP, SIGINT or SIGTERM
END
}

main() {
  local plan_only=""
  adopt_all="" new=""
  while [ $# -gt 0 ]; do
    case $1 in
      --plan) plan_only=yes ;;
      --adopt) adopt_all=yes ;;
      --help | -h)
        usage
        exit 0
        ;;
      *)
        say "$program: unknown argument $1; see $program --help"
        exit "$USAGE"
        ;;
    esac
    shift
  done
  catch_the_end

  begin "look at the settings and the tools" "put that right. Nothing was changed."
  read_settings
  choose_architecture
  choose_patience
  need terraform aws curl sed tar tee tail tr
  need_terraform
  [ -n "$plan_only" ] || choose_container_tool
  take_lock

  begin "ask AWS whose account this is" "check AWS_PROFILE, AWS_REGION and ~/.aws. Nothing was changed."
  find_account

  begin "collect the sources of the image" "read the message above. Nothing was changed."
  collect_sources

  begin "prepare Terraform" "read the message above; it needs its provider from the registry, and, if BACKEND is set, the bucket. Nothing was changed."
  init_terraform

  begin "compare what is there with what Terraform knows" "read the message above. Nothing was changed."
  find_state
  keep_the_roster
  respect_the_logging_role

  if [ -n "$plan_only" ]; then
    show_plan
    return
  fi

  begin "create the image repository" "$again"
  apply dependencies
  repository=$(output dependencies repository_url)
  key=$(output dependencies kms_key_arn)

  begin "look for the image of these sources" "$again"
  digest=$(find_image)
  if [ -z "$digest" ]; then
    build_and_push
  else
    say "           it is there: nothing is built, nothing is pushed"
  fi

  forget_the_logging_role
  begin "create or update the application" "$again If it says that something exists already, see \"Deploy it\" in docs/DEPLOYING.md."
  apply application
  url=$(output application patients_url)

  begin "wait for the deployed API to list the patients" "look at the logs and the alarms of the functions (docs/OPERATIONS.md); everything is deployed, and running this again only asks again: $url"
  ask
  printf '%s\n' "$url"
}

readonly again="read the message above, then run it again: it goes on from what is there."

# Lambda's name of the architecture, and the builders' name of it.
choose_architecture() {
  case ${ARCH:-$(uname -m)} in
    arm64 | aarch64) architecture=arm64 platform=linux/arm64 ;;
    x86_64 | amd64) architecture=x86_64 platform=linux/amd64 ;;
    *) refuse "$USAGE" "ARCH must be arm64 or x86_64." ;;
  esac
}

# How long to wait for the first answer: needed when everything is deployed, so a wrong one is refused before.
choose_patience() {
  patience=${SMOKE_SECONDS:-300}
  [[ $patience =~ ^(0|[1-9][0-9]{0,4})$ ]] || refuse "$USAGE" "SMOKE_SECONDS must be a whole number of seconds, up to 99999."
}

choose_container_tool() {
  local tool
  for tool in ${CONTAINER_TOOL:-docker podman}; do
    if command -v "$tool" >/dev/null && "$tool" info >/dev/null 2>"$scratch/error"; then
      container_tool=$tool
      return
    fi
  done
  [ ! -s "$scratch/error" ] || say "$(sed -n 1,3p "$scratch/error")"
  refuse "$NOT_READY" "Neither builds images here: ${CONTAINER_TOOL:-docker podman}. Install one, or start its engine."
}

# The files that the image is made of, in a folder of their own, so that nothing else can get into it; and a tag that
# stands for their content. The same files, the same tag: then there is nothing to build.
collect_sources() {
  sources=$scratch/sources
  mkdir "$sources"
  tar -C "$root" -cf - --exclude '*/tests' --exclude '*/target' --exclude '*/peers' --exclude own-roster.json \
    Cargo.toml Cargo.lock services shared | tar -C "$sources" -xf -
  own_roster=false
  case ${ROSTER:-built-in} in
    built-in) ;;
    *)
      [ -r "$ROSTER" ] && [ -s "$ROSTER" ] || refuse "$NOT_READY" "ROSTER names no file that can be read: $ROSTER"
      cp "$ROSTER" "$sources/services/own-roster.json"
      own_roster=true
      ;;
  esac
  local hash
  hash=$(cd "$sources" && find . -type f -exec "${sha256[@]}" {} + | LC_ALL=C sort -k 2)
  hash=$(printf '%s\n%s\n%s\n' "$hash" "$architecture" "${RUST_IMAGE:-}" | "${sha256[@]}")
  tag=src-${hash:0:32}
}

if command -v sha256sum >/dev/null; then
  readonly sha256=(sha256sum)
else
  readonly sha256=(shasum -a 256)
fi

# Made-up patients among real ones could never be removed again. A tag of the event table says which ones it has.
keep_the_roster() {
  local roster
  if [ -z "$table_arn" ] || [ "$own_roster" = true ] || [ "${ROSTER:-}" = built-in ]; then return; fi
  roster=$(table_tag roster)
  [ "$roster" != own ] ||
    refuse "$NOT_READY" "This deployment has a roster of its own. Give ROSTER=FILE again; or ROSTER=built-in, if you really want to register the made-up patients too."
}

# Plans a stage and does it. Terraform refuses a plan that somebody else has overtaken meanwhile.
apply() { # STAGE
  local code=0
  plan "$1" -lock-timeout=2m || code=$?
  if [ "$code" -eq 0 ]; then
    say "           nothing to change"
    return
  fi
  logged tf "$1" apply -no-color -lock-timeout=2m "$scratch/$1.plan"
}

# The digest of the image with this tag; nothing if there is none.
find_image() {
  question ImageNotFoundException aws ecr describe-images --repository-name "$name" --image-ids "imageTag=$tag" \
    --query 'imageDetails[0].imageDigest'
}

build_and_push() {
  local image=$repository:$tag
  begin "build the image" "$again The whole output of the build is in $log."
  # What Lambda does not take: an attestation beside the image. Docker without BuildKit can't read the Dockerfile.
  export DOCKER_BUILDKIT=1 BUILDX_NO_DEFAULT_ATTESTATIONS=1
  local arguments=(--platform "$platform" -f "$sources/services/Dockerfile" -t "$image")
  [ -z "${RUST_IMAGE:-}" ] || arguments=("${arguments[@]}" --build-arg "RUST_IMAGE=$RUST_IMAGE")
  logged "$container_tool" build "${arguments[@]}" "$sources"

  begin "log in to the image repository" "$again"
  local password
  password=$(aws ecr get-login-password)
  # printf is part of the shell: no other program sees the password among its arguments.
  printf '%s' "$password" | "$container_tool" login --username AWS --password-stdin "${repository%%/*}" >>"$log" 2>&1

  begin "push the image" "$again The whole output is in $log."
  # It also fails if somebody who deploys the same sources was faster, as tags are immutable: the next run finds theirs.
  logged "$container_tool" push "$image"
  digest=$(find_image)
  [ -n "$digest" ] || refuse "$FAILED" "The repository took the image, and does not have it."
}

show_plan() {
  local changes=0
  begin "plan the image repository" "$again"
  plan_and_show dependencies || changes=$?
  repository=$(output dependencies repository_url)
  key=$(output dependencies kms_key_arn)
  if [ -z "$key" ] && grep -q '^  # aws_kms_key.this\[0\] will be ' "$scratch/dependencies.shown" 2>/dev/null; then
    key=arn:aws:kms:$region:$account:key/00000000-0000-0000-0000-000000000000
    printf '\nThe key is not there yet. In what follows it is %s.\n' "$key"
  fi
  digest=""
  [ -z "$repository" ] || digest=$(find_image)
  if [ -z "$digest" ]; then
    changes=2
    printf '\nThe image %s would be built and pushed.\n\n' "$name:$tag"
  fi
  begin "plan the application" "$again"
  # A plan changes no state, so Terraform still believes that the role is its own to take away.
  if has_to_forget_the_logging_role; then
    changes=2
    printf '\nWhat follows says that aws_api_gateway_account.this[0] will be destroyed. It would only be forgotten:\nthe role that somebody else has set is left as it is.\n\n'
  fi
  plan_and_show application || changes=$?
  step=""
  [ "$changes" -eq 0 ] || exit "$CHANGES"
}

plan_and_show() { # STAGE
  local code=0
  plan "$1" -lock=false || code=$?
  tf "$1" show -no-color "$scratch/$1.plan" || exit
  return "$code"
}

# Waits until the API lists patients, to whoever it lets in; and where it demands signatures, that it turns others away.
ask() {
  local deadline=$((SECONDS + patience)) signed record answer code stranger
  signed=$(output application iam_authorization)
  record=$(output application record_to_make)
  # As long as nobody has made the domain's record, it is asked for where the record is to lead.
  through=()
  [ -z "$record" ] || through=(--connect-to "::${record##* }:443")
  keys=""
  [ "$signed" != true ] || find_keys
  while :; do
    stranger=403
    if [ "$signed" = true ]; then
      code=$(printf '%s' "$keys" | request --config - --aws-sigv4 "aws:amz:$region:execute-api" || true)
      answer=$(head -c 100 "$scratch/answer" 2>/dev/null || true)
      stranger=$(request || true)
    else
      code=$(request || true)
      answer=$(head -c 100 "$scratch/answer" 2>/dev/null || true)
    fi
    case "$code $stranger $answer" in
      '200 403 {"patients":[{'*) break ;;
    esac
    if [ "$SECONDS" -ge "$deadline" ]; then
      [ "$stranger" = 403 ] || refuse "$FAILED" "It answered with $stranger to a request without a signature."
      refuse "$FAILED" "It answered with $code: $answer"
    fi
    sleep 3
  done
  say "           it does"
  [ -z "$record" ] || say "           The domain has no record yet, unless you have made it: $record"
}

# Its status is printed, and what it says is in a file.
request() { # OPTION…
  curl --silent --max-time 20 --output "$scratch/answer" --write-out '%{http_code}' \
    "${through[@]+"${through[@]}"}" "$@" "$url"
}

# The credentials, as curl takes them from its stdin, where no other program sees them. Version 1 of the AWS CLI does not
# tell those of a role.
find_keys() {
  local id=${AWS_ACCESS_KEY_ID:-} secret=${AWS_SECRET_ACCESS_KEY:-} token=${AWS_SESSION_TOKEN:-} told
  if [ -z "$id" ] && told=$(aws configure export-credentials --format env-no-export 2>/dev/null); then
    id=$(sed -n 's/^AWS_ACCESS_KEY_ID=//p' <<<"$told")
    secret=$(sed -n 's/^AWS_SECRET_ACCESS_KEY=//p' <<<"$told")
    token=$(sed -n 's/^AWS_SESSION_TOKEN=//p' <<<"$told")
  elif [ -z "$id" ]; then
    id=$(aws configure get aws_access_key_id || true)
    secret=$(aws configure get aws_secret_access_key || true)
    token=$(aws configure get aws_session_token || true)
  fi
  [ -n "$id" ] && [ -n "$secret" ] ||
    refuse "$FAILED" "The AWS CLI tells no keys to sign a request with. Use version 2, or the variables AWS_ACCESS_KEY_ID and so on."
  keys="user = \"$id:$secret\""$'\n'
  [ -z "$token" ] || keys="${keys}header = \"X-Amz-Security-Token: $token\""$'\n'
}

main "$@"
