import asyncio
import os
from collections.abc import Mapping
from pathlib import Path

import bcrypt
import pytest

from entrepot.config.kinds import Secret
from entrepot.errors import ConfigError
from entrepot.passwords.users import HtpasswdUsers, Users
from tests.passwords.passwords import line, write_htpasswd


def of(
    *,
    username: str = "",
    password: str | None = None,
    password_file: Path | None = None,
    htpasswd: Path | None = None,
) -> Users | None:
    return Users.of(
        "clients",
        username=username,
        password=None if password is None else Secret(password),
        password_file=password_file,
        htpasswd=htpasswd,
    )


def write(path: Path, text: str) -> None:
    path.write_text(text)


def users_of(htpasswd: Path) -> Users:
    users = of(htpasswd=htpasswd)
    assert users is not None
    return users


class Hashing:
    """bcrypt itself, of which it is counted what it was asked."""

    def __init__(self) -> None:
        self.costs: list[int] = []
        self.at_once = self.most_at_once = 0

    def checkpw(self, password: bytes, hashed: bytes) -> bool:
        self.costs.append(int(hashed[4:6]))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            return self.real(password, hashed)
        finally:
            self.at_once -= 1

    real = staticmethod(bcrypt.checkpw)


@pytest.fixture
def hashing(monkeypatch: pytest.MonkeyPatch) -> Hashing:
    hashing = Hashing()
    monkeypatch.setattr("entrepot.passwords.htpasswd.bcrypt.checkpw", hashing.checkpw)
    return hashing


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_htpasswd(tmp_path, ann="one", bob="two")


class TestSettings:
    def test_no_user(self) -> None:
        assert of() is None

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"username": "ann"}, r"clients\.password: the password is empty"),
            ({"username": "ann", "password": ""}, r"clients\.password: the password is empty"),
            ({"password": "x"}, r"clients\.username: expected a name"),
        ],
    )
    def test_of_no_use(self, settings: Mapping[str, str], message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            of(username=settings.get("username", ""), password=settings.get("password"))

    def test_a_user_beside_a_file_of_users(self, file: Path) -> None:
        with pytest.raises(ConfigError, match=r"clients\.htpasswd: expected no username"):
            of(username="ann", htpasswd=file)

    def test_an_empty_password_file(self, tmp_path: Path) -> None:
        (tmp_path / "password").write_text("\n")
        with pytest.raises(ConfigError, match=r"clients\.password_file: .*the password is empty"):
            of(username="ann", password_file=tmp_path / "password")


class TestOneUser:
    async def test_is_known_at_once(self) -> None:
        users = of(username="ann", password="one: two\n")
        assert users is not None
        for user, password, is_right in (
            ("ann", "one: two\n", True),
            ("ann", "one: two", False),
            ("Ann", "one: two\n", False),
            ("annone: two\n", "", False),
            ("ann", "\ud800", False),
        ):
            assert users.remembers(user, password) is is_right
            assert await users.knows(user, password) is is_right

    async def test_a_password_file_may_change(self, tmp_path: Path) -> None:
        path = tmp_path / "password"
        path.write_text("one\r\n")
        users = of(username="ann", password_file=path)
        assert users is not None
        assert await users.knows("ann", "one")
        path.write_text("three")
        assert not await users.knows("ann", "one")
        assert await users.knows("ann", "three")


class TestUsersOfAFile:
    async def test_each_has_a_password(self, file: Path) -> None:
        users = users_of(file)
        for user, password, is_right in (
            ("ann", "one", True),
            ("bob", "two", True),
            ("ann", "two", False),
            ("bob", "", False),
            ("carol", "one", False),
            ("", "one", False),
        ):
            assert await users.knows(user, password) is is_right

    async def test_what_was_right_is_remembered_and_hashed_no_more(
        self, file: Path, hashing: Hashing
    ) -> None:
        users = users_of(file)
        assert not users.remembers("ann", "one")
        for _ in range(3):
            assert await users.knows("ann", "one")
            assert users.remembers("ann", "one")
        assert len(hashing.costs) == 1

    async def test_what_was_wrong_is_not(self, file: Path, hashing: Hashing) -> None:
        users = users_of(file)
        for _ in range(3):
            assert not await users.knows("ann", "two")
            assert not users.remembers("ann", "two")
        assert len(hashing.costs) == 3

    async def test_of_a_herd_that_brings_the_same_a_few_are_hashed(
        self, file: Path, hashing: Hashing
    ) -> None:
        users = users_of(file)
        assert all(await asyncio.gather(*(users.knows("ann", "one") for _ in range(50))))
        assert len(hashing.costs) <= 2

    async def test_few_are_hashed_at_a_time(self, file: Path, hashing: Hashing) -> None:
        users = users_of(file)
        found = await asyncio.gather(*(users.knows("ann", f"wrong {n}") for n in range(20)))
        assert not any(found)
        assert len(hashing.costs) == 20
        assert hashing.most_at_once <= 2


class TestNobodyLearnsWhoThereIs:
    async def test_a_user_that_there_is_not_costs_as_much(
        self, file: Path, hashing: Hashing
    ) -> None:
        users = users_of(file)
        for user in ("ann", "nobody", "", "x" * 1000):
            hashing.costs.clear()
            assert not await users.knows(user, "wrong")
            assert hashing.costs == [4]

    async def test_where_costs_differ_each_such_name_has_one_of_them(
        self, tmp_path: Path, hashing: Hashing
    ) -> None:
        path = tmp_path / "htpasswd"
        path.write_text(line("ann", "one", cost=4) + line("bob", "two", cost=5))
        users = users_of(path)
        names = [f"nobody{number}" for number in range(40)]
        for _ in range(2):
            for name in names:
                assert not await users.knows(name, "one")
        assert hashing.costs[:40] == hashing.costs[40:]
        assert set(hashing.costs) == {4, 5}

    async def test_the_password_of_another_opens_nothing(self, tmp_path: Path) -> None:
        users = users_of(write_htpasswd(tmp_path, ann="one"))
        assert not await users.knows("nobody", "one")
        assert not users.remembers("nobody", "one")


class TestWhenTheFileChanges:
    async def test_what_was_remembered_is_gone_at_once(self, file: Path) -> None:
        users = users_of(file)
        assert await users.knows("ann", "one")
        write_htpasswd(file.parent, ann="three")
        assert not users.remembers("ann", "one")
        assert not await users.knows("ann", "one")
        assert await users.knows("ann", "three")

    async def test_a_user_may_go(self, file: Path) -> None:
        users = users_of(file)
        assert await users.knows("bob", "two")
        write_htpasswd(file.parent, ann="one")
        assert not await users.knows("bob", "two")

    async def test_a_version_of_no_use_locks_nobody_out(
        self, file: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        users = users_of(file)
        write(file, "ann:hunter2\n")
        assert await users.knows("ann", "one")
        assert not await users.knows("ann", "hunter2")
        assert "line 1: expected a bcrypt hash" in caplog.text
        assert "hunter2" not in caplog.text

    async def test_what_is_being_hashed_then_is_not_remembered(
        self, file: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        users = users_of(file)

        def change_meanwhile(password: bytes, hashed: bytes) -> bool:
            write_htpasswd(file.parent, ann="three")
            assert not users.remembers("ann", "one")
            return Hashing.real(password, hashed)

        monkeypatch.setattr("entrepot.passwords.htpasswd.bcrypt.checkpw", change_meanwhile)
        await users.knows("ann", "one")
        assert not users.remembers("ann", "one")


class TestMarks:
    """By which a login is told from one with another password."""

    def test_are_alike_as_long_as_the_password_is(self, file: Path) -> None:
        mark = users_of(file).mark_of("ann", b"key")
        assert mark is not None
        assert users_of(file).mark_of("ann", b"key") == mark
        assert users_of(file).mark_of("ann", b"other") != mark
        assert users_of(file).mark_of("bob", b"key") != mark
        write_htpasswd(file.parent, ann="one again")
        assert users_of(file).mark_of("ann", b"key") != mark

    def test_of_one_user(self) -> None:
        one, other = of(username="ann", password="one"), of(username="ann", password="two")
        assert one is not None
        assert other is not None
        assert one.mark_of("ann", b"key") != other.mark_of("ann", b"key")
        assert one.mark_of("bob", b"key") is None

    def test_who_there_is_not_has_none(self, file: Path) -> None:
        assert users_of(file).mark_of("nobody", b"key") is None


async def test_threads_end_with_the_users(file: Path) -> None:
    users = users_of(file)
    assert isinstance(users, HtpasswdUsers)
    await users.knows("ann", "x")
    threads = list(users._threads._threads)
    del users
    for thread in threads:
        await asyncio.to_thread(thread.join, 5)
        assert not thread.is_alive()


def test_nothing_of_them_is_shown(file: Path) -> None:
    shown = repr((users_of(file), of(username="ann", password="hunter2")))
    assert "hunter2" not in shown
    assert os.fspath(file) not in shown
