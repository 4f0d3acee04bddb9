//! What is said to whoever runs the program, on stderr. Results go to stdout.
//!
//! Everything is said through `tracing`; here it gets its form: lines that
//! people read, or JSON that programs do.

use std::fmt::{self, Write as _};
use std::io::Write as _;

use clap::{Args, ValueEnum};
pub use runpack_core::text::printable;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;

/// What is logged
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct LogArgs {
    /// Log lines for people (text) or for programs (json, one object a line)
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormat,
    /// The least of what is logged: error, warn, info, or debug (every call)
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    pub log_level: LogLevel,
}

/// For whom lines are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs, reason = "the names say it")]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

/// How much is said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs, reason = "the names say it")]
pub enum LogLevel {
    Error,
    Warn,
    #[default]
    Info,
    Debug,
}

impl From<LogLevel> for LevelFilter {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Error => Self::ERROR,
            LogLevel::Warn => Self::WARN,
            LogLevel::Info => Self::INFO,
            LogLevel::Debug => Self::DEBUG,
        }
    }
}

/// From here on what is said is heard. Of libraries only errors are, if those
/// are: what they warn of is what clients do, and what a client of ours fails
/// by is what it returns.
pub fn begin(options: LogArgs, libraries: LevelFilter) {
    let ours = Targets::new().with_target("runpack", LevelFilter::from(options.log_level));
    let said = tracing_subscriber::registry().with(ours.with_default(libraries));
    let layer = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(std::io::stderr);
    // Somebody listens already: then it is theirs.
    let _ = match options.log_format {
        LogFormat::Text => said.with(layer.event_format(Lines)).try_init(),
        LogFormat::Json => said.with(layer.json().flatten_event(true).with_current_span(false)).try_init(),
    };
}

/// Says `text` on stderr as it is: what a command came to. Nobody listening is
/// no failure.
pub fn talk(text: &str) {
    let _ = writeln!(std::io::stderr(), "{}", printable(text));
}

/// An error with its causes, of which libraries tell the outermost alone; fit for
/// a terminal.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    for cause in std::iter::successors(error.source(), |cause| cause.source()) {
        let said = cause.to_string();
        if !text.ends_with(&said) {
            text = format!("{text}: {said}");
        }
    }
    printable(&text)
}

/// A line of text: how bad it is, what it is, and what belongs to it at the end
/// of the first line. Hints follow on lines of their own. No time: who collects
/// lines knows when they came.
struct Lines;

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut said = Said::default();
        event.record(&mut said);
        let how_bad = match *event.metadata().level() {
            Level::ERROR => "error: ",
            Level::WARN => "warning: ",
            Level::INFO => "",
            _ => "debug: ",
        };
        let (first, rest) = said.message.split_once('\n').map_or((said.message.as_str(), None), |(a, b)| (a, Some(b)));
        writeln!(writer, "{how_bad}{}{}", printable(first), printable(&said.fields))?;
        rest.map_or(Ok(()), |rest| writeln!(writer, "{}", printable(rest)))
    }
}

#[derive(Default)]
struct Said {
    message: String,
    fields: String,
}

impl Visit for Said {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing into a string does not fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let plain = !value.is_empty() && !value.contains(|c: char| c.is_whitespace() || c.is_control() || c == '"');
        match field.name() {
            "message" => self.message.push_str(value),
            name if plain => self.fields.extend([" ", name, "=", value]),
            _ => self.record_debug(field, &value),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Paper(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Paper {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_say_how_bad_it_is_and_cannot_be_forged() {
        let paper = Paper::default();
        let writer = paper.clone();
        let layer = tracing_subscriber::fmt::layer().with_writer(move || writer.clone()).event_format(Lines);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            tracing::info!("listening on {}", "http://127.0.0.1:4000");
            tracing::warn!(id = "a-1", run = "r\n\u{1b}[31m 1", missing = None::<&str>, "odd\u{7}\nhint: look");
            tracing::error!(code = -32050, took_us = 7_u64, "broken");
        });
        let text = String::from_utf8(paper.0.lock().unwrap().clone()).unwrap();
        assert_eq!(
            text,
            "listening on http://127.0.0.1:4000\n\
             warning: odd\\u{7} id=a-1 run=\"r\\n\\u{1b}[31m 1\"\nhint: look\n\
             error: broken code=-32050 took_us=7\n"
        );
    }
}
