"""What is wrong although each setting alone is right."""

import pytest

from entrepot.config.model import RepositoryRule
from tests.config.loading import Loading


@pytest.mark.parametrize(
    ("registry", "error"),
    [
        ("{username: bob}", "username: expected password or password_file beside username"),
        ("{password: x}", "password: expected username beside password"),
        ("{password_file: FILE}", "password_file: expected username beside password_file"),
        (
            "{username: bob, password: x, helper: y}",
            "helper: expected one source of credentials; got password and helper",
        ),
        (
            "{username: bob, helper: y}",
            "username: expected no username: helper brings one",
        ),
        (
            "{exec: a, password_file: FILE}",
            "exec: expected one source of credentials; got password_file and exec",
        ),
    ],
)
def test_one_source_of_credentials(loading: Loading, registry: str, error: str) -> None:
    file = loading.path.parent / "password"
    file.touch()
    text = f"registries:\n  a.io: {registry.replace('FILE', str(file))}\n"
    assert loading.errors(text) == [f"file:2: registries.a.io.{error}"]


@pytest.mark.parametrize("registry", ["{username: b, password: x}", "{helper: y}", "{exec: z}"])
def test_each_source_of_credentials_is_right_alone(loading: Loading, registry: str) -> None:
    loading.config(f"registries: {{a.io: {registry}}}")


def test_a_host_belongs_to_one_registry(loading: Loading) -> None:
    text = "registries:\n  a.io: {hosts: [b.io]}\n  b.io:\n  c.io: {hosts: auth.docker.io}\n"
    assert loading.errors(text) == [
        "file:2: registries.a.io.hosts: b.io belongs to registry b.io already",
        "file:4: registries.c.io.hosts: auth.docker.io belongs to registry docker.io already",
    ]


def test_a_rule_keeps_or_does_not(loading: Loading) -> None:
    text = "tags:\n  rules:\n  - match: x\n  - {immutable: true, never: true}\n"
    assert loading.errors(text) == [
        (
            "file:4: tags.rules[1].never: expected immutable (kept for good) or never (not kept),"
            " not both"
        )
    ]


@pytest.mark.parametrize(
    ("key", "error"),
    [
        ("certificate", "file:1: ca.certificate: expected ca.key beside it"),
        ("key", "file:1: ca.key: expected ca.certificate beside it"),
    ],
)
def test_certificate_and_key_come_together(loading: Loading, key: str, error: str) -> None:
    file = loading.path.parent / "ca.pem"
    file.touch()
    assert loading.errors(f"ca: {{{key}: ca.pem}}") == [error]
    assert loading.config("ca: {certificate: ca.pem, key: ca.pem}").ca.key == file


# ---- registries ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("registry", "error"),
    [
        (
            "{push_as: operator}",
            (
                "push_as: expected credentials (username and password_file, helper or exec) beside"
                " push_as: operator, which writes with them"
            ),
        ),
        (
            "{audience: [10.0.0.0/8]}",
            (
                "audience: expected credentials (username and password_file, helper or exec) beside"
                " audience, which says whom they serve"
            ),
        ),
        (
            "{rules: [{match: team/*, message: no}]}",
            "rules[0]: expected pull, push or delete with allow or deny: the rule says nothing",
        ),
        (
            "{rules: [{pull: deny}, {match: a.io/team/*, pull: allow}]}",
            "rules[1].match: expected the repository alone; write team/*",
        ),
        ("{rules: [{pull: no}]}", "rules[0].pull: expected one of allow, deny; got 'no'"),
        (
            "{rules: [{match: 'team/app:v1', pull: deny}]}",
            (
                "rules[0].match: expected a repository such as team/app or team/*, in lower case,"
                " without tag; got 'team/app:v1'"
            ),
        ),
    ],
)
def test_what_is_said_of_a_registry_makes_sense(
    loading: Loading, registry: str, error: str
) -> None:
    assert loading.errors(f"registries:\n  a.io: {registry}\n") == [
        f"file:2: registries.a.io.{error}"
    ]


@pytest.mark.parametrize("source", ["username: b, password: x", "helper: y", "exec: z"])
def test_credentials_of_any_kind_can_be_used_and_limited(loading: Loading, source: str) -> None:
    text = f"registries: {{a.io: {{{source}, push_as: operator, audience: 10.0.0.0/8}}}}"
    registry = loading.config(text).registries["a.io"]
    assert (registry.push_as, registry.audience) == ("operator", ("10.0.0.0/8",))


def test_repository_rules_are_read_in_order(loading: Loading) -> None:
    text = """
        registries:
          a.io:
            rules:
            - {match: secret/*, pull: deny, message: ask the owners}
            - {match: /^team/, push: allow}
        """
    assert loading.config(text).registries["a.io"].rules == (
        RepositoryRule(match="secret/*", pull="deny", message="ask the owners"),
        RepositoryRule(match="/^team/", push="allow"),
    )


def test_a_host_belongs_to_one_registry_local_or_not(loading: Loading) -> None:
    own = "{upstream: 'http://x:1', anonymous: pull}"
    text = f"""
registries:
  a.io: {{hosts: [b.lan]}}
local_registries:
  a.io: {own}
  b.lan: {own}
  c.lan: {own[:-1]}, hosts: [b.lan, c.lan]}}
  Registry-1.docker.io: {own}
"""
    assert loading.errors(text) == [
        "file:5: local_registries.a.io: expected a name that is not among registries, too",
        "file:6: local_registries.b.lan: b.lan belongs to registry a.io already",
        "file:7: local_registries.c.lan.hosts: b.lan belongs to registry a.io already",
        "file:8: local_registries.docker.io: expected a name that is not among registries, too",
    ]


def test_a_former_secret_is_one_line(loading: Loading) -> None:
    environ = {"ENTREPOT_AUTH__FORMER_SECRETS": "one that holds blanks, many\n0123456789abcdef\n"}
    assert [secret.reveal() for secret in loading.config(None, environ).auth.former_secrets] == [
        "one that holds blanks, many",
        "0123456789abcdef",
    ]


@pytest.mark.parametrize(
    "written", ["hunter2", "[hunter2]", "[{a: hunter2}]", "{hunter2: a}", "[[hunter2]]"]
)
def test_a_former_secret_is_not_shown(loading: Loading, written: str) -> None:
    (error,) = loading.errors(f"auth: {{former_secrets: {written}}}")
    assert error.startswith("file:1: auth.former_secrets")
    assert "hunter2" not in error
