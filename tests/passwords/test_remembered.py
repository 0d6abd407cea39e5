import pytest

from entrepot.passwords.remembered import Remembered, digest
from tests.support.clock import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def remembered(clock: ManualClock) -> Remembered:
    return Remembered(clock.now)


def test_what_was_added(remembered: Remembered) -> None:
    assert ("ann", "one") not in remembered
    remembered.add("ann", "one")
    assert ("ann", "one") in remembered
    for other in (("ann", "two"), ("bob", "one"), ("anno", "ne"), ("", "annone"), ("ann", "")):
        assert other not in remembered


def test_for_some_minutes_since_it_was_last_asked_for(
    remembered: Remembered, clock: ManualClock
) -> None:
    remembered.add("ann", "one")
    for _ in range(3):
        clock.advance(599)
        assert ("ann", "one") in remembered
    clock.advance(600)
    assert ("ann", "one") not in remembered


def test_not_when_the_clock_goes_back(remembered: Remembered, clock: ManualClock) -> None:
    remembered.add("ann", "one")
    clock.advance(-1)
    assert ("ann", "one") not in remembered


def test_until_it_is_to_forget(remembered: Remembered) -> None:
    remembered.add("ann", "one")
    remembered.clear()
    assert ("ann", "one") not in remembered


def test_of_many_those_that_were_asked_for_last(
    remembered: Remembered, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("entrepot.passwords.remembered._ENTRIES_MAX", 3)
    for user in ("a", "b", "c"):
        remembered.add(user, "x")
    assert ("a", "x") in remembered
    remembered.add("d", "x")
    assert [user for user in "abcd" if (user, "x") in remembered] == ["a", "c", "d"]


def test_a_digest_tells_users_and_passwords_apart() -> None:
    assert digest(b"key", "ann", "one") == digest(b"key", "ann", "one")
    others = {
        digest(b"key", "ann", "on"),
        digest(b"key", "anno", "ne"),
        digest(b"other", "ann", "one"),
        digest(b"key", "ann", "\ud800"),
    }
    assert len(others - {digest(b"key", "ann", "one")}) == 4
