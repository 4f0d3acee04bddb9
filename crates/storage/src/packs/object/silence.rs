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
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::{Duration, Instant};

    use futures_util::future::BoxFuture;
    use object_store::ClientOptions;
    use object_store::client::{
        HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService, ReqwestConnector,
    };

    use super::Silence;

    /// Makes clients that give up on an address at which nothing ever answered.
    #[derive(Debug)]
    pub(in super::super) struct Watched {
        /// When to give up.
        pub(in super::super) after: Duration,
        /// What to do about it.
        pub(in super::super) hint: &'static str,
    }

    impl HttpConnector for Watched {
        fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
            let client = ReqwestConnector::default().connect(options)?;
            let (answered, began) = (AtomicBool::new(false), OnceLock::new());
            Ok(HttpClient::new(Watch { client, after: self.after, hint: self.hint, answered, began }))
        }
    }

    #[derive(Debug)]
    struct Watch {
        client: HttpClient,
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
            let error = match self.client.execute(request).await {
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
