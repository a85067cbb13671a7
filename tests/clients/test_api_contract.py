"""/api/v1 does what its OpenAPI document says, for whatever is sent to it.

schemathesis reads the document, makes requests that fit it and requests that do not, and looks at each
answer: never a server error, a documented status, a documented content type, a body of the documented
schema. Examples are bounded and the seed is fixed, so that a failure is the same next time. It has a
host of its own: what it makes and deletes there is nobody else's.
"""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from host import Host, binary

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
)
# For each operation. With some 50 of them, two minutes for both keys in a debug build.
EXAMPLES = 20
SEED = 1
OPERATIONS_MIN = 30
# Bounds a hang; an ordinary run takes a quarter of it.
RUN_S_MAX = 480


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    host = Host(binary(), tmp_path_factory.mktemp("contract"))
    host.prepare(("digits",))
    try:
        host.start()
        yield host
    finally:
        host.stop()


@pytest.mark.parametrize("account", ["operator", "alice"])
def test_answers_are_those_of_the_document(host, account, tmp_path):
    command = [
        *(sys.executable, "-m", "schemathesis.cli"),
        *("run", f"{host.url}/api/v1/openapi.json"),
        *("--header", f"Authorization: Bearer {host.keys[account]}"),
        *("--checks", ",".join(CHECKS)),
        *("--phases", "examples,coverage,fuzzing"),
        *("--max-examples", str(EXAMPLES)),
        *("--seed", str(SEED)),
        *("--generation-database", "none"),
        *("--request-timeout", "60"),
        *("--workers", "1", "--no-color"),
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, timeout=RUN_S_MAX, check=False
    )
    assert done.returncode == 0, f"{done.stdout[-20_000:]}\n{done.stderr}"
    # A document without operations would hold, too.
    counts = re.search(r"Selected: (\d+)/(\d+)\s+Tested: (\d+)", done.stdout).groups()
    assert len(set(counts)) == 1, done.stdout
    assert int(counts[0]) >= OPERATIONS_MIN
