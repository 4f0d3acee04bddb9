//! What must be so of every report, and what of a pack that passes.

use std::io::{self, Read};

use runpack_core::canon::{Form, check, to_vec};
use runpack_core::engine::anchor_fault;
use runpack_core::model::{AnchorPolicy, DecisionOutcome};
use runpack_core::pack::layout::{ARTIFACT_BYTES_MAX, ARTIFACTS};
use runpack_core::pack::{
    Checks, Expectations, FINDINGS_MAX, Listed, Manifest, Pack, PackReader, ReadFault, Report, Severity, Verdict,
    VerifyOptions, verify,
};
use runpack_core::read;
use serde::Serialize;
use serde_json::Value;

use super::common::memory::Memory;
use super::honest::{Honest, MANIFEST};

/// Verifies at a depth. The report keeps to its own rules.
pub(crate) fn verified(pack: &dyn PackReader, checks: Checks, expect: Expectations) -> Report {
    let report = verify(pack, MANIFEST, &VerifyOptions { checks, expect, ..VerifyOptions::default() });
    assert!(report.findings.len() <= FINDINGS_MAX);
    assert!(report.findings_left_out == 0 || report.findings.len() == FINDINGS_MAX);
    assert!(report.checked_files <= ARTIFACTS.len() as u64);
    if report.findings_left_out == 0 {
        let worst = report.findings.iter().map(|finding| finding.severity).max();
        let fits = match report.verdict {
            Verdict::Refused => worst == Some(Severity::Error),
            Verdict::CouldNotTell => worst == Some(Severity::CouldNotTell),
            Verdict::Consistent | Verdict::Pinned | Verdict::Signed => worst <= Some(Severity::Warning),
        };
        assert!(fits, "{:?} of {:?}", report.verdict, report.findings);
    }
    let text = to_vec(&report).unwrap();
    assert_eq!(check(&text), Ok(Form::Rfc8785));
    report
}

/// What holds at depth `replay` holds at the others.
pub(crate) fn holds_less_deep(pack: &Memory) {
    for checks in [Checks::All, Checks::Digests] {
        let report = verified(pack, checks, Expectations::default());
        assert!(report.verdict.passed(), "passes with replay, and not at {checks:?}: {:?}", report.findings);
    }
}

/// A pack that gives out its bytes in small pieces.
pub(crate) struct Pieces<'a> {
    pub(crate) pack: &'a Memory,
    pub(crate) bytes: usize,
}

impl PackReader for Pieces<'_> {
    fn list(&self) -> Result<Vec<Listed>, ReadFault> {
        let mut listed = self.pack.list()?;
        listed.reverse();
        Ok(listed)
    }

    fn open(&self, path: &str, bytes_max: u64) -> Result<Box<dyn Read + '_>, ReadFault> {
        Ok(Box::new(Piecewise { rest: self.pack.open(path, bytes_max)?, bytes: self.bytes }))
    }
}

struct Piecewise<'a> {
    rest: Box<dyn Read + 'a>,
    bytes: usize,
}

impl Read for Piecewise<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = buffer.len().min(self.bytes);
        self.rest.read(&mut buffer[..room])
    }
}

/// Whether a manifest differs from the honest one only in what
/// `docs/format.md` 6.1 says nothing binds.
pub(crate) fn unbound(honest: &Honest, text: &[u8]) -> bool {
    let Ok(manifest) = read::recorded::<Manifest>(text) else { return false };
    let Ok(tree) = serde_json::from_slice::<Value>(text) else { return false };
    // In one form, and nothing left out or written that is not.
    if check(text).is_err() || tree != value(&manifest) {
        return false;
    }
    let mut same = honest.read.manifest.clone();
    same.generated_at = manifest.generated_at;
    same.verifier_mode = manifest.verifier_mode;
    same.security.clone_from(&manifest.security);
    same.anchor_policy.clone_from(&manifest.anchor_policy);
    if honest.anybodys {
        same.tenant_id = manifest.tenant_id;
        same.run_id.clone_from(&manifest.run_id);
    }
    same == manifest && met(honest, manifest.anchor_policy.as_ref())
}

/// Whether the recorded evidence has the anchors of another policy.
fn met(honest: &Honest, policy: Option<&AnchorPolicy>) -> bool {
    let conditions = &honest.read.scenario.conditions;
    let evidence = honest.read.gate_evals.iter().flat_map(|record| &record.evidence);
    evidence.filter(|entry| entry.result.error.is_none()).all(|entry| {
        let asked = conditions.iter().find(|condition| condition.condition_id == entry.condition_id).unwrap();
        let requirement = policy.and_then(|policy| policy.requirement(&asked.query.provider_id));
        requirement.is_none_or(|asked| anchor_fault(asked, entry.result.evidence_anchor.as_ref()).is_none())
    })
}

/// Whether a pack that passes is honest in what the digests of calls cover.
///
/// An edit never makes a new digest of a call, so what they cover is the honest
/// run's, or is not there: the run may be cut off (`docs/format.md` 6.3). No
/// call brings a start.
pub(crate) fn covered(honest: &Honest, pack: &Memory) {
    let told = Pack::read(pack, MANIFEST, ARTIFACT_BYTES_MAX).unwrap();
    let was = &honest.read;
    let opened =
        matches!(told.decisions.first().map(|decision| &decision.outcome), Some(DecisionOutcome::Start { .. }));
    for index in usize::from(opened)..told.triggers.len() {
        let id = &told.decisions[index].decision_id;
        let packets =
            |pack: &Pack| pack.packets.iter().filter(|packet| packet.decision_id == *id).map(value).collect::<Vec<_>>();
        assert!(was.triggers.get(index).map(value) == Some(value(&told.triggers[index])), "trigger {index} is another");
        assert!(was.decisions.get(index).map(value) == Some(value(&told.decisions[index])), "decision {index}");
        assert!(packets(was) == packets(&told), "packets of {id} are others");
    }
    let known: Vec<_> = was.submissions.iter().map(value).collect();
    assert!(told.submissions.iter().map(value).all(|submission| known.contains(&submission)), "another submission");
}

fn value(of: &impl Serialize) -> Value {
    serde_json::to_value(of).unwrap()
}
