"""ca/trust/systemd.sh: what it does not do, and that it then does nothing at all."""

import subprocess
from collections.abc import Iterator

import pytest

from tests.trust.authority import Authority, Proxy
from tests.trust.machine import SCRIPT, Machine


@pytest.fixture
def untouched(machine: Machine) -> Iterator[Machine]:
    before = machine.snapshot()
    yield machine
    assert machine.snapshot() == before
    assert machine.calls() == []


def test_shellcheck() -> None:
    subprocess.run(["shellcheck", SCRIPT], check=True)


@pytest.mark.parametrize("name", ["ENTREPOT_URL", "ENTREPOT_CA_SHA256"])
def test_what_the_proxy_adds_is_missing(untouched: Machine, proxy: Proxy, name: str) -> None:
    done = untouched.run(env=proxy.env | {name: ""})
    assert done.returncode == 1
    assert f"{name} is not set" in done.stderr


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ENTREPOT_URL", "https://proxy:3128"),
        ("ENTREPOT_URL", "http://"),
        ("ENTREPOT_URL", 'http://proxy:3128"\nExecStartPre=/bin/sh'),
        ("ENTREPOT_URL", "http://user:password@proxy:3128"),
        ("ENTREPOT_CA_SHA256", "ab12"),
    ],
)
def test_values_that_are_none(untouched: Machine, proxy: Proxy, name: str, value: str) -> None:
    assert untouched.run(env=proxy.env | {name: value}).returncode == 1


@pytest.mark.parametrize(
    "options",
    [
        ("--frobnicate",),
        ("--unit",),
        ("--unit", "../../x"),
        ("--no-proxy", 'a"b'),
        ("--no-proxy", "a\nb"),
        ("--ca-sha256", "12:34"),
        ("--undo", "--unit", "docker"),
    ],
)
def test_misuse(untouched: Machine, proxy: Proxy, options: tuple[str, ...]) -> None:
    done = untouched.run(*options, env=proxy.env)
    assert done.returncode == 2
    assert "usage:" in done.stderr


def test_help_needs_no_proxy(untouched: Machine) -> None:
    done = untouched.run("--help", env={})
    assert done.returncode == 0
    for option in ("--unit", "--no-proxy", "--ca-sha256", "--no-restart", "--dry-run", "--undo"):
        assert option in done.stdout


def test_another_ca_than_was_named(untouched: Machine, proxy: Proxy, successor: Authority) -> None:
    done = untouched.run("--ca-sha256", successor.sha256, env=proxy.env)
    assert done.returncode == 1
    assert "not the one that --ca-sha256 names" in done.stderr


def test_a_ca_that_did_not_come_whole(
    untouched: Machine, proxy: Proxy, authority: Authority, successor: Authority
) -> None:
    proxy.serve(authority, successor)
    proxy.bundle = authority.pem
    done = untouched.run(env=proxy.env)
    assert done.returncode == 1
    assert "did not come whole" in done.stderr


@pytest.mark.parametrize(
    "bundle",
    [
        b"",
        b"<html>captive portal</html>",
        b"-----BEGIN CERTIFICATE-----\nMIIB\n",
        b"-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n",
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        b"-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n",
    ],
)
def test_what_is_no_certificate(untouched: Machine, proxy: Proxy, bundle: bytes) -> None:
    proxy.bundle = bundle
    assert untouched.run(env=proxy.env).returncode == 1


def test_the_proxy_does_not_answer(untouched: Machine, proxy: Proxy) -> None:
    done = untouched.run(env=proxy.env | {"ENTREPOT_URL": "http://127.0.0.1:1"})
    assert done.returncode == 1
    assert "could not fetch http://127.0.0.1:1/ca.crt" in done.stderr


def test_no_tool_for_the_trust_store(untouched: Machine, proxy: Proxy) -> None:
    (untouched.directory / "bin/update-ca-certificates").unlink()
    done = untouched.run(env=proxy.env)
    assert done.returncode == 1
    assert "install ca-certificates" in done.stderr


def test_a_trust_store_that_cannot_be_updated(machine: Machine, proxy: Proxy) -> None:
    """The files are as before, so that the next run does not take the work for done."""
    machine.let_fail("update-ca-certificates")
    before = machine.snapshot()
    assert machine.run(env=proxy.env).returncode == 1
    assert machine.snapshot() == before


def test_only_root(untouched: Machine, proxy: Proxy) -> None:
    id_tool = untouched.directory / "bin/id"
    id_tool.write_text("#!/bin/sh\necho 1000\n")
    id_tool.chmod(0o755)
    done = untouched.run(env=proxy.env | {"ENTREPOT_ROOT": ""})
    assert done.returncode == 1
    assert "sudo" in done.stderr


@pytest.mark.parametrize("options", [(), ("--undo",)], ids=["set up", "undo"])
def test_a_download_that_was_cut_off(
    machine: Machine, proxy: Proxy, options: tuple[str, ...]
) -> None:
    if options:
        machine.run(env=proxy.env)
        machine.calls()
    whole = proxy.script
    assert whole.endswith(b"\n")
    before = machine.snapshot()
    # All of the end, where the call stands, and every line and 97th byte (a prime) before it.
    cuts = {len(whole) - n for n in range(2, 200)} | set(range(0, len(whole), 97))
    cuts |= {at for at, byte in enumerate(whole) if byte == ord("\n")} - {len(whole) - 1}
    for cut in sorted(cuts):
        machine.run(*options, script=whole[:cut], env={})
    assert machine.calls() == []
    assert machine.snapshot() == before
