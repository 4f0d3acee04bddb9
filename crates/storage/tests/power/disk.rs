//! A disk that forgets: what is left of a directory when the power goes.
//!
//! Every file keeps what was synced, and any part of what was not. Every
//! directory keeps the names that were synced, and any of the changes that were
//! not; a rename happens whole or not at all. To sync a file does not keep its
//! name, and to sync a directory keeps nothing of the files in it: stricter than
//! what today's file systems do, and what POSIX lets them.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::trace::Call;

/// What a disk writes whole.
const SECTOR: usize = 512;

/// Numbers that are the same every time.
#[derive(Debug)]
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    /// One of `0..end`. SplitMix64.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        (mixed % end.max(1) as u64) as usize
    }
}

/// A file or directory, whatever its name.
type Inode = usize;

const ROOT: Inode = 0;

/// A name in a directory, and what it names from now on.
type Entry = (Inode, String, Option<Inode>);

#[derive(Debug)]
enum Change {
    /// All of them or none.
    Names(Vec<Entry>),
    Written {
        inode: Inode,
        at: usize,
        bytes: Vec<u8>,
    },
    /// Cut or extended.
    Length {
        inode: Inode,
        length: usize,
    },
    /// Extended, if it is shorter.
    AtLeast {
        inode: Inode,
        length: usize,
    },
}

#[derive(Debug)]
struct Op {
    begun: usize,
    done: usize,
    change: Change,
}

#[derive(Debug)]
struct Sync {
    begun: usize,
    done: usize,
    inode: Inode,
}

/// Which syncs do what they promise. One that does not shows that the rounds
/// would find a program that forgot it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Honest {
    All,
    Files,
    Directories,
    None,
}

/// All that happened to a directory and below, in order.
#[derive(Debug)]
pub(crate) struct Disk {
    ops: Vec<Op>,
    /// How many of them were there from the beginning.
    old: usize,
    syncs: Vec<Sync>,
    /// What the process wrote to its standard output, and when.
    pub(crate) said: Vec<(usize, String)>,
    /// By inode.
    is_directory: Vec<bool>,
    names: BTreeMap<(Inode, String), Inode>,
    lengths: BTreeMap<Inode, usize>,
    open: BTreeMap<u64, Open>,
}

#[derive(Debug, Clone, Copy)]
struct Open {
    inode: Inode,
    at: usize,
    appends: bool,
}

/// The paths of a directory; `None` is a directory.
pub(crate) type Image = BTreeMap<PathBuf, Option<Vec<u8>>>;

impl Default for Disk {
    /// An empty directory.
    fn default() -> Self {
        Self {
            ops: Vec::new(),
            old: 0,
            syncs: Vec::new(),
            said: Vec::new(),
            is_directory: vec![true],
            names: BTreeMap::new(),
            lengths: BTreeMap::new(),
            open: BTreeMap::new(),
        }
    }
}

impl Disk {
    /// A directory that is there already, and all that is in it.
    pub(crate) fn of(image: &Image) -> Self {
        let mut disk = Self::default();
        let there = Call { name: "there".to_owned(), args: Vec::new(), answer: 0, begun: 0, done: 0 };
        // A directory comes before what is in it.
        for (path, content) in image {
            let place = disk.place("", None, &format!("/{}", path.display())).expect("a directory that is there");
            let inode = disk.new_inode(content.is_none());
            disk.add(&there, Change::Names(vec![(place.0, place.1, Some(inode))]));
            if let Some(bytes) = content {
                disk.lengths.insert(inode, bytes.len());
                disk.add(&there, Change::Written { inode, at: 0, bytes: bytes.clone() });
            }
        }
        disk.old = disk.ops.len();
        disk
    }

    /// Adds what one process did. Another one's files were closed before.
    pub(crate) fn follow(&mut self, root: &Path, calls: &[Call]) {
        self.open.clear();
        for call in calls {
            self.take(root.to_str().expect("our paths are UTF-8"), call);
        }
    }

    fn take(&mut self, root: &str, call: &Call) {
        let known = |disk: &Self, arg: usize| disk.open.get(&call.number(arg)).copied();
        match call.name.as_str() {
            "open" => self.opened(self.place(root, None, &call.path(0)), call, &call.args[1]),
            "openat" => self.opened(self.place(root, Some(&call.args[0]), &call.path(1)), call, &call.args[2]),
            "openat2" => self.opened(self.place(root, Some(&call.args[0]), &call.path(1)), call, &call.args[2]),
            "close" => drop(self.open.remove(&call.number(0))),
            "fcntl" if !call.args[1].starts_with("F_DUPFD") => {}
            "dup" | "dup2" | "dup3" | "fcntl" => match known(self, 0) {
                Some(open) => drop(self.open.insert(call.answer, open)),
                None => drop(self.open.remove(&call.answer)),
            },
            "lseek" => {
                if let Some(open) = self.open.get_mut(&call.number(0)) {
                    open.at = call.answer as usize;
                }
            }
            "write" | "writev" if call.number(0) == 1 => {
                let text = String::from_utf8_lossy(&call.bytes(1)).into_owned();
                self.said.extend(text.lines().map(|line| (call.begun, line.to_owned())));
            }
            "write" | "writev" => {
                let Some(open) = known(self, 0) else { return };
                let at = if open.appends { self.length(open.inode) } else { open.at };
                self.written(open.inode, at, call);
                let moved = Open { at: at + call.answer as usize, ..open };
                self.open.insert(call.number(0), moved);
            }
            "pwrite64" | "pwritev" | "pwritev2" => {
                let Some(open) = known(self, 0) else { return };
                self.written(open.inode, call.number(3) as usize, call);
            }
            "ftruncate" => {
                let Some(Open { inode, .. }) = known(self, 0) else { return };
                let length = call.number(1) as usize;
                self.lengths.insert(inode, length);
                self.add(call, Change::Length { inode, length });
            }
            "fallocate" => {
                let Some(Open { inode, .. }) = known(self, 0) else { return };
                assert_eq!(call.args[1], "0", "{call:?} is not modelled");
                let length = (call.number(2) + call.number(3)) as usize;
                let grown = self.length(inode).max(length);
                self.lengths.insert(inode, grown);
                self.add(call, Change::AtLeast { inode, length });
            }
            // It keeps no metadata, so it promises nothing.
            "sync_file_range" => {}
            "fsync" | "fdatasync" => {
                let Some(Open { inode, .. }) = known(self, 0) else { return };
                self.syncs.push(Sync { begun: call.begun, done: call.done, inode });
            }
            "mkdir" => self.made(self.place(root, None, &call.path(0)), call),
            "mkdirat" => self.made(self.place(root, Some(&call.args[0]), &call.path(1)), call),
            "unlink" | "rmdir" => self.removed(self.place(root, None, &call.path(0)), call),
            "unlinkat" => self.removed(self.place(root, Some(&call.args[0]), &call.path(1)), call),
            "rename" => {
                let (from, to) = (self.place(root, None, &call.path(0)), self.place(root, None, &call.path(1)));
                self.renamed(from, to, false, call);
            }
            "renameat" | "renameat2" => {
                let from = self.place(root, Some(&call.args[0]), &call.path(1));
                let to = self.place(root, Some(&call.args[2]), &call.path(3));
                let exchange = call.args.get(4).is_some_and(|flags| flags.contains("RENAME_EXCHANGE"));
                self.renamed(from, to, exchange, call);
            }
            "copy_file_range" => assert!(known(self, 2).is_none(), "{call:?} is not modelled"),
            "sendfile" => assert!(known(self, 0).is_none(), "{call:?} is not modelled"),
            _ => {
                let paths = (0..call.args.len()).filter(|&arg| call.args[arg].starts_with('"'));
                let ours = paths.into_iter().any(|arg| self.place(root, None, &call.path(arg)).is_some());
                assert!(!ours, "{call:?} is not modelled");
            }
        }
    }

    /// The directory and the name in it; `None` for what lies elsewhere.
    fn place(&self, root: &str, at: Option<&String>, path: &str) -> Option<(Inode, String)> {
        let (mut directory, path) = match path.strip_prefix('/') {
            Some(_) => (ROOT, path.strip_prefix(root)?),
            None => (self.open.get(&at?.parse().ok()?)?.inode, path),
        };
        let mut parts = path.split('/').filter(|part| !part.is_empty() && *part != ".").peekable();
        let mut name = String::new();
        while let Some(part) = parts.next() {
            assert_ne!(part, "..", "`{path}` is not modelled");
            match parts.peek() {
                Some(_) => directory = *self.names.get(&(directory, part.to_owned()))?,
                None => name = part.to_owned(),
            }
        }
        Some((directory, name))
    }

    fn find(&self, place: &(Inode, String)) -> Option<Inode> {
        if place.1.is_empty() { Some(place.0) } else { self.names.get(place).copied() }
    }

    fn length(&self, inode: Inode) -> usize {
        self.lengths.get(&inode).copied().unwrap_or(0)
    }

    fn add(&mut self, call: &Call, change: Change) {
        if let Change::Names(entries) = &change {
            for (directory, name, inode) in entries {
                let key = (*directory, name.clone());
                match inode {
                    Some(inode) => drop(self.names.insert(key, *inode)),
                    None => drop(self.names.remove(&key)),
                }
            }
        }
        self.ops.push(Op { begun: call.begun, done: call.done, change });
    }

    fn new_inode(&mut self, is_directory: bool) -> Inode {
        self.is_directory.push(is_directory);
        self.is_directory.len() - 1
    }

    fn opened(&mut self, place: Option<(Inode, String)>, call: &Call, flags: &str) {
        self.open.remove(&call.answer);
        let Some(place) = place else { return };
        let inode = match self.find(&place) {
            Some(inode) => inode,
            None => {
                assert!(flags.contains("O_CREAT"), "{call:?} opens what is not there");
                let inode = self.new_inode(false);
                self.add(call, Change::Names(vec![(place.0, place.1, Some(inode))]));
                inode
            }
        };
        if flags.contains("O_TRUNC") && self.length(inode) > 0 {
            self.lengths.insert(inode, 0);
            self.add(call, Change::Length { inode, length: 0 });
        }
        self.open.insert(call.answer, Open { inode, at: 0, appends: flags.contains("O_APPEND") });
    }

    fn written(&mut self, inode: Inode, at: usize, call: &Call) {
        let mut bytes = call.bytes(1);
        bytes.truncate(call.answer as usize);
        let length = self.length(inode).max(at + bytes.len());
        self.lengths.insert(inode, length);
        self.add(call, Change::Written { inode, at, bytes });
    }

    fn made(&mut self, place: Option<(Inode, String)>, call: &Call) {
        let Some((directory, name)) = place else { return };
        let inode = self.new_inode(true);
        self.add(call, Change::Names(vec![(directory, name, Some(inode))]));
    }

    fn removed(&mut self, place: Option<(Inode, String)>, call: &Call) {
        let Some((directory, name)) = place else { return };
        self.add(call, Change::Names(vec![(directory, name, None)]));
    }

    fn renamed(&mut self, from: Option<(Inode, String)>, to: Option<(Inode, String)>, exchange: bool, call: &Call) {
        let (from, to) = match (from, to) {
            (None, None) => return,
            (Some(from), Some(to)) => (from, to),
            _ => panic!("{call:?} is not modelled"),
        };
        let (moved, there) = (self.find(&from), self.find(&to));
        assert!(moved.is_some(), "{call:?} renames what is not there");
        let left = if exchange { there } else { None };
        self.add(call, Change::Names(vec![(from.0, from.1, left), (to.0, to.1, moved)]));
    }

    /// Lines between which something happened, for the power to go.
    pub(crate) fn moments(&self) -> Vec<usize> {
        let ops = self.ops.iter().flat_map(|op| [op.begun, op.done]);
        let syncs = self.syncs.iter().flat_map(|sync| [sync.begun, sync.done]);
        let said = self.said.iter().map(|(when, _)| *when).filter(|when| *when < usize::MAX);
        let mut all: Vec<_> = ops.chain(syncs).chain(said).map(|line| line + 1).chain([1]).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// For each change, the line from which on it stays whatever happens.
    pub(crate) fn lasting(&self, honest: Honest) -> Vec<usize> {
        let counts = |inode: Inode| match honest {
            Honest::All => true,
            Honest::Files => !self.is_directory[inode],
            Honest::Directories => self.is_directory[inode],
            Honest::None => false,
        };
        let kept = |inode: Inode, op: &Op| {
            let covering = self.syncs.iter().filter(|sync| sync.inode == inode && sync.begun > op.done);
            covering.filter(|sync| counts(sync.inode)).map(|sync| sync.done).min().unwrap_or(usize::MAX)
        };
        let lasting = |op: &Op| match &op.change {
            Change::Names(entries) => entries.iter().map(|entry| kept(entry.0, op)).min().unwrap_or(usize::MAX),
            Change::Written { inode, .. } | Change::Length { inode, .. } | Change::AtLeast { inode, .. } => {
                kept(*inode, op)
            }
        };
        self.ops.iter().enumerate().map(|(at, op)| if at < self.old { 0 } else { lasting(op) }).collect()
    }

    /// What is found after the power went before the line `cut`, as the dice
    /// fall.
    pub(crate) fn after(&self, cut: usize, lasting: &[usize], dice: &mut Dice) -> Image {
        let mood = Mood::throw(cut, dice);
        let mut names = BTreeMap::new();
        let mut contents: Vec<Vec<(usize, bool)>> = vec![Vec::new(); self.is_directory.len()];
        for (at, op) in self.ops.iter().enumerate() {
            if op.begun >= cut {
                continue;
            }
            let sure = lasting[at] < cut;
            match &op.change {
                Change::Names(entries) => {
                    if sure || mood.keeps(op, mood.names, dice) {
                        entries.iter().for_each(|(directory, name, inode)| {
                            names.insert((*directory, name.as_str()), *inode);
                        });
                    }
                }
                Change::Written { inode, .. } | Change::Length { inode, .. } | Change::AtLeast { inode, .. } => {
                    contents[*inode].push((at, sure));
                }
            }
        }
        let mut image = Image::new();
        let mut pending = vec![(ROOT, PathBuf::new())];
        while let Some((directory, path)) = pending.pop() {
            for ((_, name), inode) in names.range((directory, "")..(directory + 1, "")) {
                let Some(inode) = *inode else { continue };
                let path = path.join(name);
                if self.is_directory[inode] {
                    image.insert(path.clone(), None);
                    pending.push((inode, path));
                } else {
                    image.insert(path, Some(self.content(&contents[inode], &mood, dice)));
                }
            }
        }
        image
    }

    fn content(&self, ops: &[(usize, bool)], mood: &Mood, dice: &mut Dice) -> Vec<u8> {
        let mut content = Vec::new();
        let grow = |content: &mut Vec<u8>, length: usize| content.resize(content.len().max(length), 0);
        for &(at, sure) in ops {
            let op = &self.ops[at];
            let kept = sure || mood.keeps(op, mood.data, dice);
            match &op.change {
                Change::Written { at, bytes, .. } => {
                    let end = at + bytes.len();
                    // A file may have grown for what never arrived.
                    if kept || dice.below(4) == 0 {
                        grow(&mut content, end);
                    }
                    if kept {
                        let torn = !sure && dice.below(8) < mood.torn;
                        arrived(*at..end, torn, dice).into_iter().for_each(|piece| {
                            content[piece.clone()].copy_from_slice(&bytes[piece.start - at..piece.end - at]);
                        });
                    }
                }
                Change::Length { length, .. } if kept => content.resize(*length, 0),
                Change::AtLeast { length, .. } if kept => grow(&mut content, *length),
                _ => {}
            }
        }
        content
    }

    /// What is there if the power stays.
    pub(crate) fn now(&self) -> Image {
        let lasting = vec![0; self.ops.len()];
        self.after(usize::MAX, &lasting, &mut Dice(0))
    }
}

/// The sectors of a write that arrived: all, or, of one that is torn, the first
/// ones or any.
fn arrived(range: Range<usize>, torn: bool, dice: &mut Dice) -> Vec<Range<usize>> {
    let mut sectors = Vec::new();
    let mut start = range.start;
    while start < range.end {
        let end = ((start / SECTOR + 1) * SECTOR).min(range.end);
        sectors.push(start..end);
        start = end;
    }
    if !torn {
        return sectors;
    }
    if dice.below(2) == 0 {
        sectors.truncate(dice.below(sectors.len() + 1));
    } else {
        sectors.retain(|_| dice.below(2) == 0);
    }
    sectors
}

/// How a disk treats what was not synced. Some keep nothing, some nearly all,
/// some write in the order they were told.
#[derive(Debug)]
struct Mood {
    /// Eighths that are kept.
    data: usize,
    names: usize,
    torn: usize,
    /// The line up to which all was written in order.
    ordered: Option<usize>,
}

impl Mood {
    fn throw(cut: usize, dice: &mut Dice) -> Self {
        let mut share = || [0, 1, 4, 7, 8][dice.below(5)];
        let (data, names) = (share(), share());
        let torn = [0, 1, 4][dice.below(3)];
        let back = 1 << dice.below(12);
        let ordered = (dice.below(4) == 0).then(|| cut.saturating_sub(dice.below(back)));
        Self { data, names, torn, ordered }
    }

    fn keeps(&self, op: &Op, share: usize, dice: &mut Dice) -> bool {
        match self.ordered {
            Some(until) => op.done < until,
            None => dice.below(8) < share,
        }
    }
}
