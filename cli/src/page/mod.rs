//! Pages of HTML about packs, for who would rather look than read. Each is one
//! file that needs nothing else: no script to be read, no address elsewhere.
//!
//! Everything a pack says is hostile. Markup is written by `maud`, which
//! escapes every value; `PreEscaped` stands in this file alone, around the two
//! files that are compiled in. The policy of a page allows just those two, by
//! their digests, so what slipped through would still not run.

mod fleet;
mod run;
mod timeline;

use std::fmt::Display;
use std::io::{self, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use runpack_core::canon::Digest;
use runpack_core::model::{Timestamp, TriState};
use runpack_core::pack::{Finding, Report, Severity, Verdict};

use crate::out::{printable, word};

pub(crate) use fleet::Fleet;
pub(crate) use run::run;

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("rehash.js");

/// Characters of one text, at most; what is longer says how long it was.
const TEXT_CHARS_MAX: usize = 300;

/// Where a page goes, piece by piece: a page is never in memory as a whole.
pub(crate) struct Page<'w> {
    to: &'w mut dyn Write,
}

impl<'w> Page<'w> {
    /// Begins a page, up to the first thing in its body.
    fn begin(to: &'w mut dyn Write, title: &str, with_script: bool) -> io::Result<Self> {
        let script = if with_script { format!("script-src 'sha256-{}'; ", base64_of(SCRIPT)) } else { String::new() };
        let policy = format!(
            "default-src 'none'; style-src 'sha256-{}'; {script}base-uri 'none'; form-action 'none'",
            base64_of(STYLE)
        );
        let mut page = Self { to };
        page.raw("<!DOCTYPE html>\n<html lang=\"en\"><head>")?;
        debug_assert_eq!(DOCTYPE.0, "<!DOCTYPE html>");
        page.put(&html! {
            meta charset="utf-8";
            meta http-equiv="Content-Security-Policy" content=(policy);
            meta name="referrer" content="no-referrer";
            meta name="viewport" content="width=device-width, initial-scale=1";
            meta name="generator" content=(concat!("runpack ", env!("CARGO_PKG_VERSION")));
            title { (clean(title)) }
            style { (PreEscaped(STYLE)) }
        })?;
        page.raw("</head><body>\n")?;
        Ok(page)
    }

    /// One more piece.
    fn put(&mut self, piece: &Markup) -> io::Result<()> {
        self.raw(&piece.0)
    }

    /// Text of ours, never of a pack.
    fn raw(&mut self, text: &str) -> io::Result<()> {
        self.to.write_all(text.as_bytes())
    }

    /// Ends the page.
    fn end(mut self, with_script: bool) -> io::Result<()> {
        self.raw("</main>\n")?;
        if with_script {
            self.put(&html! { script { (PreEscaped(SCRIPT)) } })?;
        }
        self.raw("</body></html>\n")?;
        self.to.flush()
    }
}

fn base64_of(text: &str) -> String {
    STANDARD.encode(Digest::of(text.as_bytes()).as_bytes())
}

/// Text of a pack as a page may hold it: nothing hidden, and not endless.
fn clean(text: impl Display) -> String {
    let text = text.to_string();
    let mut kept: String = text.chars().take(TEXT_CHARS_MAX).collect();
    if kept.len() < text.len() {
        kept.push_str(&format!("… ({} bytes)", text.len()));
    }
    printable(&kept)
}

/// Text of a pack. Set apart, so that letters written from right to left turn
/// nothing around that stands beside them.
fn words(text: impl Display) -> Markup {
    html! { bdi { (clean(text)) } }
}

/// The same, as something to be typed.
fn name(text: impl Display) -> Markup {
    html! { code { bdi { (clean(text)) } } }
}

fn time(at: Timestamp) -> Markup {
    match at.utc() {
        Some(utc) => html! { time datetime=(utc) { (utc) } },
        None => html! { (at) },
    }
}

/// A digest in groups, to be compared by eye; copied, it is one word.
fn hex(digest: &Digest) -> Markup {
    let text = digest.to_string();
    let groups: Vec<_> = (0..text.len()).step_by(8).map(|at| &text[at..at + 8]).collect();
    html! { span.hex { @for group in groups { span { (group) } wbr; } } }
}

fn tri(status: TriState) -> Markup {
    html! { span.{ "chip " (kind_of(status)) } { (status) } }
}

/// The class that colours a status; its word is always there, too.
fn kind_of(status: TriState) -> &'static str {
    match status {
        TriState::True => "yes",
        TriState::False => "no",
        TriState::Unknown => "maybe",
    }
}

/// The class that colours a verdict, and its mark.
fn look(verdict: Verdict) -> (&'static str, &'static str) {
    match verdict {
        Verdict::Consistent | Verdict::Pinned | Verdict::Signed => ("yes", "✓"),
        Verdict::Refused => ("no", "✗"),
        Verdict::CouldNotTell => ("maybe", "?"),
    }
}

/// A verdict with its mark, which is there for who sees no colours.
fn marked(verdict: Verdict) -> String {
    format!("{} {}", look(verdict).1, word(verdict))
}

/// What is said in a line elsewhere, as a sentence.
fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| format!("{}{}.", first.to_uppercase(), letters.as_str()))
}

fn severity_words(severity: Severity) -> (&'static str, &'static str) {
    match severity {
        Severity::Error => ("no", "error"),
        Severity::CouldNotTell => ("maybe", "could not tell"),
        Severity::Warning => ("maybe", "warning"),
    }
}

/// The place of a finding: a file, and a JSON pointer in it.
fn place(finding: &Finding) -> String {
    let mark = if finding.pointer.is_empty() { "" } else { "#" };
    format!("{}{mark}{}", finding.artifact, finding.pointer)
}

/// Findings a report has, kept or not.
fn findings_count(report: &Report) -> u64 {
    report.findings.len() as u64 + report.findings_left_out
}

/// "1 thing", "2 things".
fn count(number: impl Into<u64>, what: &str) -> String {
    let number = number.into();
    format!("{} {what}{}", grouped(number), if number == 1 { "" } else { "s" })
}

/// 12,345: thousands are told apart.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Which of `count` things are shown where there is room for `room`: the lowest
/// ranks first, and within a rank the earlier ones. Rank 0 is always shown.
fn chosen(count: usize, room: usize, rank: impl Fn(usize) -> u8) -> Vec<bool> {
    let mut shown = vec![false; count];
    let mut order: Vec<_> = (0..count).map(|index| (rank(index), index)).collect();
    order.sort_unstable();
    for (place, (rank, index)) in order.into_iter().enumerate() {
        if rank > 0 && place >= room {
            break;
        }
        shown[index] = true;
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_shown_whatever_the_room() {
        let rank = |index: usize| [2, 0, 1, 0, 1, 0][index];
        assert_eq!(chosen(6, 0, rank), [false, true, false, true, false, true]);
        assert_eq!(chosen(6, 4, rank), [false, true, true, true, false, true]);
        assert_eq!(chosen(6, 9, rank), [true; 6]);
    }

    #[test]
    fn nothing_hidden_and_nothing_endless_comes_through() {
        assert_eq!(clean("a\u{202e}b\u{0}\u{200b}"), "a\\u{202e}b\\u{0}\\u{200b}");
        assert_eq!(clean("ü".repeat(400)), format!("{}… (800 bytes)", "ü".repeat(300)));
        assert_eq!(words("<script>&\"").0, "<bdi>&lt;script&gt;&amp;&quot;</bdi>");
    }

    #[test]
    fn every_finding_is_about_something_that_has_a_row() {
        for code in runpack_core::pack::Code::ALL {
            assert!(run::GROUPS.iter().any(|(group, ..)| code.as_str().starts_with(group)), "{code}");
        }
    }

    #[test]
    fn numbers_are_grouped() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(count(1_u64, "gate") + &count(2_u64, "gate"), "1 gate2 gates");
    }

    /// What is compiled in ends where it should, whatever is written into it.
    #[test]
    fn what_is_compiled_in_closes_no_element() {
        for text in [STYLE, SCRIPT] {
            assert!(!text.contains("</") && !text.contains("<!--"));
        }
    }
}
