"""Transport: one request becomes one reply, however often it has to be sent.

In: method, path, headers, body. Out: a reply with a good status, or a `FuelboxError`. A host that is busy
says with `Retry-After` when to come again; a connection that breaks is tried again when the request
may be sent twice.

Knows nothing of what is in a request.
"""

from __future__ import annotations

import email.utils
import json as jsons
import random
import time
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import urllib3

from .errors import BusyError, FuelboxError, NoAnswer, of_reply

__all__ = ["Answer", "Transport"]

# A host that asks for a longer pause than this is not waited for.
_PAUSE_S_MAX = 60.0
# Pauses where the host names none: this, doubled each time, and up to half less, so that callers
# who were refused together do not come back together.
_PAUSE_S_FIRST = 0.25
# What something between us and the host says, when it has no code of the host's.
_GATEWAY = (429, 502, 503)


@dataclass(frozen=True)
class Answer:
    """A reply with a good status."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON."""
        try:
            return jsons.loads(self.body)
        except ValueError as error:
            raise NoAnswer("bad_reply", "a reply that is not JSON", self.status) from error

    def object(self) -> dict[str, Any]:
        """The body as a JSON object."""
        document = self.json()
        if not isinstance(document, dict):
            raise NoAnswer("bad_reply", "a reply that is not a JSON object", self.status)
        return document


class Transport:
    """Connections to one host."""

    def __init__(
        self,
        url: str,
        key: str | None,
        timeout_s: float,
        retries: int,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        parsed = urllib3.util.parse_url(url)
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise ValueError(f"url {url!r}, allowed is http://HOST:PORT or https://HOST")
        self._url = url.rstrip("/")
        self._retries = retries
        self._timeout_s = timeout_s
        self._sleep = sleep
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        # Retries are counted here, and a redirect would carry the key elsewhere.
        self._pool = urllib3.PoolManager(retries=False, maxsize=16)

    def close(self) -> None:
        """Closes the connections."""
        self._pool.clear()

    def send(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        json: Mapping[str, Any] | None = None,
        query: Mapping[str, Any] | None = None,
        repeatable: bool = True,
        extra_wait_s: float = 0.0,
    ) -> Answer:
        """Sends a request until there is an answer.

        `repeatable` says that sending it twice does no more than sending it once. `extra_wait_s` is
        how long the host was asked to wait before it replies. `json` is a body that is written here.
        """
        url = self._url + path
        given = {name: str(value) for name, value in (query or {}).items() if value is not None}
        if given:
            url += "?" + urllib.parse.urlencode(given)
        headers = {**self._headers, **(headers or {})}
        if json is not None:
            body = jsons.dumps(json, allow_nan=False).encode()
            headers["Content-Type"] = "application/json"
        timeout = urllib3.Timeout(total=self._timeout_s + extra_wait_s)
        for attempt in range(self._retries + 1):
            asked_s: float | None = None
            try:
                reply = self._pool.request(method, url, headers=headers, body=body, timeout=timeout)
            except urllib3.exceptions.HTTPError as error:
                failure: FuelboxError = NoAnswer("no_answer", f"{method} {path}: {error}")
                again = repeatable
            else:
                if 200 <= reply.status < 300:
                    return Answer(reply.status, reply.headers, reply.data)
                failure = of_reply(reply.status, _document(reply.data), reply.headers)
                asked_s = _retry_after_s(reply.headers.get("Retry-After"))
                if isinstance(failure, BusyError):
                    failure.retry_after_s = asked_s
                # The host says when there is a use in trying again (docs/errors.md).
                again = asked_s is not None
                if isinstance(failure, NoAnswer):
                    again = reply.status in _GATEWAY and repeatable
            if not again or attempt == self._retries or (asked_s or 0) > _PAUSE_S_MAX:
                raise failure
            self._sleep(_pause_s(attempt) if asked_s is None else asked_s)
        raise AssertionError("the last attempt returns or raises")


def _document(body: bytes) -> object:
    try:
        return jsons.loads(body)
    except ValueError:
        return None


def _pause_s(attempt: int) -> float:
    return float(_PAUSE_S_FIRST * 2**attempt * random.uniform(0.5, 1))


def _retry_after_s(text: str | None) -> float | None:
    """Seconds from now; the header has seconds, or a date."""
    if text is None:
        return None
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        when = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, when.timestamp() - time.time())
