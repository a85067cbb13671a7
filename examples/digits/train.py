"""Trains the digits classifier and writes digits.onnx with its labels and inputs.

In:  scikit-learn's bundled digits (1,797 scans of 8x8 pixels, values 0 to 16; nothing is downloaded).
Out: digits.onnx, digits.labels.txt, seven.npy, batch.npy, beside this script.

    pip install -r requirements.txt
    python train.py

The split and the weights are seeded: on one machine every run writes the same bytes. On another CPU sums
may differ in their last bits, which gives a model as good as this one, but not the same.
"""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from threadpoolctl import threadpool_limits

HERE = Path(__file__).resolve().parent
SEED = 7
PIXEL_MAX = 16.0
LABELS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]

# Sum of squared weights in the loss. Without it the softmax saturates: most answers are 1.0 to seven
# digits, and comparing such outputs would hide errors in the network.
WEIGHT_DECAY = 1.0


def main() -> None:
    images, digits = load_digits(return_X_y=True)
    images = images.astype(np.float32)
    train_images, held_out_images, train_digits, held_out_digits = train_test_split(
        images, digits, test_size=0.25, stratify=digits, random_state=SEED
    )

    network = MLPClassifier((96, 48), alpha=WEIGHT_DECAY, max_iter=2000, random_state=SEED)
    # On one thread, as the order of the sums must not depend on the number of cores.
    with threadpool_limits(limits=1):
        network.fit(train_images / PIXEL_MAX, train_digits)

    model = to_onnx(network)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, HERE / "digits.onnx")
    (HERE / "digits.labels.txt").write_text("\n".join(LABELS) + "\n")

    # From here on the written file is used, so that the numbers below are those of the export.
    session = onnxruntime.InferenceSession(HERE / "digits.onnx", providers=["CPUExecutionProvider"])
    (probabilities,) = session.run(None, {"image": held_out_images})
    right = probabilities.argmax(axis=1) == held_out_digits

    seven = np.flatnonzero(right & (held_out_digits == 7))[0]
    np.save(HERE / "seven.npy", held_out_images[seven : seven + 1])
    np.save(HERE / "batch.npy", held_out_images[:8])

    expected = network.predict_proba(held_out_images / PIXEL_MAX)
    print(f"trained on {len(train_images)} images, {network.n_iter_} epochs")
    print(f"held-out accuracy: {right.mean():.2%} ({right.sum()} of {len(right)})")
    print(f"largest difference to scikit-learn: {np.abs(probabilities - expected).max():.1e}")
    print(f"top probability, median: {np.median(probabilities.max(axis=1)):.4f}")
    print("seven.npy:", top_classes(probabilities[seven]))
    for row in range(8):
        print(f"batch.npy row {row}, a {LABELS[held_out_digits[row]]}:", top_classes(probabilities[row]))


def to_onnx(network: MLPClassifier) -> onnx.ModelProto:
    """Dense layers with ReLU between them, and a softmax at the end; pixels are scaled inside."""
    weights = [numpy_helper.from_array(np.float32(1 / PIXEL_MAX), "pixel_scale")]
    nodes = [helper.make_node("Mul", ["image", "pixel_scale"], ["scaled"], name="scale")]
    previous = "scaled"
    last = len(network.coefs_) - 1
    for layer, (weight, bias) in enumerate(zip(network.coefs_, network.intercepts_)):
        weights += [
            numpy_helper.from_array(weight.astype(np.float32), f"dense_{layer}.weight"),
            numpy_helper.from_array(bias.astype(np.float32), f"dense_{layer}.bias"),
        ]
        dense = [previous, f"dense_{layer}.weight", f"dense_{layer}.bias"]
        nodes.append(helper.make_node("Gemm", dense, [f"dense_{layer}"], name=f"dense_{layer}"))
        previous = f"dense_{layer}"
        if layer < last:
            nodes.append(helper.make_node("Relu", [previous], [f"relu_{layer}"], name=f"relu_{layer}"))
            previous = f"relu_{layer}"
    nodes.append(helper.make_node("Softmax", [previous], ["probabilities"], name="softmax", axis=-1))

    graph = helper.make_graph(
        nodes,
        "digits",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 64])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 10])],
        weights,
    )
    return helper.make_model(
        graph,
        producer_name="fuelbox-examples",
        ir_version=8,
        opset_imports=[helper.make_opsetid("", 17)],
        doc_string="Handwritten digits, 8x8 pixels with values 0 to 16, row by row.",
    )


def top_classes(probabilities: np.ndarray) -> str:
    order = probabilities.argsort()[::-1][:3]
    return ", ".join(f"{LABELS[index]} {probabilities[index]:.4f}" for index in order)


if __name__ == "__main__":
    main()
