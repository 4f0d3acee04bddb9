//! Our own documents, for programs that ask: listed, read whole, and searched.
//!
//! A search ranks sections by BM25, with a section's heading and its document's
//! title counted along. Sections and their order depend on the documents alone.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use bm25::{Document, Language, SearchEngine, SearchEngineBuilder};
use serde::Serialize;

/// What a document is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Why things are as they are.
    Reasoning,
    /// What to do next.
    Decision,
    /// What there is, and how it is written.
    Ontology,
    /// How others do it.
    Pattern,
}

/// A document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Doc {
    /// Names it.
    pub id: String,
    /// What a client reads it by.
    pub uri: String,
    /// Its first heading.
    pub title: String,
    /// What it is for.
    pub role: Role,
    /// Markdown.
    pub text: String,
}

/// Below which every document's uri is.
pub const DOCS: &str = "decision-gate://docs/";

macro_rules! embedded {
    ($($file:literal $role:ident),* $(,)?) => {
        /// The documents that come with the program.
        const EMBEDDED: &[(&str, Role, &str)] =
            &[$(($file, Role::$role, include_str!(concat!("../../docs/", $file, ".md")))),*];
    };
}
embedded! {
    "tools" Decision,
    "scenarios" Ontology,
    "evidence" Ontology,
    "glossary" Ontology,
    "format" Reasoning,
    "findings" Reasoning,
    "run-store" Reasoning,
    "service" Decision,
    "object-storage" Pattern,
    "compatibility" Pattern,
}

/// `[docs]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocsConfig {
    /// Whether documents are served at all.
    pub enabled: bool,
    /// Whether they are searched.
    pub search: bool,
    /// Whether they are read whole.
    pub resources: bool,
    /// Whether those that come with the program are among them.
    pub default_docs: bool,
    /// Markdown files, and directories of them.
    pub extra_paths: Vec<PathBuf>,
    /// Bytes of one document; larger ones are left out.
    pub doc_bytes_max: u64,
    /// Bytes of all documents; those beyond are left out.
    pub total_bytes_max: u64,
    /// Documents; those beyond are left out.
    pub docs_max: usize,
    /// Sections of one answer.
    pub sections_max: usize,
}

impl Default for DocsConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            search: true,
            resources: true,
            default_docs: true,
            extra_paths: Vec::new(),
            doc_bytes_max: 262_144,
            total_bytes_max: 1_048_576,
            docs_max: 32,
            sections_max: 10,
        }
    }
}

/// Documents. They are made ready to be searched by the first who searches.
pub struct Library {
    docs: Vec<Doc>,
    index: OnceLock<Index>,
}

struct Index {
    sections: Vec<Section>,
    engine: SearchEngine<u32>,
}

struct Section {
    doc: usize,
    heading: String,
    content: String,
}

/// A section that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "each is the member of that name")]
pub struct Found {
    pub rank: usize,
    pub doc_id: String,
    pub doc_title: String,
    pub doc_role: Role,
    pub heading: String,
    pub content: String,
}

/// A document that sections were found in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "each is the member of that name")]
pub struct Covered {
    pub doc_id: String,
    pub doc_title: String,
    pub doc_role: Role,
}

/// The answer to a search.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "each is the member of that name")]
pub struct Answer {
    pub sections: Vec<Found>,
    pub docs_covered: Vec<Covered>,
    pub suggested_followups: Vec<&'static str>,
}

/// What to ask next when no document of a role was found.
const FOLLOWUPS: [(Role, &str); 4] = [
    (Role::Decision, "Ask which tool to call next."),
    (Role::Reasoning, "Ask why it is so: what a pack proves, and what evidence counts."),
    (Role::Pattern, "Ask for an example of how it is done."),
    (Role::Ontology, "Ask how it is written: scenarios, conditions, comparators, providers."),
];
const REFINE: &str = "Ask in words: a tool, a member of a scenario, a finding's code.";

impl Index {
    fn of(docs: &[Doc]) -> Self {
        let sections: Vec<_> = docs.iter().enumerate().flat_map(|(index, doc)| sections(index, doc)).collect();
        let counted = sections.iter().zip(0..).map(|(section, id)| {
            let title = &docs[section.doc].title;
            Document::new(id, format!("{title}\n{0}\n{0}\n{1}", section.heading, section.content))
        });
        let engine = SearchEngineBuilder::with_documents(Language::English, counted.collect::<Vec<_>>()).build();
        Self { sections, engine }
    }
}

impl Library {
    /// Reads what `config` names. Answers what was left out too, in sentences.
    ///
    /// # Errors
    /// The first of `extra_paths` that is not there or cannot be read.
    pub fn open(config: &DocsConfig) -> Result<(Self, Vec<String>), String> {
        let mut docs = Vec::new();
        if config.enabled && config.default_docs {
            docs.extend(EMBEDDED.iter().map(|(id, role, text)| doc((*id).to_owned(), id, *role, text)));
        }
        let mut left_out = Vec::new();
        if config.enabled {
            for path in &config.extra_paths {
                extra(path, config, &mut docs, &mut left_out)?;
            }
        }
        let mut bytes = 0;
        let mut kept: Vec<Doc> = Vec::new();
        for doc in docs {
            let size = doc.text.len() as u64;
            let limit = match (kept.len() >= config.docs_max, bytes + size > config.total_bytes_max) {
                (true, _) => Some(("docs.max_docs", config.docs_max as u64)),
                (_, true) => Some(("docs.max_total_bytes", config.total_bytes_max)),
                _ => None,
            };
            if let Some((key, limit)) = limit {
                left_out.push(format!("docs: `{}` is left out: {key} is {limit}", doc.id));
                continue;
            }
            bytes += size;
            kept.push(doc);
        }
        Ok((Self { docs: kept, index: OnceLock::new() }, left_out))
    }

    fn index(&self) -> &Index {
        self.index.get_or_init(|| Index::of(&self.docs))
    }

    /// Every document, in order.
    pub fn docs(&self) -> &[Doc] {
        &self.docs
    }

    /// The best sections for `query`, at most `limit`; without words, one from
    /// documents of each role.
    pub fn search(&self, query: &str, limit: usize) -> Answer {
        if query.trim().is_empty() {
            return self.overview(limit);
        }
        let mut hits: Vec<_> = self.index().engine.search(query, None);
        // Equal scores come in whatever order a hash map has.
        hits.sort_by(|left, right| right.score.total_cmp(&left.score).then(left.document.id.cmp(&right.document.id)));
        let indices: Vec<_> = hits.iter().take(limit).map(|hit| hit.document.id as usize).collect();
        let mut answer = self.answer(&indices);
        if !answer.sections.is_empty() {
            let missing = |role| answer.docs_covered.iter().all(|doc| doc.doc_role != role);
            let followups = FOLLOWUPS.into_iter().filter(|(role, _)| missing(*role)).map(|(_, sentence)| sentence);
            answer.suggested_followups = followups.collect();
        }
        answer
    }

    fn overview(&self, limit: usize) -> Answer {
        let first = |role| self.index().sections.iter().position(|section| self.docs[section.doc].role == role);
        let roles = [Role::Reasoning, Role::Decision, Role::Ontology, Role::Pattern];
        let indices: Vec<_> = roles.into_iter().filter_map(first).take(limit).collect();
        Answer { suggested_followups: vec![REFINE], ..self.answer(&indices) }
    }

    fn answer(&self, indices: &[usize]) -> Answer {
        let found = indices.iter().enumerate().map(|(rank, &index)| {
            let section = &self.index().sections[index];
            let doc = &self.docs[section.doc];
            Found {
                rank,
                doc_id: doc.id.clone(),
                doc_title: doc.title.clone(),
                doc_role: doc.role,
                heading: section.heading.clone(),
                content: section.content.clone(),
            }
        });
        let sections: Vec<_> = found.collect();
        let mut docs_covered: Vec<Covered> = Vec::new();
        for found in &sections {
            if docs_covered.iter().all(|doc| doc.doc_id != found.doc_id) {
                docs_covered.push(Covered {
                    doc_id: found.doc_id.clone(),
                    doc_title: found.doc_title.clone(),
                    doc_role: found.doc_role,
                });
            }
        }
        Answer { sections, docs_covered, suggested_followups: Vec::new() }
    }
}

fn doc(id: String, place: &str, role: Role, text: &str) -> Doc {
    let title = text.lines().find_map(|line| line.strip_prefix("# ")).unwrap_or(&id).trim().to_owned();
    Doc { uri: format!("{DOCS}{place}"), title, role, text: text.to_owned(), id }
}

/// Reads the Markdown at `path`, which may be a directory of it. Links are not
/// followed, and the order is that of the names.
fn extra(path: &Path, config: &DocsConfig, docs: &mut Vec<Doc>, left_out: &mut Vec<String>) -> Result<(), String> {
    let failed = |path: &Path, error: &dyn std::fmt::Display| {
        format!("docs.extra_paths: cannot read `{}`: {error}", path.display())
    };
    if !path.exists() {
        let shown = path.display();
        return Err(format!("docs.extra_paths missing `{shown}`\nhint: make it, or take it out of the config"));
    }
    for entry in walkdir::WalkDir::new(path).sort_by_file_name() {
        let entry = entry.map_err(|error| failed(path, &error))?;
        let named = entry.path().extension().is_some_and(|extension| extension == "md");
        if !entry.file_type().is_file() || !named {
            continue;
        }
        let size = entry.metadata().map_err(|error| failed(entry.path(), &error))?.len();
        if size > config.doc_bytes_max {
            let shown = entry.path().display();
            left_out.push(format!("docs: `{shown}` is left out: docs.max_doc_bytes is {}", config.doc_bytes_max));
            continue;
        }
        let text = std::fs::read_to_string(entry.path()).map_err(|error| failed(entry.path(), &error))?;
        let stem = entry.path().file_stem().unwrap_or_default().to_string_lossy().to_lowercase();
        let stem: String = stem.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        let taken = |id: &str| docs.iter().any(|doc: &Doc| doc.id == id);
        let numbered = (2_u32..).map(|n| format!("{stem}_{n}"));
        let id = std::iter::once(stem.clone()).chain(numbered).find(|id| !taken(id)).unwrap_or(stem.clone());
        docs.push(doc(id.clone(), &format!("custom/{id}"), Role::Pattern, &text));
    }
    Ok(())
}

/// Cuts a document at its headings of the second and third level. What looks
/// like a heading inside a fence is none, and a heading with nothing below it is
/// no section.
fn sections(index: usize, doc: &Doc) -> Vec<Section> {
    let mut sections = vec![Section { doc: index, heading: doc.title.clone(), content: String::new() }];
    let mut fence = None;
    for line in doc.text.lines() {
        let mark = ["```", "~~~"].into_iter().find(|mark| line.trim_start().starts_with(mark));
        match (fence, mark) {
            (None, Some(mark)) => fence = Some(mark),
            (Some(open), Some(mark)) if open == mark => fence = None,
            _ => {}
        }
        let heading = line.strip_prefix("## ").or_else(|| line.strip_prefix("### "));
        match heading.filter(|_| fence.is_none()) {
            Some(heading) => {
                let heading = heading.trim().to_owned();
                sections.push(Section { doc: index, heading, content: String::new() });
            }
            None if line.starts_with("# ") && fence.is_none() => {}
            None => {
                if let Some(section) = sections.last_mut() {
                    section.content.push_str(line);
                    section.content.push('\n');
                }
            }
        }
    }
    for section in &mut sections {
        section.content = section.content.trim().to_owned();
    }
    sections.retain(|section| !section.content.is_empty());
    sections
}

#[cfg(test)]
mod tests {
    use super::*;

    fn library() -> Library {
        Library::open(&DocsConfig::default()).unwrap().0
    }

    #[test]
    fn the_section_about_the_words_asked_for_comes_first() {
        let library = library();
        let first = |query: &str| {
            let found = &library.search(query, 3).sections[0];
            (found.doc_id.clone(), found.heading.clone())
        };
        for (query, doc) in [
            ("RP0506", "findings"),
            ("which tool do I call", "tools"),
            ("canonical form of numbers", "format"),
            ("comparators", "scenarios"),
            ("how far is evidence trusted", "evidence"),
            ("backup of the store", "run-store"),
        ] {
            assert_eq!(first(query).0, doc, "{query}: {:?}", first(query));
        }
    }

    #[test]
    fn the_same_question_has_the_same_answer_in_every_process() {
        for query in ["evidence", "run", "why does a run hold", ""] {
            assert_eq!(library().search(query, 10), library().search(query, 10), "{query}");
        }
    }

    #[test]
    fn a_question_without_words_gets_an_overview_and_nonsense_gets_nothing() {
        let library = library();
        let overview = library.search("  ", 3);
        let roles: Vec<_> = overview.sections.iter().map(|found| found.doc_role).collect();
        assert_eq!(roles, [Role::Reasoning, Role::Decision, Role::Ontology]);
        assert_eq!(overview.suggested_followups, [REFINE]);
        let nothing = library.search("xyzzy", 3);
        assert_eq!((nothing.sections.len(), nothing.suggested_followups.len()), (0, 0));
    }

    #[test]
    fn headings_in_fences_do_not_cut_and_empty_sections_are_left_out() {
        let text = "# T\nintro\n## A\n```\n## not\n```\n## B\n### C\nc\n";
        let cut = sections(0, &doc("t".to_owned(), "t", Role::Pattern, text));
        let shown: Vec<_> = cut.iter().map(|section| (section.heading.as_str(), section.content.as_str())).collect();
        assert_eq!(shown, [("T", "intro"), ("A", "```\n## not\n```"), ("C", "c")]);
    }

    #[test]
    fn extra_documents_are_read_in_the_order_of_their_names_and_links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("b.md"), "# B\nlater").unwrap();
        std::fs::write(dir.path().join("A b.md"), "first").unwrap();
        std::fs::write(dir.path().join("large.md"), "x".repeat(100)).unwrap();
        std::fs::write(dir.path().join("not.txt"), "no").unwrap();
        std::fs::create_dir(dir.path().join("c")).unwrap();
        std::fs::write(dir.path().join("c/b.md"), "below").unwrap();
        #[cfg(unix)]
        std::os::unix::fs::symlink(dir.path(), dir.path().join("c/loop")).unwrap();
        let config = DocsConfig {
            default_docs: false,
            doc_bytes_max: 50,
            extra_paths: vec![dir.path().to_owned()],
            ..DocsConfig::default()
        };
        let (library, left_out) = Library::open(&config).unwrap();
        let ids: Vec<_> = library.docs().iter().map(|doc| doc.id.as_str()).collect();
        assert_eq!(ids, ["a_b", "b", "b_2"]);
        assert_eq!(library.docs()[0].uri, "decision-gate://docs/custom/a_b");
        assert!(left_out[0].contains("large.md") && left_out[0].contains("docs.max_doc_bytes is 50"), "{left_out:?}");
        let missing = DocsConfig { extra_paths: vec![dir.path().join("none")], ..config.clone() };
        assert!(Library::open(&missing).err().unwrap().starts_with("docs.extra_paths missing `"));
        let fewer = DocsConfig { docs_max: 1, ..config };
        assert_eq!(Library::open(&fewer).unwrap().0.docs().len(), 1);
    }
}
