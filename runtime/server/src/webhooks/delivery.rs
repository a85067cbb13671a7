//! Delivery: what is due is sent, a few at once, and nobody's receivers hold up those of others.
//!
//! An account has some places and a receiver fewer of them; a receiver that is silent is not asked again
//! for a while, and what is due for it counts as tried. So one that is dead costs the time of two tries,
//! however much waits for it.

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

/// Webhooks of one look.
const DUE_MAX: usize = 4_096;

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
}

impl Places {
    fn take(&mut self, sending: &Sending) -> bool {
        let account = self.accounts.get(&sending.account).copied().unwrap_or(0);
        let receiver = self.receivers.get(&sending.receiver).copied().unwrap_or(0);
        let room =
            self.jobs.len() < SENDING_MAX && account < OF_ACCOUNT_MAX && receiver < OF_RECEIVER_MAX;
        if room {
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
        if let Err(refusal) = start_due(&app, &sender, &mut places, &mut sending) {
            tracing::error!(error = refusal.sentence, "webhooks cannot be read");
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

/// Sends what is due, as far as there is room.
fn start_due(
    app: &Arc<App>,
    sender: &Arc<Sender>,
    places: &mut Places,
    sending: &mut JoinSet<Sent>,
) -> Result<(), Refusal> {
    if places.jobs.len() >= SENDING_MAX {
        return Ok(());
    }
    let now = Instant::now();
    places.silent.retain(|_, until| *until > now);
    let due = block_in_place(|| app.host.webhooks().due(now_unix_ms(), DUE_MAX))?;
    for webhook in due {
        Webhooks::heard(&app.webhooks, &webhook.job);
        if places.jobs.contains(&webhook.job) {
            continue;
        }
        let receiver = receiver(&webhook, app.limits.webhooks_insecure);
        if places.is_silent(&receiver, now) {
            let error = "not tried: the receiver was silent a moment ago";
            block_in_place(|| app.host.webhooks().failed(&webhook.job, now_unix_ms(), error))?;
            continue;
        }
        let job = app.host.job(&webhook.job)?;
        let one = Sending { job: job.id, account: job.account.clone(), receiver };
        if !places.take(&one) {
            continue;
        }
        let body = serde_json::to_vec(&JobJson::of(&app.host, job)?);
        let body = body.map_err(|error| Refusal::fault(&error))?;
        let message = sign(app, &webhook.job, body);
        let sender = sender.clone();
        sending.spawn(async move {
            let result = sender.send(&webhook.url, message).await;
            Sent { sending: one, result }
        });
    }
    Ok(())
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
}
