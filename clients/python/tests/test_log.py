"""Proofs lead to a signed checkpoint, or prove nothing."""

from __future__ import annotations

import base64
import hashlib
import itertools

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from fuelbox import (
    Checkpoint,
    ConsistencyProof,
    InclusionProof,
    KeyRing,
    Unproven,
    verify_checkpoint,
    verify_consistency,
    verify_proof,
)

ORIGIN = "fuelbox.dev/log/8f0de7c6c5c11908"
SIZES = range(1, 18)


def test_the_golden_receipt_is_in_the_golden_log(golden):
    checkpoint = verify_proof(golden.envelope, golden.inclusion, golden.keys, ORIGIN)
    assert checkpoint.size == 258
    assert checkpoint.origin == ORIGIN
    assert checkpoint.text == golden.checkpoint
    proof = InclusionProof.parse(golden.inclusion)
    assert proof.index == 256
    assert proof.to_text() == golden.inclusion


def test_the_golden_log_grew(golden):
    earlier = verify_checkpoint(golden.earlier, golden.keys)
    assert earlier.size == 200
    later = verify_consistency(earlier, golden.consistency, golden.keys)
    assert later == verify_checkpoint(golden.checkpoint, golden.keys, ORIGIN)


def test_another_receipt_is_not_in_it(golden):
    with pytest.raises(Unproven, match="does not lead from entry 256"):
        verify_proof(golden.envelope + b"\n", golden.inclusion, golden.keys)


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("index 256", "index 257", "does not lead from entry 257"),
        ("index 256", "index 258", "of entry 258 in a log of 258 entries"),
        ("index 256", "index 0256", "is no number"),
        ("index 256", "index -1", "is no number"),
        ("index 256", "old 256", "second line is not 'index'"),
        ("tlog-proof@v1", "tlog-proof@v2", "first line"),
        ("index 256\n", "extra AA==\nindex 256\n", "'extra' line"),
        ("\nmejCUH", "\n\nmejCUH", "checkpoint"),
        ("mejCUHtj", "mejCUHtk", "does not lead from entry 256"),
        ("6KRdOQ8kdIEEInzGP+m84riK9sgNPw75I6M=", "6KRd", "a hash has 32"),
        ("\n258\n", "\n259\n", "does not fit the text"),
        ("\n258\n", "\n258\nmore\n", "not three lines"),
        ("log/8f0de7c6c5c11908 ItVF", "log/8f0de7c6c5c11908 JtVF", "no signature by one of"),
        ("\u2014 fuelbox.dev/log/8f0de7c6c5c11908", "\u2014 other", "no signature by one of"),
        ("U4RGAg=", "U4RHAg=", "does not fit the text"),
        ("fuelbox.dev/log/8f", "fuelbox.dev/log/9f", "no signature by one of"),
    ],
)
def test_no_line_of_a_proof_can_change(golden, old, new, sentence):
    text = golden.inclusion.replace(old, new)
    assert text != golden.inclusion
    with pytest.raises(Unproven, match=sentence):
        verify_proof(golden.envelope, text, golden.keys)


def test_another_log_is_refused(golden):
    with pytest.raises(Unproven, match="of log 'fuelbox.dev/log/8f0de7c6c5c11908', allowed is 'x'"):
        verify_proof(golden.envelope, golden.inclusion, golden.keys, "x")


def test_signatures_of_witnesses_are_passed_over(golden):
    witness = "\u2014 witness.example AAAAAAAAAAA=\n"
    assert verify_checkpoint(golden.checkpoint + witness, golden.keys).size == 258
    with pytest.raises(Unproven, match="a line that is no signature"):
        verify_checkpoint(golden.checkpoint + "rubbish\n", golden.keys)


def test_a_checkpoint_that_is_only_witnessed_is_not_signed(golden):
    text = golden.checkpoint.rpartition("\n\n")[0] + "\n\n\u2014 witness.example AAAAAAAAAAA=\n"
    with pytest.raises(Unproven, match="no signature by one of the 1 known keys"):
        verify_checkpoint(text, golden.keys)


def test_an_earlier_checkpoint_of_another_size_or_root_is_refused(golden):
    earlier = verify_checkpoint(golden.earlier, golden.keys)
    other = Checkpoint(earlier.origin, 199, earlier.root, "")
    with pytest.raises(Unproven, match="begins at 200 entries, needed is 199"):
        verify_consistency(other, golden.consistency, golden.keys)
    forged = Checkpoint(earlier.origin, 200, bytes(32), "")
    with pytest.raises(Unproven, match="does not lead from 200 entries to 258"):
        verify_consistency(forged, golden.consistency, golden.keys)


# Small logs in full: RFC 6962's definitions, beside the checks of RFC 9162.


def entry(index: int) -> bytes:
    return b"receipt %d" % index


def tree(first: int, end: int) -> bytes:
    if end - first == 1:
        return hashlib.sha256(b"\0" + hashlib.sha256(entry(first)).digest()).digest()
    middle = first + largest_power_below(end - first)
    return hashlib.sha256(b"\1" + tree(first, middle) + tree(middle, end)).digest()


def largest_power_below(size: int) -> int:
    return 1 << (size - 1).bit_length() - 1


def path(index: int, first: int, end: int) -> list[bytes]:
    if end - first == 1:
        return []
    middle = first + largest_power_below(end - first)
    if index < middle:
        return [*path(index, first, middle), tree(middle, end)]
    return [*path(index, middle, end), tree(first, middle)]


def subproof(old: int, first: int, end: int, whole: bool) -> list[bytes]:
    if old == end - first:
        return [] if whole else [tree(first, end)]
    power = largest_power_below(end - first)
    if old <= power:
        return [*subproof(old, first, first + power, whole), tree(first + power, end)]
    rest = subproof(old - power, first + power, end, False)
    return [*rest, tree(first, first + power)]


def checkpoint(golden, size: int, root: bytes | None = None) -> str:
    root = base64.b64encode(root or tree(0, size)).decode()
    head = f"{ORIGIN}\n{size}\n{root}\n"
    key = next(iter(KeyRing.from_pem(golden.keys)))
    raw = key.number(ORIGIN) + load_pem_private_key(golden.private_key, None).sign(head.encode())
    return f"{head}\n\u2014 {ORIGIN} {base64.b64encode(raw).decode()}\n"


@pytest.mark.parametrize("size", SIZES)
def test_every_entry_of_a_small_log_is_proven_and_no_other(golden, size):
    text = checkpoint(golden, size)
    for index in range(size):
        hashes = path(index, 0, size)
        proof = InclusionProof(index, hashes, text)
        assert verify_proof(entry(index), proof, golden.keys).size == size
        for wrong in (
            InclusionProof(index, [*hashes, bytes(32)], text),
            InclusionProof(index, hashes[:-1] if hashes else [bytes(32)], text),
            InclusionProof((index + 1) % size if size > 1 else 1, hashes, text),
        ):
            with pytest.raises(Unproven):
                verify_proof(entry(index), wrong, golden.keys)


@pytest.mark.parametrize("size", SIZES)
def test_every_beginning_of_a_small_log_is_proven_and_no_other(golden, size):
    text = checkpoint(golden, size)
    for old in range(1, size + 1):
        hashes = subproof(old, 0, size, True)
        earlier = Checkpoint(ORIGIN, old, tree(0, old), "")
        assert verify_consistency(earlier, ConsistencyProof(old, hashes, text), golden.keys)
        forged = Checkpoint(ORIGIN, old, bytes(32), "")
        longer = ConsistencyProof(old, [*hashes, bytes(32)], text)
        for start, wrong in itertools.product((earlier, forged), (longer,)):
            with pytest.raises(Unproven):
                verify_consistency(start, wrong, golden.keys)
        with pytest.raises(Unproven):
            verify_consistency(forged, ConsistencyProof(old, hashes, text), golden.keys)


def test_every_log_begins_with_none(golden):
    empty = Checkpoint(ORIGIN, 0, hashlib.sha256(b"").digest(), "")
    text = checkpoint(golden, 3)
    assert verify_checkpoint(checkpoint(golden, 0, empty.root), golden.keys).size == 0
    with pytest.raises(Unproven, match="size 0 with a root"):
        verify_checkpoint(checkpoint(golden, 0, bytes(range(32))), golden.keys)
    assert verify_consistency(empty, ConsistencyProof(0, [], text), golden.keys).size == 3
    with pytest.raises(Unproven):
        verify_consistency(empty, ConsistencyProof(0, [bytes(32)], text), golden.keys)
