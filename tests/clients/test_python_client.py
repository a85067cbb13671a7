"""The package `fuelbox` of clients/python against a host, its README's example among it."""

from __future__ import annotations

import contextlib
import io
import os
import re
import threading
import uuid
from decimal import Decimal

import fuelbox
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from host import EXAMPLES, ROOT, same

PYTHON = ROOT / "clients/python"


@pytest.fixture
def client(host, key):
    with fuelbox.Client(host.url, key) as client:
        yield client


@pytest.fixture
def keys(host):
    """The host's keys by the way that does not trust the host's port."""
    return fuelbox.KeyRing.from_pem(host.cli("keys", "export"))


def test_the_readme_example_works_as_written(host, key):
    page = (PYTHON / "README.md").read_text()
    block = re.search(r"```python\n(.*?)```", page, re.S).group(1)
    printed = io.StringIO()
    before = os.getcwd()
    os.chdir(ROOT)
    try:
        with contextlib.redirect_stdout(printed):
            exec(compile(block, "README.md", "exec"), {"url": host.url, "key": key})
    finally:
        os.chdir(before)
    lines = printed.getvalue().splitlines()
    assert lines[0] == "7"
    assert re.fullmatch(r"[0-9]+ fuel, 0\.[0-9]+ credits", lines[1])
    assert re.fullmatch(r"entry \d+ of \d+ in fuelbox\.dev/log/[0-9a-f]{16}", lines[2])


@pytest.mark.parametrize("name", ["digits", "wine", "encoder", "digits-image", "identity"])
def test_answers_are_those_of_the_command_line_and_proven(host, client, keys, name):
    model = host.models[name]
    answer = client.infer(name, model.inputs, version="1.0.0", seed=2**64 - 1)
    same(answer.outputs, model.outputs)
    assert (answer.model, answer.version, answer.package) == (name, "1.0.0", model.digest)
    envelope = client.receipt(answer.job)
    assert envelope.digest == answer.receipt
    receipt = fuelbox.verify(envelope, keys)
    receipt.check_output(answer.outputs)
    receipt.check_input(model.inputs, client.metadata(name)["inputs"])
    receipt.check_package(model.digest)
    receipt.check_parameters({})
    assert receipt.job == answer.job
    assert receipt.verdict == "completed"
    assert receipt.usage.fuel == answer.fuel
    assert receipt.credits == answer.credits > 0
    assert receipt.seed == 2**64 - 1
    proof = client.proof(answer.job)
    checkpoint = fuelbox.verify_proof(envelope, proof, keys)
    assert proof.index < checkpoint.size


@pytest.mark.parametrize("name", ["digits", "wine"])
def test_fuel_and_digest_are_those_of_the_command_line(host, client, keys, name):
    model = host.models[name]
    answer = client.infer(name, model.inputs)
    assert answer.fuel == model.fuel
    receipt = fuelbox.verify(client.receipt(answer.job), keys)
    assert receipt.output == model.output_digest


def test_another_answer_is_not_what_the_receipt_says(client, keys, digits):
    answer = client.infer("digits", digits.inputs)
    other = client.infer("digits", {"image": digits.inputs["image"] + 1})
    receipt = fuelbox.verify(client.receipt(answer.job), keys)
    with pytest.raises(fuelbox.Unproven, match="^outputs "):
        receipt.check_output(other.outputs)
    with pytest.raises(fuelbox.Unproven, match="does not lead from entry"):
        fuelbox.verify_proof(client.receipt(answer.job), client.proof(other.job), keys)


def test_the_log_only_grows(host, client, keys, digits):
    first = client.infer("digits", digits.inputs)
    proof = client.proof(first.job)
    earlier = fuelbox.verify_checkpoint(proof.checkpoint, keys)
    client.infer("digits", digits.inputs)
    status, _, body = host.send("GET", "/api/v1/log/checkpoint", key=None)
    assert status == 200
    later = fuelbox.verify_checkpoint(body.decode(), keys, earlier.origin)
    assert later.size > earlier.size
    assert {key.id for key in client.keys()} == {key.id for key in keys}


def test_requested_outputs_come_alone(client, wine):
    answer = client.infer("wine", wine.inputs, outputs=["label"])
    assert list(answer.outputs) == ["label"]
    assert answer.outputs["label"].tolist() == [0, 1, 2]


def test_one_key_is_one_job_and_one_bill(client, digits):
    key = str(uuid.uuid4())
    before = Decimal(client.account()["balance"])
    first = client.infer("digits", digits.inputs, idempotency_key=key)
    again = client.infer("digits", digits.inputs, idempotency_key=key)
    assert (first.replayed, again.replayed) == (False, True)
    assert first.job == again.job
    same(again.outputs, digits.outputs)
    assert before - Decimal(client.account()["balance"]) == first.credits
    with pytest.raises(fuelbox.FuelboxError) as reused:
        client.infer("digits", {"image": digits.inputs["image"] + 1}, idempotency_key=key)
    assert (reused.value.status, reused.value.code) == (422, "key_reused")


def test_one_key_from_many_threads_is_one_bill(client, encoder):
    key = str(uuid.uuid4())
    before = Decimal(client.account()["balance"])
    jobs, credits = set(), set()

    def infer():
        answer = client.infer("encoder", encoder.inputs, idempotency_key=key)
        jobs.add(answer.job)
        credits.add(answer.credits)

    threads = [threading.Thread(target=infer) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(jobs) == 1
    assert before - Decimal(client.account()["balance"]) == credits.pop()


def test_a_queued_job_is_come_back_for(client, keys, wine):
    job = client.submit("wine", wine.inputs, seed=3)
    done = client.wait(job.id, timeout=60)
    assert (done.id, done.state, done.verdict) == (job.id, "succeeded", "completed")
    answer = client.result(job.id)
    same(answer.outputs, wine.outputs)
    receipt = fuelbox.verify(client.receipt(job.id), keys)
    receipt.check_output(answer.outputs)
    receipt.check_input(wine.inputs, client.metadata("wine")["inputs"])
    assert receipt.seed == 3
    assert receipt.credits == done.credits
    assert receipt.digest == done.receipt
    assert client.job(job.id).state == "succeeded"


def test_a_job_that_has_ended_cannot_be_cancelled(client, digits):
    job = client.submit("digits", digits.inputs)
    client.wait(job.id, timeout=60)
    with pytest.raises(fuelbox.FuelboxError) as error:
        client.cancel(job.id)
    assert (error.value.status, error.value.code) == (409, "conflict")


def test_a_model_that_fails_is_billed_and_says_so(client, keys, digits):
    used = client.infer("digits", digits.inputs).fuel
    before = Decimal(client.account()["balance"])
    with pytest.raises(fuelbox.ModelError) as failed:
        client.infer("digits", digits.inputs, fuel_limit=used // 2)
    assert failed.value.verdict == "out_of_fuel"
    assert failed.value.bill.fuel == used // 2
    assert before - Decimal(client.account()["balance"]) == failed.value.bill.credits
    receipt = fuelbox.verify(client.receipt(failed.value.bill.job), keys)
    assert receipt.verdict == "out_of_fuel"
    receipt.check_output({})


def test_without_money_there_is_no_job(host, digits):
    with fuelbox.Client(host.url, host.keys["ben"]) as client:
        with pytest.raises(fuelbox.PaymentError) as refused:
            client.infer("digits", digits.inputs)
        assert refused.value.balance == 0
        assert refused.value.price > 0
        assert Decimal(client.account()["balance"]) == 0


def test_bytes_that_are_not_what_they_are_said_to_be(client):
    with pytest.raises(fuelbox.FuelboxError) as refused:
        client.infer("digits-image", {"image": np.array([b"no picture"], object)})
    assert refused.value.code == "model_failed"


def test_what_there_is(host, client):
    assert client.ready()
    assert {"digits", "wine", "encoder"} <= {model["name"] for model in client.models()}
    assert client.metadata("digits")["inputs"][0]["shape"] == [-1, 64]
    with pytest.raises(fuelbox.FuelboxError) as missing:
        client.metadata("none")
    assert (missing.value.status, missing.value.code) == (404, "not_found")
    with fuelbox.Client(host.url) as stranger:
        assert stranger.ready()
        with pytest.raises(fuelbox.FuelboxError) as refused:
            stranger.models()
        assert (refused.value.status, refused.value.code) == (401, "unauthenticated")


def test_usage_is_what_was_run(client, digits):
    def jobs():
        lines = client.usage("package")
        lines = lines["usage"] if isinstance(lines, dict) and "usage" in lines else lines
        return sum(one["jobs"] for one in lines)

    before = jobs()
    client.infer("digits", digits.inputs)
    assert jobs() == before + 1


def test_a_package_is_pushed_signed_and_run(host, digits):
    signer, _ = host.new_signer("acme")
    name = "pushed"
    package = host.pack(name, EXAMPLES / "digits/digits.onnx", version="0.2.0")
    with fuelbox.Client(host.url, host.keys["acme"], timeout=300) as publisher:
        published = publisher.push(package, signing_key=signer)
        assert (published["name"], published["version"]) == (name, "0.2.0")
        assert published["digest"] == fuelbox.identity(package).digest
        # The same again is the same package, and no error.
        assert publisher.push(package, signing_key=signer)["digest"] == published["digest"]
    with fuelbox.Client(host.url, host.keys["alice"]) as client:
        answer = client.infer(name, digits.inputs)
        assert answer.package == published["digest"]
        same(answer.outputs, digits.outputs)


def test_a_package_with_a_strangers_signature_is_refused(host):
    package = host.pack("unsigned", EXAMPLES / "digits/digits.onnx", version="0.3.0")
    with fuelbox.Client(host.url, host.keys["acme"], timeout=300) as publisher:
        with pytest.raises(fuelbox.FuelboxError) as refused:
            publisher.push(package, signing_key=Ed25519PrivateKey.generate())
    assert refused.value.status in (403, 422)


def test_a_caller_may_not_publish(host):
    package = host.pack("callers", EXAMPLES / "digits/digits.onnx", version="0.4.0")
    with fuelbox.Client(host.url, host.keys["alice"], timeout=300) as caller:
        with pytest.raises(fuelbox.FuelboxError) as refused:
            caller.push(package)
    assert (refused.value.status, refused.value.code) == (403, "forbidden")
