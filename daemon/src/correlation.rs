//! Ids that tie a request to what is logged of it.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

/// Characters of a caller's id.
const LENGTH_MAX: usize = 128;

/// Reads a caller's id: 1 to 128 token characters (RFC 9110), white space
/// around it aside.
///
/// # Errors
/// The rule that is broken, in a word.
pub fn client(value: &[u8]) -> Result<&str, &'static str> {
    let text = value.trim_ascii();
    if text.is_empty() {
        return Err("empty_after_trim");
    }
    if text.len() > LENGTH_MAX {
        return Err("too_long");
    }
    let broken = text.iter().find_map(|&byte| match byte {
        b' ' | b'\t' => Some("contains_whitespace"),
        _ if byte.is_ascii_control() => Some("contains_control_char"),
        _ if !byte.is_ascii() => Some("non_ascii"),
        _ if byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte) => None,
        _ => Some("contains_disallowed_char"),
    });
    match broken {
        Some(label) => Err(label),
        None => std::str::from_utf8(text).map_err(|_| "non_ascii"),
    }
}

/// Numbers the answers of one process.
#[derive(Debug)]
pub struct ServerIds {
    boot: u64,
    count: AtomicU64,
}

impl Default for ServerIds {
    /// The first half of every id differs between processes. It is no secret,
    /// so the standard library's seed is random enough.
    fn default() -> Self {
        Self { boot: RandomState::new().hash_one(0), count: AtomicU64::new(0) }
    }
}

impl ServerIds {
    /// The next id; the count begins with 1.
    pub fn next(&self) -> String {
        let count = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        format!("dg-{:016x}-{count:016x}", self.boot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_has_its_label() {
        assert_eq!(client(b"  abc-1.2~  "), Ok("abc-1.2~"));
        assert_eq!(client(b" \t "), Err("empty_after_trim"));
        assert_eq!(client(&[b'a'; 129]), Err("too_long"));
        assert_eq!(client(b"a b"), Err("contains_whitespace"));
        assert_eq!(client(b"a\x01b"), Err("contains_control_char"));
        assert_eq!(client("ä".as_bytes()), Err("non_ascii"));
        assert_eq!(client(b"a/b"), Err("contains_disallowed_char"));
    }

    #[test]
    fn ids_of_one_process_share_their_first_half_and_count_from_one() {
        let ids = ServerIds::default();
        let (first, second) = (ids.next(), ids.next());
        assert!(first.starts_with("dg-") && first.len() == 36 && first.ends_with("-0000000000000001"), "{first}");
        assert_eq!(first[..20], second[..20]);
        assert_ne!(ServerIds::default().boot, ids.boot);
    }
}
