import shutil
import subprocess
from pathlib import Path

import pytest

from entrepot.errors import ConfigError
from entrepot.passwords.htpasswd import PasswordHash, parse_htpasswd
from tests.passwords.passwords import line

# bcrypt of "one" with cost 4, made by htpasswd.
ONE = "$2y$04$kRcbZTTbPVlJ1PXsNoHEUODKHeb5EobV//frCVppQXqmowDKqyZae"


def users(text: str) -> list[str]:
    return list(parse_htpasswd(text))


def test_a_file_of_several_users() -> None:
    found = parse_htpasswd(
        f"# ours\n\nann:{ONE}\r\n   \n  # not bob:{ONE}\n{line('bob', 'two')}  änn.b@c:{ONE}  "
    )
    assert list(found) == ["ann", "bob", "änn.b@c"]
    assert found["bob"].matches("two")
    assert not found["bob"].matches("one")


@pytest.mark.parametrize("kind", ["2a", "2b", "2y"])
def test_each_kind_of_bcrypt(kind: str) -> None:
    (found,) = parse_htpasswd(line("ann", "größe", kind=kind)).values()
    assert found.matches("größe")
    assert not found.matches("grösse")


@pytest.mark.parametrize(
    "password", ["", "one ", "One", "one\0", "one\0x", "\ud800", "x" * 100_000]
)
def test_whatever_is_sent_is_no_more_than_wrong(password: str) -> None:
    assert not PasswordHash(ONE).matches(password)


@pytest.mark.skipif(shutil.which("htpasswd") is None, reason="needs htpasswd")
class TestOfHtpasswdItself:
    """What Apache's program writes and what it takes for right is so here."""

    @staticmethod
    def run(*arguments: str | Path) -> int:
        command = ["htpasswd", *map(str, arguments)]
        return subprocess.run(command, check=False, capture_output=True).returncode

    def test_a_file_that_it_writes(self, tmp_path: Path) -> None:
        file = tmp_path / "htpasswd"
        for name in ("ann", "bob"):
            create = ["-c"] if name == "ann" else []
            assert self.run("-B", "-C", "4", "-b", *create, file, name, f"{name}'s") == 0
        found = parse_htpasswd(file.read_text())
        assert [each.matches("bob's") for each in found.values()] == [False, True]

    @pytest.mark.parametrize(("length", "is_right"), [(71, False), (72, True), (90, True)])
    def test_bytes_after_the_72nd_count_for_nothing(
        self, tmp_path: Path, length: int, *, is_right: bool
    ) -> None:
        file = tmp_path / "htpasswd"
        assert self.run("-B", "-C", "4", "-b", "-c", file, "ann", "a" * 80) == 0
        assert (self.run("-v", "-b", file, "ann", "a" * length) == 0) is is_right
        assert parse_htpasswd(file.read_text())["ann"].matches("a" * length) is is_right

    @pytest.mark.parametrize("kind", ["-m", "-d", "-s", "-p", "-2", "-5"])
    def test_other_kinds_are_none_of_ours(self, tmp_path: Path, kind: str) -> None:
        file = tmp_path / "htpasswd"
        assert self.run(kind, "-b", "-c", file, "ann", "hunter2") == 0
        with pytest.raises(ConfigError, match=r"^line 1: .*`htpasswd -B`") as caught:
            parse_htpasswd(file.read_text())
        digest = file.read_text().strip().partition(":")[2]
        assert digest not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "at least one user"),
        ("# nobody\n\n", "at least one user"),
        ("hunter2", "line 1: expected name:hash"),
        (f"ann:{ONE}\n\n{ONE}\n", "line 3: expected name:hash"),
        (f":{ONE}", "line 1: expected name:hash"),
        ("ann:", "line 1: expected a bcrypt hash"),
        ("ann:hunter2", "line 1: expected a bcrypt hash"),
        (f"ann:{ONE[:-1]}", "line 1: expected a bcrypt hash"),
        (f"ann:{ONE}x", "line 1: expected a bcrypt hash"),
        (f"ann:{ONE}:x", "line 1: expected a bcrypt hash"),
        (f"ann: {ONE}", "line 1: expected a bcrypt hash"),
        (f"ann:{ONE.replace('2y', '2x')}", "line 1: expected a bcrypt hash"),
        (f"ann:{ONE.replace('$04', '$03')}", "line 1: expected a bcrypt hash"),
        (f"ann:{ONE.replace('$04', '$18')}", "line 1: expected a bcrypt hash"),
        (f"ann:{ONE[:28]}z{ONE[29:]}", "line 1: expected a bcrypt hash"),
        (f"ann:{ONE}\nbob:{ONE}\nann:{ONE}", "line 3: this user has a line already"),
    ],
)
def test_what_is_of_no_use_is_told_by_its_line_alone(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        parse_htpasswd(text)
    for secret in ("hunter2", ONE[7:], "ann", "bob"):
        assert secret not in str(caught.value)


def test_a_hash_is_not_shown() -> None:
    assert ONE not in repr(parse_htpasswd(f"ann:{ONE}"))
