"""The cache rule for movable names: what to do with a request, given what is known.

binding    content here?   age                  action
---------  --------------  -------------------  -----------------------------------
any        any             policy: never kept   Pass
none       -               -                    Fetch
yes        needed, gone    any                  Fetch
yes        yes, or HEAD    < ttl, or immutable  Serve
yes        yes, or HEAD    < ttl + max_stale    Serve stale if the upstream rests,
                                                else Revalidate with that to fall back on
yes        yes, or HEAD    older                Revalidate with nothing to fall back on

That there is nothing, or nothing for this identity, is known by path and not by name; see
`Policy.negative_ttl_s` for how long.
"""

from dataclasses import dataclass

from entrepot.cache.record import Binding
from entrepot.cache.rules import Policy


@dataclass(frozen=True, slots=True)
class Serve:
    is_stale: bool = False


@dataclass(frozen=True, slots=True)
class Revalidate:
    may_serve_stale: bool


@dataclass(frozen=True, slots=True)
class Fetch:
    pass


@dataclass(frozen=True, slots=True)
class Pass:
    pass


Action = Serve | Revalidate | Fetch | Pass

# Statuses that say nothing about the name: the upstream is in trouble, or we asked too much.
_TROUBLE = frozenset({408, 429, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    binding: Binding | None
    is_servable: bool  # the bound content is here, or only its head is asked for
    is_resting: bool  # the upstream did not answer a moment ago
    now: float


def decide(situation: Situation, policy: Policy) -> Action:
    if policy.is_never_kept:
        return Pass()
    if situation.binding is None:
        return Fetch()
    return _with_binding(situation.binding, situation, policy)


def _with_binding(binding: Binding, situation: Situation, policy: Policy) -> Action:
    if not situation.is_servable:
        return Fetch()
    if policy.is_immutable:
        return Serve()
    # A clock set back makes ages negative: such entries are as if never checked.
    age = situation.now - binding.checked_at
    if 0 <= age < policy.ttl_s:
        return Serve()
    may_serve_stale = may_be_stale(binding, policy, situation.now)
    if may_serve_stale and situation.is_resting:
        return Serve(is_stale=True)
    return Revalidate(may_serve_stale)


def may_be_stale(binding: Binding, policy: Policy, now: float) -> bool:
    return now - binding.checked_at < policy.ttl_s + policy.max_stale_s


def is_trouble(status: int | None) -> bool:
    """Whether an answer (None: there was none) is an outage, to be bridged, and not a word."""
    return status is None or status in _TROUBLE
