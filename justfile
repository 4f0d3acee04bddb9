# `just` lists the recipes. `just check` is the inner loop; `.ci/run` is what lands.

_default:
    @just --list

# Format, lint and test what is quick: the inner loop, under a minute when warm
check:
    cargo fmt --all --check
    cargo clippy --locked --workspace --all-targets -- -D warnings
    cargo test --locked --workspace --quiet

# All tests
test:
    cargo test --locked --workspace

# Write down again what tests compare with; read the difference before you commit it
bless:
    RUNPACK_BLESS=1 cargo test --locked --workspace

# Ratios against a peer or the limit, in one run
bench:
    cargo build --locked --release --bin runpackd
    cargo bench --locked -p runpack-core --bench canonical
    cargo bench --locked -p runpack-keys --bench signatures
    cargo bench --locked -p runpack-cli --bench verify
    cargo bench --locked -p runpack-daemon --bench held
    cargo bench --locked -p runpack-storage --features sqlite --bench runs

# The first look
demo:
    cargo run --locked --bin runpackd -- demo

# A server on its quickstart config, and a run through it: define, start, next, export, verify, precheck
quickstart:
    #!/usr/bin/env bash
    set -euo pipefail
    cargo build --locked --bin runpackd --bin runpack
    bin="$PWD/${CARGO_TARGET_DIR:-target}/debug" bodies="$PWD/testdata/quickstart"
    work="$(mktemp -d)"
    cd "$work"
    "$bin/runpackd" serve --preset quickstart-dev 2> talk &
    trap 'kill $! 2>/dev/null || true; rm -rf "$work"' EXIT
    for _ in $(seq 100); do if grep -q '^listening' talk; then break; fi; sleep 0.1; done
    grep '^listening' talk || { cat talk; exit 1; }
    for body in "$bodies"/*.json; do
        tool="$(basename "$body" .json)"
        printf '\n== %s\n' "${tool#*-}"
        "$bin/runpackd" call "${tool#*-}" --input "$body"
    done
    printf '\n== the pack, checked without the server\n'
    "$bin/runpack" verify runpacks/run-1

# The official clients of the Model Context Protocol against the server, over HTTP and pipes
clients:
    cargo build --locked --bin runpackd
    testdata/clients/run.sh "${CARGO_TARGET_DIR:-target}/debug/runpackd"

# The conformance suites of the Model Context Protocol, against the server, and against their own fixtures behind its door
conformance:
    cargo build --locked -p runpack-daemon --bin runpackd --example conformance
    testdata/clients/conformance/run.sh "${CARGO_TARGET_DIR:-target}/debug"

# Attestations beside the Python libraries of in-toto, from PyPI
in-toto:
    #!/usr/bin/env bash
    set -euo pipefail
    packaging/venv.sh "$PWD/target/in-toto" 'securesystemslib[crypto]==1.6.0' in-toto==3.1.0 in-toto-attestation==0.9.3 > /dev/null
    RUNPACK_REQUIRE=in-toto cargo test --locked -p runpack-cli --test in_toto -- --nocapture

# Buckets on other people's servers: moto, azurite, and s3rver, which ignores conditional creates
servers:
    #!/usr/bin/env bash
    set -euo pipefail
    at="$PWD/target/servers"
    mkdir -p "$at"
    packaging/venv.sh "$at/venv" 'moto[server,s3]==5.2.5' > /dev/null
    if [ ! -d "$at/node_modules/azurite" ] || [ ! -d "$at/node_modules/s3rver" ]; then
        npm install --prefix "$at" --silent --no-audit --no-fund --ignore-scripts azurite@3.35.0 s3rver@3.7.1
    fi
    data="$(mktemp -d)"
    pids=()
    trap 'kill "${pids[@]}" 2>/dev/null || true; rm -rf "$data"' EXIT
    free() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
    moto="$(free)" azurite="$(free)" s3rver="$(free)"
    # Four calls are free: a user, its key, its policy and the bucket. Then signatures are checked.
    INITIAL_NO_AUTH_ACTION_COUNT=4 "$at/venv/bin/moto_server" -H 127.0.0.1 -p "$moto" > "$data/moto.log" 2>&1 &
    pids+=($!)
    # Without --disableTelemetry it tries to reach a host outside.
    node "$at/node_modules/.bin/azurite-blob" --blobHost 127.0.0.1 --blobPort "$azurite" -l "$data/azurite" \
        --skipApiVersionCheck --disableTelemetry -s > "$data/azurite.log" 2>&1 &
    pids+=($!)
    mkdir "$data/s3rver"
    node "$at/node_modules/.bin/s3rver" -a 127.0.0.1 -p "$s3rver" -d "$data/s3rver" --configure-bucket packs \
        > "$data/s3rver.log" 2>&1 &
    pids+=($!)
    keys="$("$at/venv/bin/python" testdata/servers.py "$moto" "$azurite" "$s3rver")"
    export AZURITE_BLOB_STORAGE_URL="http://127.0.0.1:$azurite" RUNPACK_REQUIRE=servers
    export RUNPACK_SERVERS="moto=http://127.0.0.1:$moto $keys,azurite=$AZURITE_BLOB_STORAGE_URL,s3rver=http://127.0.0.1:$s3rver S3RVER S3RVER"
    cargo test --locked -p runpack-cli --test servers -- --nocapture

# Every command the documents show is run, every link followed
docs-test:
    cargo build --locked --bin runpack
    cargo test --locked -p runpack-daemon --test documents
    cargo test --locked -p runpack-cli --test links --test schemas --test words
    cargo test --locked -p runpack-cli --test buckets documents

# The documents as a book in target/book, made by mdbook
book:
    #!/usr/bin/env bash
    set -euo pipefail
    PATH="$(packaging/tools.sh mdbook):$PATH" mdbook build

# Pages of `runpack report` in Chromium (Debian's package), driven by playwright-core; pictures with RUNPACK_BLESS=1
browser:
    #!/usr/bin/env bash
    set -euo pipefail
    if [ ! -d target/browser/node_modules/playwright-core ]; then
        mkdir -p target/browser
        npm install --prefix target/browser --silent --no-audit --no-fund --ignore-scripts playwright-core@1.64.1
    fi
    RUNPACK_REQUIRE=chromium cargo test --locked -p runpack-cli --test browser -- --nocapture

# Publishing to a bucket and verifying there, beside `aws s3 cp` and, if it is installed, `rclone copy`
bench-buckets *ARGS:
    #!/usr/bin/env bash
    set -euo pipefail
    at="$PWD/target/servers"
    mkdir -p "$at"
    packaging/venv.sh "$at/bench-venv" awscli==1.45.11 > /dev/null
    if [ ! -x "$at/build/release/s3s-fs" ]; then
        # The source that the tests use, with a patch that takes its own waits away.
        source="$(cargo metadata --locked --format-version 1 | python3 -c 'import json, os, sys; \
            print(*(os.path.dirname(p["manifest_path"]) for p in json.load(sys.stdin)["packages"] if p["name"] == "s3s-fs"))')"
        rm -rf "$at/s3s-fs" && cp -r "$source" "$at/s3s-fs" && chmod -R u+w "$at/s3s-fs"
        patch -d "$at/s3s-fs" -p1 < testdata/s3s-fs.patch
        cargo build --locked --release --features binary --manifest-path "$at/s3s-fs/Cargo.toml" --target-dir "$at/build"
    fi
    cargo build --locked --release --bin runpack
    # In memory: a disk that holds one tool up and not another would be measured instead of them.
    if [ -z "${TMPDIR:-}" ] && [ -d /dev/shm ]; then export TMPDIR=/dev/shm; fi
    rclone=()
    if command -v rclone > /dev/null; then rclone=(--rclone "$(command -v rclone)"); fi
    python3 testdata/bench_buckets.py --runpack "${CARGO_TARGET_DIR:-target}/release/runpack" \
        --server "$at/build/release/s3s-fs" --aws "$at/bench-venv/bin/aws" "${rclone[@]}" {{ ARGS }}

# Starting up, and starts and decisions of fresh runs by `wrk`, beside what plain HTTP costs
bench-server *ARGS:
    cargo build --locked --release --bin runpackd
    python3 testdata/bench_server.py --runpackd "${CARGO_TARGET_DIR:-target}/release/runpackd" {{ ARGS }}

# What takes too long for every change: kill -9 in 1,000 exports on a release build, in 100 pushes, of 100 bucket servers and in 1,000 rounds of our own, half an hour of work under everything clients do, a run of 1,000,000 triggers, 100,000 losses of power, 10,000 honest packs, the other servers of buckets, conformance suites, pages in a browser, licences and spelling, fuzzing
nightly:
    #!/usr/bin/env bash
    set -euo pipefail
    # Built once, before anything runs: the servers that the soak starts are files.
    cargo test --locked --release --no-run -p runpack-daemon --test kill --test killed_store --test soak --test million
    # Half an hour at a pace of its own; the rest goes on beside it.
    mkdir -p target/nightly
    RUNPACK_SOAK_SECONDS=1800 cargo test --locked --release -p runpack-daemon --test soak -- --nocapture > target/nightly/soak.log 2>&1 &
    soak=$!
    trap 'kill $soak 2>/dev/null || true' EXIT
    RUNPACK_KILL_ROUNDS=1000 cargo test --locked --release -p runpack-daemon --test kill -- --nocapture
    RUNPACK_KILL_ROUNDS=1000 cargo test --locked --release -p runpack-daemon --test killed_store -- --nocapture
    RUNPACK_REQUIRE=strace RUNPACK_POWER_ROUNDS=100000 cargo test --locked --release -p runpack-storage --features sqlite --test power -- --nocapture
    RUNPACK_DEEP=1 cargo test --locked --release -p runpack-daemon --test million -- --nocapture
    RUNPACK_KILL_ROUNDS=100 cargo test --locked -p runpack-cli --test cut_off -- --nocapture
    RUNPACK_DEEP=1 cargo test --locked --release -p runpack-cli --test memory -- --nocapture
    RUNPACK_DEEP=1 cargo test --locked -p runpack-core --test honest -- --nocapture
    status=0
    wait $soak || status=$?
    trap - EXIT
    cat target/nightly/soak.log
    if [ $status != 0 ]; then exit $status; fi
    just servers
    just conformance
    just browser
    just quality
    just fuzz 300

# Each fuzz target for so many seconds, from the kept corpus. What is found stays below target/fuzz: keep what it teaches in testdata/fuzz
fuzz SECONDS='1200':
    #!/usr/bin/env bash
    # No sanitizer: we have no `unsafe`, and broken promises are found twice as fast.
    set -euo pipefail
    PATH="$(packaging/tools.sh cargo-fuzz):$PATH"
    found="$PWD/target/fuzz"
    failed=0
    for target in reader canonical manifest pack; do
        mkdir -p "$found/$target/corpus" "$found/$target/crashes"
        cargo +nightly fuzz run --sanitizer none --target-dir "$found/build" "$target" \
            "$found/$target/corpus" "$PWD/testdata/fuzz/$target" -- -max_total_time={{ SECONDS }} -timeout=10 \
            -rss_limit_mb=2048 -dict="$PWD/fuzz/json.dict" -artifact_prefix="$found/$target/crashes/" \
            -print_final_stats=1 || failed=1
    done
    exit $failed

# The tests that are about what decides and what verifies, for `mutants` and `coverage`.
judging := "--no-default-features --package=runpack-cli --lib --test=bad_packs --test=canonical --test=corpus --test=decisions --test=every_byte --test=honest --test=neighbours --test=signatures --test=strict_reader"

# A share of all mutations of what decides and what verifies, such as 3/24: an hour for each share. What no test notices is in target/mutants.out/missed.txt
mutants SHARE='0/24':
    PATH="$(packaging/tools.sh cargo-mutants):$PATH" nice cargo mutants --shard {{ SHARE }} --timeout 300 --build-timeout 300 -o target \
        $(printf -- ' --cargo-arg=%s' --locked {{ judging }})

# Lines of the same that tests reach, in target/coverage
coverage:
    PATH="$(packaging/tools.sh cargo-tarpaulin):$PATH" cargo tarpaulin --locked --engine llvm --skip-clean --out stdout --out json \
        --output-dir target/coverage --target-dir target/coverage/build --package=runpack-core {{ judging }} \
        --include-files 'crates/core/src/canon/*' --include-files 'crates/core/src/engine/*' \
        --include-files 'crates/core/src/pack/verify/*'

# Everything that is handed out, in target/dist: binaries, their bills of materials, pages, Debian package, offline bundle, checksums, signed by $RUNPACK_RELEASE_KEY
dist:
    packaging/dist.sh

# The Debian package again, from the binaries of `just dist`
deb:
    packaging/deb.sh

# The offline bundle again, from the binaries of `just dist`
bundle:
    packaging/bundle.sh

# What `just dist` made, installed and used: changes this machine, needs root
dist-check:
    packaging/check-bundle.sh
    packaging/check-deb.sh
    packaging/check-container.sh

# Whether two builds in two places, without a network, have the same bytes
reproduce *NAMES:
    packaging/reproduce.sh {{ NAMES }}

# Licences, sources and bans of dependencies, dependencies nobody uses, spelling
quality:
    packaging/quality.sh
