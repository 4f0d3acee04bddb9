//! The door at the end of a pipe: one caller, who started this process.
//!
//! Two framings, told apart by the first byte: lines of JSON, which is the
//! Model Context Protocol, and `Content-Length` frames, in which older clients
//! speak the dialect of `rpc`. Output is protocol and nothing else.

use std::io;
use std::sync::Arc;

use rmcp::ServiceExt as _;
use rmcp::model::{ErrorData, JsonRpcError};
use runpack_core::read::{self, Profile};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::sync::mpsc;

use crate::access::Caller;
use crate::mcp::Mcp;
use crate::rpc::{Fault, Kind, Reply, Rpc};
use crate::tools::{CallError, Context, Tools};
use crate::watch::Trace;

/// Bytes of one frame's head.
const HEAD_BYTES_MAX: u64 = 8 * 1024;
/// Lines on their way out.
const OUTBOX: usize = 16;
/// Bytes between the lines that are let through and the protocol.
const PIPE_BYTES: usize = 64 * 1024;

/// Serves until the input ends.
///
/// # Errors
/// The pipe's, and input that ends inside a frame.
pub async fn serve(
    tools: Arc<Tools>,
    message_bytes_max: usize,
    input: impl AsyncRead + Send + Unpin + 'static,
    output: impl AsyncWrite + Send + Unpin + 'static,
) -> io::Result<()> {
    let mut input = BufReader::new(input);
    match input.fill_buf().await?.first() {
        None => Ok(()),
        Some(b'C' | b'c') => {
            let caller = tools.service().access.known(Caller::stdio());
            frames(Rpc::new(tools), caller, message_bytes_max, input, output).await
        }
        Some(_) => lines(Mcp::over_stdio(tools), message_bytes_max, input, output).await,
    }
}

/// The SDK drops what it cannot read without a word, so every line is looked
/// at before it gets there.
async fn lines(
    face: Mcp,
    message_bytes_max: usize,
    mut input: BufReader<impl AsyncRead + Send + Unpin + 'static>,
    mut output: impl AsyncWrite + Send + Unpin + 'static,
) -> io::Result<()> {
    let (outbox, mut outgoing) = mpsc::channel::<Vec<u8>>(OUTBOX);
    let writing = tokio::spawn(async move {
        while let Some(line) = outgoing.recv().await {
            output.write_all(&line).await?;
            output.flush().await?;
        }
        io::Result::Ok(())
    });
    let (admitted, incoming) = tokio::io::duplex(PIPE_BYTES);
    let (answers, answered) = tokio::io::duplex(PIPE_BYTES);
    let relaying = tokio::spawn(relay(answered, outbox.clone()));
    let serving = tokio::spawn(async move {
        // A client that goes away before a word is no failure.
        if let Ok(service) = face.serve((incoming, answers)).await {
            let _ = service.waiting().await;
        }
    });
    let admitting = admit(&mut input, message_bytes_max, admitted, &outbox).await;
    drop(outbox);
    let _ = serving.await;
    let _ = relaying.await;
    writing.await.unwrap_or(Ok(()))?;
    admitting
}

/// Takes answers to the outbox, line by line.
async fn relay(answered: tokio::io::DuplexStream, outbox: mpsc::Sender<Vec<u8>>) {
    let mut answered = BufReader::new(answered);
    loop {
        let mut line = Vec::new();
        match answered.read_until(b'\n', &mut line).await {
            Ok(1..) if outbox.send(line).await.is_ok() => {}
            _ => return,
        }
    }
}

async fn admit(
    input: &mut BufReader<impl AsyncRead + Unpin>,
    message_bytes_max: usize,
    mut admitted: tokio::io::DuplexStream,
    outbox: &mpsc::Sender<Vec<u8>>,
) -> io::Result<()> {
    let limit = u64::try_from(message_bytes_max).unwrap_or(u64::MAX);
    loop {
        let mut line = Vec::new();
        if (&mut *input).take(limit).read_until(b'\n', &mut line).await? == 0 {
            return Ok(());
        }
        let whole = line.ends_with(b"\n");
        if !whole && line.len() >= message_bytes_max {
            skip_line(input).await?;
            let problem = format!(
                "the message is too large\nhint: send at most {message_bytes_max} bytes, or raise server.max_body_bytes"
            );
            let _ = outbox.send(protocol_error(&ErrorData::invalid_request(problem, None))).await;
            continue;
        }
        if !whole {
            line.push(b'\n');
        }
        match unreadable(line.trim_ascii()) {
            None if line.trim_ascii().is_empty() => {}
            None => {
                // The protocol ended: nobody is there to read.
                if admitted.write_all(&line).await.is_err() {
                    return Ok(());
                }
            }
            Some(error) => {
                let _ = outbox.send(protocol_error(&error)).await;
            }
        }
    }
}

async fn skip_line(input: &mut BufReader<impl AsyncRead + Unpin>) -> io::Result<()> {
    loop {
        let there = input.fill_buf().await?;
        let (length, end) = match there.iter().position(|&byte| byte == b'\n') {
            Some(at) => (at + 1, true),
            None => (there.len(), there.is_empty()),
        };
        input.consume(length);
        if end {
            return Ok(());
        }
    }
}

/// Why `message` is none of the protocol's, if it is none.
pub(crate) fn unreadable(message: &[u8]) -> Option<ErrorData> {
    if message.is_empty() {
        return None;
    }
    match read::value(message, Profile::Pack) {
        Ok(Value::Array(_)) => Some(ErrorData::invalid_request("batches are not served: send one message", None)),
        Ok(_) => None,
        Err(refusal) => Some(ErrorData::parse_error(format!("not a JSON message: {refusal}"), None)),
    }
}

fn protocol_error(error: &ErrorData) -> Vec<u8> {
    let mut line = serde_json::to_vec(&JsonRpcError::new(None, error.clone())).unwrap_or_default();
    line.push(b'\n');
    line
}

async fn frames(
    rpc: Rpc,
    caller: Caller,
    message_bytes_max: usize,
    mut input: BufReader<impl AsyncRead + Send + Unpin>,
    mut output: impl AsyncWrite + Send + Unpin,
) -> io::Result<()> {
    let rpc = Arc::new(rpc);
    while let Some(length) = head(&mut input).await? {
        let reply = if usize::try_from(length).is_ok_and(|length| length <= message_bytes_max) {
            let mut message = Vec::new();
            if (&mut input).take(length).read_to_end(&mut message).await? as u64 != length {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the input ended inside a frame"));
            }
            let rpc = Arc::clone(&rpc);
            let context = Context::new(caller.clone(), Trace::stdio());
            let call = tokio::spawn(async move { rpc.answer(context, &message).await });
            call.await.unwrap_or_else(|_| Fault::from(CallError::Unforeseen).reply())
        } else {
            tokio::io::copy(&mut (&mut input).take(length), &mut tokio::io::sink()).await?;
            too_large(message_bytes_max)
        };
        output.write_all(format!("Content-Length: {}\r\n\r\n", reply.body.len()).as_bytes()).await?;
        output.write_all(&reply.body).await?;
        output.flush().await?;
    }
    Ok(())
}

fn too_large(limit: usize) -> Reply {
    let message = format!("request body too large\nhint: send at most {limit} bytes, or raise server.max_body_bytes");
    Fault::new(Kind::RequestTooLarge, message).reply()
}

/// Reads the head of a frame: the length it declares, or nothing if the input
/// ended before it.
async fn head(input: &mut BufReader<impl AsyncRead + Unpin>) -> io::Result<Option<u64>> {
    let wrong = |problem: &str| io::Error::new(io::ErrorKind::InvalidData, problem.to_owned());
    let mut input = input.take(HEAD_BYTES_MAX);
    let mut length = None;
    let mut begun = false;
    loop {
        let mut line = Vec::new();
        if input.read_until(b'\n', &mut line).await? == 0 || !line.ends_with(b"\n") {
            return match input.limit() {
                0 => Err(wrong("the head of a frame is too long")),
                _ if begun || !line.is_empty() => Err(wrong("the input ended inside the head of a frame")),
                _ => Ok(None),
            };
        }
        begun = true;
        let line = line.trim_ascii();
        if line.is_empty() {
            return length.map(Some).ok_or_else(|| wrong("missing content length"));
        }
        let text = std::str::from_utf8(line).map_err(|_| wrong("the head of a frame is not text"))?;
        if let Some((name, value)) = text.split_once(':')
            && name.trim().eq_ignore_ascii_case("content-length")
        {
            length = Some(value.trim().parse().map_err(|_| wrong("invalid content length"))?);
        }
    }
}
