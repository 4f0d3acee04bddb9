//! Where evidence comes from.
