"""What the client sends, and what it makes of the replies."""

import base64
import json
from decimal import Decimal

import numpy as np
import pytest
from conftest import Reply, error

from fuelbox import (
    BusyError,
    Client,
    FuelboxError,
    ModelError,
    NoAnswer,
    PaymentError,
    verify,
    verify_proof,
)

X = {"x": np.array([1.0], np.float32)}
JOB = "0192f0c4-7a3e-7c11-8d2b-3f5a6b7c8d9e"
BILL = {
    "Fuelbox-Job": JOB,
    "Fuelbox-Fuel": "18446744073709551615",
    "Fuelbox-Credits": "0.001234",
    "Fuelbox-Receipt": "sha256:aa",
    "Fuelbox-Package": "sha256:bb",
}


def answer(headers=None, **members) -> Reply:
    document = {"model_name": "m", "model_version": "2", "outputs": [], **members}
    return Reply(200, json.dumps(document).encode(), headers or {})


@pytest.fixture
def pauses():
    return []


@pytest.fixture
def client(script, pauses):
    with Client(script.url, "fbx_key", retries=3) as client:
        client._transport._sleep = pauses.append
        yield client


def test_infer_sends_what_it_is_told(client, script):
    script.replies = [answer(BILL)]
    found = client.infer(
        "space.m",
        X,
        version="2+1",
        parameters={"top": 1},
        seed=2**64 - 1,
        fuel_limit=10,
        deadline_ms=500,
        idempotency_key="mine",
    )
    (seen,) = script.seen
    assert (seen.method, seen.path) == ("POST", "/v2/models/space.m/versions/2%2B1/infer")
    assert seen.headers["Authorization"] == "Bearer fbx_key"
    assert seen.headers["Fuelbox-Seed"] == "18446744073709551615"
    assert seen.headers["Fuelbox-Fuel-Limit"] == "10"
    assert seen.headers["Fuelbox-Deadline-Ms"] == "500"
    assert seen.headers["Idempotency-Key"] == "mine"
    end = int(seen.headers["Inference-Header-Content-Length"])
    assert json.loads(seen.body[:end])["parameters"] == {"top": 1, "binary_data_output": True}
    assert (found.model, found.version, found.job) == ("m", "2", JOB)
    assert found.fuel == 2**64 - 1
    assert found.credits == Decimal("0.001234")
    assert (found.receipt, found.package) == ("sha256:aa", "sha256:bb")
    assert not found.replayed


def test_limits_that_are_not_given_are_not_sent(client, script):
    script.replies = [answer()]
    client.infer("m", X)
    assert not [name for name in script.seen[0].headers if name.startswith("Fuelbox-")]
    assert script.seen[0].path == "/v2/models/m/infer"


def test_the_bill_is_read_from_parameters_where_headers_are_lost(client, script):
    said = {
        "fuelbox_job": JOB,
        "fuelbox_fuel": 7,
        "fuelbox_credits": "0.000001",
        "fuelbox_receipt": "sha256:aa",
        "fuelbox_package": "sha256:bb",
    }
    script.replies = [answer(parameters=said)]
    found = client.infer("m", X)
    assert (found.job, found.fuel, found.credits) == (JOB, 7, Decimal("0.000001"))
    assert (found.receipt, found.package) == ("sha256:aa", "sha256:bb")


def test_a_busy_host_is_asked_again_when_it_says_with_the_same_key(client, script, pauses):
    script.replies = [
        error(429, "rate", "too many", {"Retry-After": "7"}),
        error(503, "queue_full", "full", {"Retry-After": "2"}),
        error(409, "in_flight", "at work", {"Retry-After": "1"}),
        answer({"Idempotent-Replayed": "true"}),
    ]
    assert client.infer("m", X).replayed
    assert pauses == [7, 2, 1]
    assert len({seen.headers["Idempotency-Key"] for seen in script.seen}) == 1
    assert len({seen.body for seen in script.seen}) == 1


def test_two_calls_are_two_jobs(client, script):
    script.replies = [answer(), answer()]
    client.infer("m", X)
    client.infer("m", X)
    assert len({seen.headers["Idempotency-Key"] for seen in script.seen}) == 2


def test_a_gateway_that_names_no_time_is_asked_in_growing_pauses(client, script, pauses):
    script.replies = [Reply(503), Reply(502), Reply(429), answer()]
    client.infer("m", X)
    for pause, most in zip(pauses, (0.25, 0.5, 1.0)):
        assert most / 2 <= pause <= most


def test_a_host_that_names_no_time_is_not_asked_again(client, script, pauses):
    script.replies = [error(503, "unavailable", "unloaded")]
    with pytest.raises(BusyError) as failed:
        client.infer("m", X)
    assert failed.value.retry_after_s is None
    assert pauses == []


def test_a_host_that_stays_busy_is_an_error(client, script, pauses):
    script.replies = [error(429, "rate", "too many requests", {"Retry-After": "5"})] * 4
    with pytest.raises(BusyError) as failed:
        client.infer("m", X)
    assert pauses == [5, 5, 5]
    assert (failed.value.code, failed.value.status) == ("rate", 429)
    assert failed.value.sentence == "too many requests"
    assert failed.value.retry_after_s == 5


def test_a_pause_of_an_hour_is_not_waited_for(client, script, pauses):
    script.replies = [error(503, "stopping", "stopping", {"Retry-After": "3600"})]
    with pytest.raises(BusyError):
        client.infer("m", X)
    assert pauses == []


def test_a_date_that_is_over_is_no_pause(client, script, pauses):
    date = "Wed, 21 Oct 2015 07:28:00 GMT"
    script.replies = [error(503, "full", "full", {"Retry-After": date}), answer()]
    client.infer("m", X)
    assert pauses == [0]


def test_a_broken_connection_is_tried_again_with_the_same_key(client, script, pauses):
    script.replies = [Reply(broken=True), answer()]
    client.infer("m", X)
    assert len(pauses) == 1
    first, second = (seen.headers["Idempotency-Key"] for seen in script.seen)
    assert first == second


def test_a_host_that_is_not_there_is_no_answer(client, script):
    script.replies = [Reply(broken=True)] * 4
    with pytest.raises(NoAnswer, match="POST /v2/models/m/infer") as failed:
        client.infer("m", X)
    assert failed.value.status is None


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 413, 422, 500, 504])
def test_what_is_refused_is_not_sent_again(client, script, status):
    script.replies = [error(status, "some_code", "a sentence")]
    with pytest.raises(FuelboxError) as failed:
        client.infer("m", X)
    assert (failed.value.code, failed.value.sentence) == ("some_code", "a sentence")
    assert failed.value.status == status
    assert type(failed.value) is FuelboxError
    assert failed.value.bill is None


def test_a_model_that_fails_has_a_verdict_and_a_bill(client, script):
    script.replies = [error(422, "model_failed", "out of fuel", BILL, verdict="out_of_fuel")]
    with pytest.raises(ModelError) as failed:
        client.infer("m", X)
    assert failed.value.verdict == "out_of_fuel"
    assert failed.value.bill.job == JOB
    assert failed.value.bill.credits == Decimal("0.001234")


def test_a_job_that_its_deadline_stopped_has_a_bill(client, script):
    script.replies = [error(504, "deadline", "too late", BILL)]
    with pytest.raises(FuelboxError) as failed:
        client.infer("m", X)
    assert failed.value.bill.fuel == 2**64 - 1


def test_an_account_that_cannot_pay_is_told_what_is_missing(client, script):
    script.replies = [error(402, "payment", "too little", balance="0.5", price="1.25")]
    with pytest.raises(PaymentError) as failed:
        client.infer("m", X)
    assert failed.value.balance == Decimal("0.5")
    assert failed.value.price == Decimal("1.25")


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"error": "no code"}'])
def test_an_error_of_something_else_is_no_answer(client, script, body):
    script.replies = [Reply(502, body)] * 4
    with pytest.raises(NoAnswer, match="status 502 without a code"):
        client.infer("m", X)


def test_a_redirect_is_not_followed_with_the_key(client, script):
    script.replies = [Reply(307, headers={"Location": "/elsewhere"})]
    with pytest.raises(NoAnswer, match="status 307"):
        client.models()
    assert len(script.seen) == 1


def test_submit_sends_json_and_gives_the_job(client, script):
    script.replies = [Reply(202, json.dumps({"id": JOB, "state": "queued"}).encode())]
    job = client.submit(
        "m",
        {"x": np.array([[1, 2]], np.int64)},
        seed=3,
        fuel_limit=10,
        webhook="https://a.example",
    )
    (seen,) = script.seen
    assert (seen.method, seen.path) == ("POST", "/api/v1/jobs")
    assert seen.headers["Idempotency-Key"]
    assert json.loads(seen.body) == {
        "model": "m",
        "inputs": [{"name": "x", "shape": [1, 2], "datatype": "INT64", "data": [1, 2]}],
        "seed": 3,
        "limits": {"fuel": 10},
        "webhook": {"url": "https://a.example"},
    }
    assert (job.id, job.state, job.final) == (JOB, "queued", False)


def test_wait_asks_until_the_job_has_ended(client, script):
    script.replies = [
        Reply(body=json.dumps({"id": JOB, "state": state}).encode())
        for state in ("queued", "running", "failed")
    ]
    assert client.wait(JOB).final
    assert [seen.path for seen in script.seen] == [f"/api/v1/jobs/{JOB}?wait_s=60"] * 3


def test_wait_gives_the_job_as_it_is_when_its_time_is_over(client, script):
    script.replies = [Reply(body=json.dumps({"id": JOB, "state": "running"}).encode())]
    assert client.wait(JOB, timeout=0).state == "running"
    assert script.seen[0].path == f"/api/v1/jobs/{JOB}?wait_s=0"


def test_receipt_and_proof_are_what_verify_takes(client, script, golden):
    lines = golden.inclusion.split("\n")
    hashes = [f"sha256:{base64.b64decode(line).hex()}" for line in lines[2:4]]
    proof = {"index": 256, "size": 258, "hashes": hashes, "checkpoint": golden.checkpoint}
    script.replies = [
        Reply(body=golden.envelope),
        Reply(body=json.dumps(proof).encode()),
        Reply(body=golden.keys.encode()),
    ]
    envelope, proof, keys = client.receipt(JOB), client.proof(JOB), client.keys()
    assert verify(envelope, keys).job == JOB
    assert verify_proof(envelope, proof, keys).size == 258
    paths = [f"/api/v1/jobs/{JOB}/receipt", f"/api/v1/jobs/{JOB}/proof", "/api/v1/log/keys"]
    assert [seen.path for seen in script.seen] == paths


def test_a_result_is_asked_for_as_binary_data(client, script):
    script.replies = [answer(BILL)]
    assert client.result(JOB).job == JOB
    assert script.seen[0].path == f"/api/v1/jobs/{JOB}/result?binary=true"


@pytest.mark.parametrize("hashes", [["sha256:00"], ["0" * 64], [1], "sha256:"])
def test_a_proof_of_other_hashes_is_no_answer(client, script, hashes):
    proof = {"index": 0, "size": 1, "hashes": hashes, "checkpoint": ""}
    script.replies = [Reply(body=json.dumps(proof).encode())]
    with pytest.raises(NoAnswer, match="a reply that is no proof"):
        client.proof(JOB)


@pytest.mark.parametrize("status", [200, 503])
def test_ready_is_what_the_host_says(client, script, status):
    script.replies = [Reply(200)] if status == 200 else [error(503, "stopping", "stopping")]
    assert client.ready() is (status == 200)


def test_a_host_that_is_not_there_is_not_ready(client, script):
    script.replies = [Reply(broken=True)] * 4
    assert client.ready() is False


@pytest.mark.parametrize("url", ["", "localhost:1", "ftp://a", "http://"])
def test_a_url_that_is_none_is_refused(url):
    with pytest.raises(ValueError, match="allowed is http"):
        Client(url)
