"""Which policy a tag is under: the first rule of the configuration that matches."""

from collections.abc import Mapping
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
    def __init__(self, settings: Tags, ttl_of: Mapping[str, float] | None = None) -> None:
        """`ttl_of`: of registries that have one of their own, where no rule says another."""
        self._settings = settings
        self._ttl_of = ttl_of or {}
        self._rules = [(pattern_of(rule.match), rule) for rule in settings.rules]
        self.of = lru_cache(maxsize=10_000)(self._find)

    def _find(self, registry: str, repository: Repository, tag: Tag) -> Policy:
        name = f"{registry}/{repository}:{tag}"
        for pattern, rule in self._rules:
            if pattern.fullmatch(name):
                return self._policy(registry, rule)
        return self._policy(registry, TagRule())

    def _policy(self, registry: str, rule: TagRule) -> Policy:
        usual = self._ttl_of.get(registry, self._settings.ttl)
        ttl = usual if rule.ttl is None else rule.ttl
        return Policy(ttl, self._settings.max_stale, rule.immutable, rule.never)
