//! Delivers what runs disclosed: takes deliveries from the outbox of the store,
//! has the broker try them, and records what came of it.
//!
//! A run never waits for this and never fails by it. Each delivery is tried at
//! least once and at most [`DispatchOptions::attempts_max`] times; whoever
//! receives one twice knows it by its id. A process that dies leaves its leases
//! to run out, and the next one takes up what it had.

use std::collections::BTreeMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::FutureExt as _;
use runpack_beneath::read_text_within;
use runpack_core::model::TargetKind;
use runpack_dispatch::{
    Addressee, Again, Broker, BrokerOptions, CallbackOptions, DispatchError, Parcel, SourceOptions,
};
use runpack_storage::runs::{LEASES_MAX, Lease, LeaseTerms, Leased, Outbox, Settled, StoreFault, WriteError};
use serde::Deserialize;
use tokio::task::JoinSet;
use tracing::{info, warn};

use crate::config::ConfigError;

/// Bytes of a file with a token.
const TOKEN_BYTES_MAX: u64 = 4_096;

/// Callbacks of one config; more are a mistake.
const CALLBACKS_MAX: usize = 1_024;

/// The longest wait while the store does not answer.
const STORE_WAIT_MAX: Duration = Duration::from_secs(30);

/// The section `[dispatch]`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DispatchTable {
    /// Whether packets are delivered. Default false: none is even queued.
    pub enabled: bool,
    /// The directory that `file:` references lie beneath. Default none.
    pub file_root: Option<PathBuf>,
    /// Hosts that references are got from: names, addresses, or `*.` and what a
    /// name ends with. Default none.
    pub allow_hosts: Vec<String>,
    /// Hosts that nothing is got from and nobody is called at. Default none.
    pub deny_hosts: Vec<String>,
    /// Ports that references are got from. Default 443, and 80 with `allow_http`.
    pub allow_ports: Option<Vec<u16>>,
    /// Whether references are got over `http:` too. Default false.
    pub allow_http: bool,
    /// Whether references are got from this machine and its network. Default false.
    pub allow_private: bool,
    /// Who is called for which targets.
    pub callbacks: Vec<CallbackTable>,
    /// A file with one line for each delivery to an agent or another system that
    /// nobody is called for. Default none: those are given up.
    pub log: Option<PathBuf>,
    /// Deliveries tried at once. Default 16.
    pub concurrency: Option<u64>,
    /// Of those, to one callback or channel. Default 4.
    pub concurrency_per_target: Option<u64>,
    /// Milliseconds until a delivery that nothing is heard of is taken again.
    /// Default 120000.
    pub lease_ms: Option<u64>,
    /// Milliseconds for one attempt, less than `lease_ms`. Default 30000.
    pub attempt_ms: Option<u64>,
    /// Attempts until a delivery is given up. Default 12.
    pub attempts_max: Option<u64>,
    /// Milliseconds until the second attempt; each wait is twice the one before.
    /// Default 1000.
    pub backoff_first_ms: Option<u64>,
    /// The longest wait between attempts in milliseconds. Default 3600000.
    pub backoff_max_ms: Option<u64>,
    /// Failures in a row after which a callback or channel is left alone. Default 5.
    pub breaker_failures: Option<u64>,
    /// For so many milliseconds, until one delivery is tried. Default 30000.
    pub breaker_ms: Option<u64>,
    /// Milliseconds between looks at an outbox that was empty. Default 500.
    pub poll_ms: Option<u64>,
}

/// An entry of `dispatch.callbacks`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CallbackTable {
    /// For targets of which kind.
    pub target_kind: TargetKind,
    /// For this agent, session or channel. Default all of the kind.
    pub target_id: Option<String>,
    /// Of kind `external`: for this system. Default all.
    pub system: Option<String>,
    /// Of kind `external`: for this target of the system. Default all.
    pub target: Option<String>,
    /// Where messages are posted: `https:`, at a public address.
    pub url: String,
    /// Whether the URL is your own: then `http:` will do, and so will this
    /// machine and its network. Default false.
    #[serde(default)]
    pub own: bool,
    /// A file whose one line is sent as `authorization: Bearer …`.
    pub bearer_token_file: Option<PathBuf>,
    /// Milliseconds until the answer. Default 10000.
    pub timeout_ms: Option<u64>,
}

/// How packets are delivered.
#[derive(Debug, Clone)]
pub struct DispatchConfiguration {
    /// What the broker is made of.
    pub broker: BrokerOptions,
    /// How it is used.
    pub options: DispatchOptions,
    /// What an operator should hear at start, one sentence each.
    pub warnings: Vec<String>,
}

/// How deliveries are tried. See [`DispatchTable`] for what the members mean.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "as in the table")]
pub struct DispatchOptions {
    pub concurrency: usize,
    pub concurrency_per_target: usize,
    pub lease: Duration,
    pub attempt: Duration,
    pub attempts_max: u64,
    pub backoff_first: Duration,
    pub backoff_max: Duration,
    pub breaker_failures: u64,
    pub breaker: Duration,
    pub poll: Duration,
}

impl DispatchTable {
    /// What the section comes to; `None` if nothing is to be delivered.
    ///
    /// # Errors
    /// Names the key that has a value that cannot be. What only opening things
    /// can tell, [`Broker::new`] says.
    pub fn configuration(&self) -> Result<Option<DispatchConfiguration>, ConfigError> {
        if !self.enabled {
            return Ok(None);
        }
        let within = |key: &str, value: Option<u64>, usual: u64, most: u64| match value.unwrap_or(usual) {
            value if (1..=most).contains(&value) => Ok(value),
            _ => Err(wrong(key, format!("must be between 1 and {most}"))),
        };
        let count = |key: &str, value, usual| within(key, value, usual, LEASES_MAX as u64).map(|value| value as usize);
        let millis = |key: &str, value, usual| within(key, value, usual, DAY_MS).map(Duration::from_millis);
        let options = DispatchOptions {
            concurrency: count("concurrency", self.concurrency, 16)?,
            concurrency_per_target: count("concurrency_per_target", self.concurrency_per_target, 4)?,
            lease: millis("lease_ms", self.lease_ms, 120_000)?,
            attempt: millis("attempt_ms", self.attempt_ms, 30_000)?,
            attempts_max: within("attempts_max", self.attempts_max, 12, 1_000)?,
            backoff_first: millis("backoff_first_ms", self.backoff_first_ms, 1_000)?,
            backoff_max: millis("backoff_max_ms", self.backoff_max_ms, 3_600_000)?,
            breaker_failures: within("breaker_failures", self.breaker_failures, 5, 1_000_000)?,
            breaker: millis("breaker_ms", self.breaker_ms, 30_000)?,
            poll: millis("poll_ms", self.poll_ms, 500)?,
        };
        if options.attempt >= options.lease {
            let problem = "must be less than lease_ms, or another would try what is still being tried";
            return Err(wrong("attempt_ms", problem));
        }
        if options.backoff_first > options.backoff_max {
            return Err(wrong("backoff_first_ms", "must not be more than backoff_max_ms"));
        }
        if self.callbacks.len() > CALLBACKS_MAX {
            return Err(wrong("callbacks", format!("has more than {CALLBACKS_MAX} entries")));
        }
        let callbacks = self.callbacks.iter().map(CallbackTable::options).collect::<Result<Vec<_>, _>>()?;
        let all = |kind| callbacks.iter().any(|callback| callback.to == Addressee { kind, system: None, id: None });
        let mut warnings = Vec::new();
        if self.log.is_none() && !(all(TargetKind::Agent) && all(TargetKind::External)) {
            let warning = "dispatch: packets for agents and other systems that no callback is for are given up\n\
                           hint: set dispatch.log";
            warnings.push(warning.to_owned());
        }
        let sources = SourceOptions {
            file_root: self.file_root.clone(),
            allow_hosts: self.allow_hosts.clone(),
            deny_hosts: self.deny_hosts.clone(),
            allow_ports: self.allow_ports.clone(),
            allow_http: self.allow_http,
            allow_private: self.allow_private,
            timeout: options.attempt,
            ..SourceOptions::default()
        };
        let broker = BrokerOptions { sources, callbacks, log: self.log.clone() };
        Ok(Some(DispatchConfiguration { broker, options, warnings }))
    }
}

const DAY_MS: u64 = 86_400_000;

impl CallbackTable {
    fn options(&self) -> Result<CallbackOptions, ConfigError> {
        let key = "callbacks";
        let external = self.target_kind == TargetKind::External;
        let (named, instead) = match external {
            true => (self.target_id.is_some(), "`external` targets have a system and a target, and no target_id"),
            false => {
                (self.system.is_some() || self.target.is_some(), "only `external` targets have a system and a target")
            }
        };
        if named {
            return Err(wrong(key, format!("`{}`: {instead}", self.url)));
        }
        let timeout_ms = self.timeout_ms.unwrap_or(10_000);
        if !(1..=DAY_MS).contains(&timeout_ms) {
            return Err(wrong(key, format!("`{}`: timeout_ms must be between 1 and {DAY_MS}", self.url)));
        }
        let id = if external { &self.target } else { &self.target_id };
        Ok(CallbackOptions {
            to: Addressee { kind: self.target_kind, system: self.system.clone(), id: id.clone() },
            url: self.url.clone(),
            own: self.own,
            bearer_token: self.bearer_token_file.as_deref().map(token).transpose()?,
            timeout: Duration::from_millis(timeout_ms),
        })
    }
}

/// The token in a file, without the end of its line.
fn token(path: &Path) -> Result<String, ConfigError> {
    let told = |problem: String| wrong("callbacks", format!("bearer_token_file `{}`: {problem}", path.display()));
    match read_text_within(path, TOKEN_BYTES_MAX).map_err(|error| told(error.to_string()))?.trim() {
        "" => Err(told("is empty".to_owned())),
        token if token.contains(char::is_whitespace) => Err(told("a token is one word on one line".to_owned())),
        token => Ok(token.to_owned()),
    }
}

fn wrong(key: &str, problem: impl Into<String>) -> ConfigError {
    ConfigError::Value { key: format!("dispatch.{key}"), problem: problem.into() }
}

/// Delivers until `stop`; then takes nothing more, and returns when what is being
/// tried has come to an end, for which [`DispatchOptions::attempt`] is time enough.
///
/// Whoever drops it instead leaves what is being tried to whoever takes it when
/// the leases run out. A store that does not answer is asked again, ever more
/// rarely.
pub async fn run(
    outbox: Arc<dyn Outbox>,
    broker: Arc<Broker>,
    options: &DispatchOptions,
    stop: impl Future<Output = ()>,
) {
    let worker = Arc::new(Worker { outbox, broker, options: options.clone(), holder: holder() });
    let mut stop = pin!(stop);
    let (mut tasks, mut targets, mut wait) = (JoinSet::new(), Targets::new(options), options.poll);
    while (&mut stop).now_or_never().is_none() {
        let free = options.concurrency.saturating_sub(tasks.len());
        let leased = if free > 0 { worker.lease(free).await } else { Ok(Vec::new()) };
        let more = leased.as_ref().is_ok_and(|leased| free > 0 && leased.len() == free);
        match leased {
            Ok(leased) => {
                if wait > options.poll {
                    info!("dispatch: the store answers again");
                }
                wait = options.poll;
                for leased in leased {
                    worker.begin(leased, &mut targets, &mut tasks).await;
                }
            }
            Err(error) => {
                if wait == options.poll {
                    warn!("dispatch: nothing is delivered for the moment: {error}");
                }
                wait = (wait * 2).min(STORE_WAIT_MAX).max(options.poll);
            }
        }
        if more && tasks.len() < options.concurrency {
            continue;
        }
        tokio::select! {
            () = &mut stop => break,
            Some(ended) = tasks.join_next() => {
                // None comes to another end than its own: panics are caught.
                if let Ok(ended) = ended {
                    targets.ended(ended, now_ms());
                }
            }
            () = tokio::time::sleep(wait) => {}
        }
    }
    while tasks.join_next().await.is_some() {}
}

struct Worker {
    outbox: Arc<dyn Outbox>,
    broker: Arc<Broker>,
    options: DispatchOptions,
    holder: String,
}

/// An attempt that is over.
struct Ended {
    /// Where it went, if anywhere.
    route: Option<String>,
    sign: Sign,
}

/// What an attempt says about others that go the same way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sign {
    /// There is somebody, whatever the answer.
    Answered,
    /// There is nobody, or nobody who can take anything now.
    Failed,
    /// Nothing.
    None,
}

impl Worker {
    async fn lease(self: &Arc<Self>, limit: usize) -> Result<Vec<Leased>, WriteError> {
        self.ask(move |worker| {
            worker.outbox.lease(&LeaseTerms {
                now_ms: now_ms(),
                for_ms: millis(worker.options.lease),
                limit,
                attempts_max: worker.options.attempts_max,
                holder: &worker.holder,
            })
        })
        .await
    }

    /// Begins an attempt, or puts the delivery back if its time has not come.
    async fn begin(self: &Arc<Self>, leased: Leased, targets: &mut Targets, tasks: &mut JoinSet<Ended>) {
        let route = self.broker.route(&leased.target);
        match route.as_ref().map_or(Ok(()), |route| targets.admit(route, now_ms())) {
            Ok(()) => {
                tasks.spawn(self.clone().attempt(leased, route));
            }
            Err(again_at_ms) => {
                let lease = leased.lease.clone();
                let put_back = self.ask(move |worker| worker.outbox.put_back(&lease, again_at_ms)).await;
                // Not put back, it is taken again when the lease runs out.
                if let Err(error) = put_back {
                    warn!("dispatch: {} waits longer than it should: {error}", named(&leased));
                }
            }
        }
    }

    async fn attempt(self: Arc<Self>, leased: Leased, route: Option<String>) -> Ended {
        let what = named(&leased);
        let Leased { lease, key, target, packet } = leased;
        let parcel = Parcel {
            id: lease.id.to_string(),
            tenant_id: key.tenant_id,
            namespace_id: key.namespace_id,
            decision_id: packet.decision_id,
            target,
            envelope: packet.envelope,
            payload: packet.payload,
        };
        let tried = tokio::time::timeout(self.options.attempt, self.broker.deliver(parcel));
        let (sign, outcome) = match AssertUnwindSafe(tried).catch_unwind().await {
            Ok(Ok(Ok(told))) => (Sign::Answered, Ok(told)),
            Ok(Ok(Err(error))) => (sign_of(&error), Err((error.to_string(), error.again()))),
            Ok(Err(_)) => {
                let why = format!("it came to no end in {} ms", self.options.attempt.as_millis());
                (Sign::Failed, Err((why, Again::Later)))
            }
            Err(_) => (Sign::None, Err(("the attempt came to an unforeseen end".to_owned(), Again::Later))),
        };
        let again_at_ms = match &outcome {
            Err((_, again)) => again_after(&self.options, &lease, *again).map(|wait| now_ms() + millis(wait)),
            Ok(_) => None,
        };
        let gives_up = outcome.as_ref().err().filter(|_| again_at_ms.is_none()).map(|(why, _)| why.clone());
        let attempt = lease.attempt;
        let recorded = self
            .ask(move |worker| match &outcome {
                Ok(told) => worker.outbox.delivered(&lease, now_ms(), told),
                Err((why, _)) => worker.outbox.failed(&lease, now_ms(), why, again_at_ms),
            })
            .await;
        match (recorded, gives_up) {
            (Ok(Settled::Recorded), Some(why)) => {
                warn!("dispatch: {what} is given up after {attempt} attempts: {why}");
            }
            (Ok(Settled::Recorded), None) => {}
            (Ok(Settled::Superseded), _) => {
                warn!("dispatch: {what} took longer than its lease, and may be delivered twice");
            }
            (Err(error), _) => {
                warn!("dispatch: what came of {what} is not recorded, it is tried again: {error}");
            }
        }
        Ended { route, sign }
    }

    /// Asks the store, which may wait for a disk.
    async fn ask<T: Send + 'static>(
        self: &Arc<Self>,
        question: impl FnOnce(&Self) -> Result<T, WriteError> + Send + 'static,
    ) -> Result<T, WriteError> {
        let worker = self.clone();
        let asked = tokio::task::spawn_blocking(move || question(&worker)).await;
        asked.unwrap_or_else(|error| Err(WriteError::Unknown(StoreFault(error.to_string()))))
    }
}

/// A delivery, for people.
fn named(leased: &Leased) -> String {
    let Leased { lease, key, packet, .. } = leased;
    format!("delivery {} of packet {} of run {}", lease.id, packet.envelope.packet_id, key.run_id)
}

fn sign_of(error: &DispatchError) -> Sign {
    match error {
        DispatchError::Sink(_) if error.again() == Again::Never => Sign::Answered,
        DispatchError::Sink(_) => Sign::Failed,
        _ => Sign::None,
    }
}

/// How long to wait after an attempt that failed; `None` if it was the last.
///
/// Twice as long each time. What is spread is taken from the id, so that what
/// failed together is not tried together, and waits are the same every time.
fn again_after(options: &DispatchOptions, lease: &Lease, again: Again) -> Option<Duration> {
    let least = match again {
        Again::Never => return None,
        _ if lease.attempt >= options.attempts_max => return None,
        Again::Later => Duration::ZERO,
        Again::After(wait) => wait,
    };
    let doublings = u32::try_from(lease.attempt.saturating_sub(1)).unwrap_or(u32::MAX).min(31);
    let wait = options.backoff_first.saturating_mul(1 << doublings).min(options.backoff_max);
    let spread = wait / 4 * u32::from(lease.id.as_bytes()[0]) / 256;
    Some((wait - spread).max(least))
}

/// What is known of those that are delivered to.
struct Targets {
    at_once: usize,
    failures: u64,
    rest_ms: u64,
    poll_ms: u64,
    known: BTreeMap<String, Target>,
}

#[derive(Debug, Default)]
struct Target {
    under_way: usize,
    /// In a row.
    failures: u64,
    /// Left alone until then, if those are too many.
    until_ms: u64,
}

impl Targets {
    fn new(options: &DispatchOptions) -> Self {
        Self {
            at_once: options.concurrency_per_target,
            failures: options.breaker_failures,
            rest_ms: millis(options.breaker),
            poll_ms: millis(options.poll),
            known: BTreeMap::new(),
        }
    }

    /// Whether one more may be tried there; if not, when to ask again.
    fn admit(&mut self, route: &str, now_ms: u64) -> Result<(), u64> {
        let target = self.known.entry(route.to_owned()).or_default();
        let broken = target.failures >= self.failures;
        if broken && now_ms < target.until_ms {
            return Err(target.until_ms);
        }
        // One shows whether there is somebody again.
        if target.under_way >= if broken { 1 } else { self.at_once } {
            return Err(now_ms + self.poll_ms);
        }
        target.under_way += 1;
        Ok(())
    }

    fn ended(&mut self, Ended { route, sign }: Ended, now_ms: u64) {
        let Some(route) = route else { return };
        let Some(target) = self.known.get_mut(&route) else { return };
        target.under_way = target.under_way.saturating_sub(1);
        match sign {
            Sign::Answered => target.failures = 0,
            Sign::Failed => {
                target.failures += 1;
                target.until_ms = now_ms + self.rest_ms;
                if target.failures == self.failures {
                    warn!("dispatch: {route} is left alone for a while, after {} failures", self.failures);
                }
            }
            Sign::None => {}
        }
        if target.failures == 0 && target.under_way == 0 {
            self.known.remove(&route);
        }
    }
}

/// A name that no other process has at the same time.
fn holder() -> String {
    format!("{}-{}", std::process::id(), now_ms())
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, millis)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
