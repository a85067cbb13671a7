//! Models, as clients see them.

use super::*;

#[test]
fn models_are_described_as_clients_expect() {
    let served = serve();
    served.publish("tiny", "1", &Guest::default());
    served.publish("tiny", "2", &Guest::running("nop"));
    let client = Client::new(&served);
    let mut stub = client.stub();
    client.infer(with_key(good(), &served.alice)).unwrap();
    let bad = ModelInferRequest { inputs: Vec::new(), raw_input_contents: Vec::new(), ..good() };
    client.infer(with_key(bad, &served.alice)).unwrap_err();
    client.runtime.block_on(async {
        for (name, version, expected) in
            [("tiny", "", true), ("tiny", "1", true), ("tiny", "3", false), ("none", "", false)]
        {
            let request = ModelReadyRequest { name: name.into(), version: version.into() };
            let ready = stub.model_ready(with_key(request, &served.alice)).await.unwrap();
            assert_eq!(ready.into_inner().ready, expected, "{name} {version}");
        }
        let request = ModelMetadataRequest { name: "tiny".into(), version: String::new() };
        let metadata = stub.model_metadata(with_key(request, &served.alice)).await.unwrap();
        let tensor = |name: &str| model_metadata_response::TensorMetadata {
            name: name.into(),
            datatype: "FP32".into(),
            shape: vec![1],
        };
        let expected = ModelMetadataResponse {
            name: "tiny".into(),
            versions: vec!["1".into(), "2".into()],
            platform: "fuelbox".into(),
            inputs: vec![tensor("x")],
            outputs: vec![tensor("y")],
        };
        assert_eq!(metadata.into_inner(), expected);
        let request = ModelMetadataRequest { name: "tiny".into(), version: "1".into() };
        let metadata = stub.model_metadata(with_key(request, &served.alice)).await.unwrap();
        assert_eq!(metadata.into_inner().versions, ["1"]);
        let request = ModelMetadataRequest { name: "none".into(), version: "1".into() };
        let none = stub.model_metadata(with_key(request, &served.alice)).await;
        assert_eq!(refusal(none).0, Code::NotFound);
        let request = ModelConfigRequest { name: "tiny".into(), version: String::new() };
        let config = stub.model_config(with_key(request, &served.alice)).await.unwrap();
        let config = config.into_inner().config.unwrap();
        assert_eq!(config.max_batch_size, 0);
        assert_eq!(config.input[0].data_type(), protocol::DataType::TypeFp32);
        assert_eq!((config.input[0].name.as_str(), &config.input[0].dims[..]), ("x", &[1][..]));
        assert_eq!((config.output[0].name.as_str(), &config.output[0].dims[..]), ("y", &[1][..]));
        let request = ModelStatisticsRequest { name: "tiny".into(), version: String::new() };
        let statistics = stub.model_statistics(with_key(request, &served.alice)).await.unwrap();
        let one = &statistics.into_inner().model_stats[0];
        assert_eq!((one.version.as_str(), one.inference_count), ("2", 1));
        let times = one.inference_stats.as_ref().unwrap();
        for phase in [
            &times.success,
            &times.fail,
            &times.queue,
            &times.compute_input,
            &times.compute_infer,
            &times.compute_output,
        ] {
            assert_eq!(phase.as_ref().unwrap().count, 1);
        }
        let all = with_key(ModelStatisticsRequest::default(), &served.alice);
        let all = stub.model_statistics(all).await.unwrap().into_inner();
        assert_eq!(all.model_stats.len(), 2);
        let index = with_key(RepositoryIndexRequest::default(), &served.alice);
        let index = stub.repository_index(index).await.unwrap().into_inner();
        let entries: Vec<_> = index
            .models
            .iter()
            .map(|entry| (entry.name.as_str(), entry.version.as_str(), entry.state.as_str()))
            .collect();
        assert_eq!(entries, [("tiny", "1", "READY"), ("tiny", "2", "READY")]);
    });
}

#[test]
fn the_publisher_unloads_a_model_and_nobody_else() {
    let served = serve();
    served.publish("tiny", "1", &Guest::default());
    let client = Client::new(&served);
    let unload = |key: &str| {
        let request =
            RepositoryModelUnloadRequest { model_name: "tiny".into(), ..Default::default() };
        client.runtime.block_on(client.stub().repository_model_unload(with_key(request, key)))
    };
    let load = |request: RepositoryModelLoadRequest| {
        let request = RepositoryModelLoadRequest { model_name: "tiny".into(), ..request };
        let request = with_key(request, &served.operator);
        client.runtime.block_on(client.stub().repository_model_load(request))
    };
    let ready = || {
        let request = ModelReadyRequest { name: "tiny".into(), version: String::new() };
        let request = with_key(request, &served.alice);
        client.runtime.block_on(client.stub().model_ready(request)).unwrap().into_inner().ready
    };
    assert_eq!(refusal(unload(&served.alice)).0, Code::PermissionDenied);
    assert!(ready());
    unload(&served.publisher).unwrap();
    assert!(!ready());
    let expected = (
        Code::Unavailable,
        "unavailable".to_owned(),
        "model 'tiny' version '1' is unloaded".to_owned(),
    );
    assert_eq!(refusal(client.infer(with_key(good(), &served.alice))), expected);
    let config = ModelRepositoryParameter {
        parameter_choice: Some(model_repository_parameter::ParameterChoice::StringParam(
            "{}".into(),
        )),
    };
    let parameters = [("config".to_owned(), config)].into();
    let configured = load(RepositoryModelLoadRequest { parameters, ..Default::default() });
    assert_eq!(refusal(configured).0, Code::Unimplemented);
    load(RepositoryModelLoadRequest::default()).unwrap();
    assert!(ready());
    client.infer(with_key(good(), &served.alice)).unwrap();
}
