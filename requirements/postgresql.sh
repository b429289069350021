#!/usr/bin/env bash
# Sees to it that the programs of a PostgreSQL server are there, for the temporary servers of tests and benchmarks:
# installs Debian's package where they are missing, without the server that it would otherwise start.
set -euo pipefail

there() {
    local program
    for program in /usr/lib/postgresql/*/bin/postgres; do
        [ -x "$program" ] && return
    done
    command -v postgres >/dev/null && command -v initdb >/dev/null
}

there && exit

if ! command -v apt-get >/dev/null; then
    echo "No PostgreSQL server found. Install one, with postgres and initdb in PATH, and try again." >&2
    exit 1
fi
as_root=()
if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null; then
        echo "No PostgreSQL server found. As root: apt-get install postgresql" >&2
        exit 1
    fi
    as_root=(sudo)
fi
echo "== installing postgresql, for the temporary servers of tests and benchmarks"
# Debian's packages make and start a server of their own when they are installed, unless this says no.
settings=/etc/postgresql-common/createcluster.d
"${as_root[@]}" mkdir -p "$settings"
echo "create_main_cluster = false" | "${as_root[@]}" tee "$settings/lrs-trio.conf" >/dev/null
trap '"${as_root[@]}" rm -f "$settings/lrs-trio.conf"' EXIT
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends postgresql
there || { echo "The package postgresql has no server for this machine. Install one, with postgres in PATH." >&2; exit 1; }
