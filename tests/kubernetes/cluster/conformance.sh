#!/usr/bin/env bash
# Upstream's e2e.test on a cluster that is made for it and taken down after it; exits by its result.
#
#   conformance.sh                         the specs of must-pass.txt for IPFAMILY: fails when one of them fails or is missing
#   FOCUS=REGEX [SKIP=REGEX] conformance.sh   those instead
#   KEEP_CLUSTER=1                         leaves the cluster up, or uses the one that is up (same NODES and IPFAMILY)
#   PROCS=6 SPEC_TIMEOUT=40m DRY=1         parallel specs, time for all of them, only list them
#
# One line per spec on stdout, everything else in RESULTS (default: beside the cluster's state).
set -euo pipefail
# shellcheck source=tests/kubernetes/cluster/settings.bash
. "$(dirname "${BASH_SOURCE[0]}")/settings.bash"
PROCS=${PROCS:-4}
results=${RESULTS:-$cache/conformance/$NAME-$IPFAMILY}

must_pass=
if [ -z "${FOCUS:-}" ]; then
    must_pass=$(mktemp)
    # A line is IPFAMILY (all: both), then the spec's name as e2e.test prints it.
    sed -n -e "s/^\($IPFAMILY\|all\) //p" "$cluster/must-pass.txt" >"$must_pass"
    [ -s "$must_pass" ] || fail "must-pass.txt has nothing for IPFAMILY=$IPFAMILY"
    FOCUS=$(python3 "$cluster/summary.py" --focus "$must_pass")
fi

down() { [ -n "${KEEP_CLUSTER:-}" ] || "$cluster/down.sh"; }
trap down EXIT
[ -e "$run/up" ] && [ -n "${KEEP_CLUSTER:-}" ] || "$cluster/up.sh" >/dev/null

rm -rf "$results"
mkdir -p "$results"
arguments=(--kubeconfig="$kubeconfig" --provider=skeleton --kubectl-path="$bin/kubectl" --report-dir="$results"
    --num-nodes="$NODES" --disable-log-dump --allowed-not-ready-nodes=0 --ginkgo.focus="$FOCUS"
    --ginkgo.timeout="${SPEC_TIMEOUT:-40m}" --ginkgo.no-color --ginkgo.v)
[ -z "${SKIP:-}" ] || arguments+=(--ginkgo.skip="$SKIP")
[ -z "${DRY:-}" ] || arguments+=(--ginkgo.dry-run)
runner=("$bin/e2e.test")
[ "$PROCS" = 1 ] || runner=("$bin/ginkgo" --procs="$PROCS" --no-color --timeout="${SPEC_TIMEOUT:-40m}" "$bin/e2e.test" --)

say "running specs; progress is in $results/out.log"
code=0
(cd "$results" && PATH=$bin:$PATH nsenter --net="/run/netns/$NAME-cp" "${runner[@]}" "${arguments[@]}" >out.log 2>&1) || code=$?
if [ -n "${DRY:-}" ]; then
    grep -a '^Ran ' "$results/out.log" || true
    exit $code
fi
python3 "$cluster/summary.py" "$results" ${must_pass:+--must-pass "$must_pass"} || code=1
[ $code = 0 ] || say "failed; $results/out.log has the specs' output"
exit $code
