#!/usr/bin/env bash
# The conformance suites of the Model Context Protocol, two versions of them,
# against the service and against the suite's own fixtures behind the same door,
# without sessions and with. Installs what it needs below target/conformance.
#
# A line a step: what counts, of what. Whatever fails and is not in the baseline
# beside this file, or is there and passes, fails the step. What the suites say
# is kept in target/conformance/results.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
root="$(cd "$here/../../.." && pwd)"
built="$(cd "${1:-$root/target/debug}" && pwd)"
at="$root/target/conformance"
results="$at/results"
node_version=22.23.3
old=0.1.16 new=0.2.0-alpha.12

command -v npm > /dev/null || { echo "npm is not here: the conformance suites come from its registry"; exit 1; }
mkdir -p "$at"
# The suites do not start on older versions of node than 22.
runtime="$(node -p 'process.platform + "-" + process.arch')"
node="$at/node/node_modules/node-$runtime/bin/node"
[ "$("$node" --version 2> /dev/null)" = "v$node_version" ] ||
    npm install --prefix "$at/node" --silent --no-audit --no-fund --ignore-scripts "node-$runtime@$node_version"
if ! cmp --silent "$here/package.json" "$at/package.json" || [ ! -d "$at/node_modules/conformance-$new" ]; then
    cp "$here/package.json" "$at"
    npm install --prefix "$at" --silent --no-audit --no-fund --ignore-scripts
fi

rm -rf "$results"
mkdir -p "$results"
work="$(mktemp -d)"
pids=()
trap '[ ${#pids[@]} = 0 ] || kill "${pids[@]}" 2> /dev/null || true; rm -rf "$work"' EXIT

# begin NAME COMMAND...: a server in a directory of its own. Leaves its address in `url`.
begin() {
    local name="$1"
    shift
    mkdir -p "$work/$name"
    (cd "$work/$name" && exec "$@" 2> talk.log) &
    pids+=($!)
    for _ in $(seq 100); do if grep -q 'listening on ' "$work/$name/talk.log"; then break; fi; sleep 0.1; done
    url="$(sed -n 's/.*listening on //p' "$work/$name/talk.log")/mcp"
    if [ "$url" = /mcp ]; then cat "$work/$name/talk.log"; exit 1; fi
}

failed=0
# step NAME SUITE REVISION BASELINE: a run of a suite against `url`.
step() {
    local name="$1" suite="$at/node_modules/conformance-$2/dist/index.js" revision="$3" baseline="$here/$4.yaml"
    local out="$results/$name" scored="$results/$name.scored" rc=0 score applies=()
    # The product's score is of what applies to it.
    [[ $4 != product-* ]] || applies=("$here/applies-$revision.txt")
    if [ "$2" = "$old" ]; then
        set -- --suite all
        "$node" "$suite" list --server | sed -n 's/^  - \([^ ]*\).*/\1/p' > "$scored"
    else
        set -- --requirements "$revision"
        "$node" "$suite" list --requirements "$revision" |
            sed -n '/^Server/,/^$/s/^  - \([^ ]*\).*/\1/p' > "$scored"
    fi
    HOME="$work" timeout 600 "$node" "$suite" server --url "$url" "$@" --expected-failures "$baseline" -o "$out" \
        > "$out.log" 2>&1 || rc=$?
    score="$("$node" "$here/score.mjs" "$out" "$baseline" "$scored" "${applies[@]}" 2>&1)" || rc=1
    printf '%-44s %-4s %s\n' "$name" "$([ "$rc" = 0 ] && echo ok || echo FAIL)" "$score"
    [ "$rc" = 0 ] || failed=1
}

mkdir "$work/product"
"$built/runpackd" config show quickstart-dev | sed 's/127.0.0.1:4000/127.0.0.1:0/' > "$work/product/decision-gate.toml"
begin product "$built/runpackd" serve
step product-$old $old 2025-11-25 product-$old
step product-$new-2025-11-25 $new 2025-11-25 product-2025-11-25
step product-$new-2026-07-28 $new 2026-07-28 product-2026-07-28

begin fixture "$built/examples/conformance"
step fixture-$old $old 2025-11-25 fixture-$old
step fixture-$new-2025-11-25 $new 2025-11-25 fixture-2025-11-25
step fixture-$new-2026-07-28 $new 2026-07-28 none

begin fixture-sessions "$built/examples/conformance" --sessions
step fixture-sessions-$old $old 2025-11-25 none
step fixture-sessions-$new-2025-11-25 $new 2025-11-25 none
step fixture-sessions-$new-2026-07-28 $new 2026-07-28 none
exit $failed
