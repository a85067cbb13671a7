"""Keys: whose signatures are believed. All of them are Ed25519.

In: PEM, as `fuelbox keys export` and a host's /api/v1/log/keys give it. Out: a `KeyRing`. Keys of small
order, for which one signature can fit several messages, are refused, and so are such signatures.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from typing import Union

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_public_key,
)

from .errors import Unproven

__all__ = ["KeyRing", "PublicKey"]

_BEGIN = "-----BEGIN PUBLIC KEY-----"
_END = "-----END PUBLIC KEY-----"
_PRIME = 2**255 - 19
# y of the eight points whose order divides 8: of order 1, 2 and 4, and the two of order 8.
_ORDER_8_Y = 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
_SMALL_ORDER_Y = frozenset((1, _PRIME - 1, 0, _ORDER_8_Y, _PRIME - _ORDER_8_Y))


class PublicKey:
    """One key."""

    def __init__(self, key: Ed25519PublicKey) -> None:
        self.raw = key.public_bytes(Encoding.Raw, PublicFormat.Raw)
        if _is_weak(self.raw):
            raise Unproven("public key: a point of small order or not in canonical form")
        self._key = key
        spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        self.id = hashlib.sha256(spki).hexdigest()
        """SHA-256 of its SubjectPublicKeyInfo, 64 digits."""

    def signed(self, message: bytes, signature: bytes) -> bool:
        """Whether the key made this signature of this message."""
        if len(signature) != 64 or _is_weak(signature[:32]):
            return False
        try:
            self._key.verify(signature, message)
        except InvalidSignature:
            return False
        return True

    def number(self, origin: str) -> bytes:
        """Its 4 bytes in signed notes of this origin (docs/formats/log.md)."""
        return hashlib.sha256(origin.encode() + b"\n\x01" + self.raw).digest()[:4]


class KeyRing:
    """The keys that are trusted."""

    def __init__(self, keys: list[PublicKey]) -> None:
        if not keys:
            raise Unproven("public keys: found none, needed is 1")
        self._keys = {key.id: key for key in keys}

    @classmethod
    def from_pem(cls, pem: str | bytes) -> KeyRing:
        """Keys that stand one behind the other, with nothing but white space between them."""
        text = pem.decode("ascii", "replace") if isinstance(pem, bytes) else pem
        keys: list[PublicKey] = []
        for block in text.split(_END)[:-1]:
            block = block.strip()
            if not block.startswith(_BEGIN):
                raise Unproven(f"public keys: {block[:40]!r} is not in a block of {_BEGIN!r}")
            try:
                key = load_pem_public_key(f"{block}\n{_END}\n".encode())
            except ValueError as error:
                raise Unproven(f"public key {len(keys)}: not an Ed25519 key: {error}") from error
            if not isinstance(key, Ed25519PublicKey):
                raise Unproven(f"public key {len(keys)}: not an Ed25519 key")
            keys.append(PublicKey(key))
        rest = text.rsplit(_END, 1)[-1].strip()
        if rest:
            raise Unproven(f"public keys: {rest[:40]!r} is not in a block of {_BEGIN!r}")
        return cls(keys)

    def find(self, key_id: str) -> PublicKey:
        """The key of this id."""
        try:
            return self._keys[key_id]
        except KeyError:
            raise Unproven(f"key {key_id[:80]!r} is not among the {len(self)} known ones") from None

    def __iter__(self) -> Iterator[PublicKey]:
        return iter(self._keys.values())

    def __len__(self) -> int:
        return len(self._keys)


Keys = Union[KeyRing, str, bytes]
"""What `verify` takes as keys: a ring, or PEM."""


def ring(keys: Keys) -> KeyRing:
    """A ring of what the caller has."""
    return keys if isinstance(keys, KeyRing) else KeyRing.from_pem(keys)


def base64_exactly(text: str, what: str) -> bytes:
    """Base64 of RFC 4648, section 4, in its one form."""
    try:
        decoded = base64.b64decode(text, validate=True)
    except ValueError as error:
        raise Unproven(f"{what}: not base64") from error
    if base64.b64encode(decoded).decode() != text:
        raise Unproven(f"{what}: not base64 in its one form")
    return decoded


def _is_weak(point: bytes) -> bool:
    y = int.from_bytes(point, "little") & (2**255 - 1)
    return y >= _PRIME or y in _SMALL_ORDER_Y
