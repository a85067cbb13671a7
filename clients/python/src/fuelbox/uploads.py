"""Uploads: a package file goes to a host in parts, and goes on where a broken connection left it.

In: a path, and the upload that an earlier try began, if any. Out: the id of a complete upload. The host
says at which offset it is; what it has is not sent again.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any, BinaryIO

from .errors import FuelboxError, NoAnswer
from .transport import Answer, Transport

__all__ = ["UploadBroken", "upload"]

_UPLOADS = "/api/v1/uploads"
# Read at once where the host allows more.
_PART_BYTES_MAX = 8 << 20
# Times in a row that a part may fail before the upload is given up.
_BREAKS_MAX = 5


class UploadBroken(NoAnswer):
    """The connection broke too often. `push(..., upload=error.upload)` goes on from there."""

    upload: str = ""
    """Name of the upload."""


def upload(transport: Transport, path: str | os.PathLike[str], begun: str | None = None) -> str:
    """Uploads a file, or what is missing of it. Returns the upload's name."""
    with Path(path).open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if begun is None:
            said = transport.send(
                "POST", _UPLOADS, json={"bytes": size, "digest": _digest_of(file)}
            ).object()
        else:
            said = transport.send("GET", f"{_UPLOADS}/{begun}").object()
        name = str(said.get("id", begun))
        part_bytes = min(int(said.get("chunk_bytes_max", _PART_BYTES_MAX)), _PART_BYTES_MAX)
        _send_parts(transport, file, name, int(said["offset"]), size, part_bytes)
        return name


def _send_parts(
    transport: Transport, file: BinaryIO, name: str, offset: int, size: int, part_bytes: int
) -> None:
    breaks = 0
    while offset < size:
        file.seek(offset)
        part = file.read(part_bytes)
        if not part:
            raise FuelboxError("file_changed", f"the file ends at {offset}, it had {size} bytes")
        before = offset
        try:
            offset = _offset(_send(transport, name, offset, part))
        except NoAnswer as error:
            offset = _offset(transport.send("GET", f"{_UPLOADS}/{name}"))
            breaks = 0 if offset > before else breaks + 1
            if breaks == _BREAKS_MAX:
                broken = UploadBroken(error.code, error.sentence, error.status)
                broken.upload = name
                raise broken from error


def _send(transport: Transport, name: str, offset: int, part: bytes) -> Answer:
    headers = {"Upload-Offset": str(offset), "Content-Type": "application/octet-stream"}
    # Not repeatable: a part that arrived moved the offset.
    return transport.send(
        "PATCH", f"{_UPLOADS}/{name}", headers=headers, body=part, repeatable=False
    )


def _offset(answer: Answer) -> int:
    """Where the host is: in a header, or in the document."""
    header = answer.headers.get("Upload-Offset")
    found: Any = header if header is not None else answer.object().get("offset")
    try:
        return int(found)
    except (TypeError, ValueError):
        raise NoAnswer("bad_reply", "an upload without an offset", answer.status) from None


def _digest_of(file: BinaryIO) -> str:
    hasher = hashlib.sha256()
    file.seek(0)
    while block := file.read(1 << 20):
        hasher.update(block)
    return f"sha256:{hasher.hexdigest()}"
