"""HTTP/1.1 connections: what is refused early does not spoil what comes next.

Clients keep connections, and send a request on one that was refused the last time.
"""

from __future__ import annotations

import http.client

import pytest
from host import Host

BODY = b'{"inputs": []}'.ljust(1000)


@pytest.mark.parametrize(
    ("path", "with_key", "status"),
    [
        ("/v2/models/none/infer", True, 404),
        ("/v2/models/digits/infer", False, 401),
        ("/v2/models/digits/infer", True, 400),
        ("/v2/nothing", True, 404),
        ("/api/v1/jobs", False, 401),
        ("/api/v1/nothing", True, 404),
    ],
)
def test_a_refused_request_leaves_its_connection_in_order(host, key, path, with_key, status):
    connection = connect(host)
    try:
        connection.putrequest("POST", path)
        connection.putheader("Content-Type", "application/json")
        connection.putheader("Content-Length", str(len(BODY)))
        if with_key:
            connection.putheader("Authorization", f"Bearer {key}")
        # The body comes after the head, as most clients send it.
        connection.endheaders()
        connection.send(BODY)
        reply = connection.getresponse()
        assert reply.status == status
        reply.read()
        if reply.getheader("Connection") == "close":
            return
        # Nobody said that this connection is over: so it is not.
        connection.request("GET", "/v2")
        assert connection.getresponse().status == 200
    finally:
        connection.close()


def connect(host: Host) -> http.client.HTTPConnection:
    address, port = host.http.split(":")
    connection = http.client.HTTPConnection(address, int(port), timeout=60)
    # It would open another one by itself.
    connection.auto_open = 0
    connection.connect()
    return connection
