use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::header::HeaderValue;
use runpack_core::model::{DispatchTarget, TargetKind};
use runpack_providers::{GuardedClient, GuardedError, GuardedOptions, Lookup, Reach, system_lookup};

use crate::DispatchError;
use crate::content::{Parcel, resolve};
use crate::sink::{Callback, Channels, LogFile};
use crate::source::{SourceOptions, Sources};

pub(crate) const USER_AGENT: &str = concat!("runpackd/", env!("CARGO_PKG_VERSION"));

/// What a broker is made of.
#[derive(Debug, Clone, Default)]
pub struct BrokerOptions {
    /// Where content is got from, if a packet only refers to it.
    pub sources: SourceOptions,
    /// Who is called, in any order.
    pub callbacks: Vec<CallbackOptions>,
    /// The log, for agents and other systems that nobody is called for.
    pub log: Option<PathBuf>,
}

/// A URL that messages for some targets are posted to.
#[derive(Clone)]
pub struct CallbackOptions {
    /// For whom.
    pub to: Addressee,
    /// Where. Unless it is `own`, it is `https:`, its host is on no list of
    /// hosts to be refused, and all its addresses are public.
    pub url: String,
    /// Whether the URL is the operator's own: `http:` will do then, and so will
    /// this machine and its network. Where clouds hand out credentials is never
    /// called.
    pub own: bool,
    /// What to send as `authorization: Bearer …`.
    pub bearer_token: Option<String>,
    /// From calling to the answer.
    pub timeout: Duration,
}

impl fmt::Debug for CallbackOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { to, url, own, bearer_token, timeout } = self;
        let token = bearer_token.as_ref().map(|_| "…");
        f.debug_struct("CallbackOptions")
            .field("to", to)
            .field("url", url)
            .field("own", own)
            .field("bearer_token", &token)
            .field("timeout", timeout)
            .finish()
    }
}

/// Some targets: of a kind, and of those one, or all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addressee {
    /// Of which kind.
    pub kind: TargetKind,
    /// Of external targets the system; without it all.
    pub system: Option<String>,
    /// The agent, session or channel, or the target in a system; without it all.
    pub id: Option<String>,
}

impl Addressee {
    /// How closely this names the target; `None` if it is not among those meant.
    fn fits(&self, target: &DispatchTarget) -> Option<usize> {
        let (system, id) = match target {
            DispatchTarget::Agent { agent_id } => (None, agent_id.as_str()),
            DispatchTarget::Session { session_id } => (None, session_id.as_str()),
            DispatchTarget::External { system, target } => (Some(system.as_str()), target.as_str()),
            DispatchTarget::Channel { channel } => (None, channel.as_str()),
        };
        let meant = self.kind == target.kind()
            && (self.system.is_none() || self.system.as_deref() == system)
            && (self.id.is_none() || self.id.as_deref() == Some(id));
        meant.then_some(usize::from(self.system.is_some()) + usize::from(self.id.is_some()))
    }
}

/// A target, for people.
pub(crate) fn name(target: &DispatchTarget) -> String {
    match target {
        DispatchTarget::Agent { agent_id } => format!("agent {agent_id}"),
        DispatchTarget::Session { session_id } => format!("session {session_id}"),
        DispatchTarget::External { system, target } => format!("external {system} {target}"),
        DispatchTarget::Channel { channel } => format!("channel {channel}"),
    }
}

/// Why a broker cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The directory of files cannot be opened.
    #[error("file_root: cannot open `{}`: {source}", path.display())]
    FileRoot {
        /// As configured.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// An entry is no host.
    #[error(
        "{list}: `{host}` is not a host\nhint: give names or addresses, without scheme, port or path; `*.` before a name stands for all below it"
    )]
    Host {
        /// Which list.
        list: &'static str,
        /// The entry.
        host: String,
    },
    /// The URL of a callback is not called.
    #[error("callbacks: `{url}`: {problem}{}", hint(*problem))]
    Url {
        /// As configured.
        url: String,
        /// Why.
        problem: GuardedError,
    },
    /// Two callbacks are for the same targets.
    #[error("callbacks: two are for the same targets: `{0}` and `{1}`")]
    Twice(String, String),
    /// A system is named for targets that have none.
    #[error("callbacks: `{0}`: only external targets have a system, and a target has one only in a system")]
    System(String),
    /// No header can carry the token.
    #[error("callbacks: the token for `{0}` cannot be sent in a header")]
    Token(String),
    /// The log cannot be opened.
    #[error("log: cannot open `{}`: {source}", path.display())]
    Log {
        /// As configured.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

fn hint(problem: GuardedError) -> &'static str {
    match problem {
        GuardedError::Scheme | GuardedError::Address => {
            "\nhint: own = true calls this machine, its network, and http:; where clouds hand out credentials is never called"
        }
        _ => "",
    }
}

/// Gets the content of parcels and hands it to sinks, by target: to the callback
/// that names it most closely; of sessions and channels the rest to those who
/// subscribed in this process; of agents and other systems the rest to the log.
pub struct Broker {
    sources: Sources,
    callbacks: Vec<(Addressee, Callback)>,
    channels: Channels,
    log: Option<LogFile>,
}

enum Sink<'b> {
    Callback(&'b Callback),
    Channel,
    Log(&'b LogFile),
}

impl Broker {
    /// A broker that asks the operating system for the addresses of names.
    ///
    /// # Errors
    /// See [`SetupError`].
    pub fn new(options: &BrokerOptions) -> Result<Self, SetupError> {
        Self::with_lookup(options, &system_lookup())
    }

    /// A broker that finds the addresses of names by `lookup`.
    ///
    /// # Errors
    /// See [`SetupError`].
    pub fn with_lookup(options: &BrokerOptions, lookup: &Lookup) -> Result<Self, SetupError> {
        let sources = Sources::new(&options.sources, lookup.clone())?;
        let mut callbacks: Vec<(Addressee, Callback)> = Vec::new();
        for callback in &options.callbacks {
            let to = &callback.to;
            let systems = to.kind == TargetKind::External;
            if (to.system.is_some() && !systems) || (systems && to.id.is_some() && to.system.is_none()) {
                return Err(SetupError::System(callback.url.clone()));
            }
            if let Some((_, other)) = callbacks.iter().find(|(other, _)| other == to) {
                return Err(SetupError::Twice(other.url.to_string(), callback.url.clone()));
            }
            callbacks.push((to.clone(), callback_of(callback, &sources, lookup)?));
        }
        let open =
            |path: &PathBuf| LogFile::open(path).map_err(|source| SetupError::Log { path: path.clone(), source });
        let log = options.log.as_ref().map(open).transpose()?;
        Ok(Self { sources, callbacks, channels: Channels::default(), log })
    }

    /// Where others in this process subscribe.
    pub fn channels(&self) -> &Channels {
        &self.channels
    }

    /// What deliveries to this target wait for together: if one fails, others
    /// with the same name are likely to. `None` if there is no sink for it.
    pub fn route(&self, target: &DispatchTarget) -> Option<String> {
        Some(match self.sink(target)? {
            Sink::Callback(callback) => {
                // What follows a `?` may be a secret.
                let mut url = callback.url.clone();
                url.set_query(None);
                url.to_string()
            }
            Sink::Channel => name(target),
            Sink::Log(_) => "log".to_owned(),
        })
    }

    /// Tries once; what came of it, for people.
    ///
    /// The content is got, compared and handed over, or nothing is handed over.
    /// If the answer of a callback is lost it was handed over all the same, so
    /// after an error it may arrive twice, under the same id.
    ///
    /// # Errors
    /// See [`DispatchError`].
    pub async fn deliver(&self, parcel: Parcel) -> Result<String, DispatchError> {
        let sink = self.sink(&parcel.target).ok_or_else(|| DispatchError::NoSink(name(&parcel.target)))?;
        let message = resolve(parcel, &self.sources).await?;
        Ok(match sink {
            Sink::Callback(callback) => format!("callback answered {}", callback.send(&message).await?),
            Sink::Channel => match self.channels.send(message)? {
                1 => "taken by 1 subscriber".to_owned(),
                count => format!("taken by {count} subscribers"),
            },
            Sink::Log(log) => {
                log.write(&message).await?;
                "logged".to_owned()
            }
        })
    }

    fn sink(&self, target: &DispatchTarget) -> Option<Sink<'_>> {
        let callbacks = self.callbacks.iter().filter_map(|(to, callback)| Some((to.fits(target)?, callback)));
        if let Some((_, callback)) = callbacks.max_by_key(|(closely, _)| *closely) {
            return Some(Sink::Callback(callback));
        }
        match target {
            DispatchTarget::Session { .. } | DispatchTarget::Channel { .. } => Some(Sink::Channel),
            DispatchTarget::Agent { .. } | DispatchTarget::External { .. } => self.log.as_ref().map(Sink::Log),
        }
    }
}

fn callback_of(options: &CallbackOptions, sources: &Sources, lookup: &Lookup) -> Result<Callback, SetupError> {
    let client = GuardedOptions {
        allow_http: options.own,
        farthest: if options.own { Reach::Internal } else { Reach::Public },
        timeout: options.timeout,
        user_agent: HeaderValue::from_static(USER_AGENT),
    };
    let client = GuardedClient::new(client, lookup.clone());
    let refused = |problem| SetupError::Url { url: options.url.clone(), problem };
    let url = client.url(&options.url).map_err(refused)?;
    client.admit(&url).map_err(refused)?;
    if !options.own && url.host_str().is_some_and(|host| sources.denies(host)) {
        return Err(refused(GuardedError::Host));
    }
    let header = |token: &String| {
        let mut value =
            HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| SetupError::Token(options.url.clone()))?;
        value.set_sensitive(true);
        Ok(value)
    };
    let authorization = options.bearer_token.as_ref().map(header).transpose()?;
    Ok(Callback { client, url, authorization })
}
