"""Arrays become elements and come back; what the protocol cannot carry is refused."""

import numpy as np
import pytest

from fuelbox import BadTensor
from fuelbox.datatypes import bytes_of, datatype_of, from_bytes, from_json, to_json

ARRAYS = {
    "BOOL": np.array([[True, False]]),
    "UINT8": np.array([0, 255], np.uint8),
    "UINT16": np.array([0, 65535], np.uint16),
    "UINT32": np.array([0, 2**32 - 1], np.uint32),
    "UINT64": np.array([0, 2**64 - 1], np.uint64),
    "INT8": np.array([-128, 127], np.int8),
    "INT16": np.array([-(2**15), 2**15 - 1], np.int16),
    "INT32": np.array([-(2**31), 2**31 - 1], np.int32),
    "INT64": np.array([-(2**63), 2**63 - 1], np.int64),
    "FP16": np.array([65504.0, -0.1], np.float16),
    "FP32": np.array([0.1, 3.4028235e38], np.float32),
    "FP64": np.array([0.1, 1.7976931348623157e308]),
    "BYTES": np.array([b"", "näh".encode(), b"\n"], object),
}
SHAPES = [(), (0,), (3, 0), (1,), (2, 3), (1, 2, 3)]


@pytest.mark.parametrize("datatype", ARRAYS)
def test_elements_come_back_as_they_were_in_both_forms(datatype):
    array = ARRAYS[datatype]
    assert datatype_of(array) == datatype
    for back in (
        from_bytes(datatype, array.shape, bytes_of(array)),
        from_json(datatype, array.shape, to_json(array)),
    ):
        assert back.dtype == array.dtype
        assert back.tolist() == array.tolist()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("datatype", ["FP32", "BYTES"])
def test_any_shape_comes_back(datatype, shape):
    count = int(np.prod(shape))
    flat = np.array([b"%d" % n for n in range(count)], object)
    if datatype == "FP32":
        flat = np.arange(count, dtype=np.float32)
    array = flat.reshape(shape)
    assert from_bytes(datatype, shape, bytes_of(array)).tolist() == array.tolist()
    assert from_json(datatype, shape, to_json(array)).tolist() == array.tolist()


def test_memory_order_and_byte_order_make_no_difference():
    array = np.arange(6, dtype="<f4").reshape(2, 3)
    assert bytes_of(np.asfortranarray(array)) == bytes_of(array)
    assert bytes_of(array.astype(">f4")) == bytes_of(array)
    assert bytes_of(array[:, ::2]) == bytes_of(array[:, ::2].copy())


def test_bytes_stand_behind_their_length_and_text_is_utf_8():
    assert bytes_of(np.array([b"ab", "ä"], object)) == b"\2\0\0\0ab\2\0\0\0\xc3\xa4"
    assert bytes_of(np.array(["ä"])) == b"\2\0\0\0\xc3\xa4"
    assert bytes_of(np.array([b"ab"])) == b"\2\0\0\0ab"


def test_bytes_that_hold_nul_come_back_whole():
    array = from_bytes("BYTES", [1], b"\3\0\0\0a\0\0")
    assert array.dtype == object
    assert array.tolist() == [b"a\0\0"]


def test_bf16_comes_back_where_ml_dtypes_is_there():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    array = np.array([1.5, -2.0], ml_dtypes.bfloat16)
    assert datatype_of(array) == "BF16"
    assert bytes_of(array) == b"\xc0\x3f\x00\xc0"
    assert from_bytes("BF16", [2], bytes_of(array)).tolist() == [1.5, -2.0]
    assert to_json(array) == [1.5, -2.0]


def test_an_answer_can_be_written_to():
    array = from_bytes("FP32", [1], b"\0\0\0\0")
    array[0] = 1
    assert array[0] == 1


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: datatype_of(np.array([1j])), "dtype complex128, allowed are the protocol's"),
        (lambda: bytes_of(np.array([1], object)), "an element of int, allowed are bytes and str"),
        (lambda: from_bytes("FP32", [2], b"\0" * 7), "7 bytes, FP32 of shape [2] has 8"),
        (lambda: from_bytes("BOOL", [1], b"\2"), "a BOOL that is neither 0 nor 1"),
        (lambda: from_bytes("BYTES", [1], b"\5\0\0\0a"), "an element of BYTES that ends behind"),
        (lambda: from_bytes("BYTES", [1], b"\0\0"), "an element of BYTES that ends behind"),
        (lambda: from_bytes("BYTES", [2], b"\0\0\0\0"), "1 elements of BYTES, the shape has 2"),
        (lambda: from_bytes("FP8", [1], b"\0"), "datatype 'FP8', which the protocol does not have"),
        (lambda: to_json(np.array([np.nan])), "NaN or infinity, JSON has neither"),
        (lambda: to_json(np.array([np.inf], np.float16)), "NaN or infinity, JSON has neither"),
        (lambda: to_json(np.array([b"\xff"], object)), "an element of BYTES that is not UTF-8"),
        (lambda: from_json("FP32", [2], [1.0]), "1 elements, shape [2] has 2"),
        (lambda: from_json("INT8", [1], [1.5]), "1.5 is no INT8"),
        (lambda: from_json("INT8", [1], [True]), "True is no INT8"),
        (lambda: from_json("BOOL", [1], [1]), "1 is no BOOL"),
        (lambda: from_json("INT8", [1], [128]), "a number that is no INT8"),
        (lambda: from_json("FP32", [1], [[[1.0]]]), "data is nested deeper than its shape"),
    ],
)
def test_what_is_no_tensor_is_refused(call, sentence):
    with pytest.raises(BadTensor) as refused:
        call()
    assert sentence in refused.value.sentence
