use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};

use runpack_core::canon::Digest;

use super::chain::{End, LINE_BYTES_MAX, Link};

/// What a chain without a break says. Note `last` and `head` elsewhere: a later
/// look that has less was cut short.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Lines looked at.
    pub lines: u64,
    /// The number of the first; more than 1 if older files are gone. 0 if there
    /// is none.
    pub first: u64,
    /// The number of the last, or 0.
    pub last: u64,
    /// The digest of the last line; what the next one has as `previous`.
    pub head: Digest,
}

/// Where a chain is not what was written.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// A file cannot be read, which says nothing about the log.
    #[error("cannot read `{path}`: {error}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// A line does not follow the one before.
    #[error("`{path}`, line {line}: {problem}")]
    Line {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: u64,
        /// What does not fit.
        problem: String,
    },
}

/// Follows the chain through files, oldest first, as [`super::files`] lists
/// them. Nobody may write them meanwhile.
///
/// A line that was changed, taken out, put in or moved breaks the chain where
/// the next line is. Two things no chain can show by itself: that its end was
/// cut off or written anew, since nothing follows it, and that files before the
/// first are gone. For these, compare with a [`Verified`] of another day.
///
/// # Errors
/// See [`Broken`]; the first place is named.
pub fn verify(paths: &[impl AsRef<Path>]) -> Result<Verified, Broken> {
    let mut found = Verified { lines: 0, first: 0, last: 0, head: End::nothing().last };
    for path in paths {
        let path = path.as_ref();
        let unreadable = |error| Broken::Unreadable { path: path.to_owned(), error };
        let mut reader = BufReader::new(File::open(path).map_err(unreadable)?);
        let mut line = Vec::new();
        for number in 1.. {
            line.clear();
            (&mut reader).take(LINE_BYTES_MAX as u64 + 1).read_until(b'\n', &mut line).map_err(unreadable)?;
            if line.is_empty() {
                break;
            }
            let broken = |problem: String| Broken::Line { path: path.to_owned(), line: number, problem };
            found.follow(&line).map_err(broken)?;
        }
    }
    Ok(found)
}

impl Verified {
    fn follow(&mut self, line: &[u8]) -> Result<(), String> {
        let Some(line) = line.strip_suffix(b"\n") else {
            return Err(if line.len() > LINE_BYTES_MAX {
                format!("it has more than {LINE_BYTES_MAX} bytes")
            } else {
                "it has no end\nhint: if runpackd was killed, it repairs that when it next opens the log".to_owned()
            });
        };
        let link = Link::read(line).map_err(|problem| format!("it is no line of an audit log: {problem}"))?;
        let begins = self.lines == 0;
        // The first of all follows nothing; the first of the files that are
        // left follows what is not there any more.
        if (!begins || link.seq == 1) && link.previous != self.head.to_string() {
            return Err("it does not follow the line before, which was changed, taken out or moved".to_owned());
        }
        if (begins && link.seq == 0) || (!begins && Some(link.seq) != self.last.checked_add(1)) {
            return Err(format!("it has the number {}, after {}", link.seq, self.last));
        }
        let End { seq, last } = End::after(link.seq, line);
        if begins {
            self.first = seq;
        }
        (self.lines, self.last, self.head) = (self.lines + 1, seq, last);
        Ok(())
    }
}
