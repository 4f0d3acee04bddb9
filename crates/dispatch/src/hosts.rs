use std::collections::BTreeSet;

use runpack_providers::host;

/// A list of hosts: names or addresses whole, or `*.` and what a name ends with.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hosts {
    whole: BTreeSet<String>,
    ends: Vec<String>,
}

impl Hosts {
    /// Reads a list; the first entry that is no host is the error.
    pub(crate) fn read(entries: &[String]) -> Result<Self, String> {
        let mut hosts = Self::default();
        for entry in entries {
            let named = |text: &str| host(text).ok_or_else(|| entry.clone());
            match entry.strip_prefix("*.") {
                // The end of an address is no family of addresses.
                Some(end) => match named(end)? {
                    end if end.starts_with('[') || end.parse::<std::net::IpAddr>().is_ok() => return Err(entry.clone()),
                    end => hosts.ends.push(format!(".{end}")),
                },
                None => {
                    hosts.whole.insert(named(entry)?);
                }
            }
        }
        Ok(hosts)
    }

    /// Whether a host as URLs spell it is on the list.
    pub(crate) fn has(&self, host: &str) -> bool {
        let host = host.strip_suffix('.').unwrap_or(host);
        let longer = |end: &String| host.len() > end.len() && host.ends_with(end.as_str());
        self.whole.contains(host) || self.ends.iter().any(longer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(entries: &[&str]) -> Result<Hosts, String> {
        Hosts::read(&entries.iter().map(|&entry| entry.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn names_are_compared_whole_and_ends_at_a_dot() {
        let hosts = hosts(&["A.example", "*.Files.Example.", "::1", "127.1"]).unwrap();
        for host in ["a.example", "a.example.", "x.files.example", "y.x.files.example.", "[::1]", "127.0.0.1"] {
            assert!(hosts.has(host), "{host}");
        }
        for host in ["b.a.example", "example", "files.example", "xfiles.example", ".files.example", "127.0.0.2", ""] {
            assert!(!hosts.has(host), "{host}");
        }
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for entry in ["", "*", "*.", "https://a", "a:443", "a/b", "a b", "*.*.a", "*.1.2.3", "*.[::1]", "a@b"] {
            assert_eq!(hosts(&["a", entry]).unwrap_err(), entry);
        }
    }
}
