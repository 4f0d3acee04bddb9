use std::io::Read as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use runpack_core::canon::Digest;
use runpack_core::pack::layout::{MANIFEST_BYTES_MAX, attestation_name};
use runpack_core::pack::{
    Attached, AttestedSettings, Claim, Manifest, Predicate, Statement, Trust, Verdict, VerifyOptions, verify,
};
use runpack_core::read;
use runpack_core::trust::{ENVELOPE_BYTES_MAX, Envelope, TrustPolicy};
use runpack_keys::{Passphrase, SecretKey, Signer as _, attest, co_sign};
use runpack_storage::packs::{Location, Published, attach};

use super::{INPUT_BYTES_MAX, Limit, Outcome, ReadArgs, exit_code, read_input};
use crate::out::{self, Paint};

/// Sign a pack: say with your key that this is the run
///
/// The pack is verified first. Nothing in it changes: the signature goes into
/// an attestation of its own, beside the manifest unless --out names another
/// place, and covers the manifest's bytes and through them everything.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 signed, or the same attestation was there; 1 the pack is refused; 2 could not tell, or could not sign.\n\nExample:\n  runpack sign ./pack --key release.pem\n  runpack verify ./pack --trusted-key release=release.pub"
)]
pub(crate) struct SignArgs {
    /// The pack
    #[arg(value_name = "PACK")]
    path: String,
    /// Your private key: PKCS#8 in PEM, Ed25519 or ECDSA P-256, encrypted or not
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The first line of this file decrypts the key [default: it is asked for at the terminal]
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// Where the attestation goes; its name ends with .dsse.json [default: beside the manifest]
    #[arg(long, value_name = "FILE.dsse.json")]
    out: Option<PathBuf>,
    /// What the run was decided by, as JSON: only who decided it knows
    #[arg(long, value_name = "FILE", conflicts_with = "with")]
    settings: Option<PathBuf>,
    /// Sign what this attestation says; the new one holds its signatures and yours
    #[arg(long, value_name = "FILE.dsse.json", requires = "out")]
    with: Option<PathBuf>,
    #[command(flatten)]
    read: ReadArgs,
}

pub(crate) fn sign(args: &SignArgs) -> Outcome {
    let location = Location::parse(&args.path, args.read.manifest.as_deref()).map_err(|error| error.to_string())?;
    let (reader, manifest_name) = args.read.open(&args.path)?;
    let report = verify(&*reader, &manifest_name, &args.read.verify_options());
    if !report.verdict.passed() {
        out::talk(out::report(&Paint::plain(), &args.path, &report));
        return Ok(exit_code(report.verdict));
    }
    let mut bytes = Vec::new();
    let file = reader.open(&manifest_name, MANIFEST_BYTES_MAX);
    let read = file
        .map_err(|fault| fault.to_string())
        .and_then(|mut file| file.read_to_end(&mut bytes).map_err(|error| error.to_string()));
    read.map_err(|problem| format!("`{manifest_name}`: {problem}"))?;
    let pack_digest = Digest::of(&bytes);
    if report.pack_digest != Some(pack_digest) {
        return Err(
            "the manifest changed while it was verified\nhint: copy the pack to where nobody writes to it".to_owned()
        );
    }
    let manifest: Manifest = read::recorded(&bytes).map_err(|refusal| format!("`{manifest_name}`: {refusal}"))?;
    let settings = args.settings.as_deref().map(settings).transpose()?;
    let other = args.with.as_deref().map(|path| other(path, pack_digest)).transpose()?;

    let key = SecretKey::load(&args.key, || match &args.passphrase_file {
        // What is wrong with the file is told below.
        Some(file) => Passphrase::read(file).ok(),
        None => Passphrase::ask("passphrase: "),
    });
    let key = match (key, &args.passphrase_file) {
        (Err(runpack_keys::KeyError::Encrypted { .. }), Some(file)) => {
            return Err(Passphrase::read(file)
                .err()
                .map_or("the key is encrypted".to_owned(), |error| error.to_string()));
        }
        (key, _) => key.map_err(|error| error.to_string())?,
    };
    let envelope = match other {
        Some(mut envelope) => {
            let keyid = key.public().id().to_string();
            if envelope.signatures.iter().any(|signature| signature.keyid == keyid) {
                return Err("this key has signed the attestation already".to_owned());
            }
            co_sign(&key, &mut envelope).map_err(|error| error.to_string())?;
            envelope
        }
        None => {
            let predicate = Predicate::of(&manifest, settings);
            attest(&key, &bytes, &manifest_name, &predicate).map_err(|error| error.to_string())?
        }
    };
    // A signature over what the run contradicts would refuse the pack.
    let checked = verify(&*reader, &manifest_name, &signed(&args.read, &key, &envelope)?);
    if checked.verdict != Verdict::Signed {
        out::talk(out::report(&Paint::plain(), &args.path, &checked));
        return Ok(exit_code(checked.verdict));
    }
    let target = match (&args.out, &location) {
        (Some(out), _) => out.clone(),
        (None, Location::Directory { directory, .. }) => directory.join(attestation_name(&key.public().id())),
        (None, _) => {
            return Err(
                "an attestation cannot be put beside the manifest there\nhint: name a file with --out".to_owned()
            );
        }
    };
    let how = match attach(&target, &envelope.to_bytes()).map_err(|error| error.to_string())? {
        Published::Identical => "the same attestation was there",
        Published::New | Published::Replaced { .. } => "signed",
    };
    out::say(&format!(
        "{}: {how}\n  attestation    {}\n  key digest     {}\n  root digest    {}\n  pack digest    {pack_digest}\n",
        out::printable(&runpack_storage::packs::shown(&args.path)),
        out::printable(&target.display().to_string()),
        key.public().id(),
        manifest.integrity.root_hash,
    ));
    Ok(ExitCode::SUCCESS)
}

/// Options by which the envelope must make the pack a signed one.
fn signed(read: &ReadArgs, key: &SecretKey, envelope: &Envelope) -> Result<VerifyOptions, String> {
    let policy = TrustPolicy::of_keys(vec![("this key".to_owned(), key.public().clone())], 1);
    let policy = Arc::new(policy.map_err(|fault| fault.to_string())?);
    let attached = vec![Attached { name: "the new attestation".to_owned(), bytes: envelope.to_bytes() }];
    let options = read.verify_options();
    let expect = options.expect.clone().trusting(Trust { policy, at: None, attached });
    Ok(VerifyOptions { expect, ..options })
}

fn settings(path: &std::path::Path) -> Result<AttestedSettings, String> {
    let bytes = read_input(path, Limit::Fixed(INPUT_BYTES_MAX))?;
    read::recorded(&bytes).map_err(|refusal| format!("`{}`: {refusal}", path.display()))
}

/// An attestation by others, which must be about this very pack.
fn other(path: &std::path::Path, pack_digest: Digest) -> Result<Envelope, String> {
    let shown = path.display();
    let bytes = read_input(path, Limit::Fixed(ENVELOPE_BYTES_MAX))?;
    let envelope = Envelope::parse(&bytes).map_err(|fault| format!("`{shown}`: {fault}"))?;
    let statement = Statement::parse(&envelope.payload_type, &envelope.payload);
    match statement.map_err(|fault| format!("`{shown}`: {fault}"))? {
        Statement { claim: Claim::Other(kind), .. } => Err(format!("`{shown}` is a statement of the kind `{kind}`")),
        Statement { pack_digest: of, .. } if of != pack_digest => Err(format!("`{shown}` speaks of another pack")),
        Statement { .. } => Ok(envelope),
    }
}
