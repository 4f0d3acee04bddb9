//! What is said to whoever runs the program. Results go to stdout, talk to stderr.

use std::io::Write as _;

/// Says `text` on stderr. Nobody listening is no failure.
pub fn talk(text: &str) {
    let _ = writeln!(std::io::stderr(), "{}", printable(text));
}

/// Ids, names and evidence come from elsewhere: no control character reaches a
/// terminal.
pub fn printable(text: &str) -> String {
    text.replace(|c: char| c.is_control() && c != '\n', "\u{fffd}")
}
