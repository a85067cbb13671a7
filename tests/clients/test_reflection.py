"""gRPC as grpcurl sees it: reflection, descriptors, the standard health service."""

from __future__ import annotations

import grpc
import pytest
from google.protobuf import descriptor_pool, message_factory
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

SERVICE = "inference.GRPCInferenceService"
METHODS = {
    "ServerLive",
    "ServerReady",
    "ModelReady",
    "ServerMetadata",
    "ModelMetadata",
    "ModelConfig",
    "ModelInfer",
    "ModelStreamInfer",
    "ModelStatistics",
    "RepositoryIndex",
    "RepositoryModelLoad",
    "RepositoryModelUnload",
}


@pytest.fixture
def channel(host):
    with grpc.insecure_channel(host.grpc) as channel:
        yield channel


def test_the_service_and_its_methods_are_listed(channel):
    database = ProtoReflectionDescriptorDatabase(channel)
    assert {SERVICE, "grpc.health.v1.Health"} <= set(database.get_services())
    service = descriptor_pool.DescriptorPool(database).FindServiceByName(SERVICE)
    assert {method.name for method in service.methods} >= METHODS


def test_a_call_with_nothing_but_reflected_types(channel, bearer, digits):
    pool = descriptor_pool.DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
    request, response = (
        message_factory.GetMessageClass(pool.FindMessageTypeByName(f"inference.{name}"))
        for name in ("ModelInferRequest", "ModelInferResponse")
    )
    image = digits.inputs["image"]
    tensor = {"name": "image", "datatype": "FP32", "shape": [1, 64]}
    call = channel.unary_unary(
        f"/{SERVICE}/ModelInfer",
        request_serializer=request.SerializeToString,
        response_deserializer=response.FromString,
    )
    answer = call(
        request(model_name="digits", inputs=[tensor], raw_input_contents=[image.tobytes()]),
        metadata=tuple(bearer.items()),
        timeout=60,
    )
    assert answer.raw_output_contents[0] == digits.outputs["probabilities"].tobytes()


def test_health(channel):
    stub = health_pb2_grpc.HealthStub(channel)
    for service in ("", SERVICE):
        reply = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=60)
        assert reply.status == health_pb2.HealthCheckResponse.SERVING
    with pytest.raises(grpc.RpcError) as error:
        stub.Check(health_pb2.HealthCheckRequest(service="nothing"), timeout=60)
    assert error.value.code() == grpc.StatusCode.NOT_FOUND


def test_an_unknown_method_is_not_implemented(channel, bearer):
    call = channel.unary_unary(f"/{SERVICE}/Nothing")
    for metadata, code in (
        (tuple(bearer.items()), grpc.StatusCode.UNIMPLEMENTED),
        # Who has no key is told nothing of what there is.
        ((), grpc.StatusCode.UNAUTHENTICATED),
    ):
        with pytest.raises(grpc.RpcError) as error:
            call(b"", metadata=metadata, timeout=60)
        assert error.value.code() == code
