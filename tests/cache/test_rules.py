import pytest

from entrepot.cache.rules import Policy, TagPolicies
from entrepot.config.kinds import Seconds
from entrepot.config.model import TagRule, Tags
from entrepot.oci.reference import Repository, Tag

RULES = (
    TagRule(match="quay.io/*:nightly", never=True),
    TagRule(match="*/library/*:?.?", immutable=True),
    TagRule(match="/:v[0-9]+$/", ttl=Seconds(3600)),
)
POLICIES = TagPolicies(Tags(ttl=Seconds(60), max_stale=Seconds(600), rules=RULES))


@pytest.mark.parametrize(
    ("registry", "repository", "tag", "policy"),
    [
        ("quay.io", "a/b", "nightly", Policy(60, 600, is_never_kept=True)),
        ("docker.io", "a/b", "nightly", Policy(60, 600)),
        ("docker.io", "library/x", "1.2", Policy(60, 600, is_immutable=True)),
        ("docker.io", "library/x", "1.23", Policy(60, 600)),
        ("docker.io", "x/y", "v12", Policy(3600, 600)),
        ("docker.io", "x/y", "v12a", Policy(60, 600)),
    ],
)
def test_the_first_rule_that_matches_decides(
    registry: str, repository: str, tag: str, policy: Policy
) -> None:
    assert POLICIES.of(registry, Repository(repository), Tag(tag)) == policy


@pytest.mark.parametrize(("ttl", "expected"), [(0, 0), (3, 3), (60, 10)])
def test_absence_is_believed_for_the_shorter_time(ttl: float, expected: float) -> None:
    assert Policy(ttl, 0).negative_ttl_s == expected


@pytest.mark.parametrize(
    ("registry", "tag", "ttl"),
    [("own.test", "1.0", 0), ("own.test", "v12", 3600), ("docker.io", "1.0", 60)],
)
def test_a_registry_may_have_a_time_of_its_own(registry: str, tag: str, ttl: float) -> None:
    policies = TagPolicies(Tags(ttl=Seconds(60), rules=RULES), {"own.test": 0})
    assert policies.of(registry, Repository("app"), Tag(tag)).ttl_s == ttl
