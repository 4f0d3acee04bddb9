//! What clients were told, and whether a store still knows it.

#![allow(unreachable_pub, clippy::unwrap_used)]

use std::collections::BTreeMap;

use runpack_core::model::{DecisionRecord, NamespaceId, TenantId, TriggerRecord};
use runpack_core::pack::layout::Log;
use runpack_storage::runs::sqlite::SqliteRuns;
use runpack_storage::runs::{RunKey, RunStore, StoredRun};
use serde_json::{Value, json};

/// By run, the decision on each trigger.
pub type Told = BTreeMap<String, BTreeMap<String, Value>>;

/// Everything acknowledged is there, once, in order, in runs that are whole.
pub fn check(store: &SqliteRuns, told: &Told) {
    for (run, acknowledged) in told {
        let key = RunKey {
            tenant_id: TenantId::new(1).unwrap(),
            namespace_id: NamespaceId::new(1).unwrap(),
            run_id: run.as_str().into(),
        };
        let stored = StoredRun::open(store, &key).unwrap().unwrap();
        let triggers: Vec<TriggerRecord> = log(store, &key, Log::Triggers);
        let decisions: Vec<DecisionRecord> = log(store, &key, Log::Decisions);
        assert_eq!(stored.head().counts.triggers, triggers.len() as u64);
        assert_eq!(triggers.len(), decisions.len(), "each trigger is decided");
        for (position, (trigger, decision)) in triggers.iter().zip(&decisions).enumerate() {
            assert_eq!((trigger.seq, decision.seq), (position as u64 + 1, position as u64 + 1), "no gap, no repeat");
            assert_eq!(trigger.event.trigger_id, decision.trigger_id);
        }
        let found: BTreeMap<_, _> =
            decisions.iter().map(|decision| (decision.trigger_id.as_str(), json!(decision))).collect();
        for (trigger, decision) in acknowledged {
            assert_eq!(found.get(trigger.as_str()), Some(decision), "{trigger} of {run} was acknowledged");
        }
    }
}

fn log<T: serde::de::DeserializeOwned>(store: &dyn RunStore, key: &RunKey, log: Log) -> Vec<T> {
    let (mut records, mut after) = (Vec::new(), 0);
    loop {
        let page = store.page(key, log, after, 1_000).unwrap();
        if page.entries.is_empty() {
            return records;
        }
        records.extend(page.entries.iter().map(|entry| serde_json::from_slice::<T>(entry).unwrap()));
        after = page.end;
    }
}
