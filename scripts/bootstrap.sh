#!/usr/bin/env bash
# Installs what building and testing Tortie needs and what is missing here: Debian packages, bpf-linker and,
# with --lint, cargo-deny. Asks nothing, may be repeated, and is silent and quick when nothing is missing.
#
#   scripts/bootstrap.sh [--lint]
#
# Tools that are built go to ${TORTIE_CACHE:-${XDG_CACHE_HOME:-~/.cache}/tortie}, keyed by version.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/tools.env
. scripts/tools.env

# shellcheck source=scripts/install.bash
. scripts/install.bash

minimum_rust=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)

# --- The Rust toolchain: ours to check, not to install ---------------------------------------------------

have_rust() {
    local version
    version=$(rustc --version 2>/dev/null | cut -d' ' -f2) && [ -n "$version" ] &&
        [ "$(printf '%s\n%s\n' "$minimum_rust" "$version" | sort -V | head -n1)" = "$minimum_rust" ]
}

check_rust() {
    have_rust || fail "needs rustc $minimum_rust or newer; found: $(rustc --version 2>/dev/null || echo none)." \
        "With rustup: rustup update stable && rustup default stable" \
        "Without: see https://rustup.rs"
    [ "${1:-}" = --lint ] || return 0
    for component in fmt clippy; do
        command -v "cargo-$component" >/dev/null || fail "the Rust toolchain lacks cargo-$component." \
            "With rustup: rustup component add rustfmt clippy"
    done
}

# --- System packages -------------------------------------------------------------------------------------

# Debian's compiled core, or the source of it in a toolchain whose LLVM the linker can read.
have_bpf_core() {
    [ -d /usr/lib/rustlib/bpfel-unknown-none ] && return
    local llvm
    llvm=$(rustc -vV | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')
    [ -d "$(rustc --print sysroot)/lib/rustlib/src/rust/library/core" ] && [ "${llvm:-999}" -le "$LLVM_VERSION" ]
}

# Prints the packages whose content is missing. The laboratory uses ip and tcpdump and Debian's IPAM plugin.
missing_packages() {
    command -v cc >/dev/null || echo gcc libc6-dev
    have_bpf_core || echo rustc-web libstd-rust-web-dev-bpf
    if ! [ -x "$linker" ]; then
        [ -x "/usr/lib/llvm-$LLVM_VERSION/bin/llvm-config" ] || echo "llvm-$LLVM_VERSION-dev"
        [ -e "/usr/lib/llvm-$LLVM_VERSION/lib/libPolly.a" ] || echo "libpolly-$LLVM_VERSION-dev"
        command -v c++ >/dev/null || echo g++
        [ -e /usr/include/zlib.h ] || echo zlib1g-dev
        [ -e /usr/include/zstd.h ] || echo libzstd-dev
    elif ! "$linker" --version >/dev/null 2>&1; then
        echo "libllvm$LLVM_VERSION"
    fi
    command -v ip >/dev/null || [ -x /sbin/ip ] || echo iproute2
    command -v tcpdump >/dev/null || [ -x /usr/sbin/tcpdump ] || echo tcpdump
    [ -x /usr/lib/cni/host-local ] || [ -x /opt/cni/bin/host-local ] || echo containernetworking-plugins
}

package_advice=("On Debian 12 it comes from the security suite; the line in /etc/apt/sources.list is"
    "deb http://deb.debian.org/debian-security bookworm-security main"
    "Elsewhere: rustup component add rust-src, and LLVM $LLVM_VERSION with its headers.")

# --- Tools we build --------------------------------------------------------------------------------------

# install_tool NAME VERSION [CARGO ARGUMENTS]: into a directory of its own, which appears only when complete.
install_tool() {
    local name=$1 version=$2 home=$cache/$1-$2 work
    shift 2
    say "building $name $version into $home (once; takes a minute or more)"
    mkdir -p "$cache"
    work=$(mktemp -d "$cache/.$name-XXXXXX")
    trap 'rm -rf "$work"' EXIT
    env -u RUSTFLAGS -u CARGO_BUILD_TARGET CARGO_TARGET_DIR="$work/target" cargo install "$name" \
        --version "=$version" --locked --root "$work/root" "$@" </dev/null >&2 ||
        fail "building $name $version failed; cargo's message is above."
    rm -rf "$home"
    mv "$work/root" "$home"
    rm -rf "$work"
    trap - EXIT
}

linker=$cache/bpf-linker-$BPF_LINKER_VERSION/bin/bpf-linker
check_rust "$@"
mapfile -t missing < <(missing_packages | tr ' ' '\n')
[ "${#missing[@]}" = 0 ] || install_packages "${missing[@]}"
if ! [ -x "$linker" ]; then
    LLVM_PREFIX=/usr/lib/llvm-$LLVM_VERSION install_tool bpf-linker "$BPF_LINKER_VERSION" \
        --no-default-features --features "llvm-$LLVM_VERSION"
fi
"$linker" --version >/dev/null 2>&1 || fail "$linker does not run: $("$linker" --version 2>&1 | head -n1)" \
    "Remove its directory and run this again."
if [ "${1:-}" = --lint ] && ! [ -x "$cache/cargo-deny-$CARGO_DENY_VERSION/bin/cargo-deny" ]; then
    install_tool cargo-deny "$CARGO_DENY_VERSION" --debug # a third of the time to build, and quick enough
fi
