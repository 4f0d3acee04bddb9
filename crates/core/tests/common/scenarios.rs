//! Random scenarios that make sense.

use runpack_core::engine::Scenario;
use runpack_core::model::Comparator;
use runpack_core::read::{self, Unknown};
use serde_json::{Value, json};

use super::random::Random;

pub(crate) const PROVIDERS: [&str; 5] = ["time", "env", "json", "http", "ci"];

/// Levels below the root of a requirement.
const DEPTH_MAX: usize = 32;

pub(crate) fn scenario(random: &mut Random) -> Scenario {
    let conditions: Vec<_> = (0..random.between(1, 7)).map(|index| condition(random, index)).collect();
    let count = random.between(1, 6);
    let mut gates = 0;
    let stages: Vec<_> = (0..count).map(|index| stage(random, index, count, conditions.len(), &mut gates)).collect();
    let spec = json!({
        "scenario_id": *random.pick(&["s", "", "scenario/ä"]),
        "namespace_id": random.between(1, 3),
        "spec_version": random.text(),
        "default_tenant_id": random.maybe(20, |random| json!(random.between(1, 3))),
        "policies": (0..random.between(0, 1)).map(|_| json!({"policy_id": random.text(), "description": random.maybe(50, |random| json!(random.text()))})).collect::<Vec<_>>(),
        "schemas": (0..random.between(0, 1)).map(|_| json!({"schema_id": random.text(), "uri": null, "version": random.maybe(50, |random| json!(random.text()))})).collect::<Vec<_>>(),
        "conditions": conditions,
        "stages": stages,
    });
    Scenario::new(read::ingest_value(spec, Unknown::Refuse).unwrap()).unwrap()
}

fn trust(random: &mut Random, chance: usize, of: &mut Value) {
    if random.percent(chance) {
        of["trust"] = json!({"min_lane": *random.pick(&["asserted", "verified"])});
    }
}

fn condition(random: &mut Random, index: usize) -> Value {
    let comparator = random.pick(Comparator::ALL).as_str();
    let provider = *random.pick(&PROVIDERS);
    let time = provider == "time";
    let expected = if random.percent(6) {
        random.value(2)
    } else if time && random.percent(70) {
        if random.percent(70) { json!(random.percent(60)) } else { json!(random.between(0, 40)) }
    } else {
        match comparator {
            "equals" | "not_equals" => {
                if random.percent(20) {
                    random.bytes()
                } else {
                    random.value(2)
                }
            }
            "greater_than" | "greater_than_or_equal" | "less_than" | "less_than_or_equal" => {
                if random.percent(50) {
                    random.number()
                } else {
                    Value::String(random.text())
                }
            }
            "contains" => {
                if random.percent(50) {
                    Value::String(random.text())
                } else {
                    list(random)
                }
            }
            "in_set" => list(random),
            "deep_equals" | "deep_not_equals" => match random.below(2) {
                0 => list(random),
                _ => json!({random.text(): random.value(1), "n": random.number()}),
            },
            "exists" | "not_exists" => random.maybe(20, |random| random.scalar()),
            _ => Value::String(random.text()),
        }
    };
    let mut query = json!({
        "provider_id": provider,
        "check_id": if time { *random.pick(&["now", "after", "before", "after", "before", "later"]) } else { *random.pick(&["get", "path"]) },
    });
    if time && query["check_id"] != "now" || !time && random.percent(40) {
        query["params"] = if time && random.percent(95) {
            match random.below(4) {
                0 => json!({"timestamp": "2024-03-09T16:00:00Z"}),
                1 => json!({"timestamp": 1_710_000_000_000_i64}),
                _ => json!({"timestamp": random.between(0, 60)}),
            }
        } else {
            random.value(2)
        };
    }
    let mut condition = json!({
        "condition_id": format!("{}{index}", random.pick(&["c", "ä", "z"])),
        "query": query,
        "comparator": comparator,
        "expected": expected,
        "policy_tags": random.texts(1),
    });
    trust(random, 15, &mut condition);
    // The names are random, the references are by position.
    condition["condition_id"] = json!(name(index));
    condition
}

/// Sorted otherwise than counted.
fn name(index: usize) -> String {
    format!("c{}", (index * 7 + 3) % 10)
}

fn list(random: &mut Random) -> Value {
    Value::Array((0..random.between(0, 3)).map(|_| random.value(1)).collect())
}

fn stage(random: &mut Random, index: usize, stages: usize, conditions: usize, gates: &mut usize) -> Value {
    let names: Vec<String> = (0..[0, 1, 1, 2, 3][random.below(5)])
        .map(|_| {
            *gates += 1;
            format!("g{gates}")
        })
        .collect();
    let any = |random: &mut Random| format!("s{}", random.below(stages));
    let timeout = random.percent(35);
    let on_timeout = *random.pick(&["fail", "advance_with_flag", "alternate_branch"]);
    let advance = match random.below(8) {
        0 => json!({"kind": "terminal"}),
        1 | 2 => json!({"kind": "fixed", "stage_id": any(random)}),
        3 | 4 => branch(random, &names, stages),
        _ => json!({"kind": "linear"}),
    };
    let packets: Vec<_> = (0..[0, 0, 1, 2][random.below(4)]).map(|number| packet(random, index, number)).collect();
    let limits = [0, 1, 5, 20, 60, 1_000, 9_007_199_254_740_991_u64];
    json!({
        "stage_id": format!("s{index}"),
        "entry_packets": packets,
        "gates": names.iter().map(|name| gate(random, name, conditions)).collect::<Vec<_>>(),
        "advance_to": advance,
        "timeout": timeout.then(|| json!({"timeout_ms": *random.pick(&limits), "policy_tags": random.texts(1)})),
        "on_timeout": on_timeout,
    })
}

fn branch(random: &mut Random, gates: &[String], stages: usize) -> Value {
    let any = |random: &mut Random| format!("s{}", random.below(stages));
    let mut rules = Vec::new();
    if !gates.is_empty() {
        for _ in 0..random.between(0, 3) {
            let outcome = *random.pick(&["true", "false", "unknown"]);
            rules.push(json!({"gate_id": random.pick(gates), "outcome": outcome, "next_stage_id": any(random)}));
        }
    }
    let default = if gates.is_empty() || random.percent(70) {
        json!(any(random))
    } else {
        for outcome in ["true", "unknown"] {
            rules.push(json!({"gate_id": random.pick(gates), "outcome": outcome, "next_stage_id": any(random)}));
        }
        Value::Null
    };
    json!({"kind": "branch", "branches": rules, "default": default})
}

fn gate(random: &mut Random, name: &str, conditions: usize) -> Value {
    let requirement = match random.below(20) {
        0 => {
            let mut node = leaf(random, conditions);
            for _ in 0..DEPTH_MAX {
                node = match random.below(4) {
                    0 => json!({"And": [node]}),
                    1 => json!({"Or": [node]}),
                    2 => json!({"RequireGroup": {"min": 1, "reqs": [node]}}),
                    _ => json!({"Not": node}),
                };
            }
            node
        }
        1..6 => tree(random, 6, conditions),
        _ => tree(random, 2, conditions),
    };
    let mut gate = json!({"gate_id": name, "requirement": requirement});
    trust(random, 15, &mut gate);
    gate
}

fn leaf(random: &mut Random, conditions: usize) -> Value {
    json!({"Condition": name(random.below(conditions))})
}

fn tree(random: &mut Random, depth: usize, conditions: usize) -> Value {
    if depth == 0 || random.percent(35) {
        return leaf(random, conditions);
    }
    let members = |random: &mut Random, from: usize| {
        let count = if random.percent(3) { 0 } else { random.between(from, 3) };
        (0..count).map(|_| tree(random, depth - 1, conditions)).collect::<Vec<_>>()
    };
    match random.below(6) {
        0 | 1 => json!({"And": members(random, 1)}),
        2 | 3 => json!({"Or": members(random, 1)}),
        4 => {
            let reqs = members(random, 1);
            let min = random.between(0, reqs.len());
            json!({"RequireGroup": {"min": min, "reqs": reqs}})
        }
        _ => json!({"Not": tree(random, depth - 1, conditions)}),
    }
}

fn packet(random: &mut Random, stage: usize, number: usize) -> Value {
    json!({
        "packet_id": format!("p{stage}-{number}"),
        "schema_id": random.text(),
        "content_type": random.text(),
        "visibility_labels": random.texts(2),
        "policy_tags": random.texts(1),
        "expiry": random.maybe(30, |random| json!({"kind": *random.pick(&["logical", "unix_millis"]), "value": random.below(99)})),
        "payload": payload(random),
    })
}

pub(crate) fn payload(random: &mut Random) -> Value {
    match random.below(4) {
        0 => json!({"kind": "bytes", "bytes": random.bytes()}),
        1 => json!({"kind": "external", "content_ref": {
            "uri": random.text(),
            "encryption": random.maybe(30, |random| json!(random.text())),
            "content_hash": {"algorithm": "sha256", "value": format!("{:064x}", random.next())},
        }}),
        _ => json!({"kind": "json", "value": random.value(2)}),
    }
}
