"""tritonclient.http, each of its calls."""

from __future__ import annotations

import numpy as np
import pytest
import tritonclient.http as triton
from host import Host, same
from tensors import (
    DIGITS_INPUTS,
    DIGITS_OUTPUTS,
    NOT_JSON,
    check_classes,
    input_of,
    inputs_of,
    outputs_of,
)


class Bearer(triton.InferenceServerClientPlugin):
    def __init__(self, key: str) -> None:
        self.key = key

    def __call__(self, request) -> None:
        request.headers["authorization"] = f"Bearer {self.key}"


def connect(host: Host, account: str) -> triton.InferenceServerClient:
    client = triton.InferenceServerClient(host.http, concurrency=4)
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
    assert error.value.status() == status
    return error.value.message()


def test_health(host, client):
    with triton.InferenceServerClient(host.http) as stranger:
        assert stranger.is_server_live()
        assert stranger.is_server_ready()
    assert client.is_model_ready("digits")
    assert client.is_model_ready("digits", "1.0.0")
    assert not client.is_model_ready("digits", "2.0.0")
    assert not client.is_model_ready("none")


def test_metadata(client):
    server = client.get_server_metadata()
    assert server["name"] == "fuelbox"
    assert {"binary_tensor_data", "classification", "model_repository", "statistics"} <= set(
        server["extensions"]
    )
    model = client.get_model_metadata("digits")
    assert model["name"] == "digits"
    assert model["versions"] == ["1.0.0"]
    assert model["inputs"] == DIGITS_INPUTS
    assert model["outputs"] == DIGITS_OUTPUTS
    assert client.get_model_metadata("digits", "1.0.0") == model


def test_config(client):
    config = client.get_model_config("digits")
    assert config["name"] == "digits"
    assert config["max_batch_size"] == 0
    (given,), (answered,) = config["input"], config["output"]
    assert (given["name"], given["data_type"]) == ("image", "TYPE_FP32")
    assert [int(size) for size in given["dims"]] == [-1, 64]
    assert (answered["name"], answered["data_type"]) == ("probabilities", "TYPE_FP32")
    assert [int(size) for size in answered["dims"]] == [-1, 10]


def test_repository_index(client):
    index = client.get_model_repository_index()
    found = {(one["name"], one["version"], one["state"]) for one in index}
    for name in ("digits", "wine", "encoder", "digits-image", "identity"):
        assert (name, "1.0.0", "READY") in found


def test_unload_and_load(client, operator, encoder):
    operator.unload_model("encoder")
    try:
        assert not client.is_model_ready("encoder")
        sentence = refused(lambda: client.infer("encoder", inputs_of(triton, encoder)), "503")
        assert "encoder" in sentence
    finally:
        operator.load_model("encoder")
    assert client.is_model_ready("encoder")
    same(outputs_of(client.infer("encoder", inputs_of(triton, encoder)), encoder), encoder.outputs)


def test_a_caller_may_not_unload(client):
    refused(lambda: client.unload_model("digits"), "403")
    refused(lambda: client.load_model("digits"), "403")
    assert client.is_model_ready("digits")


def test_statistics_count_what_was_run(client, wine):
    def counts():
        (stats,) = client.get_inference_statistics("wine")["model_stats"]
        assert (stats["name"], stats["version"]) == ("wine", "1.0.0")
        success = stats["inference_stats"]["success"]
        return [
            int(stats["inference_count"]),
            int(stats["execution_count"]),
            int(success["count"]),
        ], int(success["ns"])

    before, ns_before = counts()
    for _ in range(3):
        client.infer("wine", inputs_of(triton, wine))
    after, ns_after = counts()
    assert [b - a for a, b in zip(before, after)] == [3, 3, 3]
    assert ns_after > ns_before


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False])
def test_every_datatype_in_both_forms(client, identity, binary_in, binary_out):
    inputs = inputs_of(triton, identity, binary_data=binary_in)
    outputs = [
        triton.InferRequestedOutput(name, binary_data=binary_out) for name in identity.outputs
    ]
    result = client.infer("identity", inputs, outputs=outputs)
    same(outputs_of(result, identity), identity.outputs)


@pytest.mark.parametrize("name", ["digits", "wine", "encoder", "digits-image"])
def test_answers_are_those_of_the_command_line(host, client, name):
    model = host.models[name]
    result = client.infer(name, inputs_of(triton, model), model_version="1.0.0", request_id="r 7")
    same(outputs_of(result, model), model.outputs)
    response = result.get_response()
    assert (response["model_name"], response["model_version"]) == (name, "1.0.0")
    assert response["id"] == "r 7"
    parameters = response["parameters"]
    assert parameters["fuelbox_fuel"] > 0
    assert parameters["fuelbox_package"] == model.digest
    assert parameters["fuelbox_receipt"].startswith("sha256:")


def test_the_digit_is_a_seven(client, digits):
    found = client.infer("digits", inputs_of(triton, digits)).as_numpy("probabilities")
    # examples/digits/README.md
    assert found.argmax() == 7
    assert abs(found[0, 7] - 0.9897) < 1e-4
    assert abs(found[0, 9] - 0.0057) < 1e-4


def test_the_picture_is_a_seven(client, image):
    result = client.infer("digits-image", inputs_of(triton, image))
    assert result.as_numpy("label").tolist() == [b"seven"]


def test_requested_outputs_come_alone_and_in_their_order(client, wine):
    outputs = [triton.InferRequestedOutput(name) for name in ("probabilities", "label")]
    result = client.infer("wine", inputs_of(triton, wine), outputs=outputs)
    names = [one["name"] for one in result.get_response()["outputs"]]
    assert names == ["probabilities", "label"]
    assert result.as_numpy("label").tolist() == [0, 1, 2]
    result = client.infer("wine", inputs_of(triton, wine), outputs=outputs[1:])
    assert [one["name"] for one in result.get_response()["outputs"]] == ["label"]
    assert result.as_numpy("probabilities") is None


@pytest.mark.parametrize("binary", [True, False])
def test_classification(client, wine, binary):
    output = triton.InferRequestedOutput("probabilities", binary_data=binary, class_count=2)
    result = client.infer("wine", inputs_of(triton, wine), outputs=[output])
    assert result.get_output("probabilities")["datatype"] == "BYTES"
    check_classes(result.as_numpy("probabilities"))


def test_nan_and_infinity_travel_as_binary_data_alone(client, identity):
    inputs = [
        input_of(triton, name, NOT_JSON if name == "fp32" else array)
        for name, array in identity.inputs.items()
    ]
    result = client.infer("identity", inputs)
    assert result.as_numpy("out_fp32").tobytes() == NOT_JSON.tobytes()
    output = triton.InferRequestedOutput("out_fp32", binary_data=False)
    sentence = refused(lambda: client.infer("identity", inputs, outputs=[output]), "400")
    assert "binary" in sentence


def test_async_infer_answers_each_call(client, digits):
    batch = np.concatenate([digits.inputs["image"]] * 3)
    requests = []
    for rows in (1, 2, 3):
        tensor = input_of(triton, "image", batch[:rows])
        requests.append(client.async_infer("digits", [tensor], request_id=str(rows)))
    for rows, request in zip((1, 2, 3), requests):
        result = request.get_result()
        assert result.get_response()["id"] == str(rows)
        expected = np.concatenate([digits.outputs["probabilities"]] * rows)
        assert result.as_numpy("probabilities").shape == expected.shape
        assert np.allclose(result.as_numpy("probabilities"), expected, atol=1e-6)


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_compression_both_ways(client, digits, algorithm):
    result = client.infer(
        "digits",
        inputs_of(triton, digits),
        request_compression_algorithm=algorithm,
        response_compression_algorithm=algorithm,
    )
    same(outputs_of(result, digits), digits.outputs)


def test_limits_as_parameters_and_headers(client, digits):
    def infer(**options):
        return client.infer("digits", inputs_of(triton, digits), **options)

    used = infer().get_response()["parameters"]["fuelbox_fuel"]
    infer(parameters={"fuelbox_fuel_limit": used})
    sentence = refused(lambda: infer(parameters={"fuelbox_fuel_limit": used // 2}), "422")
    assert "fuel" in sentence
    refused(lambda: infer(headers={"Fuelbox-Fuel-Limit": str(used // 2)}), "422")


def test_an_idempotency_key_is_one_job(client, digits):
    def infer():
        headers = {"Idempotency-Key": "triton-http-1"}
        result = client.infer("digits", inputs_of(triton, digits), headers=headers)
        return result.get_response()["parameters"]["fuelbox_job"]

    assert infer() == infer()


@pytest.mark.parametrize(
    ("change", "status", "word"),
    [
        (lambda i: [], "400", "image"),
        (lambda i: [*i, input_of(triton, "more", np.zeros((1, 64), np.float32))], "400", "more"),
        (lambda i: [i[0], i[0]], "400", "image"),
        (lambda i: [input_of(triton, "image", np.zeros((1, 63), np.float32))], "400", "63"),
        (lambda i: [input_of(triton, "image", np.zeros((64,), np.float32))], "400", "image"),
        (lambda i: [input_of(triton, "image", np.zeros((1, 64)))], "400", "FP64"),
    ],
)
def test_inputs_that_do_not_fit_are_named(client, digits, change, status, word):
    inputs = change(inputs_of(triton, digits))
    assert word in refused(lambda: client.infer("digits", inputs), status)


def test_what_is_not_there_is_named(client, digits):
    inputs = inputs_of(triton, digits)
    assert "none" in refused(lambda: client.infer("none", inputs), "404")
    assert "9.9" in refused(lambda: client.infer("digits", inputs, model_version="9.9"), "404")
    output = triton.InferRequestedOutput("nothing")
    sentence = refused(lambda: client.infer("digits", inputs, outputs=[output]), "400")
    assert "nothing" in sentence
    refused(lambda: client.get_model_metadata("none"), "404")
    refused(lambda: client.get_model_config("none"), "404")
    refused(lambda: client.get_inference_statistics("none"), "404")


def test_without_a_key_there_is_no_answer(host, digits):
    with triton.InferenceServerClient(host.http) as client:
        refused(lambda: client.infer("digits", inputs_of(triton, digits)), "401")
        refused(lambda: client.get_model_metadata("digits"), "401")
        refused(lambda: client.get_model_repository_index(), "401")


def test_without_money_there_is_no_answer(host, digits):
    with connect(host, "ben") as client:
        sentence = refused(lambda: client.infer("digits", inputs_of(triton, digits)), "402")
    assert "ben" in sentence


def test_sequences_are_refused(client, digits):
    inputs = inputs_of(triton, digits)
    for options in ({"sequence_id": 7, "sequence_start": True}, {"sequence_id": 7}):
        refused(lambda options=options: client.infer("digits", inputs, **options), "501")


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
        refused(call, "501")
