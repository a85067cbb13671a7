"""A host of its own for the tests: a data folder, `fuelbox serve` on it, accounts, models, keys.

In: the binary, an empty folder. Out: addresses and keys. What models answer is asked of `fuelbox run`,
which needs no server, so that each client's answer is compared with one that no client has touched.
"""

from __future__ import annotations

import json
import os
import subprocess
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"

# Publishes all models; and another, who has nothing to do with them.
PUBLISHER, RIVAL = "acme", "rival"
# Have money: the caller of all tests, and a stranger to it.
CALLER, STRANGER = "alice", "mallory"
# Has none.
BEGGAR = "ben"
# More than the price of a job with the default limits, which is held before it runs.
MONEY = "1000000"

STOP_S_MAX = 60

MODELS = ("digits", "wine", "encoder", "digits-image", "identity")


@dataclass
class Model:
    """A published model, one request for it, and what `fuelbox run` answers to that."""

    name: str
    version: str
    inputs: dict[str, np.ndarray]
    outputs: dict[str, np.ndarray]
    digest: str
    output_digest: str
    fuel: int


@dataclass
class Host:
    """A host that runs."""

    binary: Path
    folder: Path
    models: dict[str, Model] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    http: str = ""
    grpc: str = ""
    metrics: str = ""
    process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        return f"http://{self.http}"

    def cli(self, *arguments: object) -> str:
        """What the command prints."""
        command = [self.binary, "--data", self.folder / "data", "-q", *arguments]
        done = subprocess.run(
            [str(word) for word in command], capture_output=True, text=True, cwd=ROOT, check=False
        )
        assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def prepare(self, names: tuple[str, ...] = MODELS) -> None:
        """Accounts, money and models, before it serves."""
        for account in (PUBLISHER, RIVAL):
            self.cli("account", "create", account, "--kind", "publisher")
        for account in (CALLER, STRANGER, BEGGAR):
            self.cli("account", "create", account, "--kind", "caller")
        for account in (PUBLISHER, RIVAL, CALLER, STRANGER):
            self.cli("account", "top-up", account, MONEY)
        for name in names:
            getattr(self, f"add_{name.replace('-', '_')}")()

    def add_digits(self) -> None:
        folder = EXAMPLES / "digits"
        image, labels = folder / "seven.npy", folder / "digits.labels.txt"
        options = ("--labels", labels, "--golden", image)
        self.add("digits", {"image": np.load(image)}, folder / "digits.onnx", *options)

    def add_wine(self) -> None:
        folder = EXAMPLES / "wine"
        sample = json.loads((folder / "sample.json").read_text())["inputs"]
        inputs = {one["name"]: of_json(one) for one in sample}
        self.add("wine", inputs, folder / "wine.onnx", "--labels", folder / "wine.labels.txt")

    def add_encoder(self) -> None:
        folder = EXAMPLES / "encoder"
        tokens = folder / "tokens.npz"
        self.add("encoder", dict(np.load(tokens)), folder / "encoder.onnx", "--golden", tokens)

    def add_digits_image(self) -> None:
        folder = EXAMPLES / "digits"
        picture = (EXAMPLES / "digits-image/seven.png").read_bytes()
        assets = ("--asset", folder / "digits.onnx", "--asset", folder / "digits.labels.txt")
        inputs = {"image": np.array([picture], object)}
        self.add("digits-image", inputs, "--guest", "digits-image", *assets)

    def add_identity(self) -> None:
        from identity_model import identity_model

        path = self.folder / "identity.onnx"
        path.write_bytes(identity_model())
        package = self.pack("identity", path)
        found = json.loads(self.cli("inspect", package, "--json"))
        self.cli("publish", package, "--account", PUBLISHER)
        values = identity_values()
        outputs = {f"out_{name}": array for name, array in values.items()}
        self.models["identity"] = Model(
            "identity", "1.0.0", values, outputs, found["digest"], "", 0
        )  # fmt: skip

    def pack(self, name: str, *arguments: object, version: str = "1.0.0") -> Path:
        package = self.folder / f"{name}-{version}.fbx"
        self.cli("pack", *arguments, "--name", name, "--version", version, "-o", package)
        return package

    def add(self, name: str, inputs: dict[str, np.ndarray], *arguments: object) -> None:
        package = self.pack(name, *arguments)
        self.cli("publish", package, "--account", PUBLISHER)
        request = self.folder / f"{name}.json"
        request.write_text(json.dumps({"inputs": [as_json(n, a) for n, a in inputs.items()]}))
        if name == "digits-image":  # not UTF-8, so no JSON carries it
            request = EXAMPLES / "digits-image/seven.png"
        ran = json.loads(self.cli("run", package, "--input", request, "--json"))
        assert ran["verdict"] == "completed"
        digest = json.loads(self.cli("inspect", package, "--json"))["digest"]
        outputs = {one["name"]: of_json(one) for one in ran["outputs"]}
        self.models[name] = Model(
            name, "1.0.0", inputs, outputs, digest, ran["output_digest"], ran["fuel"]["run"]
        )

    def start(self) -> None:
        """Starts it on ports that are free, and gives each account a key."""
        command = [self.binary, "--data", self.folder / "data", "serve"]
        for port in ("--http", "--grpc", "--metrics"):
            command += [port, "127.0.0.1:0"]
        with (self.folder / "stderr").open("w") as stderr:
            self.process = subprocess.Popen(
                [str(word) for word in command],
                stdout=subprocess.PIPE,
                stderr=stderr,
                cwd=ROOT,
                text=True,
            )
        # It says where it listens when it does, and ends its output when it ends.
        said = dict(self.process.stdout.readline().rsplit(maxsplit=1) for _ in range(4))
        self.keys["operator"] = said["operator key:"]
        self.http, self.grpc, self.metrics = (said[name] for name in ("HTTP", "gRPC", "metrics"))
        for account in (CALLER, STRANGER, BEGGAR):
            self.keys[account] = self.new_key(account, ["caller"])["key"]
        for account in (PUBLISHER, RIVAL):
            self.keys[account] = self.new_key(account, ["publisher"])["key"]

    def stop(self) -> None:
        """Stops it as an operator would. It must end by itself, and well."""
        if self.process is None:
            return
        self.process.stdout.close()
        self.process.terminate()
        try:
            code = self.process.wait(STOP_S_MAX)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        assert code == 0, f"serve ended with {code}:\n{(self.folder / 'stderr').read_text()}"

    def new_key(self, account: str, scopes: list[str], **members: Any) -> dict[str, Any]:
        """A key of an account, as the operator makes it."""
        document = {"account": account, "scopes": scopes, **members}
        status, key = self.call("POST", "/api/v1/keys", document, key=self.keys["operator"])
        assert status == 201, key
        return key

    def new_signer(self, account: str) -> tuple[Path, str]:
        """A signing key of a publisher, as a PEM file, and its id with the host."""
        path = self.folder / f"signer-{len(list(self.folder.glob('signer-*')))}.pem"
        # mlserver's environment has no package for keys.
        openssl = ["openssl", "genpkey", "-algorithm", "ed25519", "-out", str(path)]
        subprocess.run(openssl, check=True, capture_output=True)
        public = ["openssl", "pkey", "-in", str(path), "-pubout"]
        pem = subprocess.run(public, check=True, capture_output=True, text=True).stdout
        document = {"public_key": pem}
        status, signer = self.call(
            "POST", "/api/v1/publisher-keys", document, key=self.keys[account]
        )
        assert status == 201, signer
        return path, signer["id"]

    def call(
        self, method: str, path: str, document: Any = None, *, key: str | None
    ) -> tuple[int, Any]:
        """A request without any client: its status, and the JSON of its body."""
        status, _, body = self.send(method, path, document, key=key)
        return status, json.loads(body) if body else None

    def send(
        self,
        method: str,
        path: str,
        document: Any = None,
        *,
        key: str | None,
        headers: dict[str, str] | None = None,
    ) -> tuple[int, dict[str, str], bytes]:
        """The same with headers in small letters, and the bytes of the body."""
        headers = dict(headers or {})
        if key is not None:
            headers["Authorization"] = f"Bearer {key}"
        body = document if isinstance(document, bytes) or document is None else None
        if document is not None and body is None:
            body = json.dumps(document).encode()
            headers.setdefault("Content-Type", "application/json")
        request = urllib.request.Request(
            self.url + path, data=body, headers=headers, method=method
        )  # fmt: skip
        try:
            with urllib.request.urlopen(request, timeout=60) as reply:
                return reply.status, lower(reply.headers), reply.read()
        except urllib.error.HTTPError as error:
            return error.code, lower(error.headers), error.read()


def lower(headers: Any) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def identity_values() -> dict[str, np.ndarray]:
    """The edges of every datatype."""
    values = {
        "bool": np.array([True, False, True]),
        "fp16": np.array([65504, -0.0, 6e-8], np.float16),
        "fp32": np.array([3.4028235e38, -0.1, 1e-45], np.float32),
        "fp64": np.array([1.7976931348623157e308, 0.1, 5e-324]),
        "bytes": np.array([b"", "näh".encode(), b"a b\n"], object),
    }
    for bits in (8, 16, 32, 64):
        values[f"uint{bits}"] = np.array([0, 1, 2**bits - 1], f"uint{bits}")
        values[f"int{bits}"] = np.array([-(2 ** (bits - 1)), -1, 2 ** (bits - 1) - 1], f"int{bits}")
    from identity_model import DATATYPES

    return {name: values[name] for name in DATATYPES}


NAMES = {
    np.dtype(np.bool_): "BOOL",
    np.dtype(np.float16): "FP16",
    np.dtype(np.float32): "FP32",
    np.dtype(np.float64): "FP64",
    np.dtype(object): "BYTES",
    **{np.dtype(f"{u}int{b}"): f"{u.upper()}INT{b}" for u in ("", "u") for b in (8, 16, 32, 64)},
}
DTYPES = {name: dtype for dtype, name in NAMES.items()}


def as_json(name: str, array: np.ndarray) -> dict[str, Any]:
    """A tensor as the protocol's JSON has it."""
    datatype = NAMES[array.dtype]
    flat = array.reshape(-1)
    if datatype == "BYTES":
        data = [one.decode("utf-8", "replace") for one in flat]
    else:
        data = flat.astype(np.float64).tolist() if datatype == "FP16" else flat.tolist()
    return {"name": name, "shape": list(array.shape), "datatype": datatype, "data": data}


def of_json(tensor: dict[str, Any]) -> np.ndarray:
    """The other way round."""
    dtype = DTYPES[tensor["datatype"]]
    data = tensor["data"]
    if dtype.kind == "O":
        data = [one.encode() for one in data]
    return np.array(data, dtype).reshape(tensor["shape"])


def same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    """That the tensors are the same to the bit."""
    assert list(found) == list(expected)
    for name, array in expected.items():
        other = np.asarray(found[name])
        assert other.shape == array.shape, name
        if array.dtype.kind == "O":
            assert other.reshape(-1).tolist() == array.reshape(-1).tolist(), name
        else:
            assert other.dtype == array.dtype, name
            assert other.tobytes() == array.tobytes(), name


def binary() -> Path:
    """The binary under test."""
    found = os.environ.get("FUELBOX_BIN")
    assert found, "FUELBOX_BIN is not set: run 'cargo xtask clients'"
    return Path(found)
