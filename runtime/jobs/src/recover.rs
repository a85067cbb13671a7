//! Recovery: jobs that were open when the process ended are queued again.
//!
//! Money needs none: what was committed is whole, and what was reserved for callers who waited is
//! forgotten with the process. So recovery looks at jobs alone, before the workers start.

use crate::{
    admit::{Admitted, Source},
    books::{Hold, JobRow},
    fault::HostFault,
    job::{JobRecord, State, stop_at},
    price::Schedule,
    queue::Ticket,
    records::{Details, Records},
    shared::Shared,
};
use fuelbox_engine::decode_parameters;
use std::{sync::Arc, time::Duration};

/// How often a job is started again after the process died with it: once is the machine, three times
/// is the job.
const ATTEMPTS_MAX: u64 = 3;

/// Queues again what was open when the process ended.
pub(crate) fn recover(shared: &Arc<Shared>) -> Result<(), HostFault> {
    for id in read(shared, |records| records.open_jobs())? {
        let found = read(shared, |records| Ok(records.job(&id)?.zip(records.details(&id)?)))?;
        let Some((job, details)) = found else {
            continue;
        };
        if details.attempts >= ATTEMPTS_MAX {
            let fault = HostFault::Attempts { attempts: details.attempts };
            shared.books.void(id, State::Faulted, fault.to_string(), shared.now_unix_ms())?;
            continue;
        }
        match requeued(shared, job, details) {
            Ok((ticket, job)) => {
                shared.live().insert(id, job.cancel.clone());
                // Nobody has closed the queue.
                let _ = shared.queue.push_promised(ticket, job);
            }
            Err(fault) => {
                let (text, now) = (fault.to_string(), shared.now_unix_ms());
                shared.books.void(id, State::Faulted, text, now)?;
            }
        }
    }
    Ok(())
}

fn requeued(
    shared: &Arc<Shared>,
    job: JobRecord,
    details: Details,
) -> Result<(Ticket, Admitted), HostFault> {
    let published = shared.catalogue.find(&job.package)?;
    let lost = |text: &str| HostFault::Package { digest: job.package, text: text.into() };
    let published = published.ok_or_else(|| lost("it is not published here"))?;
    let prices = if details.schedule == shared.prices.digest {
        shared.prices.clone()
    } else {
        // The price of the day on which it was taken in.
        let bytes = read(shared, |records| records.schedule(&details.schedule))?;
        let bytes = bytes.ok_or_else(|| HostFault::Books("a price schedule is lost".into()))?;
        let schedule = Schedule::parse(&bytes);
        Arc::new(schedule.map_err(|error| HostFault::Books(error.to_string()))?.into())
    };
    let left = details
        .deadline_unix_ms
        .map(|deadline| Duration::from_millis(deadline.saturating_sub(shared.now_unix_ms())));
    let ticket = Ticket {
        id: job.id,
        account: job.account.clone(),
        priority: job.priority,
        // Its shapes are not at hand: if they are new, its load counts when it is done.
        expected_fuel: job.fuel_limit / 2,
        bytes: 0,
        prompt: false,
    };
    let hold_again = |key| shared.spending.hold_again(&shared.books.ledger, key, details.hold);
    let spend = job.access_key.map(hold_again).transpose()?.flatten();
    let row = JobRow {
        id: job.id,
        account: job.account,
        package: job.package,
        priority: job.priority,
        submitted_unix_ms: job.submitted_unix_ms,
        deadline_unix_ms: details.deadline_unix_ms,
        seed: job.seed,
        fuel_limit: job.fuel_limit,
        memory_limit: job.memory_limit_bytes,
        load_limit: details.load_limit,
        hold: details.hold,
        input: job.input,
        parameters: details.parameters,
        key: details.key,
        access_key: job.access_key,
        webhook: None,
        request: details.request,
        schedule: details.schedule,
    };
    let admitted = Admitted {
        parameters: decode_parameters(&row.parameters)?,
        row,
        hold: Hold::Pending,
        published,
        input: Source::Stored,
        prices,
        cancel: stop_at(left),
        spend,
        answer: None,
        since: std::time::Instant::now(),
        key: None,
    };
    Ok((ticket, admitted))
}

fn read<T>(
    shared: &Shared,
    read: impl FnOnce(&Records<'_>) -> Result<T, HostFault>,
) -> Result<T, HostFault> {
    shared.books.ledger.read(|reader| read(&Records::new(reader)))?
}
