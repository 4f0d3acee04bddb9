//! What a process asked of its files, as `strace -f -xx` wrote it down.

use std::collections::BTreeMap;

/// Calls that change files, or say which file is meant.
pub(crate) const CALLS: &str = "open,openat,openat2,creat,close,dup,dup2,dup3,fcntl,lseek,write,pwrite64,writev,pwritev,\
    pwritev2,copy_file_range,sendfile,truncate,ftruncate,fallocate,fsync,fdatasync,sync_file_range,rename,renameat,\
    renameat2,link,linkat,symlink,symlinkat,unlink,unlinkat,mkdir,mkdirat,rmdir";

/// A call that succeeded. The lines on which it began and was done stand for
/// time: whatever began on a later line than another was done came after it.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) name: String,
    pub(crate) args: Vec<String>,
    pub(crate) answer: u64,
    pub(crate) begun: usize,
    pub(crate) done: usize,
}

/// The calls in the order in which they were done; a `close` where it began,
/// since its number may be given out again before it is seen to be done. Lines
/// are counted from
/// `first`; the second answer is the line after the last.
pub(crate) fn read(text: &str, first: usize) -> (Vec<Call>, usize) {
    let mut calls = Vec::new();
    // By thread: what it waits for, and since when.
    let mut waiting: BTreeMap<&str, (String, usize)> = BTreeMap::new();
    let mut line = first;
    for text in text.lines() {
        line += 1;
        let (thread, text) = text.split_once(' ').expect("a thread's number begins a line");
        let text = text.trim_start();
        if text.starts_with("---") || text.starts_with("+++") {
            continue;
        }
        if let Some(begun) = text.strip_suffix("<unfinished ...>") {
            waiting.insert(thread, (begun.to_owned(), line));
            continue;
        }
        let (whole, begun) = match text.strip_prefix("<... ") {
            Some(rest) => {
                let (_, rest) = rest.split_once("resumed>").expect("what is resumed");
                let (start, begun) = waiting.remove(thread).expect("what was unfinished");
                (start + rest, begun)
            }
            None => (text.to_owned(), line),
        };
        calls.extend(call(&whole, begun, line));
    }
    calls.sort_by_key(|call| if call.name == "close" { call.begun } else { call.done });
    (calls, line)
}

/// `None` if it failed, or never came to an end.
fn call(text: &str, begun: usize, done: usize) -> Option<Call> {
    let (rest, answer) = text.rsplit_once(" = ").expect("an answer");
    let answer = answer.split_whitespace().next().expect("an answer");
    let answer = answer.parse().ok()?;
    let (name, args) = rest.split_once('(').expect("arguments");
    let args = args.trim_end().strip_suffix(')').expect("the end of the arguments");
    Some(Call { name: name.to_owned(), args: split(args), answer, begun, done })
}

/// At the commas that are in no list. Texts are in hexadecimal, so no comma is
/// in one.
fn split(args: &str) -> Vec<String> {
    let mut depth = 0;
    let mut all = vec![String::new()];
    for c in args.chars() {
        match c {
            '[' | '{' => depth += 1,
            ']' | '}' => depth -= 1,
            _ => {}
        }
        match (c, depth, all.last_mut()) {
            (',', 0, _) => all.push(String::new()),
            (_, _, Some(last)) => last.push(c),
            _ => {}
        }
    }
    all.iter().map(|arg| arg.trim().to_owned()).collect()
}

impl Call {
    pub(crate) fn number(&self, arg: usize) -> u64 {
        let text = &self.args[arg];
        text.parse().unwrap_or_else(|_| panic!("`{text}` is a number in {self:?}"))
    }

    /// The texts in an argument, one after the other.
    pub(crate) fn bytes(&self, arg: usize) -> Vec<u8> {
        let digit = |byte: u8| (byte as char).to_digit(16).expect("hexadecimal") as u8;
        let mut bytes = Vec::new();
        for text in self.args[arg].split('"').skip(1).step_by(2) {
            for pair in text.split("\\x").skip(1) {
                let pair = pair.as_bytes();
                bytes.push(digit(pair[0]) << 4 | digit(pair[1]));
            }
        }
        assert!(!self.args[arg].contains("\"..."), "strace cut a text short");
        bytes
    }

    pub(crate) fn path(&self, arg: usize) -> String {
        String::from_utf8(self.bytes(arg)).expect("our paths are UTF-8")
    }
}

#[test]
fn a_trace_is_read_as_it_was_written() {
    let text = "\
7 openat(AT_FDCWD, \"\\x2f\\x61\", O_RDWR|O_CREAT, 0600) = 3
8 fsync(4 <unfinished ...>
7 writev(3, [{iov_base=\"\\x41\", iov_len=1}, {iov_base=\"\\x42\\x43\", iov_len=2}], 2) = 3
8 <... fsync resumed>) = 0
7 unlink(\"\\x61\") = -1 ENOENT (No such file or directory)
8 fsync(4 <unfinished ...>
8 <... fsync resumed>) = ?
7 +++ exited with 0 +++
";
    let (calls, end) = read(text, 10);
    assert_eq!(end, 18);
    let seen: Vec<_> = calls.iter().map(|call| (call.name.as_str(), call.begun, call.done)).collect();
    assert_eq!(seen, [("openat", 11, 11), ("writev", 13, 13), ("fsync", 12, 14)]);
    assert_eq!((calls[0].path(1), calls[0].answer, calls[0].args[2].as_str()), ("/a".to_owned(), 3, "O_RDWR|O_CREAT"));
    assert_eq!(calls[1].bytes(1), b"ABC");
}
