//! Health and reflection.

use super::*;

#[test]
fn health_follows_the_server_and_streams_end_with_it() {
    use tonic_health::pb::{
        HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
    };
    let mut served = serve();
    served.publish("tiny", "1", &Guest::running("(loop $l (br $l))"));
    let client = Client::new(&served);
    let mut health = HealthClient::new(client.channel.clone());
    let of = |service: &str| HealthCheckRequest { service: service.into() };
    let mut watched = client.runtime.block_on(async {
        for service in ["", "inference.GRPCInferenceService"] {
            let status = health.check(of(service)).await.unwrap().into_inner().status();
            assert_eq!(status, ServingStatus::Serving, "{service}");
        }
        assert_eq!(refusal(health.check(of("other")).await).0, Code::NotFound);
        let mut unknown = health.watch(of("other")).await.unwrap().into_inner();
        let first = unknown.message().await.unwrap().unwrap();
        assert_eq!(first.status(), ServingStatus::ServiceUnknown);
        let mut watched = health.watch(of("")).await.unwrap().into_inner();
        let first = watched.message().await.unwrap().unwrap();
        assert_eq!(first.status(), ServingStatus::Serving);
        watched
    });
    let mut idle = client.stream(&served.bob);
    let running = client.start(with_key(endless(), &served.alice));
    wait_until(|| served.host.running() == 1);
    served.stop();
    client.runtime.block_on(async {
        let last = watched.message().await.unwrap().unwrap();
        assert_eq!(last.status(), ServingStatus::NotServing);
        assert!(watched.message().await.unwrap().is_none());
    });
    let stopped = refusal(client.next(&mut idle));
    let expected = (Code::Unavailable, "stopping".to_owned(), "the host is stopping".to_owned());
    assert_eq!(stopped, expected);
    let (status, code, _) = refusal(client.runtime.block_on(running).unwrap());
    assert_eq!((status, code.as_str()), (Code::Unavailable, "stopping"));
    assert_eq!(served.available("alice"), i128::from(RICH_MICROS));
}

#[test]
fn reflection_lists_the_services() {
    use tonic_reflection::pb::{v1, v1alpha};
    let served = serve();
    let client = Client::new(&served);
    client.runtime.block_on(async {
        let mut stub =
            v1::server_reflection_client::ServerReflectionClient::new(client.channel.clone());
        let request = |message_request| v1::ServerReflectionRequest {
            host: String::new(),
            message_request: Some(message_request),
        };
        use v1::{
            server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
        };
        let requests = [
            request(MessageRequest::ListServices(String::new())),
            request(MessageRequest::FileContainingSymbol("inference.GRPCInferenceService".into())),
        ];
        let answers = stub.server_reflection_info(tokio_stream::iter(requests)).await.unwrap();
        let mut answers = answers.into_inner();
        let list = answers.message().await.unwrap().unwrap().message_response.unwrap();
        let MessageResponse::ListServicesResponse(list) = list else { panic!("{list:?}") };
        let names: Vec<_> = list.service.iter().map(|service| service.name.as_str()).collect();
        assert!(names.contains(&"inference.GRPCInferenceService"), "{names:?}");
        assert!(names.contains(&"grpc.health.v1.Health"), "{names:?}");
        let file = answers.message().await.unwrap().unwrap().message_response.unwrap();
        let MessageResponse::FileDescriptorResponse(file) = file else { panic!("{file:?}") };
        assert_eq!(file.file_descriptor_proto.len(), 1);
        let mut stub =
            v1alpha::server_reflection_client::ServerReflectionClient::new(client.channel.clone());
        let list = v1alpha::server_reflection_request::MessageRequest::ListServices(String::new());
        let request =
            v1alpha::ServerReflectionRequest { host: String::new(), message_request: Some(list) };
        let answers = stub.server_reflection_info(tokio_stream::iter([request])).await.unwrap();
        assert!(answers.into_inner().message().await.unwrap().is_some());
    });
}
