//! The drawing of a run: what was asked, what came out, what went out.
//!
//! A column is a step, or as many steps as it takes for the drawing to stay
//! readable; a cell of several steps shows how many came out how, so nothing
//! is lost in it.

use std::collections::BTreeMap;

use maud::{Markup, html};
use runpack_core::model::{GateId, OutcomeKind, Timestamp, TriState, TriggerKind};

use super::{clean, count, grouped, kind_of, time};

/// Columns of a drawing, at most.
const COLUMNS_MAX: usize = 40;

/// Gates with a row of their own, at most; the rest shares one.
const GATES_MAX: usize = 12;

const LABEL: usize = 170;
const ROW: usize = 26;
const CELL: usize = 18;
const TOP: usize = 40;

/// A run as it is drawn.
pub(super) struct Moments<'a> {
    pub(super) moments: Vec<Moment<'a>>,
    /// Of the scenario, in its order.
    pub(super) gates: Vec<&'a GateId>,
    /// Submissions after the last moment.
    pub(super) submitted_last: usize,
}

/// One step as it is drawn.
pub(super) struct Moment<'a> {
    pub(super) stage: &'a str,
    pub(super) trigger: Option<TriggerKind>,
    pub(super) time: Option<Timestamp>,
    pub(super) gates: Vec<(&'a GateId, TriState)>,
    pub(super) outcome: Option<OutcomeKind>,
    pub(super) disclosed: usize,
    pub(super) submitted: usize,
    pub(super) wrong: bool,
}

/// Cells of one colour and letter that make up a bar.
type Share = (&'static str, &'static str, usize);

pub(super) fn timeline(run: &Moments) -> Markup {
    let moments = &run.moments;
    if moments.is_empty() {
        return html! { p { "Nothing happened yet." } };
    }
    let each = moments.len().div_ceil(COLUMNS_MAX);
    let columns: Vec<&[Moment]> = moments.chunks(each).collect();
    let step = (720 / columns.len()).clamp(CELL, 54);
    let last = usize::from(run.submitted_last > 0);
    let width = LABEL + (columns.len() + last) * step + 10;
    let own: Vec<_> = run.gates.iter().take(GATES_MAX).collect();
    let row_of: BTreeMap<&GateId, usize> = own.iter().enumerate().map(|(row, gate)| (**gate, row)).collect();
    let others = moments.iter().flat_map(|moment| &moment.gates).any(|(gate, _)| !row_of.contains_key(gate));
    let gate_rows = own.len() + usize::from(others);
    let row_at = |row: usize| TOP + row * ROW;
    let (decisions, disclosures, submissions) = (gate_rows + 1, gate_rows + 2, gate_rows + 3);
    let height = row_at(gate_rows + 4) + 12;
    let x_of = |column: usize| LABEL + column * step;
    let label = |row: usize, text: &str| {
        html! { text x="0" y=(row_at(row) + 16) { (text) } }
    };
    let number = |column: usize, row: usize, number: usize, kind: &str| {
        html! {
            @if number > 0 {
                rect.(kind) x=(x_of(column) + (step - CELL) / 2) y=(row_at(row) + 3) width=(CELL) height=(CELL) rx="9" {}
                text.on x=(x_of(column) + step / 2) y=(row_at(row) + 16) { (short(number)) }
            }
        }
    };
    html! {
        p {
            (count(moments.len() as u64, "step")) ", from left to right in the order of the log"
            @if each > 1 { "; " strong { "each column stands for " (grouped(each as u64)) " steps" } ", and its cells show how many of them came out how" }
            @if let (Some(first), Some(last)) = (moments.first().and_then(|moment| moment.time), moments.last().and_then(|moment| moment.time)) {
                "; the first at " (time(first)) ", the last at " (time(last))
            }
            ". A red mark on top says that there are findings."
        }
        div.wide tabindex="0" role="region" aria-label="Timeline" {
            svg width=(width) height=(height) viewBox={ "0 0 " (width) " " (height) } role="img" aria-labelledby="drawing-title drawing-said" {
                title id="drawing-title" { "Timeline of the run" }
                desc id="drawing-said" { (said(run)) }
                @for (start, end, stage) in stages(&columns) {
                    rect.mark x=(x_of(start)) y="14" width=((end - start) * step - 2) height="18" rx="3" { title { "stage " (clean(stage)) } }
                    text x=(x_of(start) + 4) y="27" { (fits(stage, (end - start) * step)) }
                }
                text x="0" y="27" { "stage" }
                @for row in 0..gate_rows + 4 {
                    path.rule d={ "M0 " (row_at(row) + ROW - 2) "H" (width) } {}
                }
                (label(0, "triggers"))
                @for (row, gate) in own.iter().enumerate() { (label(row + 1, &fits(gate.as_str(), LABEL))) }
                @if others { (label(gate_rows, "other gates")) }
                (label(decisions, "decisions"))
                (label(disclosures, "disclosures"))
                (label(submissions, "submissions"))
                @for (column, moments) in columns.iter().enumerate() {
                    @if moments.iter().any(|moment| moment.wrong) {
                        path.alarm d={ "M" (x_of(column) + step / 2 - 6) " 1h12l-6 10z" } { title { (steps_of(column, each, moments.len())) ": findings" } }
                    }
                    (bar(x_of(column), row_at(0), step, &triggers(moments), each))
                    @for row in 0..gate_rows {
                        (bar(x_of(column), row_at(row + 1), step, &gates(moments, |gate| row_of.get(gate).copied().unwrap_or(own.len()) == row), each))
                    }
                    (bar(x_of(column), row_at(decisions), step, &outcomes(moments), each))
                    (number(column, disclosures, moments.iter().map(|moment| moment.disclosed).sum(), "mark"))
                    (number(column, submissions, moments.iter().map(|moment| moment.submitted).sum(), "plain"))
                }
                (number(columns.len(), submissions, run.submitted_last, "plain"))
            }
        }
        (key())
    }
}

/// What the letters and colours mean.
fn key() -> Markup {
    let entry = |kind: &str, letter: &str, text: &str| {
        html! {
            li {
                svg width=(CELL) height=(CELL) aria-hidden="true" {
                    rect.(kind) x="1" y="1" width=(CELL - 2) height=(CELL - 2) rx="3" {}
                    text.on x=(CELL / 2) y="13" { (letter) }
                }
                (text)
            }
        }
    };
    html! {
        ul.key {
            (entry("yes", "T", "True")) (entry("no", "F", "False")) (entry("maybe", "U", "Unknown"))
            (entry("plain", "S", "start")) (entry("maybe", "H", "hold")) (entry("yes", "A", "advance"))
            (entry("yes", "C", "complete")) (entry("no", "X", "fail, or not decided"))
            (entry("plain", "a", "asked by an agent")) (entry("plain", "t", "tick"))
            (entry("plain", "e", "event outside")) (entry("plain", "b", "event in the backend"))
        }
    }
}

/// A cell of the drawing: what came out, in the shares it came out in.
fn bar(x: usize, y: usize, step: usize, shares: &[Share], each: usize) -> Markup {
    let total: usize = shares.iter().map(|(_, _, number)| number).sum();
    if total == 0 {
        return html! {};
    }
    let x = x + (step - CELL) / 2;
    if let [(kind, letter, number)] = shares {
        return html! {
            rect.(*kind) x=(x) y=(y + 3) width=(CELL) height=(CELL) rx="3" {}
            text.on x=(x + CELL / 2) y=(y + 16) { (letter) }
            @if *number > 1 || each > 1 { title { (number) } }
        };
    }
    // What is there is seen: no share is thinner than three points.
    let free = CELL.saturating_sub(3 * shares.len());
    let mut top = y + 3;
    let mut parts = Vec::new();
    for (index, (kind, letter, number)) in shares.iter().enumerate() {
        let tall = if index + 1 == shares.len() { y + 3 + CELL - top } else { 3 + free * number / total };
        parts.push((*kind, *letter, *number, top, tall));
        top += tall;
    }
    html! {
        @for (kind, letter, number, top, tall) in parts {
            rect.(kind) x=(x) y=(top) width=(CELL) height=(tall) { title { (number) " × " (letter) } }
        }
    }
}

fn shares<K: Ord + Copy>(all: impl Iterator<Item = K>, look: impl Fn(K) -> (&'static str, &'static str)) -> Vec<Share> {
    let mut counts: BTreeMap<K, usize> = BTreeMap::new();
    all.for_each(|one| *counts.entry(one).or_default() += 1);
    counts
        .into_iter()
        .map(|(one, number)| {
            let (kind, letter) = look(one);
            (kind, letter, number)
        })
        .collect()
}

fn triggers(moments: &[Moment]) -> Vec<Share> {
    let letter = |kind| match kind {
        TriggerKind::AgentRequestNext => "a",
        TriggerKind::Tick => "t",
        TriggerKind::ExternalEvent => "e",
        TriggerKind::BackendEvent => "b",
    };
    shares(moments.iter().filter_map(|moment| moment.trigger).map(letter), |letter| ("plain", letter))
}

fn gates(moments: &[Moment], wanted: impl Fn(&GateId) -> bool) -> Vec<Share> {
    // The worst on top.
    let rank = |status| match status {
        TriState::False => 0,
        TriState::Unknown => 1,
        TriState::True => 2,
    };
    let all = moments.iter().flat_map(|moment| &moment.gates).filter(|(gate, _)| wanted(gate));
    shares(all.map(|(_, status)| rank(*status)), |rank| match rank {
        0 => (kind_of(TriState::False), "F"),
        1 => (kind_of(TriState::Unknown), "U"),
        _ => (kind_of(TriState::True), "T"),
    })
}

fn outcomes(moments: &[Moment]) -> Vec<Share> {
    // What tells most on top.
    let rank = |outcome: Option<OutcomeKind>| match outcome {
        None | Some(OutcomeKind::Fail) => 0,
        Some(OutcomeKind::Complete) => 1,
        Some(OutcomeKind::Advance) => 2,
        Some(OutcomeKind::Start) => 3,
        Some(OutcomeKind::Hold) => 4,
    };
    const LOOKS: [(&str, &str); 5] = [("no", "X"), ("yes", "C"), ("yes", "A"), ("plain", "S"), ("maybe", "H")];
    shares(moments.iter().map(|moment| rank(moment.outcome)), |rank| LOOKS[rank])
}

/// Neighbouring columns that begin in one stage.
fn stages<'a>(columns: &[&[Moment<'a>]]) -> Vec<(usize, usize, &'a str)> {
    let mut found: Vec<(usize, usize, &str)> = Vec::new();
    for (column, moments) in columns.iter().enumerate() {
        let stage = moments.first().map_or("", |moment| moment.stage);
        match found.last_mut() {
            Some((_, end, before)) if *before == stage => *end = column + 1,
            _ => found.push((column, column + 1, stage)),
        }
    }
    found
}

/// As much of a label as there is room for.
fn fits(text: &str, width: usize) -> String {
    let text = clean(text);
    let room = (width / 7).saturating_sub(1);
    if text.chars().count() <= room { text } else { text.chars().take(room.saturating_sub(1)).chain(['…']).collect() }
}

/// A number that fits into a cell.
fn short(number: usize) -> String {
    match number {
        0..=99 => number.to_string(),
        _ => "99+".to_owned(),
    }
}

fn steps_of(column: usize, each: usize, count: usize) -> String {
    if count == 1 {
        format!("step {}", column * each + 1)
    } else {
        format!("steps {} to {}", column * each + 1, column * each + count)
    }
}

/// The drawing in words, for whoever cannot see it.
fn said(run: &Moments) -> String {
    let mut text = String::new();
    for (_, letter, number) in outcomes(&run.moments) {
        let word = match letter {
            "X" => "failed or were not decided",
            "C" => "completed the run",
            "A" => "advanced",
            "S" => "started it",
            _ => "held",
        };
        text.push_str(&format!("{} {word}; ", grouped(number as u64)));
    }
    let disclosed: usize = run.moments.iter().map(|moment| moment.disclosed).sum();
    let submitted: usize = run.moments.iter().map(|moment| moment.submitted).sum::<usize>() + run.submitted_last;
    let wrong = run.moments.iter().filter(|moment| moment.wrong).count();
    format!(
        "{text}{}, {}; {} with findings. The steps are listed below.",
        count(disclosed as u64, "disclosed packet"),
        count(submitted as u64, "submission"),
        count(wrong as u64, "step")
    )
}
