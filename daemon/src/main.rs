//! runpackd.
fn main() {}
