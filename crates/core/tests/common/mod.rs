//! Honest runs by chance, and packs in memory.

pub(crate) mod lies;
pub(crate) mod memory;
pub(crate) mod oracle;
pub(crate) mod random;
pub(crate) mod runs;
pub(crate) mod scenarios;
