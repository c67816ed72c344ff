#!/usr/bin/env bash
# Takes down what deploy.sh has built; see --help.
set -euo pipefail
# shellcheck source=terraform/deployment.sh
. "$(dirname "${BASH_SOURCE[0]}")/terraform/deployment.sh"

readonly DECLINED=6

usage() {
  cat <<'END'
Usage: ./destroy.sh [--yes] [--delete-data]

Removes from AWS what ./deploy.sh has created there, after it has shown what that is and has asked. The event table with its policy, and
the key that encrypts it, stay, since the events can't be brought back: Terraform still knows them, and the next
./deploy.sh builds everything else around them anew, the read model included.

  --yes           do not ask
  --delete-data   remove the event table and the key too. If it has point-in-time recovery, AWS keeps a backup of a
                  deleted table for 35 days. It can be restored for as long as the key, whose removal is delayed too,
                  is brought back in time: docs/OPERATIONS.md
  --help          this text

Settings, from the environment, as for ./deploy.sh: AWS_PROFILE or the usual AWS variables, AWS_REGION,
EXPECTED_ACCOUNT, DEPLOYMENT, BACKEND, TF_VAR_...

Exit codes:

  0  done, or there was nothing to remove
  1  a step failed; which one, and what to do about it, is said at the end of stderr
  2  the command line or a setting is wrong
  3  a tool, the credentials or something else is missing: nothing was changed
  4  it is another account than EXPECTED_ACCOUNT: nothing was changed
  5  another run is at work on this checkout: nothing was changed
  6  the answer was not what was asked for: nothing was changed
  129, 130, 143   stopped by SIGHUP, SIGINT or SIGTERM
END
}

readonly again="read the message above, then run it again: it goes on from what is there."

main() {
  sure="" delete_data=""
  while [ $# -gt 0 ]; do
    case $1 in
      --yes) sure=yes ;;
      --delete-data) delete_data=yes ;;
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
  need terraform aws sed tee tail tr
  need_terraform
  take_lock

  begin "ask AWS whose account this is" "check AWS_PROFILE, AWS_REGION and ~/.aws. Nothing was changed."
  find_account

  begin "prepare Terraform" "read the message above; it needs its provider from the registry, and, if BACKEND is set, the bucket. Nothing was changed."
  init_terraform

  begin "plan what goes" "read the message above. Nothing was changed."
  key=$(output dependencies kms_key_arn)
  api=$(output application rest_api_id)
  respect_the_logging_role
  forget_the_logging_role
  plan_removal application '^aws_dynamodb_(table|resource_policy)\.events(\[0\])?$'
  plan_removal dependencies '^aws_kms_(key|alias)\.'
  show
  [ -s "$scratch/goes" ] || return 0
  confirm

  if [ -n "$delete_data" ] && grep -q '^aws_dynamodb_table\.events$' "$scratch/goes"; then
    begin "allow the event table to be deleted" "$again"
    lift_protection
  fi
  if [ -e "$scratch/application.plan" ]; then
    begin "destroy the application" "$again"
    logged tf application apply -no-color -lock-timeout=2m "$scratch/application.plan"
    remove_late_logs
  fi
  if [ -e "$scratch/dependencies.plan" ]; then
    begin "destroy the image repository" "$again"
    # With its images, which Terraform removes only if it has noted down that it may. A repository that was adopted by a run
    # that was killed is without that note.
    if grep -q '^aws_ecr_repository\.this$' "$scratch/goes"; then
      question RepositoryNotFoundException aws ecr delete-repository --repository-name "$name" --force >>"$log"
    fi
    logged tf dependencies apply -no-color -lock-timeout=2m "$scratch/dependencies.plan"
  fi
  say "           done"
}

# API Gateway may have made its log groups anew, for requests that were answered while they were removed.
remove_late_logs() {
  local group
  for group in "/aws/apigateway/$name/access" ${api:+"API-Gateway-Execution-Logs_$api/v1"}; do
    question ResourceNotFoundException aws logs delete-log-group --log-group-name "$group"
  done
}

# Plans the removal of what a stage's state knows, but for what is kept.
plan_removal() { # STAGE KEPT
  local stage=$1 kept=$2 address arguments=()
  known "$stage" | grep -v '^data\.\|\.data\.' >"$scratch/$stage" || [ "${PIPESTATUS[0]}" -eq 0 ]
  [ -n "$delete_data" ] || grep -E "$kept" "$scratch/$stage" >>"$scratch/stays" || true
  if [ -z "$delete_data" ] && grep -qE "$kept" "$scratch/$stage"; then
    while IFS= read -r address; do
      [[ $address =~ $kept ]] || arguments=("${arguments[@]+"${arguments[@]}"}" "-target=$address")
    done <"$scratch/$stage"
    [ "${#arguments[@]}" -gt 0 ] || return 0
  elif [ ! -s "$scratch/$stage" ]; then
    return 0
  fi
  logged stage "$stage" plan -destroy -lock-timeout=2m -out="$scratch/$stage.plan" "${arguments[@]+"${arguments[@]}"}"
  tf "$stage" show -no-color "$scratch/$stage.plan" >"$scratch/$stage.shown"
  sed -nE 's/^  # ([^ ]+) will be (destroyed|replaced).*/\1/p' "$scratch/$stage.shown" >"$scratch/$stage.goes"
  # What depends on something that goes would go with it.
  if [ -z "$delete_data" ] && grep -E "$kept" "$scratch/$stage.goes" >&2; then
    refuse "$FAILED" "The plan would remove what has to stay. Nothing was changed."
  fi
  cat "$scratch/$stage.goes" >>"$scratch/goes"
}

show() {
  touch "$scratch/goes" "$scratch/stays"
  if [ ! -s "$scratch/goes" ] && [ ! -s "$scratch/stays" ]; then
    say "           nothing is deployed, as far as this state knows"
    return
  fi
  say "These go:"
  sed 's/^/    /' "$scratch/goes" >&2
  if [ -s "$scratch/stays" ]; then
    say "These stay, and what they hold; --delete-data removes them too:"
    sed 's/^/    /' "$scratch/stays" >&2
  fi
}

confirm() {
  local asked=yes answer=""
  [ -z "$sure" ] || return 0
  if [ -n "$delete_data" ]; then
    asked=$name-events
    say "This deletes every event of every patient, for ever."
  fi
  printf 'Type %s to go on: ' "$asked" >&2
  IFS= read -r answer || true
  if [ "$answer" != "$asked" ]; then
    advice=""
    refuse "$DECLINED" "The answer was not \"$asked\". Nothing was changed."
  fi
}

lift_protection() {
  local protected
  protected=$(aws dynamodb describe-table --table-name "$name-events" --query Table.DeletionProtectionEnabled \
    --output text)
  if [ "$protected" != True ]; then return; fi
  aws dynamodb update-table --table-name "$name-events" --no-deletion-protection-enabled >>"$log"
  aws dynamodb wait table-exists --table-name "$name-events"
}

main "$@"
