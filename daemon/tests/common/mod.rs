//! Requests as clients write them, and a service to send them to.

// Values are written where they are passed, as literals.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::needless_pass_by_value)]

use std::path::Path;
use std::sync::Arc;

use runpackd_lib::access::Caller;
use runpackd_lib::config::{Missing, ServiceConfiguration};
use runpackd_lib::rpc::Rpc;
use runpackd_lib::service::Service;
use runpackd_lib::tools::{Answer, CallError, Context, TOOLS, Tool, Tools};
use runpackd_lib::watch::Trace;
use serde_json::{Value, json};

/// The time at which every drive begins.
pub const BASE: i64 = 1_710_000_000_000;
/// A time that no trigger reaches.
const FAR_FUTURE: i64 = 4_000_000_000_000;

/// A config for loopback on any free port, runs in memory, tenant 1 in
/// namespace 1, and the providers that need no settings.
pub const CONFIG: &str = "[server]\ntransport = \"http\"\nbind = \"127.0.0.1:0\"\n\n\
    [dev]\npermissive = true\npermissive_warn = false\n\n\
    [namespace]\nallow_default = true\ndefault_tenants = [1]\n\n\
    [[providers]]\nname = \"time\"\ntype = \"builtin\"\n\n[[providers]]\nname = \"env\"\ntype = \"builtin\"\nallow_raw = true\n\
    config = { allowlist = [\"HOME\"] }\n";

/// The tools over a fresh service with that config.
pub fn tools(config: &str, tools: &[Tool]) -> Arc<Tools> {
    let configuration = ServiceConfiguration::parse(config, "test", Missing::Refuse).unwrap();
    Arc::new(Tools::new(Arc::new(Service::open(configuration).unwrap()), tools))
}

/// Calls without a server in between.
pub struct Direct {
    tools: Arc<Tools>,
    rpc: Rpc,
    runtime: tokio::runtime::Runtime,
}

impl Direct {
    pub fn new() -> Self {
        Self::with(CONFIG)
    }

    pub fn with(config: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let tools = tools(config, TOOLS);
        Self { rpc: Rpc::new(Arc::clone(&tools)), tools, runtime }
    }

    /// A round of the scheduler's.
    pub fn tick(&self, now_ms: i64) -> Result<usize, String> {
        let now_ms = u64::try_from(now_ms).unwrap();
        self.runtime.block_on(runpackd_lib::scheduler::tick(self.tools.service(), now_ms))
    }

    /// The HTTP status and the response to a call.
    pub fn ask(&self, tool: &str, arguments: Value) -> (u16, Value) {
        self.raw(request(tool, arguments).to_string().as_bytes())
    }

    /// The answer to a call.
    pub fn answer(&self, tool: &str, arguments: Value) -> Value {
        let (status, mut response) = self.ask(tool, arguments);
        assert_eq!(status, 200, "{response}");
        response["result"]["content"][0]["json"].take()
    }

    /// A call whose caller has gone away.
    pub fn abandoned(&self, tool: &str, arguments: Value) -> Result<Answer, CallError> {
        let context = Context::new(Caller::loopback(), Trace::stdio());
        context.stop.cancel();
        self.runtime.block_on(self.tools.call(&context, tool, arguments))
    }

    /// The HTTP status and the response to these bytes.
    pub fn raw(&self, body: &[u8]) -> (u16, Value) {
        let reply = self.runtime.block_on(self.rpc.answer(Context::new(Caller::loopback(), Trace::stdio()), body));
        (reply.status, serde_json::from_slice(&reply.body).unwrap())
    }
}

/// Whatever takes `tools/call`.
pub trait Client {
    /// The HTTP status and the response to a call.
    fn send(&mut self, request: &Value) -> (u16, Value);

    /// The answer, or the code and message of the error.
    fn call(&mut self, tool: &str, arguments: Value) -> Result<Value, (i64, String)> {
        let (_, mut response) = self.send(&request(tool, arguments));
        match response.get("error") {
            Some(error) => Err((error["code"].as_i64().unwrap(), error["message"].as_str().unwrap().to_owned())),
            None => {
                let content = response["result"]["content"].as_array_mut().unwrap();
                assert_eq!((content.len(), &content[0]["type"]), (1, &json!("json")));
                Ok(content[0]["json"].take())
            }
        }
    }
}

impl Client for Direct {
    fn send(&mut self, request: &Value) -> (u16, Value) {
        self.raw(request.to_string().as_bytes())
    }
}

pub fn request(tool: &str, arguments: Value) -> Value {
    json!({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": tool, "arguments": arguments}})
}

pub fn millis(value: i64) -> Value {
    json!({"kind": "unix_millis", "value": value})
}

fn with_run(run_id: &str, members: Value) -> Value {
    let mut all = json!({"run_id": run_id, "tenant_id": 1, "namespace_id": 1, "correlation_id": null});
    all.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    all
}

pub fn start(scenario_id: &str, run_id: &str, issue_entry_packets: bool) -> Value {
    json!({"scenario_id": scenario_id, "started_at": millis(BASE), "issue_entry_packets": issue_entry_packets,
        "run_config": {"run_id": run_id, "tenant_id": 1, "namespace_id": 1, "scenario_id": scenario_id,
            "dispatch_targets": [], "policy_tags": []}})
}

pub fn next(scenario_id: &str, run_id: &str, trigger_id: &str, at: i64) -> Value {
    json!({"scenario_id": scenario_id,
        "request": with_run(run_id, json!({"trigger_id": trigger_id, "agent_id": "agent-1", "time": millis(at)}))})
}

pub fn trigger(scenario_id: &str, run_id: &str, trigger_id: &str, at: i64, kind: &str) -> Value {
    let event =
        json!({"trigger_id": trigger_id, "kind": kind, "time": millis(at), "source_id": "harness", "payload": null});
    json!({"scenario_id": scenario_id, "trigger": with_run(run_id, event)})
}

pub fn submit(scenario_id: &str, run_id: &str, submission_id: &str, value: Value) -> Value {
    let submission = json!({"submission_id": submission_id, "payload": {"kind": "json", "value": value},
        "content_type": "application/json", "submitted_at": millis(BASE)});
    json!({"scenario_id": scenario_id, "request": with_run(run_id, submission)})
}

pub fn status(scenario_id: &str, run_id: &str) -> Value {
    json!({"scenario_id": scenario_id, "request": with_run(run_id, json!({"requested_at": millis(BASE + 90_000)}))})
}

pub fn export(scenario_id: &str, run_id: &str, output_dir: &Path) -> Value {
    json!({"tenant_id": 1, "namespace_id": 1, "scenario_id": scenario_id, "run_id": run_id,
        "generated_at": millis(BASE + 100_000), "include_verification": true, "manifest_name": "manifest.json",
        "output_dir": output_dir})
}

pub fn verify(runpack_dir: &Path) -> Value {
    json!({"runpack_dir": runpack_dir, "manifest_path": "manifest.json"})
}

fn time_after(condition_id: &str, timestamp: i64) -> Value {
    json!({"condition_id": condition_id, "comparator": "equals", "expected": true, "policy_tags": [],
        "query": {"provider_id": "time", "check_id": "after", "params": {"timestamp": timestamp}}})
}

/// One stage, one gate, which opens after `timestamp`.
pub fn one_gate(scenario_id: &str, timestamp: i64) -> Value {
    json!({"spec": {"scenario_id": scenario_id, "namespace_id": 1, "spec_version": "v1",
        "stages": [{"stage_id": "main", "entry_packets": [], "advance_to": {"kind": "terminal"},
            "gates": [{"gate_id": "after-time", "requirement": {"Condition": "after"}}],
            "timeout": null, "on_timeout": "fail"}],
        "conditions": [time_after("after", timestamp)],
        "policies": [], "schemas": [], "default_tenant_id": 1}})
}

/// A gate that is open.
pub fn quickstart(scenario_id: &str) -> Value {
    one_gate(scenario_id, 1_700_000_000_000)
}

/// A gate that never opens.
pub fn held(scenario_id: &str) -> Value {
    one_gate(scenario_id, FAR_FUTURE)
}

/// A branch, a group, and stages that time out.
pub fn flow(scenario_id: &str) -> Value {
    let never = json!({"Condition": "never"});
    let mut arguments = one_gate(scenario_id, BASE + 500);
    let spec = &mut arguments["spec"];
    spec["conditions"].as_array_mut().unwrap().push(time_after("never", FAR_FUTURE));
    let packet = json!({"packet_id": "fast-note", "schema_id": "note-v1", "content_type": "application/json",
        "visibility_labels": [], "policy_tags": ["policy-alpha"], "expiry": null,
        "payload": {"kind": "json", "value": {"fast": true}}});
    spec["stages"] = json!([
        {"stage_id": "triage", "entry_packets": [], "timeout": null, "on_timeout": "fail",
         "gates": [{"gate_id": "ready", "requirement": {"Condition": "after"}},
                   {"gate_id": "group", "requirement": {"RequireGroup":
                       {"min": 2, "reqs": [{"Condition": "after"}, never, {"Not": never}]}}}],
         "advance_to": {"kind": "branch", "default": "slow", "branches": [
             {"gate_id": "ready", "outcome": "false", "next_stage_id": "slow"},
             {"gate_id": "group", "outcome": "true", "next_stage_id": "fast"}]}},
        {"stage_id": "slow", "entry_packets": [], "gates": [], "advance_to": {"kind": "terminal"},
         "timeout": null, "on_timeout": "fail"},
        {"stage_id": "fast", "entry_packets": [packet], "gates": [{"gate_id": "fast-gate", "requirement": never}],
         "advance_to": {"kind": "fixed", "stage_id": "last"},
         "timeout": {"timeout_ms": 1000, "policy_tags": []}, "on_timeout": "advance_with_flag"},
        {"stage_id": "last", "entry_packets": [], "gates": [{"gate_id": "last-gate", "requirement": never}],
         "advance_to": {"kind": "terminal"},
         "timeout": {"timeout_ms": 500, "policy_tags": []}, "on_timeout": "fail"}]);
    arguments
}
