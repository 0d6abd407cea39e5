"""Upstreams for integration tests."""

import ssl
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import ProxyClient
from tests.support.pki import TestAuthority
from tests.support.proxy import ProxyProcess
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


class Setting:
    """A scripted registry, known to clients as registry.test, behind a real proxy."""

    def __init__(
        self, authority: TestAuthority, registry: ScriptedRegistry, directory: Path
    ) -> None:
        self.registry = registry
        self.url = "https://registry.test"
        bundle = directory / "upstream-ca.pem"
        bundle.write_text(authority.pem)
        self.upstream: dict[str, Any] = {
            "endpoints": [registry.url],
            "ca_bundle": str(bundle),
        }
        self.config: dict[str, Any] = {
            "registries": {"registry.test": self.upstream},
            "storage": {"min_free": "1m"},
        }
        self.proxy = ProxyProcess(self.config, directory)

    def start(self) -> ProxyClient:
        self.proxy.configure(self.config)
        self.proxy.start()
        return self.client

    def close(self) -> None:
        if self.proxy.is_running:
            self.proxy.kill9()

    @property
    def client(self) -> ProxyClient:
        trust = ssl.create_default_context(cadata=self.proxy.ca_pem())
        return ProxyClient(self.proxy.address, trust)


@pytest.fixture
def setting(
    authority: TestAuthority, registry: ScriptedRegistry, tmp_path: Path
) -> Iterator[Setting]:
    """Not started: tests may change `config` before."""
    setting = Setting(authority, registry, tmp_path)
    yield setting
    setting.close()
    sys.stderr.write(setting.proxy.log_tail())  # shown by pytest with what has failed


@pytest.fixture(scope="module")
def shared(
    request: pytest.FixtureRequest,
    authority: TestAuthority,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Setting]:
    """Started with the CONFIG of a module, for all its tests that each bring their own content."""
    with ScriptedRegistry(authority) as registry:
        setting = Setting(authority, registry, tmp_path_factory.mktemp("shared"))
        setting.config |= getattr(request.module, "CONFIG", {})
        setting.start()
        yield setting
        setting.close()
