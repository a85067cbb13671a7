"""Receipts: what a job was, used and cost, signed by the host (docs/formats/receipt.md).

In: the bytes of an envelope, and keys. Out: a `Receipt`, which there is none of without a signature
that holds. Needs no host: everything is checked here.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from .datatypes import Array
from .digests import (
    Order,
    Parameter,
    digest_of_inputs,
    digest_of_outputs,
    digest_of_parameters,
)
from .errors import Unproven
from .keys import Keys, base64_exactly, ring

__all__ = ["Envelope", "Receipt", "Usage", "verify"]

_PAYLOAD_TYPE = "application/vnd.in-toto+json"
_ENVELOPE_BYTES_MAX = 175_784
_STATEMENT_BYTES_MAX = 1 << 17
_U64_MAX = 2**64 - 1
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z")
_HEX = re.compile(r"[0-9a-f]{64}\Z")
_JOB = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")
_MICRO = Decimal("0.000001")

# The predicate, field by field: what each has to be.
_PREDICATE: dict[str, Any] = {
    "assets": [{"digest": "digest", "name": "text"}],
    "finished_unix_ms": "number",
    "format": "any",
    "guest": "digest",
    "image": "digest",
    "input": "digest",
    "job": "job",
    "limits": {
        "fuel": "number",
        "input_bytes": "number",
        "log_bytes": "number",
        "memory_bytes": "number",
        "output_bytes": "number",
    },
    "load": (None, {"credits_micro": "number", "fuel": "number"}),
    "package": "digest",
    "parameters": "digest",
    "payer": "text",
    "price": {
        "credits_micro": "number",
        "publisher_micro": "number",
        "schedule": "digest",
        "version": "number",
    },
    "profile": "digest",
    "publisher": "text",
    "replayable": "bool",
    "seed": "number",
    "usage": {"fuel": "number", "memory_bytes_peak": "number"},
    "verdict": {"kind": (None, "text"), "name": "text"},
}


@dataclass(frozen=True)
class Envelope:
    """A signed receipt as the host gave it: bytes, of which nothing is believed yet."""

    raw: bytes

    @property
    def digest(self) -> str:
        """Its entry in the log: `sha256:` and 64 digits."""
        return f"sha256:{hashlib.sha256(self.raw).hexdigest()}"


@dataclass(frozen=True)
class Usage:
    """What a run used."""

    fuel: int
    """Units of fuel, a load not included."""
    memory_bytes_peak: int
    """Linear memory at its largest."""


@dataclass(frozen=True)
class Receipt:
    """What the host signed. Comes from `verify` alone."""

    digest: str
    """Digest of the envelope: the receipt's entry in the log."""
    key_id: str
    """The key that signed."""
    output: str
    """Digest of the outputs."""
    predicate: Mapping[str, Any]
    """All fields, as docs/formats/receipt.md names them."""

    @property
    def job(self) -> str:
        """Name of the job."""
        return str(self.predicate["job"])

    @property
    def package(self) -> str:
        """Digest of the package."""
        return str(self.predicate["package"])

    @property
    def input(self) -> str:
        """Digest of the inputs."""
        return str(self.predicate["input"])

    @property
    def verdict(self) -> str:
        """How the job ended: `completed`, ..."""
        return str(self.predicate["verdict"]["name"])

    @property
    def seed(self) -> int:
        """Seed of the job's randomness."""
        return int(self.predicate["seed"])

    @property
    def usage(self) -> Usage:
        """What the run used."""
        usage = self.predicate["usage"]
        return Usage(int(usage["fuel"]), int(usage["memory_bytes_peak"]))

    @property
    def credits(self) -> Decimal:
        """All that the payer paid, in credits: the run, and a load where the job paid for one."""
        load = self.predicate["load"]
        micro = self.predicate["price"]["credits_micro"] + (load["credits_micro"] if load else 0)
        return Decimal(micro) * _MICRO

    def check_output(self, outputs: Mapping[str, Array], order: Order | None = None) -> None:
        """That these are the outputs of the receipt: all of them, in the model's order or in `order`.

        Raises `Unproven` where they are not.
        """
        self._check("outputs", self.output, digest_of_outputs(outputs, order))

    def check_input(self, inputs: Mapping[str, Array], order: Order | None = None) -> None:
        """That these are the inputs of the receipt. As `check_output`."""
        self._check("inputs", self.input, digest_of_inputs(inputs, order))

    def check_parameters(self, parameters: Mapping[str, Parameter]) -> None:
        """That these are the parameters that the model was given. As `check_output`."""
        self._check("parameters", self.predicate["parameters"], digest_of_parameters(parameters))

    def check_package(self, package: str) -> None:
        """That the job ran this package. As `check_output`."""
        self._check("package", self.package, package)

    def _check(self, what: str, receipt: str, found: str) -> None:
        if found != receipt:
            raise Unproven(f"{what} {found}, the receipt has {receipt}")


def verify(envelope: Envelope | bytes, keys: Keys) -> Receipt:
    """The receipt in an envelope that one of the keys has signed.

    Checks what docs/formats/receipt.md says that a reader checks, in that order, and raises
    `Unproven` for the first thing that is wrong.
    """
    raw = envelope.raw if isinstance(envelope, Envelope) else envelope
    document, payload, signature = _open(raw)
    key_id = document["signatures"][0]["keyid"]
    key = ring(keys).find(key_id)
    signed = f"DSSEv1 {len(_PAYLOAD_TYPE)} {_PAYLOAD_TYPE} {len(payload)} ".encode() + payload
    if not key.signed(signed, signature):
        raise Unproven(f"receipt: the signature by key {key_id} does not fit")
    output, predicate = _statement(payload)
    return Receipt(Envelope(raw).digest, key_id, output, predicate)


def _open(raw: bytes) -> tuple[dict[str, Any], bytes, bytes]:
    if len(raw) > _ENVELOPE_BYTES_MAX:
        raise Unproven(f"envelope: {len(raw)} bytes, allowed are {_ENVELOPE_BYTES_MAX}")
    document = _json(raw, "envelope")
    shape = {"payload": "any", "payloadType": "any", "signatures": [{"keyid": "hex", "sig": "any"}]}
    _fit(document, shape, "envelope")
    if document["payloadType"] != _PAYLOAD_TYPE:
        raise Unproven(f"envelope: payloadType is not {_PAYLOAD_TYPE!r}")
    if len(document["signatures"]) != 1:
        raise Unproven(f"envelope: {len(document['signatures'])} signatures, allowed is 1")
    payload = base64_exactly(document["payload"], "envelope: payload")
    signature = base64_exactly(document["signatures"][0]["sig"], "envelope: sig")
    _canonical(document, raw, "envelope")
    return document, payload, signature


def _statement(payload: bytes) -> tuple[str, dict[str, Any]]:
    if len(payload) > _STATEMENT_BYTES_MAX:
        raise Unproven(f"receipt: {len(payload)} bytes, allowed are {_STATEMENT_BYTES_MAX}")
    statement = _json(payload, "receipt")
    for found, allowed in (
        (statement.get("_type"), "https://in-toto.io/Statement/v1"),
        (statement.get("predicateType"), "https://fuelbox.dev/receipt/v1"),
    ):
        if found != allowed:
            raise Unproven(f"receipt: of type {str(found)[:80]!r}, allowed is {allowed!r}")
    predicate = statement.get("predicate")
    form = predicate.get("format") if isinstance(predicate, dict) else None
    if form != "fuelbox-receipt/1":
        raise Unproven(f"receipt: format {str(form)[:80]!r}, allowed is 'fuelbox-receipt/1'")
    subject = [{"digest": {"sha256": "hex"}, "name": "any"}]
    whole = {"_type": "any", "predicate": _PREDICATE, "predicateType": "any", "subject": subject}
    _fit(statement, whole, "receipt")
    subjects = statement["subject"]
    if len(subjects) != 1 or subjects[0]["name"] != "outputs":
        raise Unproven("receipt: its subject is not the outputs")
    _canonical(statement, payload, "receipt")
    return f"sha256:{subjects[0]['digest']['sha256']}", statement["predicate"]


def _json(raw: bytes, what: str) -> dict[str, Any]:
    try:
        document = json.loads(raw.decode())
    except (ValueError, RecursionError) as error:
        raise Unproven(f"{what}: not JSON") from error
    if not isinstance(document, dict):
        raise Unproven(f"{what}: not a JSON object")
    return document


def _canonical(document: dict[str, Any], raw: bytes, what: str) -> None:
    text = json.dumps(document, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    # Names are ASCII, so that code points and bytes have one order. A lone surrogate has no bytes.
    if text.encode("utf-8", "replace") != raw:
        raise Unproven(f"{what}: not in canonical form")


def _fit(found: Any, shape: Any, where: str) -> None:
    """That `found` has the fields of `shape`, all of them and no other."""
    if isinstance(shape, tuple):
        if found is not None:
            _fit(found, shape[1], where)
    elif isinstance(shape, list):
        if not isinstance(found, list):
            raise Unproven(f"{where}: not a list")
        for index, element in enumerate(found):
            _fit(element, shape[0], f"{where}[{index}]")
    elif isinstance(shape, dict):
        if not isinstance(found, dict):
            raise Unproven(f"{where}: not an object")
        if found.keys() != shape.keys():
            raise Unproven(f"{where}: fields {sorted(found)[:40]}, allowed are {sorted(shape)}")
        for name, inner in shape.items():
            _fit(found[name], inner, f"{where}.{name}")
    elif not _is(found, shape):
        raise Unproven(f"{where}: {str(found)[:80]!r} is no {shape}")


def _is(found: Any, kind: str) -> bool:
    if kind == "bool":
        return isinstance(found, bool)
    if kind == "number":
        return isinstance(found, int) and not isinstance(found, bool) and 0 <= found <= _U64_MAX
    if not isinstance(found, str):
        return False
    if kind == "text":
        # 1 to 256 bytes without control characters, C1 ones among them.
        fits = 1 <= len(found.encode("utf-8", "replace")) <= 256
        return fits and not re.search("[\x00-\x1f\x7f-\x9f]", found)
    patterns = {"digest": _DIGEST, "hex": _HEX, "job": _JOB}
    return kind == "any" or patterns[kind].match(found) is not None
