//! The page of many packs.

use std::io::{self, Write};

use maud::{Markup, html};
use runpack_core::canon::Digest;
use runpack_core::pack::{Report, Subject, Verdict};

use super::{Page, clean, count, findings_count, grouped, hex, look, marked, name, place, severity_words, time, words};

/// Findings of one pack that are shown; further ones are counted.
const FINDINGS_MAX: usize = 5;

/// What is kept of many packs: of those that passed as many as there is room
/// for, of all others everything that is shown.
pub(crate) struct Fleet {
    passed_max: usize,
    passed: Vec<Row>,
    others: Vec<Row>,
    /// Consistent, pinned, signed, refused, could not tell.
    counts: [u64; 5],
    /// Packs not looked at because of Ctrl-C.
    pub(crate) left: u64,
}

struct Row {
    path: String,
    verdict: Verdict,
    subject: Option<Subject>,
    digest: Option<Digest>,
    /// Why it could not even be opened.
    error: Option<String>,
    /// Code, class of its severity, message and place.
    findings: Vec<(&'static str, &'static str, String, String)>,
    findings_count: u64,
}

impl Fleet {
    /// With room for so many packs that passed.
    pub(crate) fn new(passed_max: usize) -> Self {
        Self { passed_max, passed: Vec::new(), others: Vec::new(), counts: [0; 5], left: 0 }
    }

    /// One more pack, as it is to be called.
    pub(crate) fn add(&mut self, path: &str, answer: &Result<Report, String>) {
        let verdict = answer.as_ref().map_or(Verdict::CouldNotTell, |report| report.verdict);
        let counted = match verdict {
            Verdict::Consistent => 0,
            Verdict::Pinned => 1,
            Verdict::Signed => 2,
            Verdict::Refused => 3,
            Verdict::CouldNotTell => 4,
        };
        self.counts[counted] += 1;
        if verdict.passed() && self.passed.len() >= self.passed_max {
            return;
        }
        let (report, error) = match answer {
            Ok(report) => (Some(report), None),
            Err(error) => (None, Some(clean(error))),
        };
        let findings = report.iter().flat_map(|report| &report.findings).take(FINDINGS_MAX).map(|finding| {
            let (kind, _) = severity_words(finding.severity);
            (finding.code.as_str(), kind, clean(&finding.message), clean(place(finding)))
        });
        let row = Row {
            path: clean(path),
            verdict,
            subject: report.and_then(|report| report.subject.clone()),
            digest: report.and_then(|report| report.pack_digest),
            error,
            findings: findings.collect(),
            findings_count: report.map_or(0, findings_count),
        };
        if verdict.passed() { self.passed.push(row) } else { self.others.push(row) }
    }

    /// Writes the page.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn write(&self, to: &mut dyn Write) -> io::Result<()> {
        let [consistent, pinned, signed, refused, unsure] = self.counts;
        let passed = consistent + pinned + signed;
        let all: u64 = self.counts.iter().sum();
        let kind = if refused > 0 {
            "no"
        } else if unsure + self.left > 0 {
            "maybe"
        } else {
            "yes"
        };
        let word = match kind {
            "yes" if all == 0 => "no packs".to_owned(),
            "yes" => format!("✓ all {} passed", grouped(all)),
            "no" => format!("✗ {} refused", grouped(refused)),
            _ if unsure == 0 => "? interrupted".to_owned(),
            _ => format!("? {} could not be checked", grouped(unsure)),
        };
        let mut page = Page::begin(to, &format!("{}: {word}", count(all, "pack")), false)?;
        page.put(&html! {
            a.skip href="#verdict" { "Skip to the verdict" }
            header { h1 { (count(all, "pack")) } }
            nav aria-label="On this page" {
                ul {
                    li { a href="#verdict" { "Verdict" } }
                    li { a href="#attention" { "What needs attention (" (grouped(refused + unsure)) ")" } }
                    li { a href="#passed" { "Passed (" (grouped(passed)) ")" } }
                }
            }
        })?;
        page.raw("<main>\n")?;
        page.put(&html! {
            section id="verdict" aria-labelledby="verdict-word" {
                div.{ "verdict " (kind) } {
                    p.word id="verdict-word" { (word) }
                    p { (grouped(passed)) " passed, of these " (grouped(pinned)) " pinned and " (grouped(signed)) " signed; "
                        (grouped(refused)) " refused; " (grouped(unsure)) " could not be checked." }
                }
                @if self.left > 0 { p.warn { "Interrupted: " (count(self.left, "pack")) " not looked at." } }
                (share([passed, refused, unsure]))
                p.faint { "A pack that passed agrees with itself: files, digests, records, and every decision decided again. Unless its digest was expected from outside, or trusted keys signed it, it may have been replaced whole. Whether evidence was true is not asked." }
            }
        })?;
        page.raw("<section id=\"attention\"><h2>What needs attention</h2>")?;
        if self.others.is_empty() {
            page.raw("<p>Nothing.</p>")?;
        }
        for row in &self.others {
            page.put(&row.attention())?;
        }
        page.raw("</section><section id=\"passed\"><h2>Passed</h2>")?;
        page.put(&html! {
            @if (self.passed.len() as u64) < passed {
                p { strong { "The first " (grouped(self.passed.len() as u64)) " of " (grouped(passed)) } " are listed; "
                    code { "--max-details" } " lists more." }
            }
        })?;
        if self.passed.is_empty() {
            return page.raw("<p>None.</p></section>\n").and_then(|()| page.end(false));
        }
        page.raw(
            "<table><thead><tr><th scope=\"col\">Pack</th><th scope=\"col\">Run</th><th scope=\"col\">Exported</th>\
             <th scope=\"col\">Pack digest</th></tr></thead><tbody>",
        )?;
        for row in &self.passed {
            page.put(&row.passed())?;
        }
        page.raw("</tbody></table></section>\n")?;
        page.end(false)
    }
}

impl Row {
    fn attention(&self) -> Markup {
        let (kind, _) = look(self.verdict);
        html! {
            article.{ "finding " (if kind == "no" { "" } else { kind }) } {
                h3 { (name(&self.path)) " " span.{ "chip " (kind) } { (marked(self.verdict)) } }
                @if let Some(subject) = &self.subject { p.faint { (whose(subject)) ", exported " (time(subject.generated_at)) } }
                @if let Some(error) = &self.error { p { (words(error)) } }
                @if !self.findings.is_empty() {
                    ul {
                        @for (code, kind, message, place) in &self.findings {
                            li { span.{ "chip " (kind) } { (code) } " " (words(message)) @if !place.is_empty() { " at " (name(place)) } }
                        }
                        @if self.findings_count > self.findings.len() as u64 {
                            li { "and " (count(self.findings_count - self.findings.len() as u64, "more finding")) }
                        }
                    }
                }
                @if let Some(digest) = &self.digest { p.faint { "pack digest " (hex(digest)) } }
            }
        }
    }

    fn passed(&self) -> Markup {
        html! {
            tr {
                th scope="row" {
                    (name(&self.path))
                    @if self.verdict == Verdict::Pinned { " " span.chip.yes { "pinned" } }
                    @for (code, kind, message, _) in &self.findings { div.faint { span.{ "chip " (kind) } { (code) } " " (words(message)) } }
                }
                td { @if let Some(subject) = &self.subject { (whose(subject)) } }
                td { @if let Some(subject) = &self.subject { (time(subject.generated_at)) } }
                td { @if let Some(digest) = &self.digest { (hex(digest)) } }
            }
        }
    }
}

fn whose(subject: &Subject) -> Markup {
    html! {
        "run " (name(&subject.run_id)) " of " (name(&subject.scenario_id))
        ", tenant " (subject.tenant_id) ", namespace " (subject.namespace_id)
    }
}

/// How many of each, as one bar.
fn share(parts: [u64; 3]) -> Markup {
    const WIDTH: u64 = 900;
    let total: u64 = parts.iter().sum::<u64>().max(1);
    let looks = [("yes", "passed"), ("no", "refused"), ("maybe", "could not tell")];
    let mut at = 0;
    // Where there is one there is something to see.
    let wide = parts.map(|part| if part == 0 { 0 } else { (part * WIDTH / total).max(6) });
    let bars: Vec<_> = wide
        .into_iter()
        .map(|wide| {
            at += wide;
            (at - wide, wide)
        })
        .collect();
    html! {
        div.wide tabindex="0" role="region" aria-label="Shares" {
            svg width=(at.max(WIDTH)) height="52" viewBox={ "0 0 " (at.max(WIDTH)) " 52" } role="img" aria-label="How many passed" {
                @for (((x, wide), (kind, word)), part) in bars.into_iter().zip(looks).zip(parts) {
                    @if part > 0 {
                        rect.(kind) x=(x) y="4" width=(wide) height="22" { title { (grouped(part)) " " (word) } }
                        @if wide > 90 { text x=(x) y="42" { (grouped(part)) " " (word) } }
                    }
                }
            }
        }
    }
}
