//! What goes wrong with accounts, jobs and data folders, as exit codes. Every variant is decided here.

use super::{Exit, Failure, words};
use fuelbox_jobs::{
    AccessKeyError, FolderError, Full, HostFault, JobError, PriceError, PublishError, ReplayError,
    SpendError, State,
};
use fuelbox_ledger::{OpenError, Rejected, StoreError};

impl Exit {
    /// What a job's end means for the program.
    pub(crate) fn of_job(state: State, verdict: Option<&str>) -> Self {
        match (state, verdict) {
            (State::Succeeded, _) => Self::Completed,
            (State::Failed, verdict) => Self::of_failed(verdict),
            // Not in time, or stopped.
            (State::Queued | State::Running | State::Cancelled, _) => Self::Limit,
            (State::Faulted, _) => Self::Host,
        }
    }

    /// The same of a job whose guest failed.
    pub(crate) fn of_failed(verdict: Option<&str>) -> Self {
        match verdict {
            Some("out_of_fuel") => Self::Limit,
            _ => Self::Guest,
        }
    }

    fn of_rejected(error: &Rejected) -> Self {
        match error {
            Rejected::InsufficientFunds { .. } => Self::Payment,
            Rejected::UnknownAccount { .. }
            | Rejected::OtherKind { .. }
            | Rejected::AmountZero { .. }
            | Rejected::AmountOverflow { .. }
            | Rejected::SameAccount { .. }
            | Rejected::IdReused { .. } => Self::BadInput,
            // Holds are fuelbox's own business.
            Rejected::UnknownPending { .. }
            | Rejected::PendingPosted { .. }
            | Rejected::PendingVoided { .. }
            | Rejected::PendingExpired { .. }
            | Rejected::OverPending { .. }
            | Rejected::OverReservation { .. } => Self::Host,
        }
    }

    fn of_spend(error: &SpendError) -> Self {
        match error {
            SpendError::Limit { .. } => Self::Payment,
            SpendError::UnknownKey { .. } | SpendError::OtherAccount { .. } => Self::BadInput,
        }
    }

    fn of_price(error: &PriceError) -> Self {
        match error {
            PriceError::Overflow { .. } => Self::Limit,
            PriceError::Json(_)
            | PriceError::Format { .. }
            | PriceError::Share { .. }
            | PriceError::Changed { .. } => Self::BadInput,
        }
    }

    fn of_open(error: &OpenError) -> Self {
        match error {
            OpenError::Foreign { .. } | OpenError::Newer { .. } | OpenError::Older { .. } => {
                Self::BadInput
            }
            OpenError::Io { .. }
            | OpenError::Locked { .. }
            | OpenError::Migration { .. }
            | OpenError::Store { .. } => Self::Host,
        }
    }
}

impl From<Rejected> for Failure {
    fn from(error: Rejected) -> Self {
        Self::message(Exit::of_rejected(&error), error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::message(Exit::Host, error)
    }
}

impl From<PriceError> for Failure {
    fn from(error: PriceError) -> Self {
        Self::message(Exit::of_price(&error), error)
    }
}

impl From<HostFault> for Failure {
    fn from(error: HostFault) -> Self {
        Self::message(Exit::Host, words(&error))
    }
}

impl From<JobError> for Failure {
    fn from(error: JobError) -> Self {
        let exit = match &error {
            JobError::UnknownPackage { .. }
            | JobError::UnknownJob { .. }
            | JobError::Input(_)
            | JobError::ParameterTwice { .. }
            | JobError::Key { .. }
            | JobError::KeyReused { .. }
            | JobError::Ended { .. } => Exit::BadInput,
            JobError::Limit { .. }
            | JobError::InFlight { .. }
            | JobError::Forgotten
            | JobError::CancelledEarly => Exit::Limit,
            JobError::Rejected(error) => Exit::of_rejected(error),
            JobError::Spend(error) => Exit::of_spend(error),
            JobError::Price(error) => Exit::of_price(error),
            JobError::Busy(
                Full::Jobs { .. } | Full::Bytes { .. } | Full::Account { .. } | Full::Work { .. },
            ) => Exit::Limit,
            JobError::Busy(Full::Closed) | JobError::Fault(_) => Exit::Host,
        };
        Self::message(exit, words(&error))
    }
}

impl From<PublishError> for Failure {
    fn from(error: PublishError) -> Self {
        let exit = match error {
            PublishError::Archive(error) => return error.into(),
            PublishError::Model(error) => return error.into(),
            PublishError::LoadLimit { .. } => Exit::Limit,
            PublishError::Golden { .. } => Exit::Guest,
            PublishError::Signature
            | PublishError::Taken { .. }
            | PublishError::NameOwned { .. }
            | PublishError::Space { .. }
            | PublishError::KeySpaces { .. }
            | PublishError::Unsigned { .. }
            | PublishError::PublisherKey { .. }
            | PublishError::PackageSignature(_)
            | PublishError::NoPublisher { .. } => Exit::BadInput,
            PublishError::Rejected(ref error) => Exit::of_rejected(error),
            PublishError::Spend(ref error) => Exit::of_spend(error),
            PublishError::Price(ref error) => Exit::of_price(error),
            PublishError::Fault(_) => Exit::Host,
        };
        Self::message(exit, words(&error))
    }
}

impl From<AccessKeyError> for Failure {
    fn from(error: AccessKeyError) -> Self {
        let exit = match &error {
            AccessKeyError::UnknownKey { .. }
            | AccessKeyError::NoScope
            | AccessKeyError::Kind { .. }
            | AccessKeyError::SpacesWithoutPublisher
            | AccessKeyError::Space(_)
            | AccessKeyError::Spaces { .. }
            | AccessKeyError::Name { .. } => Exit::BadInput,
            AccessKeyError::Rejected(error) => Exit::of_rejected(error),
            AccessKeyError::Random(_) | AccessKeyError::Fault(_) => Exit::Host,
        };
        Self::message(exit, words(&error))
    }
}

impl From<FolderError> for Failure {
    fn from(error: FolderError) -> Self {
        let exit = match &error {
            FolderError::Ledger(error) => Exit::of_open(error),
            FolderError::Price(error) => Exit::of_price(error),
            FolderError::Io { .. }
            | FolderError::Open { .. }
            | FolderError::Keys(_)
            | FolderError::Recovery(_) => Exit::Host,
        };
        Self::message(exit, words(&error))
    }
}

impl From<ReplayError> for Failure {
    fn from(error: ReplayError) -> Self {
        let exit = match error {
            ReplayError::Model(error) => return error.into(),
            ReplayError::Price(ref error) => Exit::of_price(error),
            ReplayError::NotReplayable { .. }
            | ReplayError::Profile { .. }
            | ReplayError::LogLimit { .. }
            | ReplayError::Schedule { .. } => Exit::BadInput,
        };
        Self::message(exit, words(&error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fuelbox_ledger::Credits;

    #[test]
    fn money_and_jobs_have_their_codes() {
        let account = || "alice".parse().expect("a name");
        let poor = || Rejected::InsufficientFunds {
            account: account(),
            available: Credits::ZERO,
            needed: Credits::MAX,
            shortfall: Credits::MAX,
        };
        let open = |path: &str| OpenError::Locked { path: path.into(), lock: path.into() };
        for (failure, code) in [
            (Failure::from(poor()), 7),
            (JobError::from(poor()).into(), 7),
            (PublishError::from(poor()).into(), 7),
            (Rejected::UnknownAccount { account: account() }.into(), 3),
            (JobError::UnknownJob { found: "7".into() }.into(), 3),
            (JobError::Busy(Full::Jobs { jobs: 2, allowed: 1 }).into(), 5),
            (JobError::Forgotten.into(), 5),
            (JobError::Fault(HostFault::Books("x".into())).into(), 6),
            (PriceError::Format { found: "fuelbox-prices/2".into() }.into(), 3),
            (FolderError::from(open("x")).into(), 6),
            (PublishError::Golden { name: "a".into(), text: "b".into() }.into(), 4),
        ] {
            assert_eq!(failure.exit as u8, code, "{failure:?}");
        }
    }

    #[test]
    fn every_end_of_a_job_has_its_code() {
        for (state, verdict, code) in [
            (State::Succeeded, Some("completed"), 0),
            (State::Failed, Some("trap"), 4),
            (State::Failed, Some("out_of_fuel"), 5),
            (State::Cancelled, None, 5),
            (State::Queued, None, 5),
            (State::Faulted, None, 6),
        ] {
            assert_eq!(Exit::of_job(state, verdict) as u8, code, "{state:?}");
        }
    }
}
