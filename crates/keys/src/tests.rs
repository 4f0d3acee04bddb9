#![allow(clippy::unwrap_used)]

use std::fmt::{Debug, Display};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command as Tool;
use std::time::Duration;

use runpack_core::trust::{Algorithm, Envelope};
use zeroize::ZeroizeOnDrop;

use super::*;
use crate::file::read_private;

#[path = "../../../testdata/inputs.rs"]
mod inputs;

fn private(path: &Path, bytes: impl AsRef<[u8]>) {
    fs::write(path, bytes).unwrap();
    chmod(path, 0o600);
}

fn chmod(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn phrase(dir: &Path, text: &str) -> Passphrase {
    let path = dir.join("phrase");
    private(&path, text);
    Passphrase::read(&path).unwrap()
}

/// `None`, with a line that says so, if there is no OpenSSL.
fn openssl(args: &[&str]) -> Option<Vec<u8>> {
    let said = Tool::new("openssl").args(args).output();
    match said {
        Ok(said) => {
            assert!(said.status.success(), "{args:?}: {}", String::from_utf8_lossy(&said.stderr));
            Some(said.stdout)
        }
        Err(error) => {
            let required = std::env::var("RUNPACK_REQUIRE").unwrap_or_default();
            assert!(!required.split(',').any(|name| name == "openssl"), "openssl is required and absent: {error}");
            inputs::absent(&format!("openssl ({error}); keys as it writes them"));
            None
        }
    }
}

#[test]
fn what_was_written_is_read_again() {
    let dir = tempfile::tempdir().unwrap();
    for (name, algorithm) in [("ed25519", Algorithm::Ed25519), ("p256", Algorithm::P256)] {
        let key = SecretKey::generate(algorithm).unwrap();
        for (kind, passphrase) in [("plain", None), ("locked", Some(phrase(dir.path(), "so long\nsecond line")))] {
            let path = dir.path().join(format!("{name}-{kind}.pem"));
            let public = write_pair(&key, &path, passphrase.as_ref()).unwrap();
            assert_eq!(public, path.with_extension("pub"));
            assert_eq!(PublicKey::from_pem(&fs::read_to_string(&public).unwrap()).unwrap(), *key.public());
            let text = fs::read_to_string(&path).unwrap();
            assert_eq!(text.contains("ENCRYPTED"), passphrase.is_some());
            let locked = passphrase.is_some();
            let read = SecretKey::load(&path, || locked.then(|| phrase(dir.path(), "so long"))).unwrap();
            assert_eq!((read.public(), read.public().algorithm()), (key.public(), algorithm));
            let (signature, again) = (read.sign(b"message").unwrap(), key.sign(b"message").unwrap());
            assert_eq!(signature, again, "signing is deterministic");
            assert!(key.public().verifies(b"message", &signature));
            assert!(!key.public().verifies(b"massage", &signature));
            if locked {
                assert!(matches!(SecretKey::load(&path, || None), Err(KeyError::Encrypted { .. })));
                let wrong = SecretKey::load(&path, || Some(phrase(dir.path(), "so short")));
                assert!(matches!(wrong, Err(KeyError::Passphrase { .. })));
            }
            // Neither is written over.
            assert!(matches!(write_pair(&key, &path, None), Err(KeyError::Exists { .. })));
            fs::remove_file(&public).unwrap();
            assert!(matches!(write_pair(&key, &path, None), Err(KeyError::Exists { .. })));
            assert!(!public.exists(), "a public key without its private one stayed");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
    }
    let key = SecretKey::generate(Algorithm::Ed25519).unwrap();
    assert!(matches!(write_pair(&key, &dir.path().join("x.pub"), None), Err(KeyError::NotAKey { .. })));
}

#[test]
fn keys_of_openssl_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    private(Path::new(&at("phrase")), "correct horse\n");
    for (name, how) in [
        ("ed25519", vec!["-algorithm", "ed25519"]),
        ("p256", vec!["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]),
    ] {
        let (plain, public) = (at(&format!("{name}.pem")), at(&format!("{name}.pub")));
        let made = [&["genpkey"], how.as_slice(), &["-out", &plain]].concat();
        if openssl(&made).is_none() {
            return;
        }
        chmod(Path::new(&plain), 0o600);
        openssl(&["pkey", "-in", &plain, "-pubout", "-out", &public]).unwrap();
        let key = SecretKey::load(Path::new(&plain), || None).unwrap();
        assert_eq!(key.public().to_pem(), fs::read_to_string(&public).unwrap(), "{name}");
        // PBES2 with PBKDF2, and with scrypt.
        let pass = format!("file:{}", at("phrase"));
        for (kind, more) in [("pbkdf2", vec!["-v2", "aes-256-cbc"]), ("scrypt", vec!["-scrypt"])] {
            let locked = at(&format!("{name}-{kind}.pem"));
            let convert = ["pkcs8", "-topk8", "-in", &plain, "-out", &locked, "-passout", &pass];
            openssl(&[convert.as_slice(), more.as_slice()].concat()).unwrap();
            chmod(Path::new(&locked), 0o600);
            let read = SecretKey::load(Path::new(&locked), || Passphrase::read(Path::new(&at("phrase"))).ok());
            assert_eq!(read.unwrap().public(), key.public(), "{name} {kind}");
        }
        // And it reads ours.
        let ours = SecretKey::generate(key.public().algorithm()).unwrap();
        let (path, locked) =
            (dir.path().join(format!("{name}-ours.pem")), dir.path().join(format!("{name}-locked.pem")));
        let public = write_pair(&ours, &path, None).unwrap();
        write_pair(&ours, &locked, Some(&phrase(dir.path(), "correct horse"))).unwrap();
        for file in [&path, &locked] {
            let told = openssl(&["pkey", "-in", file.to_str().unwrap(), "-passin", &pass, "-pubout"]).unwrap();
            assert_eq!(String::from_utf8(told).unwrap(), fs::read_to_string(&public).unwrap());
        }
    }
}

#[test]
fn a_file_that_others_can_read_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key.pem");
    write_pair(&SecretKey::generate(Algorithm::P256).unwrap(), &path, None).unwrap();
    for mode in [0o640, 0o604, 0o620, 0o602, 0o610, 0o644, 0o666, 0o777] {
        chmod(&path, mode);
        let error = SecretKey::load(&path, || None).err().unwrap();
        assert!(matches!(error, KeyError::Open { mode: found, .. } if found == mode), "{mode:o}: {error}");
        assert!(matches!(Passphrase::read(&path), Err(KeyError::Open { .. })));
    }
    for mode in [0o600, 0o400, 0o700] {
        chmod(&path, mode);
        assert!(SecretKey::load(&path, || None).is_ok(), "{mode:o}");
    }
}

#[test]
fn what_is_no_private_key_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key.pem");
    let public = write_pair(&SecretKey::generate(Algorithm::Ed25519).unwrap(), &path, None).unwrap();
    let good = fs::read_to_string(&path).unwrap();
    let rsa = "-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n";
    let cases = [
        (fs::read(&public).unwrap(), "public key"),
        (b"hello".to_vec(), "not PEM"),
        (vec![0xff; 10], "not PEM"),
        (rsa.into(), "openssl pkcs8"),
        (good.replace("MC4C", "MC5C").into(), "no Ed25519"),
        (vec![b' '; 20_000], "more than 16384 bytes"),
    ];
    let other = dir.path().join("other.pem");
    for (bytes, told) in cases {
        private(&other, bytes);
        let error = SecretKey::load(&other, || None).err().unwrap().to_string();
        assert!(error.contains(told), "{error}");
        assert!(!error.contains(good.lines().nth(1).unwrap()), "{error}");
    }
    let error = SecretKey::load(dir.path(), || None).err().unwrap().to_string();
    assert!(error.contains("not an ordinary file"), "{error}");
    private(&other, "\nphrase");
    assert!(matches!(Passphrase::read(&other), Err(KeyError::NotAKey { .. })));
    let fifo = dir.path().join("fifo");
    if Tool::new("mkfifo").args(["-m", "600"]).arg(&fifo).status().is_ok_and(|made| made.success()) {
        let error = SecretKey::load(&fifo, || None).err().unwrap().to_string();
        assert!(error.contains("not an ordinary file"), "{error}");
    }
}

/// If any of these could be printed, this would not compile: two answers to
/// which `Mute` is meant.
#[test]
fn what_is_secret_cannot_be_printed() {
    trait Mute<Why> {
        fn is() {}
    }
    struct Debugs;
    struct Displays;
    impl<T: ?Sized> Mute<()> for T {}
    impl<T: ?Sized + Debug> Mute<Debugs> for T {}
    impl<T: ?Sized + Display> Mute<Displays> for T {}
    <SecretKey as Mute<_>>::is();
    <Passphrase as Mute<_>>::is();
    <Command as Mute<_>>::is();
}

#[test]
fn what_is_secret_is_overwritten() {
    fn overwritten<T: ZeroizeOnDrop>() {}
    overwritten::<ed25519_dalek::SigningKey>();
    overwritten::<p256::ecdsa::SigningKey>();
    overwritten::<zeroize::Zeroizing<Vec<u8>>>();
}

fn shell(text: &str, public: &PublicKey, timeout_ms: u64) -> Command {
    let arguments = vec!["-c".to_owned(), text.to_owned()];
    let timeout = Duration::from_millis(timeout_ms);
    Command::new(PathBuf::from("/bin/sh"), arguments, vec!["RUNPACK_KEYS_TEST".to_owned()], timeout, public.clone())
}

#[test]
fn a_command_signs() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key.pem");
    let key = SecretKey::generate(Algorithm::P256).unwrap();
    write_pair(&key, &path, None).unwrap();
    let path = path.to_str().unwrap();
    if openssl(&["version"]).is_none() {
        return;
    }
    // More than a pipe holds, so that writing and reading cannot wait for each other.
    let message = vec![b'x'; 1_000_000];
    for end in ["", " | base64"] {
        let command = shell(&format!("openssl dgst -sha256 -sign {path}{end}"), key.public(), 30_000);
        let signature = command.sign(&message).unwrap();
        assert!(key.public().verifies(&message, &signature));
    }
    let command = shell(&format!("openssl dgst -sha256 -sign {path}"), key.public(), 30_000);
    let mut envelope = Envelope { payload_type: "t".to_owned(), payload: b"p".to_vec(), signatures: Vec::new() };
    co_sign(&command, &mut envelope).unwrap();
    assert!(key.public().verifies(&envelope.signed(), &envelope.signatures[0].signature));
    assert_eq!(envelope.signatures[0].keyid, key.public().id().to_string());
}

#[test]
fn a_command_that_does_not_sign_is_told_of() {
    let key = SecretKey::generate(Algorithm::Ed25519).unwrap();
    let told = |text: &str| shell(text, key.public(), 500).sign(b"message").unwrap_err().to_string();
    assert!(told("echo no token >&2; exit 3").ends_with("no token"));
    assert!(told("exit 3").ends_with("it said nothing"));
    assert!(told("echo aGVsbG8=").contains("no signature of its public key"));
    // It is not listened to for longer than a signature takes.
    assert!(told("head -c 100000 /dev/zero; exit 0").starts_with("the signing command `/bin/sh` "));
    assert!(told("cat > /dev/null").contains("no signature of its public key"));
    let began = std::time::Instant::now();
    assert!(told("sleep 60").contains("did not answer within 500 ms"));
    assert!(told("exec >&-; exec 2>&-; sleep 60").contains("did not end"));
    assert!(told("sleep 60 & echo x").contains("did not answer"), "what it left behind holds the pipe");
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    let none = Command::new(PathBuf::from("/absent"), vec![], vec![], Duration::from_secs(1), key.public().clone());
    assert!(none.sign(b"message").unwrap_err().to_string().contains("cannot be started"));
    // Of our environment it sees what it is given, and no more.
    assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some());
    assert!(told("test -z \"$CARGO_MANIFEST_DIR\" || echo told >&2; exit 1").ends_with("it said nothing"));
    assert!(told("test -n \"$PATH\" && echo told >&2; exit 1").ends_with("told"));
}

#[test]
fn private_files_are_read_to_their_limit() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    private(&path, vec![b'a'; 16 * 1024]);
    assert_eq!(read_private(&path).unwrap().len(), 16 * 1024);
    private(&path, vec![b'a'; 16 * 1024 + 1]);
    assert!(matches!(read_private(&path), Err(KeyError::NotAKey { .. })));
}
