//! Which paths are read, and which are written.

use crate::Fault;

/// Components in a path that is written or walked to.
pub(crate) const LEVELS_MAX: usize = 16;

const READ_COMPONENT_MAX: usize = 255;
const READ_PATH_MAX: usize = 4096;
const WRITE_COMPONENT_MAX: usize = 200;
const WRITE_PATH_MAX: usize = 1024;

/// Whether `path` names one place beneath a directory, and the same one on
/// every machine: relative, `/` between components, none of them empty, `.` or
/// `..`, no NUL and no backslash; components up to 255 bytes, the whole up to
/// 4096.
///
/// # Errors
/// [`Fault::UnsafePath`] with the rule that is broken.
pub fn check_read_path(path: &str) -> Result<(), Fault> {
    if path.len() > READ_PATH_MAX {
        return unsafe_path("longer than 4096 bytes");
    }
    if path.contains('\0') {
        return unsafe_path("it contains a NUL");
    }
    if path.contains('\\') {
        return unsafe_path("it contains a backslash, which separates directories on some machines");
    }
    check_components(path)?;
    if path.split('/').any(|component| component.len() > READ_COMPONENT_MAX) {
        return unsafe_path("a component is longer than 255 bytes");
    }
    Ok(())
}

/// Whether a file at `path` can be carried to every machine: ASCII letters,
/// digits, `.`, `_` and `-` with `/` between components; components up to 200
/// bytes, the whole up to 1024, 16 levels; no component that starts with `-`,
/// ends with `.`, or is a Windows device name (`CON`, `nul.txt`).
///
/// That paths differ by more than case is for whoever knows all of them.
///
/// # Errors
/// [`Fault::UnsafePath`] with the rule that is broken.
pub fn check_write_path(path: &str) -> Result<(), Fault> {
    if path.len() > WRITE_PATH_MAX {
        return unsafe_path("longer than 1024 bytes");
    }
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/".contains(&byte);
    if !path.bytes().all(allowed) {
        return unsafe_path("only ASCII letters, digits, `.`, `_`, `-` and `/` are written");
    }
    check_components(path)?;
    if path.split('/').count() > LEVELS_MAX {
        return unsafe_path("deeper than 16 levels");
    }
    for component in path.split('/') {
        if component.len() > WRITE_COMPONENT_MAX {
            return unsafe_path("a component is longer than 200 bytes");
        }
        if component.starts_with('-') {
            return unsafe_path("a component starts with `-`, which commands take for an option");
        }
        if component.ends_with('.') {
            return unsafe_path("a component ends with `.`, which Windows drops");
        }
        if is_device(component) {
            return unsafe_path("a component is a Windows device name");
        }
    }
    Ok(())
}

fn check_components(path: &str) -> Result<(), Fault> {
    if path.is_empty() {
        return unsafe_path("it is empty");
    }
    if path.starts_with('/') {
        return unsafe_path("it is absolute");
    }
    for component in path.split('/') {
        match component {
            "" => return unsafe_path("it has an empty component"),
            "." => return unsafe_path("it has a `.` component"),
            ".." => return unsafe_path("it has a `..` component"),
            _ => {}
        }
    }
    Ok(())
}

/// Windows looks only at what stands before the first dot, in any case.
/// `CONIN$` and `CONOUT$` never get here: `$` is not written.
fn is_device(component: &str) -> bool {
    let stem = component.split('.').next().unwrap_or_default().to_ascii_uppercase();
    match stem.as_bytes() {
        b"CON" | b"PRN" | b"AUX" | b"NUL" => true,
        [b'C', b'O', b'M', digit] | [b'L', b'P', b'T', digit] => digit.is_ascii_digit(),
        _ => false,
    }
}

fn unsafe_path(rule: &'static str) -> Result<(), Fault> {
    Err(Fault::UnsafePath(rule))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_names_one_place() {
        let longest = "a".repeat(255);
        for path in ["a", "manifest.json", "a/b/c", "a b", "ü/é", ".hidden", "..a", "a..", "-x", "CON", &longest] {
            assert!(check_read_path(path).is_ok(), "{path}");
        }
    }

    #[test]
    fn refuses_to_read_what_could_lead_elsewhere() {
        let (name, path) = ("a".repeat(256), "a/".repeat(3000) + "b");
        let paths = [
            "",
            "/",
            "/etc/passwd",
            "..",
            "../x",
            "a/..",
            "a/../../x",
            ".",
            "./a",
            "a/./b",
            "a//b",
            "a/",
            "//",
            "a\\b",
            "a\0b",
            &name,
            &path,
        ];
        for path in paths {
            assert!(matches!(check_read_path(path), Err(Fault::UnsafePath(_))), "{path:?}");
            assert!(matches!(check_write_path(path), Err(Fault::UnsafePath(_))), "{path:?}");
        }
    }

    #[test]
    fn writes_what_every_machine_can_hold() {
        let longest = "a".repeat(200);
        let deepest = ["a"; 16].join("/");
        for path in
            ["manifest.json", "artifacts/decision_log.json", "CONSOLE", "com10", "com", "a-b", ".a", &longest, &deepest]
        {
            assert!(check_write_path(path).is_ok(), "{path}");
        }
    }

    #[test]
    fn refuses_to_write_what_some_machine_cannot_hold() {
        let name = "a".repeat(201);
        let path = vec!["a".repeat(150); 7].join("/");
        let deep = ["a"; 17].join("/");
        let paths = [
            "a b",
            "ü",
            "a:b",
            "a\nb",
            "-rf",
            "a/-b",
            "a.",
            "a./b",
            "con",
            "CON.json",
            "a/NUL",
            "aux.tar.gz",
            "Lpt0",
            "com9.x",
            "CONIN$",
            "conout$.txt",
            "COM\u{b9}",
            &name,
            &path,
            &deep,
        ];
        for path in paths {
            assert!(matches!(check_write_path(path), Err(Fault::UnsafePath(_))), "{path:?}");
        }
    }
}
