//! Do the records speak of one run, and of the scenario they claim?

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

use super::{Check, Pack};
use crate::engine::{Scenario, anchor_fault};
use crate::pack::finding::{Code, Finding};
use crate::pack::layout::{ARTIFACTS, Content, Log, REQUIRED};
use crate::pack::report::{WireReport, WireStatus};

impl Check<'_> {
    pub(super) fn records(&mut self, pack: &Pack, manifest_name: &str) {
        self.scenario(pack, manifest_name);
        self.identity(pack);
        self.decisions(pack);
        self.anchors(pack);
        self.enclosed_report(pack);
    }

    fn scenario(&mut self, pack: &Pack, manifest_name: &str) {
        let path = path_of(Content::Scenario);
        // The file's digest, not a digest of what was parsed: older packs are
        // in another canonical form.
        let file = pack.manifest.integrity.file_hashes.iter().find(|entry| entry.path == path);
        if let Some(file) = file
            && file.hash != pack.manifest.spec_hash
        {
            let finding = Finding::new(Code::SpecHashMismatch, manifest_name, "spec_hash is not the scenario's digest");
            self.add(finding.at("/spec_hash").differs(file.hash, pack.manifest.spec_hash));
        }
        if let Err(fault) = Scenario::recorded(pack.scenario.clone()) {
            self.add(Finding::new(Code::ScenarioInvalid, path, format!("invalid scenario spec: {fault}")));
        }
    }

    fn identity(&mut self, pack: &Pack) {
        let manifest = &pack.manifest;
        let scenario = path_of(Content::Scenario);
        self.same(scenario, "/scenario_id", &manifest.scenario_id, &pack.scenario.scenario_id);
        self.same(scenario, "/namespace_id", &manifest.namespace_id, &pack.scenario.namespace_id);
        let triggers = path_of(Content::Log(Log::Triggers));
        for (index, record) in pack.triggers.iter().enumerate() {
            let event = &record.event;
            self.same(triggers, format_args!("/{index}/event/tenant_id"), &manifest.tenant_id, &event.tenant_id);
            let at = format_args!("/{index}/event/namespace_id");
            self.same(triggers, at, &manifest.namespace_id, &event.namespace_id);
            self.same(triggers, format_args!("/{index}/event/run_id"), &manifest.run_id, &event.run_id);
        }
        let packets = path_of(Content::Log(Log::Packets));
        for (index, record) in pack.packets.iter().enumerate() {
            let envelope = &record.envelope;
            let at = format_args!("/{index}/envelope/scenario_id");
            self.same(packets, at, &manifest.scenario_id, &envelope.scenario_id);
            self.same(packets, format_args!("/{index}/envelope/run_id"), &manifest.run_id, &envelope.run_id);
        }
        let submissions = path_of(Content::Log(Log::Submissions));
        for (index, record) in pack.submissions.iter().enumerate() {
            self.same(submissions, format_args!("/{index}/run_id"), &manifest.run_id, &record.run_id);
        }
    }

    fn same<T: PartialEq + Display>(&mut self, artifact: &str, at: impl Display, expected: &T, found: &T) {
        if expected != found {
            let message = format!("{artifact}{at} is `{found}`, the manifest says `{expected}`");
            let finding = Finding::new(Code::IdentityMismatch, artifact, message);
            self.add(finding.at(at.to_string()).differs(expected, found));
        }
    }

    fn decisions(&mut self, pack: &Pack) {
        let path = path_of(Content::Log(Log::Decisions));
        let mut decided = BTreeSet::new();
        for (index, decision) in pack.decisions.iter().enumerate() {
            if !decided.insert(&decision.trigger_id) {
                let message = format!("duplicate decision for trigger {}", decision.trigger_id);
                let finding = Finding::new(Code::DuplicateDecision, path, message);
                self.add(finding.at(format!("/{index}/trigger_id")));
            }
        }
    }

    fn anchors(&mut self, pack: &Pack) {
        let path = path_of(Content::Log(Log::GateEvals));
        let conditions: BTreeMap<_, _> =
            pack.scenario.conditions.iter().map(|condition| (&condition.condition_id, condition)).collect();
        for (index, record) in pack.gate_evals.iter().enumerate() {
            for (inner, evidence) in record.evidence.iter().enumerate() {
                let place = || format!("(trigger {}, stage {})", record.trigger_id, record.stage_id);
                let at = format!("/{index}/evidence/{inner}");
                let id = &evidence.condition_id;
                let Some(condition) = conditions.get(id) else {
                    let message = format!("condition {id} missing from scenario spec {}", place());
                    self.add(Finding::new(Code::UnknownCondition, path, message).at(at));
                    continue;
                };
                let policy = pack.manifest.anchor_policy.as_ref();
                let requirement = policy.and_then(|policy| policy.requirement(&condition.query.provider_id));
                if evidence.result.error.is_none()
                    && let Some(requirement) = requirement
                    && let Some(fault) = anchor_fault(requirement, evidence.result.evidence_anchor.as_ref())
                {
                    let message = format!("anchor invalid for condition {id} {}: {fault}", place());
                    let finding = Finding::new(Code::AnchorInvalid, path, message);
                    self.add(finding.at(format!("{at}/result/evidence_anchor")));
                }
            }
        }
    }

    /// The builder verified the seven artifacts before it; an honest one only
    /// ever encloses the report of a pass.
    fn enclosed_report(&mut self, pack: &Pack) {
        let honest = WireReport { status: WireStatus::Pass, checked_files: REQUIRED as u64, errors: Vec::new() };
        if let Some(report) = &pack.report
            && *report != honest
        {
            let message = "the enclosed report is not that of a pass over the seven artifacts";
            self.add(Finding::new(Code::ReportContradicts, path_of(Content::Report), message));
        }
    }
}

fn path_of(content: Content) -> &'static str {
    ARTIFACTS.iter().find(|artifact| artifact.content == content).map_or("", |artifact| artifact.path)
}
