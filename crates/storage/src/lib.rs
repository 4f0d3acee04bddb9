//! Where run logs and packs are kept.
