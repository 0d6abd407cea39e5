"""Who may do what in registries of one's own: nothing is left to be guessed."""

import pytest

from entrepot.config.kinds import FOREVER, Seconds
from entrepot.config.local import AccessRule, LocalRegistry, RetentionRule
from tests.config.loading import Loading

USER = "username: ann, password: hunter2"


def written(settings: str, name: str = "a.lan") -> str:
    return f"local_registries:\n  '{name}': {{upstream: 'http://b:1', {settings}}}\n"


def test_everything_that_can_be_said(loading: Loading) -> None:
    text = """
        local_registries:
          Registry.lan:5000:
            hosts: [images.lan]
            upstream: http://one:5000 http://two:5000/
            username: ann
            password: x
            anonymous: [pull]
            access:
            - {match: team/*, users: [ann, anonymous], allow: pull push}
            - match: secret/*
            retention:
            - {match: ci/*, keep_last: 5, keep_for: 30d, keep_tags: [v*, latest]}
            - {keep_for: unlimited}
            gc: {schedule: Sunday 03:30, command: [registry, gc]}
        """
    (name, local), *others = loading.config(text).local_registries.items()
    assert (name, others) == ("registry.lan:5000", [])
    assert local.upstream == ("http://one:5000", "http://two:5000")
    assert local.access == (
        AccessRule(match="team/*", users=("ann", "anonymous"), allow=("pull", "push")),
        AccessRule(match="secret/*", users=("*",), allow=()),
    )
    assert local.retention == (
        RetentionRule(
            match="ci/*", keep_last=5, keep_for=Seconds(30 * 86400), keep_tags=("v*", "latest")
        ),
        RetentionRule(keep_for=FOREVER),
    )
    assert (local.gc.schedule, local.gc.command) == ("sunday 03:30", ("registry", "gc"))


NOBODY = (
    "nobody may use it; expected username and password_file for one user, htpasswd for several,"
    " or anonymous: [pull] for everybody without a password; as variables: USERNAME and PASSWORD,"
    " HTPASSWD_FILE, ANONYMOUS=pull"
)


@pytest.mark.parametrize(
    "settings",
    [
        "",
        "anonymous: []",
        "read_only: yes",
        "access: [{allow: pull}]",
        "access: [{users: [anonymous]}]",
        "access: [{users: [ann], allow: [pull]}]",
    ],
)
def test_who_may_use_it_must_be_said(loading: Loading, settings: str) -> None:
    assert loading.errors(written(settings)) == [f"file:2: local_registries.a.lan: {NOBODY}"]


@pytest.mark.parametrize(
    "settings",
    [
        USER,
        "anonymous: pull",
        "access: [{users: [anonymous], allow: [pull]}]",
        "access: [{users: ['*', anonymous], allow: [pull]}]",
        f"{USER}, access: [{{users: [ann, '*'], allow: [pull]}}]",
        f"{USER}, access: [{{users: [anonymous], allow: [pull]}}]",
    ],
)
def test_ways_to_say_it(loading: Loading, settings: str) -> None:
    loading.config(written(settings))


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        (
            f"{USER}, access: [{{users: [ann, bob, eve], allow: pull}}]",
            (
                "access[0].users: there is no user 'bob' or 'eve': username names the only one,"
                " 'ann'; htpasswd in its place makes several"
            ),
        ),
        (
            f"{USER}, access: [{{users: [], allow: pull}}]",
            'access[0].users: expected users by name, "*" or anonymous',
        ),
        (
            "anonymous: pull, access: [{match: x, allow: push}]",
            (
                "access[0].users: expected anonymous, as nobody has a password here; username and"
                " password_file, or htpasswd, make users"
            ),
        ),
        (
            f"{USER}, access: [{{users: ['a:b']}}]",
            "access[0].users[0]: expected a user's name, which holds no colon; got 'a:b'",
        ),
        (
            f"{USER}, access: [{{allow: [read]}}]",
            "access[0].allow[0]: expected one of pull, push, delete; got 'read'",
        ),
        (
            f"{USER}, access: [{{match: a.lan/team/*}}]",
            "access[0].match: expected the repository alone; write team/*",
        ),
        (
            "username: anonymous, password: x",
            "username: expected a user's name: anonymous stands for others in access rules",
        ),
        (
            f"{USER}, retention: [{{match: ci/*}}]",
            (
                "retention[0]: expected keep_last, keep_for or keep_tags: without one, every tag"
                " that it matches would be deleted; to keep all of them write keep_for: unlimited"
            ),
        ),
        (
            f"{USER}, retention: [{{keep_last: -1}}]",
            "retention[0].keep_last: expected 0 or more; got '-1'",
        ),
        (
            f"{USER}, retention: [{{keep_tags: 'app:v*'}}]",
            (
                "retention[0].keep_tags[0]: expected a tag such as latest, or a pattern such as v*;"
                " got 'app:v*'"
            ),
        ),
        (
            f"{USER}, retention: [{{match: a.lan/ci, keep_last: 1}}]",
            "retention[0].match: expected the repository alone; write ci",
        ),
        (
            f"{USER}, upstream_username: root",
            (
                "upstream_username: expected upstream_password or upstream_password_file beside"
                " upstream_username"
            ),
        ),
        (
            f"{USER}, upstream_password: hunter2",
            "upstream_password: expected upstream_username beside upstream_password",
        ),
        (
            f"{USER}, gc: {{command: []}}",
            "gc.command: expected the command that collects garbage",
        ),
        (
            f"{USER}, endpoints: 'http://b:1'",
            "endpoints: unknown setting; expected one of "
            + ", ".join(LocalRegistry.__dataclass_fields__),
        ),
    ],
)
def test_errors(loading: Loading, settings: str, error: str) -> None:
    assert loading.errors(written(settings)) == [f"file:2: local_registries.a.lan.{error}"]


def test_users_of_a_file_are_not_known_here(loading: Loading) -> None:
    file = loading.path.parent / "users"
    file.touch()
    loading.config(written(f"htpasswd: {file}, access: [{{users: [bob], allow: pull}}]"))


@pytest.mark.parametrize("upstream", ["", "upstream: []", "upstream: ''"])
def test_something_is_behind_it(loading: Loading, upstream: str) -> None:
    text = f"local_registries:\n  a.lan:\n    anonymous: pull\n    {upstream}\n"
    (error,) = loading.errors(text)
    assert "local_registries.a.lan.upstream: expected at least one URL of the registry" in error


@pytest.mark.parametrize(
    ("name", "error"),
    [
        (
            "*.lan",
            (
                "local_registries.*.lan: expected the name of one registry, host or host:port, and"
                " no pattern"
            ),
        ),
        (
            "https://me:hunter2@a.lan",
            (
                "local_registries: expected a registry's name without scheme, path or credentials;"
                " write a.lan"
            ),
        ),
        (
            "a b",
            (
                "local_registries: expected a registry's name: host, host:port or *.example.com;"
                " got 'a b'"
            ),
        ),
    ],
)
def test_it_has_a_name(loading: Loading, name: str, error: str) -> None:
    assert loading.errors(written("anonymous: pull", name)) == [f"file:2: {error}"]


def test_errors_of_two_registries_come_together(loading: Loading) -> None:
    text = written("") + "  b.lan: {anonymous: pull}\n  B.lan: {anonymous: read}\n"
    errors = loading.errors(text)
    assert [error.split(" ")[1] for error in errors] == [
        "local_registries.a.lan:",
        "local_registries.b.lan:",
        "local_registries.b.lan.anonymous[0]:",
    ]


@pytest.mark.parametrize(
    ("listen", "error"),
    [
        (":443", None),
        (":0", None),
        ("*:3128", "expected another port than listen's, which is 3128"),
        ("127.0.0.1:3128", "expected another port than listen's, which is 3128"),
        ("443", "expected an address such as *:3128, 0.0.0.0:3128, [::1]:3128, :3128; got '443'"),
    ],
)
def test_a_listener_of_its_own(loading: Loading, listen: str, error: str | None) -> None:
    text = f"{written(USER)}registry_listen: '{listen}'\n"
    if error is None:
        assert loading.config(text).registry_listen == f"*{listen}"
    else:
        assert loading.errors(text) == [f"file:3: registry_listen: {error}"]


def test_a_listener_without_a_local_registry(loading: Loading) -> None:
    assert loading.errors("registry_listen: :443") == [
        (
            "file:1: registry_listen: expected local_registries beside it: there is nothing else to"
            " serve there"
        )
    ]
