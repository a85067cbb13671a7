//! Rates: how often one key may ask. A limiter of its own for each key, and those that are idle are
//! forgotten.

use crate::{
    config::Limits,
    refusal::{Code, Refusal},
};
use fuelbox_jobs::AccessKeyId;
use governor::{
    Quota, RateLimiter,
    clock::{Clock, DefaultClock},
    middleware::StateInformationMiddleware,
    state::keyed::DefaultKeyedStateStore,
};
use std::{num::NonZeroU32, time::Duration};

type Limiter = RateLimiter<
    AccessKeyId,
    DefaultKeyedStateStore<AccessKeyId>,
    DefaultClock,
    StateInformationMiddleware,
>;

/// The rates of all keys.
pub(crate) struct Rates {
    limiter: Limiter,
    clock: DefaultClock,
    quota: Quota,
    rate: NonZeroU32,
}

/// What is left of a key's rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Left {
    pub(crate) requests: u32,
}

impl Rates {
    pub(crate) fn new(limits: &Limits) -> Self {
        let rate = NonZeroU32::new(limits.key_rate).unwrap_or(NonZeroU32::MIN);
        let burst = NonZeroU32::new(limits.key_burst).unwrap_or(NonZeroU32::MIN);
        let quota = Quota::per_second(rate).allow_burst(burst);
        let clock = DefaultClock::default();
        let limiter = RateLimiter::new(quota, DefaultKeyedStateStore::default(), clock.clone());
        Self { limiter, clock, quota, rate }
    }

    /// Counts a request.
    pub(crate) fn take(&self, key: AccessKeyId) -> Result<Left, Refusal> {
        match self.limiter.check_key(&key) {
            Ok(state) => Ok(Left { requests: state.remaining_burst_capacity() }),
            Err(until) => {
                let wait = until.wait_time_from(self.clock.now());
                let sentence = format!(
                    "too many requests of this key: allowed are {} a second, {} at once",
                    self.rate,
                    self.quota.burst_size()
                );
                let refusal = Refusal::new(Code::RateLimited, sentence);
                let refusal = refusal.retry_after(wait.max(SOONEST));
                Err(Refusal { rate_policy: Some(self.policy()), ..refusal })
            }
        }
    }

    /// The policy, as `RateLimit-Policy` says it.
    fn policy(&self) -> String {
        let (burst, rate) = (self.quota.burst_size(), self.rate);
        let window_s = burst.get().div_ceil(rate.get());
        format!("\"requests\";q={burst};w={window_s}")
    }

    /// Forgets keys that have not asked for a while. Called now and then.
    pub(crate) fn tidy(&self) {
        self.limiter.retain_recent();
        self.limiter.shrink_to_fit();
    }
}

/// `Retry-After` has whole seconds; less than this is not said.
const SOONEST: Duration = Duration::from_millis(1);
