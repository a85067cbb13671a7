"""Makes the encoder example: a small transformer that turns token ids into sentence vectors.

In:  nothing but the seed. The weights are random at the scale of a trained network; nobody trained them.
Out: encoder.onnx, tokens.npz, expected.npz, beside this script.

    pip install -r requirements.txt
    python make.py

The answers in expected.npz are onnxruntime's. They are checked here against the same network in plain
numpy and double precision, which shares no code with the graph.
"""

import math
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

HERE = Path(__file__).resolve().parent
SEED = 7
OPSET = 17  # the first with LayerNormalization

VOCABULARY = 512
SEQUENCE_MAX = 128
HIDDEN = 64
HEADS = 4
HEAD_SIZE = HIDDEN // HEADS
FEED_FORWARD = 256
LAYERS = 2
EPSILON = 1e-5

# Added to the score of a masked token. Finite, so that a row with no token at all gives no NaN.
MASKED = -1e4

# Queries and keys are scaled up by this, so that attention prefers some tokens (a softmax over random
# scores of variance 1 is nearly flat) without choosing only one.
ATTENTION_SHARPNESS = 1.5


def main() -> None:
    weights = make_weights(np.random.default_rng(SEED))
    model = to_onnx(weights)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, HERE / "encoder.onnx")

    tokens = make_tokens(np.random.default_rng(SEED + 1))
    np.savez(HERE / "tokens.npz", **tokens)

    session = onnxruntime.InferenceSession(HERE / "encoder.onnx", providers=["CPUExecutionProvider"])
    names = ["last_hidden_state", "sentence"]
    expected = dict(zip(names, session.run(names, tokens)))
    np.savez(HERE / "expected.npz", **expected)

    for name, exact in zip(names, reference(weights, **tokens)):
        difference = np.abs(expected[name] - exact).max()
        print(f"{name}: largest difference to double precision {difference:.1e}")
        assert difference < 1e-5
    first, second = expected["sentence"]
    print(f"cosine of the two sentence vectors: {first @ second:.4f}")
    for row in expected["sentence"]:
        print("a sentence vector starts", " ".join(f"{value:.4f}" for value in row[:4]))


def make_weights(random: np.random.Generator) -> dict[str, np.ndarray]:
    """Every weight by name. Matrices have variance 1 / inputs, so activations keep their size."""

    def normal(*shape: int, deviation: float) -> np.ndarray:
        return random.normal(0.0, deviation, shape).astype(np.float32)

    def dense(name: str, inputs: int, outputs: int, gain: float = 1.0) -> dict[str, np.ndarray]:
        return {
            f"{name}.weight": normal(inputs, outputs, deviation=gain / math.sqrt(inputs)),
            f"{name}.bias": normal(outputs, deviation=0.02),
        }

    def norm(name: str) -> dict[str, np.ndarray]:
        return {
            f"{name}.scale": 1 + normal(HIDDEN, deviation=0.1),
            f"{name}.bias": normal(HIDDEN, deviation=0.1),
        }

    weights = {
        "embedding.token": normal(VOCABULARY, HIDDEN, deviation=1.0),
        "embedding.position": normal(SEQUENCE_MAX, HIDDEN, deviation=0.5),
        **norm("embedding.norm"),
    }
    for layer in range(LAYERS):
        weights |= dense(f"layer_{layer}.query", HIDDEN, HIDDEN, ATTENTION_SHARPNESS)
        weights |= dense(f"layer_{layer}.key", HIDDEN, HIDDEN, ATTENTION_SHARPNESS)
        weights |= dense(f"layer_{layer}.value", HIDDEN, HIDDEN)
        weights |= dense(f"layer_{layer}.attention", HIDDEN, HIDDEN)
        weights |= norm(f"layer_{layer}.attention_norm")
        weights |= dense(f"layer_{layer}.up", HIDDEN, FEED_FORWARD)
        weights |= dense(f"layer_{layer}.down", FEED_FORWARD, HIDDEN)
        weights |= norm(f"layer_{layer}.output_norm")
    return weights


def make_tokens(random: np.random.Generator) -> dict[str, np.ndarray]:
    """Two sentences of 12 and 8 tokens, the second one padded with token 0."""
    input_ids = random.integers(1, VOCABULARY, (2, 12), dtype=np.int64)
    attention_mask = np.ones((2, 12), np.int64)
    input_ids[1, 8:] = 0
    attention_mask[1, 8:] = 0
    return {"input_ids": input_ids, "attention_mask": attention_mask}


class Graph:
    """Collects nodes; every method adds one and returns the name of its output."""

    def __init__(self, weights: dict[str, np.ndarray]) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers = [numpy_helper.from_array(value, name) for name, value in weights.items()]

    def node(self, operator: str, inputs: list[str], output: str, **attributes) -> str:
        self.nodes.append(helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output

    def constant(self, name: str, value: np.ndarray | np.generic) -> str:
        if all(initializer.name != name for initializer in self.initializers):
            self.initializers.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def dense(self, x: str, name: str) -> str:
        product = self.node("MatMul", [x, f"{name}.weight"], f"{name}.product")
        return self.node("Add", [product, f"{name}.bias"], f"{name}.output")

    def norm(self, x: str, name: str) -> str:
        inputs = [x, f"{name}.scale", f"{name}.bias"]
        return self.node("LayerNormalization", inputs, f"{name}.output", axis=-1, epsilon=EPSILON)

    def heads(self, x: str, permutation: list[int]) -> str:
        """[batch, sequence, hidden] to [batch, head, ..] in the order of `permutation`."""
        shape = self.constant("heads.shape", np.array([0, 0, HEADS, HEAD_SIZE], np.int64))
        split = self.node("Reshape", [x, shape], f"{x}.split")
        return self.node("Transpose", [split], f"{x}.heads", perm=permutation)

    def attention(self, x: str, mask: str, layer: str) -> str:
        query = self.heads(self.dense(x, f"{layer}.query"), [0, 2, 1, 3])
        key = self.heads(self.dense(x, f"{layer}.key"), [0, 2, 3, 1])
        value = self.heads(self.dense(x, f"{layer}.value"), [0, 2, 1, 3])
        scale = self.constant("attention.scale", np.float32(1 / math.sqrt(HEAD_SIZE)))
        merged = self.constant("merged.shape", np.array([0, 0, HIDDEN], np.int64))

        scores = self.node("MatMul", [query, key], f"{layer}.scores")
        scores = self.node("Mul", [scores, scale], f"{layer}.scaled_scores")
        scores = self.node("Add", [scores, mask], f"{layer}.masked_scores")
        shares = self.node("Softmax", [scores], f"{layer}.shares", axis=-1)
        mixed = self.node("MatMul", [shares, value], f"{layer}.mixed")
        mixed = self.node("Transpose", [mixed], f"{layer}.mixed.transposed", perm=[0, 2, 1, 3])
        mixed = self.node("Reshape", [mixed, merged], f"{layer}.merged")
        return self.dense(mixed, f"{layer}.attention")

    def gelu(self, x: str) -> str:
        """x / 2 * (1 + erf(x / sqrt 2))"""
        root_half = self.constant("gelu.root_half", np.float32(math.sqrt(0.5)))
        one = self.constant("gelu.one", np.float32(1))
        half = self.constant("gelu.half", np.float32(0.5))
        scaled = self.node("Mul", [x, root_half], f"{x}.gelu.scaled")
        erf = self.node("Erf", [scaled], f"{x}.gelu.erf")
        gate = self.node("Add", [erf, one], f"{x}.gelu.gate")
        gated = self.node("Mul", [x, gate], f"{x}.gelu.gated")
        return self.node("Mul", [gated, half], f"{x}.gelu")


def to_onnx(weights: dict[str, np.ndarray]) -> onnx.ModelProto:
    graph = Graph(weights)
    zero = graph.constant("zero", np.array([0], np.int64))
    one = graph.constant("one", np.array([1], np.int64))
    last = graph.constant("last", np.array([-1], np.int64))
    both = graph.constant("both", np.array([1, 2], np.int64))

    # Embedding: a row per token, plus a row per position.
    token = graph.node("Gather", ["embedding.token", "input_ids"], "embedding.tokens", axis=0)
    shape = graph.node("Shape", ["input_ids"], "shape")
    two = graph.constant("two", np.array([2], np.int64))
    sequence = graph.node("Slice", [shape, one, two, zero], "sequence")
    position = graph.node("Slice", ["embedding.position", zero, sequence, zero], "embedding.positions")
    x = graph.node("Add", [token, position], "embedding.sum")
    x = graph.norm(x, "embedding.norm")

    # Mask: 0 where there is a token and MASKED where there is none, as [batch, 1, 1, sequence].
    present = graph.node("Cast", ["attention_mask"], "mask.present", to=TensorProto.FLOAT)
    absent = graph.node("Sub", [graph.constant("mask.one", np.float32(1)), present], "mask.absent")
    penalty = graph.node("Mul", [absent, graph.constant("mask.penalty", np.float32(MASKED))], "mask.scaled")
    mask = graph.node("Unsqueeze", [penalty, both], "mask")

    for index in range(LAYERS):
        layer = f"layer_{index}"
        attended = graph.attention(x, mask, layer)
        x = graph.norm(graph.node("Add", [x, attended], f"{layer}.attended"), f"{layer}.attention_norm")
        fed = graph.dense(graph.gelu(graph.dense(x, f"{layer}.up")), f"{layer}.down")
        x = graph.norm(graph.node("Add", [x, fed], f"{layer}.fed"), f"{layer}.output_norm")
    hidden = graph.node("Identity", [x], "last_hidden_state")

    # Sentence: the mean over the tokens that are there, brought to length 1.
    weight = graph.node("Unsqueeze", [present, last], "pool.weight")
    weighted = graph.node("Mul", [hidden, weight], "pool.weighted")
    total = graph.node("ReduceSum", [weighted, one], "pool.sum", keepdims=0)
    count = graph.node("ReduceSum", [weight, one], "pool.count", keepdims=0)
    count = graph.node("Max", [count, graph.constant("pool.one", np.float32(1))], "pool.count_min_1")
    mean = graph.node("Div", [total, count], "pool.mean")
    square = graph.node("Mul", [mean, mean], "pool.square")
    square = graph.node("ReduceSum", [square, last], "pool.square_sum", keepdims=1)
    length = graph.node("Sqrt", [square], "pool.root")
    length = graph.node("Max", [length, graph.constant("pool.tiny", np.float32(1e-12))], "pool.length")
    graph.node("Div", [mean, length], "sentence")

    info = helper.make_tensor_value_info
    model = helper.make_graph(
        graph.nodes,
        "encoder",
        [info(name, TensorProto.INT64, ["batch", "sequence"]) for name in ("input_ids", "attention_mask")],
        [
            info("last_hidden_state", TensorProto.FLOAT, ["batch", "sequence", HIDDEN]),
            info("sentence", TensorProto.FLOAT, ["batch", HIDDEN]),
        ],
        graph.initializers,
    )
    return helper.make_model(
        model,
        producer_name="fuelbox-examples",
        ir_version=8,
        opset_imports=[helper.make_opsetid("", OPSET)],
        doc_string="A transformer encoder with mean pooling. The weights are random.",
    )


def reference(
    weights: dict[str, np.ndarray], input_ids: np.ndarray, attention_mask: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The same network in numpy and double precision, written from the formulas."""
    w = {name: value.astype(np.float64) for name, value in weights.items()}
    present = attention_mask.astype(np.float64)
    erf = np.vectorize(math.erf)

    def dense(x: np.ndarray, name: str) -> np.ndarray:
        return x @ w[f"{name}.weight"] + w[f"{name}.bias"]

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        centred = x - x.mean(-1, keepdims=True)
        normalised = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + EPSILON)
        return normalised * w[f"{name}.scale"] + w[f"{name}.bias"]

    def attention(x: np.ndarray, layer: str) -> np.ndarray:
        split = (*x.shape[:2], HEADS, HEAD_SIZE)
        query, key, value = (dense(x, f"{layer}.{part}").reshape(split) for part in ("query", "key", "value"))
        scores = np.einsum("bqhd,bkhd->bhqk", query, key) / math.sqrt(HEAD_SIZE)
        powers = np.exp(scores + (1 - present[:, None, None, :]) * MASKED)
        shares = powers / powers.sum(-1, keepdims=True)
        return dense(np.einsum("bhqk,bkhd->bqhd", shares, value).reshape(x.shape), f"{layer}.attention")

    x = w["embedding.token"][input_ids] + w["embedding.position"][: input_ids.shape[1]]
    x = norm(x, "embedding.norm")
    for layer in (f"layer_{index}" for index in range(LAYERS)):
        x = norm(x + attention(x, layer), f"{layer}.attention_norm")
        up = dense(x, f"{layer}.up")
        x = norm(x + dense(up / 2 * (1 + erf(up * math.sqrt(0.5))), f"{layer}.down"), f"{layer}.output_norm")
    mean = (x * present[..., None]).sum(1) / present.sum(1, keepdims=True)
    return x, mean / np.linalg.norm(mean, axis=-1, keepdims=True)


if __name__ == "__main__":
    main()
