//! Reports for programs. All of them are the same bytes for the same packs.

use std::fmt::Write as _;

use runpack_core::canon::to_vec;
use runpack_core::pack::{Code, Finding, Severity};
use serde_json::{Value, json};

use crate::batch::Answer;

/// One line of canonical JSON. With several packs each line names its pack.
pub(crate) fn json_line(answer: &Answer, named: bool) -> String {
    let mut tree = match &answer.report {
        Ok(report) => serde_json::to_value(report).unwrap_or_default(),
        Err(error) => json!({"status": "fail", "checked_files": 0, "errors": [error], "verdict": "could_not_tell"}),
    };
    if named && let Value::Object(members) = &mut tree {
        members.insert("path".to_owned(), answer.path.clone().into());
    }
    let bytes = to_vec(&tree).unwrap_or_default();
    format!("{}\n", String::from_utf8_lossy(&bytes))
}

/// Everything that a report or its absence has to say.
fn findings(answer: &Answer) -> (&[Finding], Option<&str>) {
    match &answer.report {
        Ok(report) => (&report.findings, None),
        Err(error) => (&[], Some(error)),
    }
}

fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::CouldNotTell | Severity::Warning => "warning",
    }
}

fn file(answer: &Answer, finding: &Finding) -> String {
    let root = answer.path.trim_end_matches('/');
    if finding.artifact.is_empty() { root.to_owned() } else { format!("{root}/{}", finding.artifact) }
}

/// A SARIF 2.1.0 log with one run; the rules are the catalogue of findings.
pub(crate) fn sarif(answers: &[Answer]) -> String {
    let rules: Vec<_> = Code::ALL
        .iter()
        .map(|code| {
            json!({"id": code.as_str(), "shortDescription": {"text": code.title()}, "fullDescription": {"text": code.why()},
                "defaultConfiguration": {"level": level(code.severity())}})
        })
        .collect();
    let mut results = Vec::new();
    let mut notices = Vec::new();
    for answer in answers {
        let (found, error) = findings(answer);
        for finding in found {
            let index = Code::ALL.iter().position(|code| *code == finding.code);
            results.push(json!({
                "ruleId": finding.code.as_str(), "ruleIndex": index, "level": level(finding.severity),
                "message": {"text": finding.message},
                "locations": [{
                    "physicalLocation": {"artifactLocation": {"uri": uri(&file(answer, finding))}},
                    "logicalLocations": [{"fullyQualifiedName": format!("{}#{}", finding.artifact, finding.pointer)}],
                }],
            }));
        }
        if let Some(error) = error {
            notices.push(json!({"level": "error", "message": {"text": format!("{}: {error}", answer.path)}}));
        }
    }
    let ok = notices.is_empty();
    let log = json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json", "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {"name": "runpack", "version": env!("CARGO_PKG_VERSION"), "rules": rules}},
            "invocations": [{"executionSuccessful": ok, "toolExecutionNotifications": notices}],
            "results": results,
        }],
    });
    format!("{}\n", String::from_utf8_lossy(&to_vec(&log).unwrap_or_default()))
}

/// A path as a relative URI reference.
fn uri(path: &str) -> String {
    path.bytes().fold(String::new(), |mut text, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            text.push(char::from(byte));
        } else {
            let _ = write!(text, "%{byte:02X}");
        }
        text
    })
}

/// JUnit XML: a test case for each pack; refused is a failure, could not tell an error.
pub(crate) fn junit(answers: &[Answer]) -> String {
    let (mut failures, mut errors, mut cases) = (0, 0, String::new());
    for answer in answers {
        let name = xml(&answer.path);
        let (found, error) = findings(answer);
        let worst = found.iter().map(|finding| finding.severity).max();
        let lines: Vec<_> = found.iter().map(|finding| format!("{} {}", finding.code, finding.message)).collect();
        let text = xml(&error.map_or_else(|| lines.join("\n"), str::to_owned));
        let inner = match (error, worst) {
            (Some(_), _) | (_, Some(Severity::CouldNotTell)) => {
                errors += 1;
                format!("<error message=\"could not tell\">{text}</error>")
            }
            (_, Some(Severity::Error)) => {
                failures += 1;
                format!("<failure message=\"refused\">{text}</failure>")
            }
            (_, Some(Severity::Warning)) => format!("<system-out>{text}</system-out>"),
            (_, None) => String::new(),
        };
        let _ = writeln!(cases, "  <testcase classname=\"runpack.verify\" name=\"{name}\">{inner}</testcase>");
    }
    let total = answers.len();
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n <testsuite name=\"runpack verify\" tests=\"{total}\" \
         failures=\"{failures}\" errors=\"{errors}\">\n{cases} </testsuite>\n</testsuites>\n"
    )
}

fn xml(text: &str) -> String {
    text.chars().fold(String::new(), |mut out, c| {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            // Characters that XML 1.0 cannot hold.
            '\u{0}'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => {
                out.push('\u{fffd}');
            }
            _ => out.push(c),
        }
        out
    })
}

/// Workflow commands of GitHub Actions, one for each finding.
pub(crate) fn github(answer: &Answer) -> String {
    let data = |text: &str| text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
    let property = |text: &str| data(text).replace(':', "%3A").replace(',', "%2C");
    let (found, error) = findings(answer);
    let mut text = String::new();
    for finding in found {
        let place = property(&file(answer, finding));
        let at = if finding.pointer.is_empty() { String::new() } else { format!(" at {}", finding.pointer) };
        let message = data(&format!("{}{at}", finding.message));
        let _ = writeln!(text, "::{} file={place},title={}::{message}", level(finding.severity), finding.code);
    }
    if let Some(error) = error {
        let _ = writeln!(text, "::error file={},title=could not tell::{}", property(&answer.path), data(error));
    }
    text
}
