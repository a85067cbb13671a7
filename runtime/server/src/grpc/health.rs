//! Health, as `grpc.health.v1` has it: whether jobs are taken. Without a key.

use super::SERVICE;
use crate::app::App;
use std::{pin::Pin, sync::Arc, time::Duration};
use tokio::{sync::watch, task, time};
use tokio_stream::{Stream, StreamExt, wrappers::WatchStream};
use tonic::{Request, Response, Status};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus,
    health_server::Health as Protocol,
};

/// Between two looks for those who watch. Whoever asks gets what is so then.
const LOOK: Duration = Duration::from_secs(1);

/// Answers whoever asks, and tells whoever watches.
pub(super) struct Health {
    app: Arc<App>,
    ready: watch::Receiver<bool>,
}

impl Health {
    /// Looks after readiness until the server stops.
    pub(super) fn start(app: &Arc<App>) -> Self {
        let (sender, ready) = watch::channel(app.is_ready());
        drop(task::spawn(look(app.clone(), sender)));
        Self { app: app.clone(), ready }
    }
}

/// One task for all that watch, however many there are. When it ends, they do.
async fn look(app: Arc<App>, ready: watch::Sender<bool>) {
    let mut looks = time::interval(LOOK);
    loop {
        let stops = tokio::select! {
            _ = looks.tick() => false,
            () = app.stop.cancelled() => true,
        };
        let now = app.is_ready();
        ready.send_if_modified(|ready| std::mem::replace(ready, now) != now);
        if stops {
            return;
        }
    }
}

fn knows(service: &str) -> bool {
    service.is_empty() || service == SERVICE
}

fn answer(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}

fn serving(ready: bool) -> HealthCheckResponse {
    answer(if ready { ServingStatus::Serving } else { ServingStatus::NotServing })
}

#[tonic::async_trait]
impl Protocol for Health {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let service = request.into_inner().service;
        if !knows(&service) {
            return Err(crate::refusal::Refusal::not_found("service", &service).into());
        }
        Ok(Response::new(serving(self.app.is_ready())))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let known = knows(&request.into_inner().service);
        let watched = WatchStream::new(self.ready.clone()).map(move |ready| {
            Ok(if known { serving(ready) } else { answer(ServingStatus::ServiceUnknown) })
        });
        Ok(Response::new(Box::pin(watched)))
    }
}
