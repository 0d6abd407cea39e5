import pytest

from entrepot.cache.permission import UNLIMITED, Grant, LocalAccess, RepositoryRules
from entrepot.config.kinds import Action, Policy
from entrepot.config.local import AccessRule, LocalRegistry
from entrepot.config.model import Registry, RepositoryRule
from entrepot.oci.reference import Repository

ACTIONS: tuple[Action, ...] = ("pull", "push", "delete")
APP = Repository("app")


def statuses(grant: Grant, repository: str) -> tuple[int, ...]:
    """Of pull, push and delete; 200 where it is allowed."""
    refusals = [grant.refusal(action, Repository(repository)) for action in ACTIONS]
    assert [refusal is None for refusal in refusals] == [
        grant.may(action, Repository(repository)) for action in ACTIONS
    ]
    return tuple(200 if refusal is None else refusal.status for refusal in refusals)


def of_registry(push: Policy, *rules: RepositoryRule) -> Grant:
    return Grant("registry.test", "", RepositoryRules(Registry(push=push, rules=rules)))


def of_local(user: str, settings: LocalRegistry) -> Grant:
    return Grant("local.test", user, LocalAccess(settings))


RULES = (
    RepositoryRule(match="team/secret/*", pull="deny", push="deny"),
    RepositoryRule(match="team/*", push="allow"),
    RepositoryRule(match="team/*", push="deny", delete="allow"),
    RepositoryRule(match="/^scratch/", pull="deny"),
    RepositoryRule(match="scratch/open", pull="allow"),
)


@pytest.mark.parametrize(
    ("push", "repository", "expected"),
    [
        ("deny", "other", (200, 405, 405)),
        ("allow", "other", (200, 200, 200)),
        ("deny", "team/app", (200, 200, 200)),
        ("deny", "team/secret/app", (403, 403, 200)),  # what one does not say, the next does
        ("deny", "scratch", (403, 405, 405)),
        ("allow", "scratch", (403, 200, 200)),
        ("deny", "scratch/open", (403, 405, 405)),  # the first decides
    ],
)
def test_the_first_rule_that_says_something_decides(
    push: Policy, repository: str, expected: tuple[int, ...]
) -> None:
    assert statuses(of_registry(push, *RULES), repository) == expected


def test_without_rules_push_is_the_only_word() -> None:
    assert statuses(of_registry("deny"), "app") == (200, 405, 405)
    assert statuses(of_registry("allow"), "app") == (200, 200, 200)
    assert (of_registry("deny").is_limited, of_registry("deny", *RULES).is_limited) == (False, True)
    assert statuses(UNLIMITED, "app") == (200, 405, 405)


def test_a_rule_speaks_for_itself_or_is_spoken_for() -> None:
    rules = (
        RepositoryRule(match="a", pull="deny", message="Ask the platform team."),
        RepositoryRule(match="b", pull="deny"),
    )
    own = of_registry("deny", *rules).refusal("pull", Repository("a"))
    default = of_registry("deny", *rules).refusal("pull", Repository("b"))
    policy = of_registry("deny", *rules).refusal("delete", Repository("b"))
    assert own is not None
    assert default is not None
    assert policy is not None
    assert own.message == "Ask the platform team."
    assert default.message.startswith("pulling from registry.test/b is not allowed")
    assert "deleting from registry.test" in policy.message
    assert "push: deny" in policy.message


@pytest.mark.parametrize(
    ("grant", "expected"),
    [
        (of_registry("deny"), (True, False, False)),
        (of_registry("allow"), (True, True, True)),
        (of_registry("deny", *RULES), (True, True, True)),
        (of_local("", LocalRegistry()), (False, False, False)),
        (of_local("", LocalRegistry(anonymous=("pull",))), (True, False, False)),
        (of_local("amy", LocalRegistry(read_only=True)), (True, False, False)),
        (
            of_local(
                "", LocalRegistry(access=(AccessRule(users=("anonymous",), allow=("pull",)),))
            ),
            (True, False, False),
        ),
        (
            of_local("amy", LocalRegistry(access=(AccessRule(users=("bob",), allow=("pull",)),))),
            (False, False, False),
        ),
    ],
)
def test_whether_it_is_allowed_anywhere(grant: Grant, expected: tuple[bool, ...]) -> None:
    assert tuple(grant.may_somewhere(action) for action in ACTIONS) == expected


ACCESS = (
    AccessRule(match="team/*", users=("amy",), allow=("pull", "push")),
    AccessRule(match="team/*", users=("bob", "anonymous"), allow=("pull",)),
    AccessRule(match="team/*", allow=()),
    AccessRule(match="public/*", users=("anonymous",), allow=("pull",)),
)


@pytest.mark.parametrize(
    ("user", "repository", "expected"),
    [
        ("amy", "team/a", (200, 200, 403)),
        ("bob", "team/a", (200, 403, 403)),
        ("cid", "team/a", (403, 403, 403)),  # *
        ("cid", "public/a", (403, 403, 403)),  # no rule is for users there
        ("", "team/a", (200, 401, 401)),
        ("", "public/a", (200, 401, 401)),
        ("", "elsewhere", (401, 401, 401)),  # * is not of who brings no password
        ("anonymous", "public/a", (403, 403, 403)),  # a user who is called so is a user
        ("anonymous", "team/a", (403, 403, 403)),
        ("*", "team/a", (403, 403, 403)),
    ],
)
def test_the_first_rule_for_user_and_repository_decides(
    user: str, repository: str, expected: tuple[int, ...]
) -> None:
    assert statuses(of_local(user, LocalRegistry(access=ACCESS)), repository) == expected


@pytest.mark.parametrize(
    ("user", "anonymous", "expected"),
    [
        ("amy", (), (200, 200, 200)),
        ("", (), (401, 401, 401)),
        ("", ("pull",), (200, 401, 401)),
        ("", ACTIONS, (200, 200, 200)),
    ],
)
def test_without_rules_users_may_all_and_others_what_is_said(
    user: str, anonymous: tuple[Action, ...], expected: tuple[int, ...]
) -> None:
    assert statuses(of_local(user, LocalRegistry(anonymous=anonymous)), "app") == expected


@pytest.mark.parametrize("user", ["", "amy"])
def test_read_only_is_so_for_all(user: str) -> None:
    settings = LocalRegistry(read_only=True, anonymous=ACTIONS)
    assert statuses(of_local(user, settings), "app") == (200, 405, 405)
    refusal = of_local(user, settings).refusal("push", APP)
    assert refusal is not None
    assert "read-only" in refusal.message


def test_who_is_refused_is_told_what_and_why() -> None:
    nobody = of_local("", LocalRegistry()).refusal("push", APP)
    somebody = of_local("bob", LocalRegistry(access=(AccessRule(),))).refusal("delete", APP)
    assert nobody is not None
    assert somebody is not None
    assert nobody.message == "log in to push to local.test/app"
    assert somebody.message == "bob may not delete from local.test/app"
