//! Looking: what a data folder says to those who do not work on it, beside the process that does.
//! Nothing is written, made or put in order.

use crate::{
    blobs::{BlobFolder, Blobs},
    fault::{FolderError, HostFault, JobError},
    folder::DataFolder,
    job::{Finished, JobId, JobRecord, State},
    price::Schedule,
    records::{Details, Logged, Records},
    tables,
};
use fuelbox_digest::Digest;
use fuelbox_engine::{OwnedParameter, Place, decode_parameters, decode_tensors};
use fuelbox_ledger::Reader;
use fuelbox_receipt::PublicKeys;
use std::{fs, io};

/// A data folder, open for looking.
pub struct Look {
    reader: Reader,
    blobs: BlobFolder,
}

impl Look {
    /// Opens a data folder.
    ///
    /// # Errors
    /// When it is not there, or its tables are newer than this program.
    pub fn open(folder: &DataFolder) -> Result<Self, FolderError> {
        Ok(Self { reader: folder.reader()?, blobs: BlobFolder::look(folder.blobs()) })
    }

    /// The ledger.
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Packages, jobs and receipts.
    pub fn records(&self) -> Records<'_> {
        Records::new(&self.reader)
    }

    /// Stored inputs or outputs, in canonical encoding; none when they are no longer kept.
    ///
    /// # Errors
    /// When the store fails.
    pub fn blob(&self, digest: &Digest) -> Result<Option<Vec<u8>>, HostFault> {
        match tables::blob(self.reader.connection(), digest)? {
            None => Ok(None),
            Some(Some(content)) => Ok(Some(content)),
            Some(None) => self.blobs.get(digest).map_err(HostFault::Blobs),
        }
    }

    /// The settings that a job was given beside its inputs; none when there is no such job.
    ///
    /// # Errors
    /// When the store fails.
    pub fn parameters(&self, job: &JobId) -> Result<Option<Vec<OwnedParameter>>, HostFault> {
        let details = self.records().details(job)?;
        Ok(details.map(|details| decode_parameters(&details.parameters)).transpose()?)
    }

    /// What a job that ran came to; none when it has no receipt, or has not yet.
    ///
    /// # Errors
    /// When there is no such job, and when the store fails.
    pub fn result(&self, job: &JobId) -> Result<Option<Finished>, JobError> {
        let records = self.records();
        let unknown = || JobError::UnknownJob { found: job.to_string() };
        let record = records.job(job)?.ok_or_else(unknown)?;
        let (Some(end), Some(logged), Some(details)) =
            (&record.end, records.receipt(job)?, records.details(job)?)
        else {
            return Ok(None);
        };
        let output = match record.state {
            State::Succeeded => self.blob(&end.output)?,
            State::Queued | State::Running | State::Failed | State::Cancelled | State::Faulted => {
                None
            }
        };
        Ok(Some(finished(record, logged, details, output)?))
    }
}

impl DataFolder {
    /// The public keys of the host; none when it has none yet.
    ///
    /// # Errors
    /// When they are damaged, or others can change them.
    pub fn public_keys(&self) -> Result<Option<PublicKeys>, FolderError> {
        Ok(PublicKeys::read(&self.keys())?)
    }

    /// The price schedule; none when there is none yet.
    ///
    /// # Errors
    /// When it cannot be read, or is no schedule.
    pub fn schedule(&self) -> Result<Option<Schedule>, FolderError> {
        let path = self.prices();
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(Schedule::parse(&bytes)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(FolderError::Io { path: path.display().to_string(), source }),
        }
    }
}

/// A job's answer from what is stored of it. `output` is what it gave, in canonical encoding.
pub(crate) fn finished(
    job: JobRecord,
    logged: Logged,
    details: Details,
    output: Option<Vec<u8>>,
) -> Result<Finished, HostFault> {
    let outputs = output.map(|bytes| decode_tensors(Place::Outputs, &bytes)).transpose()?;
    let parameters = details.reply.map(|reply| decode_parameters(&reply)).transpose()?;
    Ok(Finished {
        outputs,
        parameters: parameters.unwrap_or_default(),
        log: details.log.unwrap_or_default(),
        receipt: logged.envelope,
        repeated: false,
        times: None,
        job,
    })
}
