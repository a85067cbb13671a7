"""Packages go up in parts, are signed, and go on where a broken connection left them."""

import base64
import hashlib
import json
from pathlib import Path

import pytest
from conftest import Reply, error
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from fuelbox import Client, FuelboxError, UploadBroken, identity, sign

TINY = Path(__file__).parents[3] / "tests/golden/tiny-1.fbx"
TINY_DIGEST = "sha256:f76dcb6a1d14c7f7de64b5308d605d125c813fb93f6b689a2ca5cebbfc451222"
KEY = Ed25519PrivateKey.from_private_bytes(b"\7" * 32)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "a.fbx"
    path.write_bytes(b"0123456789")
    return path


@pytest.fixture
def client(script):
    with Client(script.url, "fbx_key", retries=0) as client:
        yield client


def began(offset=0) -> Reply:
    document = {"id": "u1", "offset": offset, "chunk_bytes_max": 4, "expires": "2026"}
    return Reply(201, json.dumps(document).encode())


def at(offset) -> Reply:
    return Reply(204, b"", {"Upload-Offset": str(offset)})


PUBLISHED = Reply(201, b'{"name": "a", "version": "1"}')


def parts(script) -> list[tuple[str, bytes]]:
    patches = [seen for seen in script.seen if seen.method == "PATCH"]
    return [(seen.headers["Upload-Offset"], seen.body) for seen in patches]


def test_a_file_goes_up_in_parts_of_the_hosts_size(client, script, file):
    script.replies = [began(), at(4), at(8), at(10), PUBLISHED]
    assert client.push(file, visibility="private", load_fuel=5) == {"name": "a", "version": "1"}
    assert json.loads(script.seen[0].body) == {
        "bytes": 10,
        "digest": f"sha256:{hashlib.sha256(b'0123456789').hexdigest()}",
    }
    assert parts(script) == [("0", b"0123"), ("4", b"4567"), ("8", b"89")]
    assert json.loads(script.seen[-1].body) == {
        "upload": "u1",
        "visibility": "private",
        "load_fuel": 5,
    }


def test_a_part_that_broke_goes_on_where_the_host_is(client, script, file):
    script.replies = [began(), at(4), Reply(broken=True), at(6), at(10), PUBLISHED]
    client.push(file)
    assert parts(script) == [("0", b"0123"), ("4", b"4567"), ("6", b"6789")]


def test_an_upload_of_an_earlier_try_goes_on(client, script, file):
    script.replies = [began(8), at(10), PUBLISHED]
    client.push(file, upload="u1")
    assert script.seen[0].path == "/api/v1/uploads/u1"
    assert parts(script) == [("8", b"89")]


def test_an_upload_that_breaks_each_time_says_its_name(client, script, file):
    script.replies = [began()] + [Reply(broken=True), at(0)] * 5
    with pytest.raises(UploadBroken) as failed:
        client.push(file)
    assert failed.value.upload == "u1"


def test_a_refused_part_is_not_sent_again(client, script, file):
    script.replies = [began(), error(413, "too_large", "too large")]
    with pytest.raises(FuelboxError, match="too large"):
        client.push(file)


def test_a_package_says_what_it_is():
    pytest.importorskip("zstandard")
    found = identity(TINY)
    assert (found.digest, found.name, found.version) == (TINY_DIGEST, "tiny", "1.0.0")


def test_what_is_no_package_is_refused(file):
    with pytest.raises(FuelboxError, match="is no package of version 1"):
        identity(file)


def test_a_signature_is_of_digest_name_and_version(tmp_path):
    pytest.importorskip("zstandard")
    pem = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path = tmp_path / "key.pem"
    path.write_bytes(pem)
    envelope = sign(identity(TINY), KEY)
    for same in (pem, pem.decode(), path):
        assert sign(identity(TINY), same) == envelope
    kind = b"application/vnd.fuelbox.package.v1+json"
    payload = base64.b64decode(envelope["payload"])
    expected = b'{"digest":"%s","name":"tiny","version":"1.0.0"}' % TINY_DIGEST.encode()
    assert payload == expected
    signed = b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)
    KEY.public_key().verify(base64.b64decode(envelope["signatures"][0]["sig"]), signed)


def test_the_signature_goes_with_the_package(client, script):
    pytest.importorskip("zstandard")
    size = TINY.stat().st_size
    script.replies = [began(size), PUBLISHED]
    client.push(TINY, signing_key=KEY)
    assert json.loads(script.seen[-1].body)["signature"] == sign(identity(TINY), KEY)
