#!/usr/bin/env bash
# The agents' rights on a cluster that is up: each rule of deploy/base/rbac.yaml was used, and nothing was refused.
set -euo pipefail
# shellcheck source=tests/kubernetes/cluster/settings.bash
. "$(dirname "${BASH_SOURCE[0]}")/settings.bash"
[ -e "$run/up" ] || fail "$NAME is not up; make cluster-up first"
roles=$(mktemp)
trap 'rm -f "$roles"' EXIT
k get clusterrole/tortie-node -o json >"$roles"
k -n kube-system get role/tortie-node -o json >>"$roles"
served=$(k api-resources --no-headers -o name)
python3 "$cluster/rights.py" "$run/cp/audit.log" "$roles" <<<"$served"
