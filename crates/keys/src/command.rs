use std::ffi::OsStr;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use runpack_core::trust::PublicKey;

use crate::{KeyError, Signer};

/// Bytes that a command may answer or complain.
const ANSWER_BYTES_MAX: u64 = 16 * 1024;

/// A command that signs, so that the key can live in another process, on
/// another machine or in a device.
///
/// It is given the message on standard input and answers with the signature on
/// standard output, as bytes or in base64: 64 bytes of Ed25519, or a DER
/// sequence of ECDSA. What it answers is checked with the public key.
pub struct Command {
    program: PathBuf,
    arguments: Vec<String>,
    /// Variables of our environment that it is given, besides `PATH` and `HOME`.
    environment: Vec<String>,
    timeout: Duration,
    public: PublicKey,
}

impl Command {
    /// A command that signs for `public`.
    pub fn new(
        program: PathBuf,
        arguments: Vec<String>,
        environment: Vec<String>,
        timeout: Duration,
        public: PublicKey,
    ) -> Self {
        Self { program, arguments, environment, timeout, public }
    }

    fn failed<T>(&self, problem: impl Into<String>) -> Result<T, KeyError> {
        Err(KeyError::Command { program: self.program.display().to_string(), problem: problem.into() })
    }
}

impl Signer for Command {
    fn public(&self) -> &PublicKey {
        &self.public
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        let mut command = std::process::Command::new(&self.program);
        command.args(&self.arguments).env_clear();
        let handed = ["PATH", "HOME"].into_iter().chain(self.environment.iter().map(String::as_str));
        for name in handed {
            if let Some(value) = std::env::var_os(OsStr::new(name)) {
                command.env(name, value);
            }
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // Of its own group, so that what it starts goes with it.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => return self.failed(format!("cannot be started: {error}")),
        };
        let (done, answer) = mpsc::channel();
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let message_sent = message.to_vec();
        // Threads that end when the pipes do, at the latest when the group is gone.
        std::thread::spawn(move || {
            // A command that has heard enough may close its end.
            stdin.map(|mut stdin| stdin.write_all(&message_sent).ok());
        });
        std::thread::spawn(move || {
            let complaint = std::thread::spawn(move || all(stderr));
            let said = all(stdout);
            done.send((said, complaint.join().unwrap_or_default())).ok();
        });
        let heard = answer.recv_timeout(self.timeout);
        let Ok((said, complaint)) = heard else {
            end(&mut child);
            return self.failed(format!("did not answer within {} ms", self.timeout.as_millis()));
        };
        // It closed its output; it gets as long again to end.
        match wait(&mut child, self.timeout) {
            Some(status) if status.success() => {}
            Some(status) => {
                let complaint = String::from_utf8_lossy(&complaint);
                let first = complaint.lines().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
                return self.failed(format!("failed ({status}): {first}"));
            }
            None => {
                end(&mut child);
                return self.failed("did not end");
            }
        }
        if self.public.verifies(message, &said) {
            return Ok(said);
        }
        let text: Vec<u8> = said.into_iter().filter(|byte| !byte.is_ascii_whitespace()).collect();
        match BASE64_STANDARD.decode(text) {
            Ok(signature) if self.public.verifies(message, &signature) => Ok(signature),
            _ => self.failed("answered with no signature of its public key over what it was given"),
        }
    }
}

fn all(pipe: Option<impl Read>) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        pipe.take(ANSWER_BYTES_MAX).read_to_end(&mut bytes).ok();
    }
    bytes
}

fn wait(child: &mut Child, timeout: Duration) -> Option<std::process::ExitStatus> {
    const PAUSE: Duration = Duration::from_millis(2);
    let pauses = timeout.as_millis() / PAUSE.as_millis();
    for _ in 0..=pauses {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(status);
        }
        std::thread::sleep(PAUSE);
    }
    None
}

/// Ends the command and what it started.
fn end(child: &mut Child) {
    #[cfg(unix)]
    if let Some(group) = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw) {
        rustix::process::kill_process_group(group, rustix::process::Signal::KILL).ok();
    }
    child.kill().ok();
    child.wait().ok();
}
