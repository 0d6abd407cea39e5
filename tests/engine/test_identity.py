from hypothesis import given
from hypothesis import strategies as st

from entrepot.engine.identity import (
    HOME,
    PROXY,
    STRANGER,
    operator_identity,
    own_identity,
)


def test_who_shows_nothing_has_the_proxys_rights() -> None:
    assert PROXY.key == "proxy"
    assert not PROXY.is_own


def test_who_has_the_proxys_rights() -> None:
    for one in (PROXY, HOME, operator_identity("robot", "")):
        assert one.is_proxys
    assert not STRANGER.is_proxys
    assert not own_identity("Basic abc", b"key").is_proxys


def test_each_account_of_the_operators_is_another() -> None:
    accounts = (("robot", ""), ("other", ""), ("", "robot"), ("", ""))
    keys = {operator_identity(*account).key for account in accounts}
    assert len(keys | {PROXY.key, HOME.key}) == 6
    assert not any("robot" in key for key in keys)


def test_equal_credentials_are_one_identity() -> None:
    one, other = (own_identity("Basic abc", b"key") for _ in range(2))
    assert one == other
    assert one.is_own
    assert one.authorization == "Basic abc"


@given(st.text(), st.text())
def test_other_credentials_are_another(one: str, other: str) -> None:
    keys = own_identity(one, b"key").key, own_identity(other, b"key").key
    assert (keys[0] == keys[1]) == (one == other)


def test_the_key_tells_nothing_of_the_credentials() -> None:
    identity = own_identity("Basic abc", b"key")
    assert own_identity("Basic abc", b"other").key != identity.key
    assert "abc" not in repr(identity)
    assert len(identity.key) == 32
