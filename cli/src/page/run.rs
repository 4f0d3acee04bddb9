//! The page of one pack.

use std::collections::BTreeMap;
use std::io::{self, Write};

use maud::{Markup, html};
use runpack_core::engine::{Judged, Logic, working};
use runpack_core::model::{
    AdvanceTo, ConditionId, ConditionSpec, DecisionOutcome, DecisionRecord, EvidenceRecord, EvidenceResult,
    EvidenceValue, GateEvalRecord, GateSpec, PacketPayload, PacketRecord, Requirement, StageSpec, ToolCallRecord,
    ToolMethod, TriState, TriggerRecord,
};
use runpack_core::pack::layout::{ARTIFACTS, Content, Log, MANIFEST_NAME};
use runpack_core::pack::{Checks, Finding, Pack, Report, Severity, Verdict};

use crate::out::meaning;

use super::timeline::{self, timeline};
use super::{
    Page, chosen, clean, count, findings_count, grouped, hex, look, marked, name, place, sentence, severity_words,
    time, tri, words,
};

/// Nodes of one requirement that are drawn; further ones are counted.
const NODES_MAX: usize = 200;

/// What a finding is about, by the first digits of its code.
pub(super) const GROUPS: [(&str, &str, &str); 8] = [
    ("RP01", "Container", "Is everything there, and nothing else?"),
    ("RP02", "Bytes", "Are they the ones the manifest was written for?"),
    ("RP03", "Identity", "Is it one run of one scenario?"),
    ("RP04", "Logs", "Do the records follow each other?"),
    ("RP05", "Content", "Are bodies what their digests say?"),
    ("RP06", "Replay", "Do the decisions come out again?"),
    ("RP07", "Expectations", "Is it the pack that was asked for?"),
    ("RP08", "Signatures", "Did those sign who had to?"),
];

/// Writes the page of one pack. It says nothing of where the pack was, so the
/// same pack gives the same page everywhere.
///
/// # Errors
/// The page cannot be written.
pub(crate) fn run(
    to: &mut dyn Write,
    report: &Report,
    pack: Result<&Pack, &str>,
    details_max: usize,
) -> io::Result<()> {
    let title = report.subject.as_ref().map_or("A pack".to_owned(), |subject| format!("Run {}", subject.run_id));
    let view = pack.ok().map(|pack| View::of(pack, report));
    let mut page = Page::begin(to, &format!("{title}: {}", marked(report.verdict)), true)?;
    page.put(&header(&title, report, view.as_ref()))?;
    page.raw("<main>\n")?;
    page.put(&verdict(report, view.as_ref()))?;
    page.put(&findings(report, view.as_ref()))?;
    if let Some(view) = &view {
        page.put(&drawing(view, report))?;
    }
    page.put(&identity(report, pack.ok()))?;
    page.put(&digests(report, pack.ok()))?;
    match (&view, pack) {
        (Some(view), _) => {
            view.gates(&mut page, details_max)?;
            view.steps(&mut page, report, details_max)?;
            view.submissions(&mut page, details_max)?;
            view.calls(&mut page, details_max)?;
        }
        (None, Err(why)) => page.put(&html! {
            section id="run" {
                h2 { "The run" }
                p.warn { "The records cannot be shown: " (words(why)) }
            }
        })?,
        (None, Ok(_)) => {}
    }
    page.end(true)
}

fn header(title: &str, report: &Report, view: Option<&View>) -> Markup {
    html! {
        a.skip href="#verdict" { "Skip to the verdict" }
        header {
            h1 { (words(title)) }
            @if let Some(subject) = &report.subject {
                p.faint { "of scenario " (name(&subject.scenario_id)) ", exported " (time(subject.generated_at)) }
            }
        }
        nav aria-label="On this page" {
            ul {
                li { a href="#verdict" { "Verdict" } }
                li { a href="#findings" { "Findings (" (grouped(findings_count(report))) ")" } }
                @if view.is_some() { li { a href="#timeline" { "Timeline" } } }
                li { a href="#identity" { "Identity" } }
                li { a href="#digests" { "Digests" } }
                @if let Some(view) = view {
                    li { a href="#gates" { "Gates" } }
                    li { a href="#decisions" { "Decisions (" (grouped(view.steps.len() as u64)) ")" } }
                    li { a href="#submissions" { "Submissions" } }
                    li { a href="#calls" { "Calls" } }
                }
            }
        }
    }
}

fn verdict(report: &Report, view: Option<&View>) -> Markup {
    let (kind, _) = look(report.verdict);
    let passed = report.verdict.passed();
    html! {
        section id="verdict" aria-labelledby="verdict-word" {
            div.{ "verdict " (kind) } {
                p.word id="verdict-word" { (marked(report.verdict)) }
                p { (sentence(meaning(report))) }
            }
            @if passed {
                h2 { "What it rests on" }
                ul {
                    li { "Every file that the manifest lists is here, and nothing else: "
                        (count(report.checked_files, "file")) " read, each with the digest it is listed with." }
                    @if report.checks != Checks::Digests {
                        li { "What the records say of each other agrees: numbers, times, stages, identity, and every digest that can be computed again." }
                    }
                    @if let (Checks::Replay, Some(view)) = (report.checks, view) {
                        li { "Deciding again on the recorded evidence gives the same "
                            (count(view.pack.decisions.len() as u64, "decision")) "." }
                    }
                    @if let Some(settings) = &report.settings {
                        li { "That holds with "
                            @let lanes: Vec<_> = settings.min_lanes.iter().map(ToString::to_string).collect();
                            "least lane " strong { (lanes.join(" or ")) } " and logic " strong { (settings.logics.join(" or ")) }
                            @if !settings.stricter_providers.is_empty() {
                                ", stricter for "
                                @for (index, provider) in settings.stricter_providers.iter().take(20).enumerate() {
                                    @if index > 0 { ", " }
                                    (name(provider))
                                }
                            }
                            @if settings.attested { "; so says a signature that is trusted." }
                            @else { "; a v1 pack does not record these." }
                            @if settings.disclosures_refused > 0 {
                                " " (count(settings.disclosures_refused, "disclosure")) " must have been refused by a policy."
                            }
                        }
                    }
                    @if report.verdict == Verdict::Pinned {
                        li { "The pack digest is the one that was expected from outside." }
                    }
                    @for signer in &report.signed_by {
                        li { "Signed by " (name(&signer.key))
                            @if let Some(named) = &signer.name { " (" (words(named)) ")" }
                            ", whose key has the digest " (hex(&signer.key_digest)) "." }
                    }
                }
            } @else {
                p.warn { "Do not believe what the records below say." }
                h2 { "What was found" }
                table {
                    thead { tr { th scope="col" { "Question" } th scope="col" { "Answer" } } }
                    tbody {
                        @for (prefix, title, question) in GROUPS {
                            @let found = report.findings.iter().filter(|finding| finding.code.as_str().starts_with(prefix)).count() as u64;
                            tr {
                                th scope="row" { (title) ": " span.faint { (question) } }
                                td {
                                    @if found > 0 { span.chip.no { (count(found, "finding")) } }
                                    @else { span.chip.plain { "no finding" } }
                                }
                            }
                        }
                    }
                }
                p.faint { "A finding further up may have kept what is further down from being looked at." }
            }
            h2 { "What it does not say" }
            ul {
                @if !matches!(report.verdict, Verdict::Pinned | Verdict::Signed) {
                    li { "No digest was expected from outside, so the pack may have been replaced whole. Compare the "
                        a href="#digests" { "pack digest" } " with one that came another way." }
                }
                li { "Whether evidence was true, and whether what lies elsewhere is what its digest says: nothing was fetched." }
                @for entry in &report.unverifiable {
                    li { (count(entry.count, "digest")) " that nothing in the pack can confirm: " (words(&entry.what)) }
                }
            }
        }
    }
}

fn findings(report: &Report, view: Option<&View>) -> Markup {
    html! {
        section id="findings" {
            h2 { "Findings" }
            @if report.findings.is_empty() { p { "None." } }
            @for (index, finding) in report.findings.iter().enumerate() {
                @let (kind, weight) = severity_words(finding.severity);
                article.{ "finding " (if kind == "no" { "" } else { kind }) } id={ "finding-" (index + 1) } {
                    h3 { code { (finding.code) } " " (finding.code.title()) " " span.{ "chip " (kind) } { (weight) } }
                    p { (words(&finding.message)) }
                    dl {
                        @if !place(finding).is_empty() {
                            dt { "Place" } dd { (name(place(finding)))
                                @if let Some(step) = view.and_then(|view| view.step_of(finding)) {
                                    ", in " a href={ "#step-" (step + 1) } { "step " (step + 1) }
                                }
                            }
                        }
                        @if let Some(expected) = &finding.expected { dt { "Expected" } dd { (name(expected)) } }
                        @if let Some(found) = &finding.found { dt { "Found" } dd { (name(found)) } }
                        dt { "Why it matters" } dd { (finding.code.why()) }
                    }
                }
            }
            @if report.findings_left_out > 0 {
                p { strong { (count(report.findings_left_out, "more finding")) " of the same pack." } }
            }
        }
    }
}

fn identity(report: &Report, pack: Option<&Pack>) -> Markup {
    html! {
        section id="identity" {
            h2 { "Identity" }
            @if let Some(subject) = &report.subject {
                p.faint { "As the manifest says; being here proves none of it." }
                dl {
                    dt { "Run" } dd { (name(&subject.run_id)) }
                    dt { "Scenario" } dd { (name(&subject.scenario_id))
                        @if let Some(pack) = pack { ", version " (name(&pack.scenario.spec_version)) } }
                    dt { "Tenant" } dd { (subject.tenant_id) }
                    dt { "Namespace" } dd { (subject.namespace_id) }
                    dt { "Exported" } dd { (time(subject.generated_at)) }
                    dt { "Format" } dd { (words(&subject.manifest_version)) }
                    @if let Some(security) = pack.and_then(|pack| pack.manifest.security.as_ref()) {
                        dt { "Posture" } dd {
                            (if security.dev_permissive { "dev-permissive" } else { "strict" })
                            ", namespaces by " (name(&security.namespace_authority))
                        }
                    }
                    @if let Some(policy) = pack.and_then(|pack| pack.manifest.anchor_policy.as_ref()) {
                        dt { "Anchors asked of" } dd {
                            @if policy.providers.is_empty() { "nobody" }
                            @for (index, entry) in policy.providers.iter().take(50).enumerate() {
                                @if index > 0 { ", " }
                                (name(&entry.provider_id)) " (" (words(&entry.requirement.anchor_type)) ")"
                            }
                            @if policy.providers.len() > 50 { " and " (policy.providers.len() - 50) " more" }
                        }
                    }
                }
            } @else {
                p { "The manifest could not be read, so nothing says whose run this is." }
            }
        }
    }
}

fn digests(report: &Report, pack: Option<&Pack>) -> Markup {
    html! {
        section id="digests" {
            h2 { "Digests" }
            p.faint { "SHA-256, in groups of eight to be compared by eye. The pack digest is that of the manifest's bytes, and through them covers everything." }
            table {
                thead { tr { th scope="col" { "Of" } th scope="col" { "Digest" } } }
                tbody {
                    @if let Some(digest) = &report.pack_digest {
                        tr data-path=(MANIFEST_NAME) data-digest=(digest) {
                            th scope="row" { "the pack: " (name(MANIFEST_NAME)) } td { strong { (hex(digest)) } }
                        }
                    }
                    @if let Some(subject) = &report.subject {
                        tr { th scope="row" { "the root: the list of files" } td { (hex(&subject.root_hash)) } }
                        tr { th scope="row" { "the scenario" } td { (hex(&subject.spec_hash)) } }
                    }
                    @if let Some(pack) = pack {
                        @for file in pack.manifest.integrity.file_hashes.iter().take(50) {
                            @let wrong = report.findings.iter().any(|finding| finding.code.as_str() == "RP0201" && finding.artifact == file.path);
                            tr data-path=(clean(&file.path)) data-digest=(file.hash) {
                                th scope="row" { (name(&file.path)) @if wrong { " " span.chip.no { "the file has another" } } }
                                td { (hex(&file.hash)) }
                            }
                        }
                    }
                }
            }
            div.here id="rehash" hidden {
                h3 { "Compare files here" }
                p.faint { "Drop files of the pack on this field, or choose them. They are read by this page alone and go nowhere." }
                p {
                    label { "Files " input type="file" multiple; }
                    label { "A whole directory " input type="file" webkitdirectory multiple; }
                }
                ul id="rehash-told" aria-live="polite" {}
            }
        }
    }
}

fn drawing(view: &View, report: &Report) -> Markup {
    html! {
        section id="timeline" {
            h2 { "Timeline" }
            (timeline(&view.moments(report)))
        }
    }
}

/// One decision, with what led to it and what came of it.
struct Step<'a> {
    trigger: Option<&'a TriggerRecord>,
    decision: Option<&'a DecisionRecord>,
    gates: Vec<&'a GateEvalRecord>,
    packets: Vec<&'a PacketRecord>,
    /// Submissions between this step and the one before.
    submitted: usize,
    /// Indexes of findings in the report.
    findings: Vec<usize>,
}

/// A pack, arranged by its decisions.
struct View<'a> {
    pack: &'a Pack,
    logic: Logic,
    steps: Vec<Step<'a>>,
    /// Submissions after the last step.
    submitted_last: usize,
    conditions: BTreeMap<&'a ConditionId, &'a ConditionSpec>,
    /// Where each record of each log went, by log and place in it.
    places: BTreeMap<Log, Vec<Option<usize>>>,
}

impl<'a> View<'a> {
    fn of(pack: &'a Pack, report: &Report) -> Self {
        let kleene =
            report.settings.as_ref().is_none_or(|settings| settings.logics.iter().any(|logic| logic == "kleene"));
        let conditions = pack.scenario.conditions.iter().map(|condition| (&condition.condition_id, condition));
        let mut view = Self {
            pack,
            logic: if kleene { Logic::Kleene } else { Logic::Bochvar },
            steps: Vec::new(),
            submitted_last: 0,
            conditions: conditions.collect(),
            places: BTreeMap::new(),
        };
        view.arrange();
        view.place_submissions();
        for (index, finding) in report.findings.iter().enumerate() {
            if let Some(step) = view.step_of(finding) {
                view.steps[step].findings.push(index);
            }
        }
        view
    }

    /// A step for each decision, in their order, and one for each trigger that
    /// has none. In a forged pack records may point anywhere, or nowhere.
    fn arrange(&mut self) {
        let pack = self.pack;
        let mut waiting: BTreeMap<_, Vec<usize>> = BTreeMap::new();
        for (index, trigger) in pack.triggers.iter().enumerate().rev() {
            waiting.entry(&trigger.event.trigger_id).or_default().push(index);
        }
        let mut triggers = vec![None; pack.triggers.len()];
        let (mut by_trigger, mut by_decision) = (BTreeMap::new(), BTreeMap::new());
        for (step, decision) in pack.decisions.iter().enumerate() {
            let trigger = waiting.get_mut(&decision.trigger_id).and_then(Vec::pop);
            by_trigger.entry(&decision.trigger_id).or_insert(step);
            by_decision.entry(&decision.decision_id).or_insert(step);
            if let Some(trigger) = trigger {
                triggers[trigger] = Some(step);
            }
            self.steps.push(Step::new(trigger.map(|index| &pack.triggers[index]), Some(decision)));
        }
        for (index, trigger) in pack.triggers.iter().enumerate() {
            if triggers[index].is_none() {
                triggers[index] = Some(self.steps.len());
                by_trigger.entry(&trigger.event.trigger_id).or_insert(self.steps.len());
                self.steps.push(Step::new(Some(trigger), None));
            }
        }
        let evals: Vec<_> = pack.gate_evals.iter().map(|eval| by_trigger.get(&eval.trigger_id).copied()).collect();
        let packets: Vec<_> = pack.packets.iter().map(|packet| by_decision.get(&packet.decision_id).copied()).collect();
        for (record, step) in pack.gate_evals.iter().zip(&evals) {
            if let Some(step) = step {
                self.steps[*step].gates.push(record);
            }
        }
        for (record, step) in pack.packets.iter().zip(&packets) {
            if let Some(step) = step {
                self.steps[*step].packets.push(record);
            }
        }
        let decisions = (0..pack.decisions.len()).map(Some).collect();
        let logs =
            [(Log::Triggers, triggers), (Log::Decisions, decisions), (Log::GateEvals, evals), (Log::Packets, packets)];
        self.places = logs.into_iter().collect();
    }

    /// The calls came in an order, and say where submissions stand in it.
    fn place_submissions(&mut self) {
        let mut submissions = self.pack.submissions.iter().peekable();
        let mut step = 0;
        for call in self.pack.tool_calls.iter().filter(|call| call.error.is_none()) {
            let same = |at, correlation_id| call.called_at == at && call.correlation_id == correlation_id;
            if call.method == ToolMethod::Submit.as_str() {
                let here =
                    submissions.next_if(|record| same(record.submitted_at, record.correlation_id.clone())).is_some();
                if here {
                    match self.steps.get_mut(step) {
                        Some(step) => step.submitted += 1,
                        None => self.submitted_last += 1,
                    }
                }
            } else if call.method != ToolMethod::Status.as_str() {
                // A run may begin with a step that no call asked for.
                let next = self.steps.iter().skip(step).take(2).position(|step| {
                    let event = step.trigger.map(|trigger| &trigger.event);
                    event.is_some_and(|event| same(event.time, event.correlation_id.clone()))
                });
                step += next.map_or(0, |past| past + 1);
            }
        }
        self.submitted_last += submissions.count();
    }

    /// The step a finding is about, if it is about one.
    fn step_of(&self, finding: &Finding) -> Option<usize> {
        let log = ARTIFACTS.iter().find(|artifact| artifact.path == finding.artifact)?.content;
        let Content::Log(log) = log else { return None };
        let index: usize = finding.pointer.strip_prefix('/')?.split('/').next()?.parse().ok()?;
        self.places.get(&log)?.get(index).copied().flatten()
    }

    fn moments(&self, report: &Report) -> timeline::Moments<'_> {
        let error =
            |step: &Step| step.findings.iter().any(|index| report.findings[*index].severity != Severity::Warning);
        let moments = self.steps.iter().map(|step| timeline::Moment {
            stage: step.decision.map_or("", |decision| decision.stage_id.as_str()),
            trigger: step.trigger.map(|trigger| trigger.event.kind),
            time: step.trigger.map(|trigger| trigger.event.time),
            gates: step.gates.iter().map(|record| (&record.evaluation.gate_id, record.evaluation.status)).collect(),
            outcome: step.decision.map(|decision| decision.outcome.kind()),
            disclosed: step.packets.len(),
            submitted: step.submitted,
            wrong: error(step),
        });
        let gates = self.pack.scenario.stages.iter().flat_map(|stage| &stage.gates).map(|gate| &gate.gate_id);
        timeline::Moments { moments: moments.collect(), gates: gates.collect(), submitted_last: self.submitted_last }
    }

    /// Every gate of the scenario, as it came out last.
    fn gates(&self, page: &mut Page, details_max: usize) -> io::Result<()> {
        let mut last: BTreeMap<_, ([u64; 3], usize, &GateEvalRecord)> = BTreeMap::new();
        for (index, step) in self.steps.iter().enumerate() {
            for record in &step.gates {
                let entry = last.entry(&record.evaluation.gate_id).or_insert(([0; 3], index, record));
                entry.0[record.evaluation.status as usize] += 1;
                (entry.1, entry.2) = (index, record);
            }
        }
        let all: Vec<(&StageSpec, &GateSpec)> = self
            .pack
            .scenario
            .stages
            .iter()
            .flat_map(|stage| stage.gates.iter().map(move |gate| (stage, gate)))
            .collect();
        let shown = chosen(all.len(), details_max, |index| match last.get(&all[index].1.gate_id) {
            Some((_, _, record)) if record.evaluation.status != TriState::True => 1,
            Some(_) => 2,
            None => 3,
        });
        let count_shown = shown.iter().filter(|shown| **shown).count();
        page.raw("<section id=\"gates\"><h2>Gates</h2>")?;
        page.put(&html! {
            p.faint { "What each gate asks for, and the evidence it came out by the last time." }
            @if count_shown < all.len() {
                p { strong { (grouped(count_shown as u64)) " of " (count(all.len() as u64, "gate")) " are shown" }
                    ", those that are not True first; " code { "--max-details" } " shows more." }
            }
            @if all.is_empty() { p { "The scenario has none." } }
        })?;
        for ((stage, gate), _) in all.iter().zip(shown).filter(|(_, shown)| *shown) {
            let said = last.get(&gate.gate_id);
            let evidence: &[EvidenceRecord] = said.map_or(&[], |(_, _, record)| &record.evidence);
            page.put(&html! {
                details.gate open {
                    summary {
                        h3 { (name(&gate.gate_id)) }
                        " in stage " (name(&stage.stage_id)) " "
                        @match said {
                            Some((_, _, record)) => (tri(record.evaluation.status)),
                            None => span.chip.plain { "never asked" },
                        }
                    }
                    p.faint {
                        @match said {
                            Some((counts, step, _)) => {
                                @let [yes, no, maybe] = counts;
                                "True " (count(*yes, "time")) ", False " (grouped(*no)) ", Unknown " (grouped(*maybe)) "; last in "
                                a href={ "#step-" (step + 1) } { "step " (step + 1) } "."
                            }
                            None => "No trigger met it.",
                        }
                        @if let Some(trust) = &gate.trust { " Evidence counts from lane " strong { (trust.min_lane) } " on." }
                        " When every gate of the stage is True, the run " (onward(&stage.advance_to)) "."
                        @if let Some(timeout) = &stage.timeout {
                            " After " (timeout.timeout_ms) " ms or ticks in the stage: " (stage.on_timeout) "."
                        }
                    }
                    (self.tree(&gate.requirement, said.map(|_| evidence), true))
                }
            })?;
        }
        page.raw("</section>\n")
    }

    /// A requirement and what it came to, if it was asked.
    fn tree(&self, requirement: &Requirement, evidence: Option<&[EvidenceRecord]>, full: bool) -> Markup {
        let judged = working(requirement, evidence.unwrap_or_default(), self.logic);
        let mut room = NODES_MAX;
        let tree = self.node(&judged, evidence, full, &mut room);
        html! {
            ul.tree { (tree) }
            @if room == 0 { p.faint { "Only the first " (NODES_MAX) " nodes of this requirement are drawn." } }
        }
    }

    fn node(&self, judged: &Judged, evidence: Option<&[EvidenceRecord]>, full: bool, room: &mut usize) -> Markup {
        if *room == 0 {
            return html! {};
        }
        *room -= 1;
        let status = evidence.map(|_| judged.status);
        let said = html! { @if let Some(status) = status { (tri(status)) " " } };
        match judged.node {
            Requirement::Condition(id) => {
                let records = evidence.unwrap_or_default();
                let record = records.binary_search_by(|record| record.condition_id.cmp(id)).ok();
                html! { li { (said) (name(id)) (self.leaf(id, record.map(|index| &records[index]), evidence.is_some(), full)) } }
            }
            node => html! {
                li {
                    (said)
                    @match node {
                        Requirement::And(members) => { "all of " (members.len()) }
                        Requirement::Or(members) => { "any of " (members.len()) }
                        Requirement::Not(_) => "not",
                        Requirement::RequireGroup { min, reqs } => { "at least " (min) " of " (reqs.len()) }
                        Requirement::Condition(_) => "",
                    }
                    @if !judged.members.is_empty() {
                        ul { @for member in &judged.members { (self.node(member, evidence, full, room)) } }
                    }
                }
            },
        }
    }

    /// What a condition asks, and what it found.
    fn leaf(&self, id: &ConditionId, record: Option<&EvidenceRecord>, asked: bool, full: bool) -> Markup {
        let condition = self.conditions.get(id);
        html! {
            @if let Some(record) = record { ": " (found(&record.result)) }
            @else if asked { ": no evidence" }
            @if let Some(condition) = condition {
                ", asked for " (condition.comparator)
                @if let Some(expected) = &condition.expected { " " (name(expected)) }
                @if full {
                    div.faint {
                        "from " (name(&condition.query.provider_id)) " " (name(&condition.query.check_id))
                        @if let Some(params) = &condition.query.params { " with " (name(params)) }
                        @if let Some(trust) = &condition.trust { ", from lane " (trust.min_lane) " on" }
                    }
                }
            } @else {
                ", which the scenario does not have"
            }
            @if let (true, Some(record)) = (full, record) { (origin(&record.result)) }
        }
    }

    fn steps(&self, page: &mut Page, report: &Report, details_max: usize) -> io::Result<()> {
        let alike: Vec<_> = (0..self.steps.len()).map(|index| self.is_alike(index)).collect();
        let ends = |index: usize| !alike[index] || alike.get(index + 1).is_none_or(|next| !next);
        let shown = chosen(self.steps.len(), details_max, |index| {
            let step = &self.steps[index];
            let moved = step.decision.is_none_or(|decision| !matches!(decision.outcome, DecisionOutcome::Hold { .. }));
            match () {
                () if !step.findings.is_empty() => 0,
                () if moved || index == 0 || index + 1 == self.steps.len() => 1,
                () if !alike[index] => 2,
                () if ends(index) => 3,
                () => u8::MAX,
            }
        });
        // What comes out as its neighbour does is never shown for want of anything else.
        let shown: Vec<_> = shown
            .iter()
            .enumerate()
            .map(|(index, shown)| *shown && (ends(index) || !self.steps[index].findings.is_empty()))
            .collect();
        let count_shown = shown.iter().filter(|shown| **shown).count();
        let wanted =
            (0..self.steps.len()).filter(|index| ends(*index) || !self.steps[*index].findings.is_empty()).count();
        page.raw("<section id=\"decisions\"><h2>Decisions</h2>")?;
        page.put(&html! {
            @if count_shown < self.steps.len() {
                p {
                    strong { (grouped(count_shown as u64)) " of " (count(self.steps.len() as u64, "step")) " are shown in full" }
                    "; those that hold just as the one before them are told together."
                    @if count_shown < wanted {
                        " " strong { "There is room for " (grouped(details_max as u64)) " of " (grouped(wanted as u64)) }
                        ": every one with a finding, then those that moved the run, then those that came out otherwise than the one before. "
                        code { "--max-details" } " makes more room."
                    }
                }
            }
            @if self.steps.is_empty() { p { "Nothing was decided." } }
        })?;
        let mut index = 0;
        while index < self.steps.len() {
            if shown[index] {
                page.put(&self.step(index, report))?;
                index += 1;
                continue;
            }
            let end = (index..self.steps.len()).find(|at| shown[*at]).unwrap_or(self.steps.len());
            page.put(&self.gap(index, end, &alike))?;
            index = end;
        }
        page.raw("</section>\n")
    }

    /// Whether a step holds just as the one before it, for the same reasons.
    fn is_alike(&self, index: usize) -> bool {
        let Some(before) = index.checked_sub(1).map(|before| &self.steps[before]) else { return false };
        let step = &self.steps[index];
        let held = |step: &'_ Step| match step.decision.map(|decision| (&decision.stage_id, &decision.outcome)) {
            Some((stage, DecisionOutcome::Hold { summary })) => Some((stage.clone(), summary.clone())),
            _ => None,
        };
        let judged = |step: &Step<'a>| -> Vec<_> {
            let gates = step.gates.iter();
            gates
                .map(|record| {
                    (&record.evaluation, record.evidence.iter().map(|evidence| evidence.status).collect::<Vec<_>>())
                })
                .collect()
        };
        let (held_now, held_before) = (held(step), held(before));
        held_now.is_some()
            && step.findings.is_empty()
            && before.findings.is_empty()
            && step.submitted == 0
            && held_now == held_before
            && judged(step) == judged(before)
    }

    fn gap(&self, start: usize, end: usize, alike: &[bool]) -> Markup {
        let mut outcomes: BTreeMap<&str, u64> = BTreeMap::new();
        for step in &self.steps[start..end] {
            *outcomes
                .entry(step.decision.map_or("undecided", |decision| decision.outcome.kind().as_str()))
                .or_default() += 1;
        }
        let times = |index: usize| self.steps[index].trigger.map(|trigger| trigger.event.time);
        html! {
            p.gap {
                @if end - start == 1 { "Step " (grouped(start as u64 + 1)) }
                @else { "Steps " (grouped(start as u64 + 1)) " to " (grouped(end as u64)) }
                @if alike[start..end].iter().all(|alike| *alike) {
                    (if end - start == 1 { " comes out as step " } else { " come out as step " }) (grouped(start as u64)) " does"
                } @else { " are left out" }
                ": "
                @for (index, (kind, number)) in outcomes.iter().enumerate() {
                    @if index > 0 { ", " }
                    (grouped(*number)) " × " (kind)
                }
                @if let (Some(first), Some(last)) = (times(start), times(end - 1)) { ", from " (time(first)) " to " (time(last)) }
                "."
            }
        }
    }

    fn step(&self, index: usize, report: &Report) -> Markup {
        let step = &self.steps[index];
        let wrong = step.findings.iter().any(|index| report.findings[*index].severity != Severity::Warning);
        html! {
            details.{ "step" (if wrong { " no" } else { "" }) } id={ "step-" (index + 1) } open {
                summary {
                    h3 { "Step " (grouped(index as u64 + 1)) ": "
                        @match step.decision {
                            Some(decision) => (outcome(&decision.outcome)),
                            None => span.chip.no { "never decided" },
                        }
                    }
                }
                @for finding in &step.findings {
                    @let (kind, _) = severity_words(report.findings[*finding].severity);
                    p { a href={ "#finding-" (finding + 1) } { span.{ "chip " (kind) } { (report.findings[*finding].code) } }
                        " " (words(&report.findings[*finding].message)) }
                }
                dl {
                    @if let Some(trigger) = step.trigger.map(|trigger| &trigger.event) {
                        dt { "Trigger" } dd { (name(&trigger.trigger_id)) ", " (trigger.kind) " from " (name(&trigger.source_id)) }
                        dt { "Time" } dd { (time(trigger.time)) }
                        @if let Some(payload) = &trigger.payload { dt { "Payload" } dd { (body(payload)) } }
                    } @else if let Some(decision) = step.decision {
                        dt { "Trigger" } dd { (name(&decision.trigger_id)) ", which the log does not have" }
                    }
                    @if let Some(decision) = step.decision {
                        dt { "Decision" } dd { (name(&decision.decision_id)) ", in stage " (name(&decision.stage_id)) }
                        @if step.trigger.is_none_or(|trigger| trigger.event.time != decision.decided_at) {
                            dt { "Decided at" } dd { (time(decision.decided_at)) }
                        }
                    }
                    @if step.submitted > 0 { dt { "Before it" } dd { (count(step.submitted as u64, "submission")) } }
                }
                @for record in &step.gates {
                    p.of { (tri(record.evaluation.status)) " gate " (name(&record.evaluation.gate_id)) }
                    @match self.requirement(record) {
                        Some(requirement) => (self.tree(requirement, Some(&record.evidence), false)),
                        None => ul.tree {
                            @for evidence in record.evidence.iter().take(NODES_MAX) {
                                li { (tri(evidence.status)) " " (name(&evidence.condition_id)) (self.leaf(&evidence.condition_id, Some(evidence), true, false)) }
                            }
                        },
                    }
                }
                @for packet in step.packets.iter().take(NODES_MAX) { (disclosed(packet)) }
                @if step.packets.len() > NODES_MAX { p { (step.packets.len() - NODES_MAX) " more packets." } }
            }
        }
    }

    fn requirement(&self, record: &GateEvalRecord) -> Option<&'a Requirement> {
        let mut gates = self.pack.scenario.stages.iter().flat_map(|stage| &stage.gates);
        gates.find(|gate| gate.gate_id == record.evaluation.gate_id).map(|gate| &gate.requirement)
    }

    fn submissions(&self, page: &mut Page, details_max: usize) -> io::Result<()> {
        let all = &self.pack.submissions;
        page.raw("<section id=\"submissions\"><h2>Submissions</h2>")?;
        if all.is_empty() {
            return page.raw("<p>None.</p></section>\n");
        }
        page.put(&html! {
            p.faint { "What was handed in during the run. It influences no gate." }
            @if all.len() > details_max { p { strong { "The first " (grouped(details_max as u64)) " of " (grouped(all.len() as u64)) } " are shown." } }
        })?;
        page.raw("<table><thead><tr><th scope=\"col\">Id</th><th scope=\"col\">Time</th><th scope=\"col\">Content</th><th scope=\"col\">Digest</th></tr></thead><tbody>")?;
        for record in all.iter().take(details_max) {
            page.put(&html! {
                tr {
                    th scope="row" { (name(&record.submission_id)) }
                    td { (time(record.submitted_at)) }
                    td { (words(&record.content_type)) ": " (body(&record.payload)) }
                    td { (hex(&record.content_hash)) }
                }
            })?;
        }
        page.raw("</tbody></table></section>\n")
    }

    fn calls(&self, page: &mut Page, details_max: usize) -> io::Result<()> {
        let mut methods: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
        for call in &self.pack.tool_calls {
            let entry = methods.entry(call.method.as_str()).or_default();
            entry.0 += 1;
            entry.1 += u64::from(call.error.is_some());
        }
        let failed: Vec<&ToolCallRecord> = self.pack.tool_calls.iter().filter(|call| call.error.is_some()).collect();
        page.raw("<section id=\"calls\"><h2>Calls</h2>")?;
        page.put(&html! {
            @if methods.is_empty() { p { "None." } } @else {
                table {
                    thead { tr { th scope="col" { "Method" } th.number scope="col" { "Calls" } th.number scope="col" { "Refused" } } }
                    tbody {
                        @for (method, (calls, refused)) in methods.iter().take(NODES_MAX) {
                            tr { th scope="row" { (name(method)) } td.number { (grouped(*calls)) } td.number { (grouped(*refused)) } }
                        }
                    }
                }
            }
            @if failed.len() > details_max { p { strong { "The first " (grouped(details_max as u64)) " of " (count(failed.len() as u64, "refused call")) } " are shown." } }
            @if !failed.is_empty() {
                h3 { "Refused" }
                ul {
                    @for call in failed.iter().take(details_max) {
                        li { (name(&call.call_id)) " " (name(&call.method)) " at " (time(call.called_at))
                            @if let Some(error) = &call.error { ": " (name(&error.code)) " " (words(&error.message)) } }
                    }
                }
            }
        })?;
        page.raw("</section>\n")
    }
}

impl<'a> Step<'a> {
    fn new(trigger: Option<&'a TriggerRecord>, decision: Option<&'a DecisionRecord>) -> Self {
        Self { trigger, decision, gates: Vec::new(), packets: Vec::new(), submitted: 0, findings: Vec::new() }
    }
}

fn outcome(outcome: &DecisionOutcome) -> Markup {
    let chip = |kind: &str, word: &str| html! { span.{ "chip " (kind) } { (word) } " " };
    match outcome {
        DecisionOutcome::Start { stage_id } => html! { (chip("plain", "start")) "in " (name(stage_id)) },
        DecisionOutcome::Complete { stage_id } => html! { (chip("yes", "complete")) "in " (name(stage_id)) },
        DecisionOutcome::Advance { from_stage, to_stage, timeout } => html! {
            (chip("yes", "advance")) "from " (name(from_stage)) " to " (name(to_stage))
            @if *timeout { " by timeout" }
        },
        DecisionOutcome::Hold { summary } => html! {
            (chip("maybe", "hold")) "unmet: "
            @for (index, gate) in summary.unmet_gates.iter().take(20).enumerate() {
                @if index > 0 { ", " }
                (name(gate))
            }
            @if summary.unmet_gates.len() > 20 { " and " (summary.unmet_gates.len() - 20) " more" }
        },
        DecisionOutcome::Fail { reason } => html! { (chip("no", "fail")) (words(reason)) },
    }
}

/// What a provider answered.
fn found(result: &EvidenceResult) -> Markup {
    html! {
        @match (&result.error, &result.value) {
            (Some(error), _) => { "error " (name(&error.code)) " " (words(&error.message)) }
            (None, Some(EvidenceValue::Json(value))) => { "found " (name(value)) }
            (None, Some(EvidenceValue::Bytes(bytes))) => { "found " (count(bytes.len() as u64, "byte")) }
            (None, None) => "found no value",
        }
        " (" (result.lane) ")"
    }
}

/// Where evidence came from, and by what it can be found again.
fn origin(result: &EvidenceResult) -> Markup {
    html! {
        @if let Some(at) = &result.evidence_ref { div.faint { "at " (name(&at.uri)) } }
        @if let Some(anchor) = &result.evidence_anchor {
            div.faint { "anchored by " (name(&anchor.anchor_type)) " " (name(&anchor.anchor_value)) }
        }
        @if let Some(signature) = &result.signature {
            div.faint { "signed with " (name(&signature.scheme)) " by key " (name(&signature.key_id)) }
        }
        @if let Some(digest) = &result.evidence_hash { div.faint { "digest " (hex(digest)) } }
    }
}

fn body(payload: &PacketPayload) -> Markup {
    match payload {
        PacketPayload::Json(value) => name(value),
        PacketPayload::Bytes(bytes) => html! { (count(bytes.len() as u64, "byte")) },
        PacketPayload::External(at) => html! { "kept at " (name(&at.uri)) },
    }
}

fn disclosed(packet: &PacketRecord) -> Markup {
    let envelope = &packet.envelope;
    html! {
        p.of {
            span.chip.plain { "disclosed" } " packet " (name(&envelope.packet_id)) ", " (words(&envelope.content_type))
            ", queued for " (count(packet.receipts.len() as u64, "target")) ": " (body(&packet.payload))
        }
    }
}

/// Where a run goes from a stage.
fn onward(advance: &AdvanceTo) -> Markup {
    match advance {
        AdvanceTo::Linear => html! { "goes on to the next stage" },
        AdvanceTo::Terminal => html! { "is complete" },
        AdvanceTo::Fixed { stage_id } => html! { "goes on to " (name(stage_id)) },
        AdvanceTo::Branch { branches, default } => html! {
            "goes on to "
            @for rule in branches.iter().take(20) {
                (name(&rule.next_stage_id)) " if " (name(&rule.gate_id)) " is " (rule.outcome) ", "
            }
            @if branches.len() > 20 { "or by one of " (branches.len() - 20) " further rules, " }
            @match default { Some(stage) => { "else to " (name(stage)) }, None => "else nowhere" }
        },
    }
}
