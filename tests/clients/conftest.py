"""Fixtures: one host for all tests of a session."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from host import Host, Model, binary


@pytest.fixture(scope="session")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """A host with models, accounts and keys."""
    host = Host(binary(), tmp_path_factory.mktemp("host"))
    host.prepare()
    try:
        host.start()
        yield host
    finally:
        host.stop()


@pytest.fixture
def key(host: Host) -> str:
    """A caller's key."""
    return host.keys["alice"]


@pytest.fixture
def bearer(key: str) -> dict[str, str]:
    """The header with that key."""
    return {"authorization": f"Bearer {key}"}


@pytest.fixture
def digits(host: Host) -> Model:
    return host.models["digits"]


@pytest.fixture
def wine(host: Host) -> Model:
    return host.models["wine"]


@pytest.fixture
def identity(host: Host) -> Model:
    return host.models["identity"]


@pytest.fixture
def image(host: Host) -> Model:
    return host.models["digits-image"]


@pytest.fixture
def encoder(host: Host) -> Model:
    return host.models["encoder"]
