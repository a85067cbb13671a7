//! Delivery: what is due is sent, a few at once, and nobody's receivers hold up those of others.
//!
//! An account has some places and a receiver fewer of them, and accounts take turns at those that are
//! free: what waits for one is never looked at before another's turn. A receiver that is silent is not
//! asked again for a while, and what is due for it counts as tried. So one that is dead costs the time of
//! two tries, however much waits for it.

use super::{
    Webhooks,
    sender::{Message, SendError, Sender},
    url::check_url,
};
use crate::{access::now_unix_ms, api::JobJson, app::App, refusal::Refusal};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use fuelbox_jobs::{JobId, Webhook};
use fuelbox_ledger::AccountId;
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    task::{JoinSet, block_in_place},
    time::sleep,
};

/// Between two looks at the store: for jobs that ended before the host was started, and for tries that
/// come again.
const LOOK: Duration = Duration::from_secs(5);

/// Webhooks of one account at a look: what is behind a receiver without room is found, and a look takes
/// a millisecond.
const DUE_MAX: usize = 256;

/// Messages on their way.
const SENDING_MAX: usize = 32;

/// Of those, to receivers of one account.
const OF_ACCOUNT_MAX: usize = 8;

/// Of those, to one receiver.
const OF_RECEIVER_MAX: usize = 2;

/// How long a receiver that was silent is left alone: no longer than until the first pause is over.
const SILENCE: Duration = Duration::from_secs(10);

/// One that is on its way.
struct Sending {
    job: JobId,
    account: AccountId,
    receiver: String,
}

/// What came of one.
struct Sent {
    sending: Sending,
    result: Result<u16, SendError>,
}

/// Who has how many places.
#[derive(Default)]
struct Places {
    jobs: HashSet<JobId>,
    accounts: HashMap<AccountId, usize>,
    receivers: HashMap<String, usize>,
    silent: HashMap<String, Instant>,
    /// The account that got a place last: the next one's turn is now.
    last: Option<AccountId>,
}

impl Places {
    fn is_full(&self) -> bool {
        self.jobs.len() >= SENDING_MAX
    }

    /// Whether there is a place for an account.
    fn has_room(&self, account: &AccountId) -> bool {
        let taken = self.accounts.get(account).copied().unwrap_or(0);
        !self.is_full() && taken < OF_ACCOUNT_MAX
    }

    /// Accounts as their turns come, of those in the order of their names.
    fn turns(&self, mut accounts: Vec<AccountId>) -> Vec<AccountId> {
        if let Some(last) = &self.last {
            let next = accounts.partition_point(|account| account <= last);
            accounts.rotate_left(next);
        }
        accounts
    }

    fn take(&mut self, sending: &Sending) -> bool {
        let receiver = self.receivers.get(&sending.receiver).copied().unwrap_or(0);
        let room = self.has_room(&sending.account) && receiver < OF_RECEIVER_MAX;
        if room {
            self.last = Some(sending.account.clone());
            self.jobs.insert(sending.job);
            *self.accounts.entry(sending.account.clone()).or_default() += 1;
            *self.receivers.entry(sending.receiver.clone()).or_default() += 1;
        }
        room
    }

    fn give_back(&mut self, sending: &Sending) {
        self.jobs.remove(&sending.job);
        less(&mut self.accounts, &sending.account);
        less(&mut self.receivers, &sending.receiver);
    }

    fn is_silent(&self, receiver: &str, now: Instant) -> bool {
        self.silent.get(receiver).is_some_and(|until| *until > now)
    }
}

fn less<K: Eq + std::hash::Hash>(counts: &mut HashMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

/// Delivers until the server stops. What is on its way then is due again at the next start.
pub(crate) async fn deliver(app: Arc<App>) {
    let sender = match Sender::new(app.limits.webhooks_insecure) {
        Ok(sender) => Arc::new(sender),
        Err(error) => {
            tracing::error!(%error, "webhooks are not delivered");
            return;
        }
    };
    let mut places = Places::default();
    let mut sending = JoinSet::new();
    loop {
        match start_due(&app, &sender, &mut places, &mut sending) {
            Ok(Look::Done) => {}
            // After the others' turn, and what has come to its end meanwhile.
            Ok(Look::Again) => app.webhooks.wake.notify_one(),
            Err(refusal) => {
                tracing::error!(error = refusal.sentence, "webhooks cannot be read");
            }
        }
        tokio::select! {
            () = app.stop.cancelled() => return,
            () = app.webhooks.wake.notified() => {}
            Some(sent) = sending.join_next() => {
                if let Ok(sent) = sent {
                    settle(&app, &mut places, sent);
                }
            }
            () = sleep(LOOK) => {}
        }
    }
}

/// Whether a look saw all that is due.
enum Look {
    Done,
    /// What was passed over may have hidden more.
    Again,
}

/// Sends what is due, as far as there is room.
fn start_due(
    app: &Arc<App>,
    sender: &Arc<Sender>,
    places: &mut Places,
    sending: &mut JoinSet<Sent>,
) -> Result<Look, Refusal> {
    let mut look = Look::Done;
    if places.is_full() {
        return Ok(look);
    }
    let (now, now_unix_ms) = (Instant::now(), now_unix_ms());
    places.silent.retain(|_, until| *until > now);
    let webhooks = app.host.webhooks();
    let accounts = block_in_place(|| webhooks.accounts_due(now_unix_ms))?;
    for account in places.turns(accounts) {
        if places.is_full() {
            break;
        }
        if !places.has_room(&account) {
            continue;
        }
        let due = block_in_place(|| webhooks.due(&account, now_unix_ms, DUE_MAX))?;
        let mut passed_over = Vec::new();
        for webhook in due {
            if !places.has_room(&account) {
                break;
            }
            Webhooks::heard(&app.webhooks, &webhook.job);
            if places.jobs.contains(&webhook.job) {
                continue;
            }
            let receiver = receiver(&webhook, app.limits.webhooks_insecure);
            if places.is_silent(&receiver, now) {
                passed_over.push(webhook.job);
                continue;
            }
            let one = Sending { job: webhook.job, account: account.clone(), receiver };
            if !places.take(&one) {
                continue;
            }
            match block_in_place(|| message(app, &webhook.job)) {
                Ok(message) => {
                    let sender = sender.clone();
                    sending.spawn(async move {
                        let result = sender.send(&webhook.url, message).await;
                        Sent { sending: one, result }
                    });
                }
                // One that cannot be read holds up no other.
                Err(refusal) => {
                    places.give_back(&one);
                    tracing::error!(job = %one.job, error = refusal.sentence, "webhook not made");
                    let error = "not tried: the job cannot be read";
                    block_in_place(|| webhooks.failed(&one.job, now_unix_ms, error))?;
                }
            }
        }
        if !passed_over.is_empty() {
            let error = "not tried: the receiver was silent a moment ago";
            block_in_place(|| webhooks.all_failed(passed_over, now_unix_ms, error))?;
            look = Look::Again;
        }
    }
    Ok(look)
}

/// What is said of a job's end.
fn message(app: &App, job: &JobId) -> Result<Message, Refusal> {
    let said = JobJson::of(&app.host, app.host.job(job)?)?;
    let body = serde_json::to_vec(&said).map_err(|error| Refusal::fault(&error))?;
    Ok(sign(app, job, body))
}

/// Host and port: what is dead is dead for all paths on it.
fn receiver(webhook: &Webhook, insecure: bool) -> String {
    let url = check_url(&webhook.url, insecure).ok();
    let place = url.map(|url| {
        format!(
            "{}:{}",
            url.host_str().unwrap_or_default(),
            url.port_or_known_default().unwrap_or(0)
        )
    });
    place.unwrap_or_default()
}

fn sign(app: &App, job: &JobId, body: Vec<u8>) -> Message {
    let (id, timestamp_s) = (job.to_string(), now_unix_ms() / 1_000);
    let signature = app.host.sign_webhook(&id, timestamp_s, &body);
    let signature = format!("v1a,{}", BASE64_STANDARD.encode(signature));
    Message { id, timestamp_s, signature, body }
}

fn settle(app: &App, places: &mut Places, sent: Sent) {
    let Sent { sending, result } = sent;
    places.give_back(&sending);
    let written = block_in_place(|| match &result {
        Ok(status) => app.host.webhooks().delivered(&sending.job, *status),
        Err(error) => {
            let text = error.to_string();
            app.host.webhooks().failed(&sending.job, now_unix_ms(), &text).map(drop)
        }
    });
    if let Err(fault) = written {
        // It is due again, and the receiver hears twice.
        tracing::error!(%fault, job = %sending.job, "a webhook's end cannot be written");
    }
    if let Err(error) = result {
        tracing::info!(job = %sending.job, %error, "webhook not delivered");
        if error.is_silence() {
            places.silent.insert(sending.receiver, Instant::now() + SILENCE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sending(account: &str, receiver: &str) -> Sending {
        let job = uuid::Uuid::now_v7().to_string().parse().expect("a job");
        Sending { job, account: account.parse().expect("an account"), receiver: receiver.into() }
    }

    #[test]
    fn no_receiver_and_no_account_has_all_places() {
        let mut places = Places::default();
        let taken = |places: &mut Places, account: &str, receiver: &str| {
            (0..100).filter(|_| places.take(&sending(account, receiver))).count()
        };
        assert_eq!(taken(&mut places, "mallory", "dead:443"), OF_RECEIVER_MAX);
        let others = (0..100).map(|n| taken(&mut places, "mallory", &format!("dead{n}:443")));
        assert_eq!(others.sum::<usize>(), OF_ACCOUNT_MAX - OF_RECEIVER_MAX);
        let alice = sending("alice", "good:443");
        assert!(places.take(&alice));
        places.give_back(&alice);
        assert!(!places.jobs.contains(&alice.job) && !places.accounts.contains_key(&alice.account));
    }

    #[test]
    fn accounts_take_turns_at_places() {
        let mut places = Places::default();
        let names = |found: Vec<AccountId>| -> String {
            found.iter().map(AccountId::as_str).collect::<Vec<_>>().join(" ")
        };
        let accounts = ["a", "b", "c"].map(|name| name.parse().expect("an account")).to_vec();
        assert_eq!(names(places.turns(accounts.clone())), "a b c");
        for (last, expected) in [("a", "b c a"), ("b", "c a b"), ("bb", "c a b"), ("c", "a b c")] {
            let one = sending(last, "good:443");
            assert!(places.take(&one));
            places.give_back(&one);
            assert_eq!(names(places.turns(accounts.clone())), expected, "{last}");
            assert_eq!(names(places.turns(Vec::new())), "");
        }
    }
}
