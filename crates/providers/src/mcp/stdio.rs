use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::fmt::Write as _;
use std::pin::pin;
use std::process::{ExitStatus, Stdio as Pipe};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore, mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::wire::{self, Call, Message, Reply, invalid, shortened};
use super::{Failure, McpConfig, McpDialect, late, locked};
use crate::ConfigError;

/// Bytes of one frame's head.
const HEAD_BYTES_MAX: u64 = 8 * 1_024;
/// Bytes of what a program last wrote to its standard error.
const LAST_WORDS_BYTES: usize = 512;
/// Questions that one program works on, where the dialect permits several.
const QUESTIONS_MAX: usize = 16;
/// Questions nobody waits for any more, before the program is given up.
const ABANDONED_MAX: usize = 64;
/// Messages on their way to a program that does not read.
const OUTBOX: usize = 256;
/// How long a program may take to end once its input has.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long its standard error is read once it is dead.
const LAST_WORDS_WAIT: Duration = Duration::from_millis(100);

/// A program that is asked over its pipes.
pub(super) struct Stdio {
    program: Program,
    /// How long one that may speak the standard has to say so.
    patience: Duration,
    request_timeout: Duration,
    framing: OnceLock<Framing>,
    current: tokio::sync::Mutex<Option<Arc<Connection>>>,
}

struct Program {
    command: Vec<String>,
    pass_env: Vec<String>,
    body_bytes_max: u64,
}

/// How messages are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    /// The reference system's, one question at a time.
    Frames,
    /// The standard's.
    Lines,
}

impl Stdio {
    pub(super) fn new(config: &McpConfig, command: &[String], pass_env: &[String]) -> Result<Self, ConfigError> {
        if command.first().is_none_or(String::is_empty) {
            return Err(ConfigError::McpCommand(config.provider_id.clone()));
        }
        let framing = OnceLock::new();
        let _ = match config.dialect {
            McpDialect::Auto => Ok(()),
            McpDialect::Reference => framing.set(Framing::Frames),
            McpDialect::Standard => framing.set(Framing::Lines),
        };
        Ok(Self {
            program: Program {
                command: command.to_vec(),
                pass_env: pass_env.to_vec(),
                body_bytes_max: config.max_response_bytes,
            },
            patience: config.connect_timeout,
            request_timeout: config.request_timeout,
            framing,
            current: tokio::sync::Mutex::default(),
        })
    }

    /// Asks once. Gives up at `deadline`, and then also gives up the program if
    /// it has said nothing meanwhile.
    pub(super) async fn ask(&self, call: &Call, deadline: Instant) -> Result<Reply, Failure> {
        if let Some(&framing) = self.framing.get() {
            return self.ask_in(framing, call, deadline, deadline).await.map_err(|ended| self.failure(ended));
        }
        let reply = match self.ask_in(Framing::Frames, call, deadline, deadline).await {
            Err(Ended::Lines) => self.ask_in(Framing::Lines, call, deadline, deadline).await,
            Err(ended @ Ended::Exited { mute: true, .. }) => {
                // If it died of something else, it may wait for ever for the end of a frame's head.
                let greeted = deadline.min(Instant::now() + self.patience);
                self.ask_in(Framing::Lines, call, deadline, greeted).await.map_err(|_| ended)
            }
            other => other,
        };
        reply.map_err(|ended| self.failure(ended))
    }

    fn failure(&self, ended: Ended) -> Failure {
        match ended {
            Ended::Late => late(self.request_timeout),
            Ended::Exited { text, .. } => Failure::Unreachable(text),
            Ended::Broken(text) => Failure::Broken(text),
            Ended::Lines => Failure::Broken(invalid("a line where a frame should begin")),
            Ended::Closed => Failure::Unreachable("mcp process was given up".to_owned()),
        }
    }

    async fn ask_in(&self, framing: Framing, call: &Call, deadline: Instant, greeted: Instant) -> Result<Reply, Ended> {
        let connection = self.connection(framing, greeted).await?;
        let params = if connection.greeted_as_modern() { call.params_without_handshake() } else { call.params() };
        let id = call.correlation.as_deref().filter(|_| framing == Framing::Frames);
        let reply = connection.call("tools/call", &params, id, deadline).await?;
        let _ = self.framing.set(framing);
        Ok(reply)
    }

    /// The program as it runs, or started now and greeted by `deadline`.
    async fn connection(&self, framing: Framing, deadline: Instant) -> Result<Arc<Connection>, Ended> {
        let mut current = timeout_at(deadline, self.current.lock()).await.map_err(|_| Ended::Late)?;
        match self.framing.get() {
            // Somebody else has found out meanwhile.
            Some(Framing::Lines) if framing == Framing::Frames => return Err(Ended::Lines),
            Some(Framing::Frames) if framing == Framing::Lines => return Err(Ended::Closed),
            _ => {}
        }
        if let Some(connection) = &*current
            && connection.shared.framing == framing
            && connection.shared.lives()
        {
            return Ok(connection.clone());
        }
        *current = None;
        let probing = self.framing.get().is_none();
        let connection = Connection::start(&self.program, framing, probing)?;
        if framing == Framing::Lines {
            connection.greet(deadline).await?;
            let _ = self.framing.set(framing);
        }
        let connection = Arc::new(connection);
        *current = Some(connection.clone());
        Ok(connection)
    }
}

/// Why a program is asked nothing more, or does not answer one question.
#[derive(Debug, Clone)]
enum Ended {
    /// It did not answer in time.
    Late,
    /// It went away, perhaps without ever having said a word.
    Exited { text: String, mute: bool },
    /// It said something that no rule allows.
    Broken(String),
    /// It speaks the standard's framing.
    Lines,
    /// Nobody needs it any more.
    Closed,
}

/// A program that runs, until this is dropped.
struct Connection {
    shared: Arc<Shared>,
    turns: Semaphore,
    runtime: Handle,
    /// Whether it refused to shake hands, as the newest standard has it.
    modern: OnceLock<()>,
}

/// What the asking side and the [`keep`]er have in common.
struct Shared {
    framing: Framing,
    /// Whether it is unknown that the program speaks this framing.
    probing: bool,
    body_bytes_max: u64,
    state: Mutex<State>,
    ending: Notify,
}

struct State {
    /// Taken at the end, which closes the program's input.
    outbox: Option<mpsc::Sender<Vec<u8>>>,
    /// By the id as JSON.
    waiting: BTreeMap<String, Waiting>,
    next: u64,
    /// Messages that came in.
    heard: u64,
    ended: Option<Ended>,
}

/// A question that has no answer yet.
struct Waiting {
    /// None if nobody waits any more. The answer will come nevertheless.
    answer: Option<oneshot::Sender<Result<Reply, Ended>>>,
    /// [`State::heard`] when it was asked.
    heard: u64,
}

impl Connection {
    fn start(program: &Program, framing: Framing, probing: bool) -> Result<Self, Ended> {
        let mut command = Command::new(&program.command[0]);
        command
            .args(&program.command[1..])
            .env_clear()
            .envs(["PATH"].into_iter().chain(program.pass_env.iter().map(String::as_str)).filter_map(|name| {
                let value = std::env::var_os(name)?;
                Some((name, value))
            }))
            .stdin(Pipe::piped())
            .stdout(Pipe::piped())
            .stderr(Pipe::piped())
            .kill_on_drop(true);
        // A group of its own, so that whatever it starts can be killed with it.
        #[cfg(unix)]
        command.process_group(0);
        let refused = |error: std::io::Error| {
            Ended::Broken(format!("cannot start `{}`: {error}", shortened(&program.command[0])))
        };
        let mut family = Family(command.spawn().map_err(refused)?);
        let (Some(stdin), Some(stdout), Some(stderr)) =
            (family.0.stdin.take(), family.0.stdout.take(), family.0.stderr.take())
        else {
            return Err(Ended::Broken("mcp process has no pipes".to_owned()));
        };
        let (outbox, outgoing) = mpsc::channel(OUTBOX);
        let state = State { outbox: Some(outbox), waiting: BTreeMap::new(), next: 0, heard: 0, ended: None };
        let shared = Arc::new(Shared {
            framing,
            probing,
            body_bytes_max: program.body_bytes_max,
            state: Mutex::new(state),
            ending: Notify::new(),
        });
        let runtime = Handle::current();
        runtime.spawn(write(stdin, outgoing));
        runtime.spawn(keep(family, stdout, stderr, shared.clone()));
        let turns = Semaphore::new(if framing == Framing::Frames { 1 } else { QUESTIONS_MAX });
        Ok(Self { shared, turns, runtime, modern: OnceLock::new() })
    }

    /// Shakes hands, if the program does.
    async fn greet(&self, deadline: Instant) -> Result<(), Ended> {
        match self.call("initialize", &wire::greeting(), None, deadline).await? {
            Reply::Result(answer) => {
                wire::settled(answer.as_ref()).map_err(|text| self.shared.end(Ended::Broken(text)))?;
                self.shared.send(&wire::notification("notifications/initialized", &json!({})))
            }
            Reply::Error(_) => {
                let _ = self.modern.set(());
                Ok(())
            }
        }
    }

    fn greeted_as_modern(&self) -> bool {
        self.modern.get().is_some()
    }

    /// What the program answers. It is asked under `id` if that is given and
    /// not in use.
    ///
    /// Dropping the future leaves the question to itself: its answer is dropped
    /// when it comes, and if it does not come in time the program is given up
    /// as if somebody had waited.
    async fn call(&self, method: &str, params: &Value, id: Option<&str>, deadline: Instant) -> Result<Reply, Ended> {
        // Not asked yet, so whose fault this is will show elsewhere.
        let turn = timeout_at(deadline, self.turns.acquire()).await.map_err(|_| Ended::Late)?;
        let _turn = turn.map_err(|_| Ended::Closed)?;
        let (id, answer) = self.shared.ask(method, params, id)?;
        let mut question = Question { connection: self, id, deadline, answered: false };
        let reply = timeout_at(deadline, answer).await;
        question.answered = reply.is_ok();
        match reply {
            Ok(Ok(reply)) => reply,
            Ok(Err(_)) => Err(Ended::Closed),
            Err(_) => {
                self.shared.abandon(&question.id);
                question.answered = true;
                self.shared.overdue(&question.id);
                Err(Ended::Late)
            }
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.shared.end(Ended::Closed);
    }
}

/// Somebody who waits for an answer.
struct Question<'a> {
    connection: &'a Connection,
    id: String,
    deadline: Instant,
    answered: bool,
}

impl Drop for Question<'_> {
    fn drop(&mut self) {
        if self.answered {
            return;
        }
        let shared = &self.connection.shared;
        shared.abandon(&self.id);
        let (shared, id, deadline) = (Arc::downgrade(shared), self.id.clone(), self.deadline);
        self.connection.runtime.spawn(async move {
            sleep_until(deadline).await;
            if let Some(shared) = shared.upgrade() {
                shared.overdue(&id);
            }
        });
    }
}

impl Shared {
    fn lives(&self) -> bool {
        locked(&self.state).ended.is_none()
    }

    /// Ends the connection for `why`, unless it has ended already; gives why.
    fn end(&self, why: Ended) -> Ended {
        let mut state = locked(&self.state);
        let why = state.ended.get_or_insert(why).clone();
        state.outbox = None;
        for (_, waiting) in std::mem::take(&mut state.waiting) {
            if let Some(answer) = waiting.answer {
                let _ = answer.send(Err(why.clone()));
            }
        }
        self.ending.notify_one();
        why
    }

    fn send(&self, message: &Value) -> Result<(), Ended> {
        self.post(&locked(&self.state), message)
    }

    fn post(&self, state: &State, message: &Value) -> Result<(), Ended> {
        let mut body = message.to_string().into_bytes();
        if self.framing == Framing::Frames {
            if self.probing {
                // A program that waits for a line gets one, and can complain.
                body.push(b'\n');
            }
            let head = format!("Content-Length: {}\r\n\r\n", body.len());
            body.splice(0..0, head.into_bytes());
        } else {
            body.push(b'\n');
        }
        let closed = || state.ended.clone().unwrap_or(Ended::Closed);
        match state.outbox.as_ref().ok_or_else(closed)?.try_send(body) {
            Ok(()) => Ok(()),
            Err(mpsc::error::TrySendError::Full(_)) => Err(Ended::Broken("mcp process does not read".to_owned())),
            Err(mpsc::error::TrySendError::Closed(_)) => {
                let text = "mcp process closed its input".to_owned();
                Err(Ended::Exited { text, mute: state.heard == 0 })
            }
        }
    }

    fn ask(
        &self,
        method: &str,
        params: &Value,
        id: Option<&str>,
    ) -> Result<(String, oneshot::Receiver<Result<Reply, Ended>>), Ended> {
        let mut state = locked(&self.state);
        let given = id.map(Value::from).filter(|id| !state.waiting.contains_key(&id.to_string()));
        let id = given.unwrap_or_else(|| {
            state.next += 1;
            state.next.into()
        });
        self.post(&state, &wire::request(&id, method, params))?;
        let (sender, answer) = oneshot::channel();
        let waiting = Waiting { answer: Some(sender), heard: state.heard };
        let id = id.to_string();
        state.waiting.insert(id.clone(), waiting);
        Ok((id, answer))
    }

    /// Nobody waits for the answer to `id` any more.
    fn abandon(&self, id: &str) {
        let mut state = locked(&self.state);
        let Some(waiting) = state.waiting.get_mut(id) else {
            return;
        };
        waiting.answer = None;
        let abandoned = state.waiting.values().filter(|waiting| waiting.answer.is_none()).count();
        if self.framing == Framing::Lines {
            let id: Value = id.parse().unwrap_or_default();
            let _ = self.post(&state, &wire::notification("notifications/cancelled", &json!({"requestId": id})));
        }
        drop(state);
        if abandoned > ABANDONED_MAX {
            self.end(Ended::Broken("mcp process leaves too much unanswered".to_owned()));
        }
    }

    /// The answer to `id` should have come. A program that has said nothing at
    /// all since is given up, and one that should answer in order as well.
    fn overdue(&self, id: &str) {
        let state = locked(&self.state);
        let hangs = state
            .waiting
            .get(id)
            .is_some_and(|waiting| self.framing == Framing::Frames || waiting.heard == state.heard);
        drop(state);
        if hangs {
            // Others may ask again: it was not their question.
            let text = "mcp process was killed, since it did not answer".to_owned();
            self.end(Ended::Exited { text, mute: false });
        }
    }

    /// Passes a message to whoever waits for it.
    fn hear(&self, message: Message) -> Result<(), String> {
        let mut state = locked(&self.state);
        state.heard += 1;
        match message {
            Message::Notification => {}
            Message::Request(id, method) => {
                let answer = if method == "ping" {
                    json!({"jsonrpc": "2.0", "id": id, "result": {}})
                } else {
                    let error = json!({"code": -32_601, "message": "method not found"});
                    json!({"jsonrpc": "2.0", "id": id, "error": error})
                };
                // If it does not read, it gets no answer.
                let _ = self.post(&state, &answer);
            }
            Message::Reply(id, reply) => {
                // Whoever could not read a request cannot tell its id, but it is clear if there is one only.
                let key = match (&id, &reply, state.waiting.len()) {
                    (Value::Null, Reply::Error(_), 1) => state.waiting.keys().next().cloned(),
                    _ => Some(id.to_string()),
                };
                let waiting = key.and_then(|key| state.waiting.remove(&key)).ok_or_else(|| wire::wrong_id(&id))?;
                if let Some(answer) = waiting.answer {
                    let _ = answer.send(Ok(reply));
                }
            }
        }
        Ok(())
    }
}

/// Writes whole messages, whatever happens to whoever sent them.
async fn write(mut stdin: ChildStdin, mut outgoing: mpsc::Receiver<Vec<u8>>) {
    while let Some(message) = outgoing.recv().await {
        if stdin.write_all(&message).await.is_err() || stdin.flush().await.is_err() {
            return;
        }
    }
}

/// A program and whatever it starts.
struct Family(Child);

impl Family {
    /// Has to come before the program is waited for: until then nobody else
    /// can have its id.
    fn kill(&mut self) {
        #[cfg(unix)]
        if let Some(id) = self.0.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process_group(id, rustix::process::Signal::KILL);
        }
        let _ = self.0.start_kill();
    }
}

impl Drop for Family {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Listens to a program until it ends or is ended, and sees to it that nothing
/// of it is left.
async fn keep(mut family: Family, stdout: ChildStdout, stderr: ChildStderr, shared: Arc<Shared>) {
    let said = Arc::new(Mutex::new(VecDeque::new()));
    let listening = tokio::spawn(listen(stderr, said.clone()));
    let ended = {
        let mut conversation = pin!(converse(stdout, &shared));
        tokio::select! {
            ended = &mut conversation => ended,
            () = shared.ending.notified() => {
                // Its input is closed: it may go by itself, if it is not what failed.
                if matches!(locked(&shared.state).ended, Some(Ended::Closed)) {
                    let _ = timeout(PATIENCE, conversation).await;
                }
                Some(Ended::Closed)
            }
        }
    };
    // Nobody has to wait for what follows, unless the reason is to be found there.
    if let Some(ended) = &ended {
        shared.end(ended.clone());
    }
    family.kill();
    let status = family.0.wait().await;
    let abort = listening.abort_handle();
    let _ = timeout(LAST_WORDS_WAIT, listening).await;
    abort.abort();
    if ended.is_none() {
        let mute = locked(&shared.state).heard == 0;
        let text = farewell(status.ok(), &locked(&said).iter().copied().collect::<Vec<_>>());
        shared.end(Ended::Exited { text, mute });
    }
}

fn farewell(status: Option<ExitStatus>, said: &[u8]) -> String {
    // What was killed here had closed its output and lived on.
    let mut text = match status {
        Some(status) if status.code().is_some() => format!("mcp process exited: {status}"),
        _ => "mcp process ended its output".to_owned(),
    };
    let said = shortened(&String::from_utf8_lossy(said));
    if !said.is_empty() {
        let _ = write!(text, "; it said last: {said}");
    }
    text
}

/// Keeps the end of what is written, and reads all of it: a program must not
/// have to wait for a reader.
async fn listen(mut stderr: ChildStderr, said: Arc<Mutex<VecDeque<u8>>>) {
    let mut buffer = [0; 4_096];
    while let Ok(length @ 1..) = stderr.read(&mut buffer).await {
        let mut said = locked(&said);
        said.extend(&buffer[..length]);
        let surplus = said.len().saturating_sub(LAST_WORDS_BYTES);
        said.drain(..surplus);
    }
}

/// Reads messages. Gives why it stopped, or None at the end of the output.
async fn converse(stdout: ChildStdout, shared: &Shared) -> Option<Ended> {
    let mut output = BufReader::new(stdout);
    if shared.probing && shared.framing == Framing::Frames && output.fill_buf().await.ok()?.first() == Some(&b'{') {
        return Some(Ended::Lines);
    }
    loop {
        let message = match shared.framing {
            Framing::Frames => frame(&mut output, shared.body_bytes_max).await,
            Framing::Lines => line(&mut output, shared.body_bytes_max).await,
        };
        match message {
            Ok(Some(message)) => {
                if let Err(text) = wire::message(&message).and_then(|message| shared.hear(message)) {
                    return Some(Ended::Broken(text));
                }
            }
            Ok(None) => return None,
            Err(text) => return Some(Ended::Broken(text)),
        }
    }
}

/// The body of the next frame, or None if the output ends before or inside it.
async fn frame(output: &mut (impl AsyncBufReadExt + Unpin), bytes_max: u64) -> Result<Option<Vec<u8>>, String> {
    let mut left = HEAD_BYTES_MAX;
    let mut length = None;
    loop {
        let too_long = |()| invalid(format_args!("head of a frame exceeds {HEAD_BYTES_MAX} bytes"));
        let Some(line) = bounded_line(output, left).await.map_err(too_long)? else {
            return Ok(None);
        };
        left -= line.len() as u64;
        let line = String::from_utf8_lossy(&line);
        let line = line.trim();
        if line.is_empty() {
            break;
        }
        let Some((name, value)) = line.split_once(':') else {
            return Err(invalid(format_args!("`{}` where a frame should begin", shortened(line))));
        };
        if name.trim().eq_ignore_ascii_case("content-length") {
            let number = value.trim().parse::<u64>().map_err(|_| invalid("invalid content length"))?;
            if length.replace(number).is_some_and(|other| other != number) {
                return Err(invalid("two content lengths"));
            }
        }
    }
    let length = length.ok_or_else(|| invalid("missing content length"))?;
    if length > bytes_max {
        return Err(too_large(bytes_max));
    }
    let mut body = Vec::new();
    match output.take(length).read_to_end(&mut body).await {
        Ok(read) if read as u64 == length => Ok(Some(body)),
        _ => Ok(None),
    }
}

/// The next line that is not empty, or None if the output ends before its end.
async fn line(output: &mut (impl AsyncBufReadExt + Unpin), bytes_max: u64) -> Result<Option<Vec<u8>>, String> {
    loop {
        match bounded_line(output, bytes_max.saturating_add(1)).await.map_err(|()| too_large(bytes_max))? {
            Some(line) if line.trim_ascii().is_empty() => {}
            other => return Ok(other),
        }
    }
}

/// A line with its end, or None if the output ends first. The error is a line
/// of more bytes than that.
async fn bounded_line(output: &mut (impl AsyncBufReadExt + Unpin), bytes_max: u64) -> Result<Option<Vec<u8>>, ()> {
    let mut line = Vec::new();
    let _ = output.take(bytes_max).read_until(b'\n', &mut line).await;
    match line.last() {
        Some(b'\n') => Ok(Some(line)),
        _ if line.len() as u64 == bytes_max => Err(()),
        _ => Ok(None),
    }
}

fn too_large(bytes_max: u64) -> String {
    format!("mcp response exceeds size limit of {bytes_max} bytes")
}

#[cfg(unix)]
#[cfg(test)]
mod tests;
