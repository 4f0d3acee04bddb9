//! RFC 8785 against its published vectors, against a second implementation,
//! and against the checker that works without building anything.

#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test reads its own data")]

#[path = "../../../testdata/inputs.rs"]
mod inputs;

use std::fs;

use runpack_core::canon::{Form, check, to_vec};
use runpack_core::read::{self, Profile};
use serde_json::{Map, Number, Value};

fn parse(text: &[u8]) -> Value {
    read::value(text, Profile::Pack).unwrap()
}

#[test]
fn the_six_published_pairs() {
    let Some(dir) = inputs::shared("vectors/rfc8785") else { return };
    for name in ["arrays", "french", "structures", "unicode", "values", "weird"] {
        let input = fs::read(dir.join(format!("input/{name}.json"))).unwrap();
        let output = fs::read(dir.join(format!("output/{name}.json"))).unwrap();
        assert_eq!(to_vec(&parse(&input)).unwrap(), output, "{name}");
        assert_eq!(check(&output), Ok(Form::Rfc8785), "{name}");
    }
}

#[test]
fn ten_thousand_doubles() {
    let Some(file) = inputs::shared("vectors/rfc8785/es6_numbers_10000.txt") else { return };
    let text = fs::read_to_string(file).unwrap();
    assert_eq!(text.lines().count(), 10_000);
    for line in text.lines() {
        let (bits, expected) = line.split_once(',').unwrap();
        let double = f64::from_bits(u64::from_str_radix(bits, 16).unwrap());
        assert_eq!(to_vec(&double).unwrap(), expected.as_bytes(), "{line}");
        assert_eq!(check(expected.as_bytes()), Ok(Form::Rfc8785), "{line}");
        assert_eq!(to_vec(&parse(expected.as_bytes())).unwrap(), expected.as_bytes(), "{line}");
    }
}

#[test]
fn two_thousand_integers() {
    let Some(file) = inputs::shared("vectors/rfc8785/integers_2000.txt") else { return };
    let text = fs::read_to_string(file).unwrap();
    assert_eq!(text.lines().count(), 2_000);
    for line in text.lines() {
        let (literal, expected) = line.split_once(',').unwrap();
        assert_eq!(to_vec(&parse(literal.as_bytes())).unwrap(), expected.as_bytes(), "{line}");
        assert_eq!(check(expected.as_bytes()), Ok(Form::Rfc8785), "{line}");
        let form = check(literal.as_bytes());
        if literal == expected {
            assert_eq!(form, Ok(Form::Rfc8785), "{line}");
        } else {
            // Verbatim, as the older canonicaliser wrote it.
            assert_eq!(form, Ok(Form::Legacy { offset: 0 }), "{line}");
        }
    }
}

/// Where the older canonicaliser of v1 packs is not RFC 8785.
#[test]
fn the_divergence_file() {
    let Some(file) = inputs::shared("vectors/rfc8785/divergence.jsonl") else { return };
    let mut legacy = 0;
    for line in fs::read_to_string(file).unwrap().lines() {
        let case = parse(line.as_bytes());
        let text = |name: &str| case[name].as_str().unwrap().as_bytes().to_vec();
        assert_eq!(to_vec(&parse(&text("input"))).unwrap(), text("rfc8785"), "{line}");
        assert_eq!(check(&text("rfc8785")), Ok(Form::Rfc8785), "{line}");
        if text("rfc8785") == text("serde_jcs_0_1_0") {
            continue;
        }
        legacy += 1;
        assert!(matches!(check(&text("serde_jcs_0_1_0")), Ok(Form::Legacy { .. })), "{line}");
    }
    assert_eq!(legacy, 11);
}

/// The vectors of the contract, §2.1, that RFC 8785 agrees with.
#[test]
fn digests_of_small_values() {
    for (text, digest) in [
        ("{}", "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"),
        ("[]", "4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945"),
        ("true", "b5bea41b6c623f7c09f1bf24dcae58ebab3c0cdd90ad966bc43a45b44867e12b"),
        ("92.50", "6334b819340e38c9a6e3f872027cdd9d5e3040e38bad4123a3c49ab4e8a81a68"),
        ("1e21", "241c4643fa70b1dcde1205b71be4e3bebb17e9f880c8e1a33d0ead6c27271d3c"),
    ] {
        let found = runpack_core::canon::Digest::of_canonical(&parse(text.as_bytes())).unwrap();
        assert_eq!(found.to_string(), digest, "{text}");
    }
}

/// A small generator of its own, so that a hundred thousand trees cost seconds.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn text(&mut self) -> String {
        const HARD: [char; 24] = [
            'a',
            'b',
            'Z',
            ' ',
            '!',
            '"',
            '#',
            '\\',
            ']',
            '[',
            '\n',
            '\t',
            '\r',
            '\u{8}',
            '\u{c}',
            '\u{1f}',
            '\u{0}',
            '\u{7f}',
            '\u{e9}',
            '\u{2028}',
            '\u{d7ff}',
            '\u{e000}',
            '\u{fb33}',
            '\u{1f600}',
        ];
        (0..self.below(5)).map(|_| HARD[self.below(24) as usize]).collect()
    }

    fn number(&mut self) -> Number {
        match self.below(5) {
            0 => Number::from(self.below(1 << 53)),
            1 => Number::from(-(self.below(1 << 53) as i64)),
            2 => Number::from(self.next()),
            _ => loop {
                let shift = self.below(64);
                if let Some(number) = Number::from_f64(f64::from_bits(self.next() >> shift << shift)) {
                    return number;
                }
            },
        }
    }

    fn tree(&mut self, depth: u64) -> Value {
        match self.below(if depth == 0 { 5 } else { 9 }) {
            0 => Value::Null,
            1 => Value::Bool(self.below(2) == 0),
            2 => Value::Number(self.number()),
            3 | 4 => Value::String(self.text()),
            5 | 6 => (0..self.below(5)).map(|_| self.tree(depth - 1)).collect(),
            _ => {
                let members: Map<_, _> = (0..self.below(6)).map(|_| (self.text(), self.tree(depth - 1))).collect();
                Value::Object(members)
            }
        }
    }
}

#[test]
fn a_hundred_thousand_trees_agree_with_a_second_implementation() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for round in 0..100_000 {
        let tree = random.tree(4);
        let ours = to_vec(&tree).unwrap();
        let theirs = serde_json_canonicalizer::to_vec(&tree).unwrap();
        assert_eq!(ours, theirs, "round {round}");
        assert_eq!(check(&ours), Ok(Form::Rfc8785), "round {round}: {}", String::from_utf8_lossy(&ours));
    }
}

/// What the checker accepts as RFC 8785 is what comes back when it is parsed
/// and written again, and nothing else.
#[test]
fn the_checker_agrees_with_writing_again() {
    let mut random = Random(0x1234_5678_9abc_def1);
    let (mut accepted, mut refused) = (0, 0);
    for _ in 0..100_000 {
        let mut text = to_vec(&random.tree(3)).unwrap();
        for _ in 0..=random.below(2) {
            let at = random.below(text.len() as u64) as usize;
            match random.below(3) {
                0 => text[at] = b"{}[]\",:0123456789.eE+-abtfnu \\\n\x80"[random.below(32) as usize],
                1 => drop(text.remove(at)),
                _ => text.insert(at, b"0 ,1]"[random.below(5) as usize]),
            }
            if text.is_empty() {
                break;
            }
        }
        let again = read::value(&text, Profile::Pack).ok().and_then(|tree| to_vec(&tree).ok());
        let canonical = again.as_ref() == Some(&text);
        assert_eq!(check(&text) == Ok(Form::Rfc8785), canonical, "{}", String::from_utf8_lossy(&text));
        if canonical { accepted += 1 } else { refused += 1 }
    }
    assert!(accepted > 2_000 && refused > 20_000, "{accepted} accepted, {refused} refused");
}

/// `arbitrary_precision` and `preserve_order` would change what a value means.
#[test]
fn serde_json_has_the_features_we_count_on() {
    let object: Value = serde_json::from_str(r#"{"$serde_json::private::Number":"1.0","a":1}"#).unwrap();
    assert!(object.is_object());
    let keys: Vec<_> =
        serde_json::from_str::<Map<String, Value>>(r#"{"b":1,"a":2}"#).unwrap().keys().cloned().collect();
    assert_eq!(keys, ["a", "b"]);
    let nearest: f64 = serde_json::from_str("122.416294033786585").unwrap();
    assert_eq!(Ok(nearest), "122.416294033786585".parse());
}
