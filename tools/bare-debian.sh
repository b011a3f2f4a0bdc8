#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Runs one command in a copy of this checkout on a Debian that has nothing but make and python3.
#
#   tools/bare-debian.sh COMMAND [ARGUMENT...]        for example: tools/bare-debian.sh make test
#
# The tree is made by mmdebstrap from the mirrors that this machine's own apt uses, and thrown away afterwards. It shares
# the machine's network, so that apt and pip work in it; how they reach their registries (proxies, certificates, pip's
# and apt's settings) is carried in. Mounts and processes live in namespaces of their own: the kernel cleans them up.

set -euo pipefail
cd "$(dirname "$0")/.."

suite=${SUITE:-bookworm}

if [ "$(id -u)" -ne 0 ]; then
    echo "bare-debian: needs root (mounts, device nodes, apt)" >&2
    exit 1
fi
if ! command -v mmdebstrap >/dev/null; then
    export DEBIAN_FRONTEND=noninteractive
    apt-get install -y -q --no-install-recommends mmdebstrap >/dev/null 2>&1 ||
        { apt-get update -q && apt-get install -y -q --no-install-recommends mmdebstrap; }
fi

work=$(mktemp -d "${TMPDIR:-/var/tmp}/meshd-bare.XXXXXX")
trap 'rm -rf --one-file-system "$work"' EXIT
tree=$work/tree

# The mirrors of this suite as this machine's apt knows them; its settings for fetching from them.
targets() {
    apt-get indextargets --format 'deb $(REPO_URI) $(RELEASE) $(COMPONENT)' 'Identifier: Packages' |
        grep -E "^deb [^ ]+ $suite(-updates|-security|/updates)? " | sort -u
}
targets >"$work/sources.list" || true
if [ ! -s "$work/sources.list" ]; then
    apt-get update -q >/dev/null
    targets >"$work/sources.list"
fi
apt-config dump Acquire | grep -v '"";$' >"$work/apt.conf"

mmdebstrap --quiet --variant=minbase --include=make,python3 --aptopt="$work/apt.conf" \
    "$suite" "$tree" "$work/sources.list"

carry_in() { # FILE [NAME IN THE TREE]
    [ -e "$1" ] || return 0
    local target=$tree${2:-$1}
    mkdir -p "$(dirname "$target")"
    rm -rf "${target:?}"
    cp -rL "$1" "$target"
}
carry_in /etc/resolv.conf
carry_in /etc/hosts
carry_in /etc/ssl/certs/ca-certificates.crt
# Once more where Debian's ca-certificates looks when it is installed and writes that file anew.
carry_in /etc/ssl/certs/ca-certificates.crt /usr/local/share/ca-certificates/carried-in.crt
carry_in /etc/pip.conf
cp "$work/sources.list" "$tree/etc/apt/sources.list"
cp "$work/apt.conf" "$tree/etc/apt/apt.conf.d/80carried-in"

# Nothing but what belongs to the project: no virtual environment, no caches, no .git.
mkdir -p "$tree/src/meshd"
git -c safe.directory='*' ls-files -z --cached --others --exclude-standard |
    while IFS= read -r -d '' name; do [ ! -e "$name" ] || printf '%s\0' "$name"; done |
    tar --create --null --files-from=- | tar --extract --directory="$tree/src/meshd"

environment=(
    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root "CI=${CI:-true}"
)
for name in http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY SSL_CERT_FILE REQUESTS_CA_BUNDLE \
    PIP_CERT PIP_PROXY PIP_INDEX_URL PIP_TRUSTED_HOST PIP_DEFAULT_TIMEOUT PIP_CONFIG_FILE; do
    [ -z "${!name:-}" ] || environment+=("$name=${!name}")
done

# shellcheck disable=SC2016 # expanded in the namespaces
unshare --mount --pid --fork --kill-child -- sh -euc '
    tree=$1
    shift
    mount --make-rprivate /
    mount --bind "$tree" "$tree"
    mount -t proc proc "$tree/proc"
    mount --rbind /sys "$tree/sys"
    mount --rbind /dev "$tree/dev"
    mount -t tmpfs tmpfs "$tree/run"
    mount -t tmpfs tmpfs "$tree/tmp"
    chmod 1777 "$tree/tmp"
    # Not chroot: a process that is in one may not make user namespaces.
    mkdir "$tree/outside"
    cd "$tree"
    pivot_root . outside
    umount -l /outside
    rmdir /outside
    exec env -i "$@"
' sh "$tree" "${environment[@]}" sh -euc 'cd /src/meshd; exec "$@"' sh "$@"
