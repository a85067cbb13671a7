"""Answers: what a host says of jobs, as values with types.

In: a reply of `transport`. Out: an `Inference`, a `Job`. Fields that a later host adds stay in
`Job.fields`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from . import wire
from .datatypes import Array
from .errors import Bill, bill_of, credits_of, whole_of
from .transport import Answer

__all__ = ["FINAL", "Inference", "Job", "inference", "job"]

FINAL = ("succeeded", "failed", "cancelled", "faulted")
"""States that a job stays in."""


@dataclass(frozen=True)
class Inference:
    """A model's answer, with its bill."""

    outputs: dict[str, Array]
    """Arrays by name, in the model's order, or in that of the outputs that were asked for."""
    model: str
    version: str
    job: str
    """Name of the job: a UUID."""
    fuel: int | None
    """Units of fuel of the run."""
    credits: Decimal | None
    """All that was paid."""
    receipt: str | None
    """Digest of the receipt, `sha256:` and 64 digits: its entry in the host's log."""
    package: str | None
    """Digest of the package that ran."""
    parameters: Mapping[str, Any]
    """What the model said beside its outputs, and the host's `fuelbox_` fields."""
    replayed: bool
    """Whether this is the stored answer to an earlier request with the same key."""


@dataclass(frozen=True)
class Job:
    """A queued job as the host sees it."""

    id: str
    """Its name: a UUID."""
    state: str
    """`queued`, `running`, `succeeded`, `failed`, `cancelled` or `faulted`."""
    fields: Mapping[str, Any]
    """All that the host says of it."""

    @property
    def final(self) -> bool:
        """Whether the state is one that stays."""
        return self.state in FINAL

    @property
    def verdict(self) -> str | None:
        """How the run ended; None when it has not."""
        found = self.fields.get("verdict")
        return found if isinstance(found, str) else None

    @property
    def fuel(self) -> int | None:
        """Units of fuel of the run."""
        return whole_of(self.fields.get("fuel"))

    @property
    def credits(self) -> Decimal | None:
        """What was paid."""
        return credits_of(self.fields.get("credits"))

    @property
    def receipt(self) -> str | None:
        """Digest of the receipt; None for a job that has none (yet)."""
        found = self.fields.get("receipt")
        return found if isinstance(found, str) else None


def job(answer: Answer) -> Job:
    """The job in a reply."""
    fields = answer.object()
    return Job(id=str(fields.get("id")), state=str(fields.get("state")), fields=fields)


def inference(answer: Answer) -> Inference:
    """The answer in a reply to `infer`, or in a queued job's result."""
    reply = wire.decode(answer.body, answer.headers.get(wire.HEADER_LENGTH))
    said = reply.parameters
    bill = bill_of(answer.headers) or Bill(
        job=str(said.get("fuelbox_job", "")),
        fuel=whole_of(said.get("fuelbox_fuel")),
        credits=credits_of(said.get("fuelbox_credits")),
        receipt=said.get("fuelbox_receipt"),
        package=said.get("fuelbox_package"),
    )
    return Inference(
        outputs=reply.outputs,
        model=reply.model,
        version=reply.version,
        job=bill.job,
        fuel=bill.fuel,
        credits=bill.credits,
        receipt=bill.receipt,
        package=bill.package,
        parameters=said,
        replayed=answer.headers.get("Idempotent-Replayed") == "true",
    )
