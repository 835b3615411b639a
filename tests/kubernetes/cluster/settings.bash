# shellcheck shell=bash disable=SC2034
# Settings of the cluster on one machine, and the two ways into it. Every script of this directory sources it.
# Any of the capital names can be given in the environment.
cluster=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$cluster/../../.." && pwd)
# shellcheck source=scripts/tools.env
. "$root/scripts/tools.env"

NAME=${NAME:-tortie-k8s}       # prefix of namespaces, nodes and cgroups: NAME-cp, NAME-n1 …
NODES=${NODES:-3}              # at most 9; zone specs want 6
IPFAMILY=${IPFAMILY:-ipv4}     # ipv4 | dual
NETWORK=${NETWORK:-tortie}     # tortie | bridge: the reference CNI with kube-proxy, which enforces no policy
PROXY_MODE=${PROXY_MODE:-$([ "$NETWORK" = bridge ] && echo nftables || echo none)} # none | nftables | iptables

cache=${TORTIE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/tortie}
bin=$cache/kubernetes-$KUBERNETES_VERSION/bin
images=$cache/kubernetes-$KUBERNETES_VERSION/images
run=${CLUSTER_DIR:-$cache/cluster/$NAME}
kubeconfig=$run/pki/admin.conf

# Each node's processes live in its own directory below the cgroup v2 mount: connect-time programs go there.
cgroup2=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts)
cgroups1="cpu cpuacct cpuset memory pids blkio devices freezer systemd"

node4=172.30.0 node6=fd00:172:30:
pod4=10.244.0.0/16 pod6=fd00:10:244::/56
service4=10.96.0.0/16 service6=fd00:10:96::/112
dns4=10.96.0.10
case $IPFAMILY in
ipv4) pod_cidrs=$pod4 service_cidrs=$service4 ;;
dual) pod_cidrs=$pod4,$pod6 service_cidrs=$service4,$service6 ;;
*) echo "IPFAMILY=$IPFAMILY: use ipv4 or dual" >&2 && exit 2 ;;
esac

say() { echo "cluster: $*" >&2; }
fail() {
    printf 'cluster: %s\n' "$@" >&2
    exit 1
}

# kubectl, from where the control plane is.
k() { nsenter --net="/run/netns/$NAME-cp" "$bin/kubectl" --kubeconfig="$kubeconfig" "$@"; }

# on_node N COMMAND …: inside a node's namespaces and cgroup.
on_node() (
    local node=$1
    shift
    [ -z "$cgroup2" ] || echo "$BASHPID" >"$cgroup2/$NAME-n$node/cgroup.procs"
    exec nsenter -t "$(cat "$run/n$node/init.pid")" -m -n -u -i -p "$@"
)

# within SECONDS WHAT COMMAND …: until the command succeeds, or fails saying what was waited for.
within() {
    local end=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $end ] || fail "$what: not within the time given; logs are in $run"
        sleep 0.2
    done
}

# Still ours? A pid that was recorded may have been given to somebody else.
is_ours() { [ -n "${1:-}" ] && grep -qsF -e "$cluster/node.sh" -e "$bin/" "/proc/$1/cmdline"; }
