import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.config.kinds import Secret
from entrepot.engine.sealing import Passport, Sealer
from tests.support.clock import ManualClock

NAME = "registry.test"
_AUTHORIZATIONS = st.none() | st.text(max_size=200)


def sealer(clock: ManualClock | None = None, secret: str = "a secret") -> Sealer:
    return Sealer(Secret(secret), clock or ManualClock(), lifetime_s=3600)


@given(_AUTHORIZATIONS)
def test_what_was_sealed_opens(authorization: str | None) -> None:
    token = sealer().seal(Passport(authorization), NAME)
    assert Sealer.is_ours(token)
    assert token.isascii()
    assert sealer().open(token, NAME) == Passport(authorization)


@given(_AUTHORIZATIONS, st.data())
def test_a_flipped_bit_opens_nothing(authorization: str | None, data: st.DataObject) -> None:
    token = sealer().seal(Passport(authorization), NAME)
    place = data.draw(st.integers(0, len(token) - 1))
    flipped = chr(ord(token[place]) ^ (1 << data.draw(st.integers(0, 6))))
    assert sealer().open(token[:place] + flipped + token[place + 1 :], NAME) is None


@given(st.data(), st.text(max_size=5))
def test_a_token_has_one_spelling(data: st.DataObject, more: str) -> None:
    token = sealer().seal(Passport("Basic x"), NAME)
    place = data.draw(st.integers(0, len(token)))
    stop = data.draw(st.integers(place, len(token)))
    other = token[:place] + more + token[stop:]
    assert (sealer().open(other, NAME) is not None) == (other == token)


@given(st.text())
def test_what_is_not_ours_opens_nothing(text: str) -> None:
    assert sealer().open(text, NAME) is None
    assert sealer().open(f"entrepot.{text}", NAME) is None


@given(st.text(min_size=1))
def test_another_registry_opens_nothing(other: str) -> None:
    token = sealer().seal(Passport("Basic x"), NAME)
    assert (sealer().open(token, other) is None) == (other != NAME)


@given(st.text())
def test_what_says_nobody_opens_at_every_registry(other: str) -> None:
    assert sealer().open(sealer().seal(Passport(), NAME), other) == Passport()


@pytest.mark.parametrize("passport", [Passport("Basic x"), Passport("Bearer x", "key")])
def test_what_says_somebody_opens_at_none_that_has_no_name(passport: Passport) -> None:
    assert sealer().open(sealer().seal(passport, NAME), "") is None


def test_another_secret_opens_nothing() -> None:
    token = sealer().seal(Passport("Basic x"), NAME)
    assert sealer(secret="another").open(token, NAME) is None


def test_it_opens_for_as_long_as_it_was_said() -> None:
    clock = ManualClock()
    token = sealer(clock).seal(Passport(), NAME)
    clock.advance(3600)
    assert sealer(clock).open(token, NAME) == Passport()
    clock.advance(0.1)
    assert sealer(clock).open(token, NAME) is None


def test_no_two_tokens_are_alike() -> None:
    assert len({sealer().seal(Passport(), NAME) for _ in range(100)}) == 100


def test_credentials_show_in_neither_token_nor_repr() -> None:
    passport = Passport("Basic c2VjcmV0")
    assert "c2VjcmV0" not in repr(passport)
    assert "c2VjcmV0" not in sealer().seal(passport, NAME)


@pytest.mark.parametrize("token", ["", "entrepot.", "entrepot.AAAA", "eyJ.eyJ.sig", "entrepot.é"])
def test_odd_tokens(token: str) -> None:
    assert sealer().open(token, NAME) is None
