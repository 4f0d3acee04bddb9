//! How often somebody may call.
//!
//! Each has a number of requests for a window of time, which begins with the
//! first of them. Callers that proved who they are and callers that did not are
//! counted apart: however many addresses and tokens a stranger makes up, the
//! others lose nothing. Whoever counts asks after the proof, so that a made-up
//! token counts against the address it came from.

use std::hash::{Hash, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use hashlink::LruCache;

/// How much is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    /// Requests of one caller in one window; 0 counts as 1.
    pub max_requests: u32,
    /// How long a window lasts.
    pub window: Duration,
    /// Callers that are counted, in each of the two tables. Who was not heard of
    /// for longest is forgotten first, and begins anew.
    pub max_entries: usize,
}

/// Who calls, as far as is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client<'a> {
    /// Proved to be this subject.
    Verified(&'a str),
    /// Somebody at this address. A network that is given to one customer, the
    /// first 64 bits of IPv6, counts as one.
    Peer(IpAddr),
}

/// It was too often.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("rate limit exceeded")]
pub struct RateLimited {
    /// When to come again; at least 1.
    pub retry_after_ms: u64,
}

/// Counts requests.
#[derive(Debug)]
pub struct RateLimiter {
    limit: RateLimit,
    verified: Mutex<Table<String>>,
    peers: Mutex<Table<IpAddr>>,
}

/// The hasher is seeded: keys are of the callers' choosing.
type Table<K> = LruCache<K, Window, RandomState>;

/// What one caller did since `begin`.
#[derive(Debug, Clone, Copy)]
struct Window {
    begin: Instant,
    requests: u32,
}

impl RateLimiter {
    /// Begins with nobody.
    pub fn new(limit: RateLimit) -> Self {
        // A table without room would count nobody.
        let entries = limit.max_entries.max(1);
        let verified = Mutex::new(LruCache::with_hasher(entries, RandomState::new()));
        let peers = Mutex::new(LruCache::with_hasher(entries, RandomState::new()));
        Self { limit, verified, peers }
    }

    /// Counts a request at `now`, if one more is allowed.
    ///
    /// # Errors
    /// [`RateLimited`]; what is refused does not count.
    pub fn admit(&self, client: Client<'_>, now: Instant) -> Result<(), RateLimited> {
        match client {
            Client::Verified(subject) => self.count(&self.verified, subject, str::to_owned, now),
            Client::Peer(address) => self.count(&self.peers, &network_of(address), |network| *network, now),
        }
    }

    fn count<K, Q>(
        &self,
        table: &Mutex<Table<K>>,
        key: &Q,
        owned: impl FnOnce(&Q) -> K,
        now: Instant,
    ) -> Result<(), RateLimited>
    where
        K: Eq + Hash + std::borrow::Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let mut table = table.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(window) = table.get_mut(key) else {
            table.insert(owned(key), Window { begin: now, requests: 1 });
            return Ok(());
        };
        let passed = now.saturating_duration_since(window.begin);
        if passed >= self.limit.window {
            *window = Window { begin: now, requests: 1 };
            return Ok(());
        }
        if window.requests >= self.limit.max_requests {
            return Err(self.limited(passed));
        }
        window.requests += 1;
        Ok(())
    }

    fn limited(&self, passed: Duration) -> RateLimited {
        let left = self.limit.window.saturating_sub(passed);
        let whole = left.as_nanos().div_ceil(1_000_000);
        RateLimited { retry_after_ms: u64::try_from(whole).unwrap_or(u64::MAX).max(1) }
    }
}

/// The address, or for IPv6 the network it is in.
fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: RateLimit = RateLimit { max_requests: 3, window: Duration::from_millis(1_000), max_entries: 4 };

    fn at(start: Instant, ms: u64) -> Instant {
        start + Duration::from_millis(ms)
    }

    fn peer(text: &str) -> Client<'static> {
        Client::Peer(text.parse().unwrap())
    }

    #[test]
    fn a_window_begins_with_its_first_request_and_lasts_as_long_as_it_says() {
        let (limiter, start) = (RateLimiter::new(LIMIT), Instant::now());
        let caller = Client::Verified("token:1");
        for ms in [0, 10, 400] {
            assert_eq!(limiter.admit(caller, at(start, ms)), Ok(()));
        }
        assert_eq!(limiter.admit(caller, at(start, 400)), Err(RateLimited { retry_after_ms: 600 }));
        assert_eq!(limiter.admit(caller, at(start, 999)), Err(RateLimited { retry_after_ms: 1 }));
        let late = at(start, 999) + Duration::from_nanos(999_999);
        assert_eq!(limiter.admit(caller, late), Err(RateLimited { retry_after_ms: 1 }), "never 0");
        for ms in [1_000, 1_001, 1_999] {
            assert_eq!(limiter.admit(caller, at(start, ms)), Ok(()), "what was refused did not count");
        }
        assert_eq!(limiter.admit(caller, at(start, 1_999)), Err(RateLimited { retry_after_ms: 1 }));
        assert_eq!(
            limiter.admit(caller, start),
            Err(RateLimited { retry_after_ms: 1_000 }),
            "a time before the window"
        );
        assert_eq!(RateLimited { retry_after_ms: 1 }.to_string(), "rate limit exceeded");
    }

    #[test]
    fn everybody_has_a_window_of_their_own() {
        let (limiter, now) = (RateLimiter::new(LIMIT), Instant::now());
        // A subject that is called like an address is none.
        for client in [Client::Verified("10.0.0.1"), peer("10.0.0.1"), Client::Verified("b"), peer("10.0.0.2")] {
            for _ in 0..3 {
                assert_eq!(limiter.admit(client, now), Ok(()));
            }
            assert!(limiter.admit(client, now).is_err());
        }
    }

    #[test]
    fn addresses_of_one_network_are_one_caller() {
        let (limiter, now) = (RateLimiter::new(LIMIT), Instant::now());
        for address in ["2001:db8::1", "2001:db8::ffff:0:0:2", "2001:db8:0:0:1::"] {
            assert_eq!(limiter.admit(peer(address), now), Ok(()));
        }
        assert!(limiter.admit(peer("2001:db8::9"), now).is_err());
        assert_eq!(limiter.admit(peer("2001:db8:0:1::1"), now), Ok(()), "the network beside it");
        for address in ["192.0.2.1", "::ffff:192.0.2.1", "192.0.2.1"] {
            assert_eq!(limiter.admit(peer(address), now), Ok(()));
        }
        assert!(limiter.admit(peer("::ffff:192.0.2.1"), now).is_err(), "one address in two spellings");
        assert_eq!(limiter.admit(peer("::ffff:192.0.2.2"), now), Ok(()), "IPv4 counts address by address");
    }

    #[test]
    fn a_flood_of_addresses_takes_nothing_from_those_who_proved_who_they_are() {
        let (limiter, now) = (RateLimiter::new(LIMIT), Instant::now());
        let flood = |from: u32| {
            for n in from..from + 50_000 {
                limiter.admit(Client::Peer(IpAddr::from(n.to_be_bytes())), now).unwrap();
            }
        };
        for round in 0..3 {
            flood(round * 50_000);
            assert_eq!(limiter.admit(Client::Verified("a"), now), Ok(()));
        }
        flood(1 << 24);
        assert!(limiter.admit(Client::Verified("a"), now).is_err(), "nor does it forget what they did");
        assert_eq!(limiter.peers.lock().unwrap().len(), LIMIT.max_entries, "and it takes no more memory");
    }

    #[test]
    fn who_was_not_heard_of_for_longest_is_forgotten_first() {
        let (limiter, now) = (RateLimiter::new(LIMIT), Instant::now());
        let busy = peer("10.0.0.1");
        for n in 2..=100 {
            if n <= 4 {
                assert_eq!(limiter.admit(busy, now), Ok(()));
            } else {
                assert!(limiter.admit(busy, now).is_err(), "who keeps coming is not forgotten, also while refused");
            }
            assert_eq!(limiter.admit(peer(&format!("10.0.0.{n}")), now), Ok(()));
        }
    }

    #[test]
    fn many_at_once_are_counted_one_by_one() {
        let limit = RateLimit { max_requests: 1_000, ..LIMIT };
        let (limiter, now) = (RateLimiter::new(limit), Instant::now());
        let taken: usize = std::thread::scope(|scope| {
            let count = || (0..500).filter(|_| limiter.admit(Client::Verified("a"), now).is_ok()).count();
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(count)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(taken, 1_000);
    }
}
