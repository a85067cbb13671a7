"""An ONNX model that answers what it is given, one input and output for each datatype.

Written by hand, field by field of onnx.proto: a package for it would be another one to keep in step.
"""

from __future__ import annotations

# Name of the tensor, which is the datatype's in lower case, and ONNX's number for it.
DATATYPES = {
    "bool": 9,
    "uint8": 2,
    "uint16": 4,
    "uint32": 12,
    "uint64": 13,
    "int8": 3,
    "int16": 5,
    "int32": 6,
    "int64": 7,
    "fp16": 10,
    "fp32": 1,
    "fp64": 11,
    "bytes": 8,
}


def identity_model() -> bytes:
    """`out_T = T` for each datatype T, all of them of shape `[n]`."""
    nodes = b"".join(
        _field(
            1, _field(1, name.encode()) + _field(2, f"out_{name}".encode()) + _field(4, b"Identity")
        )
        for name in DATATYPES
    )
    inputs = b"".join(_field(11, _value(name, code)) for name, code in DATATYPES.items())
    outputs = b"".join(_field(12, _value(f"out_{name}", code)) for name, code in DATATYPES.items())
    graph = nodes + _field(2, b"identity") + inputs + outputs
    opset = _number(2, 17)
    return _number(1, 8) + _field(7, graph) + _field(8, opset)


def _value(name: str, element_type: int) -> bytes:
    shape = _field(1, _field(2, b"n"))
    tensor = _number(1, element_type) + _field(2, shape)
    return _field(1, name.encode()) + _field(2, _field(1, tensor))


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _number(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 127:
        encoded.append(value & 127 | 128)
        value >>= 7
    return bytes(encoded + bytes([value]))
