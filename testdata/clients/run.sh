#!/usr/bin/env bash
# The official clients of the Model Context Protocol against our server, over
# HTTP and over pipes, each on a store of its own. Installs them below
# target/clients. Without npm or Python it says so and passes, unless
# RUNPACK_REQUIRE names clients.
set -euo pipefail
root="$(cd "$(dirname "$0")/../.." && pwd)"
runpackd="${1:-$root/target/debug/runpackd}"
at="$root/target/clients"
mkdir -p "$at"

absent() {
    echo "absent: $1, so its client is not tried"
    case ",${RUNPACK_REQUIRE:-}," in *,clients,*) exit 1 ;; esac
}

work="$(mktemp -d)"
pid=
trap '[ -z "$pid" ] || kill "$pid" 2>/dev/null || true; rm -rf "$work"' EXIT

# A config in a directory of its own, so that every client begins anew.
fresh() {
    local dir
    dir="$(mktemp -d "$work/XXXXXX")"
    "$runpackd" config show quickstart-dev | sed 's/127.0.0.1:4000/127.0.0.1:0/' > "$dir/decision-gate.toml"
    echo "$dir"
}

# Over HTTP, and then over pipes: both run "$@" with the target added.
try() {
    local dir url
    dir="$(fresh)"
    (cd "$dir" && exec "$runpackd" serve 2> ./talk) &
    pid=$!
    for _ in $(seq 100); do if grep -q '^listening on ' "$dir/talk"; then break; fi; sleep 0.1; done
    url="$(sed -n 's/^listening on //p' "$dir/talk")/mcp"
    "$@" "$url" "$dir/pack"
    kill "$pid"
    # Told to stop it ends well, or it did not.
    wait "$pid"
    pid=
    dir="$(fresh)"
    (cd "$dir" && "$@" "$runpackd" "$dir/pack")
}

npm_packages() {
    command -v npm > /dev/null || return 1
    cp "$root/testdata/clients/package.json" "$root/testdata/clients/check.mjs" "$at"
    [ -d "$at/node_modules/@modelcontextprotocol/client" ] ||
        npm install --prefix "$at" --silent --no-audit --no-fund --ignore-scripts
}

python_packages() {
    command -v python3 > /dev/null || return 1
    "$at/venv/bin/python" -c 'import mcp, jsonschema' 2> /dev/null && return
    python3 -m venv "$at/venv" && "$at/venv/bin/pip" install --quiet 'mcp==2.3.0' 'jsonschema==4.25.1'
}

if npm_packages; then
    typescript() {
        local era="$1" target="$2" pack="$3"
        case "$target" in http*) set -- "$target" ;; *) set -- "$target" mcp ;; esac
        timeout 120 node "$at/check.mjs" "$root/testdata/quickstart" "$pack" "$era" "$@"
    }
    for era in old legacy modern; do try typescript "$era"; done
else
    absent "npm or its packages"
fi

if python_packages; then
    python() {
        local mode="$1" target="$2" pack="$3"
        case "$target" in http*) set -- "$target" ;; *) set -- "$target" mcp ;; esac
        timeout 120 "$at/venv/bin/python" "$root/testdata/clients/check.py" "$root/testdata/quickstart" "$pack" "$mode" "$@"
    }
    for mode in legacy auto 2026-07-28; do try python "$mode"; done
else
    absent "Python 3 or its packages"
fi
