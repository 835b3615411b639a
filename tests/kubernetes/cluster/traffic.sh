#!/usr/bin/env bash
# What pods' traffic costs, beside another cluster: requests, connections and streams on one node and between two, and
# through the node port of a node that has no endpoint. Prints figures, ratios and targets; exits with 1 when a target is
# missed. Both clusters must be up, with the same NODES (two or more) and IPFAMILY; a quiet machine, please. Figures of one node
# have a third side, which no data plane can pass: two network namespaces, a veth pair between them and nothing on the way.
#
#   REFERENCE=NAME traffic.sh   NAME's cluster beside REFERENCE's, which was made with NETWORK=bridge; they take turns
#   ROUNDS=21                   some 11 s each and family; the order is reversed in every other one
#   ONLY=REGEX                  of "FAMILY PATH TEST", as in the results: '^4 near' for one node's, '^. outside' for node ports
#   RESULTS=FILE                every measurement, a line each, else nowhere
#   PROFILE=DIRECTORY           perf's samples of each, of the whole machine, in a file each; the figures are then perf's, too
#   SETTLE=15                   seconds to wait before the first round
#   TRAFFIC=PROGRAM             default: cargo build --release --package tortie-tests-traffic
set -euo pipefail
# shellcheck source=tests/kubernetes/cluster/settings.bash
. "$(dirname "${BASH_SOURCE[0]}")/settings.bash"
ROUNDS=${ROUNDS:-21} ONLY=${ONLY:-.} TRAFFIC=${TRAFFIC:-$root/target/release/tortie-traffic}
[ -n "${REFERENCE:-}" ] || fail "REFERENCE=NAME: which cluster to compare with?"
[ "$NODES" -ge 2 ] || fail "NODES=$NODES: traffic between nodes needs two"
[ -x "$TRAFFIC" ] || fail "$TRAFFIC is not there; cargo build --release --package tortie-tests-traffic"
families=4
[ "$IPFAMILY" != dual ] || families="4 6"
work=$(mktemp -d)
results=${RESULTS:-$work/results}

# of CLUSTER COMMAND …: with that cluster's settings.
of() (
    [ "$1" = "$NAME" ] || CLUSTER_DIR=
    NAME=$1
    # shellcheck source=tests/kubernetes/cluster/settings.bash
    . "$cluster/settings.bash"
    "${@:2}"
)

# --- Pods and a Service -----------------------------------------------------------------------------------

pod() { # NAME NODE
    cat <<YAML
---
apiVersion: v1
kind: Pod
metadata: {name: traffic-$1, namespace: default, labels: {traffic: $1}}
spec:
  nodeSelector: {kubernetes.io/hostname: $NAME-n$2}
  terminationGracePeriodSeconds: 0
  containers: [{name: c, image: registry.k8s.io/pause:3.10.2, imagePullPolicy: Never}]
YAML
}

# A process of a pod, as the node sees it: whose network namespace is the pod's.
process_of() { # POD NODE
    local id
    id=$(k get pod "traffic-$1" -o 'jsonpath={.status.containerStatuses[0].containerID}')
    on_node "$2" "$bin/ctr" -n k8s.io tasks ls | awk -v id="${id#containerd://}" '$1 == id { print $2; found = 1 } END { exit !found }'
}

# of_family 4|6 ADDRESS …: the one of the family, as it stands before a port.
of_family() {
    local address
    for address in "${@:2}"; do
        case $1$address in
        6*:*) echo "[$address]" && return ;;
        4*:*) ;;
        4*) echo "$address" && return ;;
        esac
    done
    fail "$NAME: no address of IPv$1 among ${*:2}; was it made with IPFAMILY=$IPFAMILY?"
}

# What measuring needs to know, as shell variables.
prepare() {
    local family server near far pods services pod vip
    [ -e "$run/up" ] || fail "$NAME is not up; up.sh first"
    { pod server 1 && pod near 1 && pod far 2 && cat; } <<'YAML' | k apply -f - >/dev/null
---
apiVersion: v1
kind: Service
metadata: {name: traffic, namespace: default}
spec:
  type: NodePort
  ipFamilyPolicy: PreferDualStack
  selector: {traffic: server}
  ports:
  - {name: requests, port: 5000, nodePort: 30500}
  - {name: streams, port: 5001, nodePort: 30501}
  - {name: datagrams, port: 5001, nodePort: 30501, protocol: UDP}
  - {name: count, port: 5002, nodePort: 30502}
YAML
    k wait --for=condition=Ready pod/traffic-server pod/traffic-near pod/traffic-far --timeout=60s >/dev/null
    server=$(process_of server 1) near=$(process_of near 1) far=$(process_of far 2)
    echo "server=$server near=$near far=$far"
    pods=$(k get pod traffic-server -o 'jsonpath={.status.podIPs[*].ip}')
    services=$(k get service traffic -o 'jsonpath={.spec.clusterIPs[*]}')
    for family in $families; do
        # shellcheck disable=SC2086
        pod=$(of_family "$family" $pods)
        # shellcheck disable=SC2086
        vip=$(of_family "$family" $services)
        echo "pod_$family=$pod vip_$family=$vip node_$family=$(of_family "$family" "$node4.12" "${node6}:12")"
    done
}

remove() { k delete --now --ignore-not-found pod/traffic-server pod/traffic-near pod/traffic-far service/traffic >/dev/null 2>&1 || true; }

make_wire() {
    local end i=0
    for end in client server; do ip netns add "$NAME-wire-$end"; done
    ip -n "$NAME-wire-client" link add wire type veth peer name wire netns "$NAME-wire-server"
    for end in client server; do
        i=$((i + 1))
        ip -n "$NAME-wire-$end" link set wire up
        ip -n "$NAME-wire-$end" address add "198.18.0.$i/24" dev wire
        ip -n "$NAME-wire-$end" address add "2001:2::$i/64" dev wire nodad
    done
}

# Ends with its standard input. Requests are answered on their client's processor: between two, the figures would be of
# the machine's wake-ups.
serving() { # NAME COMMAND …
    "${@:2}" nice -n -20 "$TRAFFIC" server --cpu 0 --sink-cpu 1 >"$work/$1.server"
}

serve() {
    # shellcheck disable=SC1090
    . "$work/$NAME"
    # shellcheck disable=SC2154
    serving "$NAME" on_node 1 nsenter -t "$server" -n
}

# --- Measuring ------------------------------------------------------------------------------------------

# One measurement; prints its line of JSON.
measure() { # FAMILY PATH TEST
    local to client
    # shellcheck disable=SC1090
    . "$work/$NAME"
    case $3 in
    crr | connect) to=vip_$1 ;;
    *) to=pod_$1 ;;
    esac
    # shellcheck disable=SC2154
    case $2 in
    near) client=(on_node 1 nsenter -t "$near" -n) ;;
    far) client=(on_node 2 nsenter -t "$far" -n) ;;
    outside) client=(nsenter --net="/run/netns/$NAME-cp") to=node_$1 ;;
    esac
    ask "$3" "${!to}:$([ "$2" = outside ] && echo 30500 || echo 5000)" "${client[@]}"
}

# The same test along the wire.
measure_wire() { # FAMILY TEST
    local to=198.18.0.2
    [ "$1" = 4 ] || to='[2001:2::2]'
    ask "$2" "$to:5000" nsenter --net="/run/netns/$NAME-wire-client"
}

ask() { # TEST WHERE COMMAND …
    local seconds=0.6
    # Short and often: the machine's speed drifts, and both sides remember each connection for a while.
    case $1 in rr | crr | connect) seconds=0.3 ;; esac
    # Before whatever else the machine has to do.
    "${@:3}" nice -n -20 "$TRAFFIC" "$1" "$2" --cpu 0 --warm-up 0.1 --seconds "$seconds"
}

# What a control plane and kubelets do by themselves would be in every figure.
control_plane() { # STOP|CONT
    local i pid
    for pid in "$run"/cp/{etcd,apiserver,kcm,scheduler}.pid; do
        pid=$(cat "$pid")
        ! is_ours "$pid" || kill "-$1" "$pid"
    done
    for i in $(seq "$NODES"); do
        # shellcheck disable=SC2016
        on_node "$i" sh -c 'kill "-$0" $(pgrep -x "kubelet|containerd")' "$1"
    done
}

profile() { # FILE
    [ -z "${PROFILE:-}" ] || perf record -q -a -g -F 4999 -o "$PROFILE/$1" -- sleep 0.7 >/dev/null 2>&1
}

cleanup() {
    local name
    for name in "$NAME" "$REFERENCE"; do of "$name" control_plane CONT || true; done
    for name in "$NAME" "$REFERENCE"; do of "$name" remove; done
    for name in client server; do ip netns del "$NAME-wire-$name" || true; done
    rm -rf "$work"
}

trap cleanup EXIT
for name in "$NAME" "$REFERENCE"; do of "$name" prepare >"$work/$name" 2> >(grep -v DEPRECATION >&2); done
make_wire
# They end with this script, which alone holds what they read from.
exec {ours}> >(of "$NAME" serve) {theirs}> >(of "$REFERENCE" serve) {floor}> >(serving wire nsenter --net="/run/netns/$NAME-wire-server")
for name in "$NAME" "$REFERENCE" wire; do within 10 "the server in $name" grep -q serving "$work/$name.server"; done

sleep "${SETTLE:-15}"
for name in "$NAME" "$REFERENCE"; do of "$name" control_plane STOP; done

: >"$results"
[ -z "${PROFILE:-}" ] || mkdir -p "$PROFILE"
for round in $(seq "$ROUNDS"); do
    say "round $round of $ROUNDS"
    order=("$NAME" "$REFERENCE" wire)
    [ $((round % 2)) = 1 ] || order=(wire "$REFERENCE" "$NAME")
    for family in $families; do
        for what in {near,far}\ {rr,crr,connect,stream} outside\ {stream,udp}; do
            grep -qE -- "$ONLY" <<<"$family $what" || continue
            for name in "${order[@]}"; do
                # shellcheck disable=SC2086
                case $name/$what in
                wire/near*) how=(measure_wire "$family" "${what#near }") ;;
                wire/*) continue ;;
                *) how=(of "$name" measure "$family" $what) ;;
                esac
                profile "$name-$family-${what// /-}" &
                line=$("${how[@]}") || fail "$name: IPv$family $what failed"
                wait $!
                echo "$round $name $family $what $line" >>"$results"
            done
        done
    done
done
python3 "$cluster/traffic.py" "$results" "$NAME" "$REFERENCE"
