import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest

from entrepot.config.kinds import Secret
from entrepot.config.model import Registry
from entrepot.errors import ConfigError, UpstreamError
from entrepot.upstream.credentials import (
    Credential,
    CredentialSource,
    Fingerprints,
    credential_source,
)
from tests.support.clock import ManualClock
from tests.upstream.bench import SECRET


def source_of(
    clock: ManualClock | None = None, name: str = "r.example", **settings: Any
) -> CredentialSource:
    registry = Registry(**settings)
    source = credential_source(name, registry, clock or ManualClock())
    assert source is not None
    return source


async def secret_of(source: CredentialSource) -> str:
    return (await source.get()).secret.reveal()


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """A program that counts its runs and does what the file beside it says."""
    path = tmp_path / "program"
    path.write_text(f"#!/bin/sh\necho >> {tmp_path}/runs\n. {tmp_path}/behaviour\n")
    path.chmod(0o755)
    return path


def behave(script: Path, behaviour: str) -> None:
    (script.parent / "behaviour").write_text(behaviour)


def runs(script: Path) -> int:
    return len((script.parent / "runs").read_text().splitlines())


def answer(script: Path, secret: str = SECRET, **more: object) -> None:
    document = json.dumps({"Username": "robot", "Secret": secret, **more})
    behave(script, f"echo '{document}'")


async def test_nothing_configured_is_no_source() -> None:
    assert credential_source("r.example", Registry(), ManualClock()) is None


async def test_a_password_in_the_configuration() -> None:
    source = source_of(username="robot", password=Secret(SECRET))
    assert await source.get() == Credential("robot", Secret(SECRET))
    assert SECRET not in repr(await source.get())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"username": "robot"}, "expected a password"),
        ({"password": Secret("x"), "helper": "ecr-login"}, "expected one of password, helper"),
        ({"helper": "../evil"}, "expected a name such as"),
    ],
)
def test_what_contradicts_itself_is_told_at_the_start(
    settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        source_of(**settings)


async def test_a_password_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_text("first\n")
    source = source_of(username="robot", password_file=path)
    assert await secret_of(source) == "first"
    path.write_text("second one\r\n")
    assert await secret_of(source) == "second one"


async def test_the_last_password_is_used_while_its_file_is_gone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "password"
    path.write_text(SECRET)
    source = source_of(username="robot", password_file=path)
    await source.get()
    path.unlink()
    assert await secret_of(source) == SECRET
    assert "cannot be read: No such file" in caplog.text


async def test_a_password_file_that_never_was_is_a_failure(tmp_path: Path) -> None:
    source = source_of(username="robot", password_file=tmp_path / "none")
    with pytest.raises(UpstreamError, match="cannot be read"):
        await source.get()


async def test_a_password_file_that_is_no_text_is_a_failure(tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(UpstreamError, match="cannot be read"):
        await source_of(username="robot", password_file=path).get()


@pytest.mark.parametrize(
    ("name", "server"),
    [("quay.example", "quay.example"), ("docker.io", "https://index.docker.io/v1/")],
)
async def test_helpers_are_asked_as_docker_asks_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, server: str
) -> None:
    path = tmp_path / "docker-credential-fake"
    path.write_text(
        "#!/bin/sh\nread -r server\n"
        'printf \'{"ServerURL":"%s","Username":"%s","Secret":"%s"}\' "$server" "$1" "$server"\n'
    )
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    found = await source_of(name=name, helper="fake").get()
    assert (found.username, found.secret.reveal()) == ("get", server)


async def test_a_program_is_asked_once_and_again_before_its_answer_expires(script: Path) -> None:
    clock = ManualClock()
    source = source_of(clock, exec=(str(script),))
    answer(script, "first", ExpiresIn=100)
    await asyncio.gather(*(source.get() for _ in range(10)))
    clock.advance(79)
    assert await secret_of(source) == "first"
    assert runs(script) == 1
    answer(script, "second", ExpiresIn=100)
    clock.advance(2)
    assert await secret_of(source) == "second"
    assert runs(script) == 2


async def test_without_a_word_on_expiry_an_answer_holds_ten_minutes(script: Path) -> None:
    clock = ManualClock()
    source = source_of(clock, exec=(str(script),))
    answer(script)
    await source.get()
    clock.advance(479)
    await source.get()
    assert runs(script) == 1
    clock.advance(2)
    await source.get()
    assert runs(script) == 2


async def test_an_answer_is_used_until_it_expires_while_the_program_fails(script: Path) -> None:
    clock = ManualClock(1_700_000_000.0)
    source = source_of(clock, exec=(str(script),))
    answer(script, ExpiresAt="2023-11-14T22:15:00Z")  # in 100 s
    await source.get()
    behave(script, f"echo {SECRET} >&2; exit 3")
    clock.advance(90)
    assert await secret_of(source) == SECRET
    clock.advance(11)
    with pytest.raises(UpstreamError, match="gives no credentials"):
        await source.get()


async def test_a_program_that_fails_is_not_started_for_each_request(
    script: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = ManualClock()
    source = source_of(clock, exec=(str(script),))
    behave(script, f"echo {SECRET}; exit 3")
    for _ in range(5):
        with pytest.raises(UpstreamError, match="gives no credentials"):
            await source.get()
    assert runs(script) == 1
    assert "exit status 3" in caplog.text
    answer(script)
    clock.advance(6)
    assert await secret_of(source) == SECRET


def test_fingerprints_tell_credentials_apart_and_nothing_else() -> None:
    prints = Fingerprints()
    one, other = Credential("a", Secret(SECRET)), Credential("b", Secret(SECRET))
    assert prints.of(one) == prints.of(Credential("a", Secret(SECRET)))
    assert len({prints.of(one), prints.of(other), prints.of(None)}) == 3
    assert Fingerprints().of(one) != prints.of(one)
    assert SECRET not in prints.of(one)
