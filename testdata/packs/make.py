#!/usr/bin/env python3
"""Makes every pack in `bad`, and `source/rich/state.json`.

    python3 testdata/packs/make.py            # writes everything again
    python3 testdata/packs/make.py --check    # says what would change

It knows nothing of the code under test: digests, requests and answers are
computed here from the contract, and what a run should look like is written by
hand below. `good/rich` is what `runpack build` makes of `source/rich`:

    runpack build --scenario testdata/packs/source/rich/scenario.json \\
        --state testdata/packs/source/rich/state.json \\
        --anchor-policy testdata/packs/source/rich/anchor-policy.json \\
        --security testdata/packs/source/rich/security.json \\
        --generated-at logical:120 --include-verification --out testdata/packs/good/rich

An attack changes what it wants to lie about; everything that an attacker can
compute again is then computed again (answers, file hashes, index, root, spec
hash), so that the finding is about the lie. Names are ASCII and numbers small
wherever canonical form matters, so sorting by code points is RFC 8785.
"""

import copy
import hashlib
import json
import pathlib
import shutil
import sys

HERE = pathlib.Path(__file__).resolve().parent
MANIFEST = "manifest.json"
ARTIFACTS = {
    "scenario_spec": "scenario_spec",
    "triggers": "trigger_log",
    "gate_evals": "gate_eval_log",
    "decisions": "decision_log",
    "packets": "packet_log",
    "submissions": "submission_log",
    "tool_calls": "tool_transcript",
    "verifier_report": "verifier_report",
}
LOGS = ["triggers", "gate_evals", "decisions", "packets", "submissions", "tool_calls"]


def path_of(name):
    return f"artifacts/{name}.json"


# --- digests ---------------------------------------------------------------


def canon(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def digest_of(data):
    return {"algorithm": "sha256", "value": hashlib.sha256(data).hexdigest()}


def digest(value):
    return digest_of(canon(value))


def content_hash(payload):
    if payload["kind"] == "json":
        return digest(payload["value"])
    if payload["kind"] == "bytes":
        return digest_of(bytes(payload["bytes"]))
    return payload["content_ref"]["content_hash"]


def value_hash(value):
    if value is None:
        return None
    return digest(value["value"]) if value["kind"] == "json" else digest_of(bytes(value["value"]))


def logical(tick):
    return {"kind": "logical", "value": tick}


def millis(value):
    return {"kind": "unix_millis", "value": value}


def js(value):
    return {"kind": "json", "value": value}


# --- what calls cover --------------------------------------------------------


def named(log, trigger):
    """The entry on `trigger`: by id, or by position where an id comes twice."""
    if isinstance(trigger, int):
        return log[trigger]
    ids = [entry["event"]["trigger_id"] if "event" in entry else entry["trigger_id"] for entry in log]
    return log[ids.index(trigger)]


def status_after(decision):
    return {"complete": "completed", "fail": "failed"}.get(decision["outcome"]["kind"], "active")


def requested(method, event):
    if method == "scenario.trigger":
        return event
    members = ["correlation_id", "namespace_id", "run_id", "tenant_id", "time", "trigger_id"]
    return {"agent_id": event["source_id"]} | {name: event[name] for name in members}


def answered(logs, decision):
    packets = [packet for packet in logs["packets"] if packet["decision_id"] == decision["decision_id"]]
    return {"decision": decision, "packets": packets, "status": status_after(decision)}


def standing(whose, scenario, logs, decided):
    """The answer to a status request after `decided` decisions."""
    stage, status, last = scenario["stages"][0]["stage_id"], "active", None
    issued = []
    for last in logs["decisions"][:decided]:
        status = status_after(last)
        stage = last["outcome"].get("to_stage", stage)
        issued += [p["envelope"]["packet_id"] for p in logs["packets"] if p["decision_id"] == last["decision_id"]]
    return {
        "current_stage_id": stage,
        "issued_packet_ids": issued,
        "last_decision": last,
        "run_id": whose["run_id"],
        "safe_summary": last["outcome"].get("summary") if last else None,
        "scenario_id": whose["scenario_id"],
        "status": status,
    }


def submission_request(whose, record):
    members = ["content_type", "correlation_id", "payload", "run_id", "submission_id", "submitted_at"]
    return {name: record[name] for name in members} | {
        "namespace_id": whose["namespace_id"],
        "tenant_id": whose["tenant_id"],
    }


def bodies(whose, scenario, logs, call):
    """What a call asked and answered; `None` where nothing here can know."""
    kind, what = call["_about"]
    if kind in ("decided", "repeated"):
        event, decision = named(logs["triggers"], what)["event"], named(logs["decisions"], what)
        return requested(call["method"], event), answered(logs, decision)
    if kind == "ended":
        return what, answered(logs, logs["decisions"][-1])
    if kind == "status":
        request = {"requested_at": call["called_at"], "correlation_id": call["correlation_id"]}
        request |= {name: whose[name] for name in ["run_id", "tenant_id", "namespace_id"]}
        return request, standing(whose, scenario, logs, what)
    if kind == "submitted":
        found = [record for record in logs["submissions"] if record["submission_id"] == what]
        record = found[0] if not isinstance(what, int) else logs["submissions"][what]
        return submission_request(whose, record), {"record": record}
    assert kind == "refused", kind
    return what, call["error"]


def answer_calls(whose, scenario, logs):
    for call in logs["tool_calls"]:
        request, response = bodies(whose, scenario, logs, call)
        if request is not None:
            call["request_hash"] = digest(request)
        call["response_hash"] = digest(response)


# --- runs, told by hand --------------------------------------------------------


class Run:
    """A run as its gatekeeper would have logged it. Statuses and outcomes are
    the teller's; ids, copies and digests are made here."""

    def __init__(self, scenario, whose, targets=()):
        self.scenario, self.targets = scenario, list(targets)
        self.whose = whose | {"scenario_id": scenario["scenario_id"], "namespace_id": scenario["namespace_id"]}
        self.logs = {name: [] for name in LOGS}
        self.stage = scenario["stages"][0]["stage_id"]
        self.status = "active"

    def conditions(self):
        return {condition["condition_id"]: condition for condition in self.scenario["conditions"]}

    def event(self, trigger, time, source="release-bot", kind="agent_request_next", payload=None, correlation=None):
        event = {"correlation_id": correlation, "kind": kind, "payload": payload, "source_id": source}
        event |= {"time": time, "trigger_id": trigger}
        return event | {name: self.whose[name] for name in ["namespace_id", "run_id", "tenant_id"]}

    def start(self, time):
        event = self.event("init", time, "system", "external_event")
        self.logs["triggers"].append({"event": event, "seq": 1})
        self.decide(event, {"kind": "start", "stage_id": self.stage})

    def decide(self, event, outcome):
        log = self.logs["decisions"]
        decision = {
            "correlation_id": event["correlation_id"],
            "decided_at": event["time"],
            "decision_id": f"decision-{len(log) + 1}",
            "outcome": outcome,
            "seq": len(log) + 1,
            "stage_id": self.stage,
            "trigger_id": event["trigger_id"],
        }
        log.append(decision)
        self.stage = outcome.get("to_stage", self.stage)
        self.status = status_after(decision)
        if outcome["kind"] in ("start", "advance"):
            stage = next(stage for stage in self.scenario["stages"] if stage["stage_id"] == self.stage)
            self.logs["packets"] += [self.packet(packet, decision) for packet in stage["entry_packets"]]

    def packet(self, packet, decision):
        envelope = {
            "content_hash": content_hash(packet["payload"]),
            "correlation_id": decision["correlation_id"],
            "issued_at": decision["decided_at"],
            "run_id": self.whose["run_id"],
            "scenario_id": self.whose["scenario_id"],
            "stage_id": self.stage,
            "visibility": {"labels": packet["visibility_labels"], "policy_tags": packet["policy_tags"]},
        }
        envelope |= {name: packet[name] for name in ["content_type", "expiry", "packet_id", "schema_id"]}
        record = {"decision_id": decision["decision_id"], "envelope": envelope, "payload": packet["payload"]}
        record["receipts"] = [
            {
                "dispatch_id": f"mcp-{packet['packet_id']}",
                "dispatched_at": envelope["issued_at"],
                "dispatcher": "mcp",
                "receipt_hash": digest(envelope),
                "target": target,
            }
            for target in self.targets
        ]
        return record

    def gate(self, gate, status, trace, answers):
        """`trace`: (condition, status) in tree order; `answers`: results by condition."""
        statuses = dict(trace)
        return {
            "evaluation": {
                "gate_id": gate,
                "status": status,
                "trace": [{"condition_id": condition, "status": status} for condition, status in trace],
            },
            "evidence": [
                {"condition_id": condition, "result": copy.deepcopy(answers[condition]), "status": statuses[condition]}
                for condition in sorted(statuses)
            ],
        }

    def step(self, event, gates, outcome, method="scenario.next"):
        log = self.logs["triggers"]
        log.append({"event": event, "seq": len(log) + 1})
        for gate in gates:
            self.logs["gate_evals"].append(gate | {"stage_id": self.stage, "trigger_id": event["trigger_id"]})
        self.decide(event, outcome)
        self.call(method, event["time"], ("decided", event["trigger_id"]), event["correlation_id"])

    def call(self, method, time, about, correlation=None, error=None):
        call = {"call_id": "", "called_at": time, "correlation_id": correlation, "error": error, "method": method}
        self.logs["tool_calls"].append(call | {"request_hash": None, "response_hash": None, "_about": about})

    def poll(self, time, correlation=None):
        self.call("scenario.status", time, ("status", len(self.logs["decisions"])), correlation)

    def submit(self, submission, time, content_type, payload, correlation=None):
        record = {"content_hash": content_hash(payload), "content_type": content_type, "correlation_id": correlation}
        record |= {"payload": payload, "run_id": self.whose["run_id"], "submission_id": submission}
        self.logs["submissions"].append(record | {"submitted_at": time})
        self.call("scenario.submit", time, ("submitted", submission), correlation)

    def finish(self):
        number_calls(self.logs)
        answer_calls(self.whose, self.scenario, self.logs)
        return self


def number_calls(logs):
    for position, call in enumerate(logs["tool_calls"]):
        call["call_id"] = f"call-{position + 1}"


def result(value=None, anchor=None, ref=None, lane="verified", error=None, content_type=None, signature=None):
    return {
        "content_type": content_type,
        "error": error,
        "evidence_anchor": anchor,
        "evidence_hash": value_hash(value),
        "evidence_ref": ref,
        "lane": lane,
        "signature": signature,
        "value": value,
    }


def from_file(file, value):
    anchor = {"anchor_type": "file_path_rooted", "anchor_value": canon({"path": file, "root_id": "evidence"}).decode()}
    return result(js(value), anchor, {"uri": f"dg+file://evidence/{file}"}, content_type="application/json")


def from_clock(time, value):
    anchor = {"anchor_type": f"trigger_time_{time['kind']}", "anchor_value": str(time["value"])}
    return result(js(value), anchor, content_type="application/json")


def failure(code, message):
    return {"code": code, "details": None, "message": message}


LOWERED = failure("trust_lane", "evidence lane Asserted does not satisfy Verified")
DIGEST = {"kind": "bytes", "value": [222, 173, 190, 239]}


def hold(*unmet):
    summary = {"policy_tags": [], "retry_hint": "await_evidence", "status": "hold", "unmet_gates": list(unmet)}
    return {"kind": "hold", "summary": summary}


def advance(origin, to, timeout=False):
    return {"from_stage": origin, "kind": "advance", "timeout": timeout, "to_stage": to}


def rich_scenario():
    scenario = json.loads((HERE / "source/rich/scenario.json").read_bytes())
    for condition in scenario["conditions"]:
        condition.setdefault("expected", None)
    return scenario


def rich():
    """Most of what a run can hold: see the steps."""
    targets = [
        {"agent_id": "release-bot", "kind": "agent"},
        {"kind": "external", "system": "mail", "target": "ops@example.org"},
    ]
    run = Run(rich_scenario(), {"tenant_id": 7, "run_id": "change-4711"}, targets)
    run.start(logical(5))

    def scan(status, findings, finding, waived=("False", result(lane="verified"))):
        digest = result(DIGEST, content_type="application/octet-stream")
        answers = {"findings-none": findings, "digest-pinned": digest, "waived": waived[1]}
        return run.gate("scan", status, [("findings-none", finding), ("digest-pinned", "True"), ("waived", waived[0])], answers)

    def asserted():
        approval = result(js(True), lane="asserted", content_type="application/json", error=copy.deepcopy(LOWERED))
        return run.gate("owner", "Unknown", [("owner-approves", "Unknown")], {"owner-approves": approval})

    # A finding is open, and the owner's word does not count yet.
    first = run.event("t-1", logical(10))
    gates = [scan("False", from_file("scan.json", 3), "False"), asserted()]
    run.step(first, gates, hold("scan", "owner"))
    # The agent asks again with the same trigger.
    run.call("scenario.next", logical(10), ("repeated", "t-1"))

    run.submit("s-1", logical(12), "application/json", js({"fixed": ["CVE-1", "CVE-2"], "open": 1}))
    run.submit("s-2", logical(13), "application/octet-stream", {"kind": "bytes", "bytes": [1, 2, 3, 255]}, "c-s2")
    reference = {"uri": "https://example.org/scan.txt", "content_hash": digest_of(b"scan"), "encryption": "age"}
    run.submit("s-3", logical(14), "text/plain", {"kind": "external", "content_ref": reference})
    # The same submission again, and then another under its id.
    run.call("scenario.submit", logical(15), ("submitted", "s-1"))
    conflict = {
        "code": "submission_conflict",
        "details": {"info": "submission_id=s-1", "kind": "message"},
        "message": "submission_id conflicts with existing record",
    }
    other = run.logs["submissions"][0] | {"payload": js({"open": 0}), "submitted_at": logical(16)}
    other_request = submission_request(run.whose, other)
    run.call("scenario.submit", logical(16), ("refused", other_request), error=conflict)

    # The scanner does not answer. The event carries a payload and a correlation.
    second = run.event("t-2", logical(20), "ci", "external_event", js({"build": 99}), "c-2")
    silent = result(error=failure("provider_error", "evidence provider error: timed out"))
    waived = ("True", result(js("yes"), {"anchor_type": "env", "anchor_value": "SCAN_WAIVED"}, content_type="text/plain"))
    gates = [scan("Unknown", silent, "Unknown", waived), asserted()]
    run.step(second, gates, hold("scan", "owner"), "scenario.trigger")
    run.poll(logical(21), "c-poll")
    missing = {
        "code": "provider_missing",
        "details": {
            "blocked_by_policy": False,
            "kind": "provider_missing",
            "missing_providers": ["roster"],
            "required_capabilities": ["on_call"],
        },
        "message": "required evidence providers are missing or blocked",
    }
    lost = requested("scenario.next", run.event("t-lost", logical(22)))
    run.call("scenario.next", logical(22), ("refused", lost), error=missing)

    # A tick before the timeout, and all is well: on to the review.
    third = run.event("t-3", logical(30), "cron", "tick")
    signature = {"key_id": "mail-1", "scheme": "ed25519", "signature": [1, 2, 3]}
    approval = result(js(True), ref={"uri": "mail:42"}, content_type="application/json", signature=signature)
    owner = run.gate("owner", "True", [("owner-approves", "True")], {"owner-approves": approval})
    gates = [scan("True", from_file("scan.json", 0), "True"), owner]
    run.step(third, gates, advance("intake", "review"), "scenario.trigger")

    # The window is not open.
    fourth = run.event("t-4", logical(40))
    run.step(fourth, review_gates(run, fourth, False), hold("window"))
    run.poll(logical(41))
    # It never opens in time: the other way, decided without evidence.
    fifth = run.event("t-5", logical(95), "cron", "tick", correlation="c-5")
    run.step(fifth, [], advance("review", "ship", True), "scenario.trigger")
    # Shipped. What comes later is answered from the log.
    run.step(run.event("t-6", logical(100)), [], {"kind": "complete", "stage_id": "ship"})
    run.call("scenario.next", logical(110), ("ended", requested("scenario.next", run.event("t-7", logical(110)))))
    run.submit("s-4", logical(111), "application/octet-stream", {"kind": "bytes", "bytes": []})
    run.poll(logical(112))
    return run.finish()


def review_gates(run, event, window_open):
    roster = result(js(["bo", "ann"]), content_type="application/json")
    answers = {
        "window-open": from_clock(event["time"], window_open),
        "ann-on-call": roster,
        "incident-open": from_file("incidents.json", False),
    }
    status = "True" if window_open else "False"
    window = run.gate("window", status, [("window-open", status), ("ann-on-call", "True")], answers)
    quiet = run.gate("quiet", "True", [("incident-open", "False"), ("ann-on-call", "True")], answers)
    return [window, quiet]


def plain(logs):
    """The logs as they are stored."""
    return {name: [{k: v for k, v in e.items() if k != "_about"} for e in log] for name, log in logs.items()}


def rich_state(run):
    """What `runpack build` takes, a record on each line."""
    state = dict(run.whose)
    state |= {"spec_hash": digest(run.scenario), "current_stage_id": run.stage, "stage_entered_at": logical(95)}
    state |= {"status": run.status, "dispatch_targets": run.targets}
    lines = [f" {json.dumps(name)}: {canon(state[name]).decode()}" for name in sorted(state)]
    for name, log in plain(run.logs).items():
        lines.append(f' "{name}": [\n  ' + ",\n  ".join(canon(record).decode() for record in log) + "\n ]")
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()


# --- packs to be spoilt ----------------------------------------------------------


RELEASE_GATE_CALLS = [("decided", "morning"), ("decided", "afternoon"), ("decided", "released"), ("status", 3)]


class Pack:
    """A good pack, taken apart."""

    def __init__(self, base):
        self.base = base
        read = lambda name: json.loads((HERE / base / name).read_bytes())
        self.manifest = read(MANIFEST)
        self.scenario = read(path_of("scenario_spec"))
        self.logs = {name: read(path_of(name)) for name in LOGS}
        self.report = read(path_of("verifier_report"))
        calls = RELEASE_GATE_CALLS if base == "good/release-gate" else [c["_about"] for c in RICH.logs["tool_calls"]]
        for call, about in zip(self.logs["tool_calls"], calls, strict=True):
            call["_about"] = about
        # What is in the lists, what else is stored, what is not.
        self.listed = [path_of(name) for name in ARTIFACTS]
        self.more, self.gone = {}, set()
        # Texts changed before hashing, and after.
        self.spelt, self.late = {}, {}
        # Edits of the manifest after everything was computed.
        self.last = []
        self.answers = True
        self.expect = None

    def __getattr__(self, name):
        if name in LOGS:
            return self.logs[name]
        raise AttributeError(name)

    def whose(self):
        return {name: self.manifest[name] for name in ["namespace_id", "run_id", "scenario_id", "tenant_id"]}

    def tell(self, run, generated_at):
        """Another run in place of the base's."""
        run.finish()
        self.scenario, self.logs = run.scenario, run.logs
        self.manifest |= run.whose | {"generated_at": generated_at}
        self.manifest.pop("anchor_policy", None)

    def cut(self, steps):
        """Keeps the first steps of the run, as if it had been exported then."""
        kept = {d["trigger_id"] for d in self.decisions[:steps]}
        ids = {d["decision_id"] for d in self.decisions[:steps]}
        self.logs["triggers"] = self.triggers[:steps]
        self.logs["decisions"] = self.decisions[:steps]
        self.logs["gate_evals"] = [g for g in self.gate_evals if g["trigger_id"] in kept]
        self.logs["packets"] = [p for p in self.packets if p["decision_id"] in ids]
        calls = [c["_about"] for c in self.tool_calls]
        last = max(i for i, about in enumerate(calls) if about[0] == "decided" and about[1] in kept)
        self.logs["tool_calls"] = self.tool_calls[: last + 1]
        submitted = {about[1] for about in calls[: last + 1] if about[0] == "submitted"}
        self.logs["submissions"] = [s for s in self.submissions if s["submission_id"] in submitted]

    def gate_of(self, trigger, gate):
        return next(g for g in self.gate_evals if (g["trigger_id"], g["evaluation"]["gate_id"]) == (trigger, gate))

    def evidence_of(self, trigger, gate, condition):
        return next(e for e in self.gate_of(trigger, gate)["evidence"] if e["condition_id"] == condition)

    def decision_on(self, trigger):
        return named(self.decisions, trigger)

    def run(self):
        """A teller that goes on where the logs end."""
        run = Run(self.scenario, self.whose(), [r["target"] for r in self.packets[0]["receipts"]] if self.packets else [])
        run.logs = self.logs
        run.stage = standing(self.whose(), self.scenario, self.logs, len(self.decisions))["current_stage_id"]
        return run

    def files(self):
        if self.answers:
            answer_calls(self.whose(), self.scenario, self.logs)
        documents = {"scenario_spec": self.scenario} | plain(self.logs) | {"verifier_report": self.report}
        stored = {path_of(name): canon(document) for name, document in documents.items()}
        stored |= self.more
        for path, spell in self.spelt.items():
            if path != MANIFEST:
                stored[path] = spell(stored[path])
        entries = [{"hash": digest_of(stored.get(path, b"")), "path": path} for path in self.listed]
        manifest = self.manifest | {"integrity": {"file_hashes": entries}, "artifacts": [index(e) for e in entries]}
        manifest["spec_hash"] = digest_of(stored[path_of("scenario_spec")])
        reroot(manifest)
        for edit in self.last:
            edit(manifest)
        stored[MANIFEST] = self.spelt.get(MANIFEST, lambda text: text)(canon(manifest))
        for path, spell in self.late.items():
            stored[path] = spell(stored[path])
        return {path: data for path, data in stored.items() if path not in self.gone}


def index(entry):
    kind = ARTIFACTS.get(entry["path"].removeprefix("artifacts/").removesuffix(".json"), "custom")
    return {
        "artifact_id": entry["path"],
        "content_type": "application/json",
        "hash": entry["hash"],
        "kind": kind,
        "path": entry["path"],
        "required": True,
    }


def reroot(manifest):
    manifest["integrity"]["root_hash"] = digest(manifest["integrity"]["file_hashes"])


def replaced(old, new):
    """An edit of a text that must find what it replaces."""

    def edit(text):
        assert old in text, (old, text[:200])
        return text.replace(old, new, 1)

    return edit


def reseal(packet):
    packet["envelope"]["content_hash"] = content_hash(packet["payload"])
    for receipt in packet["receipts"]:
        receipt["receipt_hash"] = digest(packet["envelope"])


def restate(evidence, value):
    """Another value, with its digest."""
    evidence["result"]["value"] = value
    evidence["result"]["evidence_hash"] = value_hash(value)


def comes_out(pack, trigger, gate, status, **conditions):
    """Statuses of a gate and its conditions, in evidence and trace."""
    record = pack.gate_of(trigger, gate)
    record["evaluation"]["status"] = status
    for place in record["evidence"] + record["evaluation"]["trace"]:
        place["status"] = conditions.get(place["condition_id"].replace("-", "_"), place["status"])


# --- the attacks -----------------------------------------------------------------


ATTACKS = {}
GATE, RICH_PACK = "good/release-gate", "good/rich"


def attack(name, about, base=GATE):
    def register(change):
        assert name not in ATTACKS, name
        ATTACKS[name] = (base, about, change)
        return change

    return register


def recipe(name, about, base=GATE, **what):
    """A pack that files in a repository cannot be; the test makes it."""
    assert name not in ATTACKS, name
    ATTACKS[name] = (base, about, {"from": base} | what)


exec((HERE / "attacks.py").read_text()) if (HERE / "attacks.py").exists() else None
