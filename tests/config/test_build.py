"""Texts become the typed tree by its annotations; each error names line, path and expectation."""

from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

from entrepot.config.build import leaves
from entrepot.config.kinds import FOREVER, Seconds, Secret
from entrepot.config.model import Config, Registry, TagRule, docker_hub
from entrepot.config.tree import dotted
from tests.config.loading import Loading


def test_each_type_is_read(loading: Loading) -> None:
    config = loading.config(
        """
        listen: ":8080"
        data: data
        log: {level: DEBUG}
        clients: {allow: [10.0.0.0/8], drain: 2m}
        tunnel: {ports: [443, 5000]}
        tags: {ttl: 30, max_stale: unlimited}
        auth: {secret: 0123456789012345}
        upstream: {ipv6: no, retries: 7, no_proxy: .lan, max_manifest: 4MiB}
        """
    )
    assert config.listen == "*:8080"
    assert config.data == loading.path.parent / "data"
    assert config.log.level == "debug"
    assert config.clients.allow == ("10.0.0.0/8",)
    assert config.clients.drain == Seconds(120)
    assert config.tunnel.ports == (443, 5000)
    assert (config.tags.ttl, config.tags.max_stale) == (Seconds(30), FOREVER)
    assert config.auth.secret == Secret("0123456789012345")
    assert (config.upstream.ipv6, config.upstream.retries) == (False, 7)
    assert config.upstream.no_proxy == (".lan",)
    assert config.upstream.max_manifest == 4 << 20


@pytest.mark.parametrize(
    "written", ["a.lan, b.lan", "a.lan b.lan", "[a.lan, b.lan]", "a.lan,b.lan,"]
)
def test_a_list_may_be_one_text(loading: Loading, written: str) -> None:
    assert loading.config(f"tunnel: {{hosts: {_quoted(written)}}}").tunnel.hosts == (
        "a.lan",
        "b.lan",
    )


def _quoted(text: str) -> str:
    return text if text.startswith("[") else f"'{text}'"


def test_a_command_is_split_as_a_shell_would(loading: Loading) -> None:
    config = loading.config("registries: {a.io: {exec: \"get 'one, two' --x=1,2\"}}")
    assert config.registries["a.io"].exec == ("get", "one, two", "--x=1,2")


def test_null_means_default(loading: Loading) -> None:
    text = "listen:\ntags:\nstorage: {max_size: ~}\nregistries: {quay.io: , docker.io: }\n"
    config = loading.config(text)
    assert config.listen == Config().listen
    assert (config.tags, config.storage) == (Config().tags, Config().storage)
    assert config.registries == {"quay.io": Registry(), "docker.io": docker_hub()}


def test_rules_are_read_in_order(loading: Loading) -> None:
    text = "tags:\n  rules:\n  - match: a/*\n    never: yes\n  - {match: /b$/, ttl: 1h}\n  - {}\n"
    assert loading.config(text).tags.rules == (
        TagRule(match="a/*", never=True),
        TagRule(match="/b$/", ttl=Seconds(3600)),
        TagRule(),
    )


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (
            "tags:\n  ttl: soon",
            ("file:2: tags.ttl: expected a duration such as 60s, 5m, 1h, 30d,"
            " \"unlimited\"; got 'soon'"),
        ),
        ("tagz: {}", "file:1: tagz: unknown setting; did you mean tags?"),
        ("tags: {TTL: 5}", "file:1: tags.TTL: unknown setting; did you mean ttl?"),
        ("max_size: 5", "file:1: max_size: unknown setting here; did you mean storage.max_size?"),
        ("log: {x: 1}", "file:1: log.x: unknown setting; expected one of level, format"),
        ("log: 5", "file:1: log: expected settings as `key: value`"),
        ("log: [a]", "file:1: log: expected settings as `key: value`; got a list"),
        (
            "log: {level: loud}",
            "file:1: log.level: expected one of debug, info, warning, error; got 'loud'",
        ),
        ("listen: [a]", "file:1: listen: expected one value; got a list"),
        ("listen: {a: b}", "file:1: listen: expected one value; got a mapping"),
        (
            "clients: {allow: {a: b}}",
            "file:1: clients.allow: expected a list; got a mapping",
        ),
        (
            "tunnel:\n  ports:\n  - 443\n  - https",
            "file:4: tunnel.ports[1]: expected a whole number; got 'https'",
        ),
        ("tunnel: {ports: [~]}", "file:1: tunnel.ports[0]: expected a value"),
        ("tags: {rules: never}", "file:1: tags.rules: expected a list"),
        (
            "tags: {rules: [{match: '/[/'}]}",
            ("file:1: tags.rules[0].match: expected a regular expression that Python reads"
            " (unterminated character set at position 0); got '/[/'"),
        ),
        ("registries: [a]", ("file:1: registries: expected registries as `name:` with"
         " their settings below; got a list")),
        ("registries: {a.io: 5}", "file:1: registries.a.io: expected settings as `key: value`"),
        (
            "registries: {a.io: {exec: \"a 'b\"}}",
            "file:1: registries.a.io.exec: expected a command with its quotes closed",
        ),
        (
            "upstream: {connect_timeout: unlimited}",
            ("file:1: upstream.connect_timeout: expected a duration of more than nothing,"
            " and not unlimited; got 'unlimited'"),
        ),
        (
            "registries: {a.io: {ca_bundle: none.pem}}",
            ("file:1: registries.a.io.ca_bundle: expected a file that can be read;"
            " DIR/none.pem: No such file or directory"),
        ),
    ],
)  # fmt: skip
def test_errors(loading: Loading, text: str, error: str) -> None:
    assert loading.errors(text) == [error.replace("DIR", str(loading.path.parent))]


@pytest.mark.parametrize(
    "text",
    [
        "auth: {secret: [hunter2]}",
        "auth: {secret: {hunter2: x}}",
        "registries: {a.io: {password: {a: hunter2}}}",
        "registries: {a.io: {proxy: 'http://me:hunter2@[x'}}",
        "registries: {a.io: {endpoints: ['http://me:hunter2@x']}}",
        "registries: {a.io: {endpoints: ['https://x/?token=hunter2']}}",
        "registries: {'https://me:hunter2@x/': }",
        "upstream: {proxy: 'socks5://me:hunter2@x'}",
    ],
)
def test_errors_show_no_secret(loading: Loading, text: str) -> None:
    assert "hunter2" not in "\n".join(loading.errors(text))


def test_all_errors_come_together_in_the_order_of_lines(loading: Loading) -> None:
    text = "storage: {max_size: x}\ntags: {ttl: y}\nlisten: z\nlisten: z\nunknown: 1\n"
    lines = [error.split(":")[1] for error in loading.errors(text)]
    assert lines == ["1", "2", "3", "4", "5"]


def test_the_tree_is_frozen(loading: Loading) -> None:
    config = loading.config()
    with pytest.raises(FrozenInstanceError):
        config.listen = "x"  # type: ignore[misc]  # what must not work


def test_every_scalar_is_a_leaf() -> None:
    names = {dotted(path) for path, _ in leaves()}
    assert {"listen", "data", "tags.ttl", "clients.allow", "auth.secret", "ca.key"} <= names
    assert not any(name.startswith(("registries", "tags.rules")) for name in names)


def test_paths_of_a_file_start_at_its_directory(
    loading: Loading, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = loading.path.parent / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    monkeypatch.setenv("HOME", "/home/somebody")
    config = loading.config("data: data\nca: {directory: ~/ca}\n")
    assert config.data == loading.path.parent / "data"
    assert config.ca.directory == Path("/home/somebody/ca")
    assert loading.config(overrides={"data": "data"}).data == elsewhere / "data"
    assert loading.config(environ={"ENTREPOT_DATA": "data"}).data == elsewhere / "data"


@pytest.mark.parametrize("secret", ["hunter2", "x" * 15])
def test_a_secret_that_can_be_guessed_is_none(loading: Loading, secret: str) -> None:
    (error,) = loading.errors(f"auth: {{secret: {secret}}}")
    assert "auth.secret: expected a secret of at least 16 characters" in error
    assert secret not in error
