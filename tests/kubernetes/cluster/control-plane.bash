# shellcheck shell=bash
# etcd, API server, controller manager and scheduler, in the control plane's network namespace.

start() {
    local name=$1
    shift
    nsenter --net="/run/netns/$NAME-cp" "$@" >"$run/cp/$name.log" 2>&1 9>&- &
    echo $! >"$run/cp/$name.pid"
}

start_control_plane() {
    local p=$run/pki
    start etcd "$bin/etcd" --data-dir="$run/cp/etcd" --unsafe-no-fsync --listen-client-urls=http://127.0.0.1:2379 \
        --advertise-client-urls=http://127.0.0.1:2379 --listen-peer-urls=http://127.0.0.1:2380
    start apiserver "$bin/kube-apiserver" --etcd-servers=http://127.0.0.1:2379 --advertise-address="$node4.1" \
        --secure-port=6443 --client-ca-file="$p/ca.crt" --tls-cert-file="$p/apiserver.crt" --tls-private-key-file="$p/apiserver.key" \
        --service-account-key-file="$p/sa.pub" --service-account-signing-key-file="$p/sa.key" \
        --service-account-issuer=https://kubernetes.default.svc.cluster.local \
        --service-cluster-ip-range="$service_cidrs" --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction \
        --allow-privileged=true --kubelet-client-certificate="$p/kubelet-client.crt" --kubelet-client-key="$p/kubelet-client.key" \
        --kubelet-preferred-address-types=InternalIP --requestheader-client-ca-file="$p/ca.crt" \
        --requestheader-allowed-names=front-proxy-client --requestheader-username-headers=X-Remote-User \
        --requestheader-group-headers=X-Remote-Group --requestheader-extra-headers-prefix=X-Remote-Extra- \
        --proxy-client-cert-file="$p/front-proxy.crt" --proxy-client-key-file="$p/front-proxy.key" --profiling=false \
        --audit-policy-file="$cluster/audit.yaml" --audit-log-path="$run/cp/audit.log" --audit-log-maxsize=0
    within 60 "the API server" k get --raw /readyz
    start kcm "$bin/kube-controller-manager" --kubeconfig="$p/kcm.conf" --authentication-kubeconfig="$p/kcm.conf" \
        --authorization-kubeconfig="$p/kcm.conf" --service-account-private-key-file="$p/sa.key" --root-ca-file="$p/ca.crt" \
        --cluster-signing-cert-file="$p/ca.crt" --cluster-signing-key-file="$p/ca.key" --allocate-node-cidrs=true \
        --cluster-cidr="$pod_cidrs" --service-cluster-ip-range="$service_cidrs" --leader-elect=false \
        --use-service-account-credentials=true --bind-address=127.0.0.1
    start scheduler "$bin/kube-scheduler" --kubeconfig="$p/scheduler.conf" --authentication-kubeconfig="$p/scheduler.conf" \
        --authorization-kubeconfig="$p/scheduler.conf" --leader-elect=false --bind-address=127.0.0.1
}
