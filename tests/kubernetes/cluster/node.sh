#!/usr/bin/env bash
# Process 1 of one node; up.sh starts it in fresh network, mount, uts, ipc and pid namespaces. Makes every path that the
# node's components write to the node's own, then starts containerd and kubelet. Its end is the node's.
set -eu
# shellcheck source=tests/kubernetes/cluster/settings.bash
. "$(dirname "${BASH_SOURCE[0]}")/settings.bash"
i=$1 name=$NAME-n$1 dir=$run/n$1

[ -z "$cgroup2" ] || echo 0 >"$cgroup2/$name/cgroup.procs"
mount --make-rprivate /
mount -t proc proc /proc
# sysfs of this network namespace, with the machine's cgroup mounts.
mkdir -p "$dir/cgroups"
mount --rbind /sys/fs/cgroup "$dir/cgroups"
umount -l /sys
mount -t sysfs sysfs /sys
mount --rbind "$dir/cgroups" /sys/fs/cgroup
umount -l "$dir/cgroups"
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/netns /run/lock
for path in /var/lib/kubelet /var/lib/containerd /var/lib/cni /var/log/pods /var/log/containers /etc/cni/net.d /opt/cni/bin \
    /etc/kubernetes /etc/containerd /var/lib/tortie /tmp; do
    mkdir -p "$path" "$dir/fs$path"
    mount --bind "$dir/fs$path" "$path"
done
chmod 1777 /tmp
# kubelet insists on writing these machine-wide sysctls: it gets files of its own.
mkdir -p /run/sysctl
private() {
    echo "$2" >"/run/sysctl/${1//\//_}"
    mount --bind "/run/sysctl/${1//\//_}" "/proc/sys/$1"
}
private vm/overcommit_memory 1
private vm/panic_on_oom 0
private kernel/panic 10
private kernel/panic_on_oops 1
private kernel/keys/root_maxkeys 1000000
private kernel/keys/root_maxbytes 25000000
printf '%032x\n' $((0xe2e0 + i)) >/run/machine-id
: >/run/resolv.conf
printf '127.0.0.1 localhost\n::1 localhost\n%s %s\n' "$node4.1$i" "$name" >/run/hosts
for file in machine-id resolv.conf hosts; do mount --bind "/run/$file" "/etc/$file"; done
mount --make-rshared /
hostname "$name"
cp -f "$run/pki/ca.crt" "$run/pki/$name.conf" "$run/pki/kube-proxy.conf" /etc/kubernetes/
cp -f "$bin"/{bridge,host-local,loopback,portmap} /opt/cni/bin/
export PATH=$bin:$PATH

cat >/etc/containerd/config.toml <<TOML
version = 3
root = "/var/lib/containerd"
state = "/run/containerd"
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = "registry.k8s.io/pause:3.10.2"
[plugins.'io.containerd.cri.v1.runtime']
  disable_apparmor = true
  # Root may be without CAP_SYS_RESOURCE, which lower values than its own need.
  restrict_oom_score_adj = true
[plugins.'io.containerd.cri.v1.runtime'.cni]
  bin_dirs = ["/opt/cni/bin"]
  conf_dir = "/etc/cni/net.d"
TOML
addresses=$node4.1$i
[ "$IPFAMILY" != dual ] || addresses=$addresses,${node6}:1$i
cat >/etc/kubernetes/kubelet.yaml <<YAML
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
failCgroupV1: false
cgroupDriver: cgroupfs
cgroupRoot: /$name
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: /etc/kubernetes/ca.crt}}
authorization: {mode: Webhook}
clusterDNS: [$dns4]
clusterDomain: cluster.local
resolvConf: /etc/resolv.conf
failSwapOn: false
oomScoreAdj: 0
serializeImagePulls: false
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
evictionHard: {memory.available: 100Mi, nodefs.available: "1%", nodefs.inodesFree: "1%", imagefs.available: "1%"}
volumePluginDir: /var/lib/kubelet/volumeplugins
shutdownGracePeriod: 0s
YAML

containerd >"$dir/containerd.log" 2>&1 &
for _ in $(seq 100); do ctr version >/dev/null 2>&1 && break; sleep 0.1; done
for image in "$images"/*.tar; do
    case $image in */rootfs.tar | */base.tar) continue ;; esac
    ctr -n k8s.io images import --local "$image" >>"$dir/import.log" 2>&1 || ctr -n k8s.io images import "$image" >>"$dir/import.log" 2>&1
done
kubelet --config=/etc/kubernetes/kubelet.yaml --kubeconfig="/etc/kubernetes/$name.conf" --hostname-override="$name" \
    --node-ip="$addresses" --v=2 >"$dir/kubelet.log" 2>&1 &
if [ "$PROXY_MODE" != none ]; then
    cat >/etc/kubernetes/kube-proxy.yaml <<YAML
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: $PROXY_MODE
hostnameOverride: $name
oomScoreAdj: 0
clientConnection: {kubeconfig: /etc/kubernetes/kube-proxy.conf}
clusterCIDR: $pod_cidrs
# nf_conntrack_max is the machine's, and read-only here.
conntrack: {maxPerCore: 0, min: 0}
YAML
    kube-proxy --config=/etc/kubernetes/kube-proxy.yaml --v=2 >"$dir/kube-proxy.log" 2>&1 &
fi
# Orphans of the node come to us; wait reaps them.
while :; do
    sleep 3600 &
    wait $! || true
done
