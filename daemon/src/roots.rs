//! Where on this machine packs are exported to and verified in.

use std::path::{Component, Path, PathBuf};

use crate::access::Caller;

/// The directories below which callers may name packs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Roots(Vec<PathBuf>);

/// Why a directory is not for a caller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RootError {
    /// There are no roots, and the caller is not on this machine.
    #[error(
        "unauthorized: no directory is open to callers with credentials\nhint: ask the operator to set runpack.roots"
    )]
    NoRoots,
    /// It is below none of them.
    #[error("`{0}` is below none of the directories that are open to callers\nhint: see runpack.roots in the config")]
    Outside(PathBuf),
    /// A component leads somewhere else.
    #[error("`{0}` is a link, and links are not followed\nhint: name the directory itself")]
    Link(PathBuf),
    /// It goes up.
    #[error("`{0}` must not contain `..`")]
    Up(PathBuf),
}

impl Roots {
    /// These, which need not be there yet.
    pub fn new(roots: Vec<PathBuf>) -> Self {
        Self(roots)
    }

    /// Whether `caller` may name `directory`, which need not be there yet. With
    /// no roots, local callers may name any.
    ///
    /// # Errors
    /// See [`RootError`].
    pub fn admit(&self, caller: &Caller, directory: &Path) -> Result<(), RootError> {
        if directory.components().any(|component| component == Component::ParentDir) {
            return Err(RootError::Up(directory.to_owned()));
        }
        if self.0.is_empty() {
            return if caller.is_local() { no_links(directory, Path::new("")) } else { Err(RootError::NoRoots) };
        }
        let outside = || RootError::Outside(directory.to_owned());
        // As it will be opened; links are looked at below.
        let directory = &std::path::absolute(directory).map_err(|_| outside())?;
        let root = self.0.iter().find(|root| directory.starts_with(root)).ok_or_else(outside)?;
        // What the operator named may be a link; what a caller adds may not.
        no_links(directory, root)
    }
}

/// Looks at every component of `directory` below `root`. One that is not there
/// leads nowhere yet.
fn no_links(directory: &Path, root: &Path) -> Result<(), RootError> {
    let mut path = root.to_owned();
    let added = directory.strip_prefix(root).unwrap_or(directory);
    // The file system's own links, such as /tmp on some systems, are not the
    // caller's: without a root, only the last component counts.
    let last_only = root.as_os_str().is_empty();
    let count = added.components().count();
    for (index, component) in added.components().enumerate() {
        path.push(component);
        let looked_at = !last_only || index + 1 == count;
        if looked_at && std::fs::symlink_metadata(&path).is_ok_and(|there| there.is_symlink()) {
            return Err(RootError::Link(path));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::{Method, Principal};

    fn stranger() -> Caller {
        Caller { subject: "token:0".to_owned(), method: Method::BearerToken, principal: Principal::default() }
    }

    #[test]
    fn callers_stay_below_the_roots_and_follow_no_links() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("packs");
        std::fs::create_dir(&root).unwrap();
        #[cfg(unix)]
        std::os::unix::fs::symlink(dir.path(), root.join("out")).unwrap();
        let roots = Roots::new(vec![root.clone()]);
        for caller in [stranger(), Caller::loopback()] {
            assert_eq!(roots.admit(&caller, &root.join("a/b")), Ok(()));
            assert!(matches!(roots.admit(&caller, dir.path()), Err(RootError::Outside(_))));
            assert!(matches!(roots.admit(&caller, &dir.path().join("packs2/x")), Err(RootError::Outside(_))));
            assert!(matches!(roots.admit(&caller, &root.join("../x")), Err(RootError::Up(_))));
            #[cfg(unix)]
            assert_eq!(roots.admit(&caller, &root.join("out/x")), Err(RootError::Link(root.join("out"))));
        }
    }

    #[test]
    fn without_roots_only_local_callers_name_directories() {
        let dir = tempfile::tempdir().unwrap();
        let roots = Roots::default();
        assert_eq!(roots.admit(&Caller::loopback(), &dir.path().join("new")), Ok(()));
        assert_eq!(roots.admit(&stranger(), &dir.path().join("new")), Err(RootError::NoRoots));
        #[cfg(unix)]
        {
            let link = dir.path().join("link");
            std::os::unix::fs::symlink(dir.path(), &link).unwrap();
            assert_eq!(roots.admit(&Caller::stdio(), &link), Err(RootError::Link(link)));
        }
    }
}
