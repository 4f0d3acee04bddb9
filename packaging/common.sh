# What the scripts of this directory have in common; they run at the project's root.
# shellcheck shell=bash

die() {
    echo "error: $*" >&2
    exit 1
}

step() { printf '\n== %s\n' "$*"; }

# The version of the workspace.
version() { sed -n '/^\[workspace.package\]/,/^$/s/^version = "\(.*\)"$/\1/p' Cargo.toml; }

# The time that everything is dated: of the commit, unless who builds says another.
if [ -z "${SOURCE_DATE_EPOCH:-}" ]; then
    SOURCE_DATE_EPOCH="$(git log -1 --format=%ct)"
fi
export SOURCE_DATE_EPOCH

# Writes DIRECTORY/SHA256SUMS over every file below it, and a signature over
# that if there is a key.
checksums() {
    local sums="$1/SHA256SUMS" shown
    shown="$(basename "$1")/SHA256SUMS"
    rm -f "$sums" "$sums.sig"
    (cd "$1" && find . -type f ! -path './.work/*' ! -name 'SHA256SUMS*' -printf '%P\0' \
        | LC_ALL=C sort -z | xargs -0 sha256sum) > "$sums.new"
    mv "$sums.new" "$sums"
    if [ -z "${RUNPACK_RELEASE_KEY:-}" ]; then
        echo "not signed: $shown (\$RUNPACK_RELEASE_KEY names no key)"
        return
    fi
    local pass=() public
    if [ -n "${RUNPACK_RELEASE_PASSPHRASE_FILE:-}" ]; then
        pass=(-passin "file:$RUNPACK_RELEASE_PASSPHRASE_FILE")
    fi
    public="$(mktemp)"
    openssl pkey -in "$RUNPACK_RELEASE_KEY" "${pass[@]}" -pubout -out "$public"
    if ! openssl pkey -pubin -in "$public" -noout -text | grep -qi '^ED25519'; then
        rm -f "$public"
        die "\`$RUNPACK_RELEASE_KEY\` is no Ed25519 key"
    fi
    openssl pkeyutl -sign -rawin -inkey "$RUNPACK_RELEASE_KEY" "${pass[@]}" -in "$sums" -out "$sums.sig"
    openssl pkeyutl -verify -rawin -pubin -inkey "$public" -in "$sums" -sigfile "$sums.sig" > /dev/null
    echo "signed: $shown by the key $(openssl pkey -pubin -in "$public" -outform DER | sha256sum | cut -d ' ' -f 1)"
    rm -f "$public"
}

# Sets `alone` to what runs a command without a network, if this system lets us:
# root's way, or a user's; to nothing if it does not.
without_network() {
    local way
    alone=()
    for way in "unshare --net" "unshare --map-root-user --net"; do
        if $way true 2> /dev/null; then
            # shellcheck disable=SC2034 # the caller uses it
            read -ra alone <<< "$way"
            return
        fi
    done
}
