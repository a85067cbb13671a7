"""Requests and replies of the Open Inference Protocol, with tensors as binary data.

In: arrays by name. Out: a body and its headers; and the other way round. Tensors stand behind the JSON as
they are in memory, in the order of their names; each says how many bytes it has
(`binary_data_size`), and the header `Inference-Header-Content-Length` says where the JSON ends.

Knows nothing of connections.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .datatypes import Array, bytes_of, datatype_of, from_bytes, from_json, to_json
from .errors import BadTensor, NoAnswer

__all__ = ["Reply", "decode", "encode", "tensors_as_json"]

HEADER_LENGTH = "Inference-Header-Content-Length"


@dataclass(frozen=True)
class Reply:
    """A reply to `infer`, as it stood on the wire."""

    model: str
    version: str
    outputs: dict[str, Array]
    parameters: Mapping[str, Any]


def encode(
    inputs: Mapping[str, Any],
    parameters: Mapping[str, Any],
    outputs: Sequence[str] | None,
) -> tuple[bytes, dict[str, str]]:
    """The body of a request, and the headers that say how to read it."""
    described: list[dict[str, Any]] = []
    parts: list[bytes] = []
    for name, value in inputs.items():
        array = np.asarray(value)
        raw = bytes_of(array)
        parts.append(raw)
        described.append({**_head(name, array), "parameters": {"binary_data_size": len(raw)}})
    document: dict[str, Any] = {"inputs": described}
    document["parameters"] = {**parameters, "binary_data_output": True}
    if outputs is not None:
        document["outputs"] = [
            {"name": name, "parameters": {"binary_data": True}} for name in outputs
        ]
    head = json.dumps(document, allow_nan=False).encode()
    headers = {"Content-Type": "application/octet-stream", HEADER_LENGTH: str(len(head))}
    return b"".join((head, *parts)), headers


def tensors_as_json(inputs: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Inputs without binary data, as a queued job takes them."""
    arrays = {name: np.asarray(value) for name, value in inputs.items()}
    return [{**_head(name, array), "data": to_json(array)} for name, array in arrays.items()]


def decode(body: bytes, header_length: str | None) -> Reply:
    """The reply in a body. `header_length` is the reply's header of that name."""
    try:
        end = len(body) if header_length is None else int(header_length)
        document = json.loads(body[:end])
        if not 0 <= end <= len(body):
            raise ValueError(f"JSON of {end} bytes in a body of {len(body)}")
        outputs = _outputs(document["outputs"], memoryview(body)[end:])
        return Reply(
            model=str(document.get("model_name", "")),
            version=str(document.get("model_version", "")),
            outputs=outputs,
            parameters=document.get("parameters") or {},
        )
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise NoAnswer("bad_reply", f"a reply that is no answer: {error}", 200) from error


def _head(name: str, array: Array) -> dict[str, Any]:
    return {"name": name, "shape": list(array.shape), "datatype": datatype_of(array)}


def _outputs(described: list[dict[str, Any]], raw: memoryview) -> dict[str, Array]:
    outputs: dict[str, Array] = {}
    at = 0
    for tensor in described:
        name, datatype, shape = tensor["name"], tensor["datatype"], tensor["shape"]
        size = (tensor.get("parameters") or {}).get("binary_data_size")
        if size is None:
            outputs[name] = from_json(datatype, shape, tensor["data"])
            continue
        if not 0 <= size <= len(raw) - at:
            raise BadTensor(f"output {name!r}: {size} bytes, {len(raw) - at} are left")
        outputs[name] = from_bytes(datatype, shape, raw[at : at + size])
        at += size
    if at != len(raw):
        raise BadTensor(f"{len(raw) - at} bytes behind the last output")
    return outputs
