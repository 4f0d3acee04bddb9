//! What people see. Text from a pack is hostile: nothing of it reaches the
//! terminal as a control character.

use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};
use std::io::{self, IsTerminal, Write};

use runpack_core::model::{ConditionId, ConditionSpec, DecisionOutcome, EvidenceValue, GateEvalRecord, TriState};
use runpack_core::pack::{
    Code, Difference, DifferenceKind, Finding, Pack, Report, Severity, SignatureStanding, Verdict, WhatIf,
};
pub(crate) use runpack_core::text::printable;
use runpack_storage::packs::shown;

use crate::progress;

/// Styled output for a terminal, plain text for everything else.
pub(crate) struct Paint {
    colour: bool,
}

impl Paint {
    /// Colour only on a terminal, and not where `NO_COLOR` asks for none.
    pub(crate) fn for_stdout() -> Self {
        Self { colour: io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) }
    }

    /// Never any colour.
    pub(crate) fn plain() -> Self {
        Self { colour: false }
    }

    fn style(&self, code: &str, text: impl Display) -> String {
        let text = printable(&text.to_string());
        if self.colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text }
    }

    fn good(&self, text: impl Display) -> String {
        self.style("32", text)
    }

    fn bad(&self, text: impl Display) -> String {
        self.style("31", text)
    }

    fn doubt(&self, text: impl Display) -> String {
        self.style("33", text)
    }

    fn strong(&self, text: impl Display) -> String {
        self.style("1", text)
    }

    fn tri(&self, status: TriState) -> String {
        match status {
            TriState::True => self.good(status),
            TriState::False => self.bad(status),
            TriState::Unknown => self.doubt(status),
        }
    }
}

/// Results go to stdout. A reader that went away is no failure.
pub(crate) fn say(text: &str) {
    progress::aside(|| {
        let _ = io::stdout().write_all(text.as_bytes());
    });
}

/// Talk goes to stderr.
pub(crate) fn talk(text: impl Display) {
    progress::aside(|| {
        let _ = writeln!(io::stderr(), "{}", printable(&text.to_string()));
    });
}

/// `1 pack`, `2 packs`.
pub(crate) fn counted(count: usize, one: &str) -> String {
    format!("{count} {one}{}", if count == 1 { "" } else { "s" })
}

/// One line of hostile text: no line breaks either.
fn line(text: impl Display) -> String {
    printable(&text.to_string()).replace('\n', "\\n")
}

/// Findings shown to people; the rest is counted.
const FINDINGS_SHOWN: usize = 20;

/// A verdict, as people are told it.
pub(crate) fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Consistent => "consistent",
        Verdict::Pinned => "pinned",
        Verdict::Signed => "signed",
        Verdict::Refused => "refused",
        Verdict::CouldNotTell => "could not tell",
    }
}

fn without_manifest(finding: &Finding) -> bool {
    finding.code == Code::ManifestUnavailable && finding.message.ends_with("not found")
}

/// What a verdict means, as people are told it.
pub(crate) fn meaning(report: &Report) -> &'static str {
    match report.verdict {
        Verdict::Consistent => "the pack agrees with itself; pin its digest to know it was not replaced whole",
        Verdict::Pinned => "the pack agrees with itself and has the digest that was expected",
        Verdict::Signed => "the pack agrees with itself, and trusted keys say that it is this run",
        Verdict::Refused => refusal(report),
        Verdict::CouldNotTell => "not everything could be looked at",
    }
}

/// Why a pack is refused: because of what it is, or of what was asked for.
fn refusal(report: &Report) -> &'static str {
    let mut errors = report.findings.iter().filter(|finding| finding.severity == Severity::Error);
    let asked = |code: Code| ["RP07", "RP08"].iter().any(|group| code.as_str().starts_with(group));
    if report.findings_left_out == 0 && errors.all(|finding| asked(finding.code)) {
        "the pack agrees with itself, and is not what was asked for"
    } else {
        "the pack is not what an exporter wrote"
    }
}

/// The answer of `verify` for people.
pub(crate) fn report(paint: &Paint, path: &str, report: &Report) -> String {
    let mut text = String::new();
    let word = word(report.verdict);
    let word = match report.verdict {
        Verdict::Consistent | Verdict::Pinned | Verdict::Signed => paint.good(word),
        Verdict::Refused => paint.bad(word),
        Verdict::CouldNotTell => paint.doubt(word),
    };
    let _ = writeln!(text, "{}: {word}: {}", line(shown(path)), meaning(report));
    for finding in report.findings.iter().take(FINDINGS_SHOWN) {
        let code = match finding.severity {
            Severity::Error => paint.bad(finding.code),
            Severity::CouldNotTell | Severity::Warning => paint.doubt(finding.code),
        };
        // Beside a verdict that passed it must not look like a refusal.
        let note = if finding.severity == Severity::Warning { "note: " } else { "" };
        let _ = writeln!(text, "  {code} {note}{}", line(&finding.message));
        let place =
            format!("{}{}{}", finding.artifact, if finding.pointer.is_empty() { "" } else { "#" }, finding.pointer);
        if !place.is_empty() {
            let _ = writeln!(text, "         at {}", line(place));
        }
        if let (Some(expected), Some(found)) = (&finding.expected, &finding.found) {
            let _ = writeln!(text, "         expected {}, found {}", line(expected), line(found));
        }
    }
    let more = report.findings.len().saturating_sub(FINDINGS_SHOWN) as u64 + report.findings_left_out;
    if more > 0 {
        let _ = writeln!(text, "  and {more} more findings; --format json lists them");
    }
    if report.checked_files == 0 && report.findings.iter().any(without_manifest) {
        let _ = writeln!(text, "  hint: a pack is where its manifest is; --recursive looks for packs below");
    }
    if report.subject.is_none() && report.findings.iter().any(|finding| finding.code == Code::Malformed) {
        let _ =
            writeln!(text, "  hint: what was read as a manifest is none; a pack is named by its directory or manifest");
    }
    let _ = writeln!(text, "  checked files  {}", report.checked_files);
    if let Some(subject) = &report.subject {
        let _ = writeln!(
            text,
            "  run            {} of scenario {} (tenant {}, namespace {})",
            line(&subject.run_id),
            line(&subject.scenario_id),
            subject.tenant_id,
            subject.namespace_id
        );
        let _ = writeln!(text, "  root digest    {}", subject.root_hash);
    }
    // What is no manifest has no pack, whatever its bytes.
    if let (Some(digest), Some(_)) = (report.pack_digest, &report.subject) {
        let _ = writeln!(text, "  pack digest    {digest}");
    }
    if let Some(settings) = &report.settings {
        let lanes: Vec<_> = settings.min_lanes.iter().map(ToString::to_string).collect();
        let _ = writeln!(
            text,
            "  settings       {}: least lane {}, logic {}",
            if settings.attested { "signed" } else { "not recorded; decisions come out with any of" },
            lanes.join(" or "),
            settings.logics.join(" or ")
        );
    }
    for signer in &report.signed_by {
        let name = signer.name.as_ref().map_or(String::new(), |name| format!(" ({name})"));
        let _ = writeln!(text, "  signed by      {}{}", line(&signer.key), line(name));
    }
    let unread = report.signatures.iter().filter(|seen| seen.standing == SignatureStanding::NotChecked).count();
    if unread > 0 {
        let _ = writeln!(text, "  not checked    {unread} signatures; --trusted-key or --policy says whose count");
    }
    if let Some(evidence) = &report.evidence_signed {
        let _ = writeln!(
            text,
            "  evidence       {} answers signed, {} values signed, {} unconfirmed",
            evidence.bound, evidence.value_only, evidence.unconfirmed
        );
    }
    for entry in &report.unverifiable {
        let _ = writeln!(text, "  unverifiable   {}: {}", line(&entry.what), entry.count);
    }
    text
}

/// A pack that could not even be opened.
pub(crate) fn cannot(paint: &Paint, path: &str, error: &str) -> String {
    format!("{}: {}: {}\n", line(shown(path)), paint.doubt("could not tell"), printable(error))
}

/// The answer of `replay --scenario`.
pub(crate) fn what_if(paint: &Paint, steps: &[WhatIf]) -> String {
    let mut text = String::from("\nUnder the other scenario:\n");
    let mut flipped = 0;
    for step in steps {
        let was = step.was.as_ref().map_or("nothing".to_owned(), |was| outcome(paint, was));
        let would = match &step.would {
            Some(Ok(would)) => outcome(paint, would),
            Some(Err(error)) => paint.doubt(line(format_args!("nothing: {error}"))),
            None => "nothing, the run is over".to_owned(),
        };
        let same = matches!((&step.was, &step.would), (Some(was), Some(Ok(would))) if was == would);
        flipped += usize::from(!same);
        let mark = if same { " " } else { "*" };
        let _ = writeln!(text, "{mark} {}: {would} (was: {was})", line(&step.trigger_id));
        for condition in &step.unseen {
            let _ = writeln!(text, "    {} was never asked then, so it is Unknown", line(condition));
        }
    }
    let _ = writeln!(text, "{flipped} of {} decisions would have been others", steps.len());
    text
}

/// The answer of `diff`.
pub(crate) fn differences(paint: &Paint, differences: &[Difference], same: bool) -> String {
    let mut text = String::new();
    for difference in differences {
        let kind = match difference.kind {
            DifferenceKind::Decision => paint.bad("decision"),
            DifferenceKind::LossOfSight => paint.bad("loss of sight"),
            DifferenceKind::Evidence => paint.doubt("evidence"),
            DifferenceKind::Policy => paint.doubt("policy"),
            DifferenceKind::Record => paint.strong("record"),
            DifferenceKind::Bytes => paint.strong("bytes"),
        };
        let _ = writeln!(text, "{kind}: {}", line(&difference.message));
    }
    if same && differences.is_empty() {
        text.push_str("the same pack\n");
    } else if differences.is_empty() {
        text.push_str("the manifests differ, and nothing they cover does\n");
    }
    text
}

/// A pack for people: who, what, when, and each decision with its gates.
///
/// With `working`, each condition also shows what it was compared with.
pub(crate) fn pack(paint: &Paint, pack: &Pack, working: bool) -> String {
    let mut text = String::new();
    let conditions: BTreeMap<_, _> = pack
        .scenario
        .conditions
        .iter()
        .filter(|_| working)
        .map(|condition| (&condition.condition_id, condition))
        .collect();
    let manifest = &pack.manifest;
    let _ = writeln!(text, "{}", paint.strong(line(format_args!("run {}", manifest.run_id))));
    let _ =
        writeln!(text, "  scenario     {} version {}", line(&manifest.scenario_id), line(&pack.scenario.spec_version));
    let _ = writeln!(text, "  tenant       {}, namespace {}", manifest.tenant_id, manifest.namespace_id);
    let _ = writeln!(text, "  exported at  {}", manifest.generated_at);
    if let Some(security) = &manifest.security {
        let permissive = if security.dev_permissive { "dev-permissive" } else { "strict" };
        let _ = writeln!(text, "  posture      {permissive}, namespaces by {}", line(&security.namespace_authority));
    }
    let _ = writeln!(
        text,
        "  logs         {}, {}, {}, {}, {}",
        counted(pack.triggers.len(), "trigger"),
        counted(pack.decisions.len(), "decision"),
        counted(pack.packets.len(), "packet"),
        counted(pack.submissions.len(), "submission"),
        counted(pack.tool_calls.len(), "call")
    );
    let mut evals = pack.gate_evals.iter().peekable();
    for decision in &pack.decisions {
        let _ = writeln!(
            text,
            "\n{} {} on trigger {} in stage {}",
            paint.strong(line(&decision.decision_id)),
            decision.decided_at,
            line(&decision.trigger_id),
            line(&decision.stage_id)
        );
        let _ = writeln!(text, "  {}", outcome(paint, &decision.outcome));
        // Evaluations lie in the order of the decisions they led to.
        while let Some(record) = evals.next_if(|record| record.trigger_id == decision.trigger_id) {
            gate(paint, &mut text, record, &conditions);
        }
        for packet in pack.packets.iter().filter(|packet| packet.decision_id == decision.decision_id) {
            let envelope = &packet.envelope;
            let _ = writeln!(
                text,
                "  disclosed packet {} ({}) to {}",
                line(&envelope.packet_id),
                line(&envelope.content_type),
                counted(packet.receipts.len(), "target")
            );
        }
    }
    for submission in &pack.submissions {
        let _ = writeln!(
            text,
            "\nsubmission {} {} {} {}",
            line(&submission.submission_id),
            submission.submitted_at,
            line(&submission.content_type),
            submission.content_hash
        );
    }
    text
}

fn outcome(paint: &Paint, outcome: &DecisionOutcome) -> String {
    match outcome {
        DecisionOutcome::Start { stage_id } => format!("start in {}", line(stage_id)),
        DecisionOutcome::Complete { stage_id } => paint.good(line(format_args!("complete in {stage_id}"))),
        DecisionOutcome::Advance { from_stage, to_stage, timeout } => {
            let by = if *timeout { " by timeout" } else { "" };
            paint.good(line(format_args!("advance from {from_stage} to {to_stage}{by}")))
        }
        DecisionOutcome::Hold { summary } => {
            let gates: Vec<_> = summary.unmet_gates.iter().map(ToString::to_string).collect();
            paint.doubt(line(format_args!("hold, unmet: {}", gates.join(", "))))
        }
        DecisionOutcome::Fail { reason } => paint.bad(line(format_args!("fail: {reason}"))),
    }
}

fn gate(
    paint: &Paint,
    text: &mut String,
    record: &GateEvalRecord,
    conditions: &BTreeMap<&ConditionId, &ConditionSpec>,
) {
    let evaluation = &record.evaluation;
    let _ = writeln!(text, "  gate {} is {}", line(&evaluation.gate_id), paint.tri(evaluation.status));
    for evidence in &record.evidence {
        let result = &evidence.result;
        let why = match (&result.error, &result.value) {
            (Some(error), _) => format!("{}: {}", error.code, error.message),
            (None, Some(EvidenceValue::Json(value))) => value.to_string(),
            (None, Some(EvidenceValue::Bytes(bytes))) => format!("{} bytes", bytes.len()),
            (None, None) => "no value".to_owned(),
        };
        let compared = conditions.get(&evidence.condition_id).map_or(String::new(), |condition| {
            let expected = condition.expected.as_ref().map_or(String::new(), |value| format!(" {value}"));
            format!(" {}{expected}", condition.comparator)
        });
        let _ = writeln!(
            text,
            "    {} is {}: {}{} ({})",
            line(&evidence.condition_id),
            paint.tri(evidence.status),
            shorten(&line(why)),
            shorten(&line(compared)),
            result.lane
        );
    }
}

fn shorten(text: &str) -> String {
    const CHARS: usize = 100;
    if text.chars().count() <= CHARS {
        text.to_owned()
    } else {
        format!("{}…", text.chars().take(CHARS - 1).collect::<String>())
    }
}
