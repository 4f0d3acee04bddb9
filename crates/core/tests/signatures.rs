//! Signatures as others publish them: Wycheproof's, DSSE's, and the keys that
//! must not be taken.

#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test reads its own data")]

#[path = "../../../testdata/inputs.rs"]
mod inputs;

use std::fs;

use runpack_core::trust::{Algorithm, Envelope, EnvelopeFault, KeyFault, PublicKey, SIGNATURES_MAX, pae};
use serde_json::{Value, json};

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

/// Valid accepted, invalid refused: `(valid, invalid)` as counted.
fn wycheproof(file: &str, key: impl Fn(&Value) -> PublicKey) -> Option<(usize, usize)> {
    let path = inputs::shared(&format!("vectors/wycheproof/{file}"))?;
    let vectors: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let (mut valid, mut invalid, mut wrong) = (0, 0, Vec::new());
    for group in vectors["testGroups"].as_array().unwrap() {
        let key = key(&group["publicKey"]);
        for test in group["tests"].as_array().unwrap() {
            let bytes = |member: &str| hex(test[member].as_str().unwrap());
            let wanted = match test["result"].as_str().unwrap() {
                "valid" => true,
                "invalid" => false,
                other => panic!("{other} is for nobody to decide"),
            };
            *(if wanted { &mut valid } else { &mut invalid }) += 1;
            if key.verifies(&bytes("msg"), &bytes("sig")) != wanted {
                wrong.push(format!("{file} {}: {}", test["tcId"], test["comment"]));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    Some((valid, invalid))
}

#[test]
fn ed25519_is_checked_as_wycheproof_wants() {
    let key = |group: &Value| {
        let bytes = hex(group["pk"].as_str().unwrap());
        PublicKey::from_ed25519(&bytes.try_into().unwrap()).unwrap()
    };
    if let Some(counted) = wycheproof("ed25519_test.json", key) {
        assert_eq!(counted, (88, 63));
    }
}

#[test]
fn p256_is_checked_as_wycheproof_wants() {
    let key = |group: &Value| PublicKey::from_p256(&hex(group["uncompressed"].as_str().unwrap())).unwrap();
    if let Some(counted) = wycheproof("ecdsa_secp256r1_sha256_test.json", key) {
        assert_eq!(counted, (174, 310));
    }
}

/// The example of the DSSE protocol, version 1.0.
#[test]
fn the_example_of_dsse_is_understood() {
    let body: &[u8] = b"hello world";
    let kind = "http://example.com/HelloWorld";
    assert_eq!(pae(kind, body), b"DSSEv1 29 http://example.com/HelloWorld 11 hello world");
    let text = r#"{"payload": "aGVsbG8gd29ybGQ=",
 "payloadType": "http://example.com/HelloWorld",
 "signatures": [{"sig": "A3JqsQGtVsJ2O2xqrI5IcnXip5GToJ3F+FnZ+O88SjtR6rDAajabZKciJTfUiHqJPcIAriEGAHTVeCUjW2JIZA=="}]}"#;
    let envelope = Envelope::parse(text.as_bytes()).unwrap();
    assert_eq!((envelope.payload_type.as_str(), envelope.payload.as_slice()), (kind, body));
    let key = PublicKey::from_p256(&hex(&format!("04{X}{Y}"))).unwrap();
    assert_eq!(key.algorithm(), Algorithm::P256);
    let signature = &envelope.signatures[0].signature;
    assert!(key.verifies(&envelope.signed(), signature));
    for byte in 0..signature.len() {
        let mut other = signature.clone();
        other[byte] ^= 1;
        assert!(!key.verifies(&envelope.signed(), &other), "byte {byte}");
    }
    assert!(!key.verifies(&pae("http://example.com/HelloWorld2", body), signature));
}

const X: &str = "67cd390f77aa359cb08c2235f652270493a9ed832b0abcc01f70954c0390d238";
const Y: &str = "0c782bd54e269125a44f4433aff1432ce94e12bca73aa67ac80cea12608ddf74";

#[test]
fn an_envelope_is_read_in_any_spelling_and_nothing_else() {
    let sig = "A3JqsQGtVsJ2O2xqrI5IcnXip5GToJ3F-FnZ-O88SjtR6rDAajabZKciJTfUiHqJPcIAriEGAHTVeCUjW2JIZA";
    let with = |sig: Value| json!({"payload": "aGVsbG8gd29ybGQ", "payloadType": "t", "signatures": sig});
    let parse = |value: &Value| Envelope::parse(value.to_string().as_bytes());
    let one = parse(&with(json!([{"sig": sig, "keyid": "k"}]))).unwrap();
    assert_eq!(one.payload, b"hello world");
    assert_eq!(Envelope::parse(&one.to_bytes()).unwrap(), one);
    assert_eq!(parse(&with(json!([]))), Err(EnvelopeFault::Unsigned));
    let many = vec![json!({"sig": sig}); SIGNATURES_MAX + 1];
    assert_eq!(parse(&with(many.into())), Err(EnvelopeFault::TooMany));
    assert_eq!(parse(&with(json!([{"sig": "A==="}]))), Err(EnvelopeFault::Base64("sig")));
    // Trailing bits would be a second spelling of the same signature.
    assert_eq!(parse(&with(json!([{"sig": "AB=="}]))), Err(EnvelopeFault::Base64("sig")));
    let mut more = with(json!([{"sig": sig}]));
    more["verdict"] = "signed".into();
    let shapes = [more, json!([]), json!({"payload": 1, "payloadType": "t", "signatures": []})];
    for shape in shapes {
        assert!(matches!(parse(&shape), Err(EnvelopeFault::Shape(_))), "{shape}");
    }
    let twice = br#"{"payload":"","payload":"","payloadType":"t","signatures":[{"sig":"AA=="}]}"#;
    assert!(matches!(Envelope::parse(twice), Err(EnvelopeFault::Shape(_))));
}

/// The points of small order, in every encoding that is one: with such a key
/// one signature is good for nearly any message.
#[test]
fn keys_that_prove_nothing_are_refused() {
    let points = [
        "0100000000000000000000000000000000000000000000000000000000000000",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0000000000000000000000000000000000000000000000000000000000000080",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    ];
    for point in points {
        let key = PublicKey::from_ed25519(&hex(point).try_into().unwrap());
        assert!(matches!(key, Err(KeyFault::Weak | KeyFault::Unsupported)), "{point}");
    }
}

#[test]
fn what_is_no_public_key_is_named() {
    let pem = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n";
    let key = PublicKey::from_pem(pem).unwrap();
    assert_eq!((key.algorithm(), key.to_pem().as_str()), (Algorithm::Ed25519, pem));
    assert_eq!(PublicKey::from_pem(&pem.replace('\n', "\r\n")).unwrap(), key);
    let labelled = |label: &str| pem.replace("PUBLIC KEY", label);
    let cases = [
        (labelled("PRIVATE KEY"), KeyFault::Private),
        (labelled("ENCRYPTED PRIVATE KEY"), KeyFault::Private),
        (labelled("CERTIFICATE"), KeyFault::Certificate),
        (labelled("RSA PUBLIC KEY"), KeyFault::Unsupported),
        (pem.replace("MCow", "MCox"), KeyFault::Unsupported),
        ("ssh-ed25519 AAAA".to_owned(), KeyFault::NotPem),
        (String::new(), KeyFault::NotPem),
    ];
    for (text, fault) in cases {
        assert_eq!(PublicKey::from_pem(&text), Err(fault), "{text}");
    }
}
