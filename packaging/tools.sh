#!/usr/bin/env bash
# Installs the tools that are named, in the versions that are known to work,
# below target/tools unless they are there: packaging/tools.sh cargo-deb ...
set -euo pipefail
cd "$(dirname "$0")/.."

declare -A versions=(
    [cargo-auditable]=0.7.7
    [cargo-cyclonedx]=0.5.9
    [cargo-deb]=3.8.0
    [cargo-deny]=0.20.2
    [cargo-fuzz]=0.13.2
    [cargo-machete]=0.9.2
    [cargo-mutants]=27.1.0
    [cargo-tarpaulin]=0.37.5
    [mdbook]=0.5.4
    [typos-cli]=1.52.0
)
at="$PWD/target/tools"
for tool in "$@"; do
    wanted="$tool v${versions[$tool]}"
    if ! cargo install --list --root "$at" 2>/dev/null | grep -qF "$wanted:"; then
        echo "installing $wanted" >&2
        cargo install --locked --root "$at" --target-dir "$at/build" "$tool@${versions[$tool]}" >&2
    fi
done
echo "$at/bin"
