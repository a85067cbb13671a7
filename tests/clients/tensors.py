"""What tests of tritonclient's four clients share: requests, and what answers have to be."""

from __future__ import annotations

from typing import Any

import numpy as np
from host import NAMES, Model

# Infinity and NaN have no JSON; binary data carries them.
NOT_JSON = np.array([np.inf, -np.inf, np.nan], np.float32)


def inputs_of(module: Any, model: Model, **options: Any) -> list[Any]:
    """The model's inputs as the module's InferInputs."""
    return [input_of(module, name, array, **options) for name, array in model.inputs.items()]


def input_of(module: Any, name: str, array: np.ndarray, **options: Any) -> Any:
    tensor = module.InferInput(name, list(array.shape), NAMES[array.dtype])
    tensor.set_data_from_numpy(array, **options)
    return tensor


def outputs_of(result: Any, model: Model) -> dict[str, np.ndarray]:
    """All outputs of an answer, which names no other, in the model's order."""
    response = result.get_response()
    tensors = response["outputs"] if isinstance(response, dict) else response.outputs
    names = [one["name"] if isinstance(one, dict) else one.name for one in tensors]
    assert names == list(model.outputs)
    return {name: bytes_again(result.as_numpy(name)) for name in names}


def bytes_again(array: np.ndarray) -> np.ndarray:
    """BYTES as bytes: out of JSON, the clients give text."""
    if array.dtype.kind not in "OUS":
        return array
    again = np.empty(array.size, object)
    for index, one in enumerate(array.reshape(-1)):
        again[index] = one.encode() if isinstance(one, str) else one
    return again.reshape(array.shape)


DIGITS_INPUTS = [{"name": "image", "datatype": "FP32", "shape": [-1, 64]}]
DIGITS_OUTPUTS = [{"name": "probabilities", "datatype": "FP32", "shape": [-1, 10]}]
# examples/wine/README.md: the likeliest class of each wine.
WINE_CLASSES = [("0", "barolo", 0.9393), ("1", "grignolino", 0.6169), ("2", "barbera", 0.9310)]


def check_classes(found: np.ndarray) -> None:
    """That a classification of the wine example is right: `VALUE:INDEX:LABEL`, the likeliest first."""
    assert found.shape == (3, 2)
    for row, (index, label, value) in zip(found, WINE_CLASSES):
        first, second = (one.decode().split(":") for one in bytes_again(row))
        assert first[1:] == [index, label]
        assert abs(float(first[0]) - value) < 1e-4
        assert float(second[0]) < float(first[0])
