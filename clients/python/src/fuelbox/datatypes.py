"""Datatypes: NumPy arrays become the protocol's elements, and the other way round.

In: an array, or bytes with a datatype and a shape. Out: the other one. Elements are little-endian and
row-major; an element of BYTES stands behind its length as 4 bytes, little-endian.

Knows nothing of requests.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .errors import BadTensor

__all__ = ["Array", "bytes_of", "datatype_of", "from_bytes", "from_json", "to_json"]

Array = np.ndarray[Any, np.dtype[Any]]

_NUMPY = {
    "BOOL": np.dtype("?"),
    "UINT8": np.dtype("<u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("<i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}
_NAMES = {dtype: name for name, dtype in _NUMPY.items()}
_FLOATS = ("FP16", "BF16", "FP32", "FP64")
# Longest element that a 4-byte length can say.
_ELEMENT_BYTES_MAX = 2**32 - 1


def datatype_of(array: Array) -> str:
    """The protocol's name for what is in an array: `FP32`, `BYTES`, ...

    Arrays of `object`, `S` and `U` are BYTES.
    """
    kind = array.dtype.kind
    if kind in "OSU":
        return "BYTES"
    # NumPy sees a foreign type (ml_dtypes) as void bytes with a name.
    if array.dtype.name == "bfloat16":
        return "BF16"
    name = _NAMES.get(array.dtype.newbyteorder("<"))
    if name is None:
        raise BadTensor(
            f"dtype {array.dtype}, allowed are the protocol's: {', '.join(_NUMPY)}, BYTES"
        )
    return name


def bytes_of(array: Array) -> bytes:
    """The elements of an array."""
    datatype = datatype_of(array)
    if datatype == "BYTES":
        return b"".join(
            len(element).to_bytes(4, "little") + element for element in _byte_elements(array)
        )
    dtype = array.dtype if datatype == "BF16" else _NUMPY[datatype]
    return array.astype(dtype, copy=False).tobytes(order="C")


def from_bytes(datatype: str, shape: Sequence[int], raw: bytes | memoryview) -> Array:
    """An array of its own memory with these elements.

    BYTES become an array of `bytes` objects.
    """
    count = math.prod(shape)
    if datatype == "BYTES":
        return _objects(_split(raw, count), shape)
    dtype = _numpy_of(datatype)
    needed = count * dtype.itemsize
    if len(raw) != needed:
        raise BadTensor(f"{len(raw)} bytes, {datatype} of shape {list(shape)} has {needed}")
    array = np.frombuffer(raw, dtype=dtype).reshape(tuple(shape)).copy()
    if datatype == "BOOL" and array.view(np.uint8).max(initial=0) > 1:
        raise BadTensor("a BOOL that is neither 0 nor 1")
    return array


def to_json(array: Array) -> list[Any]:
    """The elements as a flat list that JSON can carry."""
    datatype = datatype_of(array)
    if datatype == "BYTES":
        try:
            return [element.decode() for element in _byte_elements(array)]
        except UnicodeDecodeError as error:
            raise BadTensor("an element of BYTES that is not UTF-8, JSON has text alone") from error
    if datatype in _FLOATS:
        # A double has every float's value; JSON has no NaN and no infinity.
        wide = array.astype(np.float64)
        if not np.isfinite(wide).all():
            raise BadTensor("NaN or infinity, JSON has neither: binary data carries them")
        return list(wide.reshape(-1).tolist())
    return list(array.reshape(-1).tolist())


def from_json(datatype: str, shape: Sequence[int], data: object) -> Array:
    """An array of JSON elements, flat or nested as the shape says."""
    flat: list[Any] = []
    _flatten(data, flat, len(shape) + 1)
    if len(flat) != math.prod(shape):
        raise BadTensor(f"{len(flat)} elements, shape {list(shape)} has {math.prod(shape)}")
    if datatype == "BYTES":
        if not all(isinstance(element, str) for element in flat):
            raise BadTensor("an element of BYTES that is no string")
        return _objects([element.encode() for element in flat], shape)
    dtype = _numpy_of(datatype)
    allowed: tuple[type, ...] = (bool,) if datatype == "BOOL" else (int,)
    if datatype in _FLOATS:
        allowed = (int, float)
    for element in flat:
        if not isinstance(element, allowed) or (datatype != "BOOL" and isinstance(element, bool)):
            raise BadTensor(f"{element!r} is no {datatype}")
    try:
        return np.array(flat, dtype=dtype).reshape(tuple(shape))
    except OverflowError as error:
        raise BadTensor(f"a number that is no {datatype}: {error}") from error


def _numpy_of(datatype: str) -> np.dtype[Any]:
    if datatype == "BF16":
        try:
            import ml_dtypes
        except ImportError as error:
            raise BadTensor(
                "BF16 needs the package ml_dtypes: pip install fuelbox[bf16]"
            ) from error
        bfloat16: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
        return bfloat16
    try:
        return _NUMPY[datatype]
    except KeyError:
        raise BadTensor(f"datatype {datatype!r}, which the protocol does not have") from None


def _byte_elements(array: Array) -> list[bytes]:
    elements: list[bytes] = []
    for element in array.reshape(-1).tolist():
        if isinstance(element, str):
            element = element.encode()
        if not isinstance(element, (bytes, bytearray, memoryview)):
            raise BadTensor(f"an element of {type(element).__name__}, allowed are bytes and str")
        if len(element) > _ELEMENT_BYTES_MAX:
            raise BadTensor(f"an element of {len(element)} bytes, allowed are {_ELEMENT_BYTES_MAX}")
        elements.append(bytes(element))
    return elements


def _split(raw: bytes | memoryview, count: int) -> list[bytes]:
    elements: list[bytes] = []
    at = 0
    while at < len(raw):
        end = at + 4
        end += int.from_bytes(raw[at:end], "little")
        if end > len(raw):
            raise BadTensor("an element of BYTES that ends behind its tensor")
        elements.append(bytes(raw[at + 4 : end]))
        at = end
    if len(elements) != count:
        raise BadTensor(f"{len(elements)} elements of BYTES, the shape has {count}")
    return elements


def _objects(elements: Sequence[bytes], shape: Sequence[int]) -> Array:
    array = np.empty(len(elements), dtype=object)
    # One by one: NumPy would look into the elements.
    for index, element in enumerate(elements):
        array[index] = element
    return array.reshape(tuple(shape))


def _flatten(data: object, flat: list[Any], depth_max: int) -> None:
    if not isinstance(data, list):
        flat.append(data)
        return
    if depth_max == 0:
        raise BadTensor("data is nested deeper than its shape")
    for element in data:
        _flatten(element, flat, depth_max - 1)
