#!/usr/bin/env python3
"""Compares what a program asked of the kernel with what its unit lets through.

    check-trace.py UNIT TRACE

TRACE is what `strace -f` wrote. Looked at: SystemCallFilter,
RestrictAddressFamilies and MemoryDenyWriteExecute.
"""

import re
import subprocess
import sys

# Let through whatever a filter says (systemd.exec(5)).
ALWAYS = {"execve", "exit", "exit_group", "getrlimit", "rt_sigreturn", "sigreturn", "time"}


def group(name):
    said = subprocess.run(["systemd-analyze", "syscall-filter", name], check=True, capture_output=True, text=True)
    calls = set()
    for line in said.stdout.splitlines()[1:]:
        word = line.strip()
        if word.startswith("@"):
            calls |= group(word)
        elif word and not word.startswith("#"):
            calls.add(word)
    return calls


def main(unit, trace):
    settings = {}
    with open(unit, encoding="utf-8") as file:
        for line in file:
            key, _, value = line.strip().partition("=")
            settings.setdefault(key, []).append(value)
    allowed = ALWAYS | group("@default")
    for words in settings["SystemCallFilter"]:
        takes = words.startswith("~")
        for word in words.removeprefix("~").split():
            calls = group(word) if word.startswith("@") else {word}
            allowed = allowed - calls if takes else allowed | calls
    families = set(settings["RestrictAddressFamilies"][0].split())
    with open(trace, encoding="utf-8", errors="replace") as file:
        lines = file.read().splitlines()
    calls, sockets, wrong = set(), set(), []
    for line in lines:
        found = re.match(r"\d+ +(\w+)\((.*)", line)
        if not found:
            continue
        call, rest = found.groups()
        calls.add(call)
        if call in ("socket", "socketpair"):
            sockets.add(rest.split(",")[0])
        if call == "mmap" and "PROT_WRITE|PROT_EXEC" in rest or call == "mprotect" and "PROT_EXEC" in rest:
            wrong.append(f"MemoryDenyWriteExecute: {line}")
    wrong += [f"SystemCallFilter: {call}" for call in sorted(calls - allowed)]
    wrong += [f"RestrictAddressFamilies: {family}" for family in sorted(sockets - families)]
    print(f"{len(lines)} lines, {len(calls)} different calls, of {len(allowed)} that are let through; sockets: {' '.join(sorted(sockets))}")
    if len(calls) < 20:
        sys.exit("error: that is no trace of a server")
    if wrong:
        sys.exit("\n".join(["error: the unit would stop", *wrong]))


main(*sys.argv[1:])
