"""tritonclient.http.aio, each of its calls."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
import tritonclient.http as sync
import tritonclient.http.aio as triton
from host import same
from tensors import DIGITS_INPUTS, check_classes, input_of, inputs_of, outputs_of


@pytest.fixture
def run(host, key):
    """Runs `steps(client)` in a loop of its own."""

    class Bearer(sync.InferenceServerClientPlugin):
        def __call__(self, request) -> None:
            request.headers["authorization"] = f"Bearer {key}"

    def run(steps):
        async def connected():
            async with triton.InferenceServerClient(host.http) as client:
                client.register_plugin(Bearer())
                await steps(client)

        asyncio.run(connected())

    return run


def test_health_and_metadata(run):
    async def steps(client):
        assert await client.is_server_live()
        assert await client.is_server_ready()
        assert await client.is_model_ready("digits")
        assert not await client.is_model_ready("none")
        assert (await client.get_server_metadata())["name"] == "fuelbox"
        assert (await client.get_model_metadata("digits"))["inputs"] == DIGITS_INPUTS
        assert (await client.get_model_config("digits"))["name"] == "digits"
        index = await client.get_model_repository_index()
        assert ("digits", "READY") in {(one["name"], one["state"]) for one in index}
        stats = await client.get_inference_statistics("digits")
        assert stats["model_stats"][0]["name"] == "digits"

    run(steps)


@pytest.mark.parametrize("binary", [True, False])
def test_every_datatype(run, identity, binary):
    async def steps(client):
        inputs = inputs_of(sync, identity, binary_data=binary)
        outputs = [sync.InferRequestedOutput(n, binary_data=binary) for n in identity.outputs]
        result = await client.infer("identity", inputs, outputs=outputs)
        same(outputs_of(result, identity), identity.outputs)

    run(steps)


def test_many_at_once_get_their_own_answers(run, digits):
    async def steps(client):
        async def infer(rows):
            image = np.concatenate([digits.inputs["image"]] * rows)
            result = await client.infer("digits", [input_of(sync, "image", image)])
            return result.as_numpy("probabilities").shape

        shapes = await asyncio.gather(*(infer(rows) for rows in range(1, 9)))
        assert shapes == [(rows, 10) for rows in range(1, 9)]

    run(steps)


def test_classification_compression_and_errors(run, wine):
    async def steps(client):
        output = sync.InferRequestedOutput("probabilities", class_count=2)
        inputs = inputs_of(sync, wine)
        for algorithm in (None, "gzip", "deflate"):
            result = await client.infer(
                "wine",
                inputs,
                outputs=[output],
                request_compression_algorithm=algorithm,
                response_compression_algorithm=algorithm,
            )
            check_classes(result.as_numpy("probabilities"))
        with pytest.raises(sync.InferenceServerException) as error:
            await client.infer("wine", inputs[1:])
        assert "alcohol" in error.value.message()
        for call in (client.unload_model, client.load_model):
            with pytest.raises(sync.InferenceServerException):
                await call("wine")

    run(steps)
