"""Trains the wine classifier and writes wine.onnx with its labels, a sample and the answers to it.

In:  scikit-learn's bundled wine data (178 wines, 13 measurements each; nothing is downloaded).
Out: wine.onnx, wine.labels.txt, sample.json, expected.json, beside this script.

    pip install -r requirements.txt
    python train.py
"""

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import RepeatedStratifiedKFold, cross_val_score, train_test_split
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

HERE = Path(__file__).resolve().parent
SEED = 7

# scikit-learn calls them class_0 to class_2; the names are those of the study behind the data (Forina
# et al., 1986), told apart by the counts 59, 71 and 48.
LABELS = ["barolo", "grignolino", "barbera"]


def main() -> None:
    data = load_wine()
    columns = [name.replace("/", "_") for name in data.feature_names]
    wines, cultivars = data.data.astype(np.float32), data.target
    train_wines, held_out_wines, train_cultivars, held_out_cultivars = train_test_split(
        wines, cultivars, test_size=0.3, stratify=cultivars, random_state=SEED
    )

    # C well below 1 keeps the probabilities away from 0 and 1 at no cost in accuracy.
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(C=0.1))
    folds = RepeatedStratifiedKFold(n_splits=10, n_repeats=10, random_state=SEED)
    scores = cross_val_score(pipeline, wines, cultivars, cv=folds)
    pipeline.fit(train_wines, train_cultivars)

    model = to_onnx(pipeline, columns)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, HERE / "wine.onnx")
    (HERE / "wine.labels.txt").write_text("\n".join(LABELS) + "\n")

    # From here on the written file is used, so that the numbers below are those of the export.
    session = onnxruntime.InferenceSession(HERE / "wine.onnx", providers=["CPUExecutionProvider"])

    def predict(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        feed = {name: rows[:, [column]] for column, name in enumerate(columns)}
        return session.run(["label", "probabilities"], feed)

    labels, probabilities = predict(held_out_wines)
    right = labels == held_out_cultivars

    # The sample: the first held-out wine of each cultivar.
    picked = [np.flatnonzero(held_out_cultivars == cultivar)[0] for cultivar in range(len(LABELS))]
    sample = held_out_wines[picked]
    sample_labels, sample_probabilities = predict(sample)
    inputs = [oip_tensor(name, sample[:, [column]]) for column, name in enumerate(columns)]
    outputs = [oip_tensor("label", sample_labels), oip_tensor("probabilities", sample_probabilities)]
    write_json("sample.json", "inputs", inputs)
    write_json("expected.json", "outputs", outputs)

    expected = pipeline.predict_proba(held_out_wines)
    print(f"10 x 10-fold cross-validation: {scores.mean():.2%}")
    print(f"held-out accuracy: {right.mean():.2%} ({right.sum()} of {len(right)})")
    print(f"largest difference to scikit-learn: {np.abs(probabilities - expected).max():.1e}")
    for label, row, truth in zip(sample_labels, sample_probabilities, held_out_cultivars[picked]):
        print(f"a {LABELS[truth]}: {LABELS[label]}", np.round(row, 4))


def to_onnx(pipeline: Pipeline, columns: list[str]) -> onnx.ModelProto:
    """One input for each column, so that no caller has to know their order; standardised inside."""
    scaler, classifier = pipeline[0], pipeline[1]
    weights = {
        "mean": scaler.mean_,
        "deviation": scaler.scale_,
        "weight": classifier.coef_.T,
        "bias": classifier.intercept_,
    }
    nodes = [
        helper.make_node("Concat", columns, ["features"], name="features", axis=1),
        helper.make_node("Sub", ["features", "mean"], ["centred"], name="centre"),
        helper.make_node("Div", ["centred", "deviation"], ["standardised"], name="standardise"),
        helper.make_node("Gemm", ["standardised", "weight", "bias"], ["scores"], name="scores"),
        helper.make_node("Softmax", ["scores"], ["probabilities"], name="softmax", axis=-1),
        helper.make_node("ArgMax", ["scores"], ["label"], name="label", axis=1, keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "wine",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 1]) for name in columns],
        [
            helper.make_tensor_value_info("label", TensorProto.INT64, ["batch"]),
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", len(LABELS)]),
        ],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    return helper.make_model(
        graph,
        producer_name="fuelbox-examples",
        ir_version=8,
        opset_imports=[helper.make_opsetid("", 17)],
        doc_string="The cultivar of an Italian wine from 13 measurements.",
    )


def oip_tensor(name: str, values: np.ndarray) -> dict:
    """A tensor as the Open Inference Protocol writes it, with the shortest digits that round-trip."""
    data = [float(str(value)) if values.dtype == np.float32 else int(value) for value in values.ravel()]
    datatype = {"float32": "FP32", "int64": "INT64"}[values.dtype.name]
    return {"name": name, "shape": list(values.shape), "datatype": datatype, "data": data}


def write_json(file: str, key: str, tensors: list[dict]) -> None:
    lines = ",\n".join("    " + json.dumps(tensor) for tensor in tensors)
    (HERE / file).write_text(f'{{\n  "{key}": [\n{lines}\n  ]\n}}\n')


if __name__ == "__main__":
    main()
