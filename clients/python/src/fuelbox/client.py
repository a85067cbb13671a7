"""The client: a host's models and jobs as methods.

In: arrays and names. Out: values of `answers`, or a `FuelboxError`. Nothing that a host says is believed
where there is a proof for it: `verify`, `verify_proof` and the methods of `Receipt` check.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any
from urllib.parse import quote

import numpy as np

from . import answers, package, uploads, wire
from .answers import Inference, Job
from .digests import Parameter
from .errors import FuelboxError, NoAnswer
from .keys import KeyRing
from .log import InclusionProof
from .receipt import Envelope
from .transport import Transport

__all__ = ["Client"]

# Longest that a host keeps a request open for a job that is under way.
_WAIT_S_MAX = 60


class Client:
    """A connection to one host. May be used by several threads at once.

    `url` is where it listens (`https://fuelbox.example`), `key` an access key (`fbx_...`).
    `timeout` is seconds for one reply, `retries` how often a request is sent again when the host
    is busy or the connection breaks.
    """

    def __init__(
        self,
        url: str,
        key: str | None = None,
        *,
        timeout: float = 60.0,
        retries: int = 4,
    ) -> None:
        self._transport = Transport(url, key, timeout, retries)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes its connections."""
        self._transport.close()

    # What there is.

    def ready(self) -> bool:
        """Whether the host takes jobs. A host that does not answer is not ready."""
        try:
            answer = self._transport.send("GET", "/v2/health/ready")
        except NoAnswer:
            return False
        except FuelboxError as error:
            if error.status == 503:
                return False
            raise
        return answer.status == 200

    def models(self) -> list[dict[str, Any]]:
        """Name, version and state of all models that the key may use."""
        found = self._transport.send("POST", "/v2/repository/index").json()
        return list(found)

    def metadata(self, model: str, version: str | None = None) -> dict[str, Any]:
        """Inputs and outputs of a model, in its order, with datatypes and shapes; -1 is any size."""
        return self._transport.send("GET", _model_path(model, version)).object()

    # Jobs that are waited for.

    def infer(
        self,
        model: str,
        inputs: Mapping[str, Any],
        version: str | None = None,
        parameters: Mapping[str, Parameter] | None = None,
        outputs: Sequence[str] | None = None,
        seed: int | None = None,
        fuel_limit: int | None = None,
        deadline_ms: int | None = None,
        idempotency_key: str | None = None,
    ) -> Inference:
        """Runs a model on arrays and waits for the answer.

        `inputs` are NumPy arrays, or what `numpy.asarray` takes, by name. `outputs` names those that are
        wanted; all of them when it is None. `fuel_limit` is the most fuel of the run, of which the
        price is held before it.

        However often the request has to be sent, it is one job with one bill: it has an idempotency
        key, which is made here when none is given. Give one to ask again later.
        """
        headers = {"Idempotency-Key": idempotency_key or str(uuid.uuid4())}
        limits = (("Seed", seed), ("Fuel-Limit", fuel_limit), ("Deadline-Ms", deadline_ms))
        for name, value in limits:
            if value is not None:
                headers[f"Fuelbox-{name}"] = str(int(value))
        body, about = wire.encode(inputs, parameters or {}, outputs)
        answer = self._transport.send(
            "POST", _model_path(model, version) + "/infer", headers={**headers, **about}, body=body
        )
        return answers.inference(answer)

    # Jobs that are come back for.

    def submit(
        self,
        model: str,
        inputs: Mapping[str, Any],
        version: str | None = None,
        parameters: Mapping[str, Parameter] | None = None,
        seed: int | None = None,
        fuel_limit: int | None = None,
        deadline_ms: int | None = None,
        priority: int | None = None,
        webhook: str | None = None,
        idempotency_key: str | None = None,
    ) -> Job:
        """Queues a job and returns at once. As `infer`; the job is on disk when this returns.

        Inputs travel as JSON, which has neither NaN nor bytes that are not UTF-8.
        """
        document: dict[str, Any] = {"model": model, "inputs": wire.tensors_as_json(inputs)}
        optional = {
            "version": version,
            "parameters": dict(parameters) if parameters else None,
            "seed": seed,
            "limits": None if fuel_limit is None else {"fuel": fuel_limit},
            "deadline_ms": deadline_ms,
            "priority": priority,
            "webhook": None if webhook is None else {"url": webhook},
        }
        document.update((name, value) for name, value in optional.items() if value is not None)
        headers = {"Idempotency-Key": idempotency_key or str(uuid.uuid4())}
        return answers.job(
            self._transport.send("POST", "/api/v1/jobs", headers=headers, json=document)
        )

    def job(self, job: str) -> Job:
        """How a job is."""
        return answers.job(self._transport.send("GET", _job_path(job)))

    def wait(self, job: str, timeout: float | None = None) -> Job:
        """The job when it has ended, or as it is after `timeout` seconds."""
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            left = _WAIT_S_MAX if end is None else max(0.0, end - time.monotonic())
            wait_s = min(_WAIT_S_MAX, int(np.ceil(left)))
            found = answers.job(
                self._transport.send(
                    "GET", _job_path(job), query={"wait_s": wait_s}, extra_wait_s=wait_s
                )
            )
            if found.final or (end is not None and time.monotonic() >= end):
                return found

    def result(self, job: str) -> Inference:
        """The answer of a job that has succeeded. One that failed raises `ModelError`."""
        # As binary data: JSON has neither NaN nor bytes that are not UTF-8.
        path, query = _job_path(job) + "/result", {"binary": "true"}
        return answers.inference(self._transport.send("GET", path, query=query))

    def cancel(self, job: str) -> Job:
        """Ends a job that waits or runs."""
        return answers.job(self._transport.send("POST", _job_path(job) + "/cancel"))

    # Proof and money.

    def receipt(self, job: str) -> Envelope:
        """The signed receipt of a job, for `fuelbox.verify`."""
        return Envelope(self._transport.send("GET", _job_path(job) + "/receipt").body)

    def proof(self, job: str) -> InclusionProof:
        """That the job's receipt is in the host's log, for `fuelbox.verify_proof`."""
        found = self._transport.send("GET", _job_path(job) + "/proof").object()
        try:
            hashes = [_hash(text) for text in found["hashes"]]
            return InclusionProof(int(found["index"]), hashes, str(found["checkpoint"]))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise NoAnswer("bad_reply", f"a reply that is no proof: {error}", 200) from error

    def keys(self) -> KeyRing:
        """The host's public keys, as the host itself says.

        Keep them, or get them from elsewhere: a host that lies about a receipt can lie about
        its keys, but not to all of its callers at once without being found out.
        """
        return KeyRing.from_pem(self._transport.send("GET", "/api/v1/log/keys").body)

    def account(self) -> dict[str, Any]:
        """The key's account: `balance`, `held` and `available`, in credits as decimal text."""
        return self._transport.send("GET", "/api/v1/account").object()

    def usage(self, by: str = "package", since: str | None = None) -> Any:
        """Jobs, fuel and credits, by `package` or `account`, since a time (RFC 3339)."""
        return self._transport.send("GET", "/api/v1/usage", query={"by": by, "since": since}).json()

    # Publishing.

    def push(
        self,
        path: str | os.PathLike[str],
        signing_key: package.SigningKey | None = None,
        visibility: str | None = None,
        load_fuel: int | None = None,
        upload: str | None = None,
    ) -> dict[str, Any]:
        """Publishes a package file, in parts that go on where a broken connection left them.

        `signing_key` is the Ed25519 key of a publisher (PEM, or a path), which signs the package's name
        and digest; it needs `pip install fuelbox[push]`. `visibility` is `public` or `private`.
        `upload` goes on with what an `UploadBroken` left.
        """
        document: dict[str, Any] = {}
        if signing_key is not None:
            # Before minutes are spent on an upload that could not be signed.
            document["signature"] = package.sign(package.identity(path), signing_key)
        if visibility is not None:
            document["visibility"] = visibility
        if load_fuel is not None:
            document["load_fuel"] = load_fuel
        document["upload"] = uploads.upload(self._transport, path, upload)
        return self._transport.send("POST", "/api/v1/packages", json=document).object()


def _model_path(model: str, version: str | None) -> str:
    path = f"/v2/models/{quote(model, safe='')}"
    return path if version is None else f"{path}/versions/{quote(version, safe='')}"


def _job_path(job: str) -> str:
    return f"/api/v1/jobs/{quote(job, safe='')}"


def _hash(text: str) -> bytes:
    raw = bytes.fromhex(text.removeprefix("sha256:"))
    if len(raw) != 32 or not text.startswith("sha256:"):
        raise ValueError(f"{text[:80]!r} is no digest")
    return raw
