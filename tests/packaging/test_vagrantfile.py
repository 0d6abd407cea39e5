import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

Settings = list[tuple[str, list[Any], dict[str, Any]]]


@pytest.fixture(scope="module")
def settings(repository_root: Path) -> Settings:
    """What the Vagrantfile sets, in its order, as a Vagrant that notes everything hears it."""
    recorder = Path(__file__).with_name("vagrant.rb")
    done = subprocess.run(
        ["ruby", recorder, repository_root / "Vagrantfile"],
        capture_output=True,
        check=True,
        text=True,
    )
    return [(name, args, *(rest or [{}])) for name, args, *rest in json.loads(done.stdout)]


def values(settings: Settings, name: str) -> list[Any]:
    return [args[0] for found, args, _ in settings if found == name]


def test_syntax(repository_root: Path) -> None:
    subprocess.run(["ruby", "-wc", repository_root / "Vagrantfile"], check=True)


def test_a_debian_that_has_the_python(settings: Settings) -> None:
    assert values(settings, "vm.box") == ["debian/trixie64"]
    assert values(settings, "override.virtualbox.vm.box") == ["bento/debian-13"]


def test_port_and_address(settings: Settings) -> None:
    networks = {args[0]: options for name, args, options in settings if name == "vm.network"}
    assert networks["private_network"]["ip"] == "192.168.56.28"
    forwarded = {
        options["guest"]: options["host"]
        for name, args, options in settings
        if name == "vm.network" and args == ["forwarded_port"]
    }
    assert forwarded == {3128: 3128, 443: 8443}


def test_it_ends_with_the_proxy_announced(settings: Settings, repository_root: Path) -> None:
    (options,) = (options for name, _, options in settings if name == "vm.provision")
    assert (repository_root / options["path"]).stat().st_mode & 0o111
    assert options["args"] == ["--source", "/vagrant", "--announce", "192.168.56.28", "--registry"]
    # avahi would announce this name by itself, with addresses that lead nowhere.
    assert values(settings, "vm.hostname") != ["docker-registry"]
