#!/usr/bin/env bash
# What a change of one Service costs on a cluster that has many: the agents' processor time, the time until the first
# connection, the agents' memory; and, with REFERENCE=NAME, pods from scheduled to running beside that cluster's CNI.
# Prints figure and target; exits with 1 when a figure is missed. The cluster (NAME) must be up; a quiet machine, please.
#
#   figures.sh          SERVICES=5000 TOGGLES=40 SECONDS_OF_CHURN=20 PODS=20
#   REFERENCE=NAME      a second cluster that is up, made with NETWORK=bridge: rounds with it are interleaved
set -euo pipefail
# shellcheck source=tests/kubernetes/cluster/settings.bash
. "$(dirname "${BASH_SOURCE[0]}")/settings.bash"
[ -e "$run/up" ] || fail "$NAME is not up; make cluster-up first"
SERVICES=${SERVICES:-5000} TOGGLES=${TOGGLES:-40} SECONDS_OF_CHURN=${SECONDS_OF_CHURN:-20} PODS=${PODS:-20}
work=$(mktemp -d)
trap 'signal CONT; rm -rf "$work"; k delete --now --ignore-not-found pod/timed-server pod/timed-client svc/timed endpointslice/timed >/dev/null 2>&1 || true' EXIT

# The measuring program, where the control plane is.
api() { nsenter --net="/run/netns/$NAME-cp" python3 "$cluster/figures.py" "$1" "$kubeconfig" "${@:2}"; }
missed=0
row() { # WHAT FIGURE UNIT AT_MOST
    local met=met
    awk -v a="$2" -v b="$4" 'BEGIN { exit !(a <= b) }' || met=MISSED missed=1
    printf '%-58s %9s %-4s at most %-5s %s\n' "$1" "$2" "$3" "$4" "$met"
}
at() { sort -n "$2" | awk -v q="$1" '{ a[NR] = $1 } END { i = int(q * NR + 0.999999); print a[i < 1 ? 1 : i] }'; }
milliseconds() { awk -v s="$1" 'BEGIN { printf "%.1f", s * 1000 }'; }

# every_agent FILE: of /proc, for each node's agent.
every_agent() {
    local i
    for i in $(seq "$NODES"); do
        # shellcheck disable=SC2016
        on_node "$i" sh -c 'cat "/proc/$(pgrep -of "tortie agent ")/$0"' "$1" || fail "node $i has no agent"
    done
}
ticks() { every_agent stat | awk '{ sum += $14 + $15 } END { print sum }'; }
uptime_now() { cut -d ' ' -f 1 /proc/uptime; }
elapsed() { awk -v since="$1" '{ print $1 - since }' /proc/uptime; }
busy() { awk '/^cpu / { print $2 + $3 + $4 + $7 + $8 }' /proc/stat; }

# signal STOP|CONT: to every agent. While they are stopped their API server has as many watches, and nobody who reads.
signal() {
    local i
    for i in $(seq "$NODES"); do
        # shellcheck disable=SC2016
        on_node "$i" sh -c 'kill "-$0" "$(pgrep -of "tortie agent ")"' "$1" 2>/dev/null || true
    done
}

# churn WORK: rewrites ten endpoints a second; how many into a file, and how many seconds of processors that took over idle.
churn() {
    local idle idle_for busy_for since
    idle=$(busy) since=$(uptime_now)
    sleep "$SECONDS_OF_CHURN"
    idle=$(($(busy) - idle)) idle_for=$(elapsed "$since")
    ticks >"$1/ticks"
    busy_for=$(busy) since=$(uptime_now)
    api rewrite "$SERVICES" 10 "$SECONDS_OF_CHURN" >"$1/rewritten"
    sleep 1
    busy_for=$(($(busy) - busy_for))
    awk -v a="$busy_for" -v b="$idle" -v t="$(elapsed "$since")" -v u="$idle_for" -v h="$(getconf CLK_TCK)" \
        'BEGIN { printf "%.2f", (a - b / u * t) / h }'
}

say "$SERVICES Services with three endpoints each"
api fill "$SERVICES"
k apply -f - >/dev/null <<YAML
apiVersion: v1
kind: Pod
metadata: {name: timed-server, namespace: default}
spec:
  nodeSelector: {kubernetes.io/hostname: $NAME-n1}
  containers: [{name: c, image: registry.k8s.io/e2e-test-images/busybox:1.37.0-1, imagePullPolicy: Never, command: [httpd, -f, -p, "6000"]}]
---
apiVersion: v1
kind: Pod
metadata: {name: timed-client, namespace: default}
spec:
  nodeSelector: {kubernetes.io/hostname: $NAME-n$((NODES > 1 ? 2 : 1))}
  containers: [{name: c, image: registry.k8s.io/e2e-test-images/busybox:1.37.0-1, imagePullPolicy: Never, command: [sleep, "86400"]}]
---
apiVersion: v1
kind: Service
metadata: {name: timed, namespace: churn}
spec: {ports: [{name: p, port: 6000, protocol: TCP}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: timed, namespace: churn, labels: {kubernetes.io/service-name: timed}}
addressType: IPv4
ports: [{name: p, port: 6000, protocol: TCP}]
endpoints: []
YAML
k wait --for=condition=Ready pod/timed-server pod/timed-client --timeout=60s >/dev/null
server=$(k get pod timed-server -o 'jsonpath={.status.podIP}')
address=$(k -n churn get svc timed -o 'jsonpath={.spec.clusterIP}')
client_node=$((NODES > 1 ? 2 : 1))
id=$(k get pod timed-client -o 'jsonpath={.status.containerStatuses[0].containerID}')
client=$(on_node "$client_node" "$bin/ctr" -n k8s.io tasks ls | awk -v id="${id#containerd://}" '$1 == id { print $2 }')
sleep 5

say "one Service switched on and off $TOGGLES times"
on_node "$client_node" nsenter -t "$client" -n python3 "$cluster/figures.py" connect "$address" 6000 \
    "$(awk -v n="$TOGGLES" 'BEGIN { print n * 2 * 0.3 * 1.3 + 5 }')" >"$work/answers" &
connecting=$!
sleep 1
api toggle timed "$TOGGLES" 0.3 "$server" >"$work/toggles"
wait "$connecting"
python3 "$cluster/figures.py" delays "$work/toggles" "$work/answers" >"$work/delays"

api watched s0 "$TOGGLES" >"$work/watched"

say "endpoints rewritten, ten a second for $SECONDS_OF_CHURN s"
busy=$(churn "$work")
used=$(($(ticks) - $(cat "$work/ticks"))) done=$(cat "$work/rewritten")

say "the same while every agent is stopped"
signal STOP
without=$(churn "$work")
signal CONT

row "an agent's processor time for an EndpointSlice update" \
    "$(awk -v t="$used" -v h="$(getconf CLK_TCK)" -v n="$done" -v a="$NODES" 'BEGIN { printf "%.2f", t / h * 1000 / n / a }')" ms 2
row "PATCH to first connection through the Service, p50" "$(milliseconds "$(at 0.5 "$work/delays")")" ms 8
row "PATCH to first connection through the Service, p90" "$(milliseconds "$(at 0.9 "$work/delays")")" ms 20
printf '%-58s %9s ms\n' "of that, from PATCH to a watch's event of it, p50" "$(milliseconds "$(at 0.5 "$work/watched")")"
row "an agent's memory (RSS, the largest)" \
    "$(every_agent status | awk '/^VmRSS/ && $2 > most { most = $2 } END { printf "%.1f", most / 1024 }')" MiB 100
row "machine busy at 10 updates/s over idle, in $SECONDS_OF_CHURN s" "$busy" s 2
printf '%-58s %9s s\n' "the same while every agent is stopped" "$without"

if [ -n "${REFERENCE:-}" ]; then
    say "pods from scheduled to running, beside $REFERENCE"
    reference() { nsenter --net="/run/netns/$REFERENCE-cp" python3 "$cluster/figures.py" "$1" "$cache/cluster/$REFERENCE/pki/admin.conf" "${@:2}"; }
    for _ in 1 2 3 4; do
        api pods "$NAME-n1" "$((PODS / 4))" >>"$work/ours"
        reference pods "$REFERENCE-n1" "$((PODS / 4))" >>"$work/theirs"
    done
    ours=$(at 0.5 "$work/ours") theirs=$(at 0.5 "$work/theirs")
    row "pod scheduled to running, over $REFERENCE's ($(milliseconds "$ours") / $(milliseconds "$theirs") ms)" \
        "$(awk -v a="$ours" -v b="$theirs" 'BEGIN { printf "%.2f", a / b }')" x 1.0
fi
exit $missed
