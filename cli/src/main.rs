//! runpack.
fn main() {}
