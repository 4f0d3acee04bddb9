use std::fs;

use futures_util::future::ready;
use ring::signature::{Ed25519KeyPair, KeyPair};
use runpack_core::canon;
use runpack_core::model::{EvidenceError, EvidenceSignature, Lane, NamespaceId, TenantId, Timestamp};
use runpack_core::trust::evidence::bound_message;
use serde_json::{Value, json};

use super::*;
use crate::gather::tests::{context, message};
use crate::inputs;
use crate::query::found;

const KEY: &str = "keys/git.pub";

fn pair() -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap()
}

fn keys() -> Keys {
    Keys(BTreeMap::from([(KEY.to_owned(), pair().public_key().as_ref().try_into().unwrap())]))
}

fn asked() -> EvidenceQuery {
    crate::gather::tests::query("git", "head", Some(json!({"branch": "main", "depth": 1.0})))
}

/// What the provider answers, signed by `pair` over `message`.
fn signed(value: Option<Value>, message: impl FnOnce(Option<&Digest>) -> Vec<u8>) -> EvidenceResult {
    let evidence_hash = value.as_ref().map(|value| Digest::of_canonical(value).unwrap());
    let signature = pair().sign(&message(evidence_hash.as_ref())).as_ref().to_vec();
    EvidenceResult {
        value: value.map(EvidenceValue::Json),
        evidence_hash,
        signature: Some(EvidenceSignature { key_id: KEY.to_owned(), scheme: "ed25519".to_owned(), signature }),
        ..EvidenceResult::empty(Lane::Verified)
    }
}

fn bound(value: Option<Value>) -> EvidenceResult {
    signed(value, |hash| bound_message(&asked(), &context(), hash).unwrap())
}

fn value_only(value: Value) -> EvidenceResult {
    signed(Some(value), |hash| canon::to_vec(hash.unwrap()).unwrap())
}

fn told(result: &EvidenceResult) -> Result<Form, String> {
    verify(&keys(), &asked(), &context(), result).map_err(|error| error.to_string())
}

#[test]
fn both_forms_are_told_apart() {
    assert_eq!(told(&bound(Some(json!("c0ffee")))), Ok(Form::Bound));
    assert_eq!(told(&bound(Some(Value::Null))), Ok(Form::Bound));
    assert_eq!(told(&value_only(json!("c0ffee"))), Ok(Form::ValueOnly));
    assert!(Form::ValueOnly < Form::Bound);
}

/// The messages as another implementation would write them.
#[test]
fn the_messages_are_these_bytes() {
    let digest = Digest::of(b"\"c0ffee\"");
    let text = String::from_utf8(bound_message(&asked(), &context(), Some(&digest)).unwrap()).unwrap();
    assert_eq!(
        text,
        format!(
            "runpack evidence v1\n{{\"context\":{{\"namespace_id\":1,\"run_id\":\"run-1\",\"scenario_id\":\"s\",\
             \"stage_id\":\"stage-1\",\"tenant_id\":1,\"trigger_id\":\"trigger-1\",\"trigger_time\":{{\"kind\":\"logical\",\
             \"value\":2}}}},\"evidence_hash\":{{\"algorithm\":\"sha256\",\"value\":\"{digest}\"}},\"query\":{{\"check_id\":\"head\",\
             \"params\":{{\"branch\":\"main\",\"depth\":1}},\"provider_id\":\"git\"}}}}"
        )
    );
    let nothing = bound_message(&asked(), &context(), None).unwrap();
    assert!(String::from_utf8(nothing).unwrap().contains("\"evidence_hash\":null"));
}

#[test]
fn the_absence_of_a_value_can_be_signed() {
    assert_eq!(told(&bound(None)), Ok(Form::Bound));
    let borrowed =
        EvidenceResult { signature: value_only(json!(1)).signature, ..EvidenceResult::empty(Lane::Verified) };
    assert_eq!(told(&borrowed), Err("signature verification failed".to_owned()));
}

#[test]
fn a_bound_signature_is_good_for_one_question_only() {
    let result = bound(Some(json!(true)));
    let failed = |query: &EvidenceQuery, context: &EvidenceContext| {
        matches!(verify(&keys(), query, context, &result), Err(SignatureError::Verification))
    };
    let other = |check: &str, params: Value| crate::gather::tests::query("git", check, Some(params));
    assert!(failed(&other("tail", json!({"branch": "main", "depth": 1})), &context()));
    assert!(failed(&other("head", json!({"branch": "next", "depth": 1})), &context()));
    assert!(failed(&EvidenceQuery { provider_id: "hg".into(), ..asked() }, &context()));
    assert!(failed(&EvidenceQuery { params: None, ..asked() }, &context()));
    let contexts = [
        EvidenceContext { run_id: "run-2".into(), ..context() },
        EvidenceContext { scenario_id: "t".into(), ..context() },
        EvidenceContext { stage_id: "stage-2".into(), ..context() },
        EvidenceContext { trigger_id: "trigger-2".into(), ..context() },
        EvidenceContext { trigger_time: Timestamp::Logical(3), ..context() },
        EvidenceContext { trigger_time: Timestamp::UnixMillis(2), ..context() },
        EvidenceContext { tenant_id: TenantId::new(2).unwrap(), ..context() },
        EvidenceContext { namespace_id: NamespaceId::new(2).unwrap(), ..context() },
    ];
    for context in contexts {
        assert!(failed(&asked(), &context), "{context:?}");
    }
    let correlated = EvidenceContext { correlation_id: Some("again".into()), ..context() };
    assert!(matches!(verify(&keys(), &asked(), &correlated, &result), Ok(Form::Bound)));
}

#[test]
fn says_why_evidence_is_not_believed() {
    let good = || bound(Some(json!("c0ffee")));
    let with = |change: &dyn Fn(&mut EvidenceSignature)| {
        let mut result = good();
        change(result.signature.as_mut().unwrap());
        told(&result).unwrap_err()
    };
    assert_eq!(told(&EvidenceResult { signature: None, ..good() }).unwrap_err(), "missing evidence signature");
    assert_eq!(with(&|it| it.scheme = "ED25519".to_owned()), "unsupported signature scheme");
    assert_eq!(with(&|it| it.key_id = "keys/other.pub".to_owned()), "signature key not authorized");
    assert_eq!(with(&|it| it.signature.truncate(63)), "invalid signature bytes");
    assert_eq!(with(&|it| it.signature.push(0)), "invalid signature bytes");
    assert_eq!(with(&|it| it.signature[5] ^= 1), "signature verification failed");
    assert_eq!(told(&EvidenceResult { evidence_hash: None, ..good() }).unwrap_err(), "missing evidence hash");
    let other = Some(EvidenceValue::Json(json!("decaf")));
    assert_eq!(told(&EvidenceResult { value: other, ..good() }).unwrap_err(), "evidence hash mismatch");
    assert_eq!(told(&EvidenceResult { value: None, ..good() }).unwrap_err(), "evidence hash mismatch");
    let nobody = verify(&Keys::default(), &asked(), &context(), &good()).unwrap_err();
    assert_eq!(nobody.to_string(), "signature key not authorized");
}

#[test]
fn the_hash_of_bytes_is_of_the_bytes() {
    let digest = Digest::of(&[1, 2]);
    let message = bound_message(&asked(), &context(), Some(&digest)).unwrap();
    let result = EvidenceResult {
        value: Some(EvidenceValue::Bytes(vec![1, 2])),
        evidence_hash: Some(digest),
        ..signed(None, |_| message)
    };
    assert_eq!(told(&result), Ok(Form::Bound));
}

#[test]
fn keys_are_raw_bytes_or_base64() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let raw = path("raw", &[9; 32]);
    let text = path("text", format!("{}\n", BASE64_STANDARD.encode([9; 32])).as_bytes());
    let keys = Keys::load(&[raw.clone(), text.clone()]).unwrap();
    assert_eq!(keys.0, BTreeMap::from([(raw, [9; 32]), (text, [9; 32])]));
    for (name, bytes) in [
        ("empty", &b""[..]),
        ("short", &[9; 31]),
        ("long", &[9; 33]),
        ("words", b"-----BEGIN"),
        ("huge", &[b'A'; 4_000]),
    ] {
        let path = path(name, bytes);
        let error = Keys::load(std::slice::from_ref(&path)).unwrap_err().to_string();
        assert!(error.starts_with(&format!("`{path}` is not a key file\n")), "{error}");
    }
    let absent = folder.path().join("absent").to_str().unwrap().to_owned();
    assert!(Keys::load(&[absent]).unwrap_err().to_string().starts_with("cannot read the key file `"));
}

struct Answers(EvidenceResult);

impl Provider for Answers {
    fn query<'a>(&'a self, _: &'a EvidenceQuery, _: &'a EvidenceContext) -> BoxFuture<'a, EvidenceResult> {
        ready(self.0.clone()).boxed()
    }
}

#[tokio::test]
async fn what_is_not_signed_well_enough_is_an_error() {
    let ask = async |result: &EvidenceResult, weakest| {
        let provider = Signed::new(Arc::new(Answers(result.clone())), keys(), weakest);
        provider.query(&asked(), &context()).await
    };
    let strong = bound(Some(json!("c0ffee")));
    let weak = value_only(json!("c0ffee"));
    assert_eq!(ask(&strong, Form::Bound).await, strong);
    assert_eq!(ask(&strong, Form::ValueOnly).await, strong);
    assert_eq!(ask(&weak, Form::ValueOnly).await, weak);
    let said = message(&ask(&weak, Form::Bound).await);
    assert_eq!(said, "evidence provider error: signature does not cover query and run");
    let unsigned = found(json!("c0ffee"), "text/plain");
    let said = message(&ask(&unsigned, Form::ValueOnly).await);
    assert_eq!(said, "evidence provider error: missing evidence signature");
    let failed = EvidenceResult::failed(EvidenceError::new("file_not_found", "file not found"));
    assert_eq!(ask(&failed, Form::Bound).await, failed);
}

#[test]
fn signatures_are_verified_as_others_verify_them() {
    let Some(vectors) = inputs::shared("vectors/wycheproof/ed25519_test.json") else { return };
    let vectors: Value = serde_json::from_slice(&fs::read(vectors).unwrap()).unwrap();
    let bytes = |hex: &Value| -> Vec<u8> {
        let hex = hex.as_str().unwrap();
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    };
    let mut tried = 0;
    for group in vectors["testGroups"].as_array().unwrap() {
        let key: [u8; 32] = bytes(&group["publicKey"]["pk"]).try_into().unwrap();
        for test in group["tests"].as_array().unwrap() {
            let valid =
                PublicKey::from_ed25519(&key).is_ok_and(|key| key.verifies(&bytes(&test["msg"]), &bytes(&test["sig"])));
            assert_eq!(valid, test["result"] == "valid", "{}", test["tcId"]);
            tried += 1;
        }
    }
    assert_eq!(vectors["numberOfTests"], tried);
}
