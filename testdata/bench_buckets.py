#!/usr/bin/env python3
"""Publishes packs to a bucket and verifies them there, beside `aws s3 cp` and `rclone copy`.

    bench_buckets.py --runpack BIN --server BIN --aws BIN [--rclone BIN] [--rounds 5] [--packs 500] [--large 64]

The server is s3s-fs, started here on a free port of this machine, with a fresh
bucket for each tool and round. It takes s3s-fs.patch to compare tools and not
waits of the server: as it is, it walks the whole bucket for every list, and
leaves answers lying for 20 to 40 ms. Every round runs every tool, each time in
another order. Wall time and CPU are of the tool's processes alone.
"""

import argparse
import hashlib
import json
import multiprocessing
import os
import pathlib
import shutil
import socket
import statistics
import subprocess
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
KEY, SECRET = "BENCHKEY", "bench-secret"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--runpack", required=True)
    parser.add_argument("--server", required=True)
    parser.add_argument("--aws", required=True)
    parser.add_argument("--rclone")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--packs", type=int, default=500)
    parser.add_argument("--large", type=int, default=64, help="MiB of each of eight large files")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        Bench(args, pathlib.Path(scratch)).run()


def digest(value):
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return {"algorithm": "sha256", "value": hashlib.sha256(canonical.encode()).hexdigest()}


class Bench:
    def __init__(self, args, scratch):
        self.args, self.scratch = args, scratch
        self.data = scratch / "data"
        self.data.mkdir()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        at = f"http://127.0.0.1:{self.port}"
        (scratch / "home").mkdir()
        self.env = {
            "PATH": os.environ["PATH"], "HOME": str(scratch / "home"), "LANG": "C.UTF-8",
            "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1", "AWS_ENDPOINT_URL": at, "AWS_EC2_METADATA_DISABLED": "true",
            "RCLONE_CONFIG_B_TYPE": "s3", "RCLONE_CONFIG_B_PROVIDER": "Other", "RCLONE_CONFIG_B_ENDPOINT": at,
            "RCLONE_CONFIG_B_ACCESS_KEY_ID": KEY, "RCLONE_CONFIG_B_SECRET_ACCESS_KEY": SECRET,
            "RCLONE_CONFIG_B_FORCE_PATH_STYLE": "true", "RCLONE_CONFIG_B_REGION": "us-east-1",
        }
        self.figures = {}
        self.buckets = 0

    def run(self):
        small, large = self.scratch / "small", self.scratch / "large"
        # Elsewhere: what a process had in memory counts for those it starts.
        building = multiprocessing.Process(target=self.build_all, args=(small, large))
        building.start()
        building.join()
        if building.exitcode:
            raise SystemExit("there is nothing to measure with")
        log = open(self.scratch / "server.log", "wb")
        server = subprocess.Popen(
            [self.args.server, "--host", "127.0.0.1", "--port", str(self.port), "--access-key", KEY,
             "--secret-key", SECRET, str(self.data)], stdout=log, stderr=log)
        try:
            self.wait_for_server()
            # The first to write pays for the server's directories.
            self.round("small", small, 0)
            self.figures.clear()
            for round in range(self.args.rounds):
                self.round("small", small, round)
                self.round("large", large, round)
                print(f"round {round + 1} of {self.args.rounds} done", flush=True)
        finally:
            server.terminate()
            server.wait()
        self.report()

    def wait_for_server(self):
        for _ in range(100):
            try:
                return socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                time.sleep(0.1)
        raise SystemExit("the server does not listen")

    def build_all(self, small, large):
        for n in range(self.args.packs):
            self.build(small / f"p{n:04}", f"run-{n}", 0)
        for n in range(8):
            self.build(large / f"p{n}", f"run-{n}", self.args.large)

    def build(self, to, run, mebibytes):
        """A pack of a run to which only so much was submitted."""
        state = json.loads((HERE / "packs/source/rich/state.json").read_text())
        state["run_id"] = run
        for log in ["decisions", "gate_evals", "packets", "submissions", "tool_calls", "triggers"]:
            state[log] = []
        for n in range(mebibytes):
            # With the call that brought it, without which no pack verifies.
            at = {"kind": "logical", "value": 1}
            payload = f"{n:08x}" * (1 << 17)
            request = {"content_type": "application/json", "correlation_id": None, "payload":
                       {"kind": "json", "value": payload}, "run_id": run, "submission_id": f"s-{n}", "submitted_at": at}
            record = {**request, "content_hash": digest(payload)}
            request |= {"namespace_id": state["namespace_id"], "tenant_id": state["tenant_id"]}
            state["submissions"].append(record)
            state["tool_calls"].append({
                "call_id": f"call-{n + 1}", "called_at": at, "correlation_id": None, "error": None,
                "method": "scenario.submit", "request_hash": digest(request),
                "response_hash": digest({"record": record})})
        file = self.scratch / "state.json"
        file.write_text(json.dumps(state))
        subprocess.run([self.args.runpack, "build", "--scenario", HERE / "packs/source/rich/scenario.json",
                        "--state", file,
                        "--generated-at", "logical:1", "--max-input-bytes", "2GiB", "--max-artifact-bytes", "2GiB",
                        "--out", to], check=True, stdout=subprocess.DEVNULL, env=self.env)

    def bucket(self):
        self.buckets += 1
        name = f"bucket-{self.buckets}"
        (self.data / name).mkdir()
        return name

    def mirror(self, corpus, bucket):
        return [self.args.runpack, "mirror", corpus, f"s3://{bucket}/p", "--store-option", "allow_http=true",
                "--max-artifact-bytes", "2GiB"]

    def verify(self, at):
        return [self.args.runpack, "verify", "--recursive", at, "--store-option", "allow_http=true",
                "--max-artifact-bytes", "2GiB"]

    def round(self, corpus, root, round):
        """Each tool into a bucket of its own, and the packs verified from there."""
        # Part of our export, and of nobody else's.
        self.timed(corpus, "verify", "local", self.verify(root))
        tools = ["runpack", "digests", "aws"] + (["rclone"] if self.args.rclone else [])
        for index in range(len(tools)):
            tool = tools[(index + round) % len(tools)]
            bucket = self.bucket()
            export = {
                "runpack": self.mirror(root, bucket),
                # Looks as deep as the peers do: that the bytes are the right ones.
                "digests": self.mirror(root, bucket) + ["--checks", "digests"],
                "aws": [self.args.aws, "s3", "cp", "--recursive", "--only-show-errors", root, f"s3://{bucket}/p"],
                "rclone": [self.args.rclone, "copy", root, f"B:{bucket}/p"],
            }
            self.timed(corpus, "export", tool, export[tool])
            if tool == "runpack":
                self.timed(corpus, "verify", tool, self.verify(f"s3://{bucket}/p"))
            elif tool == "aws":
                copy = self.scratch / "copy"
                self.timed(corpus, "verify", tool, [self.args.aws, "s3", "cp", "--recursive", "--only-show-errors",
                                                    f"s3://{bucket}/p", copy], self.verify(copy))
                shutil.rmtree(copy)
            self.expect(root, self.data / bucket / "p")
            shutil.rmtree(self.data / bucket)

    def expect(self, root, there):
        """That a tool was fast says nothing if it did not do it."""
        names = lambda at: sorted(str(path.relative_to(at)) for path in at.rglob("*") if path.is_file())
        found = [name for name in names(there) if not name.startswith(".runpack")]
        if found != names(root):
            raise SystemExit(f"{len(found)} objects are there, and should be {len(names(root))}")

    def timed(self, corpus, work, tool, *commands):
        wall = cpu = memory = 0
        for command in commands:
            began = time.monotonic()
            # To a file: a pipe would make us part of what is measured.
            with open(self.scratch / "said", "w+b") as said:
                child = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT, env=self.env)
                _, status, used = os.wait4(child.pid, 0)
                child.returncode = os.waitstatus_to_exitcode(status)
                wall += time.monotonic() - began
                cpu += used.ru_utime + used.ru_stime
                memory = max(memory, used.ru_maxrss // 1024)
                if child.returncode != 0:
                    said.seek(0)
                    raise SystemExit(f"{command}: {child.returncode}: {said.read().decode()[-2000:]}")
        self.figures.setdefault((corpus, work, tool), []).append((wall, cpu, memory))

    def report(self):
        median = lambda key, index: statistics.median(figure[index] for figure in self.figures[key])
        print(f"\n{self.args.packs} packs of 9 files (small), 8 packs of one file of {self.args.large} MiB (large); "
              f"medians of {self.args.rounds} rounds")
        print(f"{'':24} {'wall s':>8} {'CPU s':>8} {'MiB':>5}   beside runpack (wall, CPU)   all walls")
        for (corpus, work, tool) in sorted(self.figures):
            ours = (corpus, work, "runpack")
            wall, cpu, memory = (median((corpus, work, tool), index) for index in range(3))
            walls = " ".join(f"{figure[0]:.2f}" for figure in self.figures[(corpus, work, tool)])
            print(f"{corpus:6} {work:7} {tool:8}  {wall:8.2f} {cpu:8.2f} {memory:5.0f}   "
                  f"{wall / median(ours, 0):6.2f} x  {cpu / median(ours, 1):6.2f} x            {walls}")


if __name__ == "__main__":
    main()
