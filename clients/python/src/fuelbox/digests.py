"""Digests: names of inputs, outputs and parameters, as docs/formats/digests.md has them.

In: arrays by name, in the model's order. Out: `sha256:` and 64 digits. A receipt has the same digest of
the same tensors, so whoever has both knows that they belong together.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping, Sequence
from typing import Any, Union

import numpy as np

from .datatypes import Array, bytes_of, datatype_of
from .errors import BadTensor

__all__ = ["Order", "Parameter", "digest_of_inputs", "digest_of_outputs", "digest_of_parameters"]

Parameter = Union[bool, int, float, str]
Order = Sequence[Union[str, Mapping[str, Any]]]
"""Names in the model's order; tensors of a model's metadata will do."""

# The guest ABI's codes (docs/formats/guest-abi.md). BF16 has none: no job takes it.
_CODES = {
    "BOOL": 1,
    "UINT8": 2,
    "UINT16": 3,
    "UINT32": 4,
    "UINT64": 5,
    "INT8": 6,
    "INT16": 7,
    "INT32": 8,
    "INT64": 9,
    "FP16": 10,
    "FP32": 11,
    "FP64": 12,
    "BYTES": 13,
}


def digest_of_outputs(outputs: Mapping[str, Array], order: Order | None = None) -> str:
    """Digest of all outputs of a job. Without `order`, the mapping has the model's order."""
    return _digest_of_tensors(b"fuelbox outputs 1", outputs, order)


def digest_of_inputs(inputs: Mapping[str, Array], order: Order | None = None) -> str:
    """Digest of all inputs of a job. Without `order`, the mapping has the model's order."""
    return _digest_of_tensors(b"fuelbox inputs 1", inputs, order)


def digest_of_parameters(parameters: Mapping[str, Parameter]) -> str:
    """Digest of the parameters that the model was given, which fuelbox' own are not among."""
    encoded = _field(b"fuelbox parameters 1") + _number(len(parameters))
    for name in sorted(parameters, key=str.encode):
        value = parameters[name]
        encoded += _field(name.encode())
        if isinstance(value, bool):
            encoded += _number(0) + _number(int(value))
        elif isinstance(value, int):
            encoded += _number(1) + struct.pack("<q", value)
        elif isinstance(value, float):
            encoded += _number(2) + struct.pack("<d", value)
        else:
            encoded += _number(3) + _field(value.encode())
    return f"sha256:{hashlib.sha256(encoded).hexdigest()}"


def _digest_of_tensors(domain: bytes, tensors: Mapping[str, Array], order: Order | None) -> str:
    hasher = hashlib.sha256(_field(domain) + _number(len(tensors)))
    for name in _names(tensors, order):
        array = np.asarray(tensors[name])
        code = _CODES.get(datatype_of(array))
        if code is None:
            raise BadTensor(f"tensor {name!r}: {datatype_of(array)} has no canonical encoding")
        hasher.update(_field(name.encode()) + _number(code) + _number(array.ndim))
        hasher.update(b"".join(_number(size) for size in array.shape))
        hasher.update(_field(bytes_of(array)))
    return f"sha256:{hasher.hexdigest()}"


def _names(tensors: Mapping[str, Array], order: Order | None) -> list[str]:
    if order is None:
        return list(tensors)
    names = [name if isinstance(name, str) else str(name["name"]) for name in order]
    if sorted(names) != sorted(tensors):
        raise BadTensor(f"tensors {sorted(tensors)}, the model's order has {names}")
    return names


def _number(value: int) -> bytes:
    return value.to_bytes(8, "little")


def _field(content: bytes) -> bytes:
    return _number(len(content)) + content
