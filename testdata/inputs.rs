//! Inputs that lie outside the project and may be absent.
//!
//! Tests read them where they exist and pass without them; each absent input
//! prints one line. `RUNPACK_REQUIRE=shared,servers,chromium,strace` makes the
//! absence of what it names an error.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::explicit_write, clippy::disallowed_methods)]

use std::path::{Path, PathBuf};

/// The project's own directory.
pub fn root() -> PathBuf {
    let mut at = Path::new(env!("CARGO_MANIFEST_DIR"));
    while !at.join("Cargo.lock").exists() {
        at = at.parent().expect("a Cargo.lock above every member");
    }
    at.to_owned()
}

/// A path of the project's own test data.
pub fn testdata(path: &str) -> PathBuf {
    root().join("testdata").join(path)
}

/// A path beside the project, in `shared`, if it is there.
pub fn shared(path: &str) -> Option<PathBuf> {
    let found = root().parent().unwrap().join("shared").join(path);
    if found.exists() {
        return Some(found);
    }
    let required = std::env::var("RUNPACK_REQUIRE").unwrap_or_default();
    assert!(!required.split(',').any(|name| name == "shared"), "shared/{path} is required and absent");
    absent(&format!("shared/{path}; what needs it"));
    None
}

/// The address of a server that `just servers` has started, if it has:
/// `URL`, or `URL KEY SECRET`.
pub fn server(name: &str) -> Option<String> {
    let all = std::env::var("RUNPACK_SERVERS").unwrap_or_default();
    let prefix = format!("{name}=");
    if let Some(found) = all.split(',').find_map(|entry| entry.strip_prefix(&prefix)) {
        return Some(found.to_owned());
    }
    let required = std::env::var("RUNPACK_REQUIRE").unwrap_or_default();
    assert!(!required.split(',').any(|name| name == "servers"), "the server {name} is required and absent");
    absent(&format!("the server {name} (`just servers`); it"));
    None
}

/// Whether `strace` is there, and may look at processes.
pub fn strace() -> bool {
    let tried = std::process::Command::new("strace").args(["-q", "-o", "/dev/null", "true"]).output();
    if tried.is_ok_and(|output| output.status.success()) {
        return true;
    }
    let required = std::env::var("RUNPACK_REQUIRE").unwrap_or_default();
    assert!(!required.split(',').any(|name| name == "strace"), "strace is required and absent, or not permitted");
    absent("strace, or what it needs, is not there; what it would show");
    false
}

/// Chromium, and the directory with the modules that drive it (`just browser`),
/// if both are there.
pub fn browser() -> Option<(PathBuf, PathBuf)> {
    let named = std::env::var_os("RUNPACK_CHROMIUM").map(PathBuf::from);
    let chromium = named.unwrap_or_else(|| PathBuf::from("/usr/bin/chromium"));
    let modules = root().join("target/browser");
    if chromium.exists() && modules.join("node_modules/playwright-core").exists() {
        return Some((chromium, modules));
    }
    let required = std::env::var("RUNPACK_REQUIRE").unwrap_or_default();
    assert!(!required.split(',').any(|name| name == "chromium"), "chromium is required and absent (`just browser`)");
    absent("chromium, or what drives it (`just browser`), is not there; how pages look");
    None
}

/// Says that something was not tested. Written past the test runner, which
/// keeps what a passing test prints to itself.
pub fn absent(what: &str) {
    use std::io::Write as _;
    writeln!(std::io::stderr(), "absent: {what} was not tested").unwrap();
}
