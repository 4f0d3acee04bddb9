//! Providers outside this process: a program or a server with the tool
//! `evidence_query`.

mod answer;
mod breaker;
mod http;
mod stdio;
mod wire;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt};
use runpack_core::model::{EvidenceContext, EvidenceError, EvidenceQuery, EvidenceResult, Lane, ProviderId};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::gather::is_correlation_id;
use crate::{ConfigError, Contract, ContractError, Provider};
use breaker::Breaker;
use http::Http;
use stdio::Stdio;
use wire::{Call, Reply, RpcError};

/// A day: more is not representable everywhere, and nobody waits for it.
const WAIT_MAX: Duration = Duration::from_secs(86_400);

/// How long to wait before each repetition of a question that did not arrive.
const REPEAT_AFTER: [Duration; 2] = [Duration::from_millis(100), Duration::from_millis(400)];

/// A provider outside this process, and how it is asked.
#[derive(Clone)]
pub struct McpConfig {
    /// Whose evidence it is.
    pub provider_id: ProviderId,
    /// Where it is.
    pub target: McpTarget,
    /// How it is spoken to.
    pub dialect: McpDialect,
    /// The lane of evidence that names none. [`McpConfig::new`] has verified,
    /// as the reference does: a provider that says nothing is believed.
    pub default_lane: Lane,
    /// Time to reach a server, within the time for the whole question; for a
    /// program, to answer a handshake that it may not understand.
    pub connect_timeout: Duration,
    /// Time for one question, with whatever starting and repeating it takes.
    /// Should be less than the deadline of [`crate::gather`]: whoever stops
    /// waiting earlier leaves a failing provider uncounted.
    pub request_timeout: Duration,
    /// Bytes of one answer.
    pub max_response_bytes: u64,
    /// Failures in a row after which the provider is left alone. With 0 it never is.
    pub breaker_failures: u32,
    /// For how long.
    pub breaker_pause: Duration,
}

/// Where a provider is.
#[derive(Clone)]
pub enum McpTarget {
    /// A program, started for the first question and again when it has died.
    Command {
        /// The program, looked for along `PATH`, and its arguments.
        command: Vec<String>,
        /// Variables of this process that the program may see, besides `PATH`.
        /// It sees no others, whatever secrets they hold.
        pass_env: Vec<String>,
    },
    /// A server. Its address may be any, since only the operator names it.
    Url {
        /// Where questions are posted.
        url: String,
        /// Whether `http:` will do.
        allow_insecure_http: bool,
        /// What shows who we are.
        bearer_token: Option<String>,
    },
}

/// How a provider is spoken to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum McpDialect {
    /// Found out with the first question, and kept.
    ///
    /// A server is asked as the reference system would. If it refuses, the
    /// question is put as the standard's versions without a handshake have it,
    /// and then with one. Errors that a tool returns are such refusals until
    /// the dialect is known, so the first question may be put three times.
    ///
    /// A program is asked in frames, as the reference system would. If it
    /// answers in lines, or ends without a word, it is started again and spoken
    /// to by the standard. One that says nothing to a frame, or ends of it and is
    /// slow to start, needs [`McpDialect::Standard`].
    #[default]
    Auto,
    /// The reference system's: `tools/call` without a handshake, in
    /// `Content-Length` frames where it is a program.
    Reference,
    /// The Model Context Protocol, in lines where it is a program.
    Standard,
}

impl McpConfig {
    /// With the reference system's limits: 2 s to connect, 10 s for a question,
    /// 1 MiB for an answer; and a pause of 10 s after 5 failures in a row.
    pub fn new(provider_id: ProviderId, target: McpTarget) -> Self {
        Self {
            provider_id,
            target,
            dialect: McpDialect::Auto,
            default_lane: Lane::Verified,
            connect_timeout: Duration::from_secs(2),
            request_timeout: Duration::from_secs(10),
            max_response_bytes: 1_048_576,
            breaker_failures: 5,
            breaker_pause: Duration::from_secs(10),
        }
    }

    /// What the provider promises, by the bytes of its contract file.
    ///
    /// # Errors
    /// As [`Contract::parse`], and [`ContractError::Invalid`] if the contract is
    /// another provider's.
    pub fn contract(&self, bytes: &[u8]) -> Result<Contract, ContractError> {
        Contract::parse(bytes)?.of(&self.provider_id)
    }

    /// The provider. Nothing is started and nobody connected to before the
    /// first question. Makes ring the process's TLS provider unless one is set.
    ///
    /// # Errors
    /// The variants of [`ConfigError`] whose names begin with `Mcp`.
    pub fn build(mut self) -> Result<McpProvider, ConfigError> {
        for wait in [&mut self.connect_timeout, &mut self.request_timeout, &mut self.breaker_pause] {
            *wait = WAIT_MAX.min(*wait);
        }
        let target = match &self.target {
            McpTarget::Command { command, pass_env } => Target::Stdio(Stdio::new(&self, command, pass_env)?),
            McpTarget::Url { url, allow_insecure_http, bearer_token } => {
                Target::Http(Http::new(&self, url, *allow_insecure_http, bearer_token.as_deref())?)
            }
        };
        Ok(McpProvider {
            target,
            default_lane: self.default_lane,
            request_timeout: self.request_timeout,
            breaker: Breaker::new(self.breaker_failures, self.breaker_pause),
        })
    }
}

/// Answers by asking a program or a server.
///
/// Whatever goes wrong there is a `provider_error`. A refusal by JSON-RPC keeps
/// its code and data in the error's details. What a program wrote to its
/// standard error last is told when it died.
///
/// Needs a tokio runtime with timer and I/O on, always the same: it keeps the
/// program. Dropping the provider closes the program's input, and kills it and
/// all it started in its process group if it has not ended within a second.
/// When this process dies at once nobody is killed, and the closed input has
/// to do.
pub struct McpProvider {
    target: Target,
    default_lane: Lane,
    request_timeout: Duration,
    breaker: Breaker,
}

enum Target {
    Stdio(Stdio),
    Http(Http),
}

/// Why there is no reply.
#[derive(Debug, Clone, thiserror::Error)]
enum Failure {
    /// The question may not have arrived, and there was no answer. To repeat it may help.
    #[error("{0}")]
    Unreachable(String),
    /// There was no answer in time, or something that is none.
    #[error("{0}")]
    Broken(String),
    /// An HTTP status other than success, and what the body says about it.
    #[error("http request failed with status {0}")]
    Status(reqwest::StatusCode, Option<RpcError>),
}

impl Failure {
    /// Whether it tells of the other side's health rather than of the question.
    fn counts(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::Broken(_) => true,
            Self::Status(status, _) => status.is_server_error() || status.as_u16() == 429,
        }
    }

    fn evidence(&self) -> EvidenceError {
        match self {
            Self::Status(status, Some(error)) => {
                let message = format!("http request failed with status {status}: {}", error.message);
                answer::refusal(&RpcError { message, ..error.clone() })
            }
            _ => EvidenceError::provider(self),
        }
    }
}

impl Provider for McpProvider {
    fn query<'a>(&'a self, query: &'a EvidenceQuery, context: &'a EvidenceContext) -> BoxFuture<'a, EvidenceResult> {
        async move { self.answer(query, context).await.unwrap_or_else(EvidenceResult::failed) }.boxed()
    }
}

impl McpProvider {
    async fn answer(&self, query: &EvidenceQuery, context: &EvidenceContext) -> Result<EvidenceResult, EvidenceError> {
        if context.correlation_id.as_ref().is_some_and(|id| !is_correlation_id(id.as_str())) {
            return Err(EvidenceError::provider("invalid correlation id"));
        }
        let trial = self.breaker.enter(Instant::now()).map_err(EvidenceError::provider)?;
        let reply = self.ask(&Call::new(query, context)).await;
        match &reply {
            Err(failure) if failure.counts() => trial.failed(failure.to_string(), Instant::now()),
            _ => trial.succeeded(),
        }
        match reply {
            Ok(Reply::Result(result)) => answer::evidence(result, self.default_lane),
            Ok(Reply::Error(error)) => Err(answer::refusal(&error)),
            Err(failure) => Err(failure.evidence()),
        }
    }

    async fn ask(&self, call: &Call) -> Result<Reply, Failure> {
        let deadline = Instant::now() + self.request_timeout;
        let mut pauses = REPEAT_AFTER.iter();
        loop {
            let reply = match &self.target {
                Target::Stdio(stdio) => stdio.ask(call, deadline).await,
                Target::Http(http) => {
                    timeout_at(deadline, http.ask(call)).await.unwrap_or_else(|_| Err(late(self.request_timeout)))
                }
            };
            let again = pauses.next().map(|pause| Instant::now() + *pause).filter(|again| *again < deadline);
            match (&reply, again) {
                (Err(Failure::Unreachable(_)), Some(again)) => sleep_until(again).await,
                _ => return reply,
            }
        }
    }
}

fn late(request_timeout: Duration) -> Failure {
    Failure::Broken(format!("timed out after {} ms", request_timeout.as_millis()))
}

/// What a mutex guards, even after a panic: nothing here is left half done.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
