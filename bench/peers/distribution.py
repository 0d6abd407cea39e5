"""CNCF distribution in pull-through mode, over TLS."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from bench.peers.listening import listens
from bench.peers.server import Server
from bench.upstream import Upstream
from tests.support.pki import TestAuthority
from tests.support.ports import ReservedPort
from tests.support.processes import Program

_START_S = 20.0


@contextmanager
def distribution(
    directory: Path, upstream: Upstream, authority: TestAuthority, prefix: list[str]
) -> Iterator[Server]:
    directory.mkdir()
    certificate = authority.issue("127.0.0.1")
    reserved = ReservedPort("127.0.0.1")
    address = f"127.0.0.1:{reserved.number}"
    config = {
        "version": 0.1,
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {
            "filesystem": {"rootdirectory": str(directory / "storage")},
            "cache": {"blobdescriptor": "inmemory"},
        },
        "http": {
            "addr": address,
            "tls": {"certificate": str(certificate.certificate), "key": str(certificate.key)},
        },
        "proxy": {"remoteurl": upstream.url},
    }
    file = directory / "config.yml"
    file.write_text(yaml.safe_dump(config))
    trusted = {"SSL_CERT_FILE": str(authority.ca_file)}
    program = Program([*prefix, "docker-registry", "serve", str(file)], directory / "log", trusted)
    try:
        program.wait_ready(lambda: listens(reserved.number), _START_S)
        yield Server("distribution", address, authority.ca_file, program.pid)
    finally:
        program.kill()
