#!/usr/bin/env bash
# The offline bundle in target/dist, used as on a machine that has nothing: an
# empty directory, no program but those the README of the bundle names, no
# network. A good pack must pass and a forged one be refused, by both verifiers.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=packaging/common.sh
. packaging/common.sh

bundle="$(echo target/dist/runpack-airgapped-*.tar)"
[ -e "$bundle" ] || die "there is no offline bundle in target/dist: \`just dist\` makes it"
bundle="$PWD/$bundle"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

step "made again"
if tar --list --file "$bundle" | grep -q 'SHA256SUMS.sig$' && [ -z "${RUNPACK_RELEASE_KEY:-}" ]; then
    echo "it is signed, and \$RUNPACK_RELEASE_KEY names no key: not made again"
else
    mkdir "$work/again"
    packaging/bundle.sh "$work/again" > /dev/null
    cmp "$work/again/${bundle##*/}" "$bundle"
    echo "the same bytes, $(sha256sum < "$bundle" | cut -d ' ' -f 1)"
fi

step "unpacked in an empty directory, without a network"
mkdir "$work/bin" "$work/empty"
for program in sha256sum python3 openssl; do
    # What stands before programs to choose their version needs more than is here.
    ln -s "$(PATH=/usr/bin:/bin command -v "$program")" "$work/bin/$program"
done
tar --extract --file "$bundle" --directory "$work/empty"
cd "$work"/empty/*/
without_network
if [ ${#alone[@]} = 0 ]; then echo "no network namespace is permitted here: the network is there"; fi
# Expects an exit code, and says what was said.
expect() {
    local wanted="$1" code=0
    shift
    echo "$ $*"
    "${alone[@]}" env -i PATH="$work/bin" "$@" || code=$?
    [ "$code" = "$wanted" ] || die "exit code $code, not $wanted"
}
expect 0 sha256sum --check --quiet SHA256SUMS
if [ -e SHA256SUMS.sig ] && [ -n "${RUNPACK_RELEASE_PUBLIC:-}" ]; then
    expect 0 openssl pkeyutl -verify -rawin -pubin -inkey "$RUNPACK_RELEASE_PUBLIC" -in SHA256SUMS -sigfile SHA256SUMS.sig
else
    echo "the signature was not checked: there is none, or \$RUNPACK_RELEASE_PUBLIC names no key"
fi
expect 0 ./runpack verify examples/good
expect 0 python3 -B verify_pack.py examples/good
expect 1 ./runpack verify examples/forged
expect 1 python3 -B verify_pack.py examples/forged
echo changed >> docs/format.md
expect 1 sha256sum --check --quiet SHA256SUMS
