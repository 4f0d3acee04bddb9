//! Whether anybody is there at all, and that it takes long.
//!
//! A store that is busy or restarts is worth waiting for. An address at which
//! nothing has ever answered is most often a wrong one.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Trying for longer than this is told.
const TELL_AFTER: Duration = Duration::from_secs(3);

/// Seconds until it is told again.
const TELL_EVERY: u64 = 60;

static TELL: OnceLock<fn(&str)> = OnceLock::new();

/// Whom to tell, in a line, that a store is still being tried; one for the
/// process. Without it nobody is told.
pub fn on_waiting(tell: fn(&str)) {
    TELL.set(tell).ok();
}

/// Tells it, if it has gone on for a while: many requests wait for one store,
/// and one line is enough.
pub(super) fn waiting(since: Instant, why: impl FnOnce() -> String) {
    static BEGAN: OnceLock<Instant> = OnceLock::new();
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let Some(tell) = TELL.get() else { return };
    if since.elapsed() < TELL_AFTER {
        return;
    }
    let now = BEGAN.get_or_init(Instant::now).elapsed().as_secs();
    let mine = |due: u64| (now >= due).then_some(now + TELL_EVERY);
    if NEXT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, mine).is_ok() {
        let why = why();
        tell(why.lines().next().unwrap_or_default());
    }
}

#[cfg(any(feature = "s3", feature = "azure", feature = "gcs"))]
pub(super) use http::Watched;

/// Nothing has ever answered.
#[derive(Debug, thiserror::Error)]
#[error("nothing answers at `{endpoint}`: {cause}\nhint: {hint}")]
pub(super) struct Silence {
    endpoint: String,
    cause: String,
    hint: &'static str,
}

impl Silence {
    /// What `error` comes down to, if it does.
    pub(super) fn beneath<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a Self> {
        error.downcast_ref().or_else(|| Self::beneath(error.source()?))
    }
}

#[cfg(any(feature = "s3", feature = "azure", feature = "gcs"))]
mod http {
    use std::error::Error;
    use std::io;
    use std::pin::pin;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    use std::time::{Duration, Instant};

    use futures_util::future::BoxFuture;
    use object_store::ClientOptions;
    use object_store::client::{
        HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService, ReqwestConnector,
    };

    use super::Silence;

    /// For a body of an answer that stops halfway.
    const UNHURRIED: Duration = Duration::from_secs(600);

    /// Bytes on their way for which an answer may take as long again.
    const SENT_PER_TIMEOUT: u64 = 4 * 1024 * 1024;

    /// Makes clients that give up on an address at which nothing ever answered,
    /// and that do not take a slow way there for a store that is silent.
    #[derive(Debug)]
    pub(in super::super) struct Watched {
        /// How long nothing may come, while nothing is sent.
        pub(in super::super) read_timeout: Duration,
        /// When to give up.
        pub(in super::super) after: Duration,
        /// What to do about it.
        pub(in super::super) hint: &'static str,
    }

    impl HttpConnector for Watched {
        fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
            let reader = ReqwestConnector::default().connect(options)?;
            // Its clock would run while the request is still on its way.
            let unhurried = options.clone().with_read_timeout(UNHURRIED.max(self.read_timeout));
            let sender = ReqwestConnector::default().connect(&unhurried)?;
            Ok(HttpClient::new(Watch {
                reader,
                sender,
                read_timeout: self.read_timeout,
                sending: AtomicU64::new(0),
                after: self.after,
                hint: self.hint,
                answered: AtomicBool::new(false),
                began: OnceLock::new(),
            }))
        }
    }

    #[derive(Debug)]
    struct Watch {
        /// For requests without a body, and for those with one.
        reader: HttpClient,
        sender: HttpClient,
        read_timeout: Duration,
        /// Bytes of all bodies that are on their way.
        sending: AtomicU64,
        after: Duration,
        hint: &'static str,
        answered: AtomicBool,
        /// When the first request was sent that could not connect.
        began: OnceLock<Instant>,
    }

    impl Watch {
        async fn answer(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
            let now = Instant::now();
            let uri = request.uri();
            let endpoint = format!(
                "{}://{}",
                uri.scheme_str().unwrap_or_default(),
                uri.authority().map_or("", |authority| authority.as_str())
            );
            let error = match self.executed(request).await {
                Ok(response) => {
                    self.answered.store(true, Ordering::Relaxed);
                    return Ok(response);
                }
                Err(error) => error,
            };
            if self.answered.load(Ordering::Relaxed) || !is_connect(&error) {
                return Err(error);
            }
            let began = *self.began.get_or_init(|| now);
            let cause = innermost(&error);
            super::waiting(began, || format!("`{endpoint}`: {cause}"));
            if began.elapsed() < self.after {
                return Err(error);
            }
            Err(HttpError::new(HttpErrorKind::Unknown, Silence { endpoint, cause, hint: self.hint }))
        }
    }

    impl Watch {
        async fn executed(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
            let bytes = request.body().content_length() as u64;
            if bytes == 0 {
                return self.reader.execute(request).await;
            }
            let sending = Sending::begin(&self.sending, bytes);
            let mut answer = pin!(self.sender.execute(request));
            let began = Instant::now();
            let mut most = 0;
            loop {
                if let Ok(answer) = tokio::time::timeout(self.read_timeout, &mut answer).await {
                    return answer;
                }
                // What others send takes the same way.
                most = sending.all().max(most);
                let shares = u32::try_from(most / SENT_PER_TIMEOUT).unwrap_or(u32::MAX);
                if began.elapsed() >= self.read_timeout.saturating_mul(shares.saturating_add(1)) {
                    let timed_out = io::Error::from(io::ErrorKind::TimedOut);
                    return Err(HttpError::new(HttpErrorKind::Timeout, timed_out));
                }
            }
        }
    }

    /// Counted for as long as it is on its way.
    struct Sending<'a>(&'a AtomicU64, u64);

    impl<'a> Sending<'a> {
        fn begin(all: &'a AtomicU64, bytes: u64) -> Self {
            all.fetch_add(bytes, Ordering::Relaxed);
            Self(all, bytes)
        }

        fn all(&self) -> u64 {
            self.0.load(Ordering::Relaxed)
        }
    }

    impl Drop for Sending<'_> {
        fn drop(&mut self) {
            self.0.fetch_sub(self.1, Ordering::Relaxed);
        }
    }

    impl HttpService for Watch {
        // As the attribute that the trait is declared with writes it.
        fn call<'life0, 'async_trait>(
            &'life0 self,
            request: HttpRequest,
        ) -> BoxFuture<'async_trait, Result<HttpResponse, HttpError>>
        where
            'life0: 'async_trait,
            Self: 'async_trait,
        {
            Box::pin(self.answer(request))
        }
    }

    /// Also a connection that was not made in time.
    fn is_connect(error: &HttpError) -> bool {
        let source = error.source().and_then(|source| source.downcast_ref::<reqwest::Error>());
        source.is_some_and(reqwest::Error::is_connect)
    }

    fn innermost(error: &dyn Error) -> String {
        match error.source() {
            Some(source) => innermost(source),
            None => error.to_string(),
        }
    }
}
