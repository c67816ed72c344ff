# shellcheck shell=bash
# shellcheck disable=SC2154 # what deployment.sh and deploy.sh set
# What exists under this deployment's names although Terraform's state does not know it: what a run that was killed had
# created and not yet noted down, or what ./destroy.sh kept before the state was lost. Creating it anew would fail, or make
# it twice; so a plan takes it into the state first. All names are known beforehand, and each thing has a tag that says
# whose it is.

# Before anything is changed: whether this is the place where the state of what is there is kept. Every deployment begins
# with the image repository. A state that knows it is the one; where none does and there are functions, it is elsewhere.
find_state() {
  local arn owner
  known dependencies >"$scratch/dependencies"
  known application >"$scratch/application"
  table_arn=$(question ResourceNotFoundException aws dynamodb describe-table --table-name "$name-events" \
    --query Table.TableArn)
  if [ -n "$table_arn" ] && ! grep -q '^aws_dynamodb_table\.events$' "$scratch/application"; then
    owner=$(table_tag application)
    [ "$owner" = "$name" ] || foreign "a table $name-events"
  fi
  if ! grep -q '^aws_ecr_repository\.this$' "$scratch/dependencies"; then
    arn=$(question RepositoryNotFoundException aws ecr describe-repositories --repository-names "$name" \
      --query 'repositories[0].repositoryArn')
    if [ -n "$arn" ]; then
      owner=$(repository_tag "$arn")
      [ "$owner" = "$name" ] || foreign "an image repository $name"
    fi
    [ -n "$arn$table_arn" ] || new=yes
    if grep -q '^aws_dynamodb_table\.events$' "$scratch/application" || [ -n "$adopt_all" ]; then return; fi
    arn=$(question ResourceNotFoundException aws lambda get-function --function-name "$name-backend" \
      --query Configuration.FunctionArn)
    [ -z "$arn" ] ||
      refuse "$NOT_READY" "A deployment named $name is there already, and this state does not know it. Bring its state here (BACKEND, or terraform/state of the checkout that deployed it); or choose another name with DEPLOYMENT; or, if the state is lost for good, give --adopt."
  fi
}

# A tag of the event table.
table_tag() { # KEY
  aws dynamodb list-tags-of-resource --resource-arn "$table_arn" --query "Tags[?Key=='$1'].Value" --output text
}

repository_tag() { # ARN
  aws ecr list-tags-for-resource --resource-arn "$1" --query "tags[?Key=='application'].Value" --output text
}

foreign() { # WHAT
  refuse "$NOT_READY" "There is $1 that is not of this system. Choose another name with DEPLOYMENT."
}

# Plans a stage; what it would create and is there, it adopts. 2 if anything would change, 0 if nothing.
plan() { # STAGE OPTION…
  local stage=$1 file=$scratch/$1.plan imports=$root/terraform/$1/adopting.tf code=0
  shift
  logged stage "$stage" plan -detailed-exitcode -out="$file" "$@" || code=$?
  case $code in
    0) return ;;
    2) ;;
    *) exit "$code" ;;
  esac
  # In an account without repository and event table nothing of the second stage can be there.
  if [ "$stage" = application ] && [ -n "$new" ]; then return "$code"; fi
  tf "$stage" show -no-color "$file" >"$scratch/$stage.shown" || exit
  find_unknown "$scratch/$stage.shown" >"$scratch/imports"
  if [ -s "$scratch/imports" ]; then
    say "           is there, and Terraform does not know it:"
    sed -n 's/^  to = /             /p' "$scratch/imports" >&2
    cp "$scratch/imports" "$imports"
    code=0
    logged stage "$stage" plan -detailed-exitcode -out="$file" "$@" || code=$?
    rm -f "$imports"
    [ "$code" -eq 0 ] || [ "$code" -eq 2 ] || exit "$code"
  fi
  return "$code"
}

# An import block for each resource that a plan would create and that is there.
find_unknown() { # THE PLAN, AS SHOWN
  local line address="" block="" id owner api=""
  while IFS= read -r line; do
    case $line in
      '  # '*' will be created')
        address=${line#'  # '}
        address=${address%' will be created'}
        block=""
        ;;
      '    }')
        [ -n "$address" ] || continue
        look_for "$address"
        if [ -n "$id" ]; then
          [ "$owner" = "$name" ] ||
            refuse "$FAILED" "There is $id, and it is not of this deployment (its tag \"application\" says: ${owner:-nothing}). Choose another name with DEPLOYMENT, or remove it."
          printf 'import {\n  to = %s\n  id = "%s"\n}\n' "$address" "$id"
        fi
        address=""
        ;;
      *) block=$block$'\n'$line ;;
    esac
  done <"$1"
}

# An attribute of the resource that the plan would create; nothing if it is not known yet.
attribute() { # NAME
  local wanted=$'\n'"      [+] $1 += \"([^\"]*)\""
  if [[ $block =~ $wanted ]]; then printf '%s' "${BASH_REMATCH[1]}"; fi
}

# Sets id and owner: by what Terraform would import the thing that has the name of this resource already, and whose it
# is. No id if there is none, or if it does no harm: what is not in here, AWS replaces by what is put in its place.
look_for() { # ADDRESS
  local named more
  named=$(attribute name)
  id="" owner="" more=""
  case $1 in
    aws_kms_*)
      there NotFoundException aws kms describe-key --key-id "alias/$name" --query KeyMetadata.KeyId || return 0
      owned aws kms list-resource-tags --key-id "$id" --query "Tags[?TagKey=='application'].TagValue"
      [[ $1 != aws_kms_alias.* ]] || id=alias/$name
      ;;
    aws_ecr_repository.*)
      there RepositoryNotFoundException aws ecr describe-repositories --repository-names "$named" \
        --query 'repositories[0].[repositoryName,repositoryArn]' || return 0
      owner=$(repository_tag "$more") || exit
      ;;
    aws_dynamodb_table.*)
      there ResourceNotFoundException aws dynamodb describe-table --table-name "$named" \
        --query 'Table.[TableName,TableArn]' || return 0
      owned aws dynamodb list-tags-of-resource --resource-arn "$more" --query "Tags[?Key=='application'].Value"
      ;;
    aws_iam_role.*)
      there NoSuchEntity aws iam get-role --role-name "$named" \
        --query "Role.[RoleName,Tags[?Key=='application']|[0].Value]" || return 0
      owner=$more
      ;;
    aws_cloudwatch_log_group.*)
      if [ -z "$named" ]; then
        [ -n "$api" ] || return 0
        named=API-Gateway-Execution-Logs_$api/v1
      fi
      there "" aws logs describe-log-groups --log-group-name-prefix "$named" \
        --query "logGroups[?logGroupName=='$named'].logGroupName" || return 0
      owned aws logs list-tags-log-group --log-group-name "$named" --query tags.application
      # Lambda and API Gateway make one themselves, if they have something to say and there is none.
      owner=${owner:-$name}
      ;;
    aws_sqs_queue.*)
      there 'NonExistentQueue\|QueueDoesNotExist' aws sqs get-queue-url --queue-name "$named" --query QueueUrl || return 0
      owned aws sqs list-queue-tags --queue-url "$id" --query Tags.application
      ;;
    aws_sns_topic.*)
      there "" aws sns list-topics --query "Topics[?ends_with(TopicArn, ':$named')].TopicArn" || return 0
      owned aws sns list-tags-for-resource --resource-arn "$id" --query "Tags[?Key=='application'].Value"
      ;;
    aws_lambda_function.*)
      there ResourceNotFoundException aws lambda get-function --function-name "$(attribute function_name)" \
        --query '[Configuration.FunctionName,Tags.application]' || return 0
      owner=$more
      ;;
    aws_lambda_permission.*)
      named=$(attribute statement_id)
      more=$(question ResourceNotFoundException aws lambda get-policy --function-name "$(attribute function_name)" \
        --query Policy) || exit
      [[ ! $more =~ \"Sid\":\ *\"$named\" ]] || id=$(attribute function_name)/$named owner=$name
      ;;
    aws_lambda_event_source_mapping.*)
      there "" aws lambda list-event-source-mappings \
        --query "EventSourceMappings[?ends_with(FunctionArn, ':function:$name-projector')].UUID" || return 0
      owner=$name
      ;;
    aws_cloudwatch_event_rule.*)
      # It would be replaced by what is put in its place; but as long as its ARN is unknown, so is who may invoke a function.
      there ResourceNotFoundException aws events describe-rule --name "$named" --query '[Name,Arn]' || return 0
      owned aws events list-tags-for-resource --resource-arn "$more" --query "Tags[?Key=='application'].Value"
      ;;
    aws_api_gateway_rest_api.*)
      # Their names need not be unique, so somebody else's is in nobody's way.
      there "" aws apigateway get-rest-apis --query "items[?name=='$named' && tags.application=='$name'].id" || return 0
      owner=$name api=$id
      ;;
    aws_api_gateway_stage.*)
      named=$(attribute rest_api_id)
      api=${named:-$api}
      named=$(attribute stage_name)
      [ -n "$api" ] || return 0
      there NotFoundException aws apigateway get-stage --rest-api-id "$api" --stage-name "$named" --query stageName ||
        return 0
      id=$api/$named owner=$name
      ;;
    aws_api_gateway_domain_name.*)
      there NotFoundException aws apigateway get-domain-name --domain-name "$(attribute domain_name)" \
        --query '[domainName,tags.application]' || return 0
      owner=$more
      ;;
    aws_api_gateway_base_path_mapping.*)
      there NotFoundException aws apigateway get-base-path-mapping --domain-name "$(attribute domain_name)" \
        --base-path '(none)' --query basePath || return 0
      id=$(attribute domain_name)/ owner=$name
      ;;
    aws_wafv2_web_acl.*)
      there "" aws wafv2 list-web-acls --scope REGIONAL --query "WebACLs[?Name=='$named'].[Id,ARN]" || return 0
      owned aws wafv2 list-tags-for-resource --resource-arn "$more" \
        --query "TagInfoForResource.TagList[?Key=='application'].Value"
      id=$id/$named/REGIONAL
      ;;
  esac
}

# Asks for something: its id, and one thing more.
there() { # NOT_FOUND COMMAND…
  local found
  found=$(question "$@") || exit
  read -r id more _ <<<"$found" || true
  [ "$more" != None ] || more=""
  [ -n "$id" ]
}

owned() { # COMMAND…
  owner=$(question "" "$@") || exit
}
