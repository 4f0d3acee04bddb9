//! Numbers about the service, in the text format of Prometheus.

use std::fmt;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::exemplar::CounterWithExemplar;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use runpack_core::model::{DecisionOutcome, TriState};

use super::{Asked, Ended, name};

/// Seconds, the steps that latencies are counted in.
const STEPS: [f64; 14] = [0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(non_camel_case_types, missing_docs, reason = "the values are the labels")]
pub(super) enum Outcome {
    ok,
    error,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Call {
    /// A tool of ours, or what else was asked for: never what a caller made up.
    call: String,
    outcome: Outcome,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ErrorKind {
    kind: String,
}

/// The last request that was counted, by the id it has in the logs.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Example {
    id: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Decided {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Status {
    status: &'static str,
}

type Latency = Family<Call, Histogram, fn() -> Histogram>;

/// Counts.
pub struct Metrics {
    registry: Registry,
    calls: Family<Call, Counter>,
    latency: Latency,
    errors: Family<ErrorKind, CounterWithExemplar<Example>>,
    decisions: Family<Decided, Counter>,
    gates: Family<Status, Counter>,
    unauthenticated: Counter,
    rate_limited: Counter,
    inflight: Gauge,
    audit_lost: Gauge<u64, AtomicU64>,
    exports: Counter,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

fn latency() -> Histogram {
    Histogram::new(STEPS)
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("runpackd"),
            calls: Family::default(),
            latency: Latency::new_with_constructor(latency),
            errors: Family::default(),
            decisions: Family::default(),
            gates: Family::default(),
            unauthenticated: Counter::default(),
            rate_limited: Counter::default(),
            inflight: Gauge::default(),
            audit_lost: Gauge::default(),
            exports: Counter::default(),
        };
        let registry = &mut metrics.registry;
        registry.register("calls", "Requests answered, by tool or method", metrics.calls.clone());
        registry.register_with_unit("call_duration", "How long they took", Unit::Seconds, metrics.latency.clone());
        registry.register("errors", "Requests answered with an error, by its kind", metrics.errors.clone());
        registry.register("decisions", "Decisions made, by outcome", metrics.decisions.clone());
        registry.register("gates", "Gates evaluated, by status", metrics.gates.clone());
        registry.register("unauthenticated", "Requests from nobody we know", metrics.unauthenticated.clone());
        registry.register("rate_limited", "Requests refused because they came too often", metrics.rate_limited.clone());
        registry.register("inflight_calls", "Calls at work", metrics.inflight.clone());
        registry.register("audit_lost_events", "Events the audit log could not take", metrics.audit_lost.clone());
        registry.register("exports", "Packs exported", metrics.exports.clone());
        metrics
    }
}

impl Metrics {
    pub(super) fn request(&self, ended: &Ended<'_>, id: Option<&str>) {
        let outcome = if ended.error.is_some() { Outcome::error } else { Outcome::ok };
        let method = if ended.asked == Asked::ToolsCall { "unknown_tool" } else { name(ended.asked) };
        let call = Call { call: ended.tool.unwrap_or(method).to_owned(), outcome };
        self.calls.get_or_create(&call).inc();
        self.latency.get_or_create(&call).observe(ended.took.as_secs_f64());
        if let Some((_, kind)) = ended.error {
            let example = id.map(|id| Example { id: id.to_owned() });
            self.errors.get_or_create(&ErrorKind { kind: kind.to_owned() }).inc_by(1, example, None);
        }
    }

    pub(super) fn unauthenticated(&self) {
        self.unauthenticated.inc();
    }

    /// A request came too often.
    pub fn rate_limited(&self) {
        self.rate_limited.inc();
    }

    /// A pack was exported.
    pub fn exported(&self) {
        self.exports.inc();
    }

    /// A decision was made, on gates that came out so.
    pub fn decided(&self, outcome: &DecisionOutcome, gates: impl IntoIterator<Item = TriState>) {
        let outcome = match outcome {
            DecisionOutcome::Start { .. } => "start",
            DecisionOutcome::Hold { .. } => "hold",
            DecisionOutcome::Advance { .. } => "advance",
            DecisionOutcome::Complete { .. } => "complete",
            DecisionOutcome::Fail { .. } => "fail",
        };
        self.decisions.get_or_create(&Decided { outcome }).inc();
        for gate in gates {
            let status = match gate {
                TriState::True => "true",
                TriState::False => "false",
                TriState::Unknown => "unknown",
            };
            self.gates.get_or_create(&Status { status }).inc();
        }
    }

    /// Everything, as text.
    pub fn text(&self, inflight: usize, audit_lost: u64) -> String {
        self.inflight.set(i64::try_from(inflight).unwrap_or(i64::MAX));
        self.audit_lost.set(audit_lost);
        let mut text = String::new();
        // Writing into a string does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_happened_can_be_read() {
        let metrics = Metrics::default();
        let ended = Ended {
            asked: Asked::ToolsCall,
            tool: Some("scenario_next"),
            error: Some((-32004, "not_found")),
            request_bytes: 1,
            response_bytes: 2,
            took: Duration::from_millis(3),
        };
        metrics.request(&ended, None);
        metrics.request(&Ended { tool: None, ..ended }, Some("a-7"));
        let text = metrics.text(3, 4);
        for line in [
            "runpackd_calls_total{call=\"scenario_next\",outcome=\"error\"} 1",
            "runpackd_calls_total{call=\"unknown_tool\",outcome=\"error\"} 1",
            "runpackd_errors_total{kind=\"not_found\"} 2 # {id=\"a-7\"} 1",
            "runpackd_call_duration_seconds_bucket{le=\"0.005\",call=\"scenario_next\",outcome=\"error\"} 1",
            "runpackd_inflight_calls 3",
            "runpackd_audit_lost_events 4",
        ] {
            assert!(text.contains(line), "{line} in:\n{text}");
        }
    }
}
