#!/usr/bin/env python3
"""Makes every pack in `bad` and in `forged`, and `source/rich/state.json`.

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

import base64
import copy
import hashlib
import json
import pathlib
import shutil
import struct
import sys
import zlib

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


# --- signatures --------------------------------------------------------------


P = 2**255 - 19
D = -121665 * pow(121666, -1, P) % P
ORDER = 2**252 + 27742317777372353535851937790883648493
BASE = (15112221349535400772501151409588531511454012693041857206046113283949847762202, 4 * pow(5, -1, P) % P)


def point_add(left, right):
    (x1, y1, z1, t1), (x2, y2, z2, t2) = left, right
    a, b = (y1 - x1) * (y2 - x2), (y1 + x1) * (y2 + x2)
    c, d = 2 * t1 * t2 * D, 2 * z1 * z2
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P


def point(scalar):
    """So many times the base point, as its 32 bytes."""
    sum_, step = (0, 1, 1, 0), (*BASE, 1, BASE[0] * BASE[1] % P)
    while scalar:
        if scalar & 1:
            sum_ = point_add(sum_, step)
        step, scalar = point_add(step, step), scalar >> 1
    x, y, z, _ = sum_
    inverse = pow(z, -1, P)
    return (y * inverse % P | (x * inverse % P & 1) << 255).to_bytes(32, "little")


class Key:
    """An Ed25519 key (RFC 8032) that anybody can make again: for tests only."""

    def __init__(self, name):
        self.name = name
        digest = hashlib.sha512(hashlib.sha256(b"a runpack test key: " + name.encode()).digest()).digest()
        self.prefix = digest[32:]
        self.scalar = int.from_bytes(digest[:32], "little") & (2**254 - 8) | 2**254
        self.public = point(self.scalar)
        self.der = bytes.fromhex("302a300506032b6570032100") + self.public
        self.id = hashlib.sha256(self.der).hexdigest()
        body = base64.b64encode(self.der).decode()
        self.pem = f"-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n"

    def sign(self, message):
        number = lambda *parts: int.from_bytes(hashlib.sha512(b"".join(parts)).digest(), "little") % ORDER
        nonce = number(self.prefix, message)
        begin = point(nonce)
        end = (nonce + number(begin, self.public, message) * self.scalar) % ORDER
        return begin + end.to_bytes(32, "little")


ANN, BOB, EVE, SCANNER = Key("ann"), Key("bob"), Key("eve"), Key("scanner")
IN_TOTO = "application/vnd.in-toto+json"


def envelope(payload, keys, kind=IN_TOTO):
    covered = b"DSSEv1 %d %s %d %s" % (len(kind), kind.encode(), len(payload), payload)
    signatures = [{"keyid": key.id, "sig": base64.b64encode(key.sign(covered)).decode()} for key in keys]
    return {"payload": base64.b64encode(payload).decode(), "payloadType": kind, "signatures": signatures}


def statement(manifest_bytes, **changes):
    manifest = json.loads(manifest_bytes)
    members = ["namespace_id", "run_id", "scenario_id", "spec_hash", "tenant_id"]
    predicate = {name: manifest[name] for name in members}
    predicate |= {"root_hash": manifest["integrity"]["root_hash"], "settings": None}
    subject = {"digest": {"sha256": hashlib.sha256(manifest_bytes).hexdigest()}, "name": MANIFEST}
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "predicate": predicate | changes,
        "predicateType": "urn:runpack:attestation:v1",
        "subject": [subject],
    }


def settings(manifest_bytes, **changes):
    """What the good packs were decided by."""
    anchors = json.loads(manifest_bytes).get("anchor_policy", {"providers": []})
    usual = {"anchor_policy": anchors, "logic": "kleene", "min_lane": "verified", "policy": {"engine": "permit_all"}}
    return usual | {"provider_lanes": {}} | changes


def trusted(key, **more):
    return {"id": key.name, "pem": key.pem} | more


def trusting(*keys, evidence=None, **require):
    policy = {"version": 1, "require": require, "keys": list(keys)}
    return policy | ({"evidence": evidence} if evidence else {})


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
    stage, status, last = None, "active", None
    for first in scenario["stages"][:1]:
        stage = first["stage_id"]
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
        return run.gate(
            "scan",
            status,
            [("findings-none", finding), ("digest-pinned", "True"), ("waived", waived[0])],
            answers,
        )

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
    waived = (
        "True",
        result(js("yes"), {"anchor_type": "env", "anchor_value": "SCAN_WAIVED"}, content_type="text/plain"),
    )
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
        # Attestations by name, made of the manifest's final bytes.
        self.attested = {}
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
        run = Run(
            self.scenario,
            self.whose(),
            [r["target"] for r in self.packets[0]["receipts"]] if self.packets else [],
        )
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
        for path, make in self.attested.items():
            made = make(stored[MANIFEST])
            stored[path] = made if isinstance(made, bytes) else canon(made)
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


# What is stored.

A_WHY = "git stores no such file, so the test makes it"


@attack("RP0101-manifest-removed", "The manifest is taken out, so that nothing says what the pack holds.")
def _(p):
    p.gone.add(MANIFEST)


recipe(
    "RP0101-manifest-unreadable",
    "Nobody's attack: the medium fails while the manifest is read. The test's reader fails with an I/O error.",
    do="fail-reading",
    path=MANIFEST,
    after=1000,
    why="no file can hold a medium error",
)


@attack("RP0102-version-two", "The manifest claims a version nobody has rules for, in the hope that none are applied.")
def _(p):
    p.manifest["manifest_version"] = "v2"


@attack("RP0103-decisions-removed", "The decisions are deleted; the manifest still lists them.")
def _(p):
    p.gone.add(path_of("decisions"))


@attack("RP0103-report-removed", "The enclosed report is deleted; the manifest still lists it.")
def _(p):
    p.gone.add(path_of("verifier_report"))


@attack("RP0104-note-added", "A file lies among the artifacts that no digest covers.")
def _(p):
    p.more["artifacts/notes.json"] = b'{"approved_by":"everybody"}'


@attack("RP0104-hidden-file", "A hidden file lies beside the manifest.")
def _(p):
    p.more[".decisions.json.swp"] = b"b0VIM"


@attack("RP0104-second-manifest", "Another manifest lies beside the real one, for readers who pick the wrong one.")
def _(p):
    p.more["manifest.v1.json"] = canon(p.manifest | {"run_id": "release-1.5.0"})


@attack("RP0104-report-delisted", "The report stays, but the manifest no longer lists it, so it could say anything.")
def _(p):
    p.listed.remove(path_of("verifier_report"))


for slug, what, about in [
    ("fifo", {"do": "fifo"}, "A FIFO in place of the decisions: a reader that opens it waits for ever."),
    ("socket", {"do": "socket"}, "A socket in place of the decisions."),
    ("device", {"do": "device"}, "A device that never ends in place of the decisions."),
    (
        "link",
        {"do": "link", "to": "triggers.json"},
        "A symbolic link in place of the decisions, to a file of the pack.",
    ),
    (
        "link-outside",
        {"do": "link", "to": "/proc/self/environ"},
        "A symbolic link out of the pack: its digest would tell what lies there.",
    ),
    (
        "hard-link",
        {"do": "hard-link"},
        "The decisions have a second name outside the pack, by which they can be changed later.",
    ),
]:
    recipe(f"RP0105-{slug}", about, path=path_of("decisions"), why=A_WHY, **what)
recipe(
    "RP0105-linked-directory",
    "The directory of the artifacts is a symbolic link to one outside the pack.",
    do="linked-directory",
    path="artifacts",
    why=A_WHY,
)
recipe(
    "RP0105-linked-manifest",
    "The manifest is a symbolic link out of the pack.",
    do="linked",
    path=MANIFEST,
    why=A_WHY,
)
recipe("RP0105-unlisted-fifo", "A FIFO that the manifest does not name.", do="fifo", path="artifacts/pipe", why=A_WHY)


@attack("RP0105-directory", "A directory in place of the decisions.")
def _(p):
    p.gone.add(path_of("decisions"))
    p.more[path_of("decisions") + "/1.json"] = b"{}"


for slug, path in [
    ("parent", "../outside.json"),
    ("parent-inside", "artifacts/../../outside.json"),
    ("absolute", "/etc/hostname"),
    ("backslash", "artifacts\\decisions.json"),
    ("drive", "C:decisions.json"),
    ("dot", "artifacts/./decisions.json"),
    ("empty", ""),
]:

    @attack(f"RP0106-{slug}", f"The manifest lists a ninth file at `{path}`.")
    def _(p, path=path):
        p.listed.append(path)


@attack("RP0107-decisions-twice", "The decisions are listed twice with one digest, so that the count is wrong.")
def _(p):
    p.listed.insert(4, path_of("decisions"))


@attack(
    "RP0107-two-digests",
    "The decisions are listed twice with two digests; one reader checks the first, one the last.",
)
def _(p):
    p.listed.append(path_of("decisions"))

    def otherwise(manifest):
        other = digest(p.decisions[:1])
        manifest["integrity"]["file_hashes"][-1]["hash"] = manifest["artifacts"][-1]["hash"] = other
        reroot(manifest)

    p.last.append(otherwise)


@attack("RP0108-packets-left-out", "What was disclosed is left out of the pack and of its manifest.")
def _(p):
    p.listed.remove(path_of("packets"))
    p.gone.add(path_of("packets"))


@attack("RP0108-only-the-scenario", "The pack holds a scenario, and no record of any run.")
def _(p):
    p.listed = p.listed[:1]
    p.gone |= {path_of(name) for name in ARTIFACTS} - set(p.listed)


@attack("RP0109-evidence-log", "A well-formed artifact is added that v1 declares and never writes.")
def _(p):
    p.more["artifacts/evidence.json"] = b"[]"
    p.listed.append("artifacts/evidence.json")
    p.last.append(lambda manifest: manifest["artifacts"][-1].update(kind="evidence_log"))


@attack("RP0109-manifest-listed", "The manifest lists itself, with the digest of something else.")
def _(p):
    p.listed.append(MANIFEST)


def index_edit(slug, about, edit):
    attack(f"RP0110-{slug}", about)(lambda p: p.last.append(edit))


def swapped(items, left, right):
    items[left], items[right] = items[right], items[left]


def reordered(manifest):
    swapped(manifest["integrity"]["file_hashes"], 1, 2)
    swapped(manifest["artifacts"], 1, 2)
    reroot(manifest)


index_edit(
    "other-digest",
    "The index gives the decisions another digest than the list that is covered by the root.",
    lambda manifest: manifest["artifacts"][3].update(hash=digest([])),
)
index_edit("kinds-swapped", "The index calls decisions triggers and triggers decisions.", lambda manifest: [
    manifest["artifacts"][1].update(kind="decision_log"), manifest["artifacts"][3].update(kind="trigger_log")])
index_edit(
    "not-required",
    "The index says the decisions are not required.",
    lambda m: m["artifacts"][3].update(required=False),
)
index_edit(
    "other-id",
    "The index calls the decisions by another id.",
    lambda m: m["artifacts"][3].update(artifact_id="d"),
)
index_edit(
    "content-type",
    "The index gives the decisions no content type.",
    lambda m: m["artifacts"][3].update(content_type=None),
)
index_edit(
    "other-path",
    "The index names another file than the digest list.",
    lambda m: m["artifacts"][3].update(path=path_of("packets")),
)
index_edit("shorter", "The index leaves the last file out.", lambda manifest: manifest["artifacts"].pop())
index_edit(
    "index-reordered",
    "The index is in another order than the digest list.",
    lambda m: swapped(m["artifacts"], 1, 2),
)
index_edit("both-reordered", "Index and digest list agree on another order than the format's.", reordered)

recipe(
    "RP0111-sparse",
    "A hole of a tebibyte in place of the packets, which costs the attacker nothing.",
    do="sparse",
    path=path_of("packets"),
    bytes=1 << 40,
    why="git would store the hole",
)
recipe(
    "RP0111-grows",
    "The packets grow while they are read, after their size was looked at. The test's reader never ends.",
    do="endless",
    path=path_of("packets"),
    why="no stored file grows while it is read",
)
for slug, do, path, about in [
    ("while-reading", "fail-reading", path_of("decisions"), "the medium fails in the middle of the decisions"),
    ("opening", "fail-opening", path_of("scenario_spec"), "the scenario cannot be opened"),
    ("listing", "fail-listing", "", "the directory cannot be listed"),
]:
    about = f"Nobody's attack: {about}. The test's reader fails with an I/O error."
    recipe(f"RP0112-{slug}", about, do=do, path=path, after=100, why="no file can hold a medium error")
recipe(
    "RP0113-too-deep",
    "Twenty directories in one another, to see how far the verifier walks.",
    do="directories",
    path="d",
    levels=20,
    why="empty directories are not stored, and the depth would trouble other tools",
)

# Archives.


class Archive:
    """A good pack in an archive, a step long to be small: a header and a file
    for each entry, and what comes after them."""

    def __init__(self):
        pack = Pack(GATE)
        pack.cut(1)
        pack.listed.remove(path_of("verifier_report"))
        files = pack.files()
        self.entries = [(header(path, len(files[path])), files[path]) for path in [MANIFEST] + pack.listed]
        self.end = bytes(1024)

    def at(self, path):
        """Where the entry is."""
        return next(i for i, (head, _) in enumerate(self.entries) if head.startswith(path.encode() + b"\0"))

    def bytes(self):
        padded = lambda data: data + bytes(-len(data) % 512)
        return b"".join(head + padded(data) for head, data in self.entries) + self.end


def header(path, size, mtime=0, kind=b"0", link=b""):
    head = path.encode().ljust(100, b"\0") + b"0000644\0" + b"0000000\0" * 2 + b"%011o\0" % size
    head += b"%011o\0" % mtime + b" " * 8 + kind + link.ljust(100, b"\0") + b"ustar\00000"[:8]
    return summed((head + bytes(64) + b"0000000\0" * 2).ljust(512, b"\0"))


def summed(head):
    """With its checksum."""
    head = head[:148] + b" " * 8 + head[156:]
    return head[:148] + b"%06o\0 " % sum(head) + head[156:]


def sealed(slug, about, code="RP0114", **recipe):
    """An attack on an archive; `recipe`: what the test still does to it."""

    def register(change):
        assert f"{code}-{slug}" not in ATTACKS, slug
        ATTACKS[f"{code}-{slug}"] = (GATE, about, (change, recipe))

    return register


def sealed_otherwise(slug, path, about, **fields):
    """Another header for one entry, with the right checksum."""

    def change(a):
        head, data = a.entries[a.at(path)]
        data = data if fields.get("kind", b"0") == b"0" else b""
        a.entries[a.at(path)] = (header(fields.pop("to", path), len(data), **fields), data)

    sealed(slug, about)(change)


DECISIONS = path_of("decisions")
sealed_otherwise("absolute-name", DECISIONS, "The decisions are to be unpacked to an absolute path.", to="/etc/cron.d/x")
sealed_otherwise(
    "link", DECISIONS, "A symbolic link in place of the decisions, out of the pack.", kind=b"2", link=b"/etc/passwd"
)
sealed_otherwise("hard-link", DECISIONS, "A hard link in place of the decisions.", kind=b"1", link=MANIFEST.encode())
sealed_otherwise("device", DECISIONS, "A device in place of the decisions.", kind=b"3")
sealed_otherwise(
    "time-set",
    DECISIONS,
    "The archive says when the decisions were last changed, which nothing covers.",
    mtime=1709982000,
)


@sealed("second-manifest", "Another manifest follows, for readers who take the last one.")
def _(a):
    a.entries.append((header(MANIFEST, 2), b"{}"))


@sealed("entry-twice", "The decisions come twice, first others; one reader takes the first, one the last.")
def _(a):
    a.entries.insert(a.at(DECISIONS), (header(DECISIONS, 2), b"[]"))


@sealed("manifest-not-first", "The manifest comes last, so that much has to be read before it.")
def _(a):
    a.entries.append(a.entries.pop(0))


@sealed("other-order", "The artifacts are in another order, so that one pack has two archives.")
def _(a):
    swapped(a.entries, 2, 3)


@sealed("directory", "An entry makes the directory of the artifacts, as ordinary tools do.")
def _(a):
    a.entries.insert(1, (header("artifacts/", 0, kind=b"5"), b""))


@sealed("pax-header", "A pax header gives the decisions another name, which only some readers heed.")
def _(a):
    record = b"28 path=artifacts/none.json\n"
    a.entries.insert(a.at(DECISIONS), (header("pax", len(record), kind=b"x"), record))


@sealed("tail-cut", "The second of the two blocks of zeros at the end is missing: more may have followed.")
def _(a):
    a.end = a.end[:512]


@sealed("cut-short", "The archive ends in the middle of the packets.")
def _(a):
    a.entries = a.entries[: a.at(path_of("packets"))]
    a.end = header(path_of("packets"), 600) + b"["


@sealed("trailing-data", "Something follows the end of the archive, which no reader of archives looks at.")
def _(a):
    a.end += b"-----BEGIN NOTE-----"


@sealed("padding-used", "There is text between the decisions and the next header.")
def _(a):
    head, data = a.entries[a.at(DECISIONS)]
    a.entries[a.at(DECISIONS)] = (head, data + b"approved by everybody")


@sealed("checksum-wrong", "A checksum of a header is not that of the header.")
def _(a):
    head, data = a.entries[a.at(DECISIONS)]
    a.entries[a.at(DECISIONS)] = (head[:153] + bytes([head[153] ^ 1]) + head[154:], data)


@sealed("gnu-magic", "The archive was packed again by a tool that writes another kind of header.")
def _(a):
    a.entries = [(summed(head[:257] + b"ustar  \0" + head[265:]), data) for head, data in a.entries]


@sealed("gzip", "The archive is compressed, so that what is read is not what is stored.")
def _(a):
    text = a.bytes()
    # One stored block: the same bytes by every library.
    a.entries = []
    a.end = b"\x1f\x8b\x08" + bytes(6) + b"\xff\x01" + struct.pack("<HH", len(text), len(text) ^ 0xFFFF) + text
    a.end += struct.pack("<II", zlib.crc32(text), len(text))


@sealed(
    "sparse-100-gb",
    "A hole of 100 gigabytes, which costs the attacker nothing, is said to be the packets.",
    do="grown",
    bytes=100 << 30,
    why="git would store the hole",
)
def _(a):
    head = header(path_of("packets"), 0)
    size = b"\x80" + (100 << 30).to_bytes(11, "big")
    a.entries = a.entries[: a.at(path_of("packets"))]
    a.end = summed(head[:124] + size + head[136:])


@sealed(
    "sealed-hole",
    "A hole as large as a header can state is said to be the calls.",
    code="RP0111",
    do="grown",
    bytes=(8 << 30) + 1024,
    why="git would store the hole",
)
def _(a):
    a.entries.pop()
    a.end = header(path_of("tool_calls"), (8 << 30) - 1)


@sealed("sealed-extra", "A file lies in the archive that the manifest does not name.", code="RP0104")
def _(a):
    a.entries.append((header("notes.json", 2), b"{}"))


# Bytes and digests.


def late(slug, name, about, edit, code="RP0201", base=GATE):
    attack(f"{code}-{slug}", about, base)(lambda p: p.late.update({path_of(name): edit}))


def spelt(slug, about, edit, path=path_of("decisions"), code="RP0203", base=GATE):
    attack(f"{code}-{slug}", about, base)(lambda p: p.spelt.update({path: edit}))


late(
    "decisions-edited",
    "decisions",
    "A number is changed in a text editor; no digest is computed again.",
    replaced(b'"seq":1', b'"seq":9'),
)
late(
    "evidence-edited",
    "gate_evals",
    "Twelve tests become 99 in a text editor; no digest is computed again.",
    replaced(b'"value":12', b'"value":99'),
)
late(
    "report-edited",
    "verifier_report",
    "The enclosed report is edited, and no digest computed again.",
    replaced(b"7", b"8"),
)
late("cut-short", "tool_calls", "The transcript lost its second half on the way.", lambda text: text[: len(text) // 2])
late("emptied", "packets", "The packets are a file without bytes.", lambda text: b"")


@attack("RP0201-manifest-edited", "The manifest gives the decisions another digest, in both lists and under the root.")
def _(p):
    def edit(manifest):
        manifest["integrity"]["file_hashes"][3]["hash"] = manifest["artifacts"][3]["hash"] = digest([])
        reroot(manifest)

    p.last.append(edit)


@attack("RP0202-root-edited", "The root is replaced by another digest.")
def _(p):
    p.last.append(lambda manifest: manifest["integrity"].update(root_hash=digest([])))


@attack("RP0202-report-taken-out", "The report is taken out of both lists; the root is left as it was.")
def _(p):
    root = p.manifest["integrity"]["root_hash"]
    p.listed.remove(path_of("verifier_report"))
    p.gone.add(path_of("verifier_report"))
    p.last.append(lambda manifest: manifest["integrity"].update(root_hash=root))


spelt(
    "indented",
    "The decisions are written with spaces and line ends, digests computed again.",
    lambda text: json.dumps(json.loads(text), indent=1, sort_keys=True).encode(),
)
spelt("line-end", "One line end follows the decisions, digests computed again.", lambda text: text + b"\n")
spelt(
    "unordered",
    "Members stand in another order, digests computed again.",
    lambda text: json.dumps([dict(reversed(d.items())) for d in json.loads(text)], separators=(",", ":")).encode(),
)
spelt(
    "duplicate-member",
    "A decision names its stage twice; one reader takes the first, one the last.",
    replaced(b'"stage_id":"review"', b'"stage_id":"release","stage_id":"review"'),
)
spelt("float", "A number is written `1.0`.", replaced(b'"seq":1', b'"seq":1.0'))
spelt("exponent", "A number is written `1e0`.", replaced(b'"seq":1', b'"seq":1e0'))
spelt("escape", "A letter is written as an escape.", replaced(b'"morning"', b'"\\u006dorning"'))
spelt("byte-order-mark", "A byte order mark stands before the log.", lambda text: b"\xef\xbb\xbf" + text)
spelt("not-utf-8", "A name holds a byte that is not UTF-8.", replaced(b'"morning"', b'"mornin\xff"'))
spelt("second-value", "A second array follows the log.", lambda text: text + b"[]")
spelt(
    "cut-short",
    "The log ends in the middle of a decision, digests computed again.",
    lambda text: text[: len(text) // 2],
)
spelt("empty", "The log is a file without bytes, digests computed again.", lambda text: b"")
spelt("log-is-an-object", "A log is an object instead of an array.", lambda text: b"{}", path_of("packets"), "RP0205")
spelt(
    "manifest-indented",
    "The manifest is written with spaces and line ends.",
    lambda text: json.dumps(json.loads(text), indent=1, sort_keys=True).encode(),
    MANIFEST,
)
spelt(
    "scenario-spaced",
    "One space in the scenario, digests and spec hash computed again.",
    replaced(b'":0,', b'": 0,'),
    path_of("scenario_spec"),
)
spelt(
    "two-forms",
    "One member order is that of RFC 8785 and one that of the older form; nobody wrote such a file.",
    lambda text: replaced(b'"jsonpath":"$.summary.passed"', b'"j":1,"j!":2')(
        replaced(b'"jsonpath":"$.summary.failed"', b'"j!":1,"j":2')(text)
    ),
    path_of("scenario_spec"),
)


@attack("RP0204-older-order", "No attack: a member whose name goes on with `!` stands where the older form puts it.")
def _(p):
    p.spelt[path_of("scenario_spec")] = replaced(b'"timestamp"', b'"note!":1,"note":2,"timestamp"')


@attack(
    "RP0204-large-integer",
    "No attack: an integer that no double holds is written digit by digit, as the older form does.",
)
def _(p):
    old = b'"expected":10,"policy_tags":[],"query":{"check_id":"path","params":{"file"'
    new = b'"expected":10,"policy_tags":[],"query":{"check_id":"path","params":{"build":9007199254740993,"file"'
    p.spelt[path_of("scenario_spec")] = replaced(old, new)


spelt("manifest-cut-short", "The manifest ends in the middle.", lambda text: text[: len(text) // 2], MANIFEST, "RP0205")
spelt(
    "manifest-unknown-member",
    "The manifest has a member that the format does not define.",
    replaced(b'{"artifacts"', b'{"approved":true,"artifacts"'),
    MANIFEST,
    "RP0205",
)
spelt(
    "manifest-without-tenant",
    "The manifest does not say whose run it is.",
    replaced(b'"tenant_id":1,', b""),
    MANIFEST,
    "RP0205",
)
spelt(
    "manifest-no-tenant",
    "The tenant is 0, which is nobody.",
    replaced(b'"tenant_id":1,', b'"tenant_id":0,'),
    MANIFEST,
    "RP0205",
)
spelt(
    "manifest-too-deep",
    "The manifest is two thousand arrays in one another.",
    lambda text: b"[" * 2000 + b"]" * 2000,
    MANIFEST,
    "RP0205",
)
recipe(
    "RP0205-manifest-too-large",
    "The manifest is a hole of a tebibyte.",
    do="sparse",
    path=MANIFEST,
    bytes=1 << 40,
    why="git would store the hole",
)
spelt(
    "upper-case-digest",
    "A digest is written in upper case.",
    lambda text: text.replace(b"b0ddcc", b"B0DDCC"),
    path_of("tool_calls"),
    "RP0205",
)
spelt(
    "short-digest",
    "A digest has 63 digits.",
    lambda text: text.replace(b"b0ddcc", b"b0ddc"),
    path_of("tool_calls"),
    "RP0205",
)
spelt(
    "unknown-member",
    "A decision has a member that the format does not define.",
    replaced(b'"decision_id"', b'"decided_by":"me","decision_id"'),
    code="RP0205",
)
spelt(
    "member-left-out",
    "A decision leaves out the correlation that is always written.",
    replaced(b'"correlation_id":null,', b""),
    code="RP0205",
)
spelt(
    "lane-left-out",
    "Evidence does not say its lane, so that the default is taken.",
    replaced(b'"lane":"verified",', b""),
    path_of("gate_evals"),
    "RP0205",
)
spelt("wrong-type", "A sequence number is a string.", replaced(b'"seq":1', b'"seq":"1"'), code="RP0205")
spelt(
    "number-too-large",
    "A sequence number is 2 to the 64th.",
    replaced(b'"seq":1', b'"seq":18446744073709552000'),
    code="RP0205",
)
spelt(
    "unknown-outcome",
    "A decision comes to something the format does not know.",
    replaced(b'"kind":"hold"', b'"kind":"permit"'),
    code="RP0205",
)
spelt(
    "members-of-another-kind",
    "A completion says where it came from.",
    replaced(b'"kind":"complete"', b'"from_stage":"x","kind":"complete"'),
    code="RP0205",
)
spelt(
    "record-is-an-array",
    "A decision is written as an array of its members.",
    lambda text: canon([list(d.values()) for d in json.loads(text)]),
    code="RP0205",
)
spelt("report-is-an-array", "The report is an empty array.", lambda text: b"[]", path_of("verifier_report"), "RP0205")
spelt(
    "byte-out-of-range",
    "A byte is 256.",
    replaced(b'"value":[222', b'"value":[256'),
    path_of("gate_evals"),
    "RP0205",
    RICH_PACK,
)

# Whose run, of which scenario.


@attack("RP0301-other-scenario", "The manifest states the digest of another scenario.")
def _(p):
    p.last.append(lambda manifest: manifest.update(spec_hash=digest({})))


def whose(slug, member, value, about):
    """The manifest says otherwise than the records."""
    attack(f"RP0302-{slug}", about)(lambda p: p.last.append(lambda manifest: manifest.update({member: value})))


whose("other-run", "run_id", "release-1.5.0", "The manifest passes the records off as those of another run.")
whose("other-tenant", "tenant_id", 2, "The manifest passes the records off as another tenant's.")
whose("other-scenario", "scenario_id", "release-gate-2", "The manifest names another scenario than it encloses.")
whose("other-namespace", "namespace_id", 2, "The manifest puts the run into another namespace.")


@attack("RP0302-foreign-trigger", "A trigger of another tenant is among the triggers.")
def _(p):
    p.triggers[1]["event"]["tenant_id"] = 2


@attack("RP0302-foreign-packet", "A packet was issued for another run.")
def _(p):
    p.packets[0]["envelope"]["run_id"] = "release-1.5.0"
    reseal(p.packets[0])


@attack("RP0302-foreign-submission", "A submission was made to another run.", RICH_PACK)
def _(p):
    p.submissions[1]["run_id"] = "change-4712"


def scenario_edit(slug, about, edit):
    attack(f"RP0303-{slug}", about)(lambda p: edit(p.scenario))


scenario_edit("no-stages", "The scenario has no stages.", lambda s: s["stages"].clear())
scenario_edit(
    "stage-twice",
    "Two stages share an id, so that one could stand for the other.",
    lambda s: s["stages"].append(s["stages"][0] | {"gates": []}),
)
scenario_edit(
    "gate-twice",
    "Two gates share an id.",
    lambda s: s["stages"][1].update(gates=copy.deepcopy(s["stages"][0]["gates"][:1])),
)
scenario_edit(
    "condition-twice",
    "A condition is defined a second time, with another expectation.",
    lambda s: s["conditions"].append(s["conditions"][0] | {"expected": 99}),
)
scenario_edit("condition-undefined", "A gate asks for a condition that is taken out.", lambda s: s["conditions"].pop())
scenario_edit(
    "stage-unknown",
    "A stage leads to one that is not there.",
    lambda s: s["stages"][0].update(advance_to={"kind": "fixed", "stage_id": "shipped"}),
)
scenario_edit(
    "nobody-asked",
    "A condition does not say which provider is asked.",
    lambda s: s["conditions"][0]["query"].update(provider_id=" "),
)


def report_edit(slug, about, **members):
    attack(f"RP0304-{slug}", about)(lambda p: p.report.update(members))


report_edit("fails", "The exporter encloses a report that says the pack fails.", status="fail")
report_edit("fewer-files", "The exporter's own verification looked at six files.", checked_files=6)
report_edit("errors", "The report passes and lists an error.", errors=["hash mismatch for artifacts/decisions.json"])

# Records and their order.


@attack("RP0401-decided-twice", "A second decision on a decided trigger is put at the end of the log.")
def _(p):
    again = copy.deepcopy(p.decision_on("morning"))
    p.decisions.append(again | {"seq": 4, "decision_id": "decision-4", "outcome": advance("review", "release")})


@attack(
    "RP0402-trigger-taken-out",
    "The trigger that was held is taken out with all that came of it; the others keep their numbers.",
)
def _(p):
    p.triggers.pop(0)
    p.decisions.pop(0)
    del p.gate_evals[:2]
    p.tool_calls.pop(0)
    p.tool_calls[-1]["_about"] = ("status", 2)


@attack(
    "RP0402-call-taken-out",
    "A repeated call is taken out of the transcript, and its number is missing.",
    RICH_PACK,
)
def _(p):
    p.tool_calls.pop(1)


@attack("RP0402-decision-renamed", "A decision has another id than its number says.")
def _(p):
    p.decisions[2]["decision_id"] = "decision-9"


@attack("RP0402-from-zero", "Triggers count from 0.")
def _(p):
    for position, trigger in enumerate(p.triggers):
        trigger["seq"] = position


@attack("RP0403-gate-without-trigger", "A gate evaluation belongs to a trigger that is not logged.")
def _(p):
    p.gate_evals.append(copy.deepcopy(p.gate_evals[-1]) | {"trigger_id": "evening"})


@attack("RP0403-decision-without-trigger", "A decision is on a trigger that is not logged.")
def _(p):
    p.decisions.append(p.decisions[-1] | {"trigger_id": "evening", "seq": 4, "decision_id": "decision-4"})


@attack("RP0403-packet-without-decision", "A packet belongs to a decision that was never made.")
def _(p):
    p.packets.append(copy.deepcopy(p.packets[0]) | {"decision_id": "decision-9"})


@attack("RP0403-trace-without-evidence", "The evidence of a condition is taken out; the trace still names it.")
def _(p):
    p.gate_of("morning", "tests")["evidence"].pop(0)


@attack("RP0403-to-no-stage", "A decision leads to a stage that the scenario does not have.")
def _(p):
    p.cut(2)
    p.decisions[1]["outcome"]["to_stage"] = "shipped"
    p.packets.clear()


@attack("RP0404-decided-earlier", "A decision is dated before its trigger.")
def _(p):
    p.decisions[0]["decided_at"] = millis(1709000000000)


@attack("RP0404-decision-correlation", "A decision carries another correlation than its trigger.", RICH_PACK)
def _(p):
    p.decision_on("t-2")["correlation_id"] = "c-other"


@attack("RP0404-packet-dated", "A packet is dated before the decision that issued it.")
def _(p):
    p.packets[0]["envelope"]["issued_at"] = millis(1709982000000)
    reseal(p.packets[0])


@attack("RP0404-packet-correlation", "A packet carries another correlation than its decision.", RICH_PACK)
def _(p):
    p.packets[2]["envelope"]["correlation_id"] = None
    reseal(p.packets[2])


@attack("RP0404-call-dated", "A call is dated otherwise than the trigger it brought.")
def _(p):
    p.tool_calls[0]["called_at"] = millis(1709982000001)


@attack("RP0404-call-correlation", "A call carries another correlation than the trigger it brought.", RICH_PACK)
def _(p):
    next(c for c in p.tool_calls if c["_about"] == ("decided", "t-2"))["correlation_id"] = None


@attack("RP0404-submission-dated", "A call is dated otherwise than the submission it brought.", RICH_PACK)
def _(p):
    next(c for c in p.tool_calls if c["_about"] == ("submitted", "s-2"))["called_at"] = logical(12)


@attack("RP0405-decision-elsewhere", "A decision was made in a stage the run was not in.")
def _(p):
    p.decisions[0]["stage_id"] = "release"


@attack("RP0405-gate-elsewhere", "A gate was evaluated in a stage the run was not in.")
def _(p):
    p.gate_evals[0]["stage_id"] = "release"


@attack("RP0405-advance-from-elsewhere", "A decision moves the run out of a stage it was not in.")
def _(p):
    p.decisions[1]["outcome"]["from_stage"] = "release"


@attack("RP0405-completed-elsewhere", "The run is completed in a stage it had left.")
def _(p):
    p.decisions[2]["outcome"]["stage_id"] = "review"


@attack("RP0405-packet-elsewhere", "A packet names a stage that its decision does not enter.")
def _(p):
    p.packets[0]["envelope"]["stage_id"] = "review"
    reseal(p.packets[0])


@attack("RP0406-after-completion", "A run that completed is decided once more, all records and calls in order.")
def _(p):
    run = p.run()
    status = p.tool_calls.pop()
    run.step(run.event("later", millis(1710000070000)), [], {"kind": "complete", "stage_id": "release"})
    p.tool_calls.append(status | {"_about": ("status", 4)})
    number_calls(p.logs)


@attack("RP0406-after-failure", "A run that failed by timeout goes on as if it had not.")
def _(p):
    run = Run(timed_scenario(), {"tenant_id": 1, "run_id": "run-1"})
    run.step(
        run.event("t-1", logical(50), "cron", "tick"),
        [],
        {"kind": "fail", "reason": "timeout"},
        "scenario.trigger",
    )
    run.step(run.event("t-2", logical(60)), [answer_gate(run, True)], {"kind": "complete", "stage_id": "wait"})
    p.tell(run, logical(70))


def timed_scenario(comparator="equals", expected=True):
    """One stage, one gate, one condition, and a timeout of ten ticks."""
    condition = {"comparator": comparator, "condition_id": "answer", "expected": expected, "policy_tags": []}
    condition["query"] = {"check_id": "answer", "provider_id": "oracle"}
    gate = {"gate_id": "answered", "requirement": {"Condition": "answer"}}
    stage = {"advance_to": {"kind": "terminal"}, "entry_packets": [], "gates": [gate], "on_timeout": "fail"}
    stage |= {"stage_id": "wait", "timeout": {"policy_tags": [], "timeout_ms": 10}}
    scenario = {"conditions": [condition], "default_tenant_id": None, "namespace_id": 1, "policies": [], "schemas": []}
    return scenario | {"scenario_id": "wait-for-it", "spec_version": "1", "stages": [stage]}


def answer_gate(run, value, status=None):
    status = status or ("True" if value is True else "False")
    return run.gate(
        "answered",
        status,
        [("answer", status)],
        {"answer": result(js(value), content_type="application/json")},
    )


@attack("RP0407-never-decided", "A trigger was logged, and its decision is not there.")
def _(p):
    run = p.run()
    p.triggers.append({"event": run.event("evening", millis(1710000090000)), "seq": 4})


@attack("RP0407-decisions-swapped", "Two decisions change places and numbers.")
def _(p):
    swapped(p.decisions, 0, 1)
    for position, decision in enumerate(p.decisions):
        decision |= {"seq": position + 1, "decision_id": f"decision-{position + 1}"}


@attack("RP0407-decision-removed", "The last decision is taken out; its trigger and its call stay.")
def _(p):
    p.answers = False
    p.decisions.pop()


@attack("RP0408-same-trigger-again", "The trigger that was held comes a second time and is decided a second time.")
def _(p):
    p.triggers.insert(1, copy.deepcopy(p.triggers[0]))
    p.gate_evals[2:2] = copy.deepcopy(p.gate_evals[:2])
    p.decisions.insert(1, copy.deepcopy(p.decisions[0]))
    p.tool_calls.insert(1, copy.deepcopy(p.tool_calls[0]))
    p.packets[0]["decision_id"] = "decision-3"
    for position, (trigger, decision) in enumerate(zip(p.triggers, p.decisions, strict=True)):
        trigger["seq"] = decision["seq"] = position + 1
        decision["decision_id"] = f"decision-{position + 1}"
    for position, about in enumerate([("decided", 0), ("decided", 1), ("decided", 2), ("decided", 3), ("status", 4)]):
        p.tool_calls[position]["_about"] = about
    number_calls(p.logs)


@attack(
    "RP0409-submission-twice",
    "A second submission is logged under a used id, in place of the conflict it was.",
    RICH_PACK,
)
def _(p):
    at = next(i for i, c in enumerate(p.tool_calls) if c["error"] and c["method"] == "scenario.submit")
    record = p.submissions[0] | {"payload": js({"open": 0}), "submitted_at": logical(16)}
    p.submissions.insert(3, record | {"content_hash": content_hash(record["payload"])})
    p.tool_calls[at] |= {"error": None, "_about": ("submitted", 3)}


# Evidence, payloads, calls.


def anchor_edit(slug, about, edit):
    @attack(f"RP0501-{slug}", about, RICH_PACK)
    def _(p):
        edit(p.evidence_of("t-3", "scan", "findings-none")["result"])


anchor_edit("removed", "Evidence of a file does not say which file.", lambda r: r.update(evidence_anchor=None))
anchor_edit(
    "other-type",
    "Evidence of a file is anchored to a URL.",
    lambda r: r["evidence_anchor"].update(anchor_type="url"),
)
anchor_edit(
    "no-root",
    "An anchor does not name the root of its path.",
    lambda r: r["evidence_anchor"].update(anchor_value='{"path":"scan.json"}'),
)
anchor_edit(
    "null-root",
    "An anchor names no root.",
    lambda r: r["evidence_anchor"].update(anchor_value='{"path":"scan.json","root_id":null}'),
)
anchor_edit("not-json", "An anchor is no JSON.", lambda r: r["evidence_anchor"].update(anchor_value="scan.json"))
anchor_edit(
    "not-an-object",
    "An anchor is JSON, and no object.",
    lambda r: r["evidence_anchor"].update(anchor_value='["scan.json"]'),
)


@attack(
    "RP0501-policy-tightened",
    "The manifest claims a stricter anchor policy than the run was decided under.",
    RICH_PACK,
)
def _(p):
    p.manifest["anchor_policy"]["providers"][0]["requirement"]["required_fields"].append("sha256")


@attack("RP0502-condition-invented", "Evidence answers a question that the scenario does not ask.")
def _(p):
    record = p.gate_of("morning", "tests")
    record["evidence"].append(copy.deepcopy(record["evidence"][0]) | {"condition_id": "security-approves"})
    record["evaluation"]["trace"].append({"condition_id": "security-approves", "status": "True"})


@attack("RP0503-value-edited", "Twelve tests become ninety-nine; the digest of the value stays.")
def _(p):
    p.evidence_of("morning", "tests", "enough-tests")["result"]["value"] = js(99)


@attack("RP0503-bytes-edited", "A byte of the evidence is changed; its digest stays.", RICH_PACK)
def _(p):
    p.evidence_of("t-1", "scan", "digest-pinned")["result"]["value"]["value"][0] = 221


@attack("RP0503-digest-removed", "Evidence does not state the digest of its value.")
def _(p):
    p.evidence_of("morning", "tests", "enough-tests")["result"]["evidence_hash"] = None


# RFC 8785 writes 2^53 + 1 as 2^53, so a digest of those bytes would cover both.
LARGE, NEIGHBOUR = 2**53, replaced(b"9007199254740992", b"9007199254740993")


@attack("RP0503-neighbour", "A number of 2^53 becomes the next, which RFC 8785 writes alike.")
def _(p):
    restate(p.evidence_of("morning", "tests", "enough-tests"), js(LARGE))
    p.spelt[path_of("gate_evals")] = NEIGHBOUR


@attack("RP0504-neighbour", "A number that was handed in becomes the next, which RFC 8785 writes alike.", RICH_PACK)
def _(p):
    submission = p.submissions[0]
    submission["payload"]["value"]["open"] = LARGE
    submission["content_hash"] = content_hash(submission["payload"])
    p.spelt[path_of("submissions")] = NEIGHBOUR


@attack("RP0504-packet-edited", "The note that was disclosed is replaced; its digest stays.")
def _(p):
    p.packets[0]["payload"]["value"]["message"] = "version 1.4.1 may be released"


@attack("RP0504-packet-bytes-edited", "A byte of a disclosed key is changed; its digest stays.", RICH_PACK)
def _(p):
    p.packets[1]["payload"]["bytes"][0] = 1


@attack("RP0504-external-digest", "An envelope states another digest than the reference it points with.", RICH_PACK)
def _(p):
    packet = p.packets[2]
    packet["envelope"]["content_hash"] = digest_of(b"another manual")
    for receipt in packet["receipts"]:
        receipt["receipt_hash"] = digest(packet["envelope"])


@attack("RP0504-submission-edited", "What was handed in is replaced; its digest stays.", RICH_PACK)
def _(p):
    p.submissions[0]["payload"]["value"]["open"] = 0


@attack("RP0504-submission-bytes-edited", "A byte that was handed in is changed; its digest stays.", RICH_PACK)
def _(p):
    p.submissions[1]["payload"]["bytes"][0] = 0


def call_edit(code, slug, about, which, member="response_hash", base=RICH_PACK):
    @attack(f"{code}-{slug}", about, base)
    def _(p):
        answer_calls(p.whose(), p.scenario, p.logs)
        p.answers = False
        next(call for call in p.tool_calls if which(call))[member] = digest("something else")


def about(kind, what):
    return lambda call: call["_about"] == (kind, what)


@attack("RP0505-neighbour", "A number in a trigger becomes the next, which RFC 8785 writes alike.", RICH_PACK)
def _(p):
    named = next(t for t in p.triggers if t["event"]["trigger_id"] == "t-2")
    named["event"]["payload"]["value"]["build"] = LARGE
    p.spelt[path_of("triggers")] = NEIGHBOUR


REQUEST, RESPONSE = ("RP0505", "request_hash"), ("RP0506", "response_hash")
for (code, member), slug, text, which in [
    (
        REQUEST,
        "next",
        "The digest of a request covers another request than the trigger it became.",
        about("decided", "t-1"),
    ),
    (REQUEST, "trigger", "The digest of a sent trigger covers another event.", about("decided", "t-2")),
    (REQUEST, "status", "The digest of a status request covers something else.", about("status", 3)),
    (REQUEST, "submission", "The digest of a submission's request covers something else.", about("submitted", "s-2")),
    (RESPONSE, "decision", "The digest of an answer covers another decision.", about("decided", "t-3")),
    (RESPONSE, "status", "The digest of an answer covers another status.", about("status", 3)),
    (
        RESPONSE,
        "submission",
        "The digest of an answer covers another submission than the log holds.",
        about("submitted", "s-4"),
    ),
    (
        RESPONSE,
        "repeat",
        "A repeated trigger was answered with something that was never decided.",
        about("repeated", "t-1"),
    ),
    (RESPONSE, "error", "The digest of a refused call covers another error.", lambda call: call["error"]),
    (
        RESPONSE,
        "after-the-end",
        "A finished run gave another answer than its last.",
        lambda call: call["_about"][0] == "ended",
    ),
]:
    call_edit(code, slug, text, which, member)


@attack("RP0507-call-removed", "The call that brought a trigger is taken out, the others numbered again.")
def _(p):
    p.tool_calls.pop(0)
    number_calls(p.logs)


@attack("RP0507-transcript-emptied", "The transcript is emptied.")
def _(p):
    p.tool_calls.clear()


@attack("RP0507-submission-without-call", "A submission that nobody made is put at the end of the log.")
def _(p):
    record = {"content_hash": digest(True), "content_type": "application/json", "correlation_id": None}
    record |= {"payload": js(True), "run_id": "release-1.4.0", "submission_id": "waiver"}
    p.submissions.append(record | {"submitted_at": millis(1709990000000)})


@attack("RP0507-unknown-method", "The transcript holds a call of a method that is never recorded.")
def _(p):
    p.tool_calls[-1]["method"] = "scenario.approve"


@attack("RP0507-conflict-with-nothing", "A submission was refused because of one that was never made.", RICH_PACK)
def _(p):
    call = next(c for c in p.tool_calls if c["error"] and c["method"] == "scenario.submit")
    call["error"]["details"]["info"] = "submission_id=s-9"


@attack("RP0507-wrong-refusal", "A submission was refused with an error that submissions do not get.", RICH_PACK)
def _(p):
    refused = [c for c in p.tool_calls if c["error"]]
    refused[0]["error"] = copy.deepcopy(refused[1]["error"])


@attack(
    "RP0508-freeze-over-early",
    "In the morning the freeze was over, says the evidence; all that follows from it is computed again.",
)
def _(p):
    p.cut(1)
    evidence = p.evidence_of("morning", "freeze-over", "after-freeze")
    restate(evidence, js(True))
    comes_out(p, "morning", "freeze-over", "True", after_freeze="True")
    advance_at_last(p, "release")


def advance_at_last(p, to):
    """The last decision moves the run on, packets and all."""
    last = p.decisions.pop()
    run = p.run()
    run.stage = last["stage_id"]
    run.targets = run.targets or [{"agent_id": "release-bot", "kind": "agent"}]
    event = named(p.triggers, last["trigger_id"])["event"]
    run.decide(event, advance(last["stage_id"], to))


@attack(
    "RP0508-window-open-early",
    "The window was open at tick 40, says the evidence; all that follows from it is computed again.",
    RICH_PACK,
)
def _(p):
    p.cut(5)
    evidence = p.evidence_of("t-4", "window", "window-open")
    restate(evidence, js(True))
    comes_out(p, "t-4", "window", "True", window_open="True")
    advance_at_last(p, "ship")


@attack("RP0508-no-answer", "The clock had no answer, so that the window stays shut.", RICH_PACK)
def _(p):
    restate(p.evidence_of("t-4", "window", "window-open"), None)
    comes_out(p, "t-4", "window", "Unknown", window_open="Unknown")


@attack("RP0508-answer-in-bytes", "The clock answered with bytes, which nothing compares with.", RICH_PACK)
def _(p):
    restate(p.evidence_of("t-4", "window", "window-open"), {"kind": "bytes", "value": [1]})
    comes_out(p, "t-4", "window", "Unknown", window_open="Unknown")


@attack("RP0508-other-clock", "Evidence of the time is anchored to another time than its trigger's.")
def _(p):
    anchor = p.evidence_of("morning", "freeze-over", "after-freeze")["result"]["evidence_anchor"]
    anchor["anchor_value"] = "1709982000001"


# Decided otherwise.


@attack("RP0601-gate-left-out", "The gate that held the run is left out, and the run moves on.")
def _(p):
    p.cut(1)
    p.gate_evals.pop()
    advance_at_last(p, "release")


@attack("RP0601-condition-left-out", "A condition that a gate asks for is left out of evidence and trace.")
def _(p):
    record = p.gate_of("morning", "tests")
    record["evidence"].pop(0)
    record["evaluation"]["trace"].pop()


@attack("RP0601-foreign-condition", "A gate has evidence of a condition that it does not ask for.")
def _(p):
    stranger = p.evidence_of("afternoon", "freeze-over", "after-freeze")
    p.gate_of("afternoon", "tests")["evidence"].insert(0, copy.deepcopy(stranger))


@attack("RP0601-evidence-unordered", "The evidence of a gate is in another order.")
def _(p):
    p.gate_of("morning", "tests")["evidence"].reverse()


@attack("RP0601-gates-swapped", "The gates of a stage are evaluated in another order.")
def _(p):
    swapped(p.gate_evals, 0, 1)


@attack("RP0601-gate-of-no-stage", "A gate that the scenario does not have was evaluated too.")
def _(p):
    record = copy.deepcopy(p.gate_evals[0])
    record["evaluation"]["gate_id"] = "security"
    p.gate_evals.insert(1, record)


@attack("RP0601-gates-at-timeout", "The stage had expired, and gates were evaluated all the same.", RICH_PACK)
def _(p):
    late_gates = copy.deepcopy([g for g in p.gate_evals if g["trigger_id"] == "t-4"])
    event = named(p.triggers, "t-5")["event"]
    clock = from_clock(event["time"], True)
    for record in late_gates:
        record["trigger_id"] = "t-5"
        for evidence in record["evidence"]:
            if evidence["condition_id"] == "window-open":
                evidence["result"] = copy.deepcopy(clock)
    p.gate_evals += late_gates
    comes_out(p, "t-5", "window", "True", window_open="True")


@attack(
    "RP0601-early-timeout",
    "A tick before the deadline is passed off as the timeout, so that no gate is asked.",
    RICH_PACK,
)
def _(p):
    p.cut(6)
    for record in (p.triggers[5]["event"], p.tool_calls[-1]):
        record["time" if "time" in record else "called_at"] = logical(79)
    p.decisions[5]["decided_at"] = p.packets[2]["envelope"]["issued_at"] = logical(79)
    reseal(p.packets[2])
    for receipt in p.packets[2]["receipts"]:
        receipt["dispatched_at"] = logical(79)


@attack("RP0601-two-answers", "Two gates had different evidence of one condition.", RICH_PACK)
def _(p):
    restate(p.evidence_of("t-4", "quiet", "ann-on-call"), js(["ann"]))


@attack("RP0601-start-with-gates", "The start of the run evaluated a gate.", RICH_PACK)
def _(p):
    p.gate_evals.insert(0, copy.deepcopy(p.gate_of("t-1", "owner")) | {"trigger_id": "init"})


@attack(
    "RP0602-too-few-tests",
    "Five tests ran, says the evidence with its digest, and that is enough, says the status.",
)
def _(p):
    for trigger in ["morning", "afternoon"]:
        restate(p.evidence_of(trigger, "tests", "enough-tests"), js(5))


@attack(
    "RP0602-finding-overlooked",
    "Three findings are open, and the condition, its gate and the decision overlook them.",
    RICH_PACK,
)
def _(p):
    comes_out(p, "t-1", "scan", "True", findings_none="True")
    p.decision_on("t-1")["outcome"] = hold("owner")


@attack("RP0602-error-overlooked", "The scanner did not answer, and that counts as no findings.", RICH_PACK)
def _(p):
    comes_out(p, "t-2", "scan", "True", findings_none="True")
    p.decision_on("t-2")["outcome"] = hold("owner")


@attack("RP0602-value-beside-error", "Evidence with an error keeps the value that deciding clears.", RICH_PACK)
def _(p):
    evidence = p.evidence_of("t-2", "scan", "findings-none")
    restate(evidence, js(0))


@attack("RP0602-verified-lowered", "Verified evidence was put aside as if it were only asserted.", RICH_PACK)
def _(p):
    evidence = p.evidence_of("t-3", "owner", "owner-approves")
    evidence["result"]["error"] = copy.deepcopy(LOWERED)
    comes_out(p, "t-3", "owner", "Unknown", owner_approves="Unknown")


@attack(
    "RP0603-false-gate-true",
    "A gate whose conditions do not hold comes out True, and the decision follows it.",
    RICH_PACK,
)
def _(p):
    comes_out(p, "t-1", "scan", "True")
    p.decision_on("t-1")["outcome"] = hold("owner")


@attack("RP0603-true-gate-false", "A gate whose conditions hold comes out False, and the run is held.")
def _(p):
    p.cut(2)
    p.packets.clear()
    comes_out(p, "afternoon", "tests", "False")
    p.decision_on("afternoon")["outcome"] = hold("tests")


@attack("RP0603-trace-contradicts", "The trace says otherwise than the evidence.")
def _(p):
    p.gate_of("morning", "tests")["evaluation"]["trace"][0]["status"] = "False"


@attack("RP0603-trace-shortened", "The trace leaves out a condition that was visited.")
def _(p):
    p.gate_of("morning", "tests")["evaluation"]["trace"].pop()


@attack(
    "RP0604-advance-instead-of-hold",
    "A gate is False, and the run moves on all the same, packets and calls in order.",
)
def _(p):
    p.cut(1)
    advance_at_last(p, "release")


@attack("RP0604-hold-instead-of-advance", "Every gate is True, and the run is held.")
def _(p):
    p.cut(2)
    p.packets.clear()
    p.decision_on("afternoon")["outcome"] = hold("tests")


@attack("RP0604-complete-instead-of-advance", "The run completes one stage too early.")
def _(p):
    p.cut(2)
    p.packets.clear()
    p.decision_on("afternoon")["outcome"] = {"kind": "complete", "stage_id": "review"}


@attack("RP0604-other-gates-unmet", "A hold names another gate than the one that is not met.")
def _(p):
    p.decision_on("morning")["outcome"] = hold("tests")


@attack("RP0604-other-hint", "A hold gives a hint that nobody decided.")
def _(p):
    p.decision_on("morning")["outcome"]["summary"]["retry_hint"] = "call the director"


@attack("RP0604-timeout-unflagged", "An advance by timeout does not say so.", RICH_PACK)
def _(p):
    p.decision_on("t-5")["outcome"]["timeout"] = False


@attack("RP0604-failed-for-nothing", "The run failed by a timeout that its stage does not have.")
def _(p):
    p.cut(2)
    p.packets.clear()
    p.decision_on("afternoon")["outcome"] = {"kind": "fail", "reason": "timeout"}


@attack("RP0604-denied-nothing", "A policy denied a disclosure where nothing was to be disclosed.")
def _(p):
    p.cut(3)
    p.decision_on("released")["outcome"] = {"kind": "fail", "reason": "policy denied disclosure"}


@attack("RP0604-started-again", "A trigger in the middle of the run is decided as its start.")
def _(p):
    p.decision_on("morning")["outcome"] = {"kind": "start", "stage_id": "review"}


@attack("RP0605-packet-left-out", "What was disclosed is left out of the log, and of the answer that the call covers.")
def _(p):
    p.packets.clear()


@attack("RP0605-packet-added", "A second copy of the note was disclosed.")
def _(p):
    p.packets.append(copy.deepcopy(p.packets[0]))


@attack("RP0605-other-payload", "Another note was disclosed than the scenario's, with its digest.")
def _(p):
    p.packets[0]["payload"]["value"]["message"] = "version 1.4.1 may be released"
    reseal(p.packets[0])


@attack("RP0605-label-dropped", "A secret key was disclosed without its label.", RICH_PACK)
def _(p):
    p.packets[1]["envelope"]["visibility"]["labels"].remove("secret")
    reseal(p.packets[1])


@attack("RP0605-other-targets", "A packet went to another target than those of the run.", RICH_PACK)
def _(p):
    p.packets[1]["receipts"][1]["target"]["target"] = "press@example.org"


@attack("RP0605-receipt-dropped", "One receipt of a packet is dropped, as if it had not gone there.", RICH_PACK)
def _(p):
    p.packets[1]["receipts"].pop()


@attack("RP0605-receipt-of-another", "A receipt covers another envelope than its packet's.")
def _(p):
    p.packets[0]["receipts"][0]["receipt_hash"] = digest({})


@attack("RP0606-two-lanes", "The owner's unproven word did not count on one trigger and counts on the next.", RICH_PACK)
def _(p):
    assert_owner(p, "t-2")
    p.decision_on("t-2")["outcome"] = hold("scan")


def assert_owner(p, trigger):
    p.evidence_of(trigger, "owner", "owner-approves")["result"]["error"] = None
    comes_out(p, trigger, "owner", "True", owner_approves="True")


@attack("RP0606-no-start", "A tick was in time, and a later one too late by a start that would have been later still.")
def _(p):
    run = Run(timed_scenario(), {"tenant_id": 1, "run_id": "run-1"})
    # In time at 60: entered after 50. Expired at 59: entered at 49 or before.
    in_time, expired = run.event("t-1", logical(60), "cron", "tick"), run.event("t-2", logical(59), "cron", "tick")
    run.step(in_time, [answer_gate(run, False)], hold("answered"), "scenario.trigger")
    run.step(expired, [], {"kind": "fail", "reason": "timeout"}, "scenario.trigger")
    p.tell(run, logical(70))


@attack(
    "RP0607-asserted-counts",
    "The owner's unproven word counted throughout, and the manifest claims no permissive deployment.",
    RICH_PACK,
)
def _(p):
    for trigger in ["t-1", "t-2"]:
        assert_owner(p, trigger)
        p.decision_on(trigger)["outcome"] = hold("scan")


for slug, comparator, expected, value, status in [
    ("in-set", "in_set", [1, 2], 1, "False"),
    ("contains", "contains", [1], [1, 2], "False"),
    ("deep-equals", "deep_equals", {"build": 1}, {"build": 1}, "False"),
    ("deep-not-equals", "deep_not_equals", {"build": 1}, {"build": 1}, "True"),
]:

    @attack(
        f"RP0608-{slug}",
        f"Not to be told: `{comparator}` came out {status}, which it does if a whole number was written as a float.",
    )
    def _(p, comparator=comparator, expected=expected, value=value, status=status):
        run = Run(timed_scenario(comparator, expected), {"tenant_id": 1, "run_id": "run-1"})
        outcome = hold("answered") if status == "False" else {"kind": "complete", "stage_id": "wait"}
        run.step(run.event("t-1", logical(5)), [answer_gate(run, value, status)], outcome)
        p.tell(run, logical(9))


def expecting(slug, about, base=GATE, **expect):
    @attack(f"RP0701-{slug}", about, base)
    def _(p):
        p.expect = expect


OTHER = digest("another pack")["value"]
expecting("root", "A pack that agrees with itself and has not the root that was noted down.", root=OTHER)
expecting("digest", "A pack that agrees with itself and has not the digest that was noted down.", digest=OTHER)
expecting("tenant", "Another tenant's pack.", tenant=2)
expecting("namespace", "A pack of another namespace.", namespace=2)
expecting("scenario", "A pack of another scenario.", scenario="release-gate-2")
expecting("run", "A pack of another run.", run="release-1.5.0")
expecting(
    "no-anchors",
    "The auditor asked for anchors, and the run was decided without.",
    anchor_policy=json.loads((HERE / "source/rich/anchor-policy.json").read_bytes()),
)
STRICTER = json.loads((HERE / "source/rich/anchor-policy.json").read_bytes())
STRICTER["providers"][0]["requirement"]["required_fields"].append("sha256")
expecting(
    "other-anchors",
    "The auditor asked for stricter anchors than the manifest says.",
    RICH_PACK,
    anchor_policy=STRICTER,
)


@attack("RP0701-lane-looser", "The auditor asked for verified evidence, and asserted evidence counted.", RICH_PACK)
def _(p):
    ATTACKS["RP0607-asserted-counts"][2](p)
    p.expect = {"min_lane": "verified"}


@attack(
    "RP0701-replaced-whole",
    "Every record is replaced by those of a better run, and every digest computed again: only the noted root tells.",
)
def _(p):
    p.expect = {"root": p.manifest["integrity"]["root_hash"]["value"]}
    for trigger in ["morning", "afternoon"]:
        restate(p.evidence_of(trigger, "tests", "enough-tests"), js(1200))


# --- trust ---------------------------------------------------------------------


AUDIT = {"signatures": 0}


def signing(name, about, policy, base=GATE, **attestations):
    """An attack on who says so: attestations by name, made of the manifest."""

    @attack(name, about, base)
    def _(p):
        p.attested = {f"{file.replace('_', '-')}.dsse.json": make for file, make in attestations.items()}
        p.expect = {"trust": policy}


def signed(*keys, **changes):
    return lambda manifest: envelope(canon(statement(manifest, **changes)), keys)


def edited(edit, *keys):
    """A statement that was edited, then signed."""

    def make(manifest):
        said = statement(manifest)
        edit(said)
        return envelope(canon(said), keys)

    return make


def damaged(edit, *keys, **changes):
    """An envelope that was edited after it was signed."""

    def make(manifest):
        wrapped = envelope(canon(statement(manifest, **changes)), keys)
        return edit(wrapped) or wrapped

    return make


def decided(**changes):
    return lambda manifest: envelope(canon(statement(manifest, settings=settings(manifest, **changes))), [ANN])


def other_run(wrapped):
    said = json.loads(base64.b64decode(wrapped["payload"]))
    said["predicate"]["run_id"] = "release-1.4.1"
    wrapped["payload"] = base64.b64encode(canon(said)).decode()


def other_byte(wrapped):
    sig = bytearray(base64.b64decode(wrapped["signatures"][0]["sig"]))
    sig[0] ^= 1
    wrapped["signatures"][0]["sig"] = base64.b64encode(sig).decode()


ONE = trusting(trusted(ANN))
TWO = trusting(trusted(ANN), trusted(BOB), signatures=2)
JUST_LOOK = trusting(trusted(ANN), **AUDIT)

signing("RP0801-taken-away", "The attestation was removed, and the auditor wants one.", ONE)
signing("RP0801-by-role", "Nobody signed, and no number is asked for but that of a role.",
    trusting(trusted(ANN, roles=["auditor"]), signatures=0, roles={"auditor": 1}))
signing("RP0802-one-of-two", "One of two signers is enough for the forger, and not for the auditor.", TWO, by_ann=signed(ANN))
signing("RP0802-same-signer-twice", "One signer signs twice, in two attestations and twice in one.", TWO,
    by_ann=signed(ANN, ANN), again=signed(ANN))
signing("RP0802-no-auditor", "Two exporters signed, and an auditor did not.",
    trusting(trusted(ANN, roles=["exporter"]), trusted(BOB, roles=["auditor"]), roles={"auditor": 1}), by_ann=signed(ANN))
signing("RP0802-unknown-signers", "A forger signs with keys of their own, as many as are asked for.", TWO, by_eve=signed(EVE, SCANNER))
signing("RP0803-cut-short", "The attestation ends in the middle.", JUST_LOOK, by_ann=lambda m: canon(signed(ANN)(m))[:-40])
signing("RP0803-no-envelope", "Beside the manifest lies a note that is called an attestation.", JUST_LOOK, by_ann=lambda m: b"{}")
signing("RP0803-nobody", "An envelope without a signature.", JUST_LOOK, by_ann=signed())
signing("RP0803-more-than-that", "A member in the envelope that no signature covers.", JUST_LOOK,
    by_ann=damaged(lambda wrapped: wrapped | {"verdict": "signed"}, ANN))
signing("RP0803-two-subjects", "A statement that speaks of two packs at once.", JUST_LOOK,
    by_ann=edited(lambda said: said["subject"].append(said["subject"][0]), ANN))
signing("RP0803-other-type", "A message of another type, signed by the right key.", JUST_LOOK,
    by_ann=lambda m: envelope(canon(statement(m)), [ANN], "application/json"))
signing("RP0803-older-statement", "A statement of an older form of in-toto.", JUST_LOOK,
    by_ann=edited(lambda said: said.update(_type="https://in-toto.io/Statement/v0.1"), ANN))
signing("RP0803-no-digest", "A statement whose subject has only an MD5 digest.", JUST_LOOK,
    by_ann=edited(lambda said: said["subject"][0].update(digest={"md5": "0" * 32}), ANN))
signing("RP0803-unsigned-word", "A member of the predicate that this version does not know.", JUST_LOOK,
    by_ann=edited(lambda said: said["predicate"].update(approved=True), ANN))
signing("RP0804-of-another-pack", "A good attestation of another pack of the same run.", JUST_LOOK,
    by_ann=lambda m: signed(ANN)(m + b" "))
signing("RP0805-payload-changed", "The statement names another run, and keeps the signature.", JUST_LOOK,
    by_ann=damaged(other_run, ANN))
signing("RP0805-byte-changed", "One bit of the signature is another.", JUST_LOOK, by_ann=damaged(other_byte, ANN))
signing("RP0805-borrowed-name", "A forger signs with a key of their own and says it is the trusted one.", JUST_LOOK,
    by_ann=damaged(lambda wrapped: wrapped["signatures"][0].update(keyid=ANN.id), EVE))
signing("RP0806-other-run", "Signed, and about another run than the manifest says.", JUST_LOOK, by_ann=signed(ANN, run_id="release-1.4.1"))
signing("RP0806-other-root", "Signed, with a root digest that this manifest has not.", JUST_LOOK,
    by_ann=signed(ANN, root_hash=digest("another root")))
signing("RP0806-other-anchors", "Signed with anchors that the manifest left out.", JUST_LOOK,
    by_ann=decided(anchor_policy=json.loads((HERE / "source/rich/anchor-policy.json").read_bytes())))
signing("RP0806-other-lane", "Signed as decided on any evidence, and the asserted one did not count.", JUST_LOOK, RICH_PACK,
    by_ann=decided(min_lane="asserted"))
signing("RP0806-two-stories", "One signer says two different things of how the run was decided.", JUST_LOOK,
    by_ann=decided(), later=decided(logic="bochvar"))
signing("RP0807-by-anybody", "Signed by a key that nobody knows.", JUST_LOOK, by_eve=signed(EVE))
signing("RP0807-no-name", "Signed by a key that nobody knows, and that is not named.", JUST_LOOK,
    by_eve=damaged(lambda wrapped: wrapped["signatures"][0].pop("keyid") and None, EVE))
DAY = 24 * 60 * 60 * 1000
for slug, about, window, at in [
    ("expired", "Signed with a key that is past its time.", {"valid_until": "1970-01-02"}, DAY),
    ("too-early", "Signed with a key whose time has not come.", {"valid_from": "1970-01-02"}, DAY - 1),
    ("no-time", "Signed with a key that has a time, and nobody said what time it is.", {"valid_from": "1970-01-02"}, None),
]:
    timed = trusting(trusted(ANN, **window), **AUDIT)
    signing(f"RP0808-{slug}", about, timed, by_ann=signed(ANN))
    ATTACKS[f"RP0808-{slug}"] = (
        GATE,
        about,
        lambda p, change=ATTACKS[f"RP0808-{slug}"][2], at=at: (change(p), p.expect.update({"at": at} if at else {})),
    )
for slug, about, limits in [
    ("for-evidence", "A provider's key, which signs evidence, signs a pack.", {"roles": ["evidence"]}),
    ("other-tenant", "Another tenant's key signs the pack.", {"tenants": [2]}),
    ("other-namespace", "A key of another namespace signs the pack.", {"namespaces": [2]}),
    ("other-scenario", "A key for another scenario signs the pack.", {"scenarios": ["deploy"]}),
]:
    signing(f"RP0809-{slug}", about, trusting(trusted(ANN, **limits), **AUDIT), by_ann=signed(ANN))
signing("RP0810-other-predicate", "A trusted key signed that the pack was scanned, not that it is the run.", JUST_LOOK,
    by_ann=edited(lambda said: said.update(predicateType="https://slsa.dev/verification_summary/v1"), ANN))


def asked(p, trigger, gate, condition, **changes):
    """What a provider signs that binds its answer."""
    record, result = p.gate_of(trigger, gate), p.evidence_of(trigger, gate, condition)["result"]
    context = p.whose() | {
        "stage_id": record["stage_id"],
        "trigger_id": trigger,
        "trigger_time": named(p.triggers, trigger)["event"]["time"],
    }
    query = next(c["query"] for c in p.scenario["conditions"] if c["condition_id"] == condition)
    said = {"context": context | changes, "evidence_hash": result["evidence_hash"], "query": query}
    return b"runpack evidence v1\n" + canon(said)


def value_only(p, trigger, gate, condition):
    return canon(p.evidence_of(trigger, gate, condition)["result"]["evidence_hash"])


def sign_evidence(p, key, message, keyid=None):
    """Every answer of the provider `json`, signed."""
    for record in p.gate_evals:
        for evidence in record["evidence"]:
            trigger, gate, condition = record["trigger_id"], record["evaluation"]["gate_id"], evidence["condition_id"]
            query = next(c["query"] for c in p.scenario["conditions"] if c["condition_id"] == condition)
            if query["provider_id"] == "json":
                signature = list(key.sign(message(p, trigger, gate, condition)))
                word = {"key_id": keyid or key.name, "scheme": "ed25519", "signature": signature}
                evidence["result"]["signature"] = word


def evidence(name, about, rule, key=SCANNER, message=asked, keyid=None, **limits):
    @attack(name, about)
    def _(p):
        if key:
            sign_evidence(p, key, message, keyid)
        policy = trusting(trusted(SCANNER, roles=["evidence"], **limits), evidence={"json": rule}, **AUDIT)
        p.expect = {"trust": policy}


REQUIRED, LISTEN = {"mode": "required"}, {"mode": "audit"}
evidence("RP0811-taken-away", "The provider's signatures were removed from the evidence.", REQUIRED, key=None)
evidence("RP0811-by-anybody", "The evidence is signed, by somebody else than the provider.", REQUIRED, key=EVE)
evidence("RP0811-weaker-form", "The provider signed values, and the auditor wants answers.", REQUIRED, message=value_only)
evidence("RP0811-other-tenant", "A provider that may speak for another tenant signed.", REQUIRED, tenants=[2])
evidence("RP0812-another-run", "The provider's answer in another run is shown as its answer in this one.", LISTEN,
    message=lambda *at: asked(*at, run_id="release-1.3.9"))
evidence("RP0812-borrowed-name", "A forger signs evidence in the provider's name.", REQUIRED, key=EVE, keyid="scanner")


@attack("RP0812-other-value", "The value was changed after the provider had signed it.")
def _(p):
    sign_evidence(p, SCANNER, value_only)
    for trigger in ["morning", "afternoon"]:
        restate(p.evidence_of(trigger, "tests", "enough-tests"), js(1200))
    rule = LISTEN | {"binding": "value_only"}
    p.expect = {"trust": trusting(trusted(SCANNER, roles=["evidence"]), evidence={"json": rule}, **AUDIT)}


evidence("RP0813-taken-away", "The provider's signatures were removed where they are looked at and not required.", LISTEN, key=None)
evidence("RP0813-weaker-form", "The provider signed values where answers are looked for.", LISTEN, message=value_only)


# --- forgeries --------------------------------------------------------------------


# A pack replaced whole, by name: it agrees with itself, and only what lies
# outside of it (a pin, a signature) can tell.
FORGERIES = {}


def forgery(name, about, base=GATE):
    def register(change):
        FORGERIES[name] = (base, about, change)
        return change

    return register


@forgery("better-evidence", "Two tests were counted as 1200, in every record that says so.")
def _(p):
    for trigger in ["morning", "afternoon"]:
        restate(p.evidence_of(trigger, "tests", "enough-tests"), js(1200))


@forgery("evidence-elsewhere", "The evidence refers to another file than the one that was read.")
def _(p):
    for record in p.gate_evals:
        for evidence in record["evidence"]:
            if evidence["result"]["evidence_ref"]:
                evidence["result"]["evidence_ref"]["uri"] = "dg+file://evidence/other-report.json"


@forgery("rolled-back", "The pack of a run that went on: only its first step is told.")
def _(p):
    p.cut(1)


def renamed(p, old, new):
    """Other words in every record, and the receipts that go with them."""
    before = [digest(packet["envelope"]) for packet in p.packets]
    p.logs = json.loads(canon(p.logs).replace(old, new))
    for packet, old_hash in zip(p.packets, before, strict=True):
        for receipt in packet["receipts"]:
            if receipt["receipt_hash"] == old_hash:
                receipt["receipt_hash"] = digest(packet["envelope"])


@forgery("other-run", "One run is passed off as another, in every record.")
def _(p):
    renamed(p, b"release-1.4.0", b"release-2.0.0")
    p.manifest["run_id"] = "release-2.0.0"


@forgery("other-tenant", "One tenant's run is passed off as another's, in every record.", RICH_PACK)
def _(p):
    renamed(p, b'"tenant_id":7', b'"tenant_id":8')
    p.manifest["tenant_id"] = 8


@forgery("relaxed-scenario", "The scenario asked for ten tests and now asks for one; nothing else is different.")
def _(p):
    next(c for c in p.scenario["conditions"] if c["condition_id"] == "enough-tests")["expected"] = 1


@forgery("anchors-left-out", "The anchors that were asked for are left out of the manifest.", RICH_PACK)
def _(p):
    del p.manifest["anchor_policy"]


@forgery("later-export", "The pack says that it was exported a year later.")
def _(p):
    p.manifest["generated_at"]["value"] += 365 * DAY


@forgery("posture-left-out", "The manifest no longer says what kind of deployment it was.")
def _(p):
    del p.manifest["security"]


# --- writing -----------------------------------------------------------------------


def folder(name):
    """The files of one attack, relative to its folder."""
    base, about, change = ATTACKS[name] if name in ATTACKS else FORGERIES[name]
    files = {"about.txt": about.encode() + b"\n"}
    if isinstance(change, dict):
        return files | {"make.json": json.dumps(change).encode() + b"\n"}
    if isinstance(change, tuple):
        spoil, recipe = change
        archive = Archive()
        spoil(archive)
        files |= {"make.json": json.dumps(recipe).encode() + b"\n"} if recipe else {}
        return files | {"pack.runpack.tar": archive.bytes()}
    pack = Pack(base)
    change(pack)
    spoilt = pack.files()
    good = {path.relative_to(HERE / base).as_posix(): path.read_bytes() for path in (HERE / base).rglob("*.json")}
    files |= {f"pack/{path}": data for path, data in spoilt.items() if good.get(path) != data}
    without = sorted(good.keys() - spoilt.keys())
    files["base.json"] = json.dumps({"from": base, "without": without}).encode() + b"\n"
    if pack.expect:
        files["expect.json"] = json.dumps(pack.expect).encode() + b"\n"
    return files


def main():
    made = {HERE / "source/rich/state.json": rich_state(RICH)}
    if (HERE / "good/rich").exists():
        for base in (GATE, RICH_PACK):
            # What nobody changed comes out as it is: the model above is right.
            pack = Pack(base)
            for path, data in pack.files().items():
                assert data == (HERE / base / path).read_bytes(), f"{base}/{path} comes out otherwise"
        for name in ATTACKS:
            made |= {HERE / "bad" / name / path: data for path, data in folder(name).items()}
        for name in FORGERIES:
            made |= {HERE / "forged" / name / path: data for path, data in folder(name).items()}
    else:
        print("good/rich is not there: build it, then come again")
    stored = [HERE / "source/rich/state.json", *(p for kind in ["bad", "forged"] for p in (HERE / kind).rglob("*") if p.is_file())]
    changed = [path for path, data in made.items() if not path.exists() or path.read_bytes() != data]
    changed += [path for path in stored if path not in made]
    if sys.argv[1:] == ["--check"]:
        print("\n".join(f"differs: {path.relative_to(HERE)}" for path in sorted(changed)) or "nothing to do")
        sys.exit(1 if changed else 0)
    for kind in ["bad", "forged"]:
        shutil.rmtree(HERE / kind, ignore_errors=True)
    for path, data in made.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


RICH = rich()
if __name__ == "__main__":
    main()
