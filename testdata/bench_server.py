#!/usr/bin/env python3
"""Measures `runpackd serve` on SQLite with FULL durability.

Figures: milliseconds until the first answer, memory when idle, and for starts
and decisions of fresh runs by `wrk` (32 connections) runs a second and the
server's CPU time for each. In the same rounds, `/healthz` of the same process
says what HTTP alone costs here, and so how fast the machine is.
"""
import argparse
import contextlib
import http.client
import json
import os
import pathlib
import re
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time

CONFIG = """\
[server]
transport = "http"
bind = "127.0.0.1:0"
[namespace]
allow_default = true
default_tenants = [1]
[run_state_store]
type = "sqlite"
path = "runs.db"
[[providers]]
name = "time"
type = "builtin"
"""
SCENARIO = {
    "scenario_id": "fresh", "namespace_id": 1, "spec_version": "v1", "policies": [], "schemas": [],
    "default_tenant_id": 1,
    "stages": [{"stage_id": "main", "entry_packets": [], "advance_to": {"kind": "terminal"}, "timeout": None,
                "on_timeout": "fail",
                "gates": [{"gate_id": "after-time", "requirement": {"Condition": "after"}}]}],
    "conditions": [{"condition_id": "after", "comparator": "equals", "expected": True, "policy_tags": [],
                    "query": {"provider_id": "time", "check_id": "after", "params": {"timestamp": 1_700_000_000_000}}}],
}


class Server:
    """One process in a directory of its own, stopped by its pid."""

    def __init__(self, binary, directory):
        directory.mkdir(parents=True)
        (directory / "decision-gate.toml").write_text(CONFIG)
        began = time.perf_counter()
        self.process = subprocess.Popen([binary, "serve"], cwd=directory, stderr=subprocess.PIPE)
        line = self.process.stderr.readline().decode()
        while "listening on" not in line:
            if not line:
                raise SystemExit("the server ended")
            line = self.process.stderr.readline().decode()
        self.address = re.search(r"http://(\S+)", line).group(1)
        self.call("tools/list", None)
        self.startup_ms = (time.perf_counter() - began) * 1000

    def call(self, method, params):
        connection = http.client.HTTPConnection(self.address, timeout=10)
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        connection.request("POST", "/rpc", body, {"Content-Type": "application/json"})
        answer = json.loads(connection.getresponse().read())
        connection.close()
        if "error" in answer:
            raise SystemExit(f"{method}: {answer['error']}")
        return answer["result"]

    def cpu(self):
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def rss_mib(self):
        text = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", text).group(1)) / 1024

    def stop(self):
        self.process.terminate()
        self.process.wait(20)


def wrk(url, seconds, connections, script=None, arguments=(), post=True):
    command = ["wrk", "-t2" if connections > 1 else "-t1", f"-c{connections}", f"-d{seconds}s"]
    command += ["-s", str(script), url, "--", *arguments] if script else [url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 30)
    count = re.search(r"(\d+) requests in", done.stdout)
    if done.returncode or not count or done.stderr or "Non-2xx" in done.stdout:
        raise SystemExit(f"wrk: {done.stdout}{done.stderr}")
    return int(count.group(1))


def decided(store):
    """How many runs came to their end, so that no figure counts refusals."""
    with contextlib.closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as rows:
        asked = "SELECT count(*) FROM heads WHERE instr(CAST(body AS TEXT), '\"status\":\"completed\"')"
        return rows.execute(asked).fetchone()[0]


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--runpackd", required=True)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--seconds", type=int, default=5)
    options = options.parse_args()
    script = pathlib.Path(__file__).with_name("fresh_runs.lua")
    binary = str(pathlib.Path(options.runpackd).resolve())
    rows = {name: [] for name in
            ("start-up ms", "idle MiB", "runs/s, 32 clients", "CPU us a run", "healthz/s", "CPU us a healthz",
             "runs/s, 1 client", "CPU us a run, 1 client", "MiB after")}
    with tempfile.TemporaryDirectory() as work:
        for number in range(options.rounds):
            server, runs = Server(binary, pathlib.Path(work) / str(number)), 0
            try:
                time.sleep(0.5)
                rows["start-up ms"].append(server.startup_ms)
                rows["idle MiB"].append(server.rss_mib())
                server.call("tools/call", {"name": "scenario_define", "arguments": {"spec": SCENARIO}})
                for rate, cost, path, connections, per in (
                        ("healthz/s", "CPU us a healthz", "healthz", 32, 1),
                        ("runs/s, 32 clients", "CPU us a run", "rpc", 32, 2),
                        ("runs/s, 1 client", "CPU us a run, 1 client", "rpc", 1, 2)):
                    before, began = server.cpu(), time.perf_counter()
                    by = script if path == "rpc" else None
                    count = wrk(f"http://{server.address}/{path}", options.seconds, connections, by,
                                [f"c{connections}"]) / per
                    took = time.perf_counter() - began
                    runs += count if by else 0
                    rows[rate].append(count / took)
                    rows[cost].append((server.cpu() - before) / count * 1e6)
                rows["MiB after"].append(server.rss_mib())
            finally:
                server.stop()
            # Each of wrk's three threads starts up to 64 more than it asks about, and a
            # last answer to each connection may not be counted.
            completed = decided(pathlib.Path(work) / str(number) / "runs.db")
            if not runs - 3 * 64 <= completed <= runs + 33:
                raise SystemExit(f"{completed} runs completed, of about {runs:.0f} that were asked for")
    for name, values in rows.items():
        print(f"{name:24} {statistics.median(values):10.1f}   {min(values):.1f} to {max(values):.1f}")


if __name__ == "__main__":
    sys.exit(main())
