#!/usr/bin/env bash
# Finds or fetches the kernels that tests/kernels boots, and prints the series and the directory of each, one a line.
#
#   scripts/kernels.sh
#
# They are Debian's for virtual machines, the newest of each series in tools.env that apt knows; a series that it does not
# know is named and left out. A directory is ${TORTIE_CACHE:-${XDG_CACHE_HOME:-~/.cache}/tortie}/kernel-SERIES, with
# vmlinuz, the name of the package in `package`, and in modules/ what a node needs, numbered as it has to be loaded.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/tools.env
. scripts/tools.env
# shellcheck source=scripts/install.bash
. scripts/install.bash

needed=(veth vxlan bridge sch_ingress cls_bpf)
[ "$(uname -m)" = x86_64 ] || fail "boots kernels of x86-64 only; this is $(uname -m)."

# Prints the packages whose content is missing.
missing_packages() {
    command -v qemu-system-x86_64 >/dev/null || echo qemu-system-x86
    [ -x /bin/busybox ] && ! ldd /bin/busybox >/dev/null 2>&1 || echo busybox-static
    command -v depmod >/dev/null || [ -x /sbin/depmod ] || echo kmod
    command -v cpio >/dev/null || echo cpio
}

package_advice=("It is Debian's; see https://packages.debian.org.")
mapfile -t missing < <(missing_packages)
[ "${#missing[@]}" = 0 ] || install_packages "${missing[@]}"

# The newest package of a series.
package_of() {
    apt-cache pkgnames "linux-image-$1." | grep -E "^linux-image-${1/./\\.}\.[0-9].*-cloud-amd64$" | sort -V | tail -n1
}

# The directory appears only when it is complete.
fetch() {
    local package=$1 home=$2 work version
    say "fetching $package into $home (once)"
    mkdir -p "$cache"
    work=$(mktemp -d "$cache/.kernel-XXXXXX")
    trap 'rm -rf "$work"' EXIT
    # As root apt gives up its rights for a download, and may not write here then.
    (cd "$work" && apt-get -q -o APT::Sandbox::User=root download "$package" >&2) ||
        fail "apt could not download $package; its message is above."
    dpkg-deb -x "$work"/*.deb "$work/root"
    mkdir -p "$work/kernel/modules"
    cp "$work"/root/boot/vmlinuz-* "$work/kernel/vmlinuz"
    version=$(ls "$work/root/lib/modules")
    PATH=$PATH:/sbin depmod -b "$work/root" "$version"
    local number=10 module
    while read -r module; do
        case $module in
        *.xz) /bin/busybox xz -dc "$module" ;;
        *) cat "$module" ;;
        esac >"$work/kernel/modules/$number-$(basename "${module%.xz}")"
        number=$((number + 1))
    done < <(for name in "${needed[@]}"; do
        PATH=$PATH:/sbin modprobe -d "$work/root" -S "$version" --show-depends "$name"
    done | awk '$1 == "insmod" && !seen[$2]++ {print $2}')
    echo "$package" >"$work/kernel/package"
    rm -rf "$home"
    mv "$work/kernel" "$home"
    rm -rf "$work"
    trap - EXIT
}

for series in $KERNEL_SERIES; do
    home=$cache/kernel-$series
    if ! [ -e "$home/package" ]; then
        package=$(package_of "$series") || true
        if [ -z "$package" ]; then
            say "apt knows no kernel of series $series for virtual machines"
            continue
        fi
        fetch "$package" "$home"
    fi
    echo "$series $home"
done
