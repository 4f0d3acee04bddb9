#!/usr/bin/env bash
# Whether the same sources give the same binaries: packaging/reproduce.sh [NAME...]
#
# Two copies of what is in git, in directories of different length, with their
# dependencies beside them (`cargo vendor`), are built one after the other
# without a network and with nothing of this user's cargo, and compared; with
# target/dist, too, if that was built from the same commit. A NAME is that of a
# binary (packaging/build.sh) [default: runpack-airgapped and runpackd].
set -euo pipefail
umask 022
cd "$(dirname "$0")/.."
# shellcheck source=packaging/common.sh
. packaging/common.sh

if [ $# = 0 ]; then set -- runpack-airgapped runpackd; fi
tools="$(packaging/tools.sh cargo-auditable)"
work="$PWD/target/reproduce"
rm -rf "$work"
mkdir -p "$work"

step "vendored sources"
cargo vendor --locked --quiet --versioned-dirs "$work/vendor"
cat > "$work/config.toml" << END
[source.crates-io]
replace-with = "vendored-sources"
[source.vendored-sources]
directory = "vendor"
END
du -sh "$work/vendor"

without_network
if [ ${#alone[@]} = 0 ]; then echo "no network namespace is permitted here: cargo is only told to stay offline"; fi

binaries=("$@")
built() {
    local at="$1"
    mkdir -p "$at/.cargo" "$at/home"
    git ls-files -z | xargs -0 cp --parents -t "$at"
    cp -al "$work/vendor" "$at/vendor"
    cp "$work/config.toml" "$at/.cargo/config.toml"
    # The tools too, since cargo looks at where they are.
    mkdir "$at/tools"
    cp "$tools/cargo-auditable" "$at/tools"
    step "${alone[*]} packaging/build.sh, in ${at#"$PWD/"}"
    env PATH="$at/tools:$PATH" CARGO_HOME="$at/home" CARGO_TARGET_DIR="$at/target" CARGO_NET_OFFLINE=true \
        BUILD_ARGS=--frozen "${alone[@]}" "$at/packaging/build.sh" "$at/out" "${binaries[@]}"
    rm -rf "$at/target"
}
built "$work/one"
built "$work/another/place"

step "compared"
status=0
for name in "$@"; do
    one="$(sha256sum < "$work/one/out/$name")" other="$(sha256sum < "$work/another/place/out/$name")"
    if [ "$one" = "$other" ]; then
        echo "$name: identical, ${one%% *}"
    else
        echo "$name: different, ${one%% *} and ${other%% *}"
        status=1
    fi
    if [ -e "target/dist/$name" ] && grep -qx "commit  *$(git rev-parse HEAD)" target/dist/BUILD.txt 2> /dev/null; then
        if cmp --silent "$work/one/out/$name" "target/dist/$name"; then
            echo "$name: identical with target/dist/$name"
        else
            echo "$name: different from target/dist/$name"
            status=1
        fi
    fi
done
exit $status
