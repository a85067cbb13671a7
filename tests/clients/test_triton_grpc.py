"""tritonclient.grpc, each of its calls."""

from __future__ import annotations

import queue
import threading

import numpy as np
import pytest
import tritonclient.grpc as triton
from host import Host, same
from tensors import NOT_JSON, check_classes, input_of, inputs_of, outputs_of

# A call that hangs is a failure, not a hang of the suite.
WAIT_S = 60


class Bearer(triton.InferenceServerClientPlugin):
    def __init__(self, key: str) -> None:
        self.key = key

    def __call__(self, request) -> None:
        request.headers["authorization"] = f"Bearer {self.key}"


def connect(host: Host, account: str) -> triton.InferenceServerClient:
    client = triton.InferenceServerClient(host.grpc)
    client.register_plugin(Bearer(host.keys[account]))
    return client


@pytest.fixture
def client(host):
    with connect(host, "alice") as client:
        yield client


@pytest.fixture
def operator(host):
    with connect(host, "operator") as client:
        yield client


def refused(call, status: str) -> str:
    with pytest.raises(triton.InferenceServerException) as error:
        call()
    assert error.value.status() == f"StatusCode.{status}", error.value
    return error.value.message()


def test_health(host, client):
    with triton.InferenceServerClient(host.grpc) as stranger:
        assert stranger.is_server_live()
        assert stranger.is_server_ready()
    assert client.is_model_ready("digits")
    assert client.is_model_ready("digits", "1.0.0")
    assert not client.is_model_ready("digits", "2.0.0")
    assert not client.is_model_ready("none")


def test_metadata(client):
    server = client.get_server_metadata()
    assert server.name == "fuelbox"
    assert {"classification", "model_repository", "statistics"} <= set(server.extensions)
    model = client.get_model_metadata("digits")
    assert (model.name, list(model.versions)) == ("digits", ["1.0.0"])
    (given,), (answered,) = model.inputs, model.outputs
    assert (given.name, given.datatype, list(given.shape)) == ("image", "FP32", [-1, 64])
    assert answered.name == "probabilities"
    assert (answered.datatype, list(answered.shape)) == ("FP32", [-1, 10])
    as_json = client.get_model_metadata("digits", as_json=True)
    assert as_json["inputs"] == [{"name": "image", "datatype": "FP32", "shape": ["-1", "64"]}]


def test_config(client):
    config = client.get_model_config("digits").config
    assert (config.name, config.max_batch_size) == ("digits", 0)
    (given,), (answered,) = config.input, config.output
    types = triton.model_config_pb2
    assert (given.name, given.data_type) == ("image", types.TYPE_FP32)
    assert list(given.dims) == [-1, 64]
    assert (answered.name, list(answered.dims)) == ("probabilities", [-1, 10])


def test_repository_index(client):
    index = client.get_model_repository_index().models
    found = {(one.name, one.version, one.state) for one in index}
    for name in ("digits", "wine", "encoder", "digits-image", "identity"):
        assert (name, "1.0.0", "READY") in found


def test_unload_and_load(client, operator, encoder):
    operator.unload_model("encoder")
    try:
        assert not client.is_model_ready("encoder")
        call = lambda: client.infer("encoder", inputs_of(triton, encoder))  # noqa: E731
        assert "encoder" in refused(call, "UNAVAILABLE")
    finally:
        operator.load_model("encoder")
    assert client.is_model_ready("encoder")
    same(outputs_of(client.infer("encoder", inputs_of(triton, encoder)), encoder), encoder.outputs)


def test_a_caller_may_not_unload(client):
    refused(lambda: client.unload_model("digits"), "PERMISSION_DENIED")
    refused(lambda: client.load_model("digits"), "PERMISSION_DENIED")
    assert client.is_model_ready("digits")


def test_statistics_count_what_was_run(client, wine):
    def counts():
        (stats,) = client.get_inference_statistics("wine").model_stats
        assert (stats.name, stats.version) == ("wine", "1.0.0")
        success = stats.inference_stats.success
        return [stats.inference_count, stats.execution_count, success.count], success.ns

    before, ns_before = counts()
    for _ in range(3):
        client.infer("wine", inputs_of(triton, wine))
    after, ns_after = counts()
    assert [b - a for a, b in zip(before, after)] == [3, 3, 3]
    assert ns_after > ns_before


def test_every_datatype(client, identity):
    result = client.infer("identity", inputs_of(triton, identity))
    same(outputs_of(result, identity), identity.outputs)


def test_nan_and_infinity(client, identity):
    inputs = [
        input_of(triton, name, NOT_JSON if name == "fp32" else array)
        for name, array in identity.inputs.items()
    ]
    result = client.infer("identity", inputs)
    assert result.as_numpy("out_fp32").tobytes() == NOT_JSON.tobytes()


def test_typed_contents_are_what_raw_contents_are(host, key, identity):
    service, stubs = triton.service_pb2, triton.service_pb2_grpc
    fields = {
        "bool": "bool_contents",
        "fp32": "fp32_contents",
        "fp64": "fp64_contents",
        "bytes": "bytes_contents",
        "int64": "int64_contents",
        "uint64": "uint64_contents",
        **{f"int{bits}": "int_contents" for bits in (8, 16, 32)},
        **{f"uint{bits}": "uint_contents" for bits in (8, 16, 32)},
    }
    request = service.ModelInferRequest(model_name="identity")
    inputs = inputs_of(triton, identity)
    for tensor, (name, array) in zip(inputs, identity.inputs.items()):
        described = request.inputs.add(
            name=name, datatype=tensor.datatype(), shape=list(array.shape)
        )
        if name != "fp16":
            getattr(described.contents, fields[name]).extend(array.tolist())
    import grpc

    metadata = [("authorization", f"Bearer {key}")]
    with grpc.insecure_channel(host.grpc) as channel:
        stub = stubs.GRPCInferenceServiceStub(channel)
        # FP16 has no typed contents: the protocol carries it as raw ones, and those exclude typed ones.
        with pytest.raises(grpc.RpcError) as error:
            stub.ModelInfer(request, metadata=metadata, timeout=WAIT_S)
        assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert "fp16" in error.value.details()
        mixed = service.ModelInferRequest()
        mixed.CopyFrom(request)
        mixed.raw_input_contents.append(b"\0" * 6)
        with pytest.raises(grpc.RpcError) as error:
            stub.ModelInfer(mixed, metadata=metadata, timeout=WAIT_S)
        assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_typed_contents_of_a_model(host, key, digits):
    import grpc

    service, stubs = triton.service_pb2, triton.service_pb2_grpc
    request = service.ModelInferRequest(model_name="digits", id="typed")
    tensor = request.inputs.add(name="image", datatype="FP32", shape=[1, 64])
    tensor.contents.fp32_contents.extend(digits.inputs["image"].reshape(-1).tolist())
    metadata = [("authorization", f"Bearer {key}")]
    with grpc.insecure_channel(host.grpc) as channel:
        stub = stubs.GRPCInferenceServiceStub(channel)
        answer, call = stub.ModelInfer.with_call(request, metadata=metadata, timeout=WAIT_S)
    same(outputs_of(triton.InferResult(answer), digits), digits.outputs)
    assert answer.id == "typed"
    sent = dict(call.initial_metadata()) | dict(call.trailing_metadata())
    assert sent["fuelbox-job"] == answer.parameters["fuelbox_job"].string_param
    assert int(sent["fuelbox-fuel"]) == answer.parameters["fuelbox_fuel"].int64_param


@pytest.mark.parametrize("name", ["digits", "wine", "encoder", "digits-image"])
def test_answers_are_those_of_the_command_line(host, client, name):
    model = host.models[name]
    result = client.infer(name, inputs_of(triton, model), model_version="1.0.0", request_id="r 7")
    same(outputs_of(result, model), model.outputs)
    response = result.get_response()
    assert (response.model_name, response.model_version, response.id) == (name, "1.0.0", "r 7")
    assert response.parameters["fuelbox_fuel"].int64_param > 0
    assert response.parameters["fuelbox_package"].string_param == model.digest
    assert response.parameters["fuelbox_receipt"].string_param.startswith("sha256:")


def test_requested_outputs_come_alone_and_in_their_order(client, wine):
    outputs = [triton.InferRequestedOutput(name) for name in ("probabilities", "label")]
    result = client.infer("wine", inputs_of(triton, wine), outputs=outputs)
    assert [one.name for one in result.get_response().outputs] == ["probabilities", "label"]
    assert result.as_numpy("label").tolist() == [0, 1, 2]
    result = client.infer("wine", inputs_of(triton, wine), outputs=outputs[1:])
    assert [one.name for one in result.get_response().outputs] == ["label"]


def test_classification(client, wine):
    output = triton.InferRequestedOutput("probabilities", class_count=2)
    result = client.infer("wine", inputs_of(triton, wine), outputs=[output])
    check_classes(result.as_numpy("probabilities"))


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_compression(client, digits, algorithm):
    result = client.infer("digits", inputs_of(triton, digits), compression_algorithm=algorithm)
    same(outputs_of(result, digits), digits.outputs)


def test_async_infer_calls_back(client, digits):
    answers: queue.Queue = queue.Queue()
    for number in range(4):
        client.async_infer(
            "digits",
            inputs_of(triton, digits),
            callback=lambda result, error: answers.put((result, error)),
            request_id=str(number),
        )
    ids = set()
    for _ in range(4):
        result, error = answers.get(timeout=WAIT_S)
        assert error is None
        same(outputs_of(result, digits), digits.outputs)
        ids.add(result.get_response().id)
    assert ids == {"0", "1", "2", "3"}
    client.async_infer(
        "none", inputs_of(triton, digits), callback=lambda result, error: answers.put(error)
    )
    assert answers.get(timeout=WAIT_S).status() == "StatusCode.NOT_FOUND"


def test_a_stream_answers_each_request_and_goes_on_after_an_error(client, digits):
    answers: queue.Queue = queue.Queue()
    client.start_stream(callback=lambda result, error: answers.put((result, error)))
    for name, request_id in (("digits", "a"), ("none", "b"), ("digits", "c")):
        client.async_stream_infer(name, inputs_of(triton, digits), request_id=request_id)
    found = [answers.get(timeout=WAIT_S) for _ in range(3)]
    client.stop_stream()
    good = [result for result, error in found if error is None]
    bad = [error for _, error in found if error is not None]
    assert sorted(result.get_response().id for result in good) == ["a", "c"]
    for result in good:
        same(outputs_of(result, digits), digits.outputs)
    assert len(bad) == 1
    assert "none" in bad[0].message()


def test_a_stream_without_a_key_ends(host):
    with triton.InferenceServerClient(host.grpc) as client:
        errors: queue.Queue = queue.Queue()
        client.start_stream(callback=lambda result, error: errors.put(error))
        assert errors.get(timeout=WAIT_S).status() == "StatusCode.UNAUTHENTICATED"
        client.stop_stream()


def test_limits_as_parameters_and_metadata(client, digits):
    def infer(**options):
        return client.infer("digits", inputs_of(triton, digits), **options)

    used = infer().get_response().parameters["fuelbox_fuel"].int64_param
    infer(parameters={"fuelbox_fuel_limit": used})
    less = {"fuelbox_fuel_limit": used // 2}
    assert "fuel" in refused(lambda: infer(parameters=less), "FAILED_PRECONDITION")
    headers = {"fuelbox-fuel-limit": str(used // 2)}
    refused(lambda: infer(headers=headers), "FAILED_PRECONDITION")


def test_an_idempotency_key_is_one_job(client, digits):
    def infer():
        headers = {"idempotency-key": "triton-grpc-1"}
        result = client.infer("digits", inputs_of(triton, digits), headers=headers)
        return result.get_response().parameters["fuelbox_job"].string_param

    assert infer() == infer()


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda i: [], "image"),
        (lambda i: [*i, input_of(triton, "more", np.zeros((1, 64), np.float32))], "more"),
        (lambda i: [i[0], i[0]], "image"),
        (lambda i: [input_of(triton, "image", np.zeros((1, 63), np.float32))], "63"),
        (lambda i: [input_of(triton, "image", np.zeros((64,), np.float32))], "image"),
        (lambda i: [input_of(triton, "image", np.zeros((1, 64)))], "FP64"),
    ],
)
def test_inputs_that_do_not_fit_are_named(client, digits, change, word):
    inputs = change(inputs_of(triton, digits))
    assert word in refused(lambda: client.infer("digits", inputs), "INVALID_ARGUMENT")


def test_what_is_not_there_is_named(client, digits):
    inputs = inputs_of(triton, digits)
    assert "none" in refused(lambda: client.infer("none", inputs), "NOT_FOUND")
    version = lambda: client.infer("digits", inputs, model_version="9.9")  # noqa: E731
    assert "9.9" in refused(version, "NOT_FOUND")
    output = triton.InferRequestedOutput("nothing")
    call = lambda: client.infer("digits", inputs, outputs=[output])  # noqa: E731
    assert "nothing" in refused(call, "INVALID_ARGUMENT")
    refused(lambda: client.get_model_metadata("none"), "NOT_FOUND")
    refused(lambda: client.get_model_config("none"), "NOT_FOUND")
    refused(lambda: client.get_inference_statistics("none"), "NOT_FOUND")


def test_without_a_key_there_is_no_answer(host, digits):
    with triton.InferenceServerClient(host.grpc) as client:
        inputs = inputs_of(triton, digits)
        refused(lambda: client.infer("digits", inputs), "UNAUTHENTICATED")
        refused(lambda: client.get_model_metadata("digits"), "UNAUTHENTICATED")
        refused(lambda: client.get_model_repository_index(), "UNAUTHENTICATED")


def test_without_money_there_is_no_answer(host, digits):
    with connect(host, "ben") as client:
        call = lambda: client.infer("digits", inputs_of(triton, digits))  # noqa: E731
        assert "ben" in refused(call, "RESOURCE_EXHAUSTED")


def test_a_deadline_of_the_client_is_kept(client, encoder):
    # gRPC rounds a deadline up to some milliseconds. Sixty-four times the work, for which the model has
    # to be loaded first, takes hundreds.
    inputs = [
        input_of(triton, name, np.repeat(array, 64, axis=0))
        for name, array in encoder.inputs.items()
    ]
    call = lambda: client.infer("encoder", inputs, client_timeout=1e-6)  # noqa: E731
    refused(call, "DEADLINE_EXCEEDED")


def test_many_at_once_get_their_own_answers(host, digits):
    found: dict[int, tuple[int, ...]] = {}

    def infer(rows: int) -> None:
        with connect(host, "alice") as client:
            image = np.concatenate([digits.inputs["image"]] * rows)
            result = client.infer("digits", [input_of(triton, "image", image)])
            found[rows] = result.as_numpy("probabilities").shape

    threads = [threading.Thread(target=infer, args=(rows,)) for rows in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    assert found == {rows: (rows, 10) for rows in range(1, 9)}


def test_what_is_not_offered_says_so(operator):
    for call in (
        lambda: operator.get_system_shared_memory_status(),
        lambda: operator.register_system_shared_memory("a", "/a", 64),
        lambda: operator.unregister_system_shared_memory("a"),
        lambda: operator.get_cuda_shared_memory_status(),
        lambda: operator.unregister_cuda_shared_memory("a"),
        lambda: operator.get_trace_settings(),
        lambda: operator.update_trace_settings(settings={"trace_level": "OFF"}),
        lambda: operator.get_log_settings(),
        lambda: operator.update_log_settings({"log_info": True}),
    ):
        refused(call, "UNIMPLEMENTED")
