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
    cargo bench --locked -p runpack-cli --bench verify
    cargo bench --locked -p runpack-daemon --bench held

# The first look
demo:
    cargo run --locked --bin runpackd -- demo

# What takes too long for every change: kill -9 in 200 exports on a release build and in 100 pushes, 10,000 honest packs, fuzzing
nightly:
    RUNPACK_KILL_ROUNDS=200 cargo test --locked --release -p runpack-daemon --test kill -- --nocapture
    RUNPACK_KILL_ROUNDS=100 cargo test --locked -p runpack-cli --test cut_off -- --nocapture
    RUNPACK_DEEP=1 cargo test --locked -p runpack-core --test honest -- --nocapture
    just fuzz 300

# Each fuzz target for so many seconds, from the kept corpus. What is found stays below target/fuzz: keep what it teaches in testdata/fuzz
fuzz SECONDS='1200':
    #!/usr/bin/env bash
    # No sanitizer: we have no `unsafe`, and broken promises are found twice as fast.
    set -euo pipefail
    cargo fuzz --version || cargo install cargo-fuzz --locked
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
