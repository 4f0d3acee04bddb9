use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use runpack_core::model::{DispatchTarget, RunStatus};
use runpack_dispatch::Subscription;
use runpack_storage::runs::sqlite::{SqliteOptions, SqliteRuns};
use runpack_storage::runs::suite::{self, Story};
use runpack_storage::runs::{DeliveryOutcome, DeliveryRecord, MemoryRuns, RunKey};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::*;

fn quick() -> DispatchOptions {
    let table = json!({
        "enabled": true, "lease_ms": 2_000, "attempt_ms": 1_000, "attempts_max": 4, "backoff_first_ms": 10,
        "backoff_max_ms": 40, "breaker_failures": 1_000, "breaker_ms": 200, "poll_ms": 5, "log": "unused",
    });
    configuration(table).unwrap().unwrap().options
}

fn configuration(table: Value) -> Result<Option<DispatchConfiguration>, String> {
    let table: DispatchTable = serde_json::from_value(table).map_err(|error| error.to_string())?;
    table.configuration().map_err(|error| error.to_string())
}

/// Answers as it is told to, by the number of the request, and keeps the ids.
struct Server {
    url: String,
    ids: Arc<Mutex<Vec<String>>>,
}

impl Server {
    async fn answering(status: impl Fn(usize) -> u16 + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let ids: Arc<Mutex<Vec<String>>> = Arc::default();
        let (kept, status, asked) = (ids.clone(), Arc::new(status), AtomicUsize::new(0));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (kept, status) = (kept.clone(), status.clone());
                let number = asked.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(async move {
                    let mut text = String::new();
                    while !text.ends_with('}') {
                        let mut some = [0; 4_096];
                        match stream.read(&mut some).await {
                            Ok(count) if count > 0 => text.push_str(&String::from_utf8_lossy(&some[..count])),
                            _ => return,
                        }
                    }
                    let id = text.lines().find_map(|line| line.strip_prefix("idempotency-key: ")).unwrap();
                    kept.lock().unwrap().push(id.to_owned());
                    let status = status(number);
                    if status == 0 {
                        tokio::time::sleep(Duration::from_secs(60)).await;
                    }
                    let answer = format!("HTTP/1.1 {status} x\r\ncontent-length: 0\r\n\r\n");
                    let _ = stream.write_all(answer.as_bytes()).await;
                });
            }
        });
        Self { url, ids }
    }

    fn ids(&self) -> Vec<String> {
        self.ids.lock().unwrap().clone()
    }

    /// A broker that calls this server for all agents.
    fn broker(&self) -> Arc<Broker> {
        let to = Addressee { kind: TargetKind::Agent, system: None, id: None };
        let timeout = Duration::from_millis(800);
        let callback = CallbackOptions { to, url: self.url.clone(), own: true, bearer_token: None, timeout };
        Arc::new(Broker::new(&BrokerOptions { callbacks: vec![callback], ..BrokerOptions::default() }).unwrap())
    }
}

/// A run with packets for these targets, begun in `store`.
fn issued(store: &dyn Outbox, run: &str, targets: Vec<DispatchTarget>) -> RunKey {
    let (story, entries) = Story::begin_for(&suite::scenario("kept", 10), run, 1, targets);
    store.create(story.head(), &entries).unwrap();
    story.key()
}

fn log(store: &dyn Outbox, key: &RunKey) -> Vec<DeliveryRecord> {
    store.delivery_log(key, 0, 1_000).unwrap().records
}

fn outcomes(store: &dyn Outbox, key: &RunKey) -> Vec<(u64, DeliveryOutcome)> {
    log(store, key).iter().map(|record| (record.attempt, record.outcome)).collect()
}

/// Delivers until nothing is open.
async fn empty(outbox: Arc<dyn Outbox>, broker: Arc<Broker>, options: &DispatchOptions) {
    let watched = outbox.clone();
    let begun = Instant::now();
    let done = async move {
        while watched.undelivered().unwrap() > 0 {
            assert!(begun.elapsed() < Duration::from_secs(20), "it comes to no end");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    run(outbox, broker, options, done).await;
}

fn memory() -> Arc<dyn Outbox> {
    Arc::new(MemoryRuns::default().with_outbox())
}

use DeliveryOutcome::{Dead, Delivered, Failed, Lost};

#[tokio::test]
async fn what_was_issued_arrives_and_the_log_says_so() {
    let (server, store) = (Server::answering(|_| 200).await, memory());
    let keys: Vec<_> = (0..5).map(|n| issued(&*store, &format!("run-{n}"), suite::targets(4))).collect();
    empty(store.clone(), server.broker(), &quick()).await;
    let ids: BTreeSet<_> = server.ids().into_iter().collect();
    assert_eq!((server.ids().len(), ids.len()), (20, 20), "each once");
    for key in &keys {
        let log = log(&*store, key);
        assert_eq!(outcomes(&*store, key), [(1, Delivered); 4]);
        assert!(log.iter().all(|record| ids.contains(&record.delivery_id) && record.detail == "callback answered 200"));
    }
}

#[tokio::test]
async fn what_fails_is_tried_again_until_it_is_given_up_and_no_run_is_changed() {
    let (busy, store) = (Server::answering(|number| if number < 2 { 503 } else { 204 }).await, memory());
    let key = issued(&*store, "run", suite::targets(1));
    let head = store.head(&key).unwrap();
    empty(store.clone(), busy.broker(), &quick()).await;
    assert_eq!(outcomes(&*store, &key), [(1, Failed), (2, Failed), (3, Delivered)]);
    assert_eq!(busy.ids().iter().collect::<BTreeSet<_>>().len(), 1, "under one id");
    let (down, other) = (Server::answering(|_| 500).await, issued(&*store, "other", suite::targets(1)));
    empty(store.clone(), down.broker(), &quick()).await;
    assert_eq!(outcomes(&*store, &other), [(1, Failed), (2, Failed), (3, Failed), (4, Dead)]);
    assert_eq!(log(&*store, &other)[3].detail, "sink failure: http status 500");
    let (never, third) = (Server::answering(|_| 404).await, issued(&*store, "third", suite::targets(1)));
    empty(store.clone(), never.broker(), &quick()).await;
    assert_eq!(outcomes(&*store, &third), [(1, Dead)], "a refusal stands");
    let channel = DispatchTarget::External { system: "s".to_owned(), target: "t".to_owned() };
    let nobody = issued(&*store, "fourth", vec![channel]);
    empty(store.clone(), never.broker(), &quick()).await;
    assert_eq!(log(&*store, &nobody)[0].detail, "no sink for external s t");
    assert_eq!(store.head(&key).unwrap(), head);
    let third = store.head(&third).unwrap().unwrap();
    assert_eq!(third.status, RunStatus::Active, "a delivery that fails never fails a run");
}

#[tokio::test]
async fn a_target_that_does_not_answer_is_left_alone_and_the_others_are_not() {
    let (down, store) = (Server::answering(|_| 500).await, memory());
    let broken = issued(&*store, "broken", suite::targets(30));
    let channel = DispatchTarget::Channel { channel: "news".to_owned() };
    let other = issued(&*store, "other", vec![channel.clone()]);
    let broker = down.broker();
    let mut news: Subscription = broker.channels().subscribe(other.tenant_id, other.namespace_id, &channel, 4);
    let options = DispatchOptions { breaker_failures: 3, concurrency_per_target: 2, attempts_max: 100, ..quick() };
    let stop = tokio::time::sleep(Duration::from_millis(750));
    run(store.clone(), broker, &options, stop).await;
    assert_eq!(outcomes(&*store, &other), [(1, Delivered)]);
    assert_eq!(news.recv().await.unwrap().envelope.packet_id.as_str(), "begin");
    let asked = down.ids().len();
    // Three and what was under way with the third, then one in 200 ms.
    assert!((4..=9).contains(&asked), "{asked} attempts at a target that is down");
    assert_eq!(log(&*store, &broken).len(), asked, "what was not tried does not count");
    assert_eq!(store.undelivered().unwrap(), 30);
    // When it is up again everything arrives.
    empty(store.clone(), Server::answering(|_| 200).await.broker(), &options).await;
    let delivered = outcomes(&*store, &broken).iter().filter(|(_, outcome)| *outcome == Delivered).count();
    assert_eq!(delivered, 30);
}

#[tokio::test]
async fn several_workers_on_one_file_share_the_work() {
    let dir = tempfile::tempdir().unwrap();
    let open = || -> Arc<dyn Outbox> {
        let store = SqliteRuns::open(&dir.path().join("store.db"), &SqliteOptions::default()).unwrap();
        Arc::new(store.with_outbox())
    };
    let (server, one, two) = (Server::answering(|_| 200).await, open(), open());
    let keys: Vec<_> = (0..10).map(|n| issued(&*one, &format!("run-{n}"), suite::targets(10))).collect();
    // Somebody took some, and was killed.
    let terms = LeaseTerms { now_ms: now_ms(), for_ms: 300, limit: 5, attempts_max: 4, holder: "killed" };
    assert_eq!(one.lease(&terms).unwrap().len(), 5);
    let (options, broker) = (DispatchOptions { concurrency: 3, ..quick() }, server.broker());
    tokio::join!(empty(one.clone(), broker.clone(), &options), empty(two.clone(), broker, &options));
    let ids = server.ids();
    assert_eq!((ids.len(), ids.iter().collect::<BTreeSet<_>>().len()), (100, 100), "each once");
    let all: Vec<_> = keys.iter().flat_map(|key| outcomes(&*two, key)).collect();
    assert_eq!(all.iter().filter(|said| **said == (1, Lost)).count(), 5);
    assert_eq!(all.iter().filter(|said| **said == (2, Delivered)).count(), 5);
    let report = SqliteRuns::open_reading(&dir.path().join("store.db")).unwrap().verify().unwrap();
    assert_eq!((report.deliveries, report.undelivered, report.damage), (100, 0, Vec::new()));
}

#[tokio::test]
async fn when_it_stops_what_is_under_way_comes_to_its_end() {
    let (slow, store) = (Server::answering(|number| if number == 0 { 0 } else { 200 }).await, memory());
    let key = issued(&*store, "run", suite::targets(3));
    let options = DispatchOptions { concurrency: 1, attempt: Duration::from_millis(300), ..quick() };
    let (stop, stopped) = oneshot::channel::<()>();
    let (outbox, broker) = (store.clone(), slow.broker());
    let worker = tokio::spawn(async move { run(outbox, broker, &options, async { drop(stopped.await) }).await });
    while slow.ids().is_empty() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    stop.send(()).unwrap();
    tokio::time::timeout(Duration::from_secs(5), worker).await.unwrap().unwrap();
    let log = log(&*store, &key);
    assert_eq!(outcomes(&*store, &key), [(1, Failed)], "and nothing else was begun");
    assert!(log[0].detail.contains("no end in 300 ms") || log[0].detail.contains("request failed"), "{log:?}");
    assert_eq!(store.undelivered().unwrap(), 3);
}

#[test]
fn waits_double_up_to_a_limit_and_are_the_same_every_time() {
    let options = DispatchOptions {
        backoff_first: Duration::from_secs(1),
        backoff_max: Duration::from_secs(10),
        attempts_max: 100,
        ..quick()
    };
    let wait = |first: u8, attempt: u64, again| {
        let lease = Lease { id: [first; 32].into(), attempt, holder: String::new() };
        again_after(&options, &lease, again).map(|wait| wait.as_millis())
    };
    let later: Vec<_> = [1, 2, 3, 4, 5, 40, 99].map(|attempt| wait(0, attempt, Again::Later).unwrap()).into();
    assert_eq!(later, [1_000, 2_000, 4_000, 8_000, 10_000, 10_000, 10_000]);
    assert_eq!(wait(128, 1, Again::Later), Some(875), "spread by id");
    assert_eq!(wait(255, 3, Again::Later), wait(255, 3, Again::Later));
    assert_eq!(wait(0, 1, Again::After(Duration::from_secs(5))), Some(5_000));
    assert_eq!(wait(0, 5, Again::After(Duration::from_secs(5))), Some(10_000), "not sooner than it would be anyway");
    assert_eq!((wait(0, 1, Again::Never), wait(0, 100, Again::Later)), (None, None));
}

#[test]
fn a_target_with_too_many_failures_is_tried_once_after_a_while() {
    let options = DispatchOptions { breaker_failures: 2, concurrency_per_target: 3, ..quick() };
    let mut targets = Targets::new(&options);
    let ended = |targets: &mut Targets, sign, now| targets.ended(Ended { route: Some("x".to_owned()), sign }, now);
    for _ in 0..3 {
        assert_eq!(targets.admit("x", 0), Ok(()));
    }
    assert_eq!(targets.admit("x", 0), Err(5), "no more at once");
    assert_eq!(targets.admit("y", 0), Ok(()), "elsewhere");
    for _ in 0..3 {
        ended(&mut targets, Sign::Failed, 100);
    }
    assert_eq!(targets.admit("x", 299), Err(300));
    assert_eq!(targets.admit("x", 300), Ok(()));
    assert_eq!(targets.admit("x", 300), Err(305), "one shows it");
    ended(&mut targets, Sign::None, 310);
    assert_eq!(targets.admit("x", 310), Ok(()), "that showed nothing");
    ended(&mut targets, Sign::Failed, 320);
    assert_eq!(targets.admit("x", 500), Err(520));
    assert_eq!(targets.admit("x", 520), Ok(()));
    ended(&mut targets, Sign::Answered, 521);
    for _ in 0..3 {
        assert_eq!(targets.admit("x", 522), Ok(()));
    }
    (0..3).for_each(|_| ended(&mut targets, Sign::Answered, 523));
    assert!(!targets.known.contains_key("x"), "what is well is forgotten");
}

#[test]
fn the_section_is_read_and_what_cannot_be_is_named() {
    assert!(configuration(json!({})).unwrap().is_none(), "nothing is delivered unless it is asked for");
    assert!(configuration(json!({"log": "l"})).unwrap().is_none());
    let all = configuration(json!({"enabled": true})).unwrap().unwrap();
    assert_eq!(all.warnings.len(), 1, "{:?}", all.warnings);
    assert_eq!((all.options.attempts_max, all.options.lease), (12, Duration::from_secs(120)));
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        std::fs::write(dir.path().join(name), text).unwrap();
        dir.path().join(name)
    };
    let callback = |more: Value| {
        let mut table = json!({"target_kind": "agent", "url": "https://agents.example/"});
        more.as_object().unwrap().iter().for_each(|(key, value)| table[key] = value.clone());
        json!({"enabled": true, "log": "l", "callbacks": [table]})
    };
    let read = configuration(callback(json!({"bearer_token_file": write("token", "secret\n"), "own": true})))
        .unwrap()
        .unwrap();
    let [called] = read.broker.callbacks.as_slice() else { panic!("one callback") };
    assert_eq!((called.bearer_token.as_deref(), called.own), (Some("secret"), true));
    assert!(read.warnings.is_empty(), "{:?}", read.warnings);
    let external = callback(json!({"target_kind": "external", "system": "s", "target": "t"}));
    let to = configuration(external).unwrap().unwrap().broker.callbacks[0].to.clone();
    assert_eq!(to, Addressee { kind: TargetKind::External, system: Some("s".to_owned()), id: Some("t".to_owned()) });
    let rows = [
        (json!({"enabled": true, "lease": 1}), "unknown field `lease`"),
        (json!({"enabled": true, "attempts_max": 0}), "dispatch.attempts_max: must be between 1 and 1000"),
        (json!({"enabled": true, "concurrency": 257}), "dispatch.concurrency: must be between 1 and 256"),
        (json!({"enabled": true, "lease_ms": 86_400_001}), "dispatch.lease_ms: must be between"),
        (json!({"enabled": true, "lease_ms": 30_000}), "dispatch.attempt_ms: must be less than lease_ms"),
        (
            json!({"enabled": true, "backoff_first_ms": 2, "backoff_max_ms": 1}),
            "dispatch.backoff_first_ms: must not be more",
        ),
        (callback(json!({"target_kind": "nobody"})), "nobody"),
        (callback(json!({"system": "s"})), "only `external` targets have a system"),
        (
            callback(json!({"target_kind": "external", "target_id": "x"})),
            "`external` targets have a system and a target",
        ),
        (callback(json!({"timeout_ms": 0})), "timeout_ms must be between"),
        (callback(json!({"bearer_token_file": "/nonexistent-runpack"})), "bearer_token_file `/nonexistent-runpack`: "),
        (callback(json!({"bearer_token_file": write("empty", " \n")})), "is empty"),
        (callback(json!({"bearer_token_file": write("two", "a\nb\n")})), "one word on one line"),
        (callback(json!({"bearer_token_file": write("long", &"x".repeat(5_000))})), "more than 4096 bytes"),
    ];
    for (table, text) in rows {
        let told = configuration(table).unwrap_err();
        assert!(told.contains(text), "{told}");
    }
}
