#!/usr/bin/env bash
# Builds release binaries so that the same sources give the same bytes wherever
# they lie: packaging/build.sh DIRECTORY NAME...
#
# DIRECTORY is where the binaries go. A NAME is runpack, runpackd, or
# runpack-airgapped, which is runpack without any code that could reach a
# network. cargo-auditable puts the list of dependencies into each binary.
# $BUILD_ARGS is handed on to cargo, such as "--frozen".
set -euo pipefail
umask 022
cd "$(dirname "$0")/.."
# shellcheck source=packaging/common.sh
. packaging/common.sh

out="$1"
shift
mkdir -p "$out"
target="${CARGO_TARGET_DIR:-$PWD/target}"

# Paths end up in panic messages, so they are written as if everything lay at
# the same place. Of several prefixes that fit, the last one counts.
maps=("$PWD=/runpack" "$target=/runpack/target")
if [ -d vendor ]; then
    maps+=("$PWD/vendor=/cargo")
else
    # On a new machine there is no registry yet.
    cargo fetch --locked --quiet --target "$(rustc -vV | sed -n 's/^host: //p')"
    for registry in "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/; do
        maps+=("${registry%/}=/cargo")
    done
fi
commit="$(rustc -vV | sed -n 's/^commit-hash: //p')"
maps+=("$(rustc --print sysroot)/lib/rustlib/src/rust=/rustc/$commit")
flags=() c_flags=()
for map in "${maps[@]}"; do
    flags+=("--remap-path-prefix=$map")
    c_flags+=("-ffile-prefix-map=$map")
done
# A megabyte of relocations becomes 20 KB. Needs glibc 2.36, as everything built
# on Debian 12 does; the loader of an older one says so.
if [ "$(uname -s)" = Linux ]; then flags+=("-Clink-arg=-Wl,-z,pack-relative-relocs"); fi
CARGO_ENCODED_RUSTFLAGS="$(IFS=$'\x1f'; printf '%s' "${flags[*]}")"
export CARGO_ENCODED_RUSTFLAGS CFLAGS="${c_flags[*]}" LC_ALL=C TZ=UTC CARGO_INCREMENTAL=0
unset RUSTFLAGS RUSTC_WRAPPER

for name in "$@"; do
    case "$name" in
    runpack) package=runpack-cli bin=runpack features=() ;;
    runpackd) package=runpack-daemon bin=runpackd features=() ;;
    runpack-airgapped) package=runpack-cli bin=runpack features=(--no-default-features) ;;
    *) die "there is no binary \`$name\`" ;;
    esac
    # One after the other: built together they would share features, and each
    # would have what only another one needs.
    # shellcheck disable=SC2086 # several arguments
    cargo auditable build --locked --release ${BUILD_ARGS:-} --package "$package" --bin "$bin" "${features[@]}"
    install -m 755 "$target/release/$bin" "$out/$name"
    python3 packaging/sbom.py list "$out/$name" "$package" "${features[@]}"
done
