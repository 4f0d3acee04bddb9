use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt, ready};
use futures_util::stream::{self, StreamExt};
use runpack_core::engine::Evidence;
use runpack_core::model::{ConditionId, ConditionSpec, EvidenceContext, EvidenceQuery, EvidenceResult, ProviderId};
use tokio::time::{Instant, timeout_at};

use crate::query;

/// Questions of one trigger that are open at the same time.
pub const CONCURRENT_MAX: usize = 16;

/// A day: more is not representable everywhere, and nobody waits for it.
const DEADLINE_MAX: Duration = Duration::from_secs(86_400);

/// Answers questions about the world.
pub trait Provider: Send + Sync {
    /// Answers `query`.
    ///
    /// A provider that cannot answer says so in the result's `error`. The
    /// future may be dropped at any await: the deadline is the caller's.
    fn query<'a>(&'a self, query: &'a EvidenceQuery, context: &'a EvidenceContext) -> BoxFuture<'a, EvidenceResult>;
}

/// The providers of a deployment, by id. Nothing is in it that was not put there.
#[derive(Clone, Default)]
pub struct Registry(BTreeMap<ProviderId, Arc<dyn Provider>>);

impl Registry {
    /// Makes `provider` answer for `id`. Returns the one that did before.
    pub fn insert(&mut self, id: ProviderId, provider: Arc<dyn Provider>) -> Option<Arc<dyn Provider>> {
        self.0.insert(id, provider)
    }

    /// Whether anyone answers for `id`.
    pub fn contains(&self, id: &ProviderId) -> bool {
        self.0.contains_key(id)
    }

    /// Who answers for `id`.
    pub fn get(&self, id: &ProviderId) -> Option<&Arc<dyn Provider>> {
        self.0.get(id)
    }

    /// The ids, in order.
    pub fn ids(&self) -> impl Iterator<Item = &ProviderId> {
        self.0.keys()
    }
}

/// The evidence for every one of `conditions`.
///
/// At most [`CONCURRENT_MAX`] questions are open at a time, and equal ones are
/// asked once. What has no answer after `deadline`, counted from the call, is
/// a `provider_error` like any other failure, so this always succeeds. The
/// order in which answers come in shows nowhere. Needs a tokio runtime with
/// its timer on.
pub async fn gather(
    registry: &Registry,
    conditions: &[&ConditionSpec],
    context: &EvidenceContext,
    deadline: Duration,
) -> BTreeMap<ConditionId, Evidence> {
    let until = Instant::now() + deadline.min(DEADLINE_MAX);
    let correlated = context.correlation_id.as_ref().is_none_or(|id| is_correlation_id(id.as_str()));
    let mut asked: BTreeMap<_, BoxFuture<'_, EvidenceResult>> = BTreeMap::new();
    for ConditionSpec { query, .. } in conditions {
        asked.entry(identity(query)).or_insert_with(|| match registry.get(&query.provider_id) {
            _ if !correlated => ready(query::failed("invalid correlation id")).boxed(),
            None => ready(query::failed(format_args!("provider not registered: {}", query.provider_id))).boxed(),
            Some(provider) => ask(provider.as_ref(), query, context, until, deadline).boxed(),
        });
    }
    let asked = asked.into_iter().map(|(identity, answer)| answer.map(|result| (identity, Evidence::admit(result))));
    // Boxed futures in a vector: over a lazy iterator the compiler cannot see
    // that this future is `Send`.
    let asked: Vec<_> = asked.collect();
    let answers: BTreeMap<_, _> = stream::iter(asked).buffer_unordered(CONCURRENT_MAX).collect().await;
    conditions
        .iter()
        .filter_map(|condition| {
            let evidence: &Evidence = answers.get(&identity(&condition.query))?;
            Some((condition.condition_id.clone(), evidence.clone()))
        })
        .collect()
}

async fn ask(
    provider: &dyn Provider,
    query: &EvidenceQuery,
    context: &EvidenceContext,
    until: Instant,
    deadline: Duration,
) -> EvidenceResult {
    let late = || query::failed(format_args!("timed out after {} ms", deadline.as_millis()));
    // A question that had to queue for too long is not begun.
    if Instant::now() >= until {
        return late();
    }
    timeout_at(until, provider.query(query, context)).await.unwrap_or_else(|_| late())
}

/// What makes two queries the same question. Params print with sorted members,
/// and `1` is not `1.0`.
fn identity(query: &EvidenceQuery) -> (&str, &str, Option<String>) {
    let params = query.params.as_ref().map(ToString::to_string);
    (query.provider_id.as_str(), query.check_id.as_str(), params)
}

/// 1 to 128 token characters of RFC 9110 (the reference system's contract, §1.8): an id
/// travels in headers.
pub(crate) fn is_correlation_id(text: &str) -> bool {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    (1..=128).contains(&text.len()) && text.bytes().all(token)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use runpack_core::model::{EvidenceValue, Lane, Timestamp};
    use serde_json::{Value, json};

    use super::*;

    pub(crate) fn query(provider: &str, check: &str, params: Option<Value>) -> EvidenceQuery {
        EvidenceQuery { provider_id: provider.into(), check_id: check.into(), params }
    }

    pub(crate) fn context() -> EvidenceContext {
        serde_json::from_value(json!({
            "tenant_id": 1, "namespace_id": 1, "run_id": "run-1", "scenario_id": "s", "stage_id": "stage-1",
            "trigger_id": "trigger-1", "trigger_time": {"kind": "logical", "value": 2}, "correlation_id": null,
        }))
        .unwrap()
    }

    pub(crate) fn message(result: &EvidenceResult) -> String {
        let error = result.error.as_ref().unwrap();
        assert_eq!((error.code.as_str(), &error.details, &result.value), ("provider_error", &None, &None));
        error.message.to_string()
    }

    /// Waits as long as its params say, then answers how often it was asked.
    #[derive(Default)]
    struct Slow {
        asked: AtomicUsize,
        open: AtomicUsize,
        most: AtomicUsize,
    }

    impl Provider for Slow {
        fn query<'a>(&'a self, query: &'a EvidenceQuery, _: &'a EvidenceContext) -> BoxFuture<'a, EvidenceResult> {
            async move {
                self.asked.fetch_add(1, Ordering::SeqCst);
                let open = self.open.fetch_add(1, Ordering::SeqCst) + 1;
                self.most.fetch_max(open, Ordering::SeqCst);
                let params = query.params.clone().unwrap();
                tokio::time::sleep(Duration::from_millis(params["ms"].as_u64().unwrap())).await;
                self.open.fetch_sub(1, Ordering::SeqCst);
                query::found(params, "application/json")
            }
            .boxed()
        }
    }

    fn condition(id: &str, query: &EvidenceQuery) -> ConditionSpec {
        serde_json::from_value(json!({
            "condition_id": id, "query": query, "comparator": "exists", "expected": null, "policy_tags": [],
        }))
        .unwrap()
    }

    fn slow() -> (Registry, Arc<Slow>) {
        let slow = Arc::new(Slow::default());
        let mut registry = Registry::default();
        registry.insert("slow".into(), slow.clone());
        (registry, slow)
    }

    async fn ask(registry: &Registry, conditions: &[ConditionSpec], deadline: u64) -> BTreeMap<ConditionId, Evidence> {
        let conditions: Vec<_> = conditions.iter().collect();
        gather(registry, &conditions, &context(), Duration::from_millis(deadline)).await
    }

    fn failure(text: &str) -> Evidence {
        Evidence::admit(query::failed(text))
    }

    #[tokio::test]
    async fn questions_are_asked_at_the_same_time() {
        let (registry, slow) = slow();
        let conditions: Vec<_> = (0..2)
            .map(|n| condition(&format!("c{n}"), &query("slow", "x", Some(json!({"ms": 200, "n": n})))))
            .collect();
        let start = Instant::now();
        let evidence = ask(&registry, &conditions, 5_000).await;
        assert!(start.elapsed() < Duration::from_millis(350), "{:?}", start.elapsed());
        assert_eq!((evidence.len(), slow.asked.load(Ordering::SeqCst)), (2, 2));
    }

    #[tokio::test]
    async fn only_so_many_questions_are_open() {
        let (registry, slow) = slow();
        let conditions: Vec<_> = (0..100)
            .map(|n| condition(&format!("c{n}"), &query("slow", "x", Some(json!({"ms": 1, "n": n})))))
            .collect();
        assert_eq!(ask(&registry, &conditions, 5_000).await.len(), 100);
        assert_eq!(slow.most.load(Ordering::SeqCst), CONCURRENT_MAX);
    }

    #[tokio::test]
    async fn equal_questions_are_asked_once() {
        let (registry, slow) = slow();
        let asked = |text: &str| query("slow", "x", Some(serde_json::from_str(text).unwrap()));
        let conditions = [
            condition("a", &asked(r#"{"ms":1,"n":1}"#)),
            condition("b", &asked(r#"{"n":1,"ms":1}"#)),
            condition("c", &asked(r#"{"n":2,"ms":1}"#)),
            condition("d", &query("slow", "y", Some(json!({"ms": 1, "n": 1})))),
        ];
        let evidence = ask(&registry, &conditions, 5_000).await;
        assert_eq!(slow.asked.load(Ordering::SeqCst), 3);
        assert_eq!(evidence[&ConditionId::from("a")], evidence[&ConditionId::from("b")]);
        assert_ne!(evidence[&ConditionId::from("a")], evidence[&ConditionId::from("c")]);
    }

    #[tokio::test]
    async fn the_deadline_is_one_for_all() {
        let (registry, slow) = slow();
        let mut conditions = vec![condition("quick", &query("slow", "x", Some(json!({"ms": 0}))))];
        conditions.extend(
            (0..40).map(|n| condition(&format!("late-{n}"), &query("slow", "x", Some(json!({"ms": 60_000, "n": n}))))),
        );
        conditions.push(condition("nobody", &query("absent", "x", None)));
        let start = Instant::now();
        let evidence = ask(&registry, &conditions, 50).await;
        assert!(start.elapsed() < Duration::from_secs(5));
        let quick = query::found(json!({"ms": 0}), "application/json");
        assert_eq!(evidence[&ConditionId::from("quick")], Evidence::admit(quick));
        assert_eq!(evidence[&ConditionId::from("nobody")], failure("provider not registered: absent"));
        for n in 0..40 {
            assert_eq!(evidence[&ConditionId::from(format!("late-{n}"))], failure("timed out after 50 ms"));
        }
        assert!(slow.asked.load(Ordering::SeqCst) <= CONCURRENT_MAX + 1);
    }

    #[tokio::test]
    async fn the_order_of_answers_shows_nowhere() {
        let (registry, _) = slow();
        let conditions = |slowest_first: bool| -> Vec<_> {
            let wait = |n: u64| if slowest_first { 9 - n } else { n };
            (0..10)
                .map(|n| condition(&format!("c{n}"), &query("slow", "x", Some(json!({"ms": 5 * wait(n), "n": n})))))
                .collect()
        };
        for slowest_first in [false, true] {
            let forwards = conditions(slowest_first);
            let mut backwards = forwards.clone();
            backwards.reverse();
            assert_eq!(ask(&registry, &forwards, 5_000).await, ask(&registry, &backwards, 5_000).await);
        }
    }

    #[tokio::test]
    async fn gathering_can_be_its_own_task_and_wait_for_ever() {
        let (registry, _) = slow();
        let task = tokio::spawn(async move {
            let condition = condition("c", &query("slow", "x", Some(json!({"ms": 1}))));
            gather(&registry, &[&condition], &context(), Duration::MAX).await.len()
        });
        assert_eq!(task.await.unwrap(), 1);
    }

    #[tokio::test]
    async fn a_bad_correlation_id_reaches_no_provider() {
        let (registry, slow) = slow();
        let condition = condition("c", &query("slow", "x", Some(json!({"ms": 0}))));
        for bad in ["", " id", "a b", "é", "a\n", "a,b", "(a)", &"a".repeat(129)] {
            let context = EvidenceContext { correlation_id: Some(bad.into()), ..context() };
            let evidence = gather(&registry, &[&condition], &context, Duration::from_secs(5)).await;
            assert_eq!(evidence[&ConditionId::from("c")], failure("invalid correlation id"), "{bad:?}");
        }
        assert_eq!(slow.asked.load(Ordering::SeqCst), 0);
        for good in ["a", "aZ09!#$%&'*+-.^_`|~", &"a".repeat(128)] {
            let context = EvidenceContext { correlation_id: Some(good.into()), ..context() };
            gather(&registry, &[&condition], &context, Duration::from_secs(5)).await;
        }
        assert_eq!(slow.asked.load(Ordering::SeqCst), 3);
    }

    #[tokio::test]
    async fn values_are_brought_to_canonical_numbers() {
        let (registry, _) = slow();
        let float = condition("float", &query("slow", "x", Some(json!({"ms": 0, "n": 1.0}))));
        let wide = condition("wide", &query("slow", "x", Some(json!({"ms": 0, "n": 9_007_199_254_740_993_u64}))));
        let evidence = gather(&registry, &[&float, &wide], &context(), Duration::from_secs(5)).await;
        let one = query::found(json!({"ms": 0, "n": 1}), "application/json");
        assert_eq!(evidence[&ConditionId::from("float")], Evidence::recorded(one));
        assert!(format!("{:?}", evidence[&ConditionId::from("wide")]).contains("value_not_recordable"));
    }

    #[tokio::test]
    async fn the_registry_holds_what_was_put_in() {
        let (mut registry, slow) = slow();
        assert!(registry.contains(&"slow".into()) && !registry.contains(&"time".into()));
        assert!(registry.get(&"time".into()).is_none());
        assert!(registry.insert("slow".into(), slow).is_some());
        assert_eq!(registry.ids().map(ProviderId::as_str).collect::<Vec<_>>(), ["slow"]);
        let result =
            registry.get(&"slow".into()).unwrap().query(&query("slow", "x", Some(json!({"ms": 0}))), &context()).await;
        assert_eq!(result.value, Some(EvidenceValue::Json(json!({"ms": 0}))));
        assert_eq!((result.lane, context().trigger_time), (Lane::Verified, Timestamp::Logical(2)));
    }
}
