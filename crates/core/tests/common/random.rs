//! Chance without a clock: the same seed gives the same runs everywhere.

use serde_json::{Value, json};

/// Xorshift64*.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        // Neighbouring seeds must not give neighbouring runs, nor zero stay zero.
        let mut state = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Self((state ^ (state >> 31)) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Less than `limit`.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        (((self.next() >> 32) * limit as u64) >> 32) as usize
    }

    /// Both ends included.
    pub(crate) fn between(&mut self, from: usize, to: usize) -> usize {
        from + self.below(to - from + 1)
    }

    pub(crate) fn percent(&mut self, chance: usize) -> bool {
        self.below(100) < chance
    }

    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    pub(crate) fn text(&mut self) -> String {
        const TEXTS: [&str; 14] = [
            "",
            "a",
            "b",
            "aa",
            "B",
            "release",
            "ünïcode",
            "\u{1f600}",
            "\u{fb33}",
            "tab\t\"quote\"\\",
            "2024-03-09",
            "2024-3-10",
            "2024-03-09T16:00:00Z",
            "2024-03-09T17:00:00.5+01:00",
        ];
        (*self.pick(&TEXTS)).to_owned()
    }

    pub(crate) fn texts(&mut self, most: usize) -> Vec<String> {
        (0..self.between(0, most)).map(|_| self.text()).collect()
    }

    pub(crate) fn maybe(&mut self, chance: usize, value: impl FnOnce(&mut Self) -> Value) -> Value {
        if self.percent(chance) { value(self) } else { Value::Null }
    }

    pub(crate) fn number(&mut self) -> Value {
        match self.below(10) {
            0 => json!(9_007_199_254_740_991_u64),
            1 => json!(-9_007_199_254_740_991_i64),
            2 => json!(0.1),
            3 => json!(1.0),
            4 => json!(-2.5e-7),
            5 => json!(1e2),
            _ => json!(self.between(0, 9) as i64 - 4),
        }
    }

    pub(crate) fn bytes(&mut self) -> Value {
        let count = self.between(0, 4);
        Value::Array((0..count).map(|_| json!(self.below(256))).collect())
    }

    pub(crate) fn scalar(&mut self) -> Value {
        match self.below(5) {
            0 => Value::Null,
            1 => Value::Bool(self.percent(50)),
            2 | 3 => self.number(),
            _ => Value::String(self.text()),
        }
    }

    pub(crate) fn value(&mut self, depth: usize) -> Value {
        match self.below(if depth == 0 { 3 } else { 5 }) {
            0..3 => self.scalar(),
            3 => {
                let count = self.between(0, 3);
                Value::Array((0..count).map(|_| self.value(depth - 1)).collect())
            }
            _ => {
                let count = self.between(0, 3);
                Value::Object((0..count).map(|_| (self.text(), self.value(depth - 1))).collect())
            }
        }
    }
}
