#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Makes the checkout ready: missing Debian packages, then the virtual environment in .venv.
#
#   tools/setup.sh [venv | demo | video | lint | test | fuzz | compile]     default: venv
#
# As root, missing packages are installed by apt. An ordinary user gets one line that names them all. The virtual
# environment is stamped with a hash of what it was made from: a second run does nothing, and one that was interrupted
# leaves no stamp, so that the next run makes it anew. Needs a POSIX shell and python3, nothing else.

set -eu
cd "$(dirname "$0")/.."

purpose=${1:-venv}
case $purpose in
    venv | demo | video | lint | test | fuzz | compile) ;;
    *) echo "setup: unknown purpose '$purpose'; known are venv, demo, video, lint, test, fuzz, compile" >&2; exit 2 ;;
esac

PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
export PATH

# --- Python ---

supported() {
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null
}

python=
for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
    if command -v "$candidate" >/dev/null 2>&1 && supported "$candidate"; then
        python=$candidate
        break
    fi
done
if [ -z "$python" ]; then
    echo "setup: needs Python 3.11, 3.12 or 3.13 as python3 (or name one: make PYTHON=python3.12 ...)" >&2
    exit 1
fi

# --- Debian packages ---

missing=
needs() { # COMMAND PACKAGE
    if ! command -v "$1" >/dev/null 2>&1; then
        case " $missing " in
            *" $2 "*) ;;
            *) missing="${missing:+$missing }$2" ;;
        esac
    fi
}

"$python" -c 'import ensurepip, venv' 2>/dev/null || missing="$(basename "$python")-venv"
case $purpose in
    demo | video | test)
        needs ip iproute2
        needs tc iproute2
        needs nft nftables
        needs unshare util-linux
        ;;
esac
case $purpose in
    video | test)
        needs ffmpeg ffmpeg
        needs ffmpeg fonts-dejavu-core # what it writes into pictures with
        ;;
esac
if [ "$purpose" = video ]; then
    needs srt-live-transmit srt-tools
fi
if [ "$purpose" = test ]; then
    needs babeld babeld
    needs mandoc mandoc
    needs sysctl procps
    needs tshark tshark
    needs systemd-analyze systemd
fi
if [ "$purpose" = compile ]; then
    needs cc gcc
    header='import pathlib, sys, sysconfig; sys.exit(not (pathlib.Path(sysconfig.get_paths()["include"]) / "Python.h").is_file())'
    "$python" -c "$header" || missing="${missing:+$missing }$(basename "$python")-dev"
fi

install_packages() {
    # The lists may be absent (a fresh system) or stale (an old one): only a failed install is worth an update.
    DEBIAN_FRONTEND=noninteractive
    export DEBIAN_FRONTEND
    log=$(mktemp)
    # shellcheck disable=SC2086 # package names are words
    if ! apt-get install -y -q --no-install-recommends $missing >"$log" 2>&1; then
        if ! { apt-get update -q && apt-get install -y -q --no-install-recommends $missing; } >"$log" 2>&1; then
            tail -n 20 "$log" >&2
            rm -f "$log"
            echo "setup: apt could not install: $missing (its last words are above)" >&2
            exit 1
        fi
    fi
    rm -f "$log"
}

if [ -n "$missing" ]; then
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null 2>&1; then
        echo "setup: missing Debian packages (or what they are called on this system): $missing" >&2
        exit 1
    fi
    echo "setup: installing Debian packages: $missing"
    install_packages
fi

# --- Virtual environment ---

# Two runs at the same time would tear each other's environment apart; the second one waits here.
if [ -z "${MESHD_SETUP_LOCKED:-}" ] && command -v flock >/dev/null 2>&1; then
    MESHD_SETUP_LOCKED=1
    export MESHD_SETUP_LOCKED
    exec flock .setup.lock "$0" "$purpose"
fi

# What the environment is made from: lock file, project (its console scripts), interpreter, and where it stands, since
# the scripts in it name that place.
wanted=$("$python" - <<'PYTHON'
import hashlib, pathlib, sys
digest = hashlib.sha256(f"{sys.version} {sys.prefix} {pathlib.Path.cwd()}".encode())
for name in ("requirements-dev.txt", "pyproject.toml", "tools/setup.sh"):
    digest.update(pathlib.Path(name).read_bytes())
print(digest.hexdigest())
PYTHON
)
pip() {
    .venv/bin/python -m pip --quiet --no-input --disable-pip-version-check "$@"
}
if [ "$(cat .venv/stamp 2>/dev/null)" != "$wanted" ] || ! .venv/bin/python -c 'import meshd' 2>/dev/null; then
    echo "setup: making the virtual environment in .venv (about a minute)"
    rm -rf .venv
    "$python" -m venv .venv
    pip install --require-hashes -r requirements-dev.txt
    # By path, never by name: a stranger's package is called the same.
    pip install --no-deps --no-build-isolation --no-index -e .
    echo "$wanted" >.venv/stamp.new
    mv .venv/stamp.new .venv/stamp
fi

# --- The fuzzer, on top; its lock file pins what both need to the same versions ---

if [ "$purpose" = fuzz ] && ! cmp -s requirements-fuzz.txt .venv/requirements-fuzz.txt; then
    pip install --require-hashes -r requirements-fuzz.txt
    cp requirements-fuzz.txt .venv/requirements-fuzz.txt
fi
