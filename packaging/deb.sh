#!/usr/bin/env bash
# The Debian package, from what `just dist` has built: target/dist/runpack_*.deb
set -euo pipefail
umask 022
cd "$(dirname "$0")/.."
# shellcheck source=packaging/common.sh
. packaging/common.sh

dist="$PWD/target/dist"
for name in runpack runpackd; do
    [ -x "$dist/$name" ] || die "there is no target/dist/$name: \`just dist\` makes it"
done
PATH="$(packaging/tools.sh cargo-deb):$PATH"

step "Debian package"
mkdir -p "$dist/.work"
cat > "$dist/.work/changelog" << END
runpack ($(version)-1) unstable; urgency=medium

  * The package that the project itself makes. What changed in the programs is
    in CHANGELOG.md.

 -- Runpack maintainers <maintainers@runpack.invalid>  $(date -u -R -d "@$SOURCE_DATE_EPOCH")
END
rm -f "$dist"/*.deb
cargo deb --quiet --locked --no-build --no-strip --package runpack-daemon --output "$dist/"
