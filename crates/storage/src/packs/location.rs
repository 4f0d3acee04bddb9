//! Where a pack is, as users say it.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use runpack_beneath::{Fault, check_read_path};
use runpack_core::pack::layout::MANIFEST_NAME;

/// A pack's directory and the name of the manifest in it. That either exists is
/// not known yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackLocation {
    /// The directory.
    pub directory: PathBuf,
    /// Relative to the directory, `/` between components.
    pub manifest_name: String,
}

/// Why a location was not understood.
#[derive(Debug, thiserror::Error)]
pub enum LocationError {
    /// Nothing was said.
    #[error("the location is empty\nhint: give the pack's directory")]
    Empty,
    /// A place that this version does not read.
    #[error("`{location}` is {what}, and this version reads directories only\nhint: {hint}")]
    NotADirectory {
        /// As given.
        location: String,
        /// What it is.
        what: &'static str,
        /// What to do.
        hint: &'static str,
    },
    /// No file in a pack can have that name.
    #[error("`{name}` cannot be the name of a manifest: {reason}")]
    ManifestName {
        /// As given.
        name: String,
        /// The rule that is broken.
        reason: &'static str,
    },
    /// The location and the option name two manifests.
    #[error("`{location}` is the manifest, but its name was given as `{name}`\nhint: give only one of the two")]
    TwoManifests {
        /// As given.
        location: String,
        /// As given.
        name: String,
    },
}

impl PackLocation {
    /// Understands a directory, or a path to the manifest in it. What is no
    /// directory is taken for a manifest; what does not exist, only if it is
    /// called like one.
    ///
    /// # Errors
    /// See [`LocationError`].
    pub fn parse(location: &str, manifest_name: Option<&str>) -> Result<Self, LocationError> {
        if location.is_empty() {
            return Err(LocationError::Empty);
        }
        if let Some(name) = manifest_name {
            check_manifest_name(name)?;
        }
        let path = Path::new(location);
        let wanted = manifest_name.unwrap_or(MANIFEST_NAME);
        if fs::metadata(path).is_ok_and(|metadata| metadata.is_dir()) {
            return Ok(Self { directory: path.to_owned(), manifest_name: wanted.to_owned() });
        }
        if let Some((what, hint)) = elsewhere(location) {
            return Err(LocationError::NotADirectory { location: location.to_owned(), what, hint });
        }
        let exists = fs::symlink_metadata(path).is_ok();
        let name = path.file_name().and_then(OsStr::to_str);
        match name {
            Some(name) if exists || name == wanted => {
                if manifest_name.is_some_and(|given| given != name) {
                    let name = wanted.to_owned();
                    return Err(LocationError::TwoManifests { location: location.to_owned(), name });
                }
                check_manifest_name(name)?;
                let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
                let directory = parent.unwrap_or(Path::new(".")).to_owned();
                Ok(Self { directory, manifest_name: name.to_owned() })
            }
            _ => Ok(Self { directory: path.to_owned(), manifest_name: wanted.to_owned() }),
        }
    }
}

fn check_manifest_name(name: &str) -> Result<(), LocationError> {
    check_read_path(name).map_err(|fault| {
        let reason = if let Fault::UnsafePath(rule) = fault { rule } else { "unsafe path" };
        LocationError::ManifestName { name: name.to_owned(), reason }
    })
}

/// What the location is instead of a directory, and what to do about it.
fn elsewhere(location: &str) -> Option<(&'static str, &'static str)> {
    if location == "-" {
        return Some(("standard input", "for a directory of that name write `./-`"));
    }
    if let Some((scheme, _)) = location.split_once("://") {
        return match scheme.to_ascii_lowercase().as_str() {
            "s3" | "az" | "gs" => Some(("object storage", "download the pack and give its directory")),
            "file" => Some(("a URL", "give the path alone")),
            _ => Some(("a URL", "download the pack and give its directory")),
        };
    }
    let lower = location.to_ascii_lowercase();
    let archives = [".tar", ".tar.gz", ".tgz", ".tar.zst", ".tar.xz", ".zip"];
    archives.iter().any(|ending| lower.ends_with(ending)).then_some(("an archive", "unpack it and give the directory"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(location: &str, name: Option<&str>) -> Result<(String, String), String> {
        let location = PackLocation::parse(location, name).map_err(|error| error.to_string())?;
        Ok((location.directory.to_str().unwrap().to_owned(), location.manifest_name))
    }

    fn at(directory: &str, name: &str) -> Result<(String, String), String> {
        Ok((directory.to_owned(), name.to_owned()))
    }

    #[test]
    fn is_a_directory_or_a_manifest_in_one() {
        let temp = tempfile::tempdir().unwrap();
        let pack = temp.path().join("pack");
        fs::create_dir_all(pack.join("x.tar")).unwrap();
        fs::write(pack.join("index.json"), "{}").unwrap();
        let pack = pack.to_str().unwrap();
        assert_eq!(parse(pack, None), at(pack, "manifest.json"));
        assert_eq!(parse(pack, Some("index.json")), at(pack, "index.json"));
        assert_eq!(parse(pack, Some("sub/index.json")), at(pack, "sub/index.json"));
        assert_eq!(parse(&format!("{pack}/index.json"), None), at(pack, "index.json"));
        assert_eq!(parse(&format!("{pack}/index.json"), Some("index.json")), at(pack, "index.json"));
        assert_eq!(parse(&format!("{pack}/x.tar"), None), at(&format!("{pack}/x.tar"), "manifest.json"));
        let two = parse(&format!("{pack}/index.json"), Some("manifest.json")).unwrap_err();
        assert!(two.contains("hint: give only one"), "{two}");
    }

    #[test]
    fn is_taken_by_its_name_where_nothing_exists() {
        assert_eq!(parse("manifest.json", None), at(".", "manifest.json"));
        assert_eq!(parse("index.json", Some("index.json")), at(".", "index.json"));
        assert_eq!(parse("no/such/manifest.json", None), at("no/such", "manifest.json"));
        assert_eq!(parse("/manifest.json", None), at("/", "manifest.json"));
        assert_eq!(parse("no/such", None), at("no/such", "manifest.json"));
        assert_eq!(parse("no/such/..", None), at("no/such/..", "manifest.json"));
    }

    #[test]
    fn is_not_elsewhere() {
        let places = [
            "s3://bucket/pack",
            "S3://bucket/pack",
            "az://c/p",
            "gs://b/p",
            "https://example.org/p",
            "http://h/p",
            "file:///tmp/p",
            "-",
            "pack.tar",
            "PACK.TAR",
            "dir/pack.tar.gz",
        ];
        for place in places {
            let error = parse(place, None).unwrap_err();
            assert!(error.contains(&format!("`{place}`")), "{error}");
            assert!(error.contains("this version reads directories only\nhint: "), "{error}");
        }
        assert!(parse("", None).unwrap_err().contains("empty"));
    }

    #[test]
    fn has_a_manifest_inside() {
        for name in ["../manifest.json", "/etc/passwd", "", "a//b"] {
            assert!(parse(".", Some(name)).unwrap_err().contains("cannot be the name of a manifest"), "{name}");
        }
    }
}
