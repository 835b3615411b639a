# For scripts that install what is missing: where tools go, how failures are told, and Debian packages. Sourced.
# shellcheck shell=bash

cache=${TORTIE_CACHE:-${XDG_CACHE_HOME:-${HOME:?set HOME, XDG_CACHE_HOME or TORTIE_CACHE: tools need a place}/.cache}/tortie}

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }

# fail WHAT [LINE …]: the lines say what to do.
fail() {
    say "$1"
    shift
    for line in "$@"; do printf '    %s\n' "$line" >&2; done
    exit 4
}

# install_packages PACKAGE …: with apt, as root or through sudo that asks nothing.
install_packages() {
    local packages=("$@") as_root=()
    command -v apt-get >/dev/null || fail "these Debian packages, or what your system calls them, are missing:" \
        "${packages[*]}" "There is no apt here: install them, then run this again."
    if [ "$(id -u)" != 0 ]; then
        sudo -n true 2>/dev/null || fail "may not install packages without root. Run this, then try again:" \
            "sudo apt-get update && sudo apt-get install ${packages[*]}"
        as_root=(sudo -n)
    fi
    as_root+=(env DEBIAN_FRONTEND=noninteractive)
    say "installing ${packages[*]}"
    "${as_root[@]}" apt-get -q -o Acquire::Retries=3 update >&2 ||
        say "apt-get update had errors; going on with the package lists there are"
    for package in "${packages[@]}"; do
        apt-cache show "$package" >/dev/null 2>&1 || fail "apt knows no package $package." "${package_advice[@]}"
    done
    "${as_root[@]}" apt-get -q -y -o DPkg::Lock::Timeout=300 install --no-install-recommends "${packages[@]}" \
        </dev/null >&2 || fail "apt-get could not install ${packages[*]}; its message is above."
}
