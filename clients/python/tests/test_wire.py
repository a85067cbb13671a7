"""Bodies as the binary tensor extension has them."""

import json

import numpy as np
import pytest

from fuelbox import NoAnswer, wire


def body(document, *parts: bytes) -> tuple[bytes, str]:
    head = json.dumps(document).encode()
    return b"".join((head, *parts)), str(len(head))


def test_a_request_has_its_tensors_behind_its_json():
    inputs = {"x": np.array([[1.0]], np.float32), "t": np.array([b"ab"], object)}
    raw, headers = wire.encode(inputs, {"top": 3}, ["y"])
    end = int(headers["Inference-Header-Content-Length"])
    assert json.loads(raw[:end]) == {
        "inputs": [
            {
                "name": "x",
                "shape": [1, 1],
                "datatype": "FP32",
                "parameters": {"binary_data_size": 4},
            },
            {
                "name": "t",
                "shape": [1],
                "datatype": "BYTES",
                "parameters": {"binary_data_size": 6},
            },
        ],
        "parameters": {"top": 3, "binary_data_output": True},
        "outputs": [{"name": "y", "parameters": {"binary_data": True}}],
    }
    assert raw[end:] == b"\x00\x00\x80\x3f\x02\x00\x00\x00ab"


def test_what_is_no_array_becomes_one():
    raw, headers = wire.encode({"x": [[True, False]]}, {}, None)
    end = int(headers["Inference-Header-Content-Length"])
    assert json.loads(raw[:end])["inputs"][0]["datatype"] == "BOOL"
    assert "outputs" not in json.loads(raw[:end])
    assert raw[end:] == b"\1\0"


def test_a_reply_may_mix_both_forms():
    document = {
        "model_name": "m",
        "model_version": "1",
        "parameters": {"fuelbox_fuel": 7},
        "outputs": [
            {"name": "a", "datatype": "INT16", "shape": [2], "parameters": {"binary_data_size": 4}},
            {"name": "b", "datatype": "BYTES", "shape": [1, 1], "data": [["ä"]]},
            {"name": "c", "datatype": "UINT8", "shape": [1], "parameters": {"binary_data_size": 1}},
        ],
    }
    reply = wire.decode(*body(document, b"\1\0\2\0", b"\3"))
    assert (reply.model, reply.version) == ("m", "1")
    assert list(reply.outputs) == ["a", "b", "c"]
    assert reply.outputs["a"].tolist() == [1, 2]
    assert reply.outputs["b"].tolist() == [["ä".encode()]]
    assert reply.outputs["c"].tolist() == [3]
    assert reply.parameters == {"fuelbox_fuel": 7}


SIZED = {"name": "a", "datatype": "UINT8", "shape": [2]}


@pytest.mark.parametrize(
    ("raw", "length", "sentence"),
    [
        (b"", None, "a reply that is no answer"),
        (b"[]", None, "a reply that is no answer"),
        (b"{}", None, "a reply that is no answer: 'outputs'"),
        (b'{"outputs": [1]}', None, "a reply that is no answer"),
        (b"{}", "3", "JSON of 3 bytes in a body of 2"),
        (b"{}", "x", "a reply that is no answer"),
        (
            *body({"outputs": [{**SIZED, "parameters": {"binary_data_size": 2}}]}, b"\0"),
            "1 are left",
        ),
        (*body({"outputs": [{**SIZED, "parameters": {"binary_data_size": -1}}]}), "-1 bytes"),
        (*body({"outputs": [{**SIZED, "parameters": {"binary_data_size": 1}}]}, b"\0"), "1 bytes"),
        (*body({"outputs": [{**SIZED, "data": [1, 2]}]}, b"\0"), "1 bytes behind the last output"),
        (*body({"outputs": [SIZED]}), "a reply that is no answer: 'data'"),
    ],
)
def test_a_reply_that_does_not_add_up_is_no_answer(raw, length, sentence):
    with pytest.raises(NoAnswer) as failed:
        wire.decode(raw, length)
    assert sentence in failed.value.sentence
    assert failed.value.code == "bad_reply"
