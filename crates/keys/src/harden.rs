use crate::KeyError;

/// Keeps what this process holds to itself: no core dump, of it or of what it
/// starts, and on Linux no look into it by other processes of its user.
///
/// # Errors
/// [`KeyError::Harden`]: then no key is loaded.
pub fn harden() -> Result<(), KeyError> {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, setrlimit};
        let none = Rlimit { current: Some(0), maximum: Some(0) };
        setrlimit(Resource::Core, none).map_err(|error| KeyError::Harden(error.into()))?;
    }
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{DumpableBehavior, set_dumpable_behavior};
        set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(|error| KeyError::Harden(error.into()))?;
    }
    Ok(())
}
