#!/usr/bin/env bash
# The reference to measure against: bridge and host-local on each node, static routes between them. Enforces no policy.
set -euo pipefail
# shellcheck source=tests/kubernetes/cluster/settings.bash
. "$(dirname "${BASH_SOURCE[0]}")/settings.bash"

for i in $(seq "$NODES"); do
    ranges=
    for cidr in $(k get node "$NAME-n$i" -o 'jsonpath={.spec.podCIDRs[*]}'); do
        ranges="$ranges${ranges:+,}[{\"subnet\":\"$cidr\"}]"
        case $cidr in
        *:*) via=${node6}:1$i family=-6 ;;
        *) via=$node4.1$i family=-4 ;;
        esac
        for j in $(seq "$NODES"); do
            [ "$j" = "$i" ] || ip $family -n "$NAME-n$j" route replace "$cidr" via "$via"
        done
    done
    nsenter --net="/run/netns/$NAME-n$i" sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 \
        net.bridge.bridge-nf-call-iptables=1 net.bridge.bridge-nf-call-ip6tables=1
    routes='{"dst":"0.0.0.0/0"}'
    [ "$IPFAMILY" != dual ] || routes="$routes,{\"dst\":\"::/0\"}"
    conf=$run/n$i/fs/etc/cni/net.d
    cat >"$conf/.new" <<JSON
{"cniVersion":"1.0.0","name":"bridge","plugins":[
 {"type":"bridge","bridge":"cni0","isGateway":true,"isDefaultGateway":false,"ipMasq":false,"hairpinMode":true,
  "ipam":{"type":"host-local","ranges":[$ranges],"routes":[$routes]}},
 {"type":"portmap","capabilities":{"portMappings":true},"snat":true}]}
JSON
    mv "$conf/.new" "$conf/10-bridge.conflist"
done
