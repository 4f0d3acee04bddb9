use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use runpack_core::pack::layout::MANIFEST_NAME;
use runpack_core::pack::{Report, Verdict, VerifyOptions, verify};
use runpack_storage::packs::DirectoryReader;

use super::INPUT_BYTES_MAX;
use super::run::{RunArgs, run};

/// Show the whole way once: scenario, run, pack, verification, a forgery caught
///
/// Everything is written below one directory, which is named at the end. It
/// must be absent, or from an earlier demo.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 all went as it should, 2 it could not.\n\nExample:\n  runpackd demo --dir /tmp/first-look"
)]
pub struct DemoArgs {
    /// Where to write
    #[arg(long, value_name = "DIR", default_value = "runpack-demo")]
    pub dir: PathBuf,
}

const FILES: [(&str, &str); 4] = [
    ("scenario.json", include_str!("../../demo/scenario.json")),
    ("run-config.json", include_str!("../../demo/run-config.json")),
    ("calls.jsonl", include_str!("../../demo/calls.jsonl")),
    ("evidence/report.json", include_str!("../../demo/report.json")),
];

/// Marks a directory as ours, so that a second demo may write there again.
const MARK: &str = ".runpack-demo";

/// Runs the demo.
///
/// # Errors
/// A sentence that says what could not be done.
pub async fn demo(args: &DemoArgs) -> Result<String, String> {
    let dir = &args.dir;
    prepare(dir).map_err(|error| format!("cannot write below `{}`: {error}", dir.display()))?;
    let at = |name: &str| dir.join(name);
    let pack = at("pack");
    let run_args = RunArgs {
        scenario: at("scenario.json"),
        run_config: at("run-config.json"),
        triggers: None,
        calls: Some(at("calls.jsonl")),
        store: None,
        out: Some(pack.clone()),
        replace: false,
        issue_entry_packets: false,
        started_at: None,
        generated_at: None,
        include_verification: true,
        config: Some(at("decision-gate.toml")),
        manifest_name: MANIFEST_NAME.to_owned(),
        gather_timeout_ms: 30_000,
        max_input_bytes: INPUT_BYTES_MAX,
        max_artifact_bytes: None,
    };
    let outcome = run(&run_args).await?;
    let honest = checked(&pack)?;
    let forged = at("forged");
    forge(&pack, &forged).map_err(|error| format!("cannot forge a copy in `{}`: {error}", forged.display()))?;
    let caught = checked(&forged)?;

    let mut text = String::new();
    let shown = dir.display();
    let _ = writeln!(text, "A scenario, its run, and the pack of it. You can do the same by hand:\n");
    let _ = writeln!(
        text,
        "  runpackd run --scenario {shown}/scenario.json --run-config {shown}/run-config.json \\\n      \
         --calls {shown}/calls.jsonl --config {shown}/decision-gate.toml \\\n      \
         --include-verification --out {shown}/pack\n"
    );
    outcome.text.lines().for_each(|line| {
        let _ = writeln!(text, "  {line}");
    });
    let _ = writeln!(text, "\n  runpack verify {}\n", pack.display());
    tell(&mut text, &honest);
    let _ = writeln!(text, "\nA copy in which the first hold was turned into a pass:\n");
    let _ = writeln!(text, "  runpack verify {}\n", forged.display());
    tell(&mut text, &caught);
    if honest.verdict != Verdict::Consistent || caught.verdict != Verdict::Refused {
        return Err(format!("the demo did not go as it should:\n{text}"));
    }
    let _ = writeln!(
        text,
        "\nEverything is in {shown}. Next:\n\n  \
         runpack report {shown}/pack -o report.html   the same run as a page\n  \
         runpackd serve --preset quickstart-dev       the same work as a service"
    );
    Ok(text)
}

fn prepare(dir: &Path) -> std::io::Result<()> {
    let ours = dir.join(MARK).is_file();
    if !ours && dir.exists() && fs::read_dir(dir)?.next().is_some() {
        return Err(std::io::Error::other("it is not empty and not from an earlier demo\nhint: choose another --dir"));
    }
    fs::create_dir_all(dir.join("evidence"))?;
    fs::write(dir.join(MARK), "")?;
    for (name, text) in FILES {
        fs::write(dir.join(name), text)?;
    }
    fs::write(dir.join("decision-gate.toml"), config(&dir.join("evidence")))
}

fn config(evidence: &Path) -> String {
    // A JSON string is a TOML string.
    let root = serde_json::Value::String(evidence.display().to_string());
    format!(
        "[[providers]]\nname = \"time\"\ntype = \"builtin\"\n\n\
         [[providers]]\nname = \"json\"\ntype = \"builtin\"\nconfig = {{ root = {root}, root_id = \"evidence\" }}\n"
    )
}

fn checked(pack: &Path) -> Result<Report, String> {
    let reader = DirectoryReader::open(pack).map_err(|error| format!("cannot open `{}`: {error}", pack.display()))?;
    Ok(verify(&reader, MANIFEST_NAME, &VerifyOptions::default()))
}

/// Copies a pack and turns its first False gate into True, as somebody would
/// who has an editor and nothing else.
fn forge(pack: &Path, copy: &Path) -> std::io::Result<()> {
    if copy.exists() {
        fs::remove_dir_all(copy)?;
    }
    fs::create_dir_all(copy.join("artifacts"))?;
    fs::copy(pack.join(MANIFEST_NAME), copy.join(MANIFEST_NAME))?;
    for entry in fs::read_dir(pack.join("artifacts"))? {
        let entry = entry?;
        fs::copy(entry.path(), copy.join("artifacts").join(entry.file_name()))?;
    }
    let evals = copy.join("artifacts/gate_evals.json");
    let text = fs::read_to_string(&evals)?.replacen("\"status\":\"False\"", "\"status\":\"True\"", 3);
    fs::write(evals, text)
}

fn tell(text: &mut String, report: &Report) {
    let wire = report.wire();
    let verdict = if report.verdict == Verdict::Consistent { "consistent" } else { "refused" };
    let _ = writeln!(text, "  {verdict}: {} files checked", wire.checked_files);
    for finding in &report.findings {
        let _ = writeln!(text, "  {} {}", finding.code, finding.message);
    }
    if let Some(digest) = report.pack_digest {
        let _ = writeln!(text, "  pack digest {digest}");
    }
}
