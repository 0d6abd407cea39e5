"""ca/trust/systemd.sh where nothing is made up: Debian's own tools, root of a Debian of its own."""

from pathlib import Path

import pytest

from tests.packaging.debian import Debian, why_not
from tests.trust.authority import Authority, Proxy, issue_leaf
from tests.trust.machine import snapshot


@pytest.fixture
def debian(tmp_path: Path) -> Debian:
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    debian = Debian.unpack(tmp_path / "debian")
    debian.write("usr/lib/systemd/system/docker.service", "[Service]\nExecStart=/bin/true\n")
    return debian


@pytest.mark.timeout(600)
def test_openssl_believes_the_proxy(debian: Debian, proxy: Proxy, authority: Authority) -> None:
    debian.write("root/leaf.pem", issue_leaf(authority, "registry-1.docker.io").decode())
    verify = ("openssl", "verify", "-CApath", "/etc/ssl/certs", "/root/leaf.pem")
    assert debian.run(*verify).returncode != 0
    before = snapshot(debian.root / "etc") | snapshot(debian.root / "usr/local")

    pasted = f"curl -fsS {proxy.url}/setup/systemd | sh"
    done = debian.run("sh", "-c", pasted)
    assert done.returncode == 0, done.stderr
    assert "systemd does not run here" in done.stdout
    assert debian.run(*verify).stdout == "/root/leaf.pem: OK\n"
    bundle = (debian.root / "etc/ssl/certs/ca-certificates.crt").read_bytes()
    assert bundle.count(authority.pem.strip()) == 1
    assert "nothing was changed" in debian.run("sh", "-c", pasted).stdout

    done = debian.run("sh", "-c", f"{pasted} -s -- --undo")
    assert done.returncode == 0, done.stderr
    assert debian.run(*verify).returncode != 0
    assert snapshot(debian.root / "etc") | snapshot(debian.root / "usr/local") == before
