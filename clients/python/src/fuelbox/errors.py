"""Errors: what a host refused, what a model did, what does not prove anything.

Every error is a `FuelboxError`. One that a host sent has its code (docs/errors.md) and HTTP status.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

__all__ = [
    "BadTensor",
    "BusyError",
    "FuelboxError",
    "ModelError",
    "NoAnswer",
    "PaymentError",
    "Unproven",
    "of_reply",
]


@dataclass(frozen=True)
class Bill:
    """What a job cost, which a failed one does, too."""

    job: str
    """Name of the job."""
    fuel: int | None
    """Units of fuel."""
    credits: Decimal | None
    """Credits, in millionths at the finest."""
    receipt: str | None
    """Digest of the receipt, `sha256:` and 64 digits."""
    package: str | None
    """Digest of the package, as above."""


class FuelboxError(Exception):
    """Something was refused or failed.

    `code` is stable and is what programs look at. `sentence` is for people. `status` is the HTTP
    status, or None where no reply came. `members` has all that the error's document says. `bill`
    is what was billed all the same: None when nothing was.
    """

    def __init__(
        self,
        code: str,
        sentence: str,
        status: int | None = None,
        members: Mapping[str, Any] | None = None,
        bill: Bill | None = None,
    ) -> None:
        super().__init__(sentence)
        self.code = code
        self.sentence = sentence
        self.status = status
        self.members: Mapping[str, Any] = members or {}
        self.bill = bill

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.code!r}, {self.sentence!r}, {self.status!r})"


class PaymentError(FuelboxError):
    """The account, or the key's spend limit, does not cover the price of the job's limits."""

    @property
    def balance(self) -> Decimal | None:
        """What can be spent, in credits."""
        return credits_of(self.members.get("balance"))

    @property
    def price(self) -> Decimal | None:
        """What is needed, in credits."""
        return credits_of(self.members.get("price"))


class ModelError(FuelboxError):
    """The model failed. That is billed like an answer: `bill` says what."""

    @property
    def verdict(self) -> str | None:
        """How the job ended: `guest_error`, `trap`, `out_of_fuel`, `bad_output` or `cancelled`."""
        found = self.members.get("verdict")
        return found if isinstance(found, str) else None


class BusyError(FuelboxError):
    """The host does not take this now, and still did not when the last retry was over."""

    retry_after_s: float | None = None
    """When the host says that it is worth trying again; None when it does not say that it is."""


class NoAnswer(FuelboxError):
    """No reply came: the connection failed, or the reply was not one of a fuelbox host."""


class BadTensor(FuelboxError, ValueError):
    """An array that the protocol cannot carry."""

    def __init__(self, sentence: str) -> None:
        super().__init__("bad_tensor", sentence)


class Unproven(FuelboxError, ValueError):
    """A receipt, a proof or a checkpoint that does not hold."""

    def __init__(self, sentence: str) -> None:
        super().__init__("unproven", sentence)


def credits_of(found: object) -> Decimal | None:
    """Credits as they stand in a reply; None for what is no amount."""
    if not isinstance(found, (str, int)) or isinstance(found, bool):
        return None
    try:
        return Decimal(found)
    except InvalidOperation:
        return None


def whole_of(found: object) -> int | None:
    """A whole number as it stands in a header or a reply; None for anything else."""
    if isinstance(found, bool) or not isinstance(found, (str, int)):
        return None
    try:
        return int(found)
    except ValueError:
        return None


def bill_of(headers: Mapping[str, str]) -> Bill | None:
    """The bill in the headers of a reply; None when there is none."""
    job = headers.get("Fuelbox-Job")
    if job is None:
        return None
    return Bill(
        job=job,
        fuel=whole_of(headers.get("Fuelbox-Fuel")),
        credits=credits_of(headers.get("Fuelbox-Credits")),
        receipt=headers.get("Fuelbox-Receipt"),
        package=headers.get("Fuelbox-Package"),
    )


def of_reply(status: int, document: object, headers: Mapping[str, str]) -> FuelboxError:
    """The error that a reply with this status, JSON and headers means."""
    members = document if isinstance(document, dict) else {}
    sentence = members.get("error") or members.get("detail")
    code = members.get("code")
    if not isinstance(sentence, str) or not isinstance(code, str):
        said = sentence if isinstance(sentence, str) else "no error document"
        return NoAnswer("not_fuelbox", f"status {status} without a code: {said}", status, members)
    kind = FuelboxError
    if code == "model_failed":
        kind = ModelError
    elif status == 402:
        kind = PaymentError
    elif status in (429, 503):
        kind = BusyError
    return kind(code, sentence, status, members, bill_of(headers))
