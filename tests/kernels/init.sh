#!/bin/busybox sh
# What a virtual machine runs instead of a system: a laboratory of two nodes on its kernel. Each expectation is a line,
# `PASS …` or `FAIL …`; after the last one comes `END`.
/bin/busybox --install -s /bin
export PATH=/bin HOME=/root
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /sys/fs/cgroup
mount -t devpts devpts /dev/pts
mount -t bpf bpf /sys/fs/bpf
mount -t cgroup2 cgroup /sys/fs/cgroup
mount -t tmpfs run /run
mount -t tmpfs tmp /tmp
for module in /modules/*; do insmod "$module"; done
ip link set lo up

# expect NAME CODE COMMAND …
expect() {
    name=$1 code=$2
    shift 2
    "$@" >/tmp/output 2>&1
    found=$?
    if [ $found = "$code" ]; then
        echo "PASS $name"
    else
        echo "FAIL $name: $* ended with $found, not $code"
        cat /tmp/output
    fi
}

# tried NAME CODE FAMILY FROM TO PORT
tried() {
    expect "$1, $3" "$2" tortie lab probe --family "$3" --from "$4" --to "$5" --port "$6" --timeout 5s
}

uname -r
expect "two nodes come up" 0 tortie lab up --nodes 2
expect "pods, a Service and a policy" 0 tortie lab apply -f /world.yaml
expect "everything is in force" 0 tortie lab wait
for family in ipv4 ipv6; do
    tried "pod to pod on its node" 0 $family pod:default/a pod:default/b 8080
    tried "pod to pod on another node" 0 $family pod:default/a pod:default/c 8080
    tried "what policy denies" 1 $family pod:default/b pod:default/a 8080
    tried "pod to Service" 0 $family pod:default/a svc:default/one 80
    tried "node to Service" 0 $family node:node1 svc:default/one 80
    tried "node port with its endpoint elsewhere" 0 $family client:c1 node:node1 30080
done
expect "the agent is killed" 0 tortie lab kill-agent node1
tried "without an agent" 0 ipv4 pod:default/a svc:default/one 80
expect "the agent is back" 0 tortie lab start-agent node1
tried "with a new agent" 0 ipv6 client:c1 node:node1 30080
expect "nothing is left" 0 tortie lab down
echo END
poweroff -f
