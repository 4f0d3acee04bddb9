use runpack_core::model::{Comparator, Date, Instant};
use serde_json::Value;

use crate::schema::{Mismatch, Schema};

/// Comparators that are offered and judged alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    Equality,
    Order,
    Lexical,
    Contains,
    InSet,
    Deep,
    Presence,
}

pub(crate) fn family(comparator: Comparator) -> Family {
    use Comparator as C;
    match comparator {
        C::Equals | C::NotEquals => Family::Equality,
        C::GreaterThan | C::GreaterThanOrEqual | C::LessThan | C::LessThanOrEqual => Family::Order,
        C::LexGreaterThan | C::LexGreaterThanOrEqual | C::LexLessThan | C::LexLessThanOrEqual => Family::Lexical,
        C::Contains => Family::Contains,
        C::InSet => Family::InSet,
        C::DeepEquals | C::DeepNotEquals => Family::Deep,
        C::Exists | C::NotExists => Family::Presence,
    }
}

/// Why no answer could be compared with what a condition expects.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExpectedError {
    /// `exists` and `not_exists` look at no value.
    #[error("comparator {0} takes no expected value")]
    Unwanted(Comparator),
    /// There is none, or it is null, which is the same in a scenario.
    #[error(
        "comparator {0} needs an expected value\nhint: null counts as none; ask for the absence of a value by `not_exists`"
    )]
    Missing(Comparator),
    /// It is of a type that the comparator is Unknown for.
    #[error("expected {needed} required for comparator {comparator}")]
    Type {
        /// Which.
        comparator: Comparator,
        /// `array`, `number or date`, …
        needed: &'static str,
    },
    /// No answer can be like it.
    #[error("expected value{}: {mismatch}", place(*item))]
    Mismatch {
        /// Which element, from 0, if it is a list of values.
        item: Option<usize>,
        /// What is wrong.
        mismatch: Mismatch,
    },
}

fn place(item: Option<usize>) -> String {
    item.map(|index| format!(" {index}")).unwrap_or_default()
}

/// Whether `comparator` could be True or False for some answer that `result`
/// describes. The elements of a list to contain are not looked at.
pub(crate) fn admit(result: &Schema, comparator: Comparator, expected: Option<&Value>) -> Result<(), ExpectedError> {
    let needed = |needed| Err(ExpectedError::Type { comparator, needed });
    let expected = match (family(comparator), expected.filter(|it| !it.is_null())) {
        (Family::Presence, None) => return Ok(()),
        (Family::Presence, Some(_)) => return Err(ExpectedError::Unwanted(comparator)),
        (Family::InSet, None) => return needed("array"),
        (_, None) => return Err(ExpectedError::Missing(comparator)),
        (_, Some(expected)) => expected,
    };
    match (family(comparator), expected) {
        (Family::InSet, Value::Array(items)) => return each(result, items),
        (Family::InSet, _) => return needed("array"),
        (Family::Contains, Value::String(_) | Value::Array(_)) => return Ok(()),
        (Family::Contains, _) => return needed("string or array"),
        (Family::Order, Value::Number(_)) => {}
        (Family::Order, Value::String(text)) if Instant::parse(text).is_some() || Date::parse(text).is_some() => {}
        (Family::Order, _) => return needed("number, date or date-time"),
        (Family::Lexical, Value::String(_)) | (Family::Deep, Value::Array(_) | Value::Object(_)) => {}
        (Family::Lexical, _) => return needed("string"),
        (Family::Deep, _) => return needed("array or object"),
        (Family::Equality | Family::Presence, _) => {}
    }
    result.check(expected).map_err(|mismatch| ExpectedError::Mismatch { item: None, mismatch })
}

/// Whether every one of `items` is as `schema` wants it.
pub(crate) fn each(schema: &Schema, items: &[Value]) -> Result<(), ExpectedError> {
    items.iter().enumerate().try_for_each(|(index, item)| {
        schema.check(item).map_err(|mismatch| ExpectedError::Mismatch { item: Some(index), mismatch })
    })
}
