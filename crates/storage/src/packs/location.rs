//! Where a pack is, as users say it.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, IsTerminal};
use std::path::PathBuf;

use runpack_beneath::{Fault, Links, check_read_path, directory_of};
use runpack_core::pack::PackReader;
use runpack_core::pack::layout::MANIFEST_NAME;

use super::{ArchiveReader, DirectoryReader, OpenFault, Stores, in_object_storage};

/// Where a pack is. That anything is there is not known yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// In a directory.
    Directory {
        /// The directory.
        directory: PathBuf,
        /// Relative to the directory, `/` between components.
        manifest_name: String,
    },
    /// In an archive, whose manifest has one name only.
    Archive(PathBuf),
    /// In an archive that comes in on standard input.
    StandardInput,
    /// In an archive at an `https` address, as given.
    Web(String),
    /// In object storage.
    Object {
        /// As given.
        url: String,
        /// Below the prefix that is the pack's directory.
        manifest_name: String,
    },
}

/// What is given to whatever is opened; not all of it speaks of every place.
#[derive(Clone, Copy)]
pub struct ReadOptions<'a> {
    /// Whether files in a directory may have other names.
    pub links: Links,
    /// Bytes of one artifact, where it has to be brought here before it is read.
    pub artifact_bytes_max: u64,
    /// How object storage is reached.
    pub stores: &'a Stores,
}

/// Why a location was not understood, or not opened.
#[derive(Debug, thiserror::Error)]
pub enum LocationError {
    /// Nothing was said.
    #[error("the location is empty\nhint: give the pack's directory")]
    Empty,
    /// A place that this version does not read.
    #[error(
        "`{location}` is a URL of a kind that packs are not read from\nhint: file://, https://, s3://, az:// and gs:// are; or give a path"
    )]
    Elsewhere {
        /// As given.
        location: String,
    },
    /// Packs are read there, and not written.
    #[error(
        "`{location}` is no place to write a pack to\nhint: name a directory, or object storage where that is taken"
    )]
    NotWritable {
        /// Without what may be secret.
        location: String,
    },
    /// The archive at a web address was not fetched.
    #[error("`{location}`: {problem}")]
    Web {
        /// Without what may be secret.
        location: String,
        /// Why.
        problem: String,
    },
    /// A `file` URL that names no path.
    #[error("`{location}` names no file: {reason}\nhint: write `file:///` and an absolute path, or the path alone")]
    FileUrl {
        /// As given.
        location: String,
        /// What is wrong with it.
        reason: &'static str,
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
    /// Nobody types an archive.
    #[error(
        "`-` is standard input, and that is a terminal\nhint: feed it a sealed pack: `… < pack.runpack.tar`; a directory of that name is `./-`"
    )]
    Terminal,
    /// It was understood, and cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenFault),
    /// The object store cannot be asked.
    #[error("{0}")]
    Store(String),
}

impl Location {
    /// Understands a directory, a path to the manifest in it, an archive, a
    /// `file` URL of one of these, and `-`. A file is an archive if its name
    /// ends like one, else a manifest; what does not exist is a manifest only
    /// if it is called like one. `manifest_name` speaks of directories only.
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
        if location == "-" {
            return Ok(Self::StandardInput);
        }
        if in_object_storage(location) {
            let manifest_name = manifest_name.unwrap_or(MANIFEST_NAME).to_owned();
            return Ok(Self::Object { url: location.to_owned(), manifest_name });
        }
        if is_web(location) {
            return Ok(Self::Web(location.to_owned()));
        }
        if elsewhere(location) {
            return Err(LocationError::Elsewhere { location: location.to_owned() });
        }
        let path = file_url(location)?.unwrap_or_else(|| PathBuf::from(location));
        let wanted = manifest_name.unwrap_or(MANIFEST_NAME);
        if fs::metadata(&path).is_ok_and(|metadata| metadata.is_dir()) {
            return Ok(Self::Directory { directory: path, manifest_name: wanted.to_owned() });
        }
        if is_archive(location) {
            return Ok(Self::Archive(path));
        }
        let exists = fs::symlink_metadata(&path).is_ok();
        let name = path.file_name().and_then(OsStr::to_str);
        match name {
            Some(name) if exists || name == wanted => {
                if manifest_name.is_some_and(|given| given != name) {
                    let name = wanted.to_owned();
                    return Err(LocationError::TwoManifests { location: location.to_owned(), name });
                }
                check_manifest_name(name)?;
                Ok(Self::Directory { directory: directory_of(&path).to_owned(), manifest_name: name.to_owned() })
            }
            _ => Ok(Self::Directory { directory: path, manifest_name: wanted.to_owned() }),
        }
    }

    /// The manifest's name in the pack.
    pub fn manifest_name(&self) -> &str {
        match self {
            Self::Directory { manifest_name, .. } | Self::Object { manifest_name, .. } => manifest_name,
            Self::Archive(_) | Self::StandardInput | Self::Web(_) => MANIFEST_NAME,
        }
    }

    /// Opens what is there.
    ///
    /// # Errors
    /// See [`LocationError`].
    pub fn open(&self, options: &ReadOptions<'_>) -> Result<Box<dyn PackReader>, LocationError> {
        match self {
            Self::Directory { directory, .. } => Ok(Box::new(DirectoryReader::open(directory)?.links(options.links))),
            Self::Object { url, manifest_name } => options.stores.open(url, manifest_name),
            Self::Web(url) => options.stores.fetch(url, options.artifact_bytes_max),
            Self::Archive(path) => Ok(Box::new(ArchiveReader::open(path)?)),
            Self::StandardInput if io::stdin().is_terminal() => Err(LocationError::Terminal),
            Self::StandardInput => Ok(Box::new(ArchiveReader::spool(io::stdin().lock(), options.artifact_bytes_max)?)),
        }
    }
}

fn check_manifest_name(name: &str) -> Result<(), LocationError> {
    check_read_path(name).map_err(|fault| {
        let reason = if let Fault::UnsafePath(rule) = fault { rule } else { "unsafe path" };
        LocationError::ManifestName { name: name.to_owned(), reason }
    })
}

fn scheme(location: &str) -> Option<String> {
    location.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase())
}

/// Whether `location` is a web address, at which there can be an archive.
pub fn is_web(location: &str) -> bool {
    scheme(location).is_some_and(|scheme| matches!(scheme.as_str(), "http" | "https"))
}

/// Whether it is a URL, and of no file.
fn elsewhere(location: &str) -> bool {
    scheme(location).is_some_and(|scheme| scheme != "file")
}

/// `location` as it may be printed: what a web address says besides host and
/// path is often a key to it.
pub fn shown(location: &str) -> Cow<'_, str> {
    let Some((scheme, rest)) = location.split_once("://").filter(|_| is_web(location)) else {
        return Cow::Borrowed(location);
    };
    let end = rest.find(['?', '#']).unwrap_or(rest.len());
    let host = rest[..end].find(['/', '\\']).unwrap_or(end);
    let start = rest[..host].rfind('@').map_or(0, |at| at + 1);
    let more = if end < rest.len() { "?…" } else { "" };
    Cow::Owned(format!("{scheme}://{}{more}", &rest[start..end]))
}

/// The directory that is named, by its path or a `file` URL.
///
/// # Errors
/// It is another URL.
pub fn directory(location: &str) -> Result<PathBuf, LocationError> {
    if elsewhere(location) {
        return Err(LocationError::NotWritable { location: shown(location).into_owned() });
    }
    Ok(file_url(location)?.unwrap_or_else(|| PathBuf::from(location)))
}

/// The path in a `file` URL; `None` if the location is no URL.
fn file_url(location: &str) -> Result<Option<PathBuf>, LocationError> {
    let Some((_, rest)) = location.split_once("://") else { return Ok(None) };
    let refuse = |reason| Err(LocationError::FileUrl { location: location.to_owned(), reason });
    let path = rest.strip_prefix("localhost").filter(|path| path.starts_with('/')).unwrap_or(rest);
    if !path.starts_with('/') {
        return refuse("it names another machine, or no absolute path");
    }
    if path.contains(['?', '#']) {
        return refuse("a query or fragment belongs to no path");
    }
    match unescaped(path) {
        Some(path) if !path.contains('\0') => Ok(Some(PathBuf::from(path))),
        _ => refuse("an escape in it stands for no text"),
    }
}

/// `%20` and its like resolved; `None` if that gives no UTF-8.
fn unescaped(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (digits, tail) = rest.split_at_checked(2)?;
        let digit = |digit: u8| char::from(digit).to_digit(16);
        bytes.push(u8::try_from(digit(digits[0])? * 16 + digit(digits[1])?).ok()?);
        rest = tail;
    }
    String::from_utf8(bytes).ok()
}

/// Compressed ones, too, so that they are refused as what they are.
fn is_archive(location: &str) -> bool {
    let lower = location.to_ascii_lowercase();
    let archives = [".tar", ".tar.gz", ".tgz", ".tar.zst", ".tar.xz", ".tar.bz2", ".zip"];
    archives.iter().any(|ending| lower.ends_with(ending))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn parse(location: &str, name: Option<&str>) -> Result<(String, String), String> {
        match Location::parse(location, name).map_err(|error| error.to_string())? {
            Location::Directory { directory, manifest_name } => {
                Ok((directory.to_str().unwrap().to_owned(), manifest_name))
            }
            other => Err(format!("{other:?}")),
        }
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
        for place in ["ftp://example.org/p", "httpx://h/p"] {
            let error = parse(place, None).unwrap_err();
            assert!(error.contains(&format!("`{place}` is a URL of a kind")) && error.contains("\nhint: "), "{error}");
        }
        assert_eq!(directory("file:///a%20b").unwrap(), Path::new("/a b"));
        assert!(directory("https://h/p?key").unwrap_err().to_string().starts_with("`https://h/p?…` is no place"));
        assert!(parse("", None).unwrap_err().contains("empty"));
    }

    #[test]
    fn is_an_archive_by_its_name_unless_it_is_a_directory() {
        for archive in ["pack.tar", "PACK.TAR", "dir/pack.runpack.tar", "pack.tar.gz", "file.zip"] {
            for name in [None, Some("index.json")] {
                assert_eq!(Location::parse(archive, name).unwrap(), Location::Archive(archive.into()));
            }
        }
        assert_eq!(Location::parse("-", None).unwrap(), Location::StandardInput);
        assert_eq!(parse("./-", None), at("./-", "manifest.json"));
    }

    #[test]
    fn is_printed_without_what_may_be_secret() {
        for (location, printed) in [
            ("https://h/p.runpack.tar?X-Amz-Signature=s#f", "https://h/p.runpack.tar?…"),
            ("HTTPS://user:secret@h:8443/a@b", "HTTPS://h:8443/a@b"),
            ("http://user:sec?ret@h/", "http://user:sec?…"),
            ("https://h#s", "https://h?…"),
            ("s3://b/a?b", "s3://b/a?b"),
            ("dir?x", "dir?x"),
        ] {
            assert_eq!(shown(location), printed);
        }
    }

    #[test]
    #[cfg(not(feature = "https"))]
    fn is_not_fetched_by_a_build_that_cannot() {
        let location = Location::parse("https://example.org/p?key", None).unwrap();
        let options = ReadOptions { links: Links::Single, artifact_bytes_max: 1, stores: &Stores::default() };
        let error = location.open(&options).err().unwrap().to_string();
        assert!(
            error.starts_with("`https://example.org/p?…`: this build of runpack fetches nothing\nhint: "),
            "{error}"
        );
    }

    #[test]
    fn is_a_path_in_a_url() {
        assert_eq!(parse("file:///no/such", None), at("/no/such", "manifest.json"));
        assert_eq!(parse("FILE://localhost/no/a%20b%C3%a9/manifest.json", None), at("/no/a b\u{e9}", "manifest.json"));
        assert_eq!(Location::parse("file:///a/b.tar", None).unwrap(), Location::Archive("/a/b.tar".into()));
        for url in
            ["file://host/a", "file://a", "file:///a?b", "file:///a#b", "file:///a%2", "file:///%ff", "file:///%00"]
        {
            let error = parse(url, None).unwrap_err();
            assert!(error.contains(&format!("`{url}` names no file: ")) && error.contains("\nhint: "), "{error}");
        }
    }

    #[test]
    fn has_a_manifest_inside() {
        for name in ["../manifest.json", "/etc/passwd", "", "a//b"] {
            assert!(parse(".", Some(name)).unwrap_err().contains("cannot be the name of a manifest"), "{name}");
        }
    }
}
