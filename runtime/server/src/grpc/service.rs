//! The calls of the protocol.

use super::{
    describe as messages,
    infer::{self, Context},
    protocol::{
        self as pb, ModelInferRequest, ModelInferResponse,
        grpc_inference_service_server::GrpcInferenceService,
    },
    share::Share,
    stream::{self, Answers},
    timeout,
};
use crate::{
    access::Caller,
    app::App,
    describe,
    models::Model,
    refusal::{Code, Refusal, excerpt},
    rest::{EXTENSIONS, SERVER_NAME, SERVER_VERSION},
};
use axum::http::HeaderMap;
use std::{collections::BTreeMap, sync::Arc, time::Instant};
use tonic::{Request, Response, Status, Streaming, metadata::MetadataMap};

/// The service, as the protocol's file has it.
pub(super) struct Service {
    app: Arc<App>,
}

type Answered<T> = Result<Response<T>, Status>;

impl Service {
    pub(super) fn new(app: Arc<App>) -> Self {
        Self { app }
    }

    fn find(&self, caller: &Caller, name: &str, version: &str) -> Result<Arc<Model>, Refusal> {
        self.app.models.find(caller, name, version_of(version))
    }

    fn context<T>(&self, request: &mut Request<T>) -> Result<Context, Refusal> {
        let received = Instant::now();
        let caller = caller(request)?;
        let share = request.extensions_mut().remove::<Share>().unwrap_or_default();
        let headers: HeaderMap = std::mem::take(request.metadata_mut()).into_headers();
        let deadline = timeout::deadline(&headers, received)?;
        Ok(Context { app: self.app.clone(), caller, headers, deadline, share })
    }
}

/// Who calls: the guard asked.
fn caller<T>(request: &Request<T>) -> Result<Caller, Refusal> {
    let caller = request.extensions().get::<Caller>().cloned();
    caller.ok_or_else(|| Refusal::new(Code::Unauthenticated, "no key"))
}

/// Without a version, the one that was published last is meant.
fn version_of(version: &str) -> Option<&str> {
    Some(version).filter(|version| !version.is_empty())
}

#[tonic::async_trait]
impl GrpcInferenceService for Service {
    async fn server_live(
        &self,
        _: Request<pb::ServerLiveRequest>,
    ) -> Answered<pb::ServerLiveResponse> {
        Ok(Response::new(pb::ServerLiveResponse { live: true }))
    }

    async fn server_ready(
        &self,
        _: Request<pb::ServerReadyRequest>,
    ) -> Answered<pb::ServerReadyResponse> {
        Ok(Response::new(pb::ServerReadyResponse { ready: self.app.is_ready() }))
    }

    /// Clients ask this until it is so: what is not there is not ready.
    async fn model_ready(
        &self,
        request: Request<pb::ModelReadyRequest>,
    ) -> Answered<pb::ModelReadyResponse> {
        let caller = caller(&request)?;
        let pb::ModelReadyRequest { name, version } = request.into_inner();
        let ready = match self.find(&caller, &name, &version) {
            Ok(model) => self.app.models.is_loaded(&model.digest) && self.app.is_ready(),
            Err(refusal) if refusal.code == Code::NotFound => false,
            Err(refusal) => return Err(refusal.into()),
        };
        Ok(Response::new(pb::ModelReadyResponse { ready }))
    }

    async fn server_metadata(
        &self,
        _: Request<pb::ServerMetadataRequest>,
    ) -> Answered<pb::ServerMetadataResponse> {
        Ok(Response::new(pb::ServerMetadataResponse {
            name: SERVER_NAME.into(),
            version: SERVER_VERSION.into(),
            extensions: EXTENSIONS.map(Into::into).into(),
        }))
    }

    async fn model_metadata(
        &self,
        request: Request<pb::ModelMetadataRequest>,
    ) -> Answered<pb::ModelMetadataResponse> {
        let caller = caller(&request)?;
        let pb::ModelMetadataRequest { name, version } = request.into_inner();
        let model = self.find(&caller, &name, &version)?;
        let versions = match version_of(&version) {
            Some(version) => vec![version.to_owned()],
            None => self.app.models.versions(&caller, &name)?,
        };
        let signature = &model.manifest.signature;
        let document = fuelbox_oip::model_metadata(&name, versions, describe::PLATFORM, signature);
        Ok(Response::new(messages::metadata(document)))
    }

    async fn model_infer(
        &self,
        mut request: Request<ModelInferRequest>,
    ) -> Answered<ModelInferResponse> {
        let context = self.context(&mut request)?;
        let infer::Answer { response, headers, part } =
            infer::infer(&context, request.into_inner()).await?;
        let mut response = Response::new(response);
        *response.metadata_mut() = MetadataMap::from_headers(headers);
        part.beside(response.extensions_mut());
        Ok(response)
    }

    type ModelStreamInferStream = Answers;

    async fn model_stream_infer(
        &self,
        mut request: Request<Streaming<ModelInferRequest>>,
    ) -> Answered<Answers> {
        let context = self.context(&mut request)?;
        Ok(Response::new(stream::answers(context, request.into_inner())?))
    }

    async fn model_config(
        &self,
        request: Request<pb::ModelConfigRequest>,
    ) -> Answered<pb::ModelConfigResponse> {
        let caller = caller(&request)?;
        let pb::ModelConfigRequest { name, version } = request.into_inner();
        let model = self.find(&caller, &name, &version)?;
        let config = Some(messages::config(describe::config(&model)));
        Ok(Response::new(pb::ModelConfigResponse { config }))
    }

    async fn model_statistics(
        &self,
        request: Request<pb::ModelStatisticsRequest>,
    ) -> Answered<pb::ModelStatisticsResponse> {
        let caller = caller(&request)?;
        let pb::ModelStatisticsRequest { name, version } = request.into_inner();
        let models = match name.as_str() {
            "" => self.app.models.visible(&caller)?,
            name => vec![self.find(&caller, name, &version)?],
        };
        let statistics = |model: &Arc<Model>| messages::statistics(describe::statistics(model));
        let model_stats = models.iter().map(statistics).collect();
        Ok(Response::new(pb::ModelStatisticsResponse { model_stats }))
    }

    async fn repository_index(
        &self,
        request: Request<pb::RepositoryIndexRequest>,
    ) -> Answered<pb::RepositoryIndexResponse> {
        let caller = caller(&request)?;
        let ready = request.into_inner().ready;
        let entries = describe::index(&self.app, &caller, ready)?;
        let models = entries.into_iter().map(messages::entry).collect();
        Ok(Response::new(pb::RepositoryIndexResponse { models }))
    }

    async fn repository_model_load(
        &self,
        request: Request<pb::RepositoryModelLoadRequest>,
    ) -> Answered<pb::RepositoryModelLoadResponse> {
        let caller = caller(&request)?;
        let pb::RepositoryModelLoadRequest { model_name, parameters, .. } = request.into_inner();
        check_load(&parameters)?;
        self.app.models.set_loaded(&caller, &model_name, true).await?;
        Ok(Response::new(pb::RepositoryModelLoadResponse {}))
    }

    /// `unload_dependents` changes nothing: no model here depends on another.
    async fn repository_model_unload(
        &self,
        request: Request<pb::RepositoryModelUnloadRequest>,
    ) -> Answered<pb::RepositoryModelUnloadResponse> {
        let caller = caller(&request)?;
        let name = request.into_inner().model_name;
        self.app.models.set_loaded(&caller, &name, false).await?;
        Ok(Response::new(pb::RepositoryModelUnloadResponse {}))
    }
}

/// What a load may say: nothing that changes the model.
fn check_load(parameters: &BTreeMap<String, pb::ModelRepositoryParameter>) -> Result<(), Refusal> {
    let mut names = parameters.keys();
    let Some(name) = names.find(|name| *name == "config" || name.starts_with("file:")) else {
        return Ok(());
    };
    let sentence = format!("parameter '{}': a model is as it was published", excerpt(name));
    Err(Refusal::new(Code::NotSupported, sentence))
}
