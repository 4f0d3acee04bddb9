#!/usr/bin/env bash
# A run through a server, from its definition to a pack: packaging/a-run.sh PACK COMMAND...
#
# COMMAND is `runpackd call` with what it needs to reach the server; it gets the
# name of a tool and `--input -`. PACK is where the server is to export to.
set -euo pipefail
cd "$(dirname "$0")/.."
pack="$1"
shift
for tool in 1-scenario_define 2-scenario_start 3-scenario_next 4-runpack_export 5-runpack_verify; do
    # Namespace 1 is closed in the configs for more than one person.
    answer="$(sed -e 's/"namespace_id": 1/"namespace_id": 2/' -e "s|runpacks/run-1|$pack|" \
        "testdata/quickstart/$tool.json" | "$@" "${tool#*-}" --input -)"
    printf '%-16s %.120s\n' "${tool#*-}" "$answer"
done
