//! The documents hang together: each page is in the table of contents, and
//! each link within the project leads somewhere.

#![allow(clippy::unwrap_used, reason = "a test reads its own data")]

#[path = "../../testdata/inputs.rs"]
mod inputs;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn pages(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            pages(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        }
    }
}

/// Where the links of a page lead, but for those in blocks of code.
fn links(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let prose = text.split("```").step_by(2).collect::<String>();
    for line in prose.lines() {
        let plain: String = line.split('`').step_by(2).collect();
        found.extend(plain.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0.to_owned())));
    }
    found
}

/// The anchors of a page's headings, as renderers make them.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings =
        text.lines().filter_map(|line| line.strip_prefix('#')).map(|line| line.trim_start_matches('#').trim());
    let letter = |c: char| c.is_alphanumeric() || c == '-' || c == '_';
    headings.map(|line| line.to_lowercase().replace(' ', "-").chars().filter(|c| letter(*c)).collect()).collect()
}

#[test]
fn every_link_leads_somewhere() {
    let root = inputs::root();
    let mut all = ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"].map(|name| root.join(name)).to_vec();
    pages(&root.join("docs"), &mut all);
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for page in &all {
        for link in links(&fs::read_to_string(page).unwrap()) {
            if link.is_empty() || link.starts_with("http") {
                continue;
            }
            seen += 1;
            let (path, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let to = if path.is_empty() { page.clone() } else { page.parent().unwrap().join(path) };
            // What lies outside `docs` is not in the book that is made of it.
            let docs = root.join("docs").canonicalize().unwrap();
            let leaves = page.canonicalize().unwrap().starts_with(&docs)
                && !to.canonicalize().is_ok_and(|to| to.starts_with(&docs));
            let there = to.exists()
                && !leaves
                && (anchor.is_empty() || anchors(&fs::read_to_string(&to).unwrap_or_default()).contains(anchor));
            if !there {
                wrong.push(format!("{}: {link}", page.strip_prefix(&root).unwrap().display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(seen > 50, "{seen}");
}

#[test]
fn every_page_is_in_the_table_of_contents_once() {
    let docs = inputs::root().join("docs");
    let mut all = Vec::new();
    pages(&docs, &mut all);
    let mut all: Vec<_> =
        all.iter().map(|page| page.strip_prefix(&docs).unwrap().to_str().unwrap().to_owned()).collect();
    all.retain(|page| page != "SUMMARY.md");
    all.sort();
    let mut listed: Vec<_> = links(&fs::read_to_string(docs.join("SUMMARY.md")).unwrap())
        .into_iter()
        .filter(|link| !link.is_empty())
        .collect();
    listed.sort();
    assert_eq!(listed, all);
}
