use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use super::locked;

/// Stops asking whoever keeps failing, and tries again now and then.
pub(super) struct Breaker {
    failures_max: u32,
    pause: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    failures: u32,
    last: String,
    /// Set while nobody is asked.
    until: Option<Instant>,
    /// Whether somebody is trying again.
    trying: bool,
}

/// Why nobody is asked.
#[derive(Debug, PartialEq, thiserror::Error)]
#[error("not asked: {again}; failures in a row: {failures}, of which the last: {last}")]
pub(super) struct Open {
    failures: u32,
    again: Again,
    last: String,
}

#[derive(Debug, PartialEq, thiserror::Error)]
enum Again {
    #[error("it is tried again in {0} s")]
    In(u64),
    #[error("it is being tried again")]
    Now,
}

impl Breaker {
    /// Opens after `failures_max` failures in a row, for `pause`. With 0 it never does.
    pub(super) fn new(failures_max: u32, pause: Duration) -> Self {
        Self { failures_max, pause, state: Mutex::default() }
    }

    /// Leave to ask. After the pause one has it at a time, until one succeeds.
    pub(super) fn enter(&self, now: Instant) -> Result<Trial<'_>, Open> {
        let mut state = locked(&self.state);
        let again = match state.until {
            None => return Ok(Trial { breaker: self, alone: false }),
            Some(until) if now < until => Again::In((until - now).as_millis().div_ceil(1_000) as u64),
            Some(_) if state.trying => Again::Now,
            Some(_) => {
                state.trying = true;
                return Ok(Trial { breaker: self, alone: true });
            }
        };
        Err(Open { failures: state.failures, again, last: state.last.clone() })
    }
}

/// Leave to ask. Dropped without a word it counts as nothing: whoever stopped
/// waiting does not know.
pub(super) struct Trial<'a> {
    breaker: &'a Breaker,
    alone: bool,
}

impl Trial<'_> {
    pub(super) fn succeeded(self) {
        let mut state = locked(&self.breaker.state);
        (state.failures, state.until) = (0, None);
    }

    pub(super) fn failed(self, why: String, now: Instant) {
        let mut state = locked(&self.breaker.state);
        state.failures = state.failures.saturating_add(1);
        state.last = why;
        if (1..=state.failures).contains(&self.breaker.failures_max) {
            state.until = Some(now + self.breaker.pause);
        }
    }
}

impl Drop for Trial<'_> {
    fn drop(&mut self) {
        if self.alone {
            locked(&self.breaker.state).trying = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fail(breaker: &Breaker, now: Instant) {
        breaker.enter(now).unwrap().failed("late".to_owned(), now);
    }

    fn refusal(breaker: &Breaker, now: Instant) -> String {
        breaker.enter(now).map(drop).unwrap_err().to_string()
    }

    #[test]
    fn opens_after_failures_in_a_row_and_says_for_how_long() {
        let breaker = Breaker::new(3, Duration::from_secs(10));
        let now = Instant::now();
        fail(&breaker, now);
        fail(&breaker, now);
        breaker.enter(now).unwrap().succeeded();
        fail(&breaker, now);
        fail(&breaker, now);
        assert!(breaker.enter(now).is_ok());
        fail(&breaker, now);
        let text = "not asked: it is tried again in 10 s; failures in a row: 3, of which the last: late";
        assert_eq!(refusal(&breaker, now), text);
        assert!(refusal(&breaker, now + Duration::from_millis(9_001)).contains("in 1 s;"));
    }

    #[test]
    fn one_tries_again_and_decides_for_all() {
        let breaker = Breaker::new(1, Duration::from_secs(10));
        let now = Instant::now();
        fail(&breaker, now);
        let later = now + Duration::from_secs(10);
        let trial = breaker.enter(later).unwrap();
        assert!(refusal(&breaker, later).contains("it is being tried again"));
        trial.failed("dead".to_owned(), later);
        assert!(refusal(&breaker, later).contains("it is tried again in 10 s; failures in a row: 2,"));
        let last = later + Duration::from_secs(10);
        breaker.enter(last).unwrap().succeeded();
        assert!(breaker.enter(last).is_ok() && breaker.enter(last).is_ok());
    }

    #[test]
    fn a_trial_given_up_lets_the_next_one_try() {
        let breaker = Breaker::new(1, Duration::from_secs(10));
        let now = Instant::now();
        fail(&breaker, now);
        let later = now + Duration::from_secs(10);
        drop(breaker.enter(later).unwrap());
        assert!(breaker.enter(later).is_ok());
    }

    #[test]
    fn zero_never_opens() {
        let breaker = Breaker::new(0, Duration::from_secs(10));
        let now = Instant::now();
        for _ in 0..100 {
            fail(&breaker, now);
        }
        assert!(breaker.enter(now).is_ok());
    }
}
