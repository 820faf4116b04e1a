#!/usr/bin/env bash
# The linters: Go, Ansible, YAML and compose. Everything runs; the first failure is the exit code.
set -uo pipefail
cd "$(dirname "$0")/../.."

status=0
step() {
  local name=$1; shift
  local output
  if output=$("$@" 2>&1); then
    echo "ok    $name"
  else
    echo "FAIL  $name"; printf '%s\n' "$output"; status=1
  fi
}
gofmt_clean() { local files; files=$(git ls-files '*.go' | xargs -r gofmt -l); [[ -z $files ]] || { echo "$files"; return 1; }; }
syntax() { ansible-playbook --syntax-check -i "inventories/$1" "$2"; }
shell_parses() { git ls-files '*.sh' .ci/run | xargs -n1 bash -n; }

step 'gofmt' gofmt_clean
step 'go vet' go vet -tags lab,goolm ./...
step 'golangci-lint' golangci-lint run --allow-serial-runners --build-tags lab,goolm ./...
step 'tsc' npm --silent --prefix services/gateway/web run check
step 'shell syntax' shell_parses
step 'yamllint' yamllint --strict .
step 'ansible-lint (production)' ansible-lint --offline --strict --profile production
for inventory in lab all-in-one production; do
  for playbook in site.yml deployment/*.yml; do
    step "syntax $playbook -i $inventory" syntax "$inventory" "$playbook"
  done
done
exit $status
