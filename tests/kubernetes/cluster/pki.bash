# shellcheck shell=bash
# Certificates of a cluster, in the current directory: one authority, a pair and a kubeconfig for each component.

authority() {
    openssl ecparam -genkey -name prime256v1 -noout -out ca.key
    openssl req -x509 -new -key ca.key -subj "/CN=$NAME-ca" -days 3650 -out ca.crt
    openssl genrsa -out sa.key 2048 2>/dev/null
    openssl rsa -in sa.key -pubout -out sa.pub 2>/dev/null
}

# certificate FILE NAME GROUP [ALTERNATIVE NAMES]
certificate() {
    openssl ecparam -genkey -name prime256v1 -noout -out "$1.key"
    openssl req -new -key "$1.key" -subj "/O=$3/CN=$2" -out "$1.csr"
    {
        echo "extendedKeyUsage=serverAuth,clientAuth"
        [ -z "${4:-}" ] || echo "subjectAltName=$4"
    } >"$1.ext"
    openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -days 3650 -out "$1.crt" -extfile "$1.ext" 2>/dev/null
}

# with_kubeconfig FILE NAME GROUP: a certificate, and a kubeconfig that uses it.
with_kubeconfig() {
    certificate "$@"
    cat >"$1.conf" <<YAML
apiVersion: v1
kind: Config
clusters: [{name: cluster, cluster: {server: "https://$node4.1:6443", certificate-authority-data: $(base64 -w0 ca.crt)}}]
users: [{name: user, user: {client-certificate-data: $(base64 -w0 "$1.crt"), client-key-data: $(base64 -w0 "$1.key")}}]
contexts: [{name: context, context: {cluster: cluster, user: user}}]
current-context: context
YAML
}

make_certificates() {
    local dns=kubernetes i
    authority
    dns="DNS:$dns,DNS:$dns.default,DNS:$dns.default.svc,DNS:$dns.default.svc.cluster.local,DNS:localhost"
    certificate apiserver kube-apiserver kubernetes "$dns,IP:$node4.1,IP:127.0.0.1,IP:${service4%.*.*}.0.1,IP:${service6%::*}::1"
    certificate kubelet-client kube-apiserver-kubelet-client system:masters
    certificate front-proxy front-proxy-client kubernetes
    with_kubeconfig admin admin system:masters
    with_kubeconfig kcm system:kube-controller-manager kubernetes
    with_kubeconfig scheduler system:kube-scheduler kubernetes
    with_kubeconfig kube-proxy system:kube-proxy kubernetes
    for i in $(seq "$NODES"); do with_kubeconfig "$NAME-n$i" "system:node:$NAME-n$i" system:nodes; done
}
