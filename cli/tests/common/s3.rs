//! An S3 server in the test process: s3s-fs with signatures checked.
//!
//! Three things are put right in front of it. Conditional requests go one at a
//! time, because s3s-fs looks and then writes. A body that is not what was
//! signed is refused before anything is written, because s3s-fs writes first.
//! A request that came in whole is worked on to its end, also if the client
//! has gone: that is what a lost answer means.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use std::convert::Infallible;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use object_store::ObjectStore;
use object_store::aws::AmazonS3Builder;
use runpack_core::canon::Digest;
use runpack_storage::packs::object::{BucketUrl, StoreOptions};
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s_fs::FileSystem;
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Mutex;

pub const BUCKET: &str = "packs";
pub const KEY_ID: &str = "AKIDEXAMPLE";
pub const SECRET: &str = "wJalrXUtnFEMI-EXAMPLEKEY";

/// The threads of servers and of proxies before them.
pub fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap())
}

/// A server with one empty bucket. It stops being served when the process ends.
pub struct S3 {
    pub port: u16,
    root: TempDir,
    served: Arc<Served>,
}

impl S3 {
    pub fn start() -> Self {
        let root = rooted();
        let (port, served) = serve(root.path(), 0);
        Self { port, root, served }
    }

    /// Waits until nothing that a client has sent is still worked on.
    pub fn rest(&self) {
        let mut quiet = 0;
        while quiet < 10 {
            std::thread::sleep(Duration::from_millis(10));
            quiet = if self.served.working.load(Ordering::SeqCst) == 0 { quiet + 1 } else { 0 };
        }
    }

    /// Where the objects are, as files.
    pub fn bucket(&self) -> PathBuf {
        self.root.path().join(BUCKET)
    }

    /// The file that is the object at `url`.
    pub fn object(&self, url: &str) -> PathBuf {
        self.bucket().join(url.strip_prefix("s3://packs/").unwrap())
    }

    /// `runpack` with this server's credentials and address, and nothing else of
    /// the environment.
    pub fn command(&self, args: &[&str]) -> Command {
        command(self.port, SECRET, args)
    }

    /// Exit code, stdout and stderr.
    pub fn told(&self, args: &[&str]) -> (i32, String, String) {
        told(&mut self.command(args))
    }
}

fn rooted() -> TempDir {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir(root.path().join(BUCKET)).unwrap();
    root
}

/// Serves what is in `root`; at any port, if none is given.
fn serve(root: &Path, port: u16) -> (u16, Arc<Served>) {
    let mut builder = S3ServiceBuilder::new(FileSystem::new(root).unwrap());
    builder.set_auth(SimpleAuth::from_single(KEY_ID, SECRET));
    let served =
        Arc::new(Served { service: builder.build(), one_at_a_time: Mutex::new(()), working: AtomicUsize::new(0) });
    let listener = runtime().block_on(TcpListener::bind(("127.0.0.1", port))).unwrap();
    let port = listener.local_addr().unwrap().port();
    let shared = Arc::clone(&served);
    runtime().spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(connection(Arc::clone(&shared), stream));
        }
    });
    (port, served)
}

/// A server in a process of its own, to be killed: this test once more, whose
/// first test calls [`serve_if_asked`].
pub struct Process {
    pub port: u16,
    pub root: TempDir,
    child: Child,
}

const SERVE: &str = "RUNPACK_TEST_SERVE";

impl Process {
    /// `test` is the name of the test that serves.
    pub fn start(test: &str) -> Self {
        let root = rooted();
        let (child, port) = Self::child(test, root.path(), 0);
        Self { port, root, child }
    }

    /// With SIGKILL.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// At the same port.
    pub fn restart(&mut self, test: &str) {
        self.child = Self::child(test, self.root.path(), self.port).0;
    }

    fn child(test: &str, root: &Path, port: u16) -> (Child, u16) {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", test, "--nocapture"]).env(SERVE, format!("{port} {}", root.display()));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let said = BufReader::new(child.stdout.take().unwrap()).lines();
        let port = said.map_while(Result::ok).find_map(|line| line.strip_prefix("at ")?.parse().ok()).unwrap();
        (child, port)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Serves for as long as whoever started this process lives, if it did for that.
pub fn serve_if_asked() {
    let Ok(asked) = std::env::var(SERVE) else { return };
    let (port, root) = asked.split_once(' ').unwrap();
    let (port, _served) = serve(Path::new(root), port.parse().unwrap());
    println!("\nat {port}");
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).ok();
}

/// `runpack` that finds a server at `port`.
pub fn command(port: u16, secret: &str, args: &[&str]) -> Command {
    let mut command = bare(args);
    command.env("AWS_ACCESS_KEY_ID", KEY_ID).env("AWS_SECRET_ACCESS_KEY", secret);
    command.args(["--store-option", &format!("endpoint=http://127.0.0.1:{port}")]);
    command.args(["--store-option", "allow_http=true"]);
    command
}

/// `runpack` without any environment.
pub fn bare(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_runpack"));
    command.env_clear().env("HOME", "/nonexistent").args(args);
    command
}

pub fn told(command: &mut Command) -> (i32, String, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

/// A client of the bucket `packs`. The product's own takes its keys from the
/// environment, which is everybody's in a test.
pub fn client(url: &str, id: &str, secret: &str) -> Arc<dyn ObjectStore> {
    crypto_provider();
    let builder = AmazonS3Builder::new().with_bucket_name(BUCKET).with_region("us-east-1").with_endpoint(url);
    let builder = builder.with_access_key_id(id).with_secret_access_key(secret).with_allow_http(true);
    Arc::new(builder.with_disable_bulk_delete(true).build().unwrap())
}

/// Opening any bucket installs it.
pub fn crypto_provider() {
    let mut options = StoreOptions::default();
    options.set("anonymous", "true").unwrap();
    options.open(&BucketUrl::parse("s3://packs").unwrap().unwrap()).unwrap();
}

struct Served {
    service: S3Service,
    one_at_a_time: Mutex<()>,
    working: AtomicUsize,
}

async fn connection(served: Arc<Served>, stream: TcpStream) {
    stream.set_nodelay(true).ok();
    let answer = service_fn(move |request| {
        let served = Arc::clone(&served);
        async move { Ok::<_, Infallible>(served.answer(request).await) }
    });
    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await.ok();
}

impl Served {
    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Response<s3s::Body> {
        let (head, body) = request.into_parts();
        let Ok(body) = body.collect().await else {
            return refusal("IncompleteBody");
        };
        let body = body.to_bytes();
        let signed = head.headers.get("x-amz-content-sha256").and_then(|value| value.to_str().ok());
        let is_digest = |text: &&str| text.len() == 64;
        if head.method == Method::PUT
            && signed.filter(is_digest).is_some_and(|text| text != Digest::of(&body).to_string())
        {
            return refusal("XAmzContentSHA256Mismatch");
        }
        let conditional = ["if-none-match", "if-match"].iter().any(|name| head.headers.contains_key(*name));
        let request = Request::from_parts(head, s3s::Body::from(body));
        self.working.fetch_add(1, Ordering::SeqCst);
        let work = async move {
            let turn = if conditional { Some(self.one_at_a_time.lock().await) } else { None };
            let answer = self.service.call(request).await;
            drop(turn);
            self.working.fetch_sub(1, Ordering::SeqCst);
            answer
        };
        tokio::spawn(work).await.unwrap().unwrap_or_else(|_| refusal("InternalError"))
    }
}

fn refusal(code: &str) -> Response<s3s::Body> {
    let body = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>{code}</Code></Error>");
    Response::builder().status(400).body(s3s::Body::from(body)).unwrap()
}
