"""packaging/provision.sh on a Debian 13 that has nothing else."""

from pathlib import Path

import pytest

from entrepot.config.load import load_config
from tests.packaging.checkout import copy_checkout
from tests.packaging.debian import Debian, pip_settings

# systemd does not run in there.
_SYSTEMCTL = '#!/bin/sh\necho "$*" >>/root/systemctl.log\n'
_ENTREPOT = "/opt/entrepot/.venv/bin/entrepot"


def calls(debian: Debian) -> list[str]:
    log = debian.root / "root/systemctl.log"
    lines = log.read_text().splitlines()
    log.unlink()
    return lines


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_machine_becomes_a_proxy(debian: Debian, repository_root: Path) -> None:
    copy_checkout(repository_root, debian.root / "vagrant")
    debian.write("usr/local/bin/systemctl", _SYSTEMCTL, mode=0o755)
    env = {"PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"} | pip_settings()

    done = debian.run("/vagrant/packaging/provision.sh", env=env)
    assert done.returncode == 0, done.stderr
    assert debian.run(_ENTREPOT, "--version").stdout.startswith("entrepot")
    assert calls(debian) == [
        "daemon-reload",
        "enable --quiet entrepot.service",
        "restart entrepot.service",
    ]
    assert (debian.root / "etc/systemd/system/entrepot.service").is_file()
    configuration = debian.root / "etc/entrepot/entrepot.yaml"
    assert configuration.stat().st_mode & 0o777 == 0o640
    assert debian.run("id", "-un", "entrepot").stdout == "entrepot\n"
    checked = debian.run("setpriv", "--reuid=entrepot", "--regid=entrepot", "--clear-groups",
        _ENTREPOT, "config", "check")  # fmt: skip
    assert checked.returncode == 0, checked.stderr

    # An upgrade: what the operator wrote stays, and no package mirror is asked.
    configuration.write_text("log:\n  level: debug\n")
    debian.write("usr/local/bin/apt-get", "#!/bin/sh\nexit 100\n", mode=0o755)
    done = debian.run("/vagrant/packaging/provision.sh", env=env)
    assert done.returncode == 0, done.stderr
    assert configuration.read_text() == "log:\n  level: debug\n"
    assert "restart entrepot.service" in calls(debian)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_name_is_announced(debian: Debian, repository_root: Path) -> None:
    """Without the program, which the other test installs."""
    copy_checkout(repository_root, debian.root / "vagrant")
    debian.write("usr/local/bin/systemctl", _SYSTEMCTL, mode=0o755)
    debian.write("opt/entrepot/.venv/bin/python", "#!/bin/sh\n", mode=0o755)
    # avahi itself is not needed to see what is asked for.
    debian.write("usr/local/bin/apt-get", '#!/bin/sh\necho "$@" >>/root/apt.log\n', mode=0o755)
    env = {"PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
    done = debian.run("/vagrant/packaging/provision.sh", "--announce", "192.0.2.7", env=env)
    assert done.returncode == 0, done.stderr
    assert "avahi-daemon avahi-utils" in (debian.root / "root/apt.log").read_text()
    assert (debian.root / "etc/entrepot/announce").read_text().splitlines() == [
        "ADDRESS=192.0.2.7",
        "NAME=docker-registry.local",
    ]
    assert calls(debian)[-1] == "restart entrepot-announce.service"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_private_registry_comes_with_it(
    debian: Debian, repository_root: Path, tmp_path: Path
) -> None:
    """Without the programs: what is written for them, and that a second run changes none of it."""
    copy_checkout(repository_root, debian.root / "vagrant")
    debian.write("usr/local/bin/systemctl", _SYSTEMCTL, mode=0o755)
    debian.write("opt/entrepot/.venv/bin/python", "#!/bin/sh\n", mode=0o755)
    debian.write("usr/local/bin/apt-get", '#!/bin/sh\necho "$@" >>/root/apt.log\n', mode=0o755)
    debian.write("etc/docker/registry/config.yml", "of Debian's package")
    env = {"PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
    etc = debian.root / "etc/entrepot"
    written = []
    for _ in range(2):
        done = debian.run("/vagrant/packaging/provision.sh", "--registry", env=env)
        assert done.returncode == 0, done.stderr
        secret = (etc / "registry-password").read_text().strip()
        assert secret not in done.stdout + done.stderr
        written.append({file.name: file.read_bytes() for file in etc.iterdir()})
        assert calls(debian)[-3:] == [
            "restart docker-registry.service",
            "enable --quiet entrepot.service",
            "restart entrepot.service",
        ]
    assert written[0] == written[1]
    assert "docker-registry" in (debian.root / "root/apt.log").read_text()
    assert (etc / "registry-password").stat().st_mode & 0o777 == 0o640
    assert (etc / "environment").stat().st_mode & 0o777 == 0o600

    registry = debian.root / "etc/docker/registry"
    assert (registry / "config.yml.debian").read_text() == "of Debian's package"
    expected = (repository_root / "config/registry.yml").read_bytes()
    assert (registry / "config.yml").read_bytes() == expected
    owner = debian.run("stat", "--format=%U %a", "/var/lib/registry")
    assert owner.stdout == "entrepot 750\n"
    for drop_in in ("docker-registry.service.d/entrepot.conf", "entrepot.service.d/registry.conf"):
        assert (debian.root / "etc/systemd/system" / drop_in).is_file()

    lines = (etc / "environment").read_text().splitlines()
    environ = dict(line.split("=", 1) for line in lines)
    environ["PASSWORD_FILE"] = str(debian.root) + environ["PASSWORD_FILE"]
    config = load_config(None, environ, {"data": str(tmp_path)}, serves=False).config
    (local,) = config.local_registries.values()
    assert local.upstream == ("http://127.0.0.1:5000",)
    assert local.username == "admin"
    assert config.registry_listen == "*:443"
