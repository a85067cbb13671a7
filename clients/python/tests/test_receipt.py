"""A receipt is what a trusted key signed, to the byte; anything else is not."""

import base64
import hashlib
import json
from decimal import Decimal

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from fuelbox import (
    Envelope,
    KeyRing,
    Unproven,
    digest_of_inputs,
    digest_of_outputs,
    digest_of_parameters,
    verify,
)
from fuelbox.keys import PublicKey

TYPE = "application/vnd.in-toto+json"


def signed(golden, statement: bytes) -> bytes:
    """An envelope by the golden key of any bytes."""
    key = load_pem_private_key(golden.private_key, None)
    message = f"DSSEv1 {len(TYPE)} {TYPE} {len(statement)} ".encode() + statement
    key_id = next(iter(KeyRing.from_pem(golden.keys))).id
    document = {
        "payload": base64.b64encode(statement).decode(),
        "payloadType": TYPE,
        "signatures": [{"keyid": key_id, "sig": base64.b64encode(key.sign(message)).decode()}],
    }
    return canonical(document)


def canonical(document) -> bytes:
    text = json.dumps(document, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return text.encode()


def changed(golden, change) -> bytes:
    statement = json.loads(golden.statement)
    change(statement)
    return signed(golden, canonical(statement))


def test_the_golden_receipt_is_read(golden):
    receipt = verify(golden.envelope, golden.keys)
    assert receipt.job == "0192f0c4-7a3e-7c11-8d2b-3f5a6b7c8d9e"
    assert receipt.verdict == "completed"
    assert receipt.seed == 2**64 - 1
    assert receipt.usage.fuel == 126_256
    assert receipt.usage.memory_bytes_peak == 1_900_544
    assert receipt.credits == Decimal("0.001765")  # 1263 for the run, 502 for the load
    assert receipt.output == "sha256:" + (
        "e0ee8bb50685e05fa0f47ed04203ae953fdfd055f5bd2892ea186504254f8c3a"
    )
    assert receipt.key_id == "8f0de7c6c5c11908d89398a443cee1ad15c17fbc10f5433c3abf36110d5dc2bd"
    assert receipt.digest == Envelope(golden.envelope).digest


def test_signing_it_again_gives_the_golden_bytes(golden):
    assert signed(golden, golden.statement) == golden.envelope


def test_outputs_inputs_and_package_are_compared(golden):
    outputs = {"y": np.array([[1, 2]], np.float32)}
    outputs_hex = digest_of_outputs(outputs).removeprefix("sha256:")

    def change(statement):
        statement["subject"][0]["digest"]["sha256"] = outputs_hex
        statement["predicate"]["input"] = digest_of_inputs(outputs)
        statement["predicate"]["parameters"] = digest_of_parameters({"top": 2})

    receipt = verify(changed(golden, change), golden.keys)
    receipt.check_output(outputs)
    receipt.check_input(outputs)
    receipt.check_parameters({"top": 2})
    receipt.check_package(receipt.package)
    with pytest.raises(Unproven, match=r"^outputs sha256:\w{64}, the receipt has sha256:ad646f"):
        receipt.check_output({"y": np.array([[1, 3]], np.float32)})
    with pytest.raises(Unproven, match="^inputs sha256:"):
        receipt.check_input({"x": outputs["y"]})
    with pytest.raises(Unproven, match="^parameters sha256:"):
        receipt.check_parameters({"top": 1})
    with pytest.raises(Unproven, match="^package sha256:00"):
        receipt.check_package("sha256:" + "00" * 32)


def test_no_bit_of_an_envelope_can_change(golden):
    # Each byte once: the lowest bit turns base64 and JSON into other base64 and JSON.
    for at in range(len(golden.envelope)):
        raw = bytearray(golden.envelope)
        raw[at] ^= 1
        with pytest.raises(Unproven):
            verify(bytes(raw), golden.keys)


def test_another_form_of_the_same_content_is_refused(golden):
    for raw in (golden.envelope + b"\n", golden.envelope.replace(b'":', b'": ', 1)):
        with pytest.raises(Unproven, match="envelope: not in canonical form"):
            verify(raw, golden.keys)
    spaced = json.dumps(json.loads(golden.statement), sort_keys=True).encode()
    with pytest.raises(Unproven, match="receipt: not in canonical form"):
        verify(signed(golden, spaced), golden.keys)


def test_a_key_that_is_not_trusted_is_named(golden):
    public = Ed25519PrivateKey.from_private_bytes(b"\1" * 32).public_key()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    with pytest.raises(Unproven, match="key '8f0de7c6.*' is not among the 1 known ones"):
        verify(golden.envelope, pem)
    assert verify(golden.envelope, pem.decode() + golden.keys).job


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda s: s.update(_type="x"), "of type 'x', allowed is 'https://in-toto.io/Stat"),
        (lambda s: s.update(predicateType="y/v2"), "of type 'y/v2', allowed is"),
        (lambda s: s["predicate"].update(format="fuelbox-receipt/2"), "format 'fuelbox-receipt/2'"),
        (lambda s: s.update(more=1), "fields"),
        (lambda s: s["predicate"].pop("seed"), "fields"),
        (lambda s: s["predicate"]["usage"].update(fuel=-1), "receipt.predicate.usage.fuel"),
        (lambda s: s["predicate"]["usage"].update(fuel=2**64), "receipt.predicate.usage.fuel"),
        (lambda s: s["predicate"]["usage"].update(fuel=True), "receipt.predicate.usage.fuel"),
        (lambda s: s["predicate"]["usage"].update(fuel=1.0), "receipt.predicate.usage.fuel"),
        (lambda s: s["predicate"].update(replayable=1), "receipt.predicate.replayable"),
        (lambda s: s["predicate"].update(guest="sha256:AB"), "receipt.predicate.guest"),
        (lambda s: s["predicate"].update(job="1"), "receipt.predicate.job"),
        (lambda s: s["predicate"].update(payer=""), "receipt.predicate.payer"),
        (lambda s: s["predicate"].update(payer="a\n"), "receipt.predicate.payer"),
        (lambda s: s["predicate"].update(payer="a" * 257), "receipt.predicate.payer"),
        (lambda s: s["predicate"].update(load=[]), "receipt.predicate.load: not an object"),
        (lambda s: s["predicate"]["assets"].append(1), "receipt.predicate.assets[2]"),
        (lambda s: s["subject"].append(s["subject"][0]), "its subject is not the outputs"),
        (lambda s: s["subject"][0].update(name="inputs"), "its subject is not the outputs"),
    ],
)
def test_a_signed_statement_of_another_form_is_refused(golden, change, sentence):
    with pytest.raises(Unproven) as refused:
        verify(changed(golden, change), golden.keys)
    assert sentence in refused.value.sentence


def test_two_signatures_none_or_another_type_are_refused(golden):
    for change, sentence in (
        (lambda d: d["signatures"].append(d["signatures"][0]), "2 signatures, allowed is 1"),
        (lambda d: d.update(signatures=[]), "0 signatures, allowed is 1"),
        (lambda d: d.update(payloadType="text/plain"), "payloadType is not"),
        (lambda d: d.update(payload=d["payload"].rstrip("=") + "\n"), "payload: not base64"),
    ):
        document = json.loads(golden.envelope)
        change(document)
        with pytest.raises(Unproven, match=sentence):
            verify(canonical(document), golden.keys)


@pytest.mark.parametrize(
    "raw", [b"", b"[]", b"\xff", b"[" * 100_000, b'{"a":' + b"9" * 5000 + b"}", b" " * 200_000]
)
def test_rubbish_is_refused(golden, raw):
    with pytest.raises(Unproven):
        verify(raw, golden.keys)


def test_keys_of_small_order_are_refused(golden):
    neutral = (1).to_bytes(32, "little")
    order_8 = bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05")
    above_prime = (2**255 - 18).to_bytes(32, "little")
    for point in (neutral, order_8, above_prime):
        der = bytes.fromhex("302a300506032b6570032100") + point
        pem = f"-----BEGIN PUBLIC KEY-----\n{base64.b64encode(der).decode()}\n-----END PUBLIC KEY-----"
        with pytest.raises(Unproven, match="small order or not in canonical form"):
            KeyRing.from_pem(golden.keys + pem)


def test_a_signature_of_small_order_is_none():
    # Whose owner can make it fit: R is the neutral point, so s = h * a.
    order = 2**252 + 27742317777372353535851937790883648493
    private = Ed25519PrivateKey.from_private_bytes(b"\1" * 32)
    hashed = hashlib.sha512(b"\1" * 32).digest()[:32]
    scalar = int.from_bytes(hashed, "little") & ((1 << 254) - 8) | 1 << 254
    key, neutral = PublicKey(private.public_key()), (1).to_bytes(32, "little")
    digest = hashlib.sha512(neutral + key.raw + b"message").digest()
    s = int.from_bytes(digest, "little") * scalar % order
    signature = neutral + s.to_bytes(32, "little")
    private.public_key().verify(signature, b"message")
    assert not key.signed(b"message", signature)
    assert key.signed(b"message", private.sign(b"message"))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda pem: "", "found none, needed is 1"),
        (lambda pem: pem + "more", "'more' is not in a block"),
        (lambda pem: "before" + pem, "'before-----BEGIN PUBLIC KEY-----"),
        (lambda pem: pem.replace("MCow", "AAAA"), "public key 0: not an Ed25519 key"),
    ],
)
def test_text_that_is_no_keys_is_refused(golden, change, sentence):
    with pytest.raises(Unproven) as refused:
        KeyRing.from_pem(change(golden.keys))
    assert sentence in refused.value.sentence
