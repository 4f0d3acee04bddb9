#!/usr/bin/env bash
# What an auditor without a network needs, as one tar that has the same bytes
# wherever it is made, from what `just dist` has built: packaging/bundle.sh [DIRECTORY]
set -euo pipefail
umask 022
cd "$(dirname "$0")/.."
# shellcheck source=packaging/common.sh
. packaging/common.sh

dist="$PWD/target/dist"
[ -x "$dist/runpack-airgapped" ] || die "there is no target/dist/runpack-airgapped: \`just dist\` makes it"

out="${1:-$dist}"

step "offline bundle"
name="runpack-airgapped-$(version)-$(uname -m)"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
to="$work/$name"
mkdir -p "$to/man/man1" "$to/examples"
install -m 755 "$dist/runpack-airgapped" "$to/runpack"
install -m 644 "$dist/runpack-airgapped.cdx.json" "$to/runpack.cdx.json"
install -m 644 "$dist/BUILD.txt" "$dist/THIRD-PARTY.txt" LICENSE CHANGELOG.md SECURITY.md testdata/reference/verify_pack.py "$to"
install -m 644 packaging/bundle-README.md "$to/README.md"
"$dist/runpack-airgapped" generate man "$to/man/man1"
# What is kept in git, and nothing that lies about.
git ls-files -z docs schemas | xargs -0 cp --parents -t "$to"
cp -r testdata/packs/good/release-gate "$to/examples/good"
cp -r "$to/examples/good" "$to/examples/forged"
sed -i 's/"hold"/"HOLD"/' "$to/examples/forged/artifacts/decisions.json"
checksums "$to"
rm -f "$out"/runpack-airgapped-*.tar
tar --create --file "$out/$name.tar" --directory "$work" --format ustar --sort name --mtime @0 \
    --owner 0 --group 0 --numeric-owner --mode u=rwX,go=rX "$name"
echo "$name.tar: $(tar --list --file "$out/$name.tar" | wc -l) entries"
