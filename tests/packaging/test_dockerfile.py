"""The image, as far as it can be told without an engine."""

import ast
from pathlib import Path

import pytest

from tests.packaging.dockerfile import Instruction, parse


@pytest.fixture
def instructions(repository_root: Path) -> list[Instruction]:
    return parse(repository_root / "Dockerfile")


def only(instructions: list[Instruction], word: str) -> Instruction:
    """The one of that kind in the stage that becomes the image."""
    last = instructions[-1].stage
    (found,) = (each for each in instructions if each.word == word and each.stage == last)
    return found


def test_stages_and_their_names(instructions: list[Instruction]) -> None:
    names = set()
    for each in instructions:
        if each.word == "FROM":
            assert each.arguments[0] in {"python:${PYTHON}", "registry:${REGISTRY}"}
            names.update(each.arguments[2:])
        if each.word == "COPY" and "from" in each.flags:
            assert each.flags["from"] in names
    # An ARG before the first FROM is what FROM may name.
    assert instructions[:2] == [
        Instruction("ARG", "PYTHON=3.13-slim-trixie", -1),
        Instruction("ARG", "REGISTRY=2.8.3", -1),
    ]


def test_what_is_copied_is_there(instructions: list[Instruction], repository_root: Path) -> None:
    ignored = (repository_root / ".dockerignore").read_text().splitlines()
    allowed = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    assert "*" in ignored
    for each in instructions:
        if each.word == "COPY" and "from" not in each.flags:
            for source in each.arguments[:-1]:
                assert (repository_root / source).exists(), source
                assert source in allowed, source


def test_nothing_else_gets_into_the_build(repository_root: Path) -> None:
    """Keys and caches lie in the checkout's ca/ and .data/."""
    lines = (repository_root / ".dockerignore").read_text().splitlines()
    allowed = {line for line in lines if line.startswith("!")}
    assert allowed.isdisjoint({"!ca", "!.data", "!config", "!.git"})


def test_not_root(instructions: list[Instruction]) -> None:
    user, _, group = only(instructions, "USER").rest.partition(":")
    assert int(user) > 0
    assert int(group) > 0
    account = next(each.rest for each in instructions if "useradd" in each.rest)
    assert f"--uid {user} " in account
    words = [each.word for each in instructions]
    assert "RUN" not in words[words.index("USER") :]


def test_how_it_starts_and_stops(instructions: list[Instruction]) -> None:
    assert only(instructions, "ENTRYPOINT").exec_form == ["entrepot"]
    assert only(instructions, "CMD").exec_form == ["serve"]
    assert only(instructions, "STOPSIGNAL").rest == "SIGTERM"
    assert only(instructions, "EXPOSE").rest == "3128 8443"


def test_volumes_belong_to_the_user(instructions: list[Instruction]) -> None:
    volumes = only(instructions, "VOLUME").exec_form
    assert volumes == ["/var/lib/entrepot", "/ca"]
    owned = next(each.rest for each in instructions if "install -d" in each.rest)
    directories = owned.partition("-o entrepot -g entrepot ")[2].split()
    # The last one belongs to a private registry: compose alone makes a volume of it.
    assert sorted(directories) == sorted([*volumes, "/var/lib/registry"])
    assert "ENTREPOT_CA__DIRECTORY=/ca" in only(instructions, "ENV").rest.split()


def test_the_health_check_is_python(instructions: list[Instruction]) -> None:
    python, flag, program = only(instructions, "HEALTHCHECK").exec_form
    assert (python, flag) == ("python", "-c")
    ast.parse(program)
    assert "/healthz" in program


def test_the_configuration_is_where_it_is_looked_for(instructions: list[Instruction]) -> None:
    copied = [each.arguments for each in instructions if each.word == "COPY"]
    assert ["config/entrepot.yaml", "/etc/entrepot/entrepot.yaml"] in copied
