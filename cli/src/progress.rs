//! How far it is, on stderr: a bar for people, lines of JSON for programs.

use std::io::{self, IsTerminal};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};

use crate::out;

/// What is said while work goes on.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct ProgressArgs {
    /// How to tell how far it is, on stderr
    #[arg(long, value_enum, default_value_t = Progress::Auto)]
    progress: Progress,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Progress {
    /// A bar on a terminal, nothing in a pipe
    Auto,
    /// A line of JSON for each pack
    Json,
    /// Nothing
    None,
}

/// Whether stderr is kept free of talk that nobody asked for.
static QUIET: AtomicBool = AtomicBool::new(false);

/// The bar that is shown, around which everything else is written.
static SHOWN: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// Says that a store is still being tried; not where stderr is a program's.
#[cfg(feature = "object-store")]
pub(crate) fn waiting(why: &str) {
    if !QUIET.load(Ordering::Relaxed) {
        out::talk(format_args!("still trying: {why}"));
    }
}

/// Writes something without leaving pieces of a bar in it.
pub(crate) fn aside(write: impl FnOnce()) {
    let bar = SHOWN.lock().unwrap_or_else(PoisonError::into_inner).clone();
    match bar {
        Some(bar) => bar.suspend(write),
        None => write(),
    }
}

impl ProgressArgs {
    /// As it was asked for, from here on.
    pub(crate) fn begin(self) {
        QUIET.store(self.progress != Progress::Auto, Ordering::Relaxed);
    }

    /// For so many packs; one alone has no bar.
    pub(crate) fn meter(self, packs: usize) -> Meter {
        let bar = self.progress == Progress::Auto && packs > 1 && io::stderr().is_terminal();
        let bar = bar.then(|| bar_of(packs as u64));
        SHOWN.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&bar);
        Meter { json: self.progress == Progress::Json, bar, done: 0, packs }
    }
}

/// Counts packs.
pub(crate) struct Meter {
    json: bool,
    bar: Option<ProgressBar>,
    done: usize,
    packs: usize,
}

impl Meter {
    /// One more is done.
    pub(crate) fn step(&mut self) {
        self.done += 1;
        if let Some(bar) = &self.bar {
            bar.inc(1);
        }
        if self.json {
            out::talk(format_args!("{{\"done\":{},\"total\":{}}}", self.done, self.packs));
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
            SHOWN.lock().unwrap_or_else(PoisonError::into_inner).take();
        }
    }
}

fn bar_of(packs: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} packs, {eta} left");
    let bar = ProgressBar::new(packs);
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
