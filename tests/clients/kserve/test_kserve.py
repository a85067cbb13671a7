"""kserve's clients: InferenceRESTClient and InferenceGRPCClient.

In a process of its own: kserve and tritonclient bring the same messages for gRPC, and one process takes
them from one only.
"""

from __future__ import annotations

import asyncio

import grpc
import httpx
import numpy as np
import pytest
from host import NAMES, same
from kserve import InferenceGRPCClient, InferenceRESTClient, InferRequest
from kserve.inference_client import RESTConfig
from kserve.protocol.infer_type import InferInput, RequestedOutput
from tensors import bytes_again


def request_of(model, binary=True, outputs=None) -> InferRequest:
    inputs = []
    for name, array in model.inputs.items():
        tensor = InferInput(name, list(array.shape), NAMES[array.dtype])
        tensor.set_data_from_numpy(array, binary_data=binary)
        inputs.append(tensor)
    return InferRequest(model.name, inputs, request_id="k 1", request_outputs=outputs)


def outputs_of(response) -> dict[str, np.ndarray]:
    return {one.name: bytes_again(np.asarray(one.as_numpy())) for one in response.outputs}


@pytest.fixture
def rest(host, bearer):
    """Runs `steps(client, url, headers)`."""

    def run(steps):
        async def connected():
            client = InferenceRESTClient(RESTConfig(protocol="v2", timeout=60))
            try:
                await steps(client, host.url, bearer)
            finally:
                await client.close()

        asyncio.run(connected())

    return run


@pytest.fixture
def remote(host, bearer):
    """Runs `steps(client, headers)` over gRPC."""

    def run(steps):
        async def connected():
            async with InferenceGRPCClient(host.grpc) as client:
                await steps(client, tuple(bearer.items()))

        asyncio.run(connected())

    return run


def test_rest_health(rest):
    async def steps(client, url, headers):
        assert await client.is_server_live(url)
        assert await client.is_server_ready(url)
        assert await client.is_model_ready(url, "digits", headers=headers)
        assert not await client.is_model_ready(url, "none", headers=headers)

    rest(steps)


@pytest.mark.parametrize("name", ["digits", "wine", "encoder"])
@pytest.mark.parametrize("binary", [True, False])
def test_rest_answers_are_those_of_the_command_line(host, rest, name, binary):
    model = host.models[name]

    async def steps(client, url, headers):
        said: dict[str, str] = {}
        outputs = [RequestedOutput(n, {"binary_data": binary}) for n in model.outputs]
        response = await client.infer(
            url, request_of(model, binary, outputs), name, headers, response_headers=said
        )
        same(outputs_of(response), model.outputs)
        # This client drops the version.
        assert (response.model_name, response.id) == (name, "k 1")
        assert said["fuelbox-package"] == model.digest
        assert response.parameters["fuelbox_job"] == said["fuelbox-job"]

    rest(steps)


def test_rest_bytes(rest, image):
    async def steps(client, url, headers):
        response = await client.infer(url, request_of(image), "digits-image", headers)
        assert outputs_of(response)["label"].tolist() == [b"seven"]

    rest(steps)


def test_rest_errors_say_what_is_wrong(rest, digits):
    async def steps(client, url, headers):
        for name, given, status in (
            ("none", headers, 404),
            ("digits", {}, 401),
            ("wine", headers, 400),
        ):
            with pytest.raises(httpx.HTTPStatusError) as error:
                await client.infer(url, request_of(digits), name, dict(given))
            assert error.value.response.status_code == status
            assert error.value.response.json()["error"] in str(error.value)

    rest(steps)


def test_grpc_health(remote):
    async def steps(client, headers):
        assert await client.is_server_live()
        assert await client.is_server_ready()
        assert await client.is_model_ready("digits", headers=headers)

    remote(steps)


@pytest.mark.parametrize("name", ["digits", "wine", "encoder", "identity"])
def test_grpc_answers_are_those_of_the_command_line(host, remote, name):
    model = host.models[name]

    async def steps(client, headers):
        response = await client.infer(request_of(model), headers=headers)
        same(outputs_of(response), model.outputs)
        assert (response.model_name, response.model_version) == (name, "1.0.0")
        assert response.id == "k 1"

    remote(steps)


def test_grpc_errors_have_their_status(remote, digits):
    async def steps(client, headers):
        for change, given, status in (
            ({"model_name": "none"}, headers, grpc.StatusCode.NOT_FOUND),
            ({"model_name": "wine"}, headers, grpc.StatusCode.INVALID_ARGUMENT),
            ({}, (), grpc.StatusCode.UNAUTHENTICATED),
        ):
            request = request_of(digits)
            for field, value in change.items():
                setattr(request, field, value)
            with pytest.raises(grpc.RpcError) as error:
                await client.infer(request, headers=given)
            assert error.value.code() == status

    remote(steps)
