import base64
from pathlib import Path

import pytest

from entrepot.config.kinds import Secret
from entrepot.config.model import Clients
from entrepot.errors import ConfigError
from entrepot.interception.clients import WRONG_PASSWORD, ClientPolicy
from entrepot.interception.tunnel import Refused
from entrepot.passwords.guesses import Guesses
from tests.passwords.passwords import write_htpasswd
from tests.support.clock import ManualClock
from tests.support.engine import basic

PEER = "192.0.2.7"
ANN = Clients(username="ann", password=Secret("correct: horse"))
RIGHT = basic("ann", "correct: horse")


async def at_once(_seconds: float) -> None:
    """Whoever is slowed down waits for nothing here."""


def policy(settings: Clients | None = None) -> ClientPolicy:
    return ClientPolicy(settings or Clients(), Guesses(ManualClock(), sleep=at_once))


@pytest.mark.parametrize(
    ("peer", "is_served"),
    [
        ("127.0.0.1", True),
        ("10.1.2.3", True),
        ("::1", True),
        ("::ffff:10.1.2.3", True),
        ("fe80::1%eth0", True),
        ("fd12::1", True),
        ("8.8.8.8", False),
        ("::ffff:8.8.8.8", False),
        ("2606:4700::1", False),
        ("", False),
        ("nonsense", False),
    ],
)
def test_who_is_served_by_address(peer: str, *, is_served: bool) -> None:
    assert policy().allows(peer) is is_served


class TestWithoutUsers:
    @pytest.mark.parametrize("authorization", ["", RIGHT, "nonsense"])
    async def test_everybody_is_admitted(self, authorization: str) -> None:
        open_to_all = policy()
        assert open_to_all.admits(PEER, authorization)
        assert await open_to_all.knows(PEER, authorization)
        assert await open_to_all.judge(PEER, authorization) is None


class TestWithOneUser:
    @pytest.mark.parametrize(
        "authorization",
        [RIGHT, RIGHT.replace("Basic", "basic"), f" {RIGHT} ", RIGHT.replace(" ", "  ")],
    )
    async def test_the_right_password(self, authorization: str) -> None:
        assert policy(ANN).admits(PEER, authorization)
        assert await policy(ANN).judge(PEER, authorization) is None

    @pytest.mark.parametrize(
        "authorization",
        [
            "",
            "Basic",
            "Basic ",
            "Basic AAAA",
            "Basic é",
            RIGHT.replace("Basic", "Bearer"),
            RIGHT.removeprefix("Basic "),
            f"{RIGHT}, Basic AAAA",
            "Basic " + base64.b64encode(b"ann").decode(),
            basic("ann", "correct: hors"),
            basic("ann", ""),
            basic("Ann", "correct: horse"),
            basic("", "correct: horse"),
        ],
    )
    async def test_everything_else(self, authorization: str) -> None:
        assert not policy(ANN).admits(PEER, authorization)
        assert await policy(ANN).judge(PEER, authorization) == WRONG_PASSWORD

    async def test_none_is_no_guess(self) -> None:
        guesses = Guesses(ManualClock(), sleep=at_once)
        asking = ClientPolicy(ANN, guesses)
        for authorization in ("", "Basic AAAA", "Bearer x"):
            assert not await asking.knows(PEER, authorization)
        assert guesses.statistics().wrong == 0
        assert not await asking.knows(PEER, basic("ann", "x"))
        assert guesses.statistics().wrong == 1


class Refusing(Guesses):
    """Passwords are not looked at."""

    async def check(self, users: object, client: str, user: str, password: str) -> bool:
        raise self._refusal()


async def test_who_guessed_too_often_is_told_when_to_come_again() -> None:
    judged = await ClientPolicy(ANN, Refusing(ManualClock())).judge(PEER, basic("ann", "x"))
    assert isinstance(judged, Refused)
    assert (judged.status, judged.headers) == (429, {"Retry-After": "8"})


async def test_users_of_a_file_are_admitted_at_once_when_they_are_known(tmp_path: Path) -> None:
    file = write_htpasswd(tmp_path, ann="one", bob="two")
    asking = policy(Clients(htpasswd=file))
    for right in (basic("ann", "one"), basic("bob", "two")):
        assert not asking.admits(PEER, right)
        assert await asking.judge(PEER, right) is None
        assert asking.admits(PEER, right)
    assert await asking.judge(PEER, basic("ann", "two")) == WRONG_PASSWORD


async def test_who_guesses_is_not_told_at_once_which_of_them_is_right() -> None:
    asking = ClientPolicy(ANN, Guesses(ManualClock(), sleep=at_once))
    for number in range(5):
        await asking.judge(PEER, basic("ann", f"wrong {number}"))
    assert not asking.admits(PEER, RIGHT)
    assert asking.admits("10.9.9.9", RIGHT)
    assert await asking.judge(PEER, RIGHT) is None
    assert asking.admits(PEER, RIGHT)


def test_a_file_of_no_use_is_the_operators_to_mend(tmp_path: Path) -> None:
    file = tmp_path / "htpasswd"
    file.write_text("ann:{SHA}C+7Hteo/D9vJXQ3UfzxbwnXaijM=\n")
    with pytest.raises(ConfigError, match=r"clients\.htpasswd: .*: line 1: .*`htpasswd -B`"):
        policy(Clients(htpasswd=file))
