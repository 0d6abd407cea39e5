"""What a configuration names outside itself."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from entrepot.config.local import GarbageCollection, LocalRegistry
from entrepot.config.model import Config, Registry
from entrepot.config.surroundings import lacking
from tests.support.pki import TestAuthority


def said(registry: Registry, search_path: str = "") -> list[str]:
    return told(Config(registries={"a.io": registry}), search_path)


def said_of_own(local: LocalRegistry, search_path: str = "") -> list[str]:
    return told(Config(local_registries={"a.lan": local}), search_path)


def told(config: Config, search_path: str) -> list[str]:
    found = lacking(config, search_path)
    return [f"{'.'.join(path)}: {message}" for path, message in found]


def program(path: Path) -> Path:
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_a_helper_is_on_the_path(tmp_path: Path) -> None:
    registry = Registry(helper="ecr-login")
    assert said(registry, str(tmp_path)) == [
        f"registries.a.io.helper: expected docker-credential-ecr-login on the PATH ({tmp_path})"
    ]
    program(tmp_path / "docker-credential-ecr-login")
    assert said(registry, str(tmp_path)) == []


def test_a_program_can_be_started(tmp_path: Path) -> None:
    path = tmp_path / "give"
    registry = Registry(exec=(str(path), "--json"))
    expected = f"registries.a.io.exec: expected a program that can be started; {path} is none"
    assert said(registry) == [expected]
    path.touch(mode=0o644)
    assert said(registry) == [expected]
    program(path)
    assert said(registry) == []
    assert said(Registry(exec=("give",)), str(tmp_path)) == []


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "it is empty"),
        (b"\n", "it is empty"),
        (b"\xff\n", "it is not UTF-8 text"),
        (b"hunter2\n", None),
    ],
)
def test_a_password_file_holds_one(tmp_path: Path, content: bytes, problem: str | None) -> None:
    path = tmp_path / "password"
    path.write_bytes(content)
    told = f"registries.a.io.password_file: expected a password; {path}: {problem}"
    assert said(Registry(username="bob", password_file=path)) == ([told] if problem else [])


def test_a_bundle_holds_certificates(tmp_path: Path) -> None:
    path = tmp_path / "bundle.pem"
    path.write_text("nothing of the kind\n")
    assert said(Registry(ca_bundle=path)) == [
        f"registries.a.io.ca_bundle: expected certificates in PEM; {path}: there is none in it"
    ]
    path.write_text(TestAuthority(tmp_path).pem)
    assert said(Registry(ca_bundle=path)) == []


def test_what_has_become_unreadable(
    tmp_path: Path, nobody: Callable[[], AbstractContextManager[None]]
) -> None:
    path = tmp_path / "file"
    path.touch(mode=0o600)
    with nobody():
        told = said(Registry(username="bob", password_file=path, ca_bundle=path))
    assert [line.partition(": Perm")[2] for line in told] == ["ission denied for user nobody"] * 2


def test_what_a_local_registry_is_reached_with(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    local = LocalRegistry(upstream_username="me", upstream_password_file=path, ca_bundle=path)
    assert said_of_own(local) == [
        f"local_registries.a.lan.upstream_password_file: expected a password; {path}: it is empty",
        (
            f"local_registries.a.lan.ca_bundle: expected certificates in PEM; {path}: there is none"
            " in it"
        ),
    ]


def test_what_collects_garbage_by_itself_can_be_started(tmp_path: Path) -> None:
    gc = GarbageCollection(command=("give", "--all"), storage=tmp_path / "none")
    assert said_of_own(LocalRegistry(gc=gc), str(tmp_path)) == [
        f"local_registries.a.lan.gc.storage: expected a directory; {tmp_path}/none is none"
    ]
    gc = GarbageCollection(command=("give", "--all"), storage=tmp_path, schedule="03:30")
    assert said_of_own(LocalRegistry(gc=gc), str(tmp_path)) == [
        "local_registries.a.lan.gc.command: expected a program that can be started; give is none"
    ]
    program(tmp_path / "give")
    assert said_of_own(LocalRegistry(gc=gc), str(tmp_path)) == []


def test_nothing_is_needed() -> None:
    assert said(Registry()) == []
    assert said_of_own(LocalRegistry()) == []
