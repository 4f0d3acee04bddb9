use std::cmp::Ordering;
use std::io;

use serde_json::Number;
use serde_json::ser::Formatter;

/// Compact JSON with numbers in their ECMAScript form.
pub(super) struct EcmaNumbers;

impl Formatter for EcmaNumbers {
    fn write_f64<W: ?Sized + io::Write>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        writer.write_all(ryu_js::Buffer::new().format(value).as_bytes())
    }

    fn write_f32<W: ?Sized + io::Write>(&mut self, writer: &mut W, value: f32) -> io::Result<()> {
        self.write_f64(writer, value.into())
    }
}

/// As [`EcmaNumbers`], and bytes, of which no value of ours has any, are written
/// as they are: they are text that was written before.
pub(super) struct Around;

impl Formatter for Around {
    fn write_f64<W: ?Sized + io::Write>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        EcmaNumbers.write_f64(writer, value)
    }

    fn write_f32<W: ?Sized + io::Write>(&mut self, writer: &mut W, value: f32) -> io::Result<()> {
        EcmaNumbers.write_f32(writer, value)
    }

    fn write_byte_array<W: ?Sized + io::Write>(&mut self, writer: &mut W, bytes: &[u8]) -> io::Result<()> {
        writer.write_all(bytes)
    }
}

/// The largest integer that every JSON reader reads the same: 2^53 − 1.
pub const INTEGER_MAX: u64 = (1 << 53) - 1;

/// An integral number outside ±(2^53 − 1): its canonical form may be another
/// number, so it cannot be recorded faithfully.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("integer {0} is outside ±(2^53−1), so its canonical form could be another number")]
pub struct Unrepresentable(pub String);

/// `number` as it will read when its canonical form is read back: `1.0` is `1`.
///
/// Done before deciding, so that a decision never depends on whether a value
/// was reloaded in between.
///
/// # Errors
/// [`Unrepresentable`] in any spelling: `9007199254740993`, `1e20`, `1e300`.
pub fn canonical_number(number: &Number) -> Result<Number, Unrepresentable> {
    let refuse = || Unrepresentable(number.to_string());
    if let Some(value) = number.as_u64() {
        return if value <= INTEGER_MAX { Ok(number.clone()) } else { Err(refuse()) };
    }
    if let Some(value) = number.as_i64() {
        return if value.unsigned_abs() <= INTEGER_MAX { Ok(number.clone()) } else { Err(refuse()) };
    }
    match number.as_f64() {
        Some(value) if value.fract() != 0.0 => Ok(number.clone()),
        Some(value) if value.abs() <= INTEGER_MAX as f64 => Ok(Number::from(value as i64)),
        _ => Err(refuse()),
    }
}

/// Compares two numbers as exact decimals.
///
/// A double stands for its shortest decimal, not for its binary value:
/// `0.1` is exactly one tenth, and integers keep all their digits. `-0.0` is 0.
pub fn decimal_cmp(left: &Number, right: &Number) -> Ordering {
    match (integer(left), integer(right)) {
        (Some(left), Some(right)) => left.cmp(&right),
        (Some(left), None) => integer_to_double(left, double(right)),
        (None, Some(right)) => integer_to_double(right, double(left)).reverse(),
        // Shortest decimals of two doubles are ordered as the doubles are.
        (None, None) => double(left).partial_cmp(&double(right)).unwrap_or(Ordering::Equal),
    }
}

fn integer(number: &Number) -> Option<i128> {
    number.as_u64().map(i128::from).or_else(|| number.as_i64().map(i128::from))
}

fn double(number: &Number) -> f64 {
    number.as_f64().unwrap_or_default()
}

fn integer_to_double(integer: i128, double: f64) -> Ordering {
    if double.fract() != 0.0 {
        // Below 2^53, where the whole part is exact: equality is impossible.
        return if integer <= double.floor() as i128 { Ordering::Less } else { Ordering::Greater };
    }
    if double.abs() >= 1e21 {
        return if double > 0.0 { Ordering::Less } else { Ordering::Greater };
    }
    // Below 1e21 the shortest decimal of an integral double has no exponent.
    match ryu_js::Buffer::new().format(double).parse::<i128>() {
        Ok(exact) => integer.cmp(&exact),
        Err(_) => unreachable!("an integral double below 1e21 is written as an integer"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bigdecimal::BigDecimal;
    use proptest::prelude::*;

    fn number(text: &str) -> Number {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn compares_decimals_not_doubles() {
        let cmp = |a, b| decimal_cmp(&number(a), &number(b));
        assert_eq!(cmp("1", "1.0"), Ordering::Equal);
        assert_eq!(cmp("1e3", "1000"), Ordering::Equal);
        assert_eq!(cmp("9007199254740993", "9007199254740992.0"), Ordering::Greater);
        assert_eq!(cmp("-0.0", "0"), Ordering::Equal);
        assert_eq!(cmp("18446744073709551615", "1e300"), Ordering::Less);
        assert_eq!(cmp("-1", "-1.5"), Ordering::Greater);
        assert_eq!(cmp("-2", "-1.5"), Ordering::Less);
    }

    #[test]
    fn brings_numbers_to_the_form_they_are_read_back_in() {
        assert_eq!(canonical_number(&number("1.0")), Ok(number("1")));
        assert_eq!(canonical_number(&number("-0.0")), Ok(number("0")));
        assert_eq!(canonical_number(&number("9007199254740991.0")), Ok(number("9007199254740991")));
        for spelling in ["9007199254740992", "-9007199254740992", "9007199254740993.0", "1e16", "1e300"] {
            assert!(canonical_number(&number(spelling)).is_err(), "{spelling}");
        }
    }

    fn any_number() -> impl Strategy<Value = Number> {
        prop_oneof![
            any::<u64>().prop_map(Number::from),
            any::<i64>().prop_map(Number::from),
            (-100_i64..100).prop_map(Number::from),
            any::<f64>().prop_filter_map("finite", Number::from_f64),
            (-100_i64..100).prop_filter_map("finite", |n| Number::from_f64(n as f64 / 4.0)),
            any::<u64>().prop_filter_map("finite", |n| Number::from_f64(n as f64)),
        ]
    }

    proptest! {
        #[test]
        fn agrees_with_a_big_decimal(left in any_number(), right in any_number()) {
            let big = |n: &Number| n.to_string().parse::<BigDecimal>().unwrap();
            prop_assert_eq!(decimal_cmp(&left, &right), big(&left).cmp(&big(&right)));
        }
    }
}
