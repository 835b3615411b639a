# shellcheck shell=bash
# Tortie, installed as an operator would: an image on every node, and kubectl apply -k.

# The binary, and the libraries that the loader would find for it here: deploy/Dockerfile has them from its base image.
make_image() {
    local program=${TORTIE_BIN:-$root/target/release/tortie} file files
    [ -x "$program" ] || fail "$program is not there; make build, or TORTIE_BIN=… for another"
    # A hard link or a copy would follow a new build; the image has what there is now.
    files="{\"src\": \"$program\", \"dst\": \"/usr/local/bin/tortie\"}"
    while read -r file; do
        files+=", {\"src\": \"$(readlink -f "$file")\", \"dst\": \"$file\"}"
    done < <(ldd "$program" | grep -o '/[^ ]*' || true)
    cat >"$run/tortie.json" <<JSON
{"tags": ["docker.io/library/tortie:cluster"], "entrypoint": ["/usr/local/bin/tortie"],
 "layers": [{"files": [$files, {"dst": "/tmp", "dir": true, "mode": "1777"}]}]}
JSON
    python3 "$cluster/image.py" "$run/tortie.tar" "$run/tortie.json"
}

import_image() {
    local i
    for i in $(seq "$NODES"); do
        within 60 "containerd of node $i" on_node "$i" "$bin/ctr" version
        on_node "$i" "$bin/ctr" -n k8s.io images import --local "$run/tortie.tar" >>"$run/n$i/import.log" 2>&1 ||
            on_node "$i" "$bin/ctr" -n k8s.io images import "$run/tortie.tar" >>"$run/n$i/import.log" 2>&1 ||
            fail "node $i does not take Tortie's image: $run/n$i/import.log"
    done
}

install_tortie() {
    make_image
    import_image
    k kustomize "${TORTIE_OVERLAY:-$cluster/tortie}" | sed "s|/CGROUP2/|$cgroup2/|" | k apply --server-side -f - >/dev/null
    say "Tortie applied after $SECONDS s"
    k -n kube-system rollout status daemonset/tortie-node --timeout=180s >/dev/null || {
        k -n kube-system get pods -o wide >&2
        k -n kube-system logs -l k8s-app=tortie-node --all-containers --prefix --tail=20 >&2 || true
        fail "Tortie does not become ready"
    }
    say "Tortie ready after $SECONDS s"
}
