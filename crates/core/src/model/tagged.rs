//! Helpers for enums on the wire.
//!
//! Serde's internally and adjacently tagged enums also read positional arrays
//! and buffer every value. Ours are read through one flat struct that knows
//! every member of every variant, and then asked whether the members fit. Its
//! name ends with `Union`: that tells the reader of records that some of its
//! members are always missing.

use serde::de::{Deserialize, Deserializer};

/// Reads a member that may be `null` but not absent: absent stays `None`.
pub(super) fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(reader: D) -> Result<Option<T>, D::Error> {
    T::deserialize(reader).map(Some)
}

/// Answers the member that variant `kind` needs.
pub(super) fn need<T>(kind: &str, name: &str, member: Option<T>) -> Result<T, String> {
    member.ok_or_else(|| format!("missing member `{name}` for kind `{kind}`"))
}

/// Refuses members that belong to other variants of the same enum.
pub(super) fn only(kind: &str, others: &[(&str, bool)]) -> Result<(), String> {
    match others.iter().find(|(_, present)| *present) {
        None => Ok(()),
        Some((name, _)) => Err(format!("member `{name}` does not belong to kind `{kind}`")),
    }
}

/// An enum whose values are strings on the wire.
///
/// Only the strings are read: serde's derive would also take `{"name":null}`.
macro_rules! string_enum {
    ($(#[$meta:meta])* $vis:vis enum $name:ident { $($(#[$vmeta:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        $vis enum $name { $($(#[$vmeta])* $variant,)* }

        impl $name {
            /// Every value, in declared order.
            #[allow(dead_code, reason = "not every enum is listed anywhere")]
            $vis const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The wire name.
            $vis fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
                struct Name;
                impl serde::de::Visitor<'_> for Name {
                    type Value = $name;
                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str(concat!("one of", $(" `", $text, "`",)*))
                    }
                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$name, E> {
                        match text {
                            $($text => Ok($name::$variant),)*
                            _ => Err(E::invalid_value(serde::de::Unexpected::Str(text), &self)),
                        }
                    }
                }
                reader.deserialize_str(Name)
            }
        }
    };
}
pub(crate) use string_enum;
