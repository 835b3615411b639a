#!/usr/bin/env bash
# Finds or builds the components of a real Kubernetes, and prints where each of them is, one path a line.
#
#   scripts/kubernetes.sh [COMPONENT …]        default: what `tortie lab up --store kube` uses
#   scripts/kubernetes.sh --list               every component it can build
#
# They are taken from KUBEBUILDER_ASSETS, else from the path, where all of them are there, and else built, once, from
# the Go modules in tests/kubernetes/components into
# ${TORTIE_CACHE:-${XDG_CACHE_HOME:-~/.cache}/tortie}/kubernetes-VERSION/bin; with TORTIE_KUBERNETES=pinned always the
# latter. The default ones take five minutes on two cores when nothing of them is compiled yet.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/tools.env
. scripts/tools.env
# shellcheck source=scripts/install.bash
. scripts/install.bash

modules=$PWD/tests/kubernetes/components
bin=$cache/kubernetes-$KUBERNETES_VERSION/bin
default=(etcd kube-apiserver kube-controller-manager kubectl)

# --- What there is to build: NAME MODULE HOW, where HOW is how go makes $work/NAME ------------------------

# Without these the components call themselves v0.0.0-master, and specs that depend on a version misjudge it.
version=k8s.io/component-base/version
stamp="-s -w -X $version.gitVersion=v$KUBERNETES_VERSION -X $version.gitMajor=${KUBERNETES_VERSION%%.*}"
stamp+=" -X $version.gitMinor=$(cut -d. -f2 <<<"$KUBERNETES_VERSION") -X $version.gitTreeState=clean"

# Prints the module of a component, and nothing for one that is not known.
module_of() {
    case $1 in
    kube-apiserver | kube-controller-manager | kube-scheduler | kube-proxy | kubelet | kubectl) echo kubernetes ;;
    e2e.test | ginkgo | agnhost | regression-issue-74839) echo kubernetes ;;
    etcd) echo etcd ;;
    coredns) echo coredns ;;
    bridge | loopback | host-local | portmap) echo cni ;;
    containerd | containerd-shim-runc-v2 | ctr) echo containerd ;;
    runc | helm) echo "$1" ;;
    esac
}

# The laboratory uses the default ones; tests/kubernetes/cluster uses all.
components=("${default[@]}" kube-scheduler kube-proxy kubelet containerd containerd-shim-runc-v2 ctr runc coredns
    bridge loopback host-local portmap e2e.test ginkgo agnhost regression-issue-74839 helm)

# compile COMPONENT OUTPUT: in the module's directory, where there is one. containerd, runc and helm are built as modules
# of their own, with what their authors have pinned: their version is in tools.env.
compile() {
    local plugins=github.com/containernetworking/plugins/plugins
    case $1 in
    containerd | containerd-shim-runc-v2 | ctr)
        GOBIN=$(dirname "$2") go install -trimpath -ldflags "-s -w" -tags no_btrfs \
            "github.com/containerd/containerd/v2/cmd/$1@v$CONTAINERD_VERSION"
        ;;
    runc)
        GOBIN=$(dirname "$2") CGO_ENABLED=1 go install -trimpath -ldflags "-s -w" -tags seccomp \
            "github.com/opencontainers/runc@v$RUNC_VERSION"
        ;;
    helm) GOBIN=$(dirname "$2") go install -trimpath -ldflags "-s -w" "helm.sh/helm/v3/cmd/helm@v$HELM_VERSION" ;;
    bridge | loopback) go build -trimpath -ldflags "-s -w" -o "$2" "$plugins/main/$1" ;;
    host-local) go build -trimpath -ldflags "-s -w" -o "$2" "$plugins/ipam/$1" ;;
    portmap) go build -trimpath -ldflags "-s -w" -o "$2" "$plugins/meta/$1" ;;
    coredns) go build -trimpath -ldflags "-s -w" -o "$2" github.com/coredns/coredns ;;
    agnhost | regression-issue-74839) go build -trimpath -ldflags "$stamp" -o "$2" "k8s.io/kubernetes/test/images/$1" ;;
    e2e.test) go test -c -trimpath -ldflags "$stamp" -o "$2" k8s.io/kubernetes/test/e2e ;;
    # Of the version that e2e.test has compiled in.
    ginkgo) go build -trimpath -o "$2" github.com/onsi/ginkgo/v2/ginkgo ;;
    etcd) go build -trimpath -ldflags "-s -w" -o "$2" go.etcd.io/etcd/server/v3 ;;
    *) go build -trimpath -ldflags "$stamp" -o "$2" "k8s.io/kubernetes/cmd/$1" ;;
    esac
}

# --- The Go toolchain ------------------------------------------------------------------------------------

go_version() { go env GOVERSION 2>/dev/null | sed 's/^go\([0-9]*\.[0-9]*\).*/\1/'; }
at_least() { [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n1)" = "$1" ]; }

# Go 1.21 and later fetch a newer toolchain by themselves, as a module, when they are allowed to.
check_go() {
    local found
    package_advice=("See https://go.dev/doc/install")
    command -v go >/dev/null || install_packages golang-go
    found=$(go_version)
    at_least "$GO_VERSION" "${found:-0}" && return
    at_least 1.21 "${found:-0}" || fail "needs Go $GO_VERSION or newer to build Kubernetes; found: ${found:-none}." \
        "On Debian 12: apt-get install -t bookworm-backports golang-go; else see https://go.dev/doc/install." \
        "Or point KUBEBUILDER_ASSETS at a directory with ${default[*]}."
    say "Go $found fetches Go $GO_VERSION for itself"
    export GOTOOLCHAIN=go$GO_VERSION.0+auto
}

# --- Finding and building --------------------------------------------------------------------------------

# A component is built again when its pinned modules, its version or the way it is made change.
key_of() {
    {
        cat "$modules/$(module_of "$1")"/go.{mod,sum} 2>/dev/null || echo "$CONTAINERD_VERSION $RUNC_VERSION $HELM_VERSION"
        echo "$stamp"
        declare -f compile
    } | sha256sum | cut -d' ' -f1
}

is_built() { [ -x "$bin/$1" ] && [ "$(cat "$bin/.$1.key" 2>/dev/null)" = "$(key_of "$1")" ]; }

# Prints where the components are when one place outside has them all: components of two versions do not mix.
find_outside() {
    local component
    [ "${TORTIE_KUBERNETES:-}" != pinned ] || return 1
    if [ -n "${KUBEBUILDER_ASSETS:-}" ]; then
        for component in "$@"; do [ -x "$KUBEBUILDER_ASSETS/$component" ] || break; done
        [ -x "$KUBEBUILDER_ASSETS/$component" ] && printf "$KUBEBUILDER_ASSETS/%s\n" "$@" && return
    fi
    for component in "$@"; do type -P "$component" >/dev/null || return 1; done
    type -P "$@"
}

# In a place of its own first: a build that was killed leaves nothing that looks whole.
build() {
    local started=$SECONDS
    say "building $1 into $bin (once; ${2:-a minute or so} when nothing of it is compiled yet)"
    mkdir -p "$work"
    # runc is linked against it.
    [ "$1" != runc ] || [ -e /usr/include/seccomp.h ] || install_packages libseccomp-dev
    (cd "$modules/$(module_of "$1")" 2>/dev/null || cd / && compile "$1" "$work/$1") >&2 ||
        fail "building $1 failed; go's message is above."
    mv "$work/$1" "$bin/$1"
    key_of "$1" >"$bin/.$1.key"
    say "built $1 in $((SECONDS - started)) s"
}

if [ "${1:-}" = --list ]; then
    printf '%s\n' "${components[@]}"
    exit
fi
[ $# -gt 0 ] || set -- "${default[@]}"
for component in "$@"; do
    [ -n "$(module_of "$component")" ] || fail "no component is called $component." "There are: ${components[*]}"
done
find_outside "$@" && exit
missing=()
for component in "$@"; do is_built "$component" || missing+=("$component"); done
if [ "${#missing[@]}" != 0 ]; then
    check_go
    mkdir -p "$bin"
    exec 9>"$bin/.lock"
    flock -n 9 || { say "another build is at work; waiting for it" && flock 9; }
    work=$(mktemp -d "$bin/.work-XXXXXX")
    trap 'rm -rf "$work"' EXIT
    export GOFLAGS="-mod=readonly -buildvcs=false" CGO_ENABLED=0
    for component in "${missing[@]}"; do
        is_built "$component" || build "$component" "$([ "$component" = kube-apiserver ] && echo 'three minutes')"
    done
fi
printf "$bin/%s\n" "$@"
