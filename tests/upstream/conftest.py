import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.support.pki import ServerCertificate, TestAuthority
from tests.upstream.bench import SECRET, Bench


@pytest.fixture(autouse=True)
def _no_secret_is_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """By anybody, at any level, in any of these tests."""
    caplog.set_level(logging.DEBUG)
    yield
    assert SECRET not in caplog.text


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    yield bench
    await bench.aclose()


@pytest.fixture(scope="session")
def certificate(authority: TestAuthority) -> ServerCertificate:
    return authority.issue("127.0.0.1", "localhost", "registry.example", "*.registry.example")


@pytest.fixture(scope="session")
def ca_bundle(authority: TestAuthority) -> Path:
    return authority.ca_file
