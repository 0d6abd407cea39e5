"""Upstreams for integration tests."""

from collections.abc import Iterator

import pytest

from tests.support.client import ProxyClient
from tests.support.pki import TestAuthority
from tests.support.registry import ScriptedRegistry


@pytest.fixture
def registry(authority: TestAuthority) -> Iterator[ScriptedRegistry]:
    """An upstream over TLS that is open to all."""
    with ScriptedRegistry(authority) as registry:
        yield registry


@pytest.fixture
def direct(authority: TestAuthority) -> ProxyClient:
    """A client that trusts the upstreams and uses no proxy."""
    return ProxyClient(None, authority.client_context())
