#!/usr/bin/env bash
# Everything that is handed out, in target/dist: packaging/dist.sh
#
# $RUNPACK_RELEASE_KEY names the key that signs the checksums, an Ed25519 key as
# `runpack keygen` makes it; $RUNPACK_RELEASE_PASSPHRASE_FILE the file whose
# first line decrypts it. Without a key the checksums stay unsigned.
set -euo pipefail
umask 022
cd "$(dirname "$0")/.."
# shellcheck source=packaging/common.sh
. packaging/common.sh

# Said now, not after half an hour of building.
if [ -n "${RUNPACK_RELEASE_KEY:-}" ] && [ ! -r "$RUNPACK_RELEASE_KEY" ]; then
    die "there is no key \`$RUNPACK_RELEASE_KEY\`"
fi
PATH="$(packaging/tools.sh cargo-auditable cargo-cyclonedx cargo-deb):$PATH"
dist="$PWD/target/dist"
rm -rf "$dist"
mkdir -p "$dist/.work" "$dist/man/man1"

step "binaries"
packaging/build.sh "$dist" runpack-airgapped runpack runpackd

step "what is in them"
cargo cyclonedx --quiet --format json --describe binaries --spec-version 1.5
mv cli/runpack_bin.cdx.json daemon/runpackd_bin.cdx.json "$dist/.work"
bill() { python3 packaging/sbom.py bill "$dist/$1" "$dist/.work/$2" "$dist/$1.cdx.json" "${@:3}"; }
bill runpack runpack_bin.cdx.json runpack-cli
bill runpack-airgapped runpack_bin.cdx.json runpack-cli --no-default-features
bill runpackd runpackd_bin.cdx.json runpack-daemon
for crate in hyper reqwest rustls ring tokio mio socket2; do
    if grep -q "\"name\": \"$crate\"" "$dist/runpack-airgapped.cdx.json"; then
        die "$crate is in the air-gapped runpack"
    fi
done

python3 packaging/sbom.py notices "$dist/THIRD-PARTY.txt" runpack-cli runpack-daemon

step "manual pages and completions"
for name in runpack runpackd; do
    "$dist/$name" generate man "$dist/man/man1"
    for shell in bash zsh fish; do
        case "$shell" in
        bash) file="bash/$name" ;;
        zsh) file="zsh/_$name" ;;
        fish) file="fish/$name.fish" ;;
        esac
        mkdir -p "$dist/completions/$shell"
        "$dist/$name" generate completions "$shell" > "$dist/completions/$file"
    done
done

step "with what they were built"
{
    echo "version            $(version)"
    echo "commit             $(git rev-parse HEAD)$(git diff --quiet HEAD || echo ', and changes that are not committed')"
    echo "SOURCE_DATE_EPOCH  $SOURCE_DATE_EPOCH"
    echo "cargo-auditable    $(cargo install --list --root target/tools | sed -n 's/^cargo-auditable v\(.*\):$/\1/p')"
    echo "compiler of C      $(cc --version | head -n 1)"
    echo "linker             $(ld --version | head -n 1)"
    rustc -vV
} | tee "$dist/BUILD.txt"

packaging/deb.sh
packaging/bundle.sh

step "checksums"
rm -rf "$dist/.work"
checksums "$dist"
