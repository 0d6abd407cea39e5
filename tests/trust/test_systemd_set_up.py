"""ca/trust/systemd.sh, the way there."""

from pathlib import Path

import pytest

from tests.trust.authority import Authority, Proxy
from tests.trust.machine import Machine

DROPIN = "etc/systemd/system/docker.service.d/entrepot.conf"
DEBIAN = "usr/local/share/ca-certificates"


def no_proxy(machine: Machine, dropin: str = DROPIN) -> list[str]:
    (line,) = (line for line in machine.read(dropin).splitlines() if "NO_PROXY" in line)
    return line.removeprefix('Environment="NO_PROXY=').removesuffix('"').split(",")


def test_the_pasted_line(machine: Machine, proxy: Proxy, authority: Authority) -> None:
    done = machine.run(script=proxy.script, env={})
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert machine.read(DROPIN).splitlines()[-4:] == [
        "[Service]",
        f'Environment="HTTP_PROXY={proxy.url}"',
        f'Environment="HTTPS_PROXY={proxy.url}"',
        'Environment="NO_PROXY=localhost,127.0.0.0/8,::1"',
    ]
    assert machine.read(f"{DEBIAN}/{authority.anchor}").encode() == authority.pem
    assert machine.calls() == [
        "update-ca-certificates ",
        "systemctl daemon-reload",
        "systemctl restart docker.service",
    ]
    assert authority.sha256 in done.stdout


@pytest.mark.parametrize("shell", [("dash",), ("bash", "--posix"), ("busybox", "sh")], ids=str)
def test_every_shell_does_the_same(machine: Machine, proxy: Proxy, shell: tuple[str, ...]) -> None:
    machine.shell = shell
    before = machine.snapshot()
    assert machine.run(env=proxy.env).returncode == 0
    assert "nothing was changed" in machine.run(env=proxy.env).stdout
    assert machine.run("--undo", env={}).returncode == 0
    assert machine.snapshot() == before


def test_busybox_has_every_tool(machine: Machine, proxy: Proxy, busybox_tools: Path) -> None:
    machine.path = str(busybox_tools)
    machine.shell = (str(busybox_tools / "sh"),)
    before = machine.snapshot()
    done = machine.run("--no-proxy", "10.0.0.0/8", env=proxy.env)
    assert (done.returncode, done.stderr) == (0, "")
    assert "10.0.0.0/8" in no_proxy(machine)
    assert machine.run("--undo", env={}).returncode == 0
    assert machine.snapshot() == before


@pytest.mark.parametrize(
    ("anchors", "tools", "call", "undo_call"),
    [
        (
            DEBIAN,
            ("update-ca-certificates",),
            "update-ca-certificates ",
            "update-ca-certificates --fresh",
        ),
        (
            "etc/pki/ca-trust/source/anchors",
            ("update-ca-trust",),
            "update-ca-trust extract",
            "update-ca-trust extract",
        ),
        (
            "etc/pki/trust/anchors",
            ("update-ca-certificates",),
            "update-ca-certificates ",
            "update-ca-certificates --fresh",
        ),
        (
            "etc/ca-certificates/trust-source/anchors",
            ("update-ca-trust", "trust"),
            "update-ca-trust extract",
            "update-ca-trust extract",
        ),
        (
            "etc/ca-certificates/trust-source/anchors",
            ("trust",),
            "trust extract-compat",
            "trust extract-compat",
        ),
    ],
    ids=["debian-alpine", "fedora", "suse", "arch", "arch-trust"],
)
def test_each_family_of_distributions(
    tmp_path: Path,
    proxy: Proxy,
    authority: Authority,
    anchors: str,
    tools: tuple[str, ...],
    call: str,
    undo_call: str,
) -> None:
    machine = Machine(tmp_path, tools)
    machine.add_service("docker", running=False)
    (machine.root / anchors).mkdir(parents=True)
    before = machine.snapshot()
    assert machine.run(env=proxy.env).returncode == 0
    assert machine.read(f"{anchors}/{authority.anchor}").encode() == authority.pem
    assert machine.calls() == [call, "systemctl daemon-reload"]
    assert machine.run("--undo", env={}).returncode == 0
    assert machine.calls() == [undo_call, "systemctl daemon-reload"]
    assert machine.snapshot() == before


def test_a_second_run_changes_and_restarts_nothing(machine: Machine, proxy: Proxy) -> None:
    machine.run(env=proxy.env)
    after, _ = machine.snapshot(), machine.calls()
    done = machine.run(env=proxy.env)
    assert done.returncode == 0
    assert "nothing was changed, nothing restarted" in done.stdout
    assert machine.calls() == []
    assert machine.snapshot() == after


def test_a_dry_run_writes_nothing(machine: Machine, proxy: Proxy, authority: Authority) -> None:
    before = machine.snapshot()
    done = machine.run("--dry-run", env=proxy.env)
    assert done.returncode == 0
    assert f"would write /{DROPIN}" in done.stdout
    assert f"would write /{DEBIAN}/{authority.anchor}" in done.stdout
    assert "would restart docker" in done.stdout
    assert machine.calls() == []
    assert machine.snapshot() == before


def test_no_restart(machine: Machine, proxy: Proxy) -> None:
    done = machine.run("--no-restart", env=proxy.env)
    assert machine.calls() == ["update-ca-certificates ", "systemctl daemon-reload"]
    assert "systemctl restart docker" in done.stdout


def test_without_systemd_files_are_written(machine: Machine, proxy: Proxy) -> None:
    (machine.root / "run/systemd/system").rmdir()
    done = machine.run(env=proxy.env)
    assert done.returncode == 0
    assert "nothing was restarted" in done.stdout
    assert machine.calls() == ["update-ca-certificates "]
    assert no_proxy(machine)


def test_a_service_that_is_stopped_stays_so(machine: Machine, proxy: Proxy) -> None:
    machine.add_service("k3s", running=False)
    machine.run("--unit", "k3s.service", "--unit", "containerd", env=proxy.env)
    assert machine.calls()[1:] == [
        "systemctl daemon-reload",
        "systemctl restart containerd.service",
    ]
    assert no_proxy(machine, "etc/systemd/system/k3s.service.d/entrepot.conf")


def test_containerd_where_there_is_no_docker(machine: Machine, proxy: Proxy) -> None:
    (machine.root / "usr/lib/systemd/system/docker.service").unlink()
    assert machine.run(env=proxy.env).returncode == 0
    assert machine.calls()[-1] == "systemctl restart containerd.service"


@pytest.mark.parametrize("options", [(), ("--unit", "podman")])
def test_no_such_service(machine: Machine, proxy: Proxy, options: tuple[str, ...]) -> None:
    for name in ("docker", "containerd"):
        (machine.root / f"usr/lib/systemd/system/{name}.service").unlink()
    before = machine.snapshot()
    assert machine.run(*options, env=proxy.env).returncode == 1
    assert machine.snapshot() == before


@pytest.mark.parametrize(
    "line",
    [
        'Environment="NO_PROXY=.corp.example,10.0.0.0/8"',
        "Environment=NO_PROXY=.corp.example,10.0.0.0/8",
        "Environment='no_proxy=.corp.example, 10.0.0.0/8' 'HTTP_PROXY=http://p%%40:1'",
        'Environment="HTTP_PROXY=http://p" "NO_PROXY=.corp.example,10.0.0.0/8" "A=b c"',
        'Environment="HTTP_PROXY=http://p" \\\n  "NO_PROXY=.corp.example,10.0.0.0/8"',
    ],
)
def test_what_was_reached_directly_still_is(machine: Machine, proxy: Proxy, line: str) -> None:
    machine.write(
        "etc/systemd/system/docker.service.d/a.conf",
        f'[Service]\n#Environment="NO_PROXY=old"\n{line}\n',
    )
    machine.run("--no-proxy", "10.42.0.0/16, 10.0.0.0/8", "--no-proxy", "*.svc", env=proxy.env)
    assert no_proxy(machine)[3:] == [".corp.example", "10.0.0.0/8", "10.42.0.0/16", "*.svc"]


def test_a_list_given_once_is_not_kept(machine: Machine, proxy: Proxy) -> None:
    machine.run("--no-proxy", "10.42.0.0/16", env=proxy.env)
    machine.run(env=proxy.env)
    assert "10.42.0.0/16" not in no_proxy(machine)


def test_the_last_word_is_ours(machine: Machine, proxy: Proxy) -> None:
    """Of two drop-ins systemd takes the value of the one whose name sorts last."""
    directory = "etc/systemd/system/docker.service.d"
    machine.run(env=proxy.env)
    before = machine.snapshot()
    machine.write(f"{directory}/http-proxy.conf", '[Service]\nEnvironment="HTTPS_PROXY=http://a"\n')
    machine.run(env=proxy.env)
    assert no_proxy(machine, f"{directory}/zz-entrepot.conf")
    assert not (machine.root / DROPIN).exists()
    (machine.root / f"{directory}/http-proxy.conf").unlink()
    machine.run(env=proxy.env)
    assert machine.snapshot() == before


def test_percent_is_doubled_in_units(machine: Machine, proxy: Proxy) -> None:
    machine.run("--no-proxy", "[fe80::1%eth0]", env=proxy.env)
    assert "[fe80::1%%eth0]" in no_proxy(machine)
    machine.run("--no-proxy", "[fe80::1%eth0]", env=proxy.env)
    assert no_proxy(machine).count("[fe80::1%%eth0]") == 1


def test_what_wins_over_a_dropin_is_said(machine: Machine, proxy: Proxy) -> None:
    machine.write("etc/docker/daemon.json", '{"proxies": {"https-proxy": "http://a"}}')
    machine.write("proc/4711/environ", "A=b\0HTTPS_PROXY=http://other:1\0")
    done = machine.run(env=proxy.env)
    assert done.returncode == 0
    assert "daemon.json wins" in done.stderr
    assert "docker runs with another HTTPS_PROXY" in done.stderr


def test_a_proxy_of_this_shell_is_not_asked(machine: Machine, proxy: Proxy) -> None:
    env = {"http_proxy": "http://127.0.0.1:1", "ALL_PROXY": "http://127.0.0.1:1"}
    assert machine.run(env=proxy.env | env).returncode == 0
