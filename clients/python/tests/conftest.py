"""What the tests share: the golden receipts of the tree, and a host that answers by a script."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

GOLDEN = Path(__file__).parents[3] / "tests/golden/receipts"


@dataclass
class Golden:
    """Files of tests/golden/receipts."""

    envelope: bytes = (GOLDEN / "envelope-1.json").read_bytes()
    statement: bytes = (GOLDEN / "receipt-1.json").read_bytes()
    keys: str = (GOLDEN / "keys.pem").read_text()
    private_key: bytes = (GOLDEN / "key.pem").read_bytes()
    checkpoint: str = (GOLDEN / "checkpoint-1.txt").read_text()
    earlier: str = (GOLDEN / "checkpoint-1-earlier.txt").read_text()
    inclusion: str = (GOLDEN / "inclusion-1.tlog-proof").read_text()
    consistency: str = (GOLDEN / "consistency-1.txt").read_text()


@dataclass
class Seen:
    """A request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Reply:
    """What the host says next. `broken` closes the connection instead."""

    status: int = 200
    body: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=dict)
    broken: bool = False


def error(status: int, code: str, sentence: str, headers: Any = None, **members: Any) -> Reply:
    """A host's error document."""
    document = {"error": sentence, "code": code, **members}
    return Reply(status, json.dumps(document).encode(), headers or {})


@dataclass
class Script:
    """A host that gives these replies, one after the other."""

    replies: list[Reply] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    url: str = ""


@pytest.fixture
def golden() -> Golden:
    return Golden()


@pytest.fixture
def script() -> Iterator[Script]:
    script = Script()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            script.seen.append(Seen(self.command, self.path, dict(self.headers.items()), body))
            reply = script.replies.pop(0)
            if reply.broken:
                self.close_connection = True
                return
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(reply.body)))
            self.end_headers()
            self.wfile.write(reply.body)

        do_GET = do_POST = do_PATCH = handle_any

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    script.url = f"http://127.0.0.1:{server.server_address[1]}"
    yield script
    server.shutdown()
    server.server_close()
    assert not script.replies, "replies that nobody asked for"
