#!/usr/bin/env bash
# Makes the project's .venv, with the pinned requirements and the project itself (editable), or leaves it
# alone when it is current: same interpreter, same pins, same place.
#
# PYTHON chooses the interpreter; without it the first fitting one of python3, python3.13, python3.12, python3.11.
set -euo pipefail
cd "$(dirname "$0")/.."
export PIP_DISABLE_PIP_VERSION_CHECK=1

fits() {
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null
}

# Prints the interpreter called $1. pyenv's stand-ins refuse to run a version that is installed but not active.
interpreter() {
    if fits "$1"; then
        # Not the name it was called by: that may lie in the .venv which is about to be replaced.
        "$1" -c 'import os, sys; print(os.path.realpath(sys.executable))'
    elif command -v pyenv >/dev/null; then
        local version
        version=$(pyenv whence "$1" 2>/dev/null | tail -n 1)
        [ -n "$version" ] && fits "$(pyenv prefix "$version")/bin/$1" && echo "$(pyenv prefix "$version")/bin/$1"
    else
        return 1
    fi
}

find_python() {
    local name
    for name in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
        interpreter "$name" && return
    done
    if [ -n "${PYTHON:-}" ]; then
        echo "PYTHON=$PYTHON is not a Python from 3.11 to 3.13 that runs here." >&2
    else
        echo "No Python from 3.11 to 3.13 found. Install one, or name it: make PYTHON=/path/to/python3.11" >&2
    fi
    return 1
}

# Debian and its kin ship python3 without what `python3 -m venv` needs.
ensure_venv_module() {
    "$python" -c 'import ensurepip, venv' 2>/dev/null && return
    local package as_root=()
    package=$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
    if ! command -v apt-get >/dev/null; then
        echo "$python cannot make virtual environments (no ensurepip). Install its venv module and try again." >&2
        return 1
    fi
    if [ "$(id -u)" -ne 0 ]; then
        if ! command -v sudo >/dev/null; then
            echo "$python cannot make virtual environments. As root: apt-get install $package" >&2
            return 1
        fi
        as_root=(sudo)
    fi
    echo "== installing $package, which $python needs to make virtual environments"
    "${as_root[@]}" apt-get update -qq
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$package"
}

python=$(find_python)
wanted=$(
    pwd
    "$python" -c 'import sys; print(sys.executable, sys.version)'
    sha256sum requirements/lock.txt pyproject.toml src/lrs_trio/__init__.py bin/lrsd-phobos
)
current() { [ -x .venv/bin/python ] && [ "$wanted" = "$(cat .venv/made-from 2>/dev/null)" ]; }

# One at a time: a second `make` waits here and then finds the environment made.
exec 9<requirements/venv.sh
flock 9
current && exit

ensure_venv_module
echo "== making .venv with $("$python" --version) ($python)"
rm -rf .venv
"$python" -m venv .venv
.venv/bin/python -m pip install -q --require-hashes -r requirements/lock.txt
.venv/bin/python -m pip install -q --no-deps --no-build-isolation --editable .
printf '%s\n' "$wanted" >.venv/made-from
