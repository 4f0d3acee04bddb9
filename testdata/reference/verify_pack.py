#!/usr/bin/env python3
"""A second verifier of the runpack format, version v1.

    python3 verify_pack.py [--manifest NAME] [--format json|text] PACK...

It is written from docs/format.md alone and shares nothing with the program it
is held against, so a fault that one of them has is not in the other. Numbers
in docstrings are sections of that page.

It says what is wrong with container, bytes, identity and logs (RP01xx to
RP04xx). It does not check content (RP05xx), does not decide again (RP06xx) and
expects nothing from outside (RP0701). Of 5.7 it takes what it needs to know
which call brought which record.

A finding is told once for each code and artifact, with the place where it was
first seen and how often it was. The exit code is that of 5.11: 0 nothing found
or only warnings, 1 refused, 2 could not tell.

It asks for a POSIX system, where a file can be opened without following links.
"""

import argparse
import errno
import hashlib
import json
import os
import re
import stat
import sys

VERSION = "v1"
MANIFEST_BYTES_MAX = 1_048_576
ARTIFACT_BYTES_MAX = 16_777_216
LEVELS_MAX = 127
ENTRIES_MAX = 100_000
COMPONENTS_MAX = 16
FINDINGS_MAX = 1_000
NAME_BYTES_MAX = 4_096
COMPONENT_BYTES_MAX = 255

SCENARIO = "artifacts/scenario_spec.json"
TRIGGERS = "artifacts/triggers.json"
GATE_EVALS = "artifacts/gate_evals.json"
DECISIONS = "artifacts/decisions.json"
PACKETS = "artifacts/packets.json"
SUBMISSIONS = "artifacts/submissions.json"
TOOL_CALLS = "artifacts/tool_calls.json"
REPORT = "artifacts/verifier_report.json"

# 1.2: path, kind, and the record that the document is or is an array of.
ARTIFACTS = {
    SCENARIO: ("scenario_spec", "ScenarioSpec"),
    TRIGGERS: ("trigger_log", "TriggerRecord"),
    GATE_EVALS: ("gate_eval_log", "GateEvalRecord"),
    DECISIONS: ("decision_log", "DecisionRecord"),
    PACKETS: ("packet_log", "PacketRecord"),
    SUBMISSIONS: ("submission_log", "SubmissionRecord"),
    TOOL_CALLS: ("tool_transcript", "ToolCallRecord"),
    REPORT: ("verifier_report", "VerificationReport"),
}
LOGS = (TRIGGERS, GATE_EVALS, DECISIONS, PACKETS, SUBMISSIONS, TOOL_CALLS)
REQUIRED = (SCENARIO, *LOGS)

# 5.12; every other code of the four groups is an error.
WARNINGS = {"RP0204"}
COULD_NOT_TELL = {"RP0101", "RP0111", "RP0112", "RP0113"}


class Report:
    """What was found in one pack, once for each code and artifact."""

    def __init__(self):
        self.findings = {}
        self.left_out = 0
        self.pack_digest = None
        self.checked_files = 0
        self.severities = set()

    def find(self, code, artifact, pointer, message):
        """`artifact` is `None` for the whole pack, `pointer` for the whole file."""
        self.severities.add(severity(code))
        known = self.findings.get((code, artifact))
        if known:
            known["times"] += 1
        elif len(self.findings) < FINDINGS_MAX:
            self.findings[code, artifact] = {
                "code": code,
                "artifact": artifact,
                "pointer": pointer,
                "message": message,
                "times": 1,
            }
        else:
            self.left_out += 1

    def verdict(self):
        """5.11: the worst finding's. An error outweighs "could not tell"."""
        if "error" in self.severities:
            return "refused"
        return "could_not_tell" if "could_not_tell" in self.severities else "consistent"

    def told(self):
        return {
            "verdict": self.verdict(),
            "pack_digest": self.pack_digest,
            "checked_files": self.checked_files,
            "content": "not checked",
            "replay": "not replayed",
            "findings": list(self.findings.values()),
            "findings_left_out": self.left_out,
        }


def severity(code):
    if code in WARNINGS:
        return "warning"
    return "could_not_tell" if code in COULD_NOT_TELL else "error"


class Fault(Exception):
    """Why a file, a document or a record is not taken."""

    def __init__(self, code, message, pointer=None):
        super().__init__(message)
        self.code, self.message, self.pointer = code, message, pointer


class Directory:
    """A pack in a directory, read without following or opening anything that
    is not an ordinary file (1.7).

    Every step goes by descriptor from the directory before, so that nobody can
    put a link in between.
    """

    FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

    def __init__(self, path):
        self.root = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.close(self.root)

    def list(self):
        """Everything below that is no directory: path, and whether it is an
        ordinary file. What cannot be listed to its end is not told in part."""
        found, seen, pending = [], 0, [()]
        try:
            while pending:
                parts = pending.pop()
                at = self._descend(parts)
                try:
                    with os.scandir(at) as entries:
                        for entry in entries:
                            seen += 1
                            if seen > ENTRIES_MAX or len(parts) >= COMPONENTS_MAX:
                                raise Fault("RP0113", "more entries or levels than will be walked through")
                            mode = entry.stat(follow_symlinks=False).st_mode
                            if stat.S_ISDIR(mode):
                                pending.append((*parts, entry.name))
                            else:
                                found.append(("/".join((*parts, entry.name)), stat.S_ISREG(mode)))
                finally:
                    os.close(at)
        except OSError as error:
            raise Fault("RP0112", f"the pack cannot be listed: {error.strerror}") from error
        return sorted(found)

    def read(self, path, bytes_max):
        """The bytes of an ordinary file. The faults are those of an artifact;
        step 1 of 5.2 gives some of them other codes for the manifest."""
        *directories, name = path.split("/")
        try:
            at = self._descend(directories)
            try:
                if not stat.S_ISREG(os.stat(name, dir_fd=at, follow_symlinks=False).st_mode):
                    raise Fault("RP0105", "it is not an ordinary file")
                file = os.open(name, self.FLAGS, dir_fd=at)
            finally:
                os.close(at)
            with open(file, "rb", buffering=0) as stored:
                about = os.fstat(file)
                if not stat.S_ISREG(about.st_mode) or about.st_nlink > 1:
                    raise Fault("RP0105", "it is not an ordinary file, or has several names")
                if about.st_size > bytes_max:
                    raise Fault("RP0111", f"it has {about.st_size} bytes, more than {bytes_max}")
                read = bytearray()
                while len(read) <= bytes_max:
                    more = stored.read(min(1 << 20, bytes_max + 1 - len(read)))
                    if not more:
                        return bytes(read)
                    read += more
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                raise Fault("RP0103", "it is not stored") from error
            if error.errno == errno.ELOOP:
                raise Fault("RP0105", "it is a link, or lies behind one") from error
            raise Fault("RP0112", f"it cannot be read: {error.strerror}") from error
        raise Fault("RP0111", f"it grew to more than {bytes_max} bytes")

    def _descend(self, parts):
        """A descriptor of the directory below the pack."""
        at = os.dup(self.root)
        for part in parts:
            try:
                if stat.S_ISLNK(os.stat(part, dir_fd=at, follow_symlinks=False).st_mode):
                    raise OSError(errno.ELOOP, "a link")
                below = os.open(part, self.FLAGS | os.O_DIRECTORY, dir_fd=at)
            finally:
                os.close(at)
            at = below
        return at


def can_name_a_manifest(name):
    """1.10: what may be given to a verifier as the manifest's name."""
    parts = name.split("/")
    return (
        len(os.fsencode(name)) <= NAME_BYTES_MAX
        and not any(refused in name for refused in "\0\\")
        and all(part not in ("", ".", "..") and len(os.fsencode(part)) <= COMPONENT_BYTES_MAX for part in parts)
    )


def is_unsafe(path):
    """1.9. An empty path has an empty component, and so has one that starts
    with `/`."""
    return any(part in ("", ".", "..") for part in path.split("/")) or any(refused in path for refused in "\\:\0")


INTEGER_MIN, INTEGER_MAX = -(2**63), 2**64 - 1
# No canonical number is longer: sign, `0.`, five zeros, 17 digits (2.4).
NUMBER_CHARACTERS_MAX = 25

NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
PLAIN = re.compile(r'[^"\\\x00-\x1f]*')
SPACE = re.compile(r"[ \t\n\r]*")
UNIT = re.compile(r"[0-9a-fA-F]{4}")
TO_ESCAPE = re.compile(r'["\\\x00-\x1f]')
SHORT = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r"}
UNSHORT = {written[1]: meant for meant, written in SHORT.items()} | {"/": "/"}
LITERALS = {"true": True, "false": False, "null": None}


class Reader:
    """Reads one JSON document and judges its form place by place.

    `rfc` and `legacy` say whether everything so far obeys RFC 8785, and the
    legacy form (2.6, 2.7). With `lenient` a place may obey neither, as long as
    it is strict JSON (5.2, step 3); otherwise such a place is a fault. Every
    fault is raised with the code that the caller gives.
    """

    def __init__(self, data, code, lenient):
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError as error:
            text = data[: error.start].decode("utf-8")
        # No token holds a NUL, so whoever reaches the end, or the first byte
        # that is not UTF-8, stumbles there.
        self.text = text + "\0"
        self.at = 0
        self.code, self.lenient = code, lenient
        self.whole = len(text.encode("utf-8")) == len(data)
        self.rfc = self.legacy = True

    def document(self):
        """One value with nothing after it (2.1)."""
        value = self.value(0)
        self.end()
        return value

    def end(self):
        self.space()
        if self.at != len(self.text) - 1 or not self.whole:
            self.fail("there is something after the value")

    def form(self):
        """2.7, of what was read so far: the code of its form, or `None`."""
        if self.rfc:
            return None
        return "RP0204" if self.legacy else "RP0203"

    def value(self, levels):
        """The next value, inside of so many arrays and objects (2.5). Integers
        of 64 bits are `int`, other numbers `float`."""
        first = self.text[self.at]
        if first == "{":
            return dict(self.members(levels + 1))
        if first == "[":
            return list(self.elements(levels + 1))
        if first == '"':
            return self.string()
        for literal, meant in LITERALS.items():
            if self.text.startswith(literal, self.at):
                self.at += len(literal)
                return meant
        return self.number()

    def elements(self, levels):
        for _ in self.entries("[", "]", levels):
            yield self.value(levels)

    def members(self, levels):
        """2.3 and 2.6: by UTF-16 code units, or by the bytes as written."""
        names, before = set(), None
        for _ in self.entries("{", "}", levels):
            begin = self.at
            name = self.string()
            after = (name.encode("utf-16-be"), self.text[begin : self.at].encode("utf-8"))
            if name in names:
                self.fail(f"two members have the name {quoted(name)}")
            if before:
                self.judge(before[0] < after[0], before[1] < after[1], "members are not in order")
            names.add(name)
            before = after
            self.space()
            self.expect(":")
            self.space()
            yield name, self.value(levels)

    def entries(self, opening, closing, levels):
        """Stands before each entry of an array or object in turn."""
        self.expect(opening)
        if levels > LEVELS_MAX:
            self.fail(f"it has more than {LEVELS_MAX} levels")
        self.space()
        if self.text[self.at] != closing:
            yield
            self.space()
            while self.text[self.at] == ",":
                self.at += 1
                self.space()
                yield
                self.space()
        self.expect(closing)

    def string(self):
        """2.2: there is one canonical spelling of a string."""
        begin = self.at
        self.expect('"')
        parts = []
        while True:
            plain = PLAIN.match(self.text, self.at)
            parts.append(plain[0])
            self.at = plain.end()
            if self.text[self.at] != "\\":
                break
            parts.append(self.escape())
        self.expect('"')
        if len(parts) > 1:
            text = "".join(parts)
            canonical = quoted(text) == self.text[begin : self.at]
            self.judge(canonical, canonical, "a character is escaped that is written raw, or otherwise")
            return text
        return parts[0]

    def escape(self):
        short = self.text[self.at + 1]
        self.at += 2
        if short in UNSHORT:
            return UNSHORT[short]
        if short != "u":
            self.fail("no such escape")
        unit = self.unit()
        if 0xD800 <= unit < 0xDC00 and self.text.startswith("\\u", self.at):
            self.at += 2
            low = self.unit()
            if 0xDC00 <= low < 0xE000:
                return chr(0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00))
        if 0xD800 <= unit < 0xE000:
            self.fail("a surrogate stands alone")
        return chr(unit)

    def unit(self):
        digits = UNIT.match(self.text, self.at)
        if not digits:
            self.fail("four hexadecimal digits are missing")
        self.at += 4
        return int(digits[0], 16)

    def number(self):
        """2.4, and 2.6 for integers."""
        token = NUMBER.match(self.text, self.at)
        if not token:
            self.fail("it is not JSON")
        self.at, token = token.end(), token[0]
        if len(token) > NUMBER_CHARACTERS_MAX:
            self.judge(False, False, "a number is longer than any canonical one")
        double = float(token)
        if double in (float("inf"), float("-inf")):
            self.fail("a number is beyond a double")
        rfc = written(double) == token
        integer = integer_of(token)
        legacy = rfc if integer is None else str(integer) == token
        self.judge(rfc, legacy, "a number is not written as ECMAScript writes it")
        return double if integer is None else integer

    def space(self):
        begin = self.at
        self.at = SPACE.match(self.text, begin).end()
        if self.at > begin:
            self.judge(False, False, "there is white space")

    def judge(self, rfc, legacy, message):
        self.rfc &= rfc
        self.legacy &= legacy
        if not (rfc or legacy or self.lenient):
            self.fail(message)

    def expect(self, character):
        if self.text[self.at] != character:
            self.fail("it is not JSON")
        self.at += 1

    def fail(self, message):
        raise Fault(self.code, f"{message}, at character {self.at}")


def integer_of(token):
    """The integer of 64 bits, if the token is one. `-0` is the double."""
    if token == "-0" or len(token) > 20 or not token.lstrip("-").isdigit():
        return None
    return int(token) if INTEGER_MIN <= int(token) <= INTEGER_MAX else None


def written(double):
    """2.4. `repr` has the shortest digits, the closest of several; only where
    the point stands is ECMAScript's business."""
    if double == 0:
        return "0"
    sign = "-" if double < 0 else ""
    mantissa, _, exponent = repr(abs(double)).partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    n = len(whole) + int(exponent or 0) - (len(whole + fraction) - len(digits))
    s = digits.rstrip("0")
    k = len(s)
    if k <= n <= 21:
        return sign + s + "0" * (n - k)
    if 0 < n <= 21:
        return f"{sign}{s[:n]}.{s[n:]}"
    if -6 < n <= 0:
        return f"{sign}0.{'0' * -n}{s}"
    return f"{sign}{s[0]}{'.' if k > 1 else ''}{s[1:]}e{n - 1:+d}"


def quoted(text):
    """2.2."""
    return '"' + TO_ESCAPE.sub(lambda found: SHORT.get(found[0]) or f"\\u{ord(found[0]):04x}", text) + '"'


def canonical(value, legacy):
    """The RFC 8785 form of what a reader read, or its legacy form (2.6)."""
    if value is None or isinstance(value, bool):
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, int) and legacy:
        return str(value)
    if isinstance(value, (int, float)):
        return written(float(value))
    if isinstance(value, list):
        return "[" + ",".join([canonical(element, legacy) for element in value]) + "]"
    names = sorted(value, key=lambda name: quoted(name).encode("utf-8") if legacy else name.encode("utf-16-be"))
    return "{" + ",".join([f"{quoted(name)}:{canonical(value[name], legacy)}" for name in names]) + "}"


def sha256(data):
    """3.10."""
    return {"algorithm": "sha256", "value": hashlib.sha256(data).hexdigest()}


def keeps_integers(value):
    """Whether RFC 8785 writes every integer with its own digits (4.1)."""
    if isinstance(value, int) and not isinstance(value, bool):
        return written(float(value)) == str(value)
    inner = value if isinstance(value, list) else value.values() if isinstance(value, dict) else ()
    return all(keeps_integers(element) for element in inner)


def covering(body):
    """The digests that cover a body (5.7); older packs have that of its legacy
    bytes in their logs (4.1)."""
    forms = (False, True) if keeps_integers(body) else (True,)
    return [sha256(canonical(body, legacy).encode("utf-8")) for legacy in forms]


# 3.12 to 3.23, as the page writes them: names, type, code. N is `null` when
# unset, O is left out when unset, the rest is always there (3.1; D is R in a
# pack). [X] is an array of X, [X]+ one that is not empty; `any` is free-form
# (3.11). Numbers in comments are sections.
RECORDS = {
    "HashDigest": "algorithm sha256 R, value hexadecimal R",  # 3.10
    "Manifest": """manifest_version v1 R, generated_at Timestamp R, scenario_id run_id string R,
        tenant_id namespace_id id R, spec_hash HashDigest R, hash_algorithm sha256 R, verifier_mode VerifierMode R,
        anchor_policy AnchorPolicy O, security SecurityContext O, integrity Integrity R,
        artifacts [ArtifactRecord] R""",  # 3.12
    "SecurityContext": "dev_permissive boolean R, namespace_authority string R",
    "Integrity": "file_hashes [FileHash] R, root_hash HashDigest R",
    "FileHash": "path string R, hash HashDigest R",
    "ArtifactRecord": """artifact_id string R, kind ArtifactKind R, path string R, content_type string N,
        hash HashDigest R, required boolean R""",
    "AnchorPolicy": "providers [ProviderAnchorPolicy]+ O",
    "ProviderAnchorPolicy": "provider_id string R, requirement AnchorRequirement R",
    "AnchorRequirement": "anchor_type string R, required_fields [string] R",
    "ScenarioSpec": """scenario_id string R, namespace_id id R, spec_version string R, stages [StageSpec] R,
        conditions [ConditionSpec] R, policies [PolicyRef] R, schemas [SchemaRef] R, default_tenant_id id N""",  # 3.13
    "StageSpec": """stage_id string R, entry_packets [PacketSpec] R, gates [GateSpec] R, advance_to AdvanceTo R,
        timeout TimeoutSpec N, on_timeout OnTimeout R""",
    "BranchRule": "gate_id string R, outcome BranchOutcome R, next_stage_id string R",
    "TimeoutSpec": "timeout_ms u64 R, policy_tags [string] R",
    "GateSpec": "gate_id string R, requirement Requirement R, trust TrustRequirement O",
    "Group": "min u8 R, reqs [Requirement] R",
    "TrustRequirement": "min_lane Lane R",
    "PacketSpec": """packet_id schema_id content_type string R, visibility_labels policy_tags [string] R,
        expiry Timestamp N, payload Payload R""",
    "PolicyRef": "policy_id string R, description string N",
    "SchemaRef": "schema_id string R, version uri string N",
    "ConditionSpec": """condition_id string R, query EvidenceQuery R, comparator Comparator R, expected any N,
        policy_tags [string] R, trust TrustRequirement O""",  # 3.14
    "EvidenceQuery": "provider_id check_id string R, params any O",
    "ContentRef": "uri string R, content_hash HashDigest R, encryption string N",  # 3.15
    "TriggerRecord": "seq u64 R, event TriggerEvent R",  # 3.16
    "TriggerEvent": """trigger_id string R, tenant_id namespace_id id R, run_id string R, kind TriggerKind R,
        time Timestamp R, source_id string R, payload Payload N, correlation_id string N""",
    "EvidenceResult": """value EvidenceValue N, lane Lane R, error EvidenceError N, evidence_hash HashDigest N,
        evidence_ref EvidenceRef N, evidence_anchor EvidenceAnchor N, signature EvidenceSignature N,
        content_type string N""",  # 3.17
    "EvidenceError": "code message string R, details any N",
    "EvidenceRef": "uri string R",
    "EvidenceAnchor": "anchor_type anchor_value string R",
    "EvidenceSignature": "scheme key_id string R, signature [byte] R",
    "GateEvalRecord": "trigger_id stage_id string R, evaluation GateEvaluation R, evidence [EvidenceRecord] R",  # 3.18
    "GateEvaluation": "gate_id string R, status Status R, trace [GateTraceEntry] R",
    "GateTraceEntry": "condition_id string R, status Status R",
    "EvidenceRecord": "condition_id string R, status Status R, result EvidenceResult R",
    "DecisionRecord": """decision_id string R, seq u64 R, trigger_id stage_id string R, decided_at Timestamp R,
        outcome Outcome R, correlation_id string N""",  # 3.19
    "SafeSummary": "status string R, unmet_gates [string] R, retry_hint string N, policy_tags [string] R",
    "PacketRecord": "envelope PacketEnvelope R, payload Payload R, receipts [DispatchReceipt] R, decision_id string R",
    "PacketEnvelope": """scenario_id run_id stage_id packet_id schema_id content_type string R,
        content_hash HashDigest R, visibility Visibility R, expiry Timestamp N, correlation_id string N,
        issued_at Timestamp R""",  # 3.20
    "Visibility": "labels policy_tags [string] R",
    "DispatchReceipt": """dispatch_id string R, target Target R, receipt_hash HashDigest R, dispatched_at Timestamp R,
        dispatcher string R""",
    "SubmissionRecord": """submission_id run_id string R, payload Payload R, content_type string R,
        content_hash HashDigest R, submitted_at Timestamp R, correlation_id string N""",  # 3.21
    "ToolCallRecord": """call_id method string R, request_hash response_hash HashDigest R, called_at Timestamp R,
        correlation_id string N, error ToolCallError N""",  # 3.22
    "ToolCallError": "code message string R, details ToolCallDetails N",
    "VerificationReport": "status ReportStatus R, checked_files u64 R, errors [string] R",  # 3.23
}

# 3.5: the members besides `kind`, by kind.
VARIANTS = {
    "Timestamp": {"unix_millis": "value i64 R", "logical": "value u64 R"},
    "AdvanceTo": {
        "linear": "",
        "terminal": "",
        "fixed": "stage_id string R",
        "branch": "branches [BranchRule] R, default string N",
    },
    "Payload": {"json": "value any R", "bytes": "bytes [byte] R", "external": "content_ref ContentRef R"},
    "EvidenceValue": {"json": "value any R", "bytes": "value [byte] R"},
    "Outcome": {
        "start": "stage_id string R",
        "complete": "stage_id string R",
        "advance": "from_stage to_stage string R, timeout boolean R",
        "hold": "summary SafeSummary R",
        "fail": "reason string R",
    },
    "Target": {
        "agent": "agent_id string R",
        "session": "session_id string R",
        "external": "system target string R",
        "channel": "channel string R",
    },
    "ToolCallDetails": {
        "provider_missing": "missing_providers required_capabilities [string] R, blocked_by_policy boolean R",
        "message": "info string R",
    },
}

# 3.13: an object with exactly one of these members.
REQUIREMENT = {
    "And": "[Requirement]",
    "Or": "[Requirement]",
    "Not": "Requirement",
    "RequireGroup": "Group",
    "Condition": "string",
}

ENUMS = {
    "v1": {VERSION},
    "sha256": {"sha256"},
    "VerifierMode": {"offline_strict", "offline_with_fetch"},
    "ArtifactKind": {kind for kind, _ in ARTIFACTS.values()} | {"dispatch_log", "evidence_log", "custom"},
    "OnTimeout": {"fail", "advance_with_flag", "alternate_branch"},
    "BranchOutcome": {"true", "false", "unknown"},
    "Lane": {"verified", "asserted"},
    "Comparator": {
        "equals", "not_equals", "greater_than", "greater_than_or_equal", "less_than", "less_than_or_equal",
        "lex_greater_than", "lex_greater_than_or_equal", "lex_less_than", "lex_less_than_or_equal",
        "contains", "in_set", "deep_equals", "deep_not_equals", "exists", "not_exists",
    },
    "TriggerKind": {"agent_request_next", "tick", "external_event", "backend_event"},
    "Status": {"True", "False", "Unknown"},
    "ReportStatus": {"pass", "fail"},
}  # fmt: skip

# 3.7, 3.8, 3.11
INTEGERS = {
    "id": (1, 2**64 - 1),
    "u64": (0, 2**64 - 1),
    "i64": (-(2**63), 2**63 - 1),
    "u8": (0, 255),
    "byte": (0, 255),
}
HEXADECIMAL = re.compile(r"[0-9a-f]{64}")


def members_of(text):
    """A row of the tables: type and code of each member, by name."""
    rows = [part.split() for part in text.split(",") if part]
    return {name: (shape, code) for *names, shape, code in rows for name in names}


RECORDS = {name: members_of(text) for name, text in RECORDS.items()}
VARIANTS = {
    name: {kind: members_of(text) | {"kind": ("string", "R")} for kind, text in kinds.items()}
    for name, kinds in VARIANTS.items()
}


def check(value, shape, at=""):
    """Raises RP0205 unless `value` is exactly of the shape; `at` is where."""
    if shape.startswith("["):
        element = shape.strip("[]+")
        if shape.endswith("+") and value == []:
            refuse(at, "it is left out when it is empty")
        if not isinstance(value, list):
            refuse(at, "it is no array")
        for index, each in enumerate(value):
            check(each, element, f"{at}/{index}")
    elif shape in RECORDS:
        check_members(value, RECORDS[shape], at)
    elif shape in VARIANTS:
        kind = value.get("kind") if isinstance(value, dict) else None
        if not isinstance(kind, str) or kind not in VARIANTS[shape]:
            refuse(at, f"no {shape} has the kind {kind!r}")
        check_members(value, VARIANTS[shape][kind], at)
    elif shape == "Requirement":
        if not isinstance(value, dict) or len(value) != 1 or not value.keys() <= REQUIREMENT.keys():
            refuse(at, "a requirement has exactly one member")
        [(name, below)] = value.items()
        check(below, REQUIREMENT[name], below_at(at, name))
    elif shape != "any" and not is_scalar(value, shape):
        refuse(at, f"it is no {shape}")


def check_members(value, table, at):
    """3.1 and 3.2."""
    if not isinstance(value, dict):
        refuse(at, "it is no object")
    for name in value:
        if name not in table:
            refuse(below_at(at, name), "the format has no such member")
    for name, (shape, code) in table.items():
        if name not in value:
            if code != "O":
                refuse(at, f"`{name}` is missing")
        elif value[name] is not None:
            check(value[name], shape, below_at(at, name))
        elif code == "O" or code == "R" and shape != "any":
            refuse(below_at(at, name), "it is `null`")


def is_scalar(value, shape):
    """3.7: an integer is no `2.0`, and no `true`, which Python takes for 1."""
    if shape in INTEGERS:
        least, most = INTEGERS[shape]
        return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most
    if shape == "boolean":
        return isinstance(value, bool)
    if not isinstance(value, str):
        return False
    if shape == "hexadecimal":
        return HEXADECIMAL.fullmatch(value) is not None
    return shape == "string" or value in ENUMS[shape]


def below_at(at, name):
    """RFC 6901."""
    return f"{at}/{name.replace('~', '~0').replace('/', '~1')}"


def refuse(at, message):
    raise Fault("RP0205", message, at)


def verify(pack, manifest_name):
    """The report on the pack in a directory, by the steps of 5.2."""
    report = Report()
    manifest = read_manifest(pack, manifest_name, report)
    if manifest is None:
        return report
    hashes = check_lists(manifest, manifest_name, report)
    check_stored(pack, manifest, manifest_name, report)
    integrity = manifest["integrity"]
    root = sha256(canonical(integrity["file_hashes"], False).encode("utf-8"))
    if integrity["root_hash"] != root:
        report.find("RP0202", manifest_name, "/integrity/root_hash", f"the list of digests has the digest {root['value']}")

    files = {path: read_artifact(pack, path, hashes[path], report) for path in ARTIFACTS if path in hashes}
    scenario = read_whole(files.get(SCENARIO), SCENARIO, report)
    enclosed = read_whole(files.get(REPORT), REPORT, report)
    logs = {path: Log(path, files.get(path), report) for path in LOGS}
    if scenario is not None:
        check_identity(scenario, manifest, manifest_name, hashes, report)
        fault = senseless(scenario)
        if fault:
            report.find("RP0303", SCENARIO, None, fault)
        else:
            Walk(manifest, scenario, logs, report).follow()
    if enclosed is not None and enclosed != {"checked_files": len(REQUIRED), "errors": [], "status": "pass"}:
        report.find("RP0304", REPORT, None, "it is not that of a pass over the seven artifacts")
    return report


def read_manifest(pack, name, report):
    """Steps 1 to 6 of 5.2; `None` where they stop."""
    try:
        data = pack.read(name, MANIFEST_BYTES_MAX)
    except Fault as fault:
        code = {"RP0103": "RP0101", "RP0112": "RP0101", "RP0111": "RP0205"}.get(fault.code, fault.code)
        return report.find(code, name, None, fault.message)
    report.pack_digest = sha256(data)
    try:
        reader = Reader(data, "RP0205", lenient=True)
        manifest = reader.document()
        version = manifest.get("manifest_version") if isinstance(manifest, dict) else None
        if isinstance(version, str) and version != VERSION:
            return report.find("RP0102", name, "/manifest_version", f"the version is {version!r}")
        tell_form(reader, name, report)
        check(manifest, "Manifest")
    except Fault as fault:
        return report.find(fault.code, name, fault.pointer, fault.message)
    return manifest


def tell_form(reader, path, report):
    """2.8."""
    if reader.form() == "RP0203":
        report.find("RP0203", path, None, "it is neither in RFC 8785 form nor in legacy form")
    elif reader.form() == "RP0204":
        report.find("RP0204", path, None, "it is in legacy form")


def check_lists(manifest, name, report):
    """Steps 8 and 9 of 5.2. Returns the digest to expect of each path."""
    listed, indexed = manifest["integrity"]["file_hashes"], manifest["artifacts"]
    hashes = {}
    for index, entry in enumerate(listed):
        path, at = entry["path"], f"/integrity/file_hashes/{index}/path"
        if path in hashes:
            report.find("RP0107", name, at, f"{path!r} is listed twice")
        elif is_unsafe(path):
            report.find("RP0106", name, at, f"{path!r} is unsafe")
        elif path not in ARTIFACTS:
            report.find("RP0109", name, at, f"the format has no {path!r}")
        hashes.setdefault(path, entry["hash"])
    for path in REQUIRED:
        if path not in hashes:
            report.find("RP0108", name, "/integrity/file_hashes", f"{path!r} is not listed")
    order = list(ARTIFACTS)
    places = [order.index(entry["path"]) for entry in listed if entry["path"] in ARTIFACTS]
    if places != sorted(places):
        report.find("RP0110", name, "/integrity/file_hashes", "the paths are not in the order of the format")

    if len(listed) != len(indexed):
        report.find("RP0110", name, "/artifacts", f"{len(indexed)} artifacts for {len(listed)} digests")
    for index, (entry, artifact) in enumerate(zip(listed, indexed)):
        path = entry["path"]
        if path not in ARTIFACTS:
            continue
        asked = {
            "path": path,
            "hash": entry["hash"],
            "kind": ARTIFACTS[path][0],
            "artifact_id": path,
            "content_type": "application/json",
            "required": True,
        }
        for member, value in asked.items():
            if artifact[member] != value:
                report.find("RP0110", name, f"/artifacts/{index}/{member}", f"it is not that of {path!r}")
                break
    return hashes


def is_attestation(path):
    """What may lie beside a manifest that does not list it (9.2)."""
    return len(path) <= 100 and bool(re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*\.dsse\.json", path))


def check_stored(pack, manifest, name, report):
    """Step 10 of 5.2, the closed world (1.6)."""
    named = {entry["path"] for entry in manifest["integrity"]["file_hashes"]} | {name}
    try:
        for path, is_ordinary in pack.list():
            if not is_ordinary:
                report.find("RP0105", path, None, "it is not an ordinary file")
            elif path not in named and not is_attestation(path):
                report.find("RP0104", path, None, "it is not listed")
    except Fault as fault:
        report.find(fault.code, None, None, fault.message)


def read_artifact(pack, path, digest, report):
    """The bytes of a listed artifact, whatever their digest; else `None`."""
    try:
        data = pack.read(path, ARTIFACT_BYTES_MAX)
    except Fault as fault:
        return report.find(fault.code, path, None, fault.message)
    report.checked_files += 1
    if sha256(data) != digest:
        report.find("RP0201", path, None, f"its digest is {sha256(data)['value']}")
    return data


def read_whole(data, path, report):
    """The scenario or the enclosed report, if it can be read (5.2, step 13). A
    wrong form alone does not keep its content from being looked at."""
    if data is None:
        return None
    try:
        reader = Reader(data, "RP0203", lenient=True)
        document = reader.document()
        tell_form(reader, path, report)
        check(document, ARTIFACTS[path][1])
    except Fault as fault:
        return report.find(fault.code, path, fault.pointer, fault.message)
    return document


def check_identity(scenario, manifest, manifest_name, hashes, report):
    """5.3, without whether the scenario makes sense."""
    for member in ("scenario_id", "namespace_id"):
        if scenario[member] != manifest[member]:
            report.find("RP0302", SCENARIO, f"/{member}", "it is not the manifest's")
    if manifest["spec_hash"] != hashes[SCENARIO]:
        report.find("RP0301", manifest_name, "/spec_hash", "it is not the digest of the scenario")


# The Unicode property; `str.isspace` takes U+001C to U+001F besides.
WHITE_SPACE = "".join(map(chr, [*range(9, 14), 32, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B)]))
WHITE_SPACE += "\u2028\u2029\u202f\u205f\u3000"


def senseless(scenario):
    """The first fault of 5.3, or `None`."""
    stages, conditions = scenario["stages"], scenario["conditions"]
    stage_ids = [stage["stage_id"] for stage in stages]
    gates = [gate for stage in stages for gate in stage["gates"]]
    packet_ids = [packet["packet_id"] for stage in stages for packet in stage["entry_packets"]]
    condition_ids = [condition["condition_id"] for condition in conditions]
    queries = [condition["query"] for condition in conditions]
    if not stages:
        return "it has no stage"
    unique = (
        ("stage", stage_ids),
        ("gate", [gate["gate_id"] for gate in gates]),
        ("packet", packet_ids),
        ("condition", condition_ids),
    )
    for what, ids in unique:
        if len(set(ids)) < len(ids):
            return f"two of its {what}s have one id"
    if any(not query[member].strip(WHITE_SPACE) for query in queries for member in ("provider_id", "check_id")):
        return "a condition asks nobody, or nothing"
    if not set().union(*(named_conditions(gate["requirement"]) for gate in gates)) <= set(condition_ids):
        return "a requirement names a condition that is not defined"
    known = {None, *stage_ids}
    for stage in stages:
        advance = stage["advance_to"]
        targets = [advance.get("stage_id"), advance.get("default")]
        targets += [rule["next_stage_id"] for rule in advance.get("branches", [])]
        if not set(targets) <= known:
            return "a stage leads to one that is not defined"
    return None


def named_conditions(requirement):
    [(name, below)] = requirement.items()
    if name == "Condition":
        return {below}
    members = below["reqs"] if name == "RequireGroup" else [below] if name == "Not" else below
    return set().union(*map(named_conditions, members))


class Broken(Exception):
    """A log ends before its records do, so nothing more can be followed."""


class Log:
    """The records of a log up to the first fault of form or shape (5.4)."""

    def __init__(self, path, data, report):
        self.path, self.records, self.taken = path, [], 0
        self.faulty = data is None
        if data is None:
            return
        reader = Reader(data, "RP0203", lenient=False)
        try:
            for record in reader.elements(1):
                check(record, ARTIFACTS[path][1], f"/{len(self.records)}")
                self.records.append(record)
            reader.end()
            tell_form(reader, path, report)
        except Fault as fault:
            self.faulty = True
            report.find(fault.code, path, fault.pointer, fault.message)

    def head(self):
        """The next record, or `None`."""
        return self.records[self.taken] if self.taken < len(self.records) else None

    def take(self):
        """The next record, with its place. Since records are read one ahead,
        taking the last one before a fault breaks the log."""
        self.taken += 1
        return f"/{self.taken - 1}", self.records[self.taken - 1]

    def take_while(self, member, value):
        while self.head() is not None and self.head()[member] == value:
            yield self.take()

    def is_broken(self):
        return self.faulty and self.taken == len(self.records)


class Walk:
    """Follows the logs in step, trigger by trigger (5.5, 5.7)."""

    def __init__(self, manifest, scenario, logs, report):
        self.manifest, self.report = manifest, report
        self.logs = logs
        self.stage_ids = {stage["stage_id"] for stage in scenario["stages"]}
        self.stage, self.status = scenario["stages"][0]["stage_id"], "active"
        self.trigger_ids, self.submission_ids = set(), set()
        # The digests that answer the next submission, once they were needed.
        self.following = {}
        self.submission_answer = None
        self.answered = set()

    def follow(self):
        try:
            while self.logs[TRIGGERS].head() is not None:
                self.step()
            self.go_on_unless_broken()
            self.end()
        except Broken:
            pass

    def step(self):
        """The next trigger and all that belongs to it. The numbers are those of
        the rules in 5.5."""
        at, trigger = self.logs[TRIGGERS].take()
        event = trigger["event"]
        # 1
        self.ask_number(TRIGGERS, f"{at}/seq", trigger["seq"])
        if event["trigger_id"] in self.trigger_ids:
            self.find("RP0408", TRIGGERS, f"{at}/event/trigger_id", "an earlier trigger has this id")
        self.trigger_ids.add(event["trigger_id"])
        for member in ("tenant_id", "namespace_id", "run_id"):
            self.ask("RP0302", TRIGGERS, f"{at}/event/{member}", event[member], self.manifest[member])
        self.ask("RP0406", TRIGGERS, f"{at}/event/trigger_id", self.status, "active")
        # 2
        gate_evals = list(self.logs[GATE_EVALS].take_while("trigger_id", event["trigger_id"]))
        decided = next(self.logs[DECISIONS].take_while("trigger_id", event["trigger_id"]), None)
        if decided is None:
            self.go_on_unless_broken()
            self.find("RP0407", TRIGGERS, f"{at}/event/trigger_id", "the next decision is not on this trigger")
            return
        packets = list(self.logs[PACKETS].take_while("decision_id", decided[1]["decision_id"]))
        # 3
        self.go_on_unless_broken()
        # 4; rule 5 is replay
        self.check_decision(*decided, event)
        for gate_eval in gate_evals:
            self.check_gate_eval(*gate_eval)
        for packet in packets:
            self.check_packet(*packet, decided[1])
        # 6
        outcome = decided[1]["outcome"]
        self.stage = outcome.get("to_stage", self.stage)
        self.status = {"complete": "completed", "fail": "failed"}.get(outcome["kind"], self.status)
        self.take_calls(event, decided[1], [packet for _, packet in packets])

    def check_decision(self, at, decision, event):
        outcome, ask = decision["outcome"], self.ask
        self.ask_number(DECISIONS, f"{at}/seq", decision["seq"])
        ask("RP0402", DECISIONS, f"{at}/decision_id", decision["decision_id"], f"decision-{decision['seq']}")
        ask("RP0404", DECISIONS, f"{at}/decided_at", decision["decided_at"], event["time"])
        ask("RP0404", DECISIONS, f"{at}/correlation_id", decision["correlation_id"], event["correlation_id"])
        ask("RP0405", DECISIONS, f"{at}/stage_id", decision["stage_id"], self.stage)
        for member in {"stage_id", "from_stage"} & outcome.keys():
            ask("RP0405", DECISIONS, f"{at}/outcome/{member}", outcome[member], self.stage)
        if outcome["kind"] == "advance" and outcome["to_stage"] not in self.stage_ids:
            self.find("RP0403", DECISIONS, f"{at}/outcome/to_stage", "the scenario has no such stage")

    def check_gate_eval(self, at, gate_eval):
        self.ask("RP0405", GATE_EVALS, f"{at}/stage_id", gate_eval["stage_id"], self.stage)
        answered = {record["condition_id"] for record in gate_eval["evidence"]}
        for index, entry in enumerate(gate_eval["evaluation"]["trace"]):
            if entry["condition_id"] not in answered:
                self.find("RP0403", GATE_EVALS, f"{at}/evaluation/trace/{index}", "there is no evidence of it")

    def check_packet(self, at, packet, decision):
        envelope, outcome = packet["envelope"], decision["outcome"]
        entered = {"start": outcome.get("stage_id"), "advance": outcome.get("to_stage")}.get(outcome["kind"])
        asked = (
            ("RP0302", "scenario_id", self.manifest["scenario_id"]),
            ("RP0302", "run_id", self.manifest["run_id"]),
            ("RP0404", "issued_at", decision["decided_at"]),
            ("RP0404", "correlation_id", decision["correlation_id"]),
            ("RP0405", "stage_id", entered),
        )
        for code, member, value in asked:
            self.ask(code, PACKETS, f"{at}/envelope/{member}", envelope[member], value)

    def take_calls(self, event, decision, packets):
        """5.7, up to the call that brought the trigger."""
        if decision["outcome"]["kind"] == "start":
            return
        # Made once for all calls: bodies can be large, and calls many.
        requests = requests_of(event)
        following = self.logs[TRIGGERS].head()
        following = following and following["event"]
        later = requests_of(following) if following else {}
        answer = covering({"decision": decision, "packets": packets, "status": self.status})
        while self.logs[TOOL_CALLS].head() is not None:
            call = self.logs[TOOL_CALLS].head()
            asks = call["request_hash"] in requests.get(call["method"], [])
            asks_later = call["request_hash"] in later.get(call["method"], [])
            at_that_time = following and call["called_at"] == following["time"] != event["time"]
            if call["error"] is None and asks_later and at_that_time:
                # It brings the next trigger, so this one came by none.
                break
            at, call = self.take_call()
            if call["error"] is None and (asks or call["response_hash"] in answer):
                self.ask("RP0404", TOOL_CALLS, f"{at}/called_at", call["called_at"], event["time"])
                self.ask("RP0404", TOOL_CALLS, f"{at}/correlation_id", call["correlation_id"], event["correlation_id"])
                break
            self.bring_something_else(at, call)
        self.go_on_unless_broken()

    def take_call(self):
        at, call = self.logs[TOOL_CALLS].take()
        self.ask_number(TOOL_CALLS, f"{at}/call_id", call["call_id"], "call-{}")
        return at, call

    def bring_something_else(self, at, call):
        """5.7. Only a call that brought a submission says something of logs;
        what the others answered is content."""
        submission = self.logs[SUBMISSIONS].head()
        if call["error"] is not None or call["method"] != "scenario.submit" or submission is None:
            return
        if self.submission_answer is None:
            members = ("content_type", "correlation_id", "payload", "run_id", "submission_id", "submitted_at")
            asked = {name: submission[name] for name in members}
            asked |= {name: self.manifest[name] for name in ("namespace_id", "tenant_id")}
            self.submission_answer = covering({"record": submission}), covering(asked)
        answers, requests = self.submission_answer
        answered, asked = call["response_hash"] in answers, call["request_hash"] in requests
        dated = call["called_at"] == submission["submitted_at"]
        dated &= call["correlation_id"] == submission["correlation_id"]
        response = call["response_hash"]["value"]
        if answered or asked or (dated and response not in self.answered):
            if answered or not asked:
                self.answered.add(response)
            self.take_submission()
            self.ask("RP0404", TOOL_CALLS, f"{at}/called_at", call["called_at"], submission["submitted_at"])
            self.ask("RP0404", TOOL_CALLS, f"{at}/correlation_id", call["correlation_id"], submission["correlation_id"])

    def take_submission(self):
        at, submission = self.logs[SUBMISSIONS].take()
        self.submission_answer = None
        self.ask("RP0302", SUBMISSIONS, f"{at}/run_id", submission["run_id"], self.manifest["run_id"])
        if submission["submission_id"] in self.submission_ids:
            self.find("RP0409", SUBMISSIONS, f"{at}/submission_id", "an earlier submission has this id")
        self.submission_ids.add(submission["submission_id"])

    def end(self):
        """5.5, after the last trigger: what is left over refers to nothing.
        Whether a log is broken was asked before, and is not asked again."""
        while self.logs[TOOL_CALLS].head() is not None:
            self.bring_something_else(*self.take_call())
        while self.logs[SUBMISSIONS].head() is not None:
            self.take_submission()
        for path, member in ((GATE_EVALS, "trigger_id"), (DECISIONS, "trigger_id"), (PACKETS, "decision_id")):
            while self.logs[path].head() is not None:
                at, record = self.logs[path].take()
                twice = path == DECISIONS and record["trigger_id"] in self.trigger_ids
                self.find("RP0401" if twice else "RP0403", path, f"{at}/{member}", "it is left over")

    def go_on_unless_broken(self):
        """Rule 3 of 5.5: what is missing may stand where it cannot be read."""
        if any(log.is_broken() for log in self.logs.values()):
            raise Broken

    def ask_number(self, path, pointer, found, spelt=None):
        """5.5 and 3.24, of the record just taken: it counts from 1 without gaps.
        One number left out, or one changed, is told once."""
        position = self.logs[path].taken
        number = found
        if spelt:
            digits = found.removeprefix("call-")
            number = int(digits) if digits.isdecimal() and digits.isascii() and len(digits) < 20 else 0
            number = number if found == spelt.format(number) and number < 2**64 else 0
        if number not in (position, self.following.get(path, 1)):
            self.ask("RP0402", path, pointer, found, spelt.format(position) if spelt else position)
        self.following[path] = min(number + 1, 2**64 - 1)

    def ask(self, code, path, pointer, found, expected):
        if found != expected:
            self.find(code, path, pointer, f"{shown(found)} stands where {shown(expected)} is expected")

    def find(self, code, path, pointer, message):
        self.report.find(code, path, pointer, message)


def requests_of(event):
    """The digests of the requests that ask for an event, by method (5.7)."""
    requests = {"scenario.trigger": covering(event)}
    if event["kind"] == "agent_request_next" and event["payload"] is None:
        members = ("correlation_id", "namespace_id", "run_id", "tenant_id", "time", "trigger_id")
        asked = {"agent_id": event["source_id"]} | {name: event[name] for name in members}
        requests["scenario.next"] = covering(asked)
    return requests


def shown(value):
    """A string is cut before it is written: it can be as large as its log."""
    text = canonical(value[:100] if isinstance(value, str) else value, True)
    return text[:100]


def main():
    parser = argparse.ArgumentParser(description="Say whether packs agree with themselves, without replay")
    parser.add_argument("--manifest", metavar="NAME", default="manifest.json", help="the manifest's name")
    parser.add_argument("--format", choices=["json", "text"], default="text", help="json: a line for each pack")
    parser.add_argument("packs", metavar="PACK", nargs="+", help="a directory with a pack")
    args = parser.parse_args()
    sys.stdout.reconfigure(errors="backslashreplace")
    verdicts = set()
    for path in args.packs:
        told = look(path, args.manifest)
        verdicts.add(told["verdict"])
        print(json.dumps(told, sort_keys=True) if args.format == "json" else as_text(told), flush=True)
    return 1 if "refused" in verdicts else 2 if "could_not_tell" in verdicts else 0


def look(path, manifest_name):
    """What is told of the pack at `path`. Where there is no report (5.11), or
    this program fails, nothing can be told of the pack."""
    try:
        if not can_name_a_manifest(manifest_name):
            raise ValueError("no manifest can have this name")
        with Directory(path) as pack:
            told = verify(pack, manifest_name).told()
    except Exception as error:
        told = {"verdict": "could_not_tell", "why": f"{type(error).__name__}: {error}"}
    return printable({"path": path} | told)


def printable(value):
    """Without the half characters by which Python spells names that are not
    UTF-8."""
    if isinstance(value, dict):
        return {name: printable(member) for name, member in value.items()}
    if isinstance(value, list):
        return [printable(element) for element in value]
    return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace") if isinstance(value, str) else value


def as_text(told):
    lines = [f"{told['path']}: {told['verdict']} {told.get('why', '(content not checked, not replayed)')}"]
    if told.get("pack_digest"):
        lines.append(f"  pack digest {told['pack_digest']['value']}")
    for finding in told.get("findings", []):
        place = (finding["artifact"] or "the pack") + (finding["pointer"] or "")
        more = f" ({finding['times']} times)" if finding["times"] > 1 else ""
        lines.append(f"  {finding['code']} {place}: {finding['message']}{more}")
    if told.get("findings_left_out"):
        lines.append(f"  {told['findings_left_out']} more were found")
    # A name in a pack is somebody else's, and may hold what moves a terminal.
    return "\n".join("".join(c if c.isprintable() else ascii(c)[1:-1] for c in line) for line in lines)


if __name__ == "__main__":
    sys.exit(main())
