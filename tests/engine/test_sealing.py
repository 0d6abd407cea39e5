import base64
import json

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from entrepot.config.kinds import Secret
from entrepot.engine.sealing import Passport, Sealer, Secrets
from tests.support.clock import ManualClock

NAME = "registry.test"
_AUTHORIZATIONS = st.none() | st.text(max_size=200)


def sealer(
    clock: ManualClock | None = None, secret: str = "a secret", former: tuple[str, ...] = ()
) -> Sealer:
    secrets = Secrets(Secret(secret), tuple(map(Secret, former)))
    return Sealer(secrets, clock or ManualClock(), lifetime_s=3600, refresh_lifetime_s=7200)


@given(_AUTHORIZATIONS)
def test_what_was_sealed_opens(authorization: str | None) -> None:
    token = sealer().seal(Passport(authorization), NAME)
    assert Sealer.is_ours(token)
    assert token.isascii()
    assert sealer().open(token, NAME) == Passport(authorization)


@pytest.mark.parametrize(("most_s", "life_s"), [(60, 60), (9000, 3600)])
def test_a_token_may_be_for_a_shorter_time(most_s: float, life_s: float) -> None:
    clock = ManualClock()
    token = sealer(clock).seal(Passport("Basic x"), NAME, most_s)
    clock.advance(life_s - 1)
    assert sealer(clock).open(token, NAME) is not None
    clock.advance(2)
    assert sealer(clock).open(token, NAME) is None


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


SOMEBODY = [
    Passport("Basic x"),
    Passport("Bearer x", ("key", "former key")),
    Passport(user="alice", mark="of her password"),
]


@pytest.mark.parametrize("passport", SOMEBODY)
def test_what_says_somebody_opens_there_alone(passport: Passport) -> None:
    token = sealer().seal(passport, NAME)
    assert sealer().open(token, NAME) == passport
    assert sealer().open(token, "other.test") is None


@pytest.mark.parametrize("passport", SOMEBODY)
def test_what_says_somebody_opens_at_none_that_has_no_name(passport: Passport) -> None:
    assert sealer().open(sealer().seal(passport, NAME), "") is None


def test_another_secret_opens_nothing() -> None:
    token = sealer().seal(Passport("Basic x"), NAME)
    assert sealer(secret="another").open(token, NAME) is None


def test_a_former_secret_opens_and_does_not_seal() -> None:
    old = sealer(secret="old").seal(Passport("Basic x"), NAME)
    rotated = sealer(secret="new", former=("older", "old"))
    assert rotated.open(old, NAME) == Passport("Basic x")
    fresh = rotated.seal(Passport("Basic x"), NAME)
    assert sealer(secret="new").open(fresh, NAME) == Passport("Basic x")
    assert sealer(secret="old").open(fresh, NAME) is None


def test_those_that_have_the_same_secret_open_each_others() -> None:
    one, other = sealer(), sealer()
    for passport in SOMEBODY:
        assert other.open(one.seal(passport, NAME), NAME) == passport


class TestRefresh:
    PASSPORT = Passport(user="alice", mark="of her password")

    def test_is_for_one_use_at_one_registry(self) -> None:
        token = sealer().seal_refresh(self.PASSPORT, NAME)
        assert Sealer.is_ours(token)
        assert sealer().open_refresh(token, NAME) == self.PASSPORT
        assert sealer().open_refresh(token, "other.test") is None
        assert sealer().open(token, NAME) is None

    def test_no_other_token_is_one(self) -> None:
        for passport in (Passport(), self.PASSPORT):
            assert sealer().open_refresh(sealer().seal(passport, NAME), NAME) is None

    def test_has_a_life_of_its_own(self) -> None:
        clock = ManualClock()
        token = sealer(clock).seal_refresh(self.PASSPORT, NAME)
        clock.advance(7200)
        assert sealer(clock).open_refresh(token, NAME) == self.PASSPORT
        clock.advance(0.1)
        assert sealer(clock).open_refresh(token, NAME) is None

    def test_a_former_secret_opens_it(self) -> None:
        token = sealer(secret="old").seal_refresh(self.PASSPORT, NAME)
        assert sealer(secret="new", former=("old",)).open_refresh(token, NAME) == self.PASSPORT
        assert sealer(secret="new").open_refresh(token, NAME) is None


def test_what_an_older_version_sealed_is_no_failure() -> None:
    """It said one key, where there are several now, and nothing of users."""
    payload = {"until": 2e9, "auth": "Bearer expired", "key": "of an outage"}
    key, nonce = Secrets(Secret("a secret")).keys("tokens")[0], bytes(12)
    sealed = nonce + AESGCM(key).encrypt(nonce, json.dumps(payload).encode(), NAME.encode())
    token = f"entrepot.{base64.urlsafe_b64encode(sealed).decode()}"
    assert sealer().open(token, NAME) == Passport("Bearer expired")


def test_keys_of_one_use_are_none_of_another() -> None:
    secrets = Secrets(Secret("new"), (Secret("old"),))
    keys = {*secrets.keys("tokens"), *secrets.keys("identities")}
    assert len(keys) == 4
    assert "new" not in repr(secrets)
    assert "old" not in repr(secrets)


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
    passport = Passport("Basic c2VjcmV0", mark="c2VjcmV0")
    shown = repr(passport), sealer().seal(passport, NAME), sealer().seal_refresh(passport, NAME)
    assert all("c2VjcmV0" not in text for text in shown)


@pytest.mark.parametrize("token", ["", "entrepot.", "entrepot.AAAA", "eyJ.eyJ.sig", "entrepot.é"])
def test_odd_tokens(token: str) -> None:
    assert sealer().open(token, NAME) is None
