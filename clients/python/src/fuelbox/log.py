"""The log: that a receipt is in it, and that it only grew (docs/formats/log.md).

In: an envelope, a proof, keys. Out: the signed checkpoint that the proof leads to. Whoever keeps that
can see later, by a proof of consistency, whether anything before it was changed or left out.

Needs no host.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .errors import Unproven
from .keys import Keys, base64_exactly, ring
from .receipt import Envelope

__all__ = [
    "Checkpoint",
    "ConsistencyProof",
    "InclusionProof",
    "verify_checkpoint",
    "verify_consistency",
    "verify_proof",
]

_INCLUSION = "c2sp.org/tlog-proof@v1"
_CONSISTENCY = "fuelbox.dev/log-consistency@v1"
_CHECKPOINT_BYTES_MAX = 1 << 15
_SIZE_MAX = 1 << 48
_HASHES_MAX = 96
_PROOF_BYTES_MAX = 37_344
_EMPTY_ROOT = hashlib.sha256(b"").digest()
_NUMBER = re.compile(r"(0|[1-9][0-9]{0,18})\Z", re.ASCII)


@dataclass(frozen=True)
class Checkpoint:
    """Size and root of a log, as one of the trusted keys signed them."""

    origin: str
    """The log's name."""
    size: int
    """How many entries."""
    root: bytes
    """RFC 6962's tree hash of them, 32 bytes."""
    text: str
    """The signed text, to be kept."""


@dataclass(frozen=True)
class InclusionProof:
    """That an entry is in a log. Nothing of it is believed before `verify_proof`."""

    index: int
    """Where the entry is, from 0."""
    hashes: Sequence[bytes]
    """From the entry's neighbour to the root's child."""
    checkpoint: str
    """The signed checkpoint."""

    @classmethod
    def parse(cls, text: str) -> InclusionProof:
        """Reads a `.tlog-proof` file."""
        return cls(*_parse(text, _INCLUSION, "index"))

    def to_text(self) -> str:
        """The same as a `.tlog-proof` file."""
        hashes = "".join(base64.b64encode(found).decode() + "\n" for found in self.hashes)
        return f"{_INCLUSION}\nindex {self.index}\n{hashes}\n{self.checkpoint}"


@dataclass(frozen=True)
class ConsistencyProof:
    """That a log begins with all of an earlier one."""

    old: int
    """Size of the earlier one."""
    hashes: Sequence[bytes]
    """From the one root to the other."""
    checkpoint: str
    """The signed checkpoint of the later one."""

    @classmethod
    def parse(cls, text: str) -> ConsistencyProof:
        """Reads a proof as `fuelbox log prove --from` writes it."""
        return cls(*_parse(text, _CONSISTENCY, "old"))


def verify_checkpoint(text: str, keys: Keys, origin: str | None = None) -> Checkpoint:
    """The checkpoint in a text that one of the keys has signed, of the log `origin` where given."""
    if len(text.encode("utf-8", "replace")) > _CHECKPOINT_BYTES_MAX:
        raise Unproven(f"checkpoint: more than {_CHECKPOINT_BYTES_MAX} bytes")
    head, gap, tail = text.rpartition("\n\n")
    lines = head.split("\n")
    if not gap or not tail.endswith("\n"):
        raise Unproven("checkpoint: not a signed note: text, an empty line, and signature lines")
    if len(lines) != 3:
        raise Unproven("checkpoint: not three lines of origin, size and root")
    found = Checkpoint(lines[0], _number(lines[1], "size"), _hash(lines[2], "root"), text)
    if not found.origin or re.search(r"[\s+\x00-\x1f\x7f-\x9f]", found.origin):
        raise Unproven("checkpoint: its origin is no name without spaces and plus signs")
    if origin is not None and found.origin != origin:
        raise Unproven(f"checkpoint: of log {found.origin[:80]!r}, allowed is {origin!r}")
    if found.size > _SIZE_MAX:
        raise Unproven(f"checkpoint: size {found.size}, allowed are {_SIZE_MAX}")
    if found.size == 0 and found.root != _EMPTY_ROOT:
        raise Unproven("checkpoint: size 0 with a root that is not that of the empty log")
    known = {key.number(found.origin): key for key in ring(keys)}
    signed_by = 0
    for name, number, signature in _signatures(tail):
        key = known.get(number) if name == found.origin else None
        # Witnesses may add signatures of their own.
        if key is None:
            continue
        if not key.signed(f"{head}\n".encode(), signature):
            raise Unproven(f"checkpoint: the signature by key {number.hex()} does not fit the text")
        signed_by += 1
    if signed_by == 0:
        raise Unproven(f"checkpoint: no signature by one of the {len(known)} known keys")
    return found


def verify_proof(
    envelope: Envelope | bytes,
    proof: InclusionProof | str,
    keys: Keys,
    origin: str | None = None,
) -> Checkpoint:
    """The checkpoint of a log that has this envelope, signed by one of the keys.

    Raises `Unproven` where the proof does not lead from the envelope to the checkpoint. Says nothing
    of what is in the envelope: that is for `verify`.
    """
    if isinstance(proof, str):
        proof = InclusionProof.parse(proof)
    raw = envelope.raw if isinstance(envelope, Envelope) else envelope
    checkpoint = verify_checkpoint(proof.checkpoint, keys, origin)
    _count(proof.hashes)
    if not 0 <= proof.index < checkpoint.size:
        raise Unproven(f"proof: of entry {proof.index} in a log of {checkpoint.size} entries")
    leaf = hashlib.sha256(b"\0" + hashlib.sha256(raw).digest()).digest()
    if _root_of(leaf, proof.index, checkpoint.size, proof.hashes) != checkpoint.root:
        raise Unproven(f"proof: does not lead from entry {proof.index} to the checkpoint's root")
    return checkpoint


def verify_consistency(
    earlier: Checkpoint, proof: ConsistencyProof | str, keys: Keys
) -> Checkpoint:
    """The later checkpoint of a log that begins with all of the earlier one."""
    if isinstance(proof, str):
        proof = ConsistencyProof.parse(proof)
    if earlier.size != proof.old:
        raise Unproven(f"proof: begins at {proof.old} entries, needed is {earlier.size}")
    later = verify_checkpoint(proof.checkpoint, keys, earlier.origin)
    _count(proof.hashes)
    if earlier.size > later.size:
        raise Unproven(f"proof: {earlier.size} entries are not the beginning of {later.size}")
    if not _grew(earlier, later, list(proof.hashes)):
        raise Unproven(f"proof: does not lead from {earlier.size} entries to {later.size}")
    return later


def _root_of(leaf: bytes, index: int, size: int, hashes: Sequence[bytes]) -> bytes | None:
    """RFC 9162, 2.1.3.2: the root that the path leads to; None for a path of another length."""
    found, last = leaf, size - 1
    for sibling in hashes:
        if last == 0:
            return None
        if index & 1 or index == last:
            found = _node(sibling, found)
            while not index & 1 and index:
                index, last = index >> 1, last >> 1
        else:
            found = _node(found, sibling)
        index, last = index >> 1, last >> 1
    return found if last == 0 else None


def _grew(earlier: Checkpoint, later: Checkpoint, hashes: list[bytes]) -> bool:
    """RFC 9162, 2.1.4.2."""
    if earlier.size == 0:
        return not hashes
    if earlier.size == later.size:
        return not hashes and earlier.root == later.root
    if earlier.size & (earlier.size - 1) == 0:
        hashes = [earlier.root, *hashes]
    if not hashes:
        return False
    index, last = earlier.size - 1, later.size - 1
    while index & 1:
        index, last = index >> 1, last >> 1
    old = new = hashes[0]
    for sibling in hashes[1:]:
        if last == 0:
            return False
        if index & 1 or index == last:
            old, new = _node(sibling, old), _node(sibling, new)
            while not index & 1 and index:
                index, last = index >> 1, last >> 1
        else:
            new = _node(new, sibling)
        index, last = index >> 1, last >> 1
    return last == 0 and old == earlier.root and new == later.root


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\1" + left + right).digest()


def _parse(text: str, first: str, name: str) -> tuple[int, list[bytes], str]:
    if len(text.encode("utf-8", "replace")) > _PROOF_BYTES_MAX:
        raise Unproven(f"proof: more than {_PROOF_BYTES_MAX} bytes")
    head, gap, checkpoint = text.partition("\n\n")
    lines = head.split("\n")
    if lines[0] != first:
        raise Unproven(f"proof: first line {lines[0][:80]!r}, allowed is {first!r}")
    if not gap:
        raise Unproven("proof: no empty line with a checkpoint behind it")
    if lines[1:2] and lines[1].startswith("extra "):
        raise Unproven("proof: found an 'extra' line, allowed is none")
    label, _, number = (lines[1] if len(lines) > 1 else "").partition(" ")
    if label != name:
        raise Unproven(f"proof: second line is not {name!r} and a number")
    return _number(number, name), [_hash(line, "hash") for line in lines[2:]], checkpoint


def _signatures(tail: str) -> Iterator[tuple[str, bytes, bytes]]:
    for line in tail[:-1].split("\n"):
        dash, _, rest = line.partition(" ")
        name, space, encoded = rest.partition(" ")
        if dash != "\u2014" or not name or not space:
            raise Unproven("checkpoint: a line that is no signature")
        raw = base64_exactly(encoded, "checkpoint: signature")
        if len(raw) < 5:
            raise Unproven("checkpoint: a signature without a key's number")
        yield name, raw[:4], raw[4:]


def _count(hashes: Sequence[bytes]) -> None:
    if len(hashes) > _HASHES_MAX:
        raise Unproven(f"proof: {len(hashes)} hashes, allowed are {_HASHES_MAX}")


def _number(text: str, what: str) -> int:
    if not _NUMBER.match(text):
        raise Unproven(f"{what}: {text[:40]!r} is no number")
    return int(text)


def _hash(text: str, what: str) -> bytes:
    raw = base64_exactly(text, what)
    if len(raw) != 32:
        raise Unproven(f"{what}: {len(raw)} bytes, a hash has 32")
    return raw
