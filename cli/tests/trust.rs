//! Who says that this pack is the run: keys, signing, policies, and what a
//! forger of the whole pack comes to.

#![cfg(unix)]
#![allow(clippy::unwrap_used)]

mod common;
#[path = "../../testdata/inputs.rs"]
mod inputs;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{text, told};
use runpack_core::canon::Digest;
use runpack_core::pack::{Manifest, PAYLOAD_TYPE, Predicate, Statement};
use runpack_core::read;
use runpack_core::trust::{Envelope, Signature};
use runpack_keys::{SecretKey, Signer, attest, co_sign};
use serde_json::{Value, json};

/// A directory with keys and packs, and what is done there.
struct Place(tempfile::TempDir);

impl Place {
    /// With keys of these names.
    fn with(names: &[&str]) -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        for name in names {
            let (code, out, err) = told(["keygen", "--out", &place.key(name)]);
            assert_eq!((code, err.as_str()), (0, ""), "{out}");
        }
        place
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn key(&self, name: &str) -> String {
        text(&self.at(&format!("{name}.pem"))).to_owned()
    }

    fn secret(&self, name: &str) -> SecretKey {
        SecretKey::load(&self.at(&format!("{name}.pem")), || None).unwrap()
    }

    fn trusted(&self, name: &str) -> String {
        format!("{name}={}", text(&self.at(&format!("{name}.pub"))))
    }

    /// A fresh copy of a good pack.
    fn pack(&self, name: &str) -> PathBuf {
        let pack = self.at(name);
        common::copy_pack(&pack);
        pack
    }

    fn sign(&self, pack: &Path, name: &str) {
        let (code, out, err) = told(["sign", text(pack), "--key", &self.key(name)]);
        assert_eq!((code, err.as_str()), (0, ""), "{out}");
    }

    fn policy(&self, text: &str) -> PathBuf {
        let path = self.at("trust.toml");
        fs::write(&path, text).unwrap();
        path
    }
}

fn manifest(pack: &Path) -> (Vec<u8>, Manifest) {
    let bytes = fs::read(pack.join("manifest.json")).unwrap();
    let manifest = read::recorded(&bytes).unwrap();
    (bytes, manifest)
}

/// An attestation of a pack by several, as `runpack sign` writes it.
fn envelope(pack: &Path, keys: &[&SecretKey]) -> Envelope {
    let (bytes, manifest) = manifest(pack);
    let payload = Statement::write(&bytes, "manifest.json", &Predicate::of(&manifest, None)).unwrap();
    let mut envelope = Envelope { payload_type: PAYLOAD_TYPE.to_owned(), payload, signatures: Vec::new() };
    keys.iter().for_each(|key| co_sign(*key, &mut envelope).unwrap());
    envelope
}

fn put(pack: &Path, name: &str, envelope: &Envelope) {
    fs::write(pack.join(name), envelope.to_bytes()).unwrap();
}

/// The report, with the exit code held against the verdict.
fn verified<'a>(pack: &'a Path, more: &[&'a str]) -> Value {
    let (code, out, err) = told([&["verify", text(pack), "--format", "json"], more].concat());
    let report: Value = serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out} {err}"));
    let refused = report["verdict"] == "refused";
    assert_eq!((code, err.as_str()), (i32::from(refused), ""), "{report}");
    report
}

fn codes(report: &Value) -> Vec<&str> {
    let found: BTreeSet<_> =
        report["findings"].as_array().unwrap().iter().map(|finding| finding["code"].as_str().unwrap()).collect();
    found.into_iter().collect()
}

/// As a cell of `verdicts.csv`.
fn cell(report: &Value) -> String {
    let mut words = vec![report["verdict"].as_str().unwrap().to_owned()];
    if words[0] == "signed" {
        let by = report["signed_by"].as_array().unwrap().iter().map(|signer| signer["key"].as_str().unwrap());
        words.push(format!("by {}", by.collect::<Vec<_>>().join(" and ")));
    }
    words.extend(codes(report).into_iter().map(str::to_owned));
    words.join(" ")
}

/// What is put beside the manifest, by the name of the situation.
fn arrange(place: &Place, pack: &Path, situation: &str) {
    let [ann, bob, eve] = ["ann", "bob", "eve"].map(|name| place.secret(name));
    let by = |keys: &[&SecretKey]| put(pack, "a.dsse.json", &envelope(pack, keys));
    match situation {
        "unsigned" => {}
        "trusted" => by(&[&ann, &bob]),
        "untrusted" => by(&[&eve]),
        "expired" | "wrong role" | "one of two" => by(&[&ann]),
        "tampered envelope" => {
            let mut changed = envelope(pack, &[&ann]);
            let payload = String::from_utf8(changed.payload).unwrap().replace("release-1.4.0", "release-1.4.1");
            changed.payload = payload.into_bytes();
            put(pack, "a.dsse.json", &changed);
        }
        "swapped between packs" => {
            let other = inputs::testdata("packs/good/rich");
            put(pack, "a.dsse.json", &envelope(&other, &[&ann, &bob]));
        }
        "truncated" => {
            let bytes = envelope(pack, &[&ann, &bob]).to_bytes();
            fs::write(pack.join("a.dsse.json"), &bytes[..bytes.len() - 1]).unwrap();
        }
        "duplicate signature" => {
            by(&[&ann, &ann]);
            put(pack, "b.dsse.json", &envelope(pack, &[&ann]));
        }
        "trusted and unknown together" => by(&[&ann, &eve]),
        "trusted and expired together" => by(&[&ann, &bob]),
        "one good and one damaged" => {
            let mut damaged = envelope(pack, &[&ann, &bob]);
            damaged.signatures[1].signature[40] ^= 1;
            put(pack, "a.dsse.json", &damaged);
        }
        "a trusted key about something else" => {
            let mut said = envelope(pack, &[]);
            let payload = String::from_utf8(said.payload).unwrap();
            said.payload = payload.replace("urn:runpack:attestation:v1", "https://example.org/scanned").into_bytes();
            co_sign(&ann, &mut said).unwrap();
            put(pack, "a.dsse.json", &said);
        }
        "the manifest changed after signing" => {
            by(&[&ann]);
            let (bytes, _) = manifest(pack);
            let text = String::from_utf8(bytes).unwrap().replace("1710000120000", "1710000120001");
            fs::write(pack.join("manifest.json"), text).unwrap();
        }
        other => panic!("nobody knows how to arrange `{other}`"),
    }
}

#[test]
fn verdicts_are_as_the_table_says() {
    let place = Place::with(&["ann", "bob", "eve"]);
    let table = fs::read_to_string(inputs::testdata("trust/verdicts.csv")).unwrap();
    let mut lines = table.lines();
    assert_eq!(lines.next(), Some("situation,required,threshold 2,audit"));
    let (mut wrong, mut rows) = (Vec::new(), Vec::new());
    for (number, line) in lines.enumerate() {
        let (situation, wanted) = line.split_once(',').unwrap();
        rows.push(situation);
        let pack = place.pack(&format!("pack-{number}"));
        arrange(&place, &pack, situation);
        let ann = match situation {
            "expired" | "trusted and expired together" => "valid_until = \"2026-01-01\"",
            "wrong role" => "roles = [\"evidence\"]",
            _ => "",
        };
        let cells = [1, 2, 0].map(|signatures| {
            let policy = place.policy(&format!(
                "version = 1\n[require]\nsignatures = {signatures}\n\
                 [[keys]]\nid = \"ann\"\nfile = \"ann.pub\"\n{ann}\n\
                 [[keys]]\nid = \"bob\"\nfile = \"bob.pub\"\n\
                 [[keys]]\nid = \"carol\"\npem = '''{}'''\n",
                SecretKey::generate(runpack_core::trust::Algorithm::P256).unwrap().public().to_pem()
            ));
            cell(&verified(&pack, &["--policy", text(&policy), "--at", "2026-06-01"]))
        });
        if cells.join(",") != wanted {
            wrong.push(format!("{situation}: the table says {wanted}, and it comes to {}", cells.join(",")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let named = "unsigned|trusted|untrusted|expired|wrong role|one of two|tampered envelope|swapped between packs|\
                 truncated|duplicate signature|trusted and unknown together";
    assert!(named.split('|').all(|situation| rows.contains(&situation)));

    let page = fs::read_to_string(inputs::root().join("docs/trust.md")).unwrap();
    let missing: Vec<_> = table.lines().skip(1).filter(|line| !page.contains(&row(line))).collect();
    assert!(missing.is_empty(), "docs/trust.md does not show these rows: {missing:#?}");
}

/// A line of the table, as the page shows it.
fn row(line: &str) -> String {
    format!("| {} |", line.replace(',', " | "))
}

/// Each complete forgery with the good pack it stands for.
fn forgeries(place: &Place) -> Vec<(String, PathBuf, PathBuf)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(inputs::testdata("packs/forged")).unwrap() {
        let folder = entry.unwrap().path();
        let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
        let base: Value = serde_json::from_slice(&fs::read(folder.join("base.json")).unwrap()).unwrap();
        assert_eq!(base["without"], json!([]));
        let good = inputs::testdata("packs").join(base["from"].as_str().unwrap());
        let forged = place.at(&name);
        for from in [&good, &folder.join("pack")] {
            let copied = Command::new("cp").arg("-r").arg(from.join(".")).arg(&forged).status();
            assert!(copied.unwrap().success());
        }
        all.push((name, good, forged));
    }
    assert!(all.len() >= 6, "six of our own");
    let Some(script) = inputs::shared("tools/tamper.py") else { return all };
    let (good, corpus) = (place.at("told-once"), place.at("corpus"));
    tell_once(&good);
    let made = Command::new("python3")
        .args(["-B", text(&script), "--base", text(&good), "--build-only", "--only", "forgery-", "--corpus"])
        .arg(&corpus)
        .output();
    match made {
        Ok(made) => assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr)),
        Err(error) => {
            inputs::absent(&format!("python3 ({error}); forgeries of tamper.py"));
            return all;
        }
    }
    let before = all.len();
    for entry in fs::read_dir(&corpus).unwrap() {
        let forged = entry.unwrap().path();
        all.push((forged.file_name().unwrap().to_str().unwrap().to_owned(), good.clone(), forged));
    }
    assert_eq!(all.len() - before, 2, "the class `pinned` has two cases");
    all
}

/// The rich pack without the call that repeats a submission: the forger of
/// `tamper.py` rewrites one call of each.
fn tell_once(to: &Path) {
    let copied = Command::new("cp").arg("-r").arg(inputs::testdata("packs/good/rich")).arg(to).status();
    assert!(copied.unwrap().success());
    let json = |path: &str| -> Value { serde_json::from_slice(&fs::read(to.join(path)).unwrap()).unwrap() };
    let (path, mut manifest) = ("artifacts/tool_calls.json", json("manifest.json"));
    let mut calls = json(path);
    let calls = calls.as_array_mut().unwrap();
    let repeated = calls.remove(5);
    assert_eq!((&repeated["method"], &repeated["request_hash"]), (&calls[2]["method"], &calls[2]["request_hash"]));
    calls.iter_mut().enumerate().for_each(|(at, call)| call["call_id"] = format!("call-{}", at + 1).into());
    let bytes = runpack_core::canon::to_vec(calls).unwrap();
    fs::write(to.join(path), &bytes).unwrap();
    let hash = json!(Digest::of(&bytes));
    for list in ["/integrity/file_hashes", "/artifacts"] {
        let entries = manifest.pointer_mut(list).unwrap().as_array_mut().unwrap();
        entries.iter_mut().find(|entry| entry["path"] == path).unwrap()["hash"] = hash.clone();
    }
    let root = json!(Digest::of_canonical(&manifest["integrity"]["file_hashes"]).unwrap());
    manifest["integrity"]["root_hash"] = root;
    fs::write(to.join("manifest.json"), runpack_core::canon::to_vec(&manifest).unwrap()).unwrap();
}

#[test]
fn a_complete_forgery_is_consistent_and_falls_to_a_pin_or_a_signature_alone() {
    let place = Place::with(&["ann", "eve"]);
    let ann = ["--trusted-key", &place.trusted("ann")];
    for (name, good, forged) in forgeries(&place) {
        let honest = verified(&good, &[]);
        assert_eq!(honest["verdict"], "consistent", "{name}");
        let report = verified(&forged, &[]);
        assert_eq!(cell(&report), "consistent", "{name} is complete");
        assert_ne!(report["pack_digest"], honest["pack_digest"], "{name}");

        // A pin, alone: of the manifest always, of the root where files differ.
        let pin = |digest: &Value| digest["value"].as_str().unwrap().to_owned();
        let digest = pin(&honest["pack_digest"]);
        assert_eq!(cell(&verified(&forged, &["--expect-digest", &digest])), "refused RP0701", "{name}");
        assert_eq!(cell(&verified(&good, &["--expect-digest", &digest])), "pinned", "{name}");
        let (here, there) = (&honest["subject"]["root_hash"], &report["subject"]["root_hash"]);
        let root = cell(&verified(&forged, &["--expect-root", &pin(here)]));
        assert_eq!(root, if here == there { "pinned" } else { "refused RP0701" }, "{name}");

        // A signature, alone: the true one taken away, moved along, and the forger's own.
        assert_eq!(cell(&verified(&forged, &ann)), "refused RP0801", "{name}");
        put(&forged, "ann.dsse.json", &envelope(&good, &[&place.secret("ann")]));
        assert_eq!(cell(&verified(&forged, &ann)), "refused RP0802 RP0804", "{name}");
        fs::remove_file(forged.join("ann.dsse.json")).unwrap();
        place.sign(&forged, "eve");
        assert_eq!(cell(&verified(&forged, &ann)), "refused RP0802 RP0807", "{name}");

        // The true pack has the true signature, wherever that lies.
        let attestation = place.at(&format!("{name}.dsse.json"));
        fs::write(&attestation, envelope(&good, &[&place.secret("ann")]).to_bytes()).unwrap();
        let elsewhere = [&ann[..], &["--attestation", text(&attestation)]].concat();
        assert_eq!(cell(&verified(&good, &elsewhere)), "signed by ann", "{name}");
    }
}

/// The true root in a manifest that says something else: v1's root covers only
/// the list of files, so a pin of the root does not tell, and a signature does.
#[test]
fn a_pinned_root_alone_does_not_cover_the_manifest() {
    let place = Place::with(&["ann"]);
    let roots = forgeries(&place).into_iter().filter(|(_, good, forged)| {
        let root = |pack: &Path| manifest(pack).1.integrity.root_hash;
        root(good) == root(forged)
    });
    let names: BTreeSet<_> = roots.map(|(name, ..)| name).collect();
    let wanted = ["anchors-left-out", "later-export", "posture-left-out"].map(str::to_owned);
    assert!(wanted.iter().all(|name| names.contains(name)), "{names:?}");
}

#[test]
fn signing_says_what_it_did_and_changes_nothing_in_the_pack() {
    let place = Place::with(&["ann"]);
    let pack = place.pack("pack");
    let before = manifest(&pack).0;
    let (code, out, err) = told(["sign", text(&pack), "--key", &place.key("ann")]);
    assert_eq!((code, err.as_str()), (0, ""));
    let key = place.secret("ann").public().id();
    let name = format!("signed-{}.dsse.json", &key.to_string()[..16]);
    assert!(out.contains(": signed\n") && out.contains(&name) && out.contains(&key.to_string()), "{out}");
    assert_eq!(manifest(&pack).0, before);
    let mut there: Vec<_> = fs::read_dir(&pack).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    there.sort();
    assert_eq!(there, ["artifacts", "manifest.json", &name], "nothing else is left");
    // Again: the same bytes.
    let (code, out, _) = told(["sign", text(&pack), "--key", &place.key("ann")]);
    assert!(code == 0 && out.contains("the same attestation was there"), "{out}");

    // Without a key to trust it is reported, and says nothing.
    let (code, out, _) = told(["verify", text(&pack)]);
    assert!(code == 0 && out.contains("consistent") && out.contains("not checked    1 signatures"), "{out}");
    let (code, out, _) = told(["verify", text(&pack), "--trusted-key", &place.trusted("ann")]);
    assert!(code == 0 && out.contains("signed: ") || out.contains("signed"), "{out}");
    assert!(out.contains("signed by      ann"), "{out}");

    // A pack that is refused is not signed.
    fs::write(pack.join("artifacts/decisions.json"), "[]").unwrap();
    let (code, out, err) = told(["sign", text(&pack), "--key", &place.key("ann")]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.contains("refused"), "{err}");
}

#[test]
fn several_sign_one_attestation() {
    let place = Place::with(&["ann", "bob", "eve"]);
    let pack = place.pack("pack");
    let (first, both) = (place.at("ann.dsse.json"), place.at("both.dsse.json"));
    let sign = |args: &[&str]| told([&["sign", text(&pack)], args].concat());
    assert_eq!(sign(&["--key", &place.key("ann"), "--out", text(&first)]).0, 0);
    let with = ["--key", &place.key("bob"), "--with", text(&first), "--out", text(&both)];
    assert_eq!(sign(&with).0, 0);
    let two =
        ["--trusted-key", &place.trusted("ann"), "--trusted-key", &place.trusted("bob"), "--require-signatures", "2"];
    let at =
        |path: &Path| [&two[..], &["--attestation", text(path)]].concat().iter().map(ToString::to_string).collect();
    let cell_at = |path: &Path| {
        let args: Vec<String> = at(path);
        cell(&verified(&pack, &args.iter().map(String::as_str).collect::<Vec<_>>()))
    };
    assert_eq!(cell_at(&both), "signed by ann and bob");
    assert_eq!(cell_at(&first), "refused RP0802");
    // Nobody signs twice, nor what speaks of another pack.
    let (code, _, err) =
        sign(&["--key", &place.key("bob"), "--with", text(&both), "--out", text(&place.at("x.dsse.json"))]);
    assert!(code == 2 && err.contains("signed the attestation already"), "{err}");
    fs::write(&first, envelope(&inputs::testdata("packs/good/rich"), &[&place.secret("ann")]).to_bytes()).unwrap();
    let (code, _, err) = sign(&with);
    assert!(code == 2 && err.contains("speaks of another pack"), "{err}");
    // Another file is never written over, and a name is one of an attestation.
    let (code, _, err) = sign(&["--key", &place.key("eve"), "--out", text(&both)]);
    assert!(code == 2 && err.contains("holds something else"), "{err}");
    let (code, _, err) = sign(&["--key", &place.key("eve"), "--out", text(&place.at("x.json"))]);
    assert!(code == 2 && err.contains(".dsse.json"), "{err}");
}

/// What only the decider knows: then nothing is inferred in replay.
#[test]
fn settings_are_signed_only_if_the_run_follows_from_them() {
    let place = Place::with(&["ann"]);
    let pack = place.at("pack");
    let copied = Command::new("cp").arg("-r").arg(inputs::testdata("packs/good/rich")).arg(&pack).status();
    assert!(copied.unwrap().success());
    let anchors: Value =
        serde_json::from_slice(&fs::read(inputs::testdata("packs/source/rich/anchor-policy.json")).unwrap()).unwrap();
    let settings = json!({"anchor_policy": anchors, "logic": "kleene", "min_lane": "verified",
        "policy": {"engine": "permit_all"}, "provider_lanes": {}});
    let sign = |settings: &Value| {
        let file = place.at("settings.json");
        fs::write(&file, settings.to_string()).unwrap();
        told(["sign", text(&pack), "--key", &place.key("ann"), "--settings", text(&file)])
    };
    for (member, lie, code) in [
        ("min_lane", json!("asserted"), "RP0806"),
        ("anchor_policy", json!({"providers": []}), "RP0806"),
        ("policy", json!({"engine": "deny_all"}), "RP06"),
    ] {
        let mut other = settings.clone();
        other[member] = lie;
        let (exit, out, err) = sign(&other);
        assert!(exit == 1 && out.is_empty() && err.contains(code), "{member}: {exit} {err}");
    }
    assert_eq!(fs::read_dir(&pack).unwrap().count(), 2, "nothing was put there");
    let (exit, _, err) = sign(&settings);
    assert_eq!((exit, err.as_str()), (0, ""));
    let inferred = verified(&pack, &[]);
    assert_eq!(inferred["settings"]["attested"], false);
    let report = verified(&pack, &["--trusted-key", &place.trusted("ann")]);
    assert_eq!(report["settings"]["attested"], true);
    assert_eq!(report["settings"]["min_lanes"], json!(["verified"]));
    assert_eq!(report["settings"]["logics"], json!(["kleene"]));
    // What the policy wants is held against what was signed.
    let key = "[[keys]]\nid = \"ann\"\nfile = \"ann.pub\"\n";
    let policy = place.policy(&format!("version = 1\n[require]\nmin_lane = \"verified\"\n{key}"));
    assert_eq!(cell(&verified(&pack, &["--policy", text(&policy)])), "signed by ann");
}

#[test]
fn a_policy_asks_for_more_than_signatures() {
    let place = Place::with(&["ann"]);
    let pack = place.pack("pack");
    place.sign(&pack, "ann");
    let spec = manifest(&pack).1.spec_hash;
    let other = Digest::of(b"another scenario");
    let cases = [
        ("spec_hashes = [\"SPEC\"]", "", "signed by ann"),
        ("spec_hashes = [\"OTHER\", \"sha256:SPEC\"]", "", "signed by ann"),
        ("spec_hashes = [\"OTHER\"]", "", "refused RP0701"),
        ("min_lane = \"verified\"", "", "signed by ann"),
        ("anchor_policy = { providers = [] }", "", "signed by ann"),
        (
            "anchor_policy = { providers = [{ provider_id = \"json\", requirement = { anchor_type = \"a\", required_fields = [\"b\"] } }] }",
            "",
            "refused RP0701",
        ),
        ("roles = { pack = 1 }", "", "signed by ann"),
        ("roles = { auditor = 1 }", "roles = [\"auditor\"]", "signed by ann"),
        ("", "tenants = [1]\nnamespaces = [1]\nscenarios = [\"release-gate\"]", "signed by ann"),
        ("", "tenants = [2]", "refused RP0802 RP0809"),
        ("", "namespaces = [2]", "refused RP0802 RP0809"),
        ("", "scenarios = [\"deploy\"]", "refused RP0802 RP0809"),
        ("", "valid_from = \"2026-01-01\"\nvalid_until = \"2027-01-01\"", "signed by ann"),
        ("", "valid_from = \"2026-06-02\"", "refused RP0802 RP0808"),
        ("", "valid_until = \"2026-06-01T00:00:00Z\"", "refused RP0802 RP0808"),
        ("", "keyids = [\"what others call it\"]\nname = \"Ann\"", "signed by ann"),
    ];
    for (require, key, wanted) in cases {
        let require = require.replace("SPEC", &spec.to_string()).replace("OTHER", &other.to_string());
        let policy = place
            .policy(&format!("version = 1\n[require]\n{require}\n[[keys]]\nid = \"ann\"\nfile = \"ann.pub\"\n{key}\n"));
        assert_eq!(
            cell(&verified(&pack, &["--policy", text(&policy), "--at", "2026-06-01"])),
            wanted,
            "{require} {key}"
        );
    }
    // Both the policy's anchors and those of the arguments must hold.
    let (none, some) = (place.at("none.json"), inputs::testdata("packs/source/rich/anchor-policy.json"));
    fs::write(&none, "{\"providers\":[]}").unwrap();
    let key = "[[keys]]\nid = \"ann\"\nfile = \"ann.pub\"\n";
    let policy = place.policy(&format!("version = 1\n[require]\nanchor_policy = {{ providers = [] }}\n{key}"));
    let expecting =
        |file: &Path| cell(&verified(&pack, &["--policy", text(&policy), "--expect-anchor-policy", text(file)]));
    assert_eq!((expecting(&none).as_str(), expecting(&some).as_str()), ("signed by ann", "refused RP0701"));
    let policy = place.policy(&format!(
        "version = 1\n[require]\nanchor_policy = {{ providers = [{{ provider_id = \"json\", requirement = {{ anchor_type = \"a\", required_fields = [\"b\"] }} }}] }}\n{key}"
    ));
    let report = verified(&pack, &["--policy", text(&policy), "--expect-anchor-policy", text(&none)]);
    assert_eq!(cell(&report), "refused RP0701", "the policy's own is not forgotten");
}

/// A policy that means less than it says must not be taken.
#[test]
fn a_policy_that_makes_no_sense_is_refused() {
    let place = Place::with(&["ann", "bob"]);
    let pack = place.pack("pack");
    place.sign(&pack, "ann");
    let ann = "[[keys]]\nid = \"ann\"\nfile = \"ann.pub\"\n";
    let head = "version = 1\n";
    let cases = [
        (format!("version = 2\n{ann}"), "version"),
        (ann.to_owned(), "version"),
        (head.to_owned(), "keys"),
        (format!("{head}keys = []\n"), "1 to 64 keys"),
        (format!("{head}[require]\nsignatures = 2\n{ann}"), "require.signatures"),
        (format!("{head}[require]\nsignature = 1\n{ann}"), "signature"),
        (format!("{head}[require]\nroles = {{ auditor = 1 }}\n{ann}"), "require.roles.auditor"),
        (format!("{head}[require]\nspec_hashes = [\"abc\"]\n{ann}"), "require.spec_hashes[0]"),
        (format!("{head}[require]\nmin_lane = \"best\"\n{ann}"), "min_lane"),
        (format!("{head}{ann}{ann}"), "keys[1].id"),
        (format!("{head}{ann}[[keys]]\nid = \"anna\"\nfile = \"ann.pub\"\n"), "the same key as `ann`"),
        (format!("{head}[[keys]]\nid = \"ann\"\nfile = \"ann.pem\"\n"), "private key"),
        (format!("{head}[[keys]]\nid = \"ann\"\nfile = \"absent.pub\"\n"), "keys[0].file"),
        (format!("{head}[[keys]]\nid = \"ann\"\n"), "either `file` or `pem`"),
        (format!("{head}[[keys]]\nid = \"\"\nfile = \"ann.pub\"\n"), "keys[0].id"),
        (format!("{head}{ann}roles = []\n"), "keys[0].roles"),
        (format!("{head}{ann}valid_until = \"tomorrow\"\n"), "keys[0].valid_until"),
        (format!("{head}{ann}valid_from = \"2027-01-01\"\nvalid_until = \"2026-01-01\"\n"), "ends before it begins"),
        (format!("{head}{ann}valid_untill = \"2027-01-01\"\n"), "valid_untill"),
        (format!("{head}{ann}[evidence.json]\nmode = \"required\"\n"), "evidence.json.keys"),
        (format!("{head}{ann}[evidence.json]\nmode = \"sometimes\"\n"), "sometimes"),
        ("version = ".to_owned(), "trust.toml"),
    ];
    for (policy, at) in cases {
        let file = place.policy(&policy);
        let (code, out, err) = told(["verify", text(&pack), "--policy", text(&file)]);
        assert!(code == 2 && out.is_empty() && err.contains(at), "{policy}\n{code} {out}{err}");
        assert!(err.contains("trust.toml"), "{err}");
    }
    // Options that would do nothing are not taken in silence.
    for args in [
        vec!["--require-signatures", "1"],
        vec!["--at", "now"],
        vec!["--attestation", "x.dsse.json"],
        vec!["--trusted-key", "ann"],
        vec!["--trusted-key", &place.trusted("ann"), "--require-signatures", "2"],
    ] {
        let (code, out, err) = told([&["verify", text(&pack)], args.as_slice()].concat());
        assert!(code == 2 && out.is_empty() && !err.is_empty(), "{args:?}: {code} {out}{err}");
    }
    let policy = place.policy(&format!("{head}[require]\nmin_lane = \"verified\"\n{ann}"));
    let (code, _, err) = told(["verify", text(&pack), "--policy", text(&policy), "--checks", "digests"]);
    assert!(code == 2 && err.contains("deciding again"), "{err}");
}

/// A key with wide permissions, and nothing of a key anywhere.
#[test]
fn keys_are_kept_to_their_owner() {
    let place = Place::with(&["ann"]);
    let pack = place.pack("pack");
    let key = place.at("ann.pem");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&key), mode(&place.at("ann.pub"))), (0o600, 0o644));
    let secret = fs::read_to_string(&key).unwrap();
    let body = secret.lines().nth(1).unwrap().to_owned();
    let mut said = Vec::new();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
    let (code, out, err) = told(["sign", text(&pack), "--key", text(&key)]);
    assert!(code == 2 && err.contains("can be read by others (mode 640)") && err.contains("hint: chmod 600"), "{err}");
    said.extend([out, err]);
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(place.at("damaged.pem"), secret.replace("MC4C", "MC5C")).unwrap();
    fs::set_permissions(place.at("damaged.pem"), fs::Permissions::from_mode(0o600)).unwrap();
    let phrase = place.at("phrase");
    fs::write(&phrase, "a phrase nobody guesses\n").unwrap();
    fs::set_permissions(&phrase, fs::Permissions::from_mode(0o600)).unwrap();
    for args in [
        vec!["sign", text(&pack), "--key", &place.key("damaged")],
        vec!["sign", text(&pack), "--key", text(&place.at("ann.pub"))],
        vec!["sign", text(&pack), "--key", text(&key)],
        vec!["keygen", "--out", text(&key)],
        vec![
            "keygen",
            "--out",
            text(&place.at("locked.pem")),
            "--passphrase-file",
            text(&phrase),
            "--algorithm",
            "p256",
        ],
        vec!["sign", text(&pack), "--key", text(&place.at("locked.pem"))],
        vec!["sign", text(&pack), "--key", text(&place.at("locked.pem")), "--passphrase-file", text(&key)],
        vec!["sign", text(&pack), "--key", text(&place.at("locked.pem")), "--passphrase-file", text(&phrase)],
        vec!["verify", text(&pack), "--trusted-key", &format!("ann={}", text(&key))],
    ] {
        let (_, out, err) = told(&args);
        said.extend([out, err]);
    }
    let said = said.concat();
    assert!(said.contains("is encrypted\nhint") && said.contains("cannot be decrypted"), "{said}");
    for part in [&body[8..40], &body[24..], "a phrase nobody"] {
        assert!(!said.contains(part), "{said}");
    }
    let report = verified(&pack, &["--trusted-key", &place.trusted("locked")]);
    assert_eq!(cell(&report), "signed by locked RP0807");
}

/// An attestation goes where its pack goes.
#[test]
fn attestations_are_sealed_unsealed_and_pulled_along() {
    let place = Place::with(&["ann"]);
    let pack = place.pack("pack");
    place.sign(&pack, "ann");
    let trusted = place.trusted("ann");
    let (archive, again) = (place.at("pack.runpack.tar"), place.at("again"));
    let (code, _, err) = told(["seal", text(&pack), "--out", text(&archive)]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(cell(&verified(&archive, &["--trusted-key", &trusted])), "signed by ann");
    let (code, _, err) = told(["unseal", text(&archive), "--out", text(&again)]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(cell(&verified(&again, &["--trusted-key", &trusted])), "signed by ann");
    // A copy without the attestation is the same pack, and leaves it there.
    let (code, out, err) = told(["pull", text(&inputs::testdata("packs/good/release-gate")), "--out", text(&again)]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.contains("the same pack was there"), "{out}");
    assert_eq!(cell(&verified(&again, &["--trusted-key", &trusted])), "signed by ann");
    // To an archive it is put beside.
    let (code, _, err) = told(["sign", text(&archive), "--key", &place.key("ann")]);
    assert!(code == 2 && err.contains("--out"), "{err}");
    let bare = place.at("bare.runpack.tar");
    told(["seal", text(&inputs::testdata("packs/good/release-gate")), "--out", text(&bare)]);
    let beside = place.at("beside.dsse.json");
    let (code, _, err) = told(["sign", text(&bare), "--key", &place.key("ann"), "--out", text(&beside)]);
    assert_eq!((code, err.as_str()), (0, ""));
    let report = verified(&bare, &["--trusted-key", &trusted, "--attestation", text(&beside)]);
    assert_eq!(cell(&report), "signed by ann");
}

/// What lies beside a manifest may be anything: it is refused, never followed.
#[test]
fn hostile_attestations_are_refused() {
    let place = Place::with(&["ann"]);
    let pack = place.pack("pack");
    let bytes = envelope(&pack, &[&place.secret("ann")]).to_bytes();
    let args = ["--trusted-key", &place.trusted("ann")];
    let file = pack.join("a.dsse.json");
    let outside = place.at("outside.dsse.json");
    fs::write(&outside, &bytes).unwrap();
    std::os::unix::fs::symlink(&outside, &file).unwrap();
    assert_eq!(cell(&verified(&pack, &args)), "refused RP0105 RP0801");
    fs::remove_file(&file).unwrap();
    fs::hard_link(&outside, &file).unwrap();
    assert_eq!(cell(&verified(&pack, &args)), "refused RP0105 RP0801");
    fs::remove_file(&file).unwrap();
    fs::File::create(&file).unwrap().set_len(5 << 30).unwrap();
    assert_eq!(cell(&verified(&pack, &args)), "refused RP0801 RP0803");
    fs::remove_file(&file).unwrap();
    fs::write(&file, "[".repeat(1 << 20)).unwrap();
    assert_eq!(cell(&verified(&pack, &args)), "refused RP0801 RP0803");
    fs::remove_file(&file).unwrap();
    for name in
        ["artifacts/a.dsse.json", ".a.dsse.json", "-a.dsse.json", ".dsse.json", "a b.dsse.json", "a.dsse.json.bak"]
    {
        fs::write(pack.join(name), &bytes).unwrap();
        assert_eq!(cell(&verified(&pack, &args)), "refused RP0104 RP0801", "{name}");
        fs::remove_file(pack.join(name)).unwrap();
    }
    for number in 0..17 {
        fs::write(pack.join(format!("{number:02}.dsse.json")), &bytes).unwrap();
    }
    let (code, out, _) = told([&["verify", text(&pack)], &args[..]].concat());
    assert!(code == 2 && out.contains("RP0113"), "{code} {out}");
}

/// Every byte of an attestation matters, or is told of.
#[test]
fn no_byte_of_an_attestation_can_be_another_and_count() {
    use runpack_core::pack::{Expectations, Trust, Verdict, VerifyOptions, verify};
    use runpack_core::trust::TrustPolicy;
    let place = Place::with(&["ann"]);
    let pack = place.pack("pack");
    let ann = place.secret("ann");
    let bytes = envelope(&pack, &[&ann]).to_bytes();
    let policy = TrustPolicy::of_keys(vec![("ann".to_owned(), ann.public().clone())], 1).unwrap();
    let options = |bytes: Vec<u8>| {
        let attached = vec![runpack_core::pack::Attached { name: "a".to_owned(), bytes }];
        let expect = Expectations::default().trusting(Trust { policy: policy.clone().into(), at: None, attached });
        VerifyOptions { expect, checks: runpack_core::pack::Checks::Digests, ..VerifyOptions::default() }
    };
    let reader = runpack_storage::packs::DirectoryReader::open(&pack).unwrap();
    let verdict = |bytes: Vec<u8>| verify(&reader, "manifest.json", &options(bytes)).verdict;
    assert_eq!(verdict(bytes.clone()), Verdict::Signed);
    // The key's name is a hint that nothing covers: without it all keys are tried.
    let text = String::from_utf8(bytes.clone()).unwrap();
    let hint = text.find(&ann.public().id().to_string()).unwrap();
    let hint = hint..hint + 64;
    for at in 0..bytes.len() {
        let mut other = bytes.clone();
        other[at] ^= 1;
        let expected = if hint.contains(&at) { Verdict::Signed } else { Verdict::Refused };
        assert_eq!(verdict(other), expected, "byte {at}");
    }
    for length in 0..bytes.len() {
        assert_eq!(verdict(bytes[..length].to_vec()), Verdict::Refused, "{length} bytes");
    }
}

/// A command of somebody else signs as a key of our own does.
#[test]
fn a_foreign_signature_without_a_name_counts() {
    let place = Place::with(&["ann"]);
    let pack = place.pack("pack");
    let ann = place.secret("ann");
    let mut envelope = envelope(&pack, &[&ann]);
    envelope.signatures = vec![Signature { keyid: String::new(), signature: envelope.signatures.remove(0).signature }];
    put(&pack, "a.dsse.json", &envelope);
    assert_eq!(cell(&verified(&pack, &["--trusted-key", &place.trusted("ann")])), "signed by ann");
    let (bytes, manifest) = manifest(&pack);
    let same = attest(&ann, &bytes, "manifest.json", &Predicate::of(&manifest, None)).unwrap();
    assert_eq!(same.payload, envelope.payload);
}
