import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.cache.decide import (
    Action,
    Fetch,
    Pass,
    Revalidate,
    Serve,
    Situation,
    decide,
    is_trouble,
    may_be_stale,
)
from entrepot.cache.record import Binding
from entrepot.cache.rules import Policy
from entrepot.oci.digest import Digest

NOW = 1_000_000.0
MINUTE = Policy(60, 600)


def bound(age: float) -> Binding:
    return Binding(Digest.of(b""), "a/b", 1, NOW - age)


@pytest.mark.parametrize(
    ("binding", "is_servable", "is_resting", "policy", "action"),
    [
        (None, False, False, MINUTE, Fetch()),
        (None, True, True, MINUTE, Fetch()),
        (bound(0), True, False, MINUTE, Serve()),
        (bound(59.9), True, True, MINUTE, Serve()),
        (bound(60), True, False, MINUTE, Revalidate(may_serve_stale=True)),
        (bound(60), True, True, MINUTE, Serve(is_stale=True)),
        (bound(659.9), True, True, MINUTE, Serve(is_stale=True)),
        (bound(660), True, True, MINUTE, Revalidate(may_serve_stale=False)),
        (bound(0), False, False, MINUTE, Fetch()),
        (bound(-5), True, False, MINUTE, Revalidate(may_serve_stale=True)),
        (bound(10**9), True, False, Policy(60, 600, is_immutable=True), Serve()),
        (bound(10**9), False, False, Policy(60, 600, is_immutable=True), Fetch()),
        (bound(0), True, False, Policy(60, 600, is_never_kept=True), Pass()),
        (None, True, False, Policy(60, 600, is_never_kept=True), Pass()),
        (bound(0), True, False, Policy(0, 0), Revalidate(may_serve_stale=False)),
        (bound(10**9), True, True, Policy(60, float("inf")), Serve(is_stale=True)),
    ],
)
def test_the_table(
    binding: Binding | None,
    is_servable: bool,  # noqa: FBT001 - a column of the table
    is_resting: bool,  # noqa: FBT001 - a column of the table
    policy: Policy,
    action: Action,
) -> None:
    situation = Situation(binding=binding, is_servable=is_servable, is_resting=is_resting, now=NOW)
    assert decide(situation, policy) == action


@given(
    age=st.floats(-(10**6), 10**9),
    ttl=st.floats(0, 10**6),
    max_stale=st.floats(0, 10**9),
    is_servable=st.booleans(),
    is_resting=st.booleans(),
)
def test_nothing_is_served_that_is_not_here_or_too_old(
    age: float,
    ttl: float,
    max_stale: float,
    is_servable: bool,  # noqa: FBT001 - drawn
    is_resting: bool,  # noqa: FBT001 - drawn
) -> None:
    binding, policy = bound(age), Policy(ttl, max_stale)
    situation = Situation(binding=binding, is_servable=is_servable, is_resting=is_resting, now=NOW)
    action = decide(situation, policy)
    if isinstance(action, Serve):
        assert is_servable
        passed = NOW - binding.checked_at
        assert passed < ttl or (action.is_stale and is_resting)
        assert passed < ttl + max_stale
    if isinstance(action, Revalidate) and action.may_serve_stale:
        assert may_be_stale(binding, policy, NOW)


@pytest.mark.parametrize(
    ("status", "expected"),
    [(None, True), (429, True), (500, True), (503, True), (404, False), (401, False), (403, False),
     (400, False), (501, False)],
)  # fmt: skip
def test_an_outage_is_no_answer(status: int | None, expected: bool) -> None:  # noqa: FBT001 - a column
    assert is_trouble(status) is expected
