"""Digests are those of docs/formats/digests.md."""

import numpy as np
import pytest

from fuelbox import BadTensor, digest_of_inputs, digest_of_outputs, digest_of_parameters

EXAMPLE = {"y": np.array([[1, 2]], np.float32)}
X = np.array([7], np.int64)


def test_the_example_of_the_format():
    expected = "sha256:ad646f79f2c554dc6d1676576579ffd426ac68b394d197beb52bbfb5b5dd41db"
    assert digest_of_outputs(EXAMPLE) == expected


def test_no_outputs():
    expected = "sha256:9b60583fffef86d29ce9fdaf746b1d7c315725f54be595eb6bb11350069c195b"
    assert digest_of_outputs({}) == expected


def test_no_parameters():
    # As the host's own test in runtime/engine/src/canonical.rs pins it.
    expected = "sha256:1ba551dfc406159a1c340eef05ace6e44f59353480098768e14bb49edad1c17c"
    assert digest_of_parameters({}) == expected


def test_inputs_and_outputs_have_domains_of_their_own():
    assert digest_of_inputs(EXAMPLE) != digest_of_outputs(EXAMPLE)


def test_the_order_is_the_models():
    both = {**EXAMPLE, "x": X}
    other = {"x": X, **EXAMPLE}
    assert digest_of_outputs(both) != digest_of_outputs(other)
    assert digest_of_outputs(other, ["y", "x"]) == digest_of_outputs(both)
    metadata = [{"name": "y", "datatype": "FP32"}, {"name": "x", "datatype": "INT64"}]
    assert digest_of_outputs(other, metadata) == digest_of_outputs(both)


@pytest.mark.parametrize("order", [["y"], ["y", "x", "z"], ["y", "y"]])
def test_an_order_of_other_names_is_refused(order):
    with pytest.raises(BadTensor, match="the model's order has"):
        digest_of_outputs({**EXAMPLE, "x": X}, order)


@pytest.mark.parametrize(
    "other",
    [
        {"z": EXAMPLE["y"]},
        {"y": EXAMPLE["y"].astype(np.float64)},
        {"y": EXAMPLE["y"].view(np.int32)},
        {"y": EXAMPLE["y"].reshape(2, 1)},
        {"y": EXAMPLE["y"].reshape(2)},
        {"y": EXAMPLE["y"] + 1},
    ],
)
def test_each_part_of_a_tensor_counts(other):
    assert digest_of_outputs(other) != digest_of_outputs(EXAMPLE)


def test_parameters_are_sorted_and_typed():
    given = {"b": 1, "a": "text", "d": 1.0, "c": True}
    assert digest_of_parameters(given) == digest_of_parameters(dict(sorted(given.items())))
    kinds = [{"a": True}, {"a": 1}, {"a": 1.0}, {"a": "1"}, {"a": -1}]
    assert len({digest_of_parameters(one) for one in kinds}) == len(kinds)
