#!/usr/bin/env bash
# A real Kubernetes on this machine: a control plane and NODES nodes, each in namespaces of its own, with kubelet,
# containerd, runc and CoreDNS; Tortie is installed as an operator would, with deploy/ and an image. settings.bash has
# the settings. Prints the kubeconfig. What fails half-way is taken down again, unless KEEP=1.
#
# Root; the components are built once (scripts/kubernetes.sh, ten minutes).
set -euo pipefail
# shellcheck source=tests/kubernetes/cluster/settings.bash
. "$(dirname "${BASH_SOURCE[0]}")/settings.bash"
# shellcheck source=tests/kubernetes/cluster/pki.bash
. "$cluster/pki.bash"
# shellcheck source=tests/kubernetes/cluster/control-plane.bash
. "$cluster/control-plane.bash"
# shellcheck source=tests/kubernetes/cluster/tortie.bash
. "$cluster/tortie.bash"

[ "$(id -u)" = 0 ] || fail "needs root: it makes namespaces, mounts and cgroups"
[ ! -e "$run/up" ] || fail "$NAME is up already; make cluster-down first"
[ "$NODES" -ge 1 ] && [ "$NODES" -le 9 ] || fail "NODES=$NODES: use 1 to 9"
# kube-proxy calls them, and the bridge plugin's portmap the second.
case $PROXY_MODE in
nftables) filters="nft iptables" ;;
iptables) filters=iptables ;;
*) filters= ;;
esac
for filter in $filters; do
    command -v "$filter" >/dev/null || fail "PROXY_MODE=$PROXY_MODE needs $filter; install nftables and iptables, or give PROXY_MODE=none"
done

# Bridge in the control plane's namespace, a veth to every node's.
underlay() {
    local in_cp="ip -n $NAME-cp" i node
    ip netns add "$NAME-cp"
    $in_cp link set lo up
    $in_cp link add br0 type bridge
    $in_cp addr add "$node4.1/24" dev br0
    $in_cp addr add "${node6}:1/64" dev br0 nodad
    $in_cp link set br0 up
    nsenter --net="/run/netns/$NAME-cp" sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
    # The bridge is the wire between nodes: no packet filter looks at what passes.
    nsenter --net="/run/netns/$NAME-cp" sysctl -eqw net.bridge.bridge-nf-call-iptables=0 net.bridge.bridge-nf-call-ip6tables=0
    for i in $(seq "$NODES"); do
        node=$NAME-n$i
        ip netns add "$node"
        ip -n "$node" link set lo up
        $in_cp link add "v$i" type veth peer name eth0 netns "$node"
        $in_cp link set "v$i" master br0 up
        ip -n "$node" link set eth0 up
        ip -n "$node" addr add "$node4.1$i/24" dev eth0
        ip -n "$node" addr add "${node6}:1$i/64" dev eth0 nodad
        ip -n "$node" route add default via "$node4.1"
        ip -n "$node" -6 route add default via "${node6}:1"
    done
}

start_node() {
    local i=$1 node=$NAME-n$1 dir=$run/n$1 group file
    mkdir -p "$dir/fs"
    for group in $cgroups1; do
        [ ! -d "/sys/fs/cgroup/$group" ] || mkdir -p "/sys/fs/cgroup/$group/$node"
    done
    [ -z "$cgroup2" ] || mkdir -p "$cgroup2/$node"
    for file in cpus mems; do cat "/sys/fs/cgroup/cpuset/cpuset.$file" >"/sys/fs/cgroup/cpuset/$node/cpuset.$file"; done
    nsenter --net="/run/netns/$node" unshare --mount --uts --ipc --pid --fork --kill-child=KILL \
        bash "$cluster/node.sh" "$i" >"$dir/init.log" 2>&1 9>&- &
    echo $! >"$dir/unshare.pid"
    # The child of unshare is pid 1 of the node: whoever ends it ends the node.
    within 10 "node $i" grep -q '[0-9]' "/proc/$!/task/$!/children"
    awk '{print $1}' "/proc/$!/task/$!/children" >"$dir/init.pid"
}

has_pod_cidr() { k get node "$NAME-n$1" -o 'jsonpath={.spec.podCIDR}' | grep -q .; }

# The API server proxies to pods from outside the pod network, as a control plane on its own machines would.
routes_of_control_plane() {
    local i cidr
    for i in $(seq "$NODES"); do
        for cidr in $(k get node "$NAME-n$i" -o 'jsonpath={.spec.podCIDRs[*]}'); do
            case $cidr in
            *:*) ip -6 -n "$NAME-cp" route replace "$cidr" via "${node6}:1$i" ;;
            *) ip -n "$NAME-cp" route replace "$cidr" via "$node4.1$i" ;;
            esac
        done
    done
}

undo() {
    local code=$?
    [ $code = 0 ] && return
    if [ "${KEEP:-}" = 1 ]; then
        say "failed; it stays up for you to look: kubeconfig $kubeconfig, logs in $run"
    else
        say "failed; taking it down (KEEP=1 keeps it); logs stay in $run"
        KEEP=1 "$cluster/down.sh" || true
    fi
    exit $code
}

"$cluster/images.sh"
mkdir -p "$run/pki" "$run/cp"
touch "$run/up"
trap undo EXIT
(cd "$run/pki" && make_certificates)
underlay
start_control_plane
say "API server ready after $SECONDS s"
for i in $(seq "$NODES"); do start_node "$i"; done
for i in $(seq "$NODES"); do
    within 120 "node $NAME-n$i in the API server" has_pod_cidr "$i"
    # Zone specs need three zones with two nodes each: NODES=6.
    k label node "$NAME-n$i" "topology.kubernetes.io/zone=z$(((i - 1) % 3 + 1))" topology.kubernetes.io/region=r >/dev/null
done
routes_of_control_plane
say "nodes registered after $SECONDS s"
case $NETWORK in
tortie) install_tortie ;;
bridge) bash "$cluster/bridge.sh" ;;
*) fail "NETWORK=$NETWORK: use tortie or bridge" ;;
esac
k wait --for=condition=Ready node --all --timeout=120s >/dev/null || fail "nodes are not ready: kubectl describe nodes"
say "nodes ready after $SECONDS s"
sed -e "s/@DNS4@/$dns4/" "$cluster/coredns.yaml" | k apply -f - >/dev/null
k -n kube-system rollout status deploy/coredns --timeout=120s >/dev/null || fail "CoreDNS does not become ready"
say "CoreDNS ready after $SECONDS s"
trap - EXIT
k get nodes -o wide >&2
say "enter it: nsenter --net=/run/netns/$NAME-cp $bin/kubectl --kubeconfig=$kubeconfig get pods -A"
echo "$kubeconfig"
