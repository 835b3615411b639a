#!/usr/bin/env bash
# Takes a cluster down: what up.sh started, by recorded pid, then namespaces, cgroups and state. KEEP=1 keeps the logs.
# Safe to repeat, and after any failure of up.sh.
set -uo pipefail
# shellcheck source=tests/kubernetes/cluster/settings.bash
. "$(dirname "${BASH_SOURCE[0]}")/settings.bash"

recorded() { cat "$1" 2>/dev/null; }
components=(scheduler kcm apiserver etcd)

for dir in "$run"/n*/; do
    pid=$(recorded "$dir/init.pid")
    ! is_ours "$pid" || kill -9 "$pid"
done
for name in "${components[@]}"; do
    pid=$(recorded "$run/cp/$name.pid")
    ! is_ours "$pid" || kill "$pid"
done
# etcd and the API server end by themselves when asked; who does not within 15 seconds is ended.
for name in "${components[@]}"; do
    pid=$(recorded "$run/cp/$name.pid")
    for _ in $(seq 150); do is_ours "$pid" || break; sleep 0.1; done
    ! is_ours "$pid" || kill -9 "$pid"
done
for dir in "$run"/n*/; do
    pid=$(recorded "$dir/unshare.pid")
    for _ in $(seq 100); do is_ours "$pid" || break; sleep 0.1; done
done
for netns in $(ip netns list | awk '{print $1}'); do
    case $netns in "$NAME-cp" | "$NAME"-n[1-9]) ip netns del "$netns" ;; esac
done
# The kernel lets go of a node's processes a moment after they are gone.
for _ in $(seq 50); do
    left=0
    for group in $cgroups1 unified; do
        for node in /sys/fs/cgroup/"$group/$NAME"-n[1-9]; do
            [ -d "$node" ] || continue
            find "$node" -depth -type d -exec rmdir {} \; 2>/dev/null
            [ ! -d "$node" ] || left=1
        done
    done
    if [ -n "$cgroup2" ] && [ "$cgroup2" != /sys/fs/cgroup/unified ]; then
        for node in "$cgroup2/$NAME"-n[1-9]; do [ ! -d "$node" ] || find "$node" -depth -type d -exec rmdir {} \; 2>/dev/null; done
    fi
    [ $left = 1 ] || break
    sleep 0.1
done
if [ "${KEEP:-}" = 1 ]; then rm -f "$run/up"; else rm -rf "$run"; fi
