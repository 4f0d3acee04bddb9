#!/usr/bin/env bash
# Installs target/dist/runpack_*.deb on this machine, uses it, and removes it:
# for a machine that may be changed, such as one of CI. Needs root.
#
# Where systemd is not running, the unit's own ExecStart is run by hand, as its
# user, on a file system that can only be written to where the unit says, and
# what it asks of the kernel is compared with what the unit would let through.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=packaging/common.sh
. packaging/common.sh

[ "$(id -u)" = 0 ] || die "installing a package needs root"
unit=/lib/systemd/system/runpackd.service
said() { sed -n "s/^$1=//p" "$unit"; }

if [ "${1:-}" = inside ]; then
    work="$2"
    ip link set lo up
    for directory in "/var/lib/$(said StateDirectory)" "/var/log/$(said LogsDirectory)" "$work"; do
        mount --bind "$directory" "$directory"
    done
    mount -o remount,bind,ro /
    read -ra command <<< "$(said ExecStart)"
    umask "$(said UMask)"
    ulimit -c "$(said LimitCORE)"
    cd "$(said WorkingDirectory)"
    env -i setpriv --reuid "$(said User)" --regid "$(said Group)" --clear-groups --no-new-privs --bounding-set=-all \
        --inh-caps=-all strace -f -qq -o "$work/trace" "${command[@]}" 2> "$work/talk" &
    cd "$OLDPWD"
    for _ in $(seq 200); do if grep -qs "listening on" "$work/talk"; then break; fi; sleep 0.1; done
    grep 'listening on' "$work/talk" || { cat "$work/talk"; exit 1; }
    server="$(pgrep -u "$(said User)" -x runpackd)"
    packaging/a-run.sh /var/lib/runpack/packs/run-1 /usr/bin/runpackd call --token-file /etc/runpack/token
    if /usr/bin/runpackd tools 2> "$work/refused"; then die "it answers without the token"; fi
    cat "$work/refused"
    kill -HUP "$server"
    for _ in $(seq 50); do if grep -q 'read again' "$work/talk"; then break; fi; sleep 0.1; done
    grep 'read again' "$work/talk"
    kill -TERM "$server"
    wait "$!"
    echo "exit code 0"
    exit
fi

deb="$(echo target/dist/runpack_*.deb)"
[ -e "$deb" ] || die "there is no Debian package in target/dist: \`just dist\` makes it"
work="$(mktemp -d)"
chmod 755 "$work"
trap 'rm -rf "$work"' EXIT

step "lintian"
if command -v lintian > /dev/null; then
    lintian --allow-root --fail-on error,warning "$deb"
    echo "no error and no warning"
else
    echo "lintian is not installed: the package was not looked at"
fi

step "install"
dpkg -i "$deb"
dpkg --listfiles runpack | grep -v '/man1/.*-' | xargs -d '\n' -I{} sh -c 'test -d "{}" || ls -l "{}"'
ls -ld /etc/runpack/token /var/lib/runpack /var/log/runpack
runpack --version
runpackd --version
man --where runpackd-serve runpack-verify
runuser -u runpack -- runpackd config validate --config /etc/runpack/runpackd.toml
runpack verify testdata/packs/good/release-gate

step "the unit"
systemd-analyze verify "$unit"
echo "systemd-analyze verify: nothing to say"
systemd-analyze security --offline=true "$unit" | tail -n 1

step "$(said ExecStart)"
chmod 777 "$work"
unshare --mount --net --pid --fork --mount-proc "$0" inside "$work"
chmod 755 "$work"
ls -ln /var/lib/runpack /var/log/runpack
runpack verify /var/lib/runpack/packs/run-1

step "what it asked of the kernel, and what the unit lets through"
python3 packaging/check-trace.py "$unit" "$work/trace"

step "completions"
bash --noprofile --norc -c '
    . /usr/share/bash-completion/bash_completion
    _completion_loader runpackd
    COMP_WORDS=(runpackd ser) COMP_CWORD=1 COMP_LINE="runpackd ser" COMP_POINT=12
    _runpackd runpackd ser runpackd
    echo "bash: runpackd ser -> ${COMPREPLY[*]}"
    [ "${COMPREPLY[*]}" = serve ]'
# One is asked for each shell, by the means of that shell.
offers() {
    local wanted="$1" said
    shift
    if ! command -v "$1" > /dev/null; then
        echo "$1 is not installed: not tried"
        return
    fi
    said="$(HOME="$work" TERM=dumb "$@")"
    echo "$1: $said"
    [[ "$said" == *"$wanted"* ]] || die "$1 does not offer \`$wanted\`"
}
offers serve fish -c 'complete -C "runpackd ser"'
offers 'runpackd serve' zsh -f packaging/complete.zsh 'runpackd ser'
offers 'runpack verify' zsh -f packaging/complete.zsh 'runpack ver'

step "remove, then purge"
dpkg -r runpack
[ ! -e /usr/bin/runpackd ] || die "a binary is left"
ls -l /etc/runpack
dpkg -P runpack
[ ! -e /etc/runpack ] || die "/etc/runpack is left"
ls -d /var/lib/runpack /var/log/runpack
# What this check made.
rm -r /var/lib/runpack /var/log/runpack
deluser --quiet runpack 2> /dev/null
