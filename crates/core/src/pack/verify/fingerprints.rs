//! The ids and digests that were seen, in little more than their own bytes.

use crate::canon::Digest;

/// What is newer than the last merge is at least so much, and at most an eighth
/// of what is older: a merge moves all, so merges have to become rarer as there
/// is more to move.
const RECENT_MIN: usize = 1 << 14;
const SHARE: usize = 8;

/// How many of the sorted are looked through for one, about.
const SHELF: usize = 16;

/// 128 bits are enough to tell ids and digests apart, and small enough to keep
/// them all: of a digest, too, they are taken from its own digest, so that all of
/// it counts.
type Fingerprint = [u8; 16];

/// The ids and digests seen so far.
///
/// A hash table of as many is up to half empty, and for a moment there twice.
/// So only the newest are in one; the others are a sorted list, which is as long
/// as what it holds, with the places where each shelf of it begins: fingerprints
/// are spread evenly, so their first bits say where they are.
#[derive(Default)]
pub(super) struct Fingerprints {
    sorted: Vec<Fingerprint>,
    shelves: Vec<usize>,
    recent: Seen,
}

impl Fingerprints {
    /// Whether `bytes` are new.
    pub(super) fn insert(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        let print = of(bytes.as_ref());
        if self.is_sorted_in(&print) || !self.recent.insert(print) {
            return false;
        }
        if self.recent.len() >= RECENT_MIN.max(self.sorted.len() / SHARE) {
            self.merge();
        }
        true
    }

    pub(super) fn contains(&self, bytes: impl AsRef<[u8]>) -> bool {
        let print = of(bytes.as_ref());
        self.recent.contains(&print) || self.is_sorted_in(&print)
    }

    fn is_sorted_in(&self, print: &Fingerprint) -> bool {
        let Some(count) = self.shelves.len().checked_sub(1) else { return false };
        let shelf = shelf(print, count);
        self.sorted[self.shelves[shelf]..self.shelves[shelf + 1]].binary_search(print).is_ok()
    }

    /// Moves what is recent to its places among the others, from the end, so that
    /// there is never a second list.
    fn merge(&mut self) {
        let mut recent: Vec<_> = std::mem::take(&mut self.recent).into_iter().collect();
        recent.sort_unstable();
        let mut old = self.sorted.len();
        self.sorted.reserve_exact(recent.len());
        self.sorted.resize(old + recent.len(), [0; 16]);
        let mut to = self.sorted.len();
        while let Some(&newest) = recent.last() {
            to -= 1;
            if old > 0 && self.sorted[old - 1] > newest {
                old -= 1;
                self.sorted[to] = self.sorted[old];
            } else {
                self.sorted[to] = newest;
                recent.pop();
            }
        }
        let count = self.sorted.len().div_ceil(SHELF);
        self.shelves.clear();
        self.shelves.extend((0..=count).map(|at| self.sorted.partition_point(|print| shelf(print, count) < at)));
    }
}

/// On which of so many shelves.
fn shelf(print: &Fingerprint, count: usize) -> usize {
    let first = u128::from_be_bytes(*print) >> 64;
    // Less than `count`, so it fits.
    ((first * count as u128) >> 64) as usize
}

fn of(bytes: &[u8]) -> Fingerprint {
    let mut half = [0; 16];
    half.copy_from_slice(&Digest::of(bytes).as_bytes()[..16]);
    half
}

/// Asked about, and sorted before anything is made of its order.
#[allow(clippy::disallowed_types, reason = "nothing looks at the order")]
type Seen = std::collections::HashSet<Fingerprint>;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{Fingerprints, RECENT_MIN, SHARE};

    #[test]
    fn what_was_seen_is_known_over_every_merge() {
        let (mut prints, mut plain) = (Fingerprints::default(), BTreeSet::new());
        // Every third comes again, some of them long after.
        for n in 0..RECENT_MIN as u64 * SHARE as u64 * 3 {
            let id = if n % 3 == 2 { n / 5 } else { n };
            assert_eq!(prints.contains(id.to_be_bytes()), plain.contains(&id), "{n}");
            assert_eq!(prints.insert(id.to_be_bytes()), plain.insert(id), "{n}");
        }
        assert!(prints.sorted.is_sorted());
        assert!(prints.sorted.len() > RECENT_MIN * SHARE, "merged by share, too");
        assert_eq!(prints.sorted.len() + prints.recent.len(), plain.len());
    }
}
