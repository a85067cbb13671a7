"""tritonclient.grpc.aio, each of its calls."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
import tritonclient.grpc as sync
import tritonclient.grpc.aio as triton
from host import same
from tensors import check_classes, input_of, inputs_of, outputs_of


@pytest.fixture
def run(host, bearer):
    """Runs `steps(client, headers)` in a loop of its own."""

    def run(steps):
        async def connected():
            async with triton.InferenceServerClient(host.grpc) as client:
                await steps(client, bearer)

        asyncio.run(connected())

    return run


def test_health_and_metadata(run):
    async def steps(client, headers):
        assert await client.is_server_live()
        assert await client.is_server_ready()
        assert await client.is_model_ready("digits", headers=headers)
        assert not await client.is_model_ready("none", headers=headers)
        assert (await client.get_server_metadata(headers=headers)).name == "fuelbox"
        model = await client.get_model_metadata("digits", headers=headers)
        assert list(model.inputs[0].shape) == [-1, 64]
        config = await client.get_model_config("digits", headers=headers)
        assert config.config.name == "digits"
        index = await client.get_model_repository_index(headers=headers)
        assert ("digits", "READY") in {(one.name, one.state) for one in index.models}
        stats = await client.get_inference_statistics("digits", headers=headers)
        assert stats.model_stats[0].name == "digits"

    run(steps)


def test_every_datatype(run, identity):
    async def steps(client, headers):
        result = await client.infer("identity", inputs_of(sync, identity), headers=headers)
        same(outputs_of(result, identity), identity.outputs)

    run(steps)


def test_many_at_once_get_their_own_answers(run, digits):
    async def steps(client, headers):
        async def infer(rows):
            image = np.concatenate([digits.inputs["image"]] * rows)
            tensor = input_of(sync, "image", image)
            result = await client.infer("digits", [tensor], headers=headers)
            return result.as_numpy("probabilities").shape

        shapes = await asyncio.gather(*(infer(rows) for rows in range(1, 9)))
        assert shapes == [(rows, 10) for rows in range(1, 9)]

    run(steps)


def test_a_stream_answers_each_request(run, digits):
    async def steps(client, headers):
        async def requests():
            for number in range(3):
                yield {
                    "model_name": "digits",
                    "inputs": inputs_of(sync, digits),
                    "request_id": str(number),
                }

        ids = set()
        async for result, error in client.stream_infer(requests(), headers=headers):
            assert error is None
            same(outputs_of(result, digits), digits.outputs)
            ids.add(result.get_response().id)
        assert ids == {"0", "1", "2"}

    run(steps)


def test_classification_compression_and_errors(run, wine):
    async def steps(client, headers):
        output = sync.InferRequestedOutput("probabilities", class_count=2)
        inputs = inputs_of(sync, wine)
        for algorithm in (None, "gzip", "deflate"):
            result = await client.infer(
                "wine",
                inputs,
                outputs=[output],
                headers=headers,
                compression_algorithm=algorithm,
            )
            check_classes(result.as_numpy("probabilities"))
        with pytest.raises(sync.InferenceServerException) as error:
            await client.infer("wine", inputs[1:], headers=headers)
        assert "alcohol" in error.value.message()
        with pytest.raises(sync.InferenceServerException) as error:
            await client.infer("wine", inputs)
        assert error.value.status() == "StatusCode.UNAUTHENTICATED"
        for call in (client.unload_model, client.load_model):
            with pytest.raises(sync.InferenceServerException) as error:
                await call("wine", headers=headers)
            assert error.value.status() == "StatusCode.PERMISSION_DENIED"

    run(steps)
