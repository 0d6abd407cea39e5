"""Which policy a tag is under: the first rule of the configuration that matches."""

from dataclasses import dataclass
from functools import lru_cache

from entrepot.cache.matching import pattern_of
from entrepot.config.model import TagRule, Tags
from entrepot.oci.reference import Repository, Tag

# A negative answer is believed for a moment only: the image may be pushed right now.
NEGATIVE_TTL_S = 10.0


@dataclass(frozen=True, slots=True)
class Policy:
    ttl_s: float
    max_stale_s: float
    is_immutable: bool = False
    is_never_kept: bool = False

    @property
    def negative_ttl_s(self) -> float:
        return negative_ttl_s(self.ttl_s)


def negative_ttl_s(ttl_s: float) -> float:
    return min(NEGATIVE_TTL_S, ttl_s)


class TagPolicies:
    def __init__(self, settings: Tags) -> None:
        self._settings = settings
        self._rules = [(pattern_of(rule.match), rule) for rule in settings.rules]
        self.of = lru_cache(maxsize=10_000)(self._find)

    def _find(self, registry: str, repository: Repository, tag: Tag) -> Policy:
        name = f"{registry}/{repository}:{tag}"
        for pattern, rule in self._rules:
            if pattern.fullmatch(name):
                return self._policy(rule)
        return Policy(self._settings.ttl, self._settings.max_stale)

    def _policy(self, rule: TagRule) -> Policy:
        ttl = self._settings.ttl if rule.ttl is None else rule.ttl
        return Policy(ttl, self._settings.max_stale, rule.immutable, rule.never)
