"""Packages: which one a file is, and its publisher's signature (docs/formats/package.md).

In: a package file, and a private key. Out: its identity, and a DSSE envelope that says who brings it.
Only the manifest is read; whether the rest fits is for the host to say.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Union

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from .errors import FuelboxError
from .keys import PublicKey

__all__ = ["Identity", "SigningKey", "identity", "sign", "signing_key"]

_PREFIX = b"\x50\x2a\x4d\x18\x12\x00\x00\x00fuelbox package 1\n"
_PAYLOAD_TYPE = "application/vnd.fuelbox.package.v1+json"
_MANIFEST_BYTES_MAX = 1 << 20
# Windows that a writer may ask for: what `zstd --long` means.
_WINDOW_LOG_MAX = 27

SigningKey = Union[Ed25519PrivateKey, str, bytes, "os.PathLike[str]"]
"""A publisher's private key: an object, PKCS#8 PEM, or the path of a PEM file."""


@dataclass(frozen=True)
class Identity:
    """What a package is called."""

    digest: str
    """SHA-256 of its manifest: `sha256:` and 64 digits."""
    name: str
    version: str


def identity(path: str | os.PathLike[str]) -> Identity:
    """The identity of a package file. Needs the package `zstandard` before Python 3.14."""
    with Path(path).open("rb") as file:
        if file.read(len(_PREFIX)) != _PREFIX:
            raise FuelboxError("bad_package", f"{os.fspath(path)} is no package of version 1")
        raw = _manifest(file)
    manifest = json.loads(raw)
    return Identity(
        digest=f"sha256:{hashlib.sha256(raw).hexdigest()}",
        name=manifest["name"],
        version=manifest["version"],
    )


def sign(package: Identity, key: SigningKey) -> dict[str, Any]:
    """The DSSE envelope with which a publisher stands for a package."""
    private = signing_key(key)
    fields = {"digest": package.digest, "name": package.name, "version": package.version}
    payload = json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()
    signed = f"DSSEv1 {len(_PAYLOAD_TYPE)} {_PAYLOAD_TYPE} {len(payload)} ".encode() + payload
    signature = {
        "keyid": PublicKey(private.public_key()).id,
        "sig": base64.b64encode(private.sign(signed)).decode(),
    }
    return {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": _PAYLOAD_TYPE,
        "signatures": [signature],
    }


def signing_key(key: SigningKey) -> Ed25519PrivateKey:
    """A private key of what the caller has."""
    if isinstance(key, Ed25519PrivateKey):
        return key
    if isinstance(key, os.PathLike):
        key = Path(key).read_bytes()
    pem = key.encode() if isinstance(key, str) else key
    private = load_pem_private_key(pem, password=None)
    if not isinstance(private, Ed25519PrivateKey):
        raise ValueError("signing key: not an Ed25519 key")
    return private


def _manifest(file: BinaryIO) -> bytes:
    # The whole archive is never unpacked: the manifest comes first.
    with tarfile.open(fileobj=_unpacked(file), mode="r|") as archive:
        entry = archive.next()
        if entry is None or entry.name != "manifest.json" or entry.size > _MANIFEST_BYTES_MAX:
            raise FuelboxError("bad_package", "a package that does not begin with its manifest")
        content = archive.extractfile(entry)
        return content.read() if content else b""


def _unpacked(file: BinaryIO) -> Any:
    try:
        from compression import zstd  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        pass
    else:
        option = zstd.DecompressionParameter.window_log_max
        return zstd.ZstdFile(file, options={option: _WINDOW_LOG_MAX})
    try:
        import zstandard
    except ImportError as error:
        sentence = "signing a package needs the package zstandard: pip install fuelbox[push]"
        raise FuelboxError("no_zstd", sentence) from error
    reader = zstandard.ZstdDecompressor(max_window_size=1 << _WINDOW_LOG_MAX).stream_reader(file)
    return io.BufferedReader(reader)
