#!/usr/bin/env bash
# Builds the components and every image that the cluster and upstream's specs need, as files that ctr imports. No
# registry; Debian packages and Go modules. Once; quick when everything is there.
set -euo pipefail
# shellcheck source=tests/kubernetes/cluster/settings.bash
. "$(dirname "${BASH_SOURCE[0]}")/settings.bash"

mapfile -t components < <("$root/scripts/kubernetes.sh" --list | grep -vx helm)
TORTIE_KUBERNETES=pinned "$root/scripts/kubernetes.sh" "${components[@]}" >/dev/null
mkdir -p "$images"
cd "$images"
exec 8>.lock
flock 8

need() { command -v "$1" >/dev/null || apt-get install -y --no-install-recommends "$2" >&2 || fail "needs $1: install the package $2"; }

# A Debian userland with the tools that the specs call in agnhost's image: curl, nc, dig, ss, iperf, bash …
if [ ! -f base.tar ]; then
    need mmdebstrap mmdebstrap
    packages=bash,dash,coreutils,curl,netcat-openbsd,bind9-dnsutils,iproute2,procps,grep,sed,mawk,iptables,util-linux,tar
    packages+=,findutils,hostname,iputils-ping,base-files,ca-certificates,ipset,conntrack,nftables,wget,iperf,libc-bin
    mmdebstrap --variant=extract --mode=root --include=$packages bookworm rootfs.tar >&2
    rm -rf rootfs && mkdir rootfs
    tar -C rootfs -xf rootfs.tar --exclude='./usr/share/doc/*' --exclude='./usr/share/man/*' --exclude='./usr/share/locale/*' \
        --exclude='./usr/share/info/*' --exclude='./usr/share/perl/*' --exclude='./usr/share/perl5/*' \
        --exclude='./usr/lib/*/perl*' --exclude='./usr/lib/*/gconv/*' --exclude='./var/lib/dpkg/*' --exclude='./dev/*' \
        --exclude='./usr/share/bash-completion'
    ln -sf nc.openbsd rootfs/bin/nc
    ln -sf mawk rootfs/usr/bin/awk
    mkdir -p rootfs/usr/local/bin && ln -sf /usr/bin/iperf rootfs/usr/local/bin/iperf
    for name in iptables iptables-save iptables-restore ip6tables ip6tables-save ip6tables-restore; do
        ln -sf xtables-nft-multi "rootfs/usr/sbin/$name"
    done
    {
        echo 'root:x:0:0:root:/root:/bin/sh'
        echo 'nobody:x:65534:65534:nobody:/:/bin/false'
        echo 'user-defined-in-image:x:1000:1000::/home:/bin/sh'
    } >rootfs/etc/passwd
    printf 'root:x:0:\nnogroup:x:65534:\nuser-defined-in-image:x:1000:\ngroup-defined-in-image:x:50000:user-defined-in-image\n' >rootfs/etc/group
    printf 'passwd: files\ngroup: files\nhosts: files dns\n' >rootfs/etc/nsswitch.conf
    tar -C rootfs -cf base.tar.new .
    rm -rf rootfs rootfs.tar
    mv base.tar.new base.tar
fi

# The sandbox's process: waits for a signal, reaps children.
if [ ! -f pause ]; then
    need gcc gcc
    cat >pause.c <<'C'
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
static void done(int s) { (void)s; _exit(0); }
static void reap(int s) { (void)s; while (waitpid(-1, 0, WNOHANG) > 0); }
int main(void) { signal(SIGINT, done); signal(SIGTERM, done); signal(SIGCHLD, reap); for (;;) pause(); }
C
    gcc -Os -static -o pause.new pause.c && mv pause.new pause
fi
if [ ! -f busybox ]; then
    apt-get download busybox-static >&2 && dpkg-deb -x busybox-static_*.deb unpacked
    mv unpacked/bin/busybox busybox && rm -rf unpacked busybox-static_*.deb
fi
# What agnhost's https server shows.
[ -f localhost.crt ] || openssl req -x509 -newkey rsa:2048 -nodes -days 3650 -subj /CN=localhost \
    -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -keyout localhost.key -out localhost.crt 2>/dev/null

e2e=registry.k8s.io/e2e-test-images
cat >agnhost.json <<JSON
{"tags":["$e2e/agnhost:2.63.0","$e2e/agnhost:2.55"],"entrypoint":["/agnhost"],"cmd":["pause"],
 "layers":[{"tar":"base.tar"},{"files":[{"src":"$bin/agnhost","dst":"/agnhost"},{"dst":"/agnhost-2","link":"agnhost"},
 {"src":"$bin/coredns","dst":"/coredns"},{"src":"localhost.crt","dst":"/localhost.crt","mode":"0644"},
 {"src":"localhost.key","dst":"/localhost.key","mode":"0644"},{"dst":"/uploads","dir":true}]}]}
JSON
cat >dnsutils.json <<JSON
{"tags":["$e2e/glibc-dns-testing:2.0.0","registry.k8s.io/build-image/distroless-iptables:v0.9.6"],
 "cmd":["sleep","infinity"],"layers":[{"tar":"base.tar"}]}
JSON
cat >r74839.json <<JSON
{"tags":["$e2e/regression-issue-74839:1.4"],"entrypoint":["/regression-issue-74839"],
 "layers":[{"files":[{"src":"$bin/regression-issue-74839","dst":"/regression-issue-74839"}]}]}
JSON
cat >pause.json <<JSON
{"tags":["registry.k8s.io/pause:3.10.2","registry.k8s.io/pause:3.10.1","registry.k8s.io/pause:3.10"],"entrypoint":["/pause"],
 "user":"65535:65535","layers":[{"files":[{"src":"pause","dst":"/pause"}]}]}
JSON
cat >coredns.json <<JSON
{"tags":["registry.k8s.io/coredns/coredns:v1.14.2"],"entrypoint":["/coredns"],
 "layers":[{"files":[{"src":"$bin/coredns","dst":"/coredns"},{"dst":"/etc","dir":true},{"dst":"/tmp","dir":true,"mode":"1777"}]}]}
JSON
{
    echo "{\"tags\":[\"$e2e/busybox:1.37.0-1\"],\"cmd\":[\"sh\"],\"layers\":[{\"files\":[{\"dst\":\"/tmp\",\"dir\":true,\"mode\":\"1777\"},"
    echo '{"dst":"/etc/passwd","text":"root:x:0:0:root:/root:/bin/sh\n"},{"dst":"/etc/group","text":"root:x:0:\n"},{"src":"busybox","dst":"/bin/busybox"}'
    ./busybox --list | grep -vx busybox | while read -r applet; do echo ",{\"dst\":\"/bin/$applet\",\"link\":\"busybox\"}"; done
    echo ']}]}'
} >busybox.json
# An image is made again when what it says of itself, or anything in it, is newer.
stale() {
    ! cmp -s "$1.json" "$1.json.done" || [ ! -f "$1.tar" ] ||
        [ -n "$(find base.tar pause busybox "$bin/agnhost" "$bin/coredns" "$bin/regression-issue-74839" -newer "$1.tar")" ]
}
for image in pause agnhost coredns busybox dnsutils r74839; do
    stale "$image" || continue
    python3 "$cluster/image.py" "$image.tar.new" "$image.json"
    mv "$image.tar.new" "$image.tar"
    cp "$image.json" "$image.json.done"
done
