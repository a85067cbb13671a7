"""curl: the protocol by hand."""

from __future__ import annotations

import json
import shutil
import subprocess

import numpy as np
import pytest
from host import EXAMPLES, as_json, of_json, same


@pytest.fixture
def curl(host, key, tmp_path):
    """Runs curl: the status, the headers in small letters, the body."""
    assert shutil.which("curl"), "curl is missing"

    def run(path, *arguments, body=None, key=key):
        command = ["curl", "--silent", "--show-error", "--max-time", "60", host.url + path]
        command += ["--dump-header", str(tmp_path / "headers"), "--output", str(tmp_path / "body")]
        command += ["--header", "Expect:", *arguments]
        if key:
            command += ["--header", f"Authorization: Bearer {key}"]
        if body is not None:
            command += ["--data-binary", "@-"]
        (tmp_path / "body").write_bytes(b"")
        done = subprocess.run(command, input=body, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
        lines = (tmp_path / "headers").read_text().strip().splitlines()
        headers = dict(line.lower().split(": ", 1) for line in lines[1:] if ": " in line)
        return int(lines[0].split()[1]), headers, (tmp_path / "body").read_bytes()

    return run


JSON = ("--header", "Content-Type: application/json")


def test_health_needs_no_key(curl):
    for path in ("/healthz", "/v2/health/live", "/v2/health/ready", "/v2"):
        status, _, body = curl(path, key=None)
        assert status == 200, path
        assert body or path == "/healthz"


def test_json_in_and_out(curl, wine):
    body = (EXAMPLES / "wine/sample.json").read_bytes()
    status, headers, answer = curl("/v2/models/wine/infer", *JSON, body=body)
    assert status == 200
    assert headers["content-type"] == "application/json"
    document = json.loads(answer)
    assert (document["model_name"], document["model_version"]) == ("wine", "1.0.0")
    same({one["name"]: of_json(one) for one in document["outputs"]}, wine.outputs)
    expected = json.loads((EXAMPLES / "wine/expected.json").read_text())["outputs"]
    for found, known in zip(document["outputs"], expected):
        assert (found["name"], found["shape"]) == (known["name"], known["shape"])
        assert np.allclose(found["data"], known["data"], atol=1e-4)
    for name in ("job", "fuel", "credits", "receipt", "package"):
        assert str(document["parameters"][f"fuelbox_{name}"]) == headers[f"fuelbox-{name}"]
    assert headers["fuelbox-verdict"] == "completed"


def test_a_version_in_the_path(curl, wine):
    body = (EXAMPLES / "wine/sample.json").read_bytes()
    assert curl("/v2/models/wine/versions/1.0.0/infer", *JSON, body=body)[0] == 200
    assert curl("/v2/models/wine/versions/1.0.1/infer", *JSON, body=body)[0] == 404


def test_data_may_be_nested(curl, digits):
    tensor = as_json("image", digits.inputs["image"])
    flat = json.dumps({"inputs": [tensor]}).encode()
    tensor["data"] = [tensor["data"]]
    nested = json.dumps({"inputs": [tensor]}).encode()
    answers = [
        json.loads(curl("/v2/models/digits/infer", *JSON, body=body)[2])["outputs"]
        for body in (flat, nested)
    ]
    assert answers[0] == answers[1]
    same({one["name"]: of_json(one) for one in answers[0]}, digits.outputs)


RAW = (
    *("--header", "Content-Type: application/octet-stream"),
    *("--header", "Inference-Header-Content-Length: 0"),
)


def test_a_raw_binary_body_is_the_one_input(curl, digits):
    image = digits.inputs["image"]
    for rows in (1, 2):
        body = np.concatenate([image] * rows).tobytes()
        status, headers, answer = curl("/v2/models/digits/infer", *RAW, body=body)
        assert status == 200
        end = int(headers["inference-header-content-length"])
        (tensor,) = json.loads(answer[:end])["outputs"]
        assert (tensor["datatype"], tensor["shape"]) == ("FP32", [rows, 10])
        assert tensor["parameters"]["binary_data_size"] == len(answer) - end == rows * 40
        if rows == 1:
            assert answer[end:] == digits.outputs["probabilities"].tobytes()


def test_a_raw_picture(curl):
    picture = (EXAMPLES / "digits-image/seven.png").read_bytes()
    status, headers, answer = curl("/v2/models/digits-image/infer", *RAW, body=picture)
    assert status == 200
    end = int(headers["inference-header-content-length"])
    assert [one["name"] for one in json.loads(answer[:end])["outputs"]] == ["label", "confidence"]
    assert answer[end : end + 9] == b"\5\0\0\0seven"


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (b"", "line 1 column 0"),
        (b"{", "line 1 column 1"),
        (b"[1, 2", "expected an object"),
        (
            b'{"inputs": [{"name": "image", "shape": [1, 64], "datatype": "FP32", "data": [NaN]}]}',
            "",
        ),
        (b"[" * 100_000, ""),
        (b"\xff\xfe", ""),
        (b"{}", "inputs"),
    ],
)
def test_what_is_no_request_is_refused_in_a_sentence(curl, body, word):
    status, headers, answer = curl("/v2/models/digits/infer", *JSON, body=body)
    assert status == 400
    assert headers["content-type"] == "application/json"
    document = json.loads(answer)
    assert document["code"] == "bad_input"
    assert document["status"] == 400
    assert document["type"] == "urn:fuelbox:error:bad_input"
    assert document["error"] == document["detail"]
    assert word in document["error"]


def test_a_raw_body_of_another_length_is_refused(curl):
    status, _, answer = curl("/v2/models/digits/infer", *RAW, body=b"\0" * 255)
    assert status == 400
    assert "255" in json.loads(answer)["error"]


def test_all_bad_keys_get_one_answer(curl, key):
    body = (EXAMPLES / "wine/sample.json").read_bytes()
    unknown = "fbx_" + "a" * 16 + "_" + "A" * 43
    # The right id with another secret.
    guessed = key[:21] + "A" * 43
    answers = set()
    for bad in (unknown, guessed, "fbx_", "x"):
        status, headers, answer = curl("/v2/models/wine/infer", *JSON, body=body, key=bad)
        assert status == 401
        assert headers["www-authenticate"].startswith("bearer")
        answers.add(answer)
    assert len(answers) == 1


def test_methods_and_paths_that_are_not_there(curl):
    assert curl("/v2/models/wine/infer")[0] == 405
    assert curl("/v2/nothing")[0] == 404
    assert curl("/../v2", "--path-as-is")[0] in (400, 404)
