"""ca/trust/systemd.sh, the way back, and what a rotation of the CA changes."""

import hashlib

from cryptography.hazmat.primitives.serialization import Encoding

from tests.trust.authority import Authority, Proxy
from tests.trust.machine import Machine

DEBIAN = "usr/local/share/ca-certificates"


def test_everything_is_as_before(machine: Machine, proxy: Proxy) -> None:
    directory = "etc/systemd/system/docker.service.d"
    machine.write(f"{directory}/http-proxy.conf", '[Service]\nEnvironment="NO_PROXY=a"\n')
    machine.write(f"{DEBIAN}/entrepot-ca-of-somebody-else.crt", "theirs\n")
    before = machine.snapshot()
    machine.run("--unit", "docker", "--unit", "containerd", env=proxy.env)
    assert machine.snapshot() != before
    machine.calls()
    done = machine.run("--undo", env={})
    assert done.returncode == 0
    assert machine.snapshot() == before
    assert machine.calls() == [
        "update-ca-certificates --fresh",
        "systemctl daemon-reload",
        "systemctl restart containerd.service",
        "systemctl restart docker.service",
    ]


def test_directories_that_were_made_go_too(machine: Machine, proxy: Proxy) -> None:
    (machine.root / DEBIAN).rmdir()
    (machine.root / "etc/systemd/system").rmdir()
    before = machine.snapshot()
    machine.run(env=proxy.env)
    machine.run("--no-proxy", "10.0.0.0/8", env=proxy.env)
    machine.run("--undo", env={})
    assert machine.snapshot() == before


def test_directories_that_were_there_stay(machine: Machine, proxy: Proxy) -> None:
    (machine.root / "etc/systemd/system/docker.service.d").mkdir()
    before = machine.snapshot()
    machine.run(env=proxy.env)
    machine.run("--undo", env={})
    assert machine.snapshot() == before


def test_nothing_to_undo(machine: Machine) -> None:
    machine.write("etc/systemd/system/docker.service.d/entrepot.conf", "[Service]\n")
    before = machine.snapshot()
    done = machine.run("--undo", env={})
    assert done.returncode == 0
    assert "nothing to undo" in done.stdout
    assert machine.snapshot() == before
    assert machine.calls() == []


def test_a_dry_run(machine: Machine, proxy: Proxy) -> None:
    machine.run(env=proxy.env)
    after, _ = machine.snapshot(), machine.calls()
    done = machine.run("--undo", "--dry-run", env={})
    assert "would remove /etc/systemd/system/docker.service.d/entrepot.conf" in done.stdout
    assert machine.snapshot() == after
    assert machine.calls() == []


def test_a_rotation(
    machine: Machine, proxy: Proxy, authority: Authority, successor: Authority
) -> None:
    anchors = machine.root / DEBIAN
    machine.run(env=proxy.env)
    proxy.serve(authority, successor)
    machine.run(env=proxy.env)
    assert {file.name for file in anchors.iterdir()} == {authority.anchor, successor.anchor}
    assert (anchors / successor.anchor).read_bytes() == successor.pem
    machine.calls()
    proxy.serve(successor)
    machine.run(env=proxy.env)
    assert [file.name for file in anchors.iterdir()] == [successor.anchor]
    assert "systemctl restart docker.service" in machine.calls()


def test_one_sum_over_two_certificates(
    machine: Machine, proxy: Proxy, authority: Authority, successor: Authority
) -> None:
    proxy.serve(authority, successor)
    der = [each.certificate.public_bytes(Encoding.DER) for each in (authority, successor)]
    proxy.fingerprints = hashlib.sha256(b"".join(der)).hexdigest()
    assert machine.run(env=proxy.env).returncode == 0
    assert len(list((machine.root / DEBIAN).iterdir())) == 2


def test_of_two_cas_only_the_one_that_was_named(
    machine: Machine, proxy: Proxy, authority: Authority, successor: Authority
) -> None:
    """A stranger on the way could put a CA of his own beside the right one."""
    proxy.serve(authority, successor)
    colons = ":".join(successor.sha256[at : at + 2] for at in range(0, 64, 2)).upper()
    done = machine.run("--ca-sha256", colons, env=proxy.env)
    assert done.returncode == 0
    assert [file.name for file in (machine.root / DEBIAN).iterdir()] == [successor.anchor]
    assert authority.sha256 in done.stderr


def test_a_failed_update_brings_back_what_was_removed(
    machine: Machine, proxy: Proxy, successor: Authority
) -> None:
    machine.run(env=proxy.env)
    before = machine.snapshot()
    proxy.serve(successor)
    machine.let_fail("update-ca-certificates")
    assert machine.run(env=proxy.env).returncode == 1
    assert machine.snapshot() == before
