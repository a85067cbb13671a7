//! What all requests share.

use crate::{
    answer_budget::AnswerBudget, api, config::Limits, grpc, models::Models, publishing::Publishing,
    rates::Rates, seeing::Seeing, serve::BodyBudget, uploads::Uploads, webhooks::Webhooks,
};
use fuelbox_jobs::{DataFolder, Host};
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// A host with a server around it.
pub(crate) struct App {
    pub(crate) host: Arc<Host>,
    pub(crate) folder: DataFolder,
    pub(crate) limits: Limits,
    pub(crate) bodies: BodyBudget,
    pub(crate) answers: AnswerBudget,
    pub(crate) models: Arc<Models>,
    pub(crate) rates: Rates,
    pub(crate) publishing: Publishing,
    pub(crate) seeing: Arc<Seeing>,
    pub(crate) uploads: Uploads,
    pub(crate) webhooks: Webhooks,
    /// Streams of events that may still be opened.
    pub(crate) streams: Arc<Semaphore>,
    /// Cancelled when the server is told to stop.
    pub(crate) stop: CancellationToken,
}

impl App {
    pub(crate) fn new(
        host: Arc<Host>,
        folder: DataFolder,
        limits: Limits,
        stop: CancellationToken,
    ) -> Arc<Self> {
        let seeing = Seeing::new();
        let counting = seeing.clone();
        // The first server of a host counts its jobs; there is one.
        host.hear_settled(move |job| counting.jobs.settled(job));
        Arc::new(Self {
            bodies: BodyBudget::new(limits.bodies_bytes, grpc::message_bytes_max(&limits)),
            answers: AnswerBudget::new(limits.answers_bytes),
            models: Arc::new(Models::new(host.clone(), folder.clone())),
            rates: Rates::new(&limits),
            publishing: Publishing::start(host.clone(), limits.publishing),
            seeing,
            uploads: Uploads::open(folder.path().join("uploads"), limits.package_bytes),
            webhooks: Webhooks::default(),
            streams: Arc::new(Semaphore::new(api::STREAMS_MAX)),
            host,
            folder,
            limits,
            stop,
        })
    }

    /// Whether a job that came now would be taken in.
    pub(crate) fn is_ready(&self) -> bool {
        !self.stop.is_cancelled()
            && self.host.has_room()
            && self.host.read(|records| records.log_size().is_ok()).unwrap_or(false)
    }
}
