//! Opens files beneath a directory.
