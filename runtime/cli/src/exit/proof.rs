//! What goes wrong with receipts, keys, logs and proofs, as exit codes. A file that is none of these is
//! bad input; one that is, and does not hold, is a failed proof.

use super::{Exit, Failure, words};
use fuelbox_receipt::{
    EnvelopeError, KeyError, ReceiptError, VerifyError,
    log::{
        CheckError, CheckpointError, FolderError, LoadError, ProofError, ProveError, PublishError,
        WrongProof,
    },
};
use std::error::Error;

impl Exit {
    fn of_checkpoint(error: &CheckpointError) -> Self {
        match error {
            CheckpointError::TooLarge { .. }
            | CheckpointError::NotNote
            | CheckpointError::Malformed
            | CheckpointError::Extension
            | CheckpointError::BadOrigin { .. }
            | CheckpointError::Size { .. } => Self::BadInput,
            CheckpointError::Origin { .. }
            | CheckpointError::EmptyRoot { .. }
            | CheckpointError::UnknownKey { .. }
            | CheckpointError::Signature { .. } => Self::Proof,
        }
    }

    fn of_log_folder(error: &FolderError) -> Self {
        match error {
            FolderError::Io { .. } => Self::Host,
            FolderError::TooLarge { .. } | FolderError::NotText { .. } => Self::Proof,
        }
    }

    fn of_prove<E: Error + 'static>(error: &ProveError<E>) -> Self {
        match error {
            ProveError::Index { .. } | ProveError::Size { .. } => Self::BadInput,
            // A log that is shorter than it was.
            ProveError::Old { .. } | ProveError::Truncated { .. } | ProveError::Forged { .. } => {
                Self::Proof
            }
            ProveError::Tiles(_) | ProveError::Internal(_) => Self::Host,
        }
    }
}

impl From<EnvelopeError> for Failure {
    fn from(error: EnvelopeError) -> Self {
        let exit = match &error {
            EnvelopeError::TooLarge { .. } => Exit::Limit,
            EnvelopeError::Json(_)
            | EnvelopeError::PayloadType { .. }
            | EnvelopeError::Signatures { .. }
            | EnvelopeError::KeyId { .. }
            | EnvelopeError::Base64 { .. }
            | EnvelopeError::SignatureLength { .. }
            | EnvelopeError::NotCanonical => Exit::BadInput,
        };
        Self::message(exit, error)
    }
}

impl From<ReceiptError> for Failure {
    fn from(error: ReceiptError) -> Self {
        let exit = match &error {
            ReceiptError::TooLarge { .. } => Exit::Limit,
            ReceiptError::Json(_)
            | ReceiptError::Format { .. }
            | ReceiptError::Subject
            | ReceiptError::NotCanonical
            | ReceiptError::Job { .. }
            | ReceiptError::Text { .. } => Exit::BadInput,
        };
        Self::message(exit, error)
    }
}

impl From<VerifyError> for Failure {
    fn from(error: VerifyError) -> Self {
        match error {
            VerifyError::UnknownKey { .. } | VerifyError::Signature { .. } => {
                Self::message(Exit::Proof, error)
            }
            VerifyError::Receipt(error) => error.into(),
        }
    }
}

impl From<KeyError> for Failure {
    fn from(error: KeyError) -> Self {
        let exit = match &error {
            KeyError::TooLarge { .. } => Exit::Limit,
            KeyError::Id { .. }
            | KeyError::Private
            | KeyError::NotPem { .. }
            | KeyError::Public { .. }
            | KeyError::Weak { .. }
            | KeyError::None => Exit::BadInput,
            KeyError::Random(_) => Exit::Host,
        };
        Self::message(exit, error)
    }
}

impl From<CheckpointError> for Failure {
    fn from(error: CheckpointError) -> Self {
        Self::message(Exit::of_checkpoint(&error), error)
    }
}

impl From<WrongProof> for Failure {
    fn from(error: WrongProof) -> Self {
        Self::message(Exit::Proof, error)
    }
}

impl From<ProofError> for Failure {
    fn from(error: ProofError) -> Self {
        let exit = match &error {
            ProofError::TooLarge { .. }
            | ProofError::Format { .. }
            | ProofError::Extra
            | ProofError::Number { .. }
            | ProofError::Hash { .. }
            | ProofError::End => Exit::BadInput,
            ProofError::Checkpoint(error) => Exit::of_checkpoint(error),
            ProofError::Wrong(_) | ProofError::Earlier { .. } => Exit::Proof,
        };
        Self::message(exit, error)
    }
}

impl<E: Error + 'static> From<ProveError<E>> for Failure {
    fn from(error: ProveError<E>) -> Self {
        Self::message(Exit::of_prove(&error), error)
    }
}

impl<E: Error + 'static> From<LoadError<E>> for Failure {
    fn from(error: LoadError<E>) -> Self {
        let exit = match &error {
            LoadError::Tiles(_) => Exit::Host,
            LoadError::Size { .. } | LoadError::Truncated { .. } | LoadError::Forged { .. } => {
                Exit::Proof
            }
        };
        Self::message(exit, error)
    }
}

impl From<CheckError> for Failure {
    fn from(error: CheckError) -> Self {
        let exit = match &error {
            CheckError::Folder(error) => Exit::of_log_folder(error),
            CheckError::NoCheckpoint => Exit::BadInput,
            CheckError::Checkpoint(error) => Exit::of_checkpoint(error),
            CheckError::Missing { .. }
            | CheckError::Length { .. }
            | CheckError::NotEntries { .. }
            | CheckError::Tile { .. }
            | CheckError::Root { .. } => Exit::Proof,
        };
        Self::message(exit, words(&error))
    }
}

impl<E: Error + 'static> From<PublishError<E>> for Failure {
    fn from(error: PublishError<E>) -> Self {
        let exit = match &error {
            PublishError::Folder(error) => Exit::of_log_folder(error),
            PublishError::Tiles(_) | PublishError::New(_) => Exit::Host,
            PublishError::Old(error) => Exit::of_checkpoint(error),
            PublishError::Truncated { .. }
            | PublishError::Longer { .. }
            | PublishError::Forked(_) => Exit::Proof,
            PublishError::Prove(error) => Exit::of_prove(error),
        };
        Self::message(exit, words(&error))
    }
}
