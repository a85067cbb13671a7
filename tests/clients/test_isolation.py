"""What a key opens, and that nobody learns anything without one.

Goes through every route of the OpenAPI document, so that a route that is added is asked as well. Each
is asked without a key, with keys that are no longer good, and with the key of an account that has
nothing to do with the things that the path names. Where the things are somebody else's, the answer has to
be, byte for byte, the one for things that do not exist.
"""

from __future__ import annotations

import datetime
import json
import re
import urllib.request
import uuid
from dataclasses import dataclass, field

import fuelbox
import numpy as np
import pytest
from host import EXAMPLES, as_json

# Open to everybody: the contract of the server says so (docs/server.md).
PUBLIC = (
    "/healthz",
    "/v2",
    "/v2/",
    "/v2/health/live",
    "/v2/health/ready",
    "/api/v1/openapi.json",
    "/docs",
    "/api/v1/log/checkpoint",
    "/api/v1/log/consistency",
    "/api/v1/log/keys",
    "/api/v1/prices",
)
SEVEN = {"inputs": [as_json("image", np.load(EXAMPLES / "digits/seven.npy"))]}
METHODS = ("get", "post", "put", "patch", "delete")


@dataclass
class Things:
    """What belongs to alice and to acme, by the words that paths use, and names of nothing."""

    owned: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)


@pytest.fixture(scope="module")
def document(host):
    status, document = host.call("GET", "/api/v1/openapi.json", key=None)
    assert status == 200
    return document


@pytest.fixture(scope="module")
def routes(document):
    """Method and path of every route, and those of the inference protocol that it leaves out."""
    found = {
        (method.upper(), path)
        for path, item in document["paths"].items()
        for method in METHODS
        if method in item
    }
    protocol = "/v2/models/{name}"
    for tail in ("", "/ready", "/config", "/stats"):
        found |= {("GET", protocol + tail), ("GET", protocol + "/versions/{version}" + tail)}
    found |= {
        ("POST", protocol + "/infer"),
        ("POST", protocol + "/versions/{version}/infer"),
        ("GET", "/v2/models/stats"),
        ("POST", "/v2/repository/index"),
        ("POST", "/v2/repository/models/{name}/load"),
        ("POST", "/v2/repository/models/{name}/unload"),
    }
    return sorted(found)


@pytest.fixture(scope="module")
def things(host, document):
    """A private package of acme's, a job, a key and an upload of alice's."""
    del document
    package = host.pack("secret", EXAMPLES / "digits/digits.onnx")
    signer, signer_id = host.new_signer("acme")
    with fuelbox.Client(host.url, host.keys["acme"], timeout=300) as acme:
        acme.push(package, signing_key=signer, visibility="private")
    with fuelbox.Client(host.url, host.keys["alice"], timeout=60) as alice:
        job = alice.submit("digits", host.models["digits"].inputs).id
        assert alice.wait(job, timeout=60).final
    key = host.new_key("alice", ["caller"], name="another of alice's")["id"]
    upload = {"bytes": 10, "digest": "sha256:" + "0" * 64}
    status, begun = host.call("POST", "/api/v1/uploads", upload, key=host.keys["acme"])
    assert status == 201, begun
    owned = {
        "account": "alice",
        "job": job,
        "key": key,
        "upload": begun["id"],
        "package": "secret",
        "signer": signer_id,
    }
    missing = {
        "account": "nobody",
        "job": str(uuid.UUID(int=uuid.UUID(job).int ^ 1)),
        "key": "a" * 16,
        "upload": begun["id"][:-1] + ("a" if begun["id"][-1] != "a" else "b"),
        "package": "nothing",
        "signer": "0" * 64,
    }
    return Things(owned, missing)


@pytest.fixture(scope="module")
def bad_keys(host):
    """Keys that are good no longer, or never were, by what is wrong with them."""
    operator = host.keys["operator"]
    revoked = host.new_key("alice", ["caller"])
    status, _ = host.call("DELETE", f"/api/v1/keys/{revoked['id']}", key=operator)
    assert status in (200, 204)
    expired = expired_key(host)
    good = host.keys["alice"]
    return {
        "revoked": revoked["key"],
        "expired": expired,
        "unknown": "fbx_" + "a" * 16 + "_" + "A" * 43,
        "another secret": good[:21] + "A" * 43,
        "malformed": good[:-1],
    }


def expired_key(host) -> str:
    """A key whose time is over. The host makes none that is over already."""
    soon = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=1)
    expires = soon.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    key = host.new_key("alice", ["caller"], expires=expires)["key"]
    # Bounded; each takes a millisecond or more.
    for _ in range(100_000):
        if host.call("GET", "/api/v1/account", key=key)[0] == 401:
            return key
    raise AssertionError(f"a key is still good after {expires}")


def fill(path: str, names: dict[str, str]) -> str:
    """A path with names in its places. What a place means is what stands before it."""
    kinds = {
        "accounts": "account",
        "publisher-keys": "signer",
        "jobs": "job",
        "keys": "key",
        "uploads": "upload",
        "packages": "package",
        "models": "package",
    }

    def name(match: re.Match[str]) -> str:
        place = match.group(1)
        if place == "version":
            return "1.0.0"
        before = path[: match.start()].rstrip("/").rsplit("/", 1)[-1]
        return names[kinds[before]]

    return re.sub(r"\{(\w+)\}", name, path)


def ask(host, method, path, key):
    """Asks as somebody who knows what to say there. Status, headers in small letters, body."""
    document, headers = None, {}
    if method in ("POST", "PUT", "PATCH"):
        document = {}
    if method == "PATCH" and "/packages/" in path:
        document = {"visibility": "public"}
    elif method == "PATCH" and "/uploads/" in path:
        document, headers = b"0123456789", {"Upload-Offset": "0"}
        headers["Content-Type"] = "application/octet-stream"
    elif path.endswith("/infer"):
        document = SEVEN
    return host.send(method, path, document, key=key, headers=headers)


def is_public(path: str) -> bool:
    return path in PUBLIC or path.startswith("/api/v1/log/")


def test_the_document_names_the_routes_of_the_contract(routes):
    paths = {path for _, path in routes}
    for path in ("/api/v1/jobs", "/api/v1/packages", "/api/v1/accounts", "/api/v1/keys"):
        assert path in paths
    assert len(routes) > 40


def test_without_a_key_there_is_one_answer_for_all(host, routes, things):
    answers = set()
    for method, path in routes:
        if is_public(path):
            continue
        for names in (things.owned, things.missing):
            status, headers, body = ask(host, method, fill(path, names), None)
            assert status == 401, (method, path, status, body)
            assert headers["www-authenticate"].startswith("Bearer"), (method, path)
            answers.add(without_form(body))
    assert len(answers) == 1, answers


def test_keys_that_are_no_good_get_one_answer_for_all(host, routes, things, bad_keys):
    answers = {}
    for what, key in bad_keys.items():
        for method, path in routes:
            if is_public(path):
                continue
            for names in (things.owned, things.missing):
                status, headers, body = ask(host, method, fill(path, names), key)
                assert status == 401, (what, method, path, status, body)
                assert headers["www-authenticate"].startswith("Bearer"), (method, path)
                answers.setdefault(without_form(body), (what, method, path))
    assert len(answers) == 1, answers


def test_public_routes_answer_the_same_with_and_without_a_key(host):
    for path in PUBLIC:
        if path.endswith("consistency"):
            path += "?from=0&to=0"
        bare = host.send("GET", path, key=None)
        assert bare[0] < 400, (path, bare)
        assert host.send("GET", path, key=host.keys["mallory"])[0] == bare[0], path


@pytest.mark.parametrize("account", ["mallory", "rival"])
def test_a_stranger_cannot_tell_what_belongs_to_others_from_nothing(host, routes, things, account):
    stranger = host.keys[account]
    for method, path in routes:
        if is_public(path) or "{" not in path:
            continue
        answers = []
        for names in (things.owned, things.missing):
            at = fill(path, names)
            status, _, body = ask(host, method, at, stranger)
            assert status in (400, 403, 404, 405), (method, at, status, body)
            for name in names.values():
                body = body.replace(name.encode(), b"NAME")
            answers.append((status, body))
        assert answers[0] == answers[1], (method, path)
    # And nothing has become of any of it.
    alice, acme = host.keys["alice"], host.keys["acme"]
    for path, key in (
        (f"/api/v1/jobs/{things.owned['job']}/receipt", alice),
        (f"/api/v1/uploads/{things.owned['upload']}", acme),
        ("/api/v1/packages/secret/1.0.0", acme),
    ):
        assert host.send("GET", path, key=key)[0] == 200, path
    status, keys = host.call("GET", "/api/v1/keys", key=alice)
    assert status == 200
    assert things.owned["key"] in json.dumps(keys)
    status, _, body = host.send("GET", f"/api/v1/uploads/{things.owned['upload']}", key=acme)
    assert json.loads(body)["offset"] == 0


def test_a_stranger_cannot_queue_a_job_of_a_private_package(host, things):
    answers = []
    for names in (things.owned, things.missing):
        document = {"model": names["package"], **SEVEN}
        status, body = host.call("POST", "/api/v1/jobs", document, key=host.keys["mallory"])
        assert status == 404, body
        answers.append(json.dumps(body).replace(names["package"], "NAME"))
    assert answers[0] == answers[1]


def test_a_stranger_reads_nothing_of_others_in_lists(host, things):
    stranger = host.keys["mallory"]
    for path in ("/jobs", "/packages", "/keys", "/usage?by=package", "/account/statement"):
        status, _, body = host.send("GET", f"/api/v1{path}", key=stranger)
        assert status in (200, 403), (path, status)
        for name in (*things.owned.values(), "alice"):
            assert name.encode() not in body, (path, name)
    for method, path in (("POST", "/v2/repository/index"), ("GET", "/v2/models/stats")):
        status, _, body = host.send(method, path, key=stranger)
        assert status == 200
        assert b"secret" not in body, path


OPERATORS = ("/api/v1/accounts", "/api/v1/spaces")


def test_a_callers_key_opens_no_route_of_the_operator(host, routes, things):
    for method, path in routes:
        if not path.startswith(OPERATORS):
            continue
        for account in ("alice", "acme", "mallory", "rival"):
            status, _, body = ask(host, method, fill(path, things.owned), host.keys[account])
            assert status == 403, (account, method, path, status, body)


def test_a_private_package_is_its_publishers_until_it_names_readers(host, digits, things):
    del things

    def infer(account):
        with fuelbox.Client(host.url, host.keys[account]) as client:
            return client.infer("secret", digits.inputs).outputs["probabilities"].argmax()

    def refused(account):
        with pytest.raises(fuelbox.FuelboxError) as error:
            infer(account)
        return error.value

    assert (refused("alice").status, refused("alice").code) == (404, "not_found")
    path = "/api/v1/packages/secret/1.0.0"
    acme = host.keys["acme"]
    status, body = host.call("PATCH", path, {"readers": ["alice"]}, key=acme)
    assert status == 200, body
    try:
        assert infer("alice") == 7
        assert refused("mallory").status == 404
    finally:
        assert host.call("PATCH", path, {"readers": []}, key=acme)[0] == 200
    assert refused("alice").status == 404


def test_a_key_cannot_make_a_stronger_one(host):
    for account, scope in (("alice", "operator"), ("alice", "publisher"), ("acme", "operator")):
        document = {"account": account, "scopes": [scope]}
        status, body = host.call("POST", "/api/v1/keys", document, key=host.keys[account])
        assert status == 403, body
    # Nor one of another account, whether there is such an account or not.
    refused = []
    for other in ("alice", "nobody"):
        document = {"account": other, "scopes": ["caller"]}
        status, body = host.call("POST", "/api/v1/keys", document, key=host.keys["mallory"])
        assert status in (403, 404), body
        refused.append(json.dumps(body).replace(other, "NAME"))
    assert refused[0] == refused[1]


def test_money_moves_by_the_operator_alone(host):
    path = "/api/v1/accounts/mallory/top-ups"
    for account in ("mallory", "alice", "acme"):
        assert host.call("POST", path, {"credits": "1"}, key=host.keys[account])[0] == 403
    with fuelbox.Client(host.url, host.keys["mallory"]) as client:
        before = client.account()["balance"]
        status, body = host.call("POST", path, {"credits": "0.5"}, key=host.keys["operator"])
        assert status in (200, 201), body
        assert fuelbox.errors.credits_of(client.account()["balance"]) == (
            fuelbox.errors.credits_of(before) + fuelbox.errors.credits_of("0.5")
        )


def test_the_key_in_a_path_or_query_is_no_key(host):
    key = host.keys["alice"]
    assert host.send("GET", f"/api/v1/account?key={key}", key=None)[0] == 401
    assert host.send("GET", f"/api/v1/account?access_token={key}", key=None)[0] == 401


def test_metrics_and_logs_have_no_key(host, bad_keys):
    log = (host.folder / "stderr").read_text()
    with urllib.request.urlopen(f"http://{host.metrics}/metrics", timeout=60) as reply:
        metrics = reply.read().decode()
    assert "fuelbox" in metrics
    for key in (*host.keys.values(), *bad_keys.values()):
        # What is behind the id: some ids may be said, a secret never, nor half of it.
        assert key[21:41] not in log + metrics


def without_form(body: bytes) -> bytes:
    """A refusal's words: both surfaces have the same, in the same order."""
    return json.dumps(json.loads(body), sort_keys=True).encode()
