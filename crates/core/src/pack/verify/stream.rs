//! Reads a log once, record by record: the same bytes are hashed, checked for
//! their form, and parsed, and only one record is in memory.

use std::io::{self, Read};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::canon::{self, Checker, Digest, Form, Hasher, NotCanonical};
use crate::pack::finding::{Code, Finding};
use crate::read::{self, Refusal};

/// Bytes of the first read: most logs are small, and room costs time to clear.
const CHUNK_FIRST: usize = 8 * 1024;

/// Bytes read at a time, once a log has shown to be long.
const CHUNK: usize = 64 * 1024;

/// How far before the end of the buffer a fault may be one of missing bytes.
const TOKEN_MAX: usize = 32;

/// A log as a sequence of records. What is wrong with it is collected in
/// `findings`; the first fault of form or shape ends the sequence, not the
/// hashing.
pub(super) struct Records<'a, T> {
    path: &'static str,
    source: Option<Box<dyn Read + 'a>>,
    hasher: Hasher,
    checker: Checker,
    buffer: Vec<u8>,
    /// Bytes to read at a time.
    chunk: usize,
    /// Nothing is left to read.
    ended: bool,
    /// The unread part of `buffer`.
    at: usize,
    /// Bytes of the document before `buffer`.
    before: usize,
    state: State,
    next: Option<T>,
    /// Records handed out, the waiting one included.
    count: usize,
    bytes_max: u64,
    pub(super) findings: Vec<Finding>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Start,
    First,
    Later,
    /// All records were read.
    Complete,
    /// What follows cannot be read as records.
    Broken,
}

impl<'a, T: DeserializeOwned + Serialize> Records<'a, T> {
    /// Starts reading; a log that could not be opened has no records.
    pub(super) fn new(path: &'static str, source: Option<Box<dyn Read + 'a>>, bytes_max: u64) -> Self {
        let state = if source.is_some() { State::Start } else { State::Broken };
        let mut records = Self {
            path,
            source,
            hasher: Hasher::default(),
            checker: Checker::default(),
            buffer: Vec::new(),
            chunk: CHUNK_FIRST,
            ended: false,
            at: 0,
            before: 0,
            state,
            next: None,
            count: 0,
            bytes_max,
            findings: Vec::new(),
        };
        records.advance();
        records
    }

    /// The waiting record.
    pub(super) fn peek(&self) -> Option<&T> {
        self.next.as_ref()
    }

    /// Position of the waiting record.
    pub(super) fn position(&self) -> usize {
        self.count.saturating_sub(1)
    }

    /// Takes the waiting record, with its position.
    pub(super) fn take(&mut self) -> Option<(usize, T)> {
        let record = self.next.take()?;
        let position = self.position();
        self.advance();
        Some((position, record))
    }

    /// Takes the waiting record if `wanted`.
    pub(super) fn take_if(&mut self, wanted: impl FnOnce(&T) -> bool) -> Option<(usize, T)> {
        if self.next.as_ref().is_some_and(wanted) { self.take() } else { None }
    }

    /// Whether records may be missing because the log cannot be read.
    pub(super) fn broken(&self) -> bool {
        self.state == State::Broken
    }

    /// Reads what is left and answers the digest of the whole file; `None` if
    /// it could not be read to its end.
    pub(super) fn finish(mut self) -> (Option<Digest>, Vec<Finding>) {
        while self.next.is_some() && self.state != State::Broken {
            self.next = None;
            self.advance();
        }
        loop {
            self.at = self.buffer.len();
            match self.fill() {
                Ok(0) => break,
                Ok(_) => {}
                Err(_) => return (None, self.findings),
            }
        }
        if self.state == State::Complete {
            match self.checker.form() {
                Ok(Form::Rfc8785) => {}
                Ok(Form::Legacy { offset }) => self.findings.push(legacy(self.path, offset)),
                Err(fault) => self.not_canonical(fault),
            }
        }
        (self.source.is_some().then(|| self.hasher.finish()), self.findings)
    }

    fn advance(&mut self) {
        if let Err(()) = self.try_advance() {
            self.state = State::Broken;
        }
    }

    fn try_advance(&mut self) -> Result<(), ()> {
        match self.state {
            State::Complete | State::Broken => return Ok(()),
            State::Start => {
                self.bracket()?;
                self.state = State::First;
                if self.peek_byte()? == Some(b']') {
                    self.at += 1;
                    return self.complete();
                }
            }
            State::First => unreachable!("the first record follows the bracket at once"),
            State::Later => {
                if self.byte(b",]", "expected `,` or `]`")? == b']' {
                    return self.complete();
                }
            }
        }
        self.state = State::Later;
        let length = self.element()?;
        let text = &self.buffer[self.at..self.at + length];
        match parse(text) {
            Ok(record) => self.next = Some(record),
            Err(refusal) => {
                let finding = malformed(self.path, &refusal, &format!("/{}", self.count));
                self.findings.push(finding);
                return Err(());
            }
        }
        self.count += 1;
        self.at += length;
        Ok(())
    }

    fn complete(&mut self) -> Result<(), ()> {
        if self.peek_byte()?.is_some() {
            let offset = self.before + self.at;
            self.not_canonical(NotCanonical { offset, reason: "bytes after the value" });
            return Err(());
        }
        self.state = State::Complete;
        Ok(())
    }

    /// Makes one whole element stand at `at` and answers its length.
    fn element(&mut self) -> Result<usize, ()> {
        loop {
            let checker = std::mem::take(&mut self.checker).at(self.before + self.at);
            let mut attempt = checker.clone();
            let rest = &self.buffer[self.at..];
            match attempt.value(rest, 1) {
                // A number may go on in what was not read yet.
                Ok(end) if end == rest.len() && rest[end - 1].is_ascii_digit() && !self.ended => {
                    self.checker = checker;
                    self.fill().map_err(drop)?;
                }
                Ok(end) => {
                    self.checker = attempt;
                    return Ok(end);
                }
                Err(fault) => {
                    self.checker = checker;
                    let near_the_end = fault.offset + TOKEN_MAX >= self.before + self.buffer.len();
                    if !near_the_end || self.fill().map_err(drop)? == 0 {
                        self.not_canonical(fault);
                        return Err(());
                    }
                }
            }
        }
    }

    fn peek_byte(&mut self) -> Result<Option<u8>, ()> {
        if self.at == self.buffer.len() && self.fill().map_err(drop)? == 0 {
            return Ok(None);
        }
        Ok(Some(self.buffer[self.at]))
    }

    /// Passes the opening bracket, or says what stands there instead.
    fn bracket(&mut self) -> Result<(), ()> {
        let reason = match self.peek_byte()? {
            Some(b'[') => {
                self.at += 1;
                return Ok(());
            }
            Some(b'{' | b'"' | b'-' | b'0'..=b'9' | b't' | b'f' | b'n') => {
                let message = format!("{}: a log is an array of records", self.path);
                self.findings.push(Finding::new(Code::Malformed, self.path, message));
                return Err(());
            }
            Some(b' ' | b'\t' | b'\n' | b'\r') => "white space",
            Some(0xef) => "byte order mark or other text where a value should be",
            Some(_) => "not JSON",
            None => "the document is empty",
        };
        self.not_canonical(NotCanonical { offset: 0, reason });
        Err(())
    }

    fn byte(&mut self, wanted: &[u8], reason: &'static str) -> Result<u8, ()> {
        match self.peek_byte()? {
            Some(byte) if wanted.contains(&byte) => {
                self.at += 1;
                Ok(byte)
            }
            _ => {
                let offset = self.before + self.at;
                self.not_canonical(NotCanonical { offset, reason });
                Err(())
            }
        }
    }

    /// Reads and hashes more; what was consumed makes room.
    fn fill(&mut self) -> Result<usize, Unreadable> {
        let Some(source) = self.source.as_mut().filter(|_| !self.ended) else { return Ok(0) };
        if self.at > 0 {
            self.buffer.drain(..self.at);
            self.before += self.at;
            self.at = 0;
        }
        // A record larger than the buffer doubles it, so that looking again
        // from its start stays linear.
        let room = self.chunk.max(self.buffer.len());
        let start = self.buffer.len();
        self.buffer.resize(start + room, 0);
        let count = loop {
            match source.read(&mut self.buffer[start..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                outcome => break outcome,
            }
        };
        match count {
            Ok(count) => {
                self.ended = count == 0;
                self.buffer.truncate(start + count);
                self.hasher.update(&self.buffer[start..]);
                if count == room {
                    self.chunk = (2 * self.chunk).min(CHUNK);
                }
                Ok(count)
            }
            Err(error) => {
                self.buffer.truncate(start);
                self.source = None;
                self.findings.push(unreadable(self.path, &error, self.bytes_max));
                Err(Unreadable)
            }
        }
    }

    fn not_canonical(&mut self, fault: NotCanonical) {
        self.findings.push(not_canonical(self.path, fault));
    }
}

/// The medium failed, and a finding says so.
struct Unreadable;

/// Reads one record. It must be exactly what a writer of the format writes:
/// no unknown members, none left out, no other spelling.
fn parse<T: DeserializeOwned + Serialize>(text: &[u8]) -> Result<T, Refusal> {
    if let Some(record) = std::str::from_utf8(text).ok().and_then(read::exactly::<T>) {
        debug_assert!(exact::<T>(text).is_ok(), "{}", String::from_utf8_lossy(text));
        return Ok(record);
    }
    exact(text)
}

/// Reads a document that is exactly what a writer writes, if writing it again
/// shows that it is.
pub(super) fn written_again<T: DeserializeOwned + Serialize>(text: &[u8]) -> Option<T> {
    let document = serde_json::from_slice(text).ok()?;
    canon::as_declared(&document).is_ok_and(|again| again == text).then_some(document)
}

/// As the quick ways, with a reason.
pub(super) fn exact<T: DeserializeOwned + Serialize>(text: &[u8]) -> Result<T, Refusal> {
    let record: T = read::recorded(text)?;
    let again = canon::to_vec(&record).unwrap_or_default();
    // The older canonical form differs in order and in large integers, never
    // in which members there are.
    let same = again == text || (canon::check(text) != Ok(Form::Rfc8785) && same_members(&again, text));
    if same {
        return Ok(record);
    }
    let message = "a member that the format always writes is left out, or one is written that it leaves out";
    Err(Refusal::Shape { at: String::new(), message: message.to_owned() })
}

fn same_members(left: &[u8], right: &[u8]) -> bool {
    fn names(value: &serde_json::Value, at: &mut String, found: &mut Vec<String>) {
        match value {
            serde_json::Value::Object(members) => {
                for (name, member) in members {
                    let length = at.len();
                    at.push('/');
                    at.push_str(&read::escape(name));
                    found.push(at.clone());
                    names(member, at, found);
                    at.truncate(length);
                }
            }
            serde_json::Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    let length = at.len();
                    at.push_str(&format!("/{index}"));
                    names(item, at, found);
                    at.truncate(length);
                }
            }
            _ => {}
        }
    }
    let all = |bytes: &[u8]| {
        let mut found = Vec::new();
        let tree = read::value(bytes, read::Profile::Pack).ok()?;
        names(&tree, &mut String::new(), &mut found);
        Some(found)
    };
    all(left) == all(right)
}

pub(super) fn not_canonical(path: &str, fault: NotCanonical) -> Finding {
    Finding::new(Code::NotCanonical, path, format!("{path} is not canonical JSON: {fault}"))
}

pub(super) fn legacy(path: &str, offset: usize) -> Finding {
    let message = format!(
        "{path}: legacy canonical form at byte {offset}: members or integers are not in the order or form of RFC 8785"
    );
    Finding::new(Code::LegacyForm, path, message)
}

pub(super) fn malformed(path: &str, refusal: &Refusal, prefix: &str) -> Finding {
    let at = match refusal {
        Refusal::Shape { at, .. } | Refusal::UnknownMember { at } => format!("{prefix}{at}"),
        _ => prefix.to_owned(),
    };
    Finding::new(Code::Malformed, path, format!("{path}{prefix}: {refusal}")).at(at)
}

pub(super) fn unreadable(path: &str, error: &io::Error, bytes_max: u64) -> Finding {
    if error.kind() == io::ErrorKind::FileTooLarge {
        let message = format!(
            "artifact read failed for {path}: larger than {bytes_max} bytes; raise the limit with --max-artifact-bytes \
             (a service: max_artifact_bytes under [runpack])"
        );
        return Finding::new(Code::TooLarge, path, message);
    }
    Finding::new(Code::ReadFailed, path, format!("artifact read failed for {path}: {error}"))
}
