//! How much memory a child of a test takes.

#![allow(unreachable_pub, clippy::unwrap_used)]

use std::fs;
use std::process::Child;
use std::time::Duration;

/// Waits; the most memory it had, in KiB.
pub fn peak(mut child: Child) -> u64 {
    let mut peak = 0;
    let status = loop {
        let told = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let line = told.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")).and_then(|kib| kib.trim().parse().ok());
        peak = peak.max(kib.unwrap_or(0));
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    assert!(status.success(), "{status}");
    peak
}
