#!/usr/bin/env bash
# Makes an environment of Python packages unless there is one with just these:
# packaging/venv.sh DIRECTORY PACKAGE==VERSION... Says where its programs are.
set -euo pipefail

at="$1"
shift
if [ "$(cat "$at/packages" 2> /dev/null)" != "$*" ]; then
    rm -rf "$at"
    python3 -m venv "$at"
    "$at/bin/pip" install --quiet "$@" >&2
    echo "$*" > "$at/packages"
fi
echo "$at/bin"
