"""Configurations of all kinds, and what loads them."""

from pathlib import Path
from typing import get_args

from hypothesis import strategies as st

from entrepot.config.convert import HIDDEN
from entrepot.config.kinds import FOREVER, Action, Bytes, ProxyUrl, Seconds, Secret
from entrepot.config.load import load_config
from entrepot.config.local import AccessRule, GarbageCollection, LocalRegistry, RetentionRule
from entrepot.config.model import (
    Auth,
    Config,
    Log,
    Registry,
    RepositoryRule,
    Storage,
    TagRule,
    Tags,
    Tunnel,
    Upstream,
    docker_hub,
)

ACTIONS = get_args(Action)
_SECONDS = st.builds(Seconds, st.floats(min_value=0, max_value=3e9) | st.just(FOREVER))
_TIMEOUTS = st.builds(Seconds, st.floats(min_value=0.001, max_value=1e6))
_SIZES = st.builds(Bytes, st.integers(min_value=1, max_value=1 << 60))
# What YAML can hold: it has no way to write most control characters or half a surrogate pair.
_TEXT = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], include_characters="\t\n"), min_size=1
).filter(lambda text: "://" not in text and "@" not in text and text != HIDDEN)
_LONG_SECRETS = _TEXT.map(lambda text: Secret(text + "0123456789abcdef"))
_REPOSITORIES = st.sampled_from(["*", "team/*", r"/^(a|b)\./", "null"])
_ACTIONS = st.lists(st.sampled_from(ACTIONS), min_size=1, max_size=3).map(tuple)
_POLICIES = st.sampled_from(["allow", "deny"])
_RULES = st.builds(
    RepositoryRule,
    match=_REPOSITORIES,
    pull=_POLICIES,
    push=st.none() | _POLICIES,
    message=st.just("") | _TEXT,
)
_RETENTION = st.builds(
    RetentionRule,
    match=_REPOSITORIES,
    keep_last=st.integers(1, 9),
    keep_for=_SECONDS,
    keep_tags=st.lists(st.sampled_from(["*", "v?", "1.0", "null"])).map(tuple),
)
_NAMES = st.from_regex(r"[a-z]{1,8}\.(lan|dev)", fullmatch=True)
_UPSTREAMS = st.lists(_NAMES.map("http://{}:5000".format), min_size=1, max_size=3).map(tuple)


def registries() -> st.SearchStrategy[dict[str, Registry]]:
    plain_registry = st.builds(
        Registry,
        endpoints=st.lists(_NAMES.map("https://{}".format)).map(tuple),
        push=st.sampled_from(["allow", "deny"]),
        verify=st.booleans(),
        proxy=st.sampled_from(["", "none", ProxyUrl("http://u:p@proxy.lan:1")]),
        connections=st.integers(1, 10_000),
        helper=st.just("") | _TEXT,
        rules=st.lists(_RULES, max_size=3).map(tuple),
    )
    with_password = st.builds(Registry, username=_TEXT, password=_TEXT.map(Secret))
    with_command = st.builds(Registry, exec=st.lists(_TEXT, min_size=1).map(tuple))
    names = _NAMES | _NAMES.map("*.{}".format) | _NAMES.map("{}:5000".format)
    return st.dictionaries(names, plain_registry | with_password | with_command, max_size=4).map(
        lambda some: {**some, "docker.io": docker_hub()}
    )


def local_registries() -> st.SearchStrategy[dict[str, LocalRegistry]]:
    with_password = st.builds(
        LocalRegistry,
        upstream=_UPSTREAMS,
        username=st.just("ann"),
        password=_TEXT.map(Secret),
        access=st.lists(access_rules(st.sampled_from(["ann", "*", "anonymous"]))).map(tuple),
        retention=st.lists(_RETENTION, max_size=3).map(tuple),
        gc=st.builds(GarbageCollection, wait=_TIMEOUTS, schedule=st.sampled_from(["", "03:30"])),
        read_only=st.booleans(),
    )
    is_open = st.builds(
        LocalRegistry,
        upstream=_UPSTREAMS,
        anonymous=_ACTIONS,
        access=st.lists(access_rules(st.just("anonymous"))).map(tuple),
    )
    return st.dictionaries(_NAMES.map("own.{}".format), with_password | is_open, max_size=3)


def access_rules(users: st.SearchStrategy[str]) -> st.SearchStrategy[AccessRule]:
    return st.builds(
        AccessRule,
        match=_REPOSITORIES,
        users=st.lists(users, min_size=1, max_size=3).map(tuple),
        allow=_ACTIONS,
    )


def rules() -> st.SearchStrategy[TagRule]:
    matches = st.sampled_from(["*", "a.io/*:v?", r"/:v\d+$/", "null", "- x", "#1"])
    return st.builds(TagRule, match=matches, ttl=st.none() | _SECONDS, immutable=st.booleans())


CONFIGS = st.builds(
    Config,
    listen=st.sampled_from(["*:3128", "[::1]:80", "127.0.0.1:0"]),
    hostname=_NAMES,
    data=st.sampled_from([Path("/var/lib/entrepot"), Path("/a b/c: d"), Path("/null")]),
    log=st.builds(Log, level=st.sampled_from(["debug", "error"])),
    tunnel=st.builds(
        Tunnel,
        hosts=st.lists(_NAMES).map(tuple),
        ports=st.lists(st.integers(1, 65535)).map(tuple),
        connect_timeout=_TIMEOUTS,
    ),
    registries=registries(),
    local_registries=local_registries(),
    tags=st.builds(
        Tags, ttl=_SECONDS, max_stale=_SECONDS, rules=st.lists(rules(), max_size=3).map(tuple)
    ),
    auth=st.builds(
        Auth,
        secret=st.none() | _LONG_SECRETS,
        former_secrets=st.lists(_LONG_SECRETS, max_size=2).map(tuple),
    ),
    upstream=st.builds(
        Upstream,
        proxy=st.sampled_from(["", ProxyUrl("http://u:p@other.example:1")]),
        ipv6=st.booleans(),
        retries=st.integers(0, 100),
    ),
    storage=st.builds(Storage, max_size=_SIZES, inactive=_SECONDS),
)


def load_text(directory: Path, text: str) -> Config:
    path = directory / "entrepot.yaml"
    path.write_text(text, encoding="utf-8", newline="")
    return load_config(path, {}, {}).config
