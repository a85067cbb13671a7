"""mlserver's types and codecs: requests as they make them, answers as they read them.

In a folder and an environment of its own: mlserver asks for an older fastapi than kserve.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from host import same
from mlserver.codecs import NumpyCodec, NumpyRequestCodec, PandasCodec, StringCodec
from mlserver.types import (
    InferenceRequest,
    InferenceResponse,
    MetadataModelResponse,
    MetadataServerResponse,
    RepositoryIndexResponse,
    RequestOutput,
)


@pytest.fixture
def infer(host, key):
    def infer(model: str, request: InferenceRequest) -> InferenceResponse:
        body = request.model_dump_json(exclude_none=True).encode()
        headers = {"Content-Type": "application/json"}
        status, _, answer = host.send(
            "POST", f"/v2/models/{model}/infer", body, key=key, headers=headers
        )
        assert status == 200, answer
        return InferenceResponse.model_validate_json(answer)

    return infer


@pytest.mark.parametrize("name", ["digits", "wine", "encoder"])
def test_arrays_go_and_come(host, infer, name):
    model = host.models[name]
    inputs = [NumpyCodec.encode_input(n, array) for n, array in model.inputs.items()]
    response = infer(name, InferenceRequest(id="m 1", inputs=inputs))
    assert (response.model_name, response.model_version, response.id) == (name, "1.0.0", "m 1")
    found = {one.name: NumpyCodec.decode_output(one) for one in response.outputs}
    # mlserver keeps shapes as they are, and a row of numbers as a column.
    shaped = {n: array.reshape(model.outputs[n].shape) for n, array in found.items()}
    same(shaped, model.outputs)


def test_the_default_codec_reads_the_first_output(infer, digits):
    request = NumpyRequestCodec.encode_request(digits.inputs["image"])
    request.inputs[0].name = "image"
    response = infer("digits", request)
    assert NumpyRequestCodec.decode_response(response).argmax() == 7


def test_text_goes_and_comes(infer, identity):
    words = ["", "näh", "a b\n"]
    inputs = [NumpyCodec.encode_input(n, a) for n, a in identity.inputs.items() if n != "bytes"]
    inputs.append(StringCodec.encode_input("bytes", words, use_bytes=False))
    for one in inputs:
        one.shape = [3]
    outputs = [RequestOutput(name="out_bytes")]
    response = infer("identity", InferenceRequest(inputs=inputs, outputs=outputs))
    (output,) = response.outputs
    assert StringCodec.decode_output(output) == words


def test_a_table_becomes_named_inputs_and_answers_a_table(infer, wine):
    frame = pd.DataFrame({name: array.reshape(-1) for name, array in wine.inputs.items()})
    request = PandasCodec.encode_request(frame)
    response = infer("wine", request)
    labels = next(one for one in response.outputs if one.name == "label")
    assert NumpyCodec.decode_output(labels).reshape(-1).tolist() == [0, 1, 2]


def test_documents_are_what_mlserver_takes(host, key):
    def get(path, method="GET"):
        status, _, body = host.send(method, path, key=key)
        assert status == 200
        return body

    server = MetadataServerResponse.model_validate_json(get("/v2"))
    assert server.name == "fuelbox"
    model = MetadataModelResponse.model_validate_json(get("/v2/models/digits"))
    assert (model.name, model.versions) == ("digits", ["1.0.0"])
    assert model.inputs[0].shape == [-1, 64]
    index = RepositoryIndexResponse.model_validate_json(get("/v2/repository/index", "POST"))
    assert "digits" in {one.name for one in index.root}


def test_numbers_are_those_of_the_arrays(infer, digits):
    image = np.concatenate([digits.inputs["image"]] * 2)
    response = infer("digits", InferenceRequest(inputs=[NumpyCodec.encode_input("image", image)]))
    assert response.outputs[0].shape == [2, 10]
