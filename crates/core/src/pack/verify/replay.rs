//! Decides every trigger again, on the evidence the pack recorded.
//!
//! What a pack does not record is inferred, and must be one setting for all of
//! the run: the least lane per provider, the logic, the policy's answers, the
//! time the run started. The report lists what explains the run.

use std::collections::BTreeMap;

use super::logs::{DECISIONS, GATE_EVALS, PACKETS, Standing, Step, is_opening};
use super::{Expectations, Found};
use crate::canon::forms;
use crate::engine::{
    Counts, DecideError, DefaultEffect, Entry, Evidence, Head, Logic, Policy, PolicyEffect, PolicyRule, Scenario,
    Settings as Engine, StaticPolicy, decide, start,
};
use crate::model::{
    Comparator, ConditionId, ConditionSpec, DecisionOutcome, DecisionRecord, DispatchTarget, EvidenceRecord,
    EvidenceResult, EvidenceValue, GateEvalRecord, GateSpec, Lane, PacketRecord, ProviderId, RunConfig, Timestamp,
    TriState, TriggerKind,
};
use crate::pack::attestation::{AttestedSettings, LogicName};
use crate::pack::finding::{Code, Finding};
use crate::pack::manifest::Manifest;
use crate::pack::report::Settings;

pub(super) struct Replay<'c> {
    manifest: &'c Manifest,
    scenario: &'c Scenario,
    conditions: BTreeMap<&'c ConditionId, &'c ConditionSpec>,
    gates: BTreeMap<&'c str, &'c GateSpec>,
    expect: &'c Expectations,
    /// What a signature that counts says the run was decided by: nothing of it
    /// is inferred then.
    attested: Option<&'c AttestedSettings>,
    /// Who was asked about disclosures, as it is expected or attested.
    answering: Option<Policy>,
    /// Lanes that the run showed, and where.
    lanes: BTreeMap<ProviderId, (Lane, usize)>,
    engine: Engine,
    kleene: bool,
    bochvar: bool,
    /// Whom packets go to, once one has told.
    targets: Option<Vec<DispatchTarget>>,
    /// The run started after this, as far as ticks tell.
    started_after: Option<i128>,
    /// And by this clock.
    started_by: Option<std::mem::Discriminant<Timestamp>>,
    refusals: u64,
}

impl<'c> Replay<'c> {
    pub(super) fn new(
        manifest: &'c Manifest,
        scenario: &'c Scenario,
        expect: &'c Expectations,
        attested: Option<&'c AttestedSettings>,
    ) -> Self {
        let spec = scenario.spec();
        let conditions = spec.conditions.iter().map(|condition| (&condition.condition_id, condition)).collect();
        let gates =
            spec.stages.iter().flat_map(|stage| &stage.gates).map(|gate| (gate.gate_id.as_str(), gate)).collect();
        // Nothing seen yet counts as strict: it changes nothing.
        let lane = |provider| attested.map_or(Lane::Verified, |settings| settings.lane(provider));
        let providers = spec.conditions.iter().map(|condition| &condition.query.provider_id);
        let provider_lanes = providers.map(|provider| (provider.clone(), lane(provider))).collect();
        // What was attested was read, so it makes a policy.
        let attested_policy = || Policy::try_from(attested?.policy.clone()).ok();
        let answering = expect.policy.clone().or_else(attested_policy);
        let logic = attested.map(|settings| settings.logic);
        let anchors = manifest.anchor_policy.clone().unwrap_or_default();
        let engine = Engine { min_lane: Lane::Asserted, provider_lanes, logic: Logic::Kleene, anchors };
        Self {
            manifest,
            scenario,
            conditions,
            gates,
            expect,
            attested,
            answering,
            lanes: BTreeMap::new(),
            engine,
            kleene: logic != Some(LogicName::Bochvar),
            bochvar: logic != Some(LogicName::Kleene),
            targets: None,
            started_after: None,
            started_by: None,
            refusals: 0,
        }
    }

    /// What explains the run; and what was claimed or expected otherwise.
    pub(super) fn conclude(self, found: &mut Found) -> Settings {
        let asserted = self.lanes.iter().find(|(_, (lane, _))| *lane == Lane::Asserted);
        if let Some((provider, (_, position))) = asserted {
            let message = format!("asserted evidence of provider {provider} counted");
            let at = format!("/{position}");
            if !self.manifest.security.as_ref().is_some_and(|security| security.dev_permissive) {
                found.add(Finding::new(Code::LooserThanClaimed, GATE_EVALS, message.clone()).at(at.clone()));
            }
            if self.expect.min_lane == Some(Lane::Verified) {
                let finding = Finding::new(Code::NotAsExpected, GATE_EVALS, message).at(at);
                found.add(finding.differs(Lane::Verified, Lane::Asserted));
            }
        }
        // Evidence that did not count shows its provider's lane, which may be
        // stricter than the least.
        let min_lanes = match self.attested {
            Some(settings) => vec![settings.min_lane],
            None if asserted.is_some() => vec![Lane::Asserted],
            None => vec![Lane::Verified, Lane::Asserted],
        };
        let stricter =
            |(provider, (lane, _)): (&ProviderId, &(Lane, usize))| (*lane == Lane::Verified).then(|| provider.clone());
        Settings {
            min_lanes,
            stricter_providers: self.lanes.iter().filter_map(stricter).collect(),
            logics: [(self.kleene, "kleene"), (self.bochvar, "bochvar")]
                .into_iter()
                .filter(|(possible, _)| *possible)
                .map(|(_, name)| name.to_owned())
                .collect(),
            disclosures_refused: self.refusals,
            attested: self.attested.is_some(),
        }
    }

    pub(super) fn step(&mut self, step: &Step, standing: &Standing, found: &mut Found) {
        self.learn_targets(step, found);
        if is_opening(step) {
            self.opening(step, found);
            return;
        }
        let Some(evidence) = self.evidence(step, found) else { return };
        let Some((entered, expired)) = self.entered(step, standing, found) else { return };
        let head = self.head(step, standing, entered);
        let policy = self.policy(&step.decision.1);
        match self.decide(step, &head, &evidence, &policy) {
            Ok(again) => self.compare(step, &head, &evidence, &policy, again, expired, found),
            Err(error) => {
                let message = format!("trigger {} cannot be decided: {error}", step.trigger.1.event.trigger_id);
                let finding = Finding::new(Code::OutcomeDiffers, DECISIONS, message);
                found.add(finding.at(format!("/{}/outcome", step.decision.0)));
            }
        }
    }

    fn decide(
        &self,
        step: &Step,
        head: &Head,
        evidence: &BTreeMap<ConditionId, Evidence>,
        policy: &Policy,
    ) -> Result<Again, DecideError> {
        let event = &step.trigger.1.event;
        let mut settings = self.engine.clone();
        settings.logic = if self.kleene { Logic::Kleene } else { Logic::Bochvar };
        let again = decide(self.scenario, &settings, head, event, evidence, policy)?;
        Ok(Again { gate_evals: again.gate_evals, decision: again.decision, packets: again.packets })
    }

    /// A start with packets.
    fn opening(&mut self, step: &Step, found: &mut Found) {
        let manifest = self.manifest;
        let config = RunConfig {
            tenant_id: manifest.tenant_id,
            namespace_id: manifest.namespace_id,
            run_id: manifest.run_id.clone(),
            scenario_id: manifest.scenario_id.clone(),
            dispatch_targets: self.targets.clone().unwrap_or_default(),
            policy_tags: Vec::new(),
        };
        let policy = self.policy(&step.decision.1);
        let opening = match start(self.scenario, &config, step.trigger.1.event.time, true, &policy) {
            Ok(opening) => opening,
            Err(error) => {
                let message = format!("the run cannot start: {error}");
                found.add(Finding::new(Code::OutcomeDiffers, DECISIONS, message).at("/0/outcome"));
                return;
            }
        };
        let mut packets = Vec::new();
        for entry in opening.entries {
            match entry {
                Entry::Packet(packet) => packets.push(packet),
                Entry::Decision(decision) if decision != step.decision.1 => {
                    let message = "the start comes out otherwise";
                    found.add(Finding::new(Code::OutcomeDiffers, DECISIONS, message).at("/0"));
                }
                _ => {}
            }
        }
        self.compare_packets(step, packets, found);
        if !step.gate_evals.is_empty() {
            let message = "a start evaluates no gate";
            found.add(Finding::new(Code::EvidenceSet, GATE_EVALS, message).at("/0"));
        }
    }

    /// The targets of a run are those of its receipts, and do not change.
    fn learn_targets(&mut self, step: &Step, found: &mut Found) {
        for (position, packet) in &step.packets {
            let targets: Vec<_> = packet.receipts.iter().map(|receipt| receipt.target.clone()).collect();
            if *self.targets.get_or_insert_with(|| targets.clone()) != targets {
                let message = format!("packet {} went to other targets than packets before", packet.envelope.packet_id);
                let finding = Finding::new(Code::PacketsDiffer, PACKETS, message);
                found.add(finding.at(format!("/{position}/receipts")));
            }
        }
    }

    /// The answer of the policy that a decision shows.
    ///
    /// With an expected policy that one answers, as far as the pack tells whom
    /// it was asked about: a refusal before any packet leaves no receipt, so
    /// then it only has to be a policy that can refuse so.
    fn policy(&mut self, decision: &DecisionRecord) -> Policy {
        let Some(answer) = refusal(decision) else {
            return self.answering.clone().unwrap_or_default();
        };
        self.refusals += 1;
        match &self.answering {
            Some(policy) if !matches!(answer, Refusal::Dispatch) => {
                let possible = match (policy, &answer) {
                    (Policy::PermitAll, _) => false,
                    (Policy::DenyAll, answer) => matches!(answer, Refusal::Denied),
                    (Policy::Static(rules), answer) => can_refuse(rules, answer),
                };
                if self.targets.is_some() || !possible { policy.clone() } else { answer.policy() }
            }
            _ => answer.policy(),
        }
    }

    fn head(&self, step: &Step, standing: &Standing, entered: Timestamp) -> Head {
        let manifest = self.manifest;
        // Somebody was asked about, or nothing would have been refused.
        let somebody = DispatchTarget::Channel { channel: String::new() };
        let known = self.targets.clone();
        let unseen = || if refusal(&step.decision.1).is_some() { vec![somebody] } else { Vec::new() };
        let targets = known.unwrap_or_else(unseen);
        Head {
            tenant_id: manifest.tenant_id,
            namespace_id: manifest.namespace_id,
            run_id: manifest.run_id.clone(),
            scenario_id: self.scenario.spec().scenario_id.clone(),
            spec_hash: self.scenario.digest(),
            dispatch_targets: targets,
            current_stage_id: standing.stage.clone(),
            stage_entered_at: entered,
            status: standing.status,
            counts: Counts {
                triggers: standing.triggers,
                gate_evals: standing.gate_evals,
                // Its number is bound by the sequence, and told there.
                decisions: step.decision.1.seq.saturating_sub(1),
                packets: standing.packets,
                ..Counts::default()
            },
        }
    }

    /// When the stage was entered, and whether it has expired. The first stage
    /// of a run without packets was entered at a time no log has; ticks bound it.
    fn entered(&mut self, step: &Step, standing: &Standing, found: &mut Found) -> Option<(Timestamp, bool)> {
        let event = &step.trigger.1.event;
        let now = match event.time {
            Timestamp::UnixMillis(millis) => i128::from(millis),
            Timestamp::Logical(tick) => i128::from(tick),
        };
        let at = |value: i128| match event.time {
            Timestamp::UnixMillis(_) => i64::try_from(value).ok().map(Timestamp::UnixMillis),
            Timestamp::Logical(_) => u64::try_from(value).ok().map(Timestamp::Logical),
        };
        let timeout = self.scenario.stage(&standing.stage).and_then(|stage| stage.timeout.as_ref());
        let (Some(timeout), TriggerKind::Tick) = (timeout, event.kind) else {
            return Some((standing.entered.unwrap_or(event.time), false));
        };
        let length = i128::from(timeout.timeout_ms);
        if let Some(entered) = standing.entered {
            let since = match (entered, event.time) {
                (Timestamp::UnixMillis(entered), Timestamp::UnixMillis(_)) => i128::from(entered),
                (Timestamp::Logical(entered), Timestamp::Logical(_)) => i128::from(entered),
                // Deciding says what is wrong with two clocks.
                _ => return Some((entered, false)),
            };
            return Some((entered, now >= since + length));
        }
        let flagged = matches!(&step.decision.1.outcome, DecisionOutcome::Advance { timeout: true, .. })
            || matches!(&step.decision.1.outcome, DecisionOutcome::Fail { reason } if reason == "timeout");
        let gates = self.scenario.stage(&standing.stage).is_some_and(|stage| !stage.gates.is_empty());
        let expired = if gates { step.gate_evals.is_empty() } else { flagged };
        // A tick of another clock than the start's is never logged.
        let clock = std::mem::discriminant(&event.time);
        let same_clock = *self.started_by.get_or_insert(clock) == clock;
        let earliest = self.started_after;
        let entered = if !same_clock {
            None
        } else if expired {
            at(now - length).filter(|_| earliest.is_none_or(|after| now - length > after))
        } else {
            self.started_after = Some(earliest.map_or(now - length, |after| after.max(now - length)));
            // Any later entry will do; one in the future only if nothing waits.
            at(now + i128::from(length == 0))
        };
        if entered.is_none() {
            let message = format!("no start of the run explains trigger {} and the ticks before it", event.trigger_id);
            let finding = Finding::new(Code::NoSetting, DECISIONS, message);
            found.add(finding.at(format!("/{}/outcome", step.decision.0)));
        }
        entered.map(|entered| (entered, expired))
    }

    /// The evidence of a trigger as it was before each gate's lanes were
    /// applied; every gate must have had the same.
    fn evidence(&mut self, step: &Step, found: &mut Found) -> Option<BTreeMap<ConditionId, Evidence>> {
        let mut originals: BTreeMap<&ConditionId, EvidenceResult> = BTreeMap::new();
        let mut ambiguous: BTreeMap<&ConditionId, (EvidenceResult, bool)> = BTreeMap::new();
        let mut differs = None;
        for (position, record) in &step.gate_evals {
            for (inner, evidence) in record.evidence.iter().enumerate() {
                let id = &evidence.condition_id;
                self.learn_lane(record, evidence, *position, found)?;
                let same = if is_ambiguous(evidence) {
                    let own = self.counts_asserted(record, evidence);
                    let (known, failed) = ambiguous.entry(id).or_insert_with(|| (evidence.result.clone(), false));
                    *failed |= own;
                    *known == evidence.result
                } else {
                    let original = original(evidence);
                    *originals.entry(id).or_insert_with(|| original.clone()) == original
                };
                if !same {
                    differs.get_or_insert((id, *position, inner));
                }
            }
        }
        for (id, (result, failed)) in ambiguous {
            let lowered = EvidenceResult { error: None, ..result.clone() };
            let result = if failed { result } else { lowered.clone() };
            let known = originals.entry(id).or_insert(result);
            let without = EvidenceResult { error: None, ..known.clone() };
            if without != lowered {
                differs.get_or_insert((id, step.gate_evals[0].0, 0));
            }
        }
        if let Some((id, position, inner)) = differs {
            let message = format!("two gates had different evidence of condition {id}");
            let finding = Finding::new(Code::EvidenceSet, GATE_EVALS, message);
            found.add(finding.at(format!("/{position}/evidence/{inner}")));
            return None;
        }
        Some(originals.into_iter().map(|(id, result)| (id.clone(), Evidence::recorded(result))).collect())
    }

    /// Whether asserted evidence is known to count here, so that nothing can
    /// have lowered it.
    fn counts_asserted(&self, record: &GateEvalRecord, evidence: &EvidenceRecord) -> bool {
        let condition = self.conditions.get(&evidence.condition_id);
        let (Some(condition), Some(gate)) = (condition, self.gates.get(record.evaluation.gate_id.as_str())) else {
            return false;
        };
        let strict = [condition.trust, gate.trust].into_iter().flatten().any(|trust| trust.min_lane == Lane::Verified);
        let lane = self.lanes.get(&condition.query.provider_id);
        !strict && lane.is_some_and(|(lane, _)| *lane == Lane::Asserted)
    }

    /// Asserted evidence shows the least lane of its provider: it counted, or
    /// it did not.
    fn learn_lane(
        &mut self,
        record: &GateEvalRecord,
        evidence: &EvidenceRecord,
        position: usize,
        found: &mut Found,
    ) -> Option<()> {
        let lowered = lowered(evidence);
        if evidence.result.lane == Lane::Verified || (evidence.result.error.is_some() && !lowered) {
            return Some(());
        }
        // A record of a gate or condition that is not there tells nothing, and
        // is told when the step is compared.
        let condition = self.conditions.get(&evidence.condition_id);
        let (Some(condition), Some(gate)) = (condition, self.gates.get(record.evaluation.gate_id.as_str())) else {
            return Some(());
        };
        let asked = [condition.trust, gate.trust];
        if asked.into_iter().flatten().any(|trust| trust.min_lane == Lane::Verified) {
            return Some(());
        }
        let lane = if lowered { Lane::Verified } else { Lane::Asserted };
        let provider = &condition.query.provider_id;
        match self.lanes.get(provider) {
            None if self.attested.is_some_and(|settings| settings.lane(provider) != lane) => {
                let stated = if lane == Lane::Verified { Lane::Asserted } else { Lane::Verified };
                let message = format!(
                    "asserted evidence of provider {provider} is treated as if its least lane were {lane}, and a signature says {stated}"
                );
                let finding = Finding::new(Code::AttestationContradicts, GATE_EVALS, message);
                found.add(finding.at(format!("/{position}")).differs(stated, lane));
                None
            }
            None => {
                self.lanes.insert(provider.clone(), (lane, position));
                self.engine.provider_lanes.insert(provider.clone(), lane);
                Some(())
            }
            Some((known, _)) if *known == lane => Some(()),
            Some((known, first)) => {
                let message = format!(
                    "asserted evidence of provider {provider} is treated as {lane} here and as {known} at /{first}"
                );
                found.add(Finding::new(Code::NoSetting, GATE_EVALS, message).at(format!("/{position}")));
                None
            }
        }
    }

    /// Compares a step with itself decided again; the first divergence is told.
    #[allow(clippy::too_many_arguments, reason = "one comparison, told as one story")]
    fn compare(
        &mut self,
        step: &Step,
        head: &Head,
        evidence: &BTreeMap<ConditionId, Evidence>,
        policy: &Policy,
        again: Again,
        expired: bool,
        found: &mut Found,
    ) {
        let mut again = again;
        if !same_gates(step, &again.gate_evals)
            && let Some(ruled) = self.undecidable(step, &again.gate_evals, evidence, found)
        {
            match self.decide(step, head, &ruled, policy) {
                Ok(retried) => again = retried,
                Err(_) => return,
            }
        }
        if !same_gates(step, &again.gate_evals) && self.kleene && self.bochvar {
            self.kleene = false;
            match self.decide(step, head, evidence, policy) {
                Ok(other) if same_gates(step, &other.gate_evals) => again = other,
                _ => self.kleene = true,
            }
        } else if self.kleene && self.bochvar && unknown(step) {
            self.kleene = false;
            let other = self.decide(step, head, evidence, policy);
            self.bochvar = other.is_ok_and(|other| same_gates(step, &other.gate_evals));
            self.kleene = true;
        }
        if let Some(finding) = gate_difference(step, &again.gate_evals, expired) {
            found.add(self.other_logic(step, head, evidence, policy).unwrap_or(finding));
            return;
        }
        let recorded = &step.decision.1;
        let mut decision = again.decision;
        // A dispatch that failed elsewhere is no answer of a policy, but has
        // the same effect.
        if let (DecisionOutcome::Fail { reason: stated }, DecisionOutcome::Fail { reason }) =
            (&recorded.outcome, &mut decision.outcome)
            && stated.starts_with("dispatch error: ")
            && reason == "policy denied disclosure"
        {
            reason.clone_from(stated);
        }
        if decision != *recorded {
            let shown = |decision: &DecisionRecord| serde_json::to_string(&decision.outcome).unwrap_or_default();
            let message = format!("trigger {} is decided otherwise", recorded.trigger_id);
            let finding = Finding::new(Code::OutcomeDiffers, DECISIONS, message);
            let finding = finding.at(format!("/{}/outcome", step.decision.0));
            found.add(finding.differs(shown(&decision), shown(recorded)));
            return;
        }
        self.compare_packets(step, again.packets, found);
    }

    /// A finding if a step comes out only under the logic that the run was not
    /// decided by before.
    fn other_logic(
        &mut self,
        step: &Step,
        head: &Head,
        evidence: &BTreeMap<ConditionId, Evidence>,
        policy: &Policy,
    ) -> Option<Finding> {
        if self.kleene == self.bochvar {
            return None;
        }
        self.kleene = !self.kleene;
        let other = self.decide(step, head, evidence, policy);
        self.kleene = !self.kleene;
        other.ok().filter(|other| same_gates(step, &other.gate_evals))?;
        let name = |kleene| if kleene { "kleene" } else { "bochvar" };
        let (before, here) = (name(self.kleene), name(!self.kleene));
        let message = format!(
            "trigger {} is decided by {here} logic, and those before it by {before}",
            step.trigger.1.event.trigger_id
        );
        let at = step.gate_evals.first().map_or(String::new(), |(position, _)| format!("/{position}/evaluation"));
        Some(Finding::new(Code::NoSetting, GATE_EVALS, message).at(at).differs(before, here))
    }

    /// Packets as they would have been issued. Receipts of other dispatchers
    /// are taken as they are, where they say something about the packet.
    fn compare_packets(&self, step: &Step, mut again: Vec<PacketRecord>, found: &mut Found) {
        if again.len() != step.packets.len() {
            let message = format!("{} discloses other packets", step.decision.1.decision_id);
            let finding = Finding::new(Code::PacketsDiffer, PACKETS, message);
            let at = step.packets.first().map_or(String::new(), |(position, _)| format!("/{position}"));
            found.add(finding.at(at).differs(again.len(), step.packets.len()));
            return;
        }
        for (again, (position, recorded)) in again.iter_mut().zip(&step.packets) {
            let envelope = &recorded.envelope;
            if again.envelope.content_hash != envelope.content_hash {
                // Its digest was checked against the payload, perhaps in the
                // older form.
                again.envelope.content_hash = envelope.content_hash;
            }
            let digests = match again.receipts.is_empty() {
                false => forms(&again.envelope).map_or([None, None], |(digest, older)| [Some(digest), older]),
                true => [None, None],
            };
            let covered = |stated| digests.contains(&Some(stated));
            let mut receipts = Vec::new();
            for (ours, theirs) in again.receipts.iter().zip(&recorded.receipts) {
                let stated = theirs.receipt_hash;
                let foreign = theirs.dispatcher != ours.dispatcher
                    && theirs.target == ours.target
                    && (covered(stated) || stated == envelope.content_hash);
                let mut receipt = if foreign { theirs.clone() } else { ours.clone() };
                if !foreign {
                    let expected = digests[0].unwrap_or(ours.receipt_hash);
                    receipt.receipt_hash = if covered(stated) { stated } else { expected };
                }
                receipts.push(receipt);
            }
            again.receipts = receipts;
            if let Some((member, expected, shown)) = packet_difference(again, recorded) {
                let message = format!("packet {} would have been issued otherwise", envelope.packet_id);
                let finding = Finding::new(Code::PacketsDiffer, PACKETS, message);
                found.add(finding.at(format!("/{position}{member}")).differs(expected, shown));
                return;
            }
        }
    }

    /// Statuses that canonical form cannot decide: the reference told `1` from
    /// `1.0` and found unequal what reads as equal now.
    fn undecidable(
        &self,
        step: &Step,
        again: &[GateEvalRecord],
        evidence: &BTreeMap<ConditionId, Evidence>,
        found: &mut Found,
    ) -> Option<BTreeMap<ConditionId, Evidence>> {
        let mut ruled = evidence.clone();
        let mut told = Vec::new();
        for ((position, recorded), again) in step.gate_evals.iter().zip(again) {
            for (inner, (recorded, again)) in recorded.evidence.iter().zip(&again.evidence).enumerate() {
                if recorded.status == again.status || recorded.result != again.result {
                    continue;
                }
                let condition = self.conditions.get(&recorded.condition_id)?;
                if !hidden(condition, recorded) {
                    return None;
                }
                let result = original(recorded);
                ruled.insert(recorded.condition_id.clone(), Evidence::ruled(result, recorded.status));
                told.push((*position, inner, recorded.condition_id.clone()));
            }
        }
        if told.is_empty() {
            return None;
        }
        for (position, inner, id) in told {
            let message = format!("condition {id} can have come out so only if a whole number was written as a float");
            let finding = Finding::new(Code::Undecidable, GATE_EVALS, message);
            found.add(finding.at(format!("/{position}/evidence/{inner}/status")));
        }
        Some(ruled)
    }
}

/// A step decided again.
struct Again {
    gate_evals: Vec<GateEvalRecord>,
    decision: DecisionRecord,
    packets: Vec<PacketRecord>,
}

/// A refusal to disclose, as a `fail` decision tells it.
enum Refusal<'a> {
    Denied,
    Error(&'a str),
    /// A dispatcher elsewhere failed, which is no answer of a policy.
    Dispatch,
}

impl Refusal<'_> {
    /// A policy that gives this answer.
    fn policy(&self) -> Policy {
        match self {
            Self::Error(message) => {
                Policy::Static(StaticPolicy { default: Default::default(), rules: vec![PolicyRule::error(message)] })
            }
            Self::Denied | Self::Dispatch => Policy::DenyAll,
        }
    }
}

fn refusal(decision: &DecisionRecord) -> Option<Refusal<'_>> {
    let DecisionOutcome::Fail { reason } = &decision.outcome else { return None };
    if reason == "policy denied disclosure" {
        Some(Refusal::Denied)
    } else if reason.starts_with("dispatch error: ") {
        Some(Refusal::Dispatch)
    } else {
        reason.strip_prefix("policy decision error: ").map(Refusal::Error)
    }
}

/// Whether rules can answer so about somebody.
fn can_refuse(policy: &StaticPolicy, answer: &Refusal<'_>) -> bool {
    match answer {
        Refusal::Error(message) => policy
            .rules
            .iter()
            .any(|rule| rule.effect == PolicyEffect::Error && rule.error_message.as_deref() == Some(*message)),
        _ => policy.default == DefaultEffect::Deny || policy.rules.iter().any(|rule| rule.effect == PolicyEffect::Deny),
    }
}

/// Whether a gate certainly lowered this record because of its lane: a
/// provider's own failure leaves nothing of the value.
fn lowered(evidence: &EvidenceRecord) -> bool {
    says_lane(evidence) && !is_ambiguous(evidence)
}

/// Whether a gate lowered this record, or its provider failed in those words:
/// without a value both look alike.
fn is_ambiguous(evidence: &EvidenceRecord) -> bool {
    let EvidenceResult { value, content_type, evidence_hash, .. } = &evidence.result;
    says_lane(evidence) && value.is_none() && content_type.is_none() && evidence_hash.is_none()
}

fn says_lane(evidence: &EvidenceRecord) -> bool {
    evidence.result.lane == Lane::Asserted
        && evidence.status == TriState::Unknown
        && evidence.result.error.as_ref().is_some_and(|error| {
            error.code == "trust_lane"
                && error.message == "evidence lane Asserted does not satisfy Verified"
                && error.details.is_none()
        })
}

fn original(evidence: &EvidenceRecord) -> EvidenceResult {
    let mut result = evidence.result.clone();
    if lowered(evidence) {
        result.error = None;
    }
    result
}

fn unknown(step: &Step) -> bool {
    step.gate_evals.iter().any(|(_, record)| record.evidence.iter().any(|entry| entry.status == TriState::Unknown))
}

/// Whether unequal whole numbers of two spellings may have been equal once:
/// only comparisons by structure tell them apart, and only towards unequal.
fn hidden(condition: &ConditionSpec, recorded: &EvidenceRecord) -> bool {
    use serde_json::Value;
    fn whole(value: &Value) -> bool {
        match value {
            Value::Number(number) => !number.is_f64() || number.as_f64().is_some_and(|double| double.fract() == 0.0),
            Value::Array(items) => items.iter().any(whole),
            Value::Object(members) => members.values().any(whole),
            _ => false,
        }
    }
    let (Some(EvidenceValue::Json(value)), Some(expected)) = (&recorded.result.value, &condition.expected) else {
        return false;
    };
    let nested = value.is_array() || value.is_object();
    let unequal = match condition.comparator {
        Comparator::Contains | Comparator::InSet | Comparator::DeepEquals => TriState::False,
        Comparator::Equals if nested => TriState::False,
        Comparator::NotEquals if nested => TriState::True,
        Comparator::DeepNotEquals => TriState::True,
        _ => return false,
    };
    recorded.status == unequal && whole(value) && whole(expected)
}

fn same_gates(step: &Step, again: &[GateEvalRecord]) -> bool {
    step.gate_evals.len() == again.len()
        && step.gate_evals.iter().zip(again).all(|((_, recorded), again)| {
            recorded.evaluation == again.evaluation
                && recorded.evidence.len() == again.evidence.len()
                && recorded.evidence.iter().zip(&again.evidence).all(|(recorded, again)| {
                    recorded.condition_id == again.condition_id
                        && recorded.status == again.status
                        && same_result(&recorded.result, &again.result)
                })
        })
}

/// The digest of a value was checked where the record was read, perhaps in the
/// older form.
fn same_result(recorded: &EvidenceResult, again: &EvidenceResult) -> bool {
    if recorded == again {
        return true;
    }
    let mut again = again.clone();
    if again.value.is_some() {
        again.evidence_hash = recorded.evidence_hash;
    }
    *recorded == again
}

/// The first way in which the gates of a step come out otherwise.
fn gate_difference(step: &Step, again: &[GateEvalRecord], expired: bool) -> Option<Finding> {
    let trigger = &step.trigger.1.event.trigger_id;
    let first = step.gate_evals.first().map_or(String::new(), |(position, _)| format!("/{position}"));
    let ids = |records: &mut dyn Iterator<Item = &GateEvalRecord>| {
        records.map(|record| record.evaluation.gate_id.to_string()).collect::<Vec<_>>().join(", ")
    };
    let (wanted, there) = (ids(&mut again.iter()), ids(&mut step.gate_evals.iter().map(|(_, record)| record)));
    if wanted != there {
        let why =
            if expired { "the stage has expired, so no gate is asked" } else { "every gate of the stage is asked" };
        let message = format!("trigger {trigger} has other gate evaluations: {why}");
        return Some(Finding::new(Code::EvidenceSet, GATE_EVALS, message).at(first).differs(wanted, there));
    }
    for ((position, recorded), again) in step.gate_evals.iter().zip(again) {
        let gate = &recorded.evaluation.gate_id;
        let ids = |records: &[EvidenceRecord]| {
            records.iter().map(|record| record.condition_id.to_string()).collect::<Vec<_>>().join(", ")
        };
        let (wanted, there) = (ids(&again.evidence), ids(&recorded.evidence));
        if wanted != there {
            let message = format!("gate {gate} on trigger {trigger} has not the evidence of its conditions");
            let finding = Finding::new(Code::EvidenceSet, GATE_EVALS, message);
            return Some(finding.at(format!("/{position}/evidence")).differs(wanted, there));
        }
        for (inner, (recorded, again)) in recorded.evidence.iter().zip(&again.evidence).enumerate() {
            let at = format!("/{position}/evidence/{inner}");
            let id = &recorded.condition_id;
            if recorded.status != again.status {
                let message = format!("condition {id} comes out otherwise on trigger {trigger}");
                let finding = Finding::new(Code::StatusDiffers, GATE_EVALS, message);
                return Some(finding.at(format!("{at}/status")).differs(again.status, recorded.status));
            }
            if !same_result(&recorded.result, &again.result) {
                let message = format!("the evidence of condition {id} is not as deciding leaves it");
                let shown = |result: &EvidenceResult| serde_json::to_string(result).unwrap_or_default();
                let finding = Finding::new(Code::StatusDiffers, GATE_EVALS, message).at(format!("{at}/result"));
                return Some(finding.differs(shown(&again.result), shown(&recorded.result)));
            }
        }
        if recorded.evaluation != again.evaluation {
            let message = format!("gate {gate} comes out otherwise on trigger {trigger}");
            let finding = Finding::new(Code::GateDiffers, GATE_EVALS, message).at(format!("/{position}/evaluation"));
            return Some(if recorded.evaluation.status == again.evaluation.status {
                finding
            } else {
                finding.differs(again.evaluation.status, recorded.evaluation.status)
            });
        }
    }
    None
}

fn packet_difference(again: &PacketRecord, recorded: &PacketRecord) -> Option<(&'static str, String, String)> {
    fn shown(value: &impl serde::Serialize) -> String {
        serde_json::to_string(value).unwrap_or_default()
    }
    if again.envelope != recorded.envelope {
        return Some(("/envelope", shown(&again.envelope), shown(&recorded.envelope)));
    }
    if again.payload != recorded.payload {
        return Some(("/payload", "the scenario's payload".to_owned(), "another".to_owned()));
    }
    if again.receipts != recorded.receipts {
        return Some(("/receipts", shown(&again.receipts), shown(&recorded.receipts)));
    }
    None
}
