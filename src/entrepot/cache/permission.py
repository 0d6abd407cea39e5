"""Who may do what in which repositories of a registry, by the operator's rules.

Of other registries, rules say what passes this proxy at all; who may read there is the upstream's
to say besides. Of a local registry they are the only word there is.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from entrepot.cache.matching import pattern_of
from entrepot.config.kinds import Action
from entrepot.config.local import EVERY_USER, NO_USER, AccessRule, LocalRegistry
from entrepot.config.model import Registry, RepositoryRule
from entrepot.oci.reference import Repository

_DOING = {"pull": "pulling from", "push": "pushing to", "delete": "deleting from"}
_DO = {"pull": "pull from", "push": "push to", "delete": "delete from"}
_EVERYTHING: tuple[Action, ...] = ("pull", "push", "delete")

LOGIN_NEEDED, FORBIDDEN, UNSUPPORTED = 401, 403, 405


@dataclass(frozen=True, slots=True)
class Refusal:
    """401: a login may help; 403: not in this repository, or not for them; 405: nobody may."""

    status: int
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    registry: str  # as clients name it: a host of a pattern, too
    repository: Repository
    action: Action
    user: str  # "": nobody in particular


class Permissions(Protocol):
    @property
    def is_limited(self) -> bool:
        """Whether anything depends on the repository: then what is of none cannot be judged."""
        ...

    def refusal(self, wish: Wish) -> Refusal | None: ...

    def may_somewhere(self, action: Action, user: str) -> bool:
        """Whether there can be a repository where this is allowed."""
        ...


class RepositoryRules:
    """Of a registry that is others': the same for all users."""

    def __init__(self, settings: Registry) -> None:
        self._allows_push = settings.push == "allow"
        self._rules = [(pattern_of(rule.match), rule) for rule in settings.rules]

    @property
    def is_limited(self) -> bool:
        return bool(self._rules)

    def refusal(self, wish: Wish) -> Refusal | None:
        for pattern, rule in self._rules:
            policy = _policy(rule, wish.action)
            if policy is not None and pattern.fullmatch(wish.repository):
                return None if policy == "allow" else Refusal(FORBIDDEN, _message(rule, wish))
        if wish.action == "pull" or self._allows_push:
            return None
        return Refusal(
            UNSUPPORTED,
            f"{_DOING[wish.action]} {wish.registry} through this proxy is not allowed (push: deny)",
        )

    def may_somewhere(self, action: Action, user: str) -> bool:  # noqa: ARG002 - alike for all
        if action == "pull" or self._allows_push:
            return True
        return any(_policy(rule, action) == "allow" for _, rule in self._rules)


def _policy(rule: RepositoryRule, action: Action) -> str | None:
    return {"pull": rule.pull, "push": rule.push, "delete": rule.delete}[action]


def _message(rule: RepositoryRule, wish: Wish) -> str:
    return rule.message or (
        f"{_DOING[wish.action]} {wish.registry}/{wish.repository} is not allowed by the rules of "
        "this proxy"
    )


class LocalAccess:
    """Of a local registry. Fails closed: who is nobody may what is said of nobody alone."""

    def __init__(self, settings: LocalRegistry) -> None:
        self._settings = settings
        self._rules = [(pattern_of(rule.match), rule) for rule in settings.access]

    @property
    def is_limited(self) -> bool:
        return True

    def refusal(self, wish: Wish) -> Refusal | None:
        if self._settings.read_only and wish.action != "pull":
            return Refusal(
                UNSUPPORTED,
                f"{wish.registry} is read-only: nothing can be pushed or deleted (read_only: true)",
            )
        if wish.action in self._allowed(wish.repository, wish.user):
            return None
        what = f"{_DO[wish.action]} {wish.registry}/{wish.repository}"
        if not wish.user:
            return Refusal(LOGIN_NEEDED, f"log in to {what}")
        return Refusal(FORBIDDEN, f"{wish.user} may not {what}")

    def may_somewhere(self, action: Action, user: str) -> bool:
        if self._settings.read_only and action != "pull":
            return False
        rules = (rule for _, rule in self._rules)
        return action in self._default(user) or any(
            action in rule.allow for rule in rules if _is_for(rule, user)
        )

    def _allowed(self, repository: Repository, user: str) -> Iterable[Action]:
        for pattern, rule in self._rules:
            if _is_for(rule, user) and pattern.fullmatch(repository):
                return rule.allow
        return self._default(user)

    def _default(self, user: str) -> tuple[Action, ...]:
        """What no rule says anything of: with rules, that is nobody's but who need not log in."""
        return _EVERYTHING if user and not self._rules else self._settings.anonymous


def _is_for(rule: AccessRule, user: str) -> bool:
    """Somebody who is called as nobody is must not come by what is theirs."""
    if not user:
        return NO_USER in rule.users
    return EVERY_USER in rule.users or (user in rule.users and user != NO_USER)


@dataclass(frozen=True, slots=True)
class Grant:
    """What one user, or nobody in particular, may do in a registry."""

    registry: str
    user: str
    permissions: Permissions

    @property
    def is_limited(self) -> bool:
        return self.permissions.is_limited

    def refusal(self, action: Action, repository: Repository) -> Refusal | None:
        wish = Wish(registry=self.registry, repository=repository, action=action, user=self.user)
        return self.permissions.refusal(wish)

    def may(self, action: Action, repository: Repository) -> bool:
        return self.refusal(action, repository) is None

    def may_somewhere(self, action: Action) -> bool:
        return self.permissions.may_somewhere(action, self.user)


UNLIMITED = Grant("", "", RepositoryRules(Registry()))
