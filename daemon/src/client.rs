//! Calls tools of a server somewhere: over `/rpc`, over `/mcp`, or over the
//! pipes of a process that is started for it.

use std::time::Duration;

use rmcp::model::{CallToolRequestParams, CallToolResult, ContentBlock};
use rmcp::service::RunningService;
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use rmcp::{RoleClient, ServiceExt as _};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::process::{Child, Command};

use crate::talk::{printable, with_causes};

/// Bytes of an answer.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// How long a process may take to end once its input has.
const CHILD_WAIT: Duration = Duration::from_secs(5);

const NOBODY_THERE: &str =
    "\nhint: `runpackd serve` starts a server, --url says where one is, and --over pipe needs none";
const UNKNOWN_TO_IT: &str =
    "unauthenticated: the server does not know you\nhint: show who you are with --token-file, or with $RUNPACK_TOKEN";
const UNKNOWN_TOKEN: &str =
    "unauthenticated: the server does not know the token it was shown\nhint: compare --token-file, or $RUNPACK_TOKEN";

/// Where a server is, and how it is spoken to.
#[derive(Debug, Clone)]
pub enum Endpoint {
    /// The dialect of `/rpc`, at this URL.
    Rpc(String),
    /// The Model Context Protocol, at this URL.
    Mcp(String),
    /// The Model Context Protocol, over the pipes of this command.
    Pipe(Vec<String>),
}

/// A server to call.
#[derive(Debug, Clone)]
pub struct Client {
    /// Where it is.
    pub endpoint: Endpoint,
    /// What shows who we are.
    pub token: Option<String>,
    /// How long an answer may take.
    pub patience: Duration,
}

/// A tool as a server lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// What it does.
    pub description: String,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The server answered that it will not.
    #[error("{0}")]
    Refused(String),
    /// The server could not be asked.
    #[error("{0}")]
    Unreachable(String),
}

impl Client {
    /// The tools of the server.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn tools(&self) -> Result<Vec<Listed>, ClientError> {
        self.in_time(async {
            match &self.endpoint {
                Endpoint::Rpc(url) => {
                    let result = self.rpc(url, "tools/list", json!({})).await?;
                    let tools = result["tools"].as_array().cloned().unwrap_or_default();
                    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                    let listed =
                        |tool: &Value| Listed { name: text(&tool["name"]), description: text(&tool["description"]) };
                    Ok(tools.iter().map(listed).collect())
                }
                Endpoint::Mcp(_) | Endpoint::Pipe(_) => {
                    let session = self.session().await?;
                    let tools = session.service.list_all_tools().await.map_err(refused)?;
                    session.end().await;
                    let listed = tools.into_iter().map(|tool| Listed {
                        name: tool.name.into_owned(),
                        description: tool.description.unwrap_or_default().into_owned(),
                    });
                    Ok(listed.collect())
                }
            }
        })
        .await
    }

    /// What `tool` answers.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn call(&self, tool: &str, arguments: Value) -> Result<Value, ClientError> {
        self.in_time(async {
            match &self.endpoint {
                Endpoint::Rpc(url) => {
                    let params = json!({"name": tool, "arguments": arguments});
                    let mut result = self.rpc(url, "tools/call", params).await?;
                    let nothing = || ClientError::Unreachable("the answer has no content".to_owned());
                    result.pointer_mut("/content/0/json").map(Value::take).ok_or_else(nothing)
                }
                Endpoint::Mcp(_) | Endpoint::Pipe(_) => {
                    let Value::Object(arguments) = arguments else {
                        return Err(ClientError::Refused("the arguments are no object".to_owned()));
                    };
                    let session = self.session().await?;
                    let request = CallToolRequestParams::new(tool.to_owned()).with_arguments(arguments);
                    let result = session.service.call_tool(request).await.map_err(refused);
                    session.end().await;
                    answer(result?)
                }
            }
        })
        .await
    }

    async fn in_time<T>(&self, work: impl Future<Output = Result<T, ClientError>>) -> Result<T, ClientError> {
        let late = || {
            let seconds = self.patience.as_secs();
            ClientError::Unreachable(format!("no answer within {seconds} s\nhint: wait longer with --timeout-s"))
        };
        tokio::time::timeout(self.patience, work).await.unwrap_or_else(|_| Err(late()))
    }

    async fn rpc(&self, url: &str, method: &str, params: Value) -> Result<Value, ClientError> {
        #[derive(Deserialize)]
        struct Response {
            result: Option<Value>,
            error: Option<Error>,
        }
        #[derive(Deserialize)]
        struct Error {
            message: String,
            #[serde(default)]
            data: Value,
        }
        let unreachable = |error: reqwest::Error| {
            let hint = if error.is_connect() { NOBODY_THERE } else { "" };
            ClientError::Unreachable(format!("{}{hint}", with_causes(&error)))
        };
        let mut request =
            http()?.post(url).json(&json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}));
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        let mut response = request.send().await.map_err(unreachable)?;
        let status = response.status();
        let mut body = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(unreachable)? {
            if body.len() + piece.len() > ANSWER_BYTES_MAX {
                return Err(ClientError::Unreachable(format!("the answer has more than {ANSWER_BYTES_MAX} bytes")));
            }
            body.extend_from_slice(&piece);
        }
        // One event of a stream is the same answer.
        let data = body.strip_prefix(b"data: ").unwrap_or(&body);
        let Ok(response) = serde_json::from_slice::<Response>(data) else {
            let problem = format!("HTTP {status}, and the body is no answer of a runpackd\nhint: is this its /rpc?");
            return Err(ClientError::Unreachable(problem));
        };
        match (response.result, response.error) {
            (Some(result), None) => Ok(result),
            (_, Some(error)) => {
                let kind = error.data["kind"].as_str().unwrap_or("error");
                let text = printable(&format!("{kind}: {}", error.message));
                Err(if kind == "unauthenticated" { self.unknown() } else { ClientError::Refused(text) })
            }
            (None, None) => Err(ClientError::Unreachable("the answer is empty".to_owned())),
        }
    }

    async fn session(&self) -> Result<Session, ClientError> {
        let failed = |error: &dyn std::error::Error| ClientError::Unreachable(with_causes(error));
        match &self.endpoint {
            Endpoint::Rpc(url) | Endpoint::Mcp(url) => {
                let mut config = StreamableHttpClientTransportConfig::with_uri(url.as_str());
                config.max_json_response_size = ANSWER_BYTES_MAX;
                if let Some(token) = &self.token {
                    config = config.auth_header(token.clone());
                }
                let transport = StreamableHttpClientTransport::with_client(http()?, config);
                let service = ().serve(transport).await.map_err(|error| self.not_begun(&with_causes(&error)))?;
                Ok(Session { service, child: None })
            }
            Endpoint::Pipe(command) => {
                let (program, arguments) = command
                    .split_first()
                    .ok_or_else(|| ClientError::Unreachable("there is no command to start".to_owned()))?;
                let mut child = Command::new(program)
                    .args(arguments)
                    .stdin(std::process::Stdio::piped())
                    .stdout(std::process::Stdio::piped())
                    .kill_on_drop(true)
                    .spawn()
                    .map_err(|error| ClientError::Unreachable(format!("cannot start `{program}`: {error}")))?;
                let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
                    return Err(ClientError::Unreachable(format!("`{program}` has no pipes")));
                };
                let service = ().serve((stdout, stdin)).await.map_err(|error| failed(&error))?;
                Ok(Session { service, child: Some(child) })
            }
        }
    }

    /// The SDK wraps what went wrong on the way in types of its own, so that
    /// only its words are left to tell by.
    fn not_begun(&self, problem: &str) -> ClientError {
        if problem.contains("401") || problem.contains("Auth required") {
            return self.unknown();
        }
        let hint = if problem.contains("error sending request") { NOBODY_THERE } else { "" };
        ClientError::Unreachable(format!("{problem}{hint}"))
    }

    fn unknown(&self) -> ClientError {
        ClientError::Refused(if self.token.is_some() { UNKNOWN_TOKEN } else { UNKNOWN_TO_IT }.to_owned())
    }
}

struct Session {
    service: RunningService<RoleClient, ()>,
    child: Option<Child>,
}

impl Session {
    /// How a session ends changes nothing about the answer.
    async fn end(self) {
        let _ = self.service.cancel().await;
        if let Some(mut child) = self.child {
            let _ = tokio::time::timeout(CHILD_WAIT, child.wait()).await;
        }
    }
}

fn http() -> Result<reqwest::Client, ClientError> {
    // Somebody else may have installed it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().build();
    client.map_err(|error| ClientError::Unreachable(with_causes(&error)))
}

fn refused(error: rmcp::ServiceError) -> ClientError {
    match error {
        rmcp::ServiceError::McpError(error) => ClientError::Refused(printable(&error.message)),
        error => ClientError::Unreachable(with_causes(&error)),
    }
}

fn answer(result: CallToolResult) -> Result<Value, ClientError> {
    if result.is_error == Some(true) {
        let texts = result.content.iter().filter_map(ContentBlock::as_text).map(|text| text.text.as_str());
        return Err(ClientError::Refused(printable(&texts.collect::<Vec<_>>().join("\n"))));
    }
    let none = || ClientError::Unreachable("the answer has no structured content".to_owned());
    result.structured_content.ok_or_else(none)
}
