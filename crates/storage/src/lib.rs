//! Where run logs and packs are kept.
pub mod packs;
pub mod runs;
