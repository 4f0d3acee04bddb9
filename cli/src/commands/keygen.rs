use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use runpack_core::trust::Algorithm;
use runpack_keys::{Passphrase, SecretKey, Signer, write_pair};

use super::Outcome;
use crate::out;

/// Make a key to sign packs with
///
/// The private key is readable for you alone; the public one lies beside it
/// with the ending .pub, and is what others check with.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 made, 2 could not be made.\n\nExample:\n  runpack keygen --out release.pem --encrypt\n  runpack sign ./pack --key release.pem"
)]
pub(crate) struct KeygenArgs {
    /// Where the private key goes, as PKCS#8 in PEM
    #[arg(long, value_name = "FILE.pem")]
    out: PathBuf,
    /// How it signs
    #[arg(long, value_enum, default_value_t = Kind::Ed25519)]
    algorithm: Kind,
    /// Encrypt it with a passphrase that is asked for at the terminal
    #[arg(long, conflicts_with = "passphrase_file")]
    encrypt: bool,
    /// Encrypt it with the first line of a file that only you can read
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// Ed25519
    Ed25519,
    /// ECDSA on P-256 with SHA-256
    P256,
}

pub(crate) fn keygen(args: &KeygenArgs) -> Outcome {
    let passphrase = match &args.passphrase_file {
        Some(file) => Some(Passphrase::read(file).map_err(|error| error.to_string())?),
        None if args.encrypt => {
            let asked = Passphrase::ask("passphrase for the new key: ");
            Some(asked.ok_or(
                "there is no passphrase to encrypt with\nhint: run this at a terminal, or pass --passphrase-file",
            )?)
        }
        None => None,
    };
    let algorithm = match args.algorithm {
        Kind::Ed25519 => Algorithm::Ed25519,
        Kind::P256 => Algorithm::P256,
    };
    let key = SecretKey::generate(algorithm).map_err(|error| error.to_string())?;
    let public = write_pair(&key, &args.out, passphrase.as_ref()).map_err(|error| error.to_string())?;
    let how = if passphrase.is_some() { "encrypted" } else { "not encrypted" };
    out::say(&format!(
        "{}: a new key\n  algorithm      {algorithm}, {how}\n  public key     {}\n  key digest     {}\n",
        out::printable(&args.out.display().to_string()),
        out::printable(&public.display().to_string()),
        key.public().id()
    ));
    Ok(ExitCode::SUCCESS)
}
