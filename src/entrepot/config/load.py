"""`load_config`: defaults < file < environment < flags, then what concerns several settings."""

from collections.abc import Iterator
from collections.abc import Mapping as MappingOf
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from entrepot.config import environment
from entrepot.config.build import Builder
from entrepot.config.convert import Expected, parse_address, registry_name
from entrepot.config.model import DOCKER_HUB, Config, Registry
from entrepot.config.surroundings import lacking
from entrepot.config.tree import (
    KeyPath,
    Mapping,
    Node,
    Origin,
    Report,
    Scalar,
    dotted,
    get,
    put,
    read_yaml,
)

# Flags that are not called as the setting is.
_FLAGS = {"storage.scrub_rate": "--rate", "ca.overlap": "--overlap"}


@dataclass(frozen=True, slots=True)
class Loaded:
    config: Config
    warnings: tuple[str, ...]
    # What a proxy with this configuration would fail on, registry by registry.
    obstacles: tuple[str, ...] = ()


def load_config(
    path: Path | None,
    environ: MappingOf[str, str],
    overrides: MappingOf[str, str],
    *,
    serves: bool = True,
) -> Loaded:
    """The result of all sources, or one ConfigError with a line for each thing that is wrong.

    `overrides` are flags by dotted key: {"listen": ":3128", "tags.ttl": "5m"}. Without `serves`
    nothing is said of what only a running proxy needs.
    """
    report = Report()
    tree = read_yaml(path, report) if path else Mapping(Origin("defaults"))
    tree = _name_registries(tree, report)
    tree = environment.apply(tree, environ, report)
    for key, text in overrides.items():
        keys = tuple(key.split("."))
        tree = put(tree, keys, Scalar(Origin(_FLAGS.get(key, f"--{key}")), text))
    builder = Builder(report)
    config = _settle(builder.config(tree))
    wrong = [*findings(config), *(_proxy_loop(config) if serves else ())]
    for place, message in wrong:
        if not _follows(place, report.paths):
            report.problem(_origin(place, builder.origins), place, message)
    report.raise_if_wrong()
    obstacles = lacking(config, environ.get("PATH")) if serves else ()
    return Loaded(
        config,
        tuple(report.warnings),
        tuple(
            f"{_origin(place, builder.origins)}: {dotted(place)}: {message}"
            for place, message in obstacles
        ),
    )


def _name_registries(tree: Mapping, report: Report) -> Mapping:
    """The same with canonical names, Docker Hub among them."""
    written = get(tree, ("registries",))
    if written is not None and not isinstance(written, Mapping):
        return tree  # of the wrong kind: `build` says so
    entries: dict[str, Node] = {}
    for text, node in written.entries.items() if written else ():
        try:
            name = registry_name(text)
        except Expected as expected:
            # The text itself may be a URL with a password in it.
            report.problem(node.origin, ("registries",), f"expected {expected}")
            continue
        if name in entries:
            first = entries[name].origin
            message = f"written twice, first in line {first.line} (names of one registry)"
            report.problem(node.origin, ("registries", name), message)
        entries[name] = node
    origin = written.origin if written else tree.origin
    entries.setdefault(DOCKER_HUB, Scalar(origin, is_null=True))
    return put(tree, ("registries",), Mapping(origin, entries))


def _settle(config: Config) -> Config:
    """`none` has kept HTTPS_PROXY away and means the same as nothing from here on."""
    if config.upstream.proxy == "none":
        return replace(config, upstream=replace(config.upstream, proxy=""))
    return config


def _origin(place: KeyPath, origins: dict[KeyPath, Origin]) -> Origin:
    """Where the setting was written, or the nearest part around it."""
    written = (place[:length] for length in range(len(place), 0, -1))
    return next((origins[path] for path in written if path in origins), Origin("defaults"))


def _follows(place: KeyPath, wrong: set[KeyPath]) -> bool:
    """Whether a neighbour was reported: what it lacks may only be what could not be read."""
    parent = place[:-1]
    return bool(parent) and any(path[: len(parent)] == parent for path in wrong)


# ---- what concerns several settings --------------------------------------------------------

type Finding = tuple[KeyPath, str]


def findings(config: Config) -> Iterator[Finding]:
    """What is wrong with a tree whose single values are all right."""
    for name, registry in config.registries.items():
        yield from _credentials(("registries", name), registry)
    yield from _client_password(config)
    if config.auth.secret is not None and config.auth.secret_file is not None:
        yield ("auth", "secret_file"), "expected one of secret and secret_file"
    yield from _hosts(config)
    yield from _rules(config)
    yield from _ca(config)


def _credentials(path: KeyPath, registry: Registry) -> Iterator[Finding]:
    sources = [
        key
        for key in ("password", "password_file", "helper", "exec")
        if getattr(registry, key) not in {None, "", ()}
    ]
    if len(sources) > 1:
        yield (*path, sources[-1]), f"expected one source of credentials; got {_list(sources)}"
    elif registry.username and not sources:
        yield (*path, "username"), "expected password or password_file beside username"
    elif registry.username and sources[0] in {"helper", "exec"}:
        yield (*path, "username"), f"expected no username: {sources[0]} brings one"
    elif sources and sources[0] in {"password", "password_file"} and not registry.username:
        yield (*path, sources[0]), f"expected username beside {sources[0]}"


def _client_password(config: Config) -> Iterator[Finding]:
    clients = config.clients
    if clients.password is not None and clients.password_file is not None:
        yield ("clients", "password_file"), "expected one of password and password_file"
    has_password = clients.password is not None or clients.password_file is not None
    if clients.username and not has_password:
        yield ("clients", "username"), "expected password or password_file beside username"
    elif has_password and not clients.username:
        yield ("clients", "password"), "expected username beside the password"
    elif ":" in clients.username:
        yield ("clients", "username"), "expected a name without a colon"


def _list(words: list[str]) -> str:
    return " and ".join(words)


def _hosts(config: Config) -> Iterator[Finding]:
    """A request for a host must belong to one registry: its credentials depend on it."""
    owners = {name: name for name in config.registries}
    # Docker Hub's own first: who else claims them is in the wrong.
    for name in sorted(config.registries, key=lambda name: name != DOCKER_HUB):
        for host in config.registries[name].hosts:
            owner = owners.setdefault(host, name)
            if owner != name:
                yield ("registries", name, "hosts"), f"{host} belongs to registry {owner} already"


def _rules(config: Config) -> Iterator[Finding]:
    for number, rule in enumerate(config.tags.rules):
        if rule.immutable and rule.never:
            yield (
                ("tags", "rules", f"[{number}]", "never"),
                "expected immutable (kept for good) or never (not kept), not both",
            )


def _ca(config: Config) -> Iterator[Finding]:
    if config.ca.certificate and not config.ca.key:
        yield ("ca", "certificate"), "expected ca.key beside it"
    elif config.ca.key and not config.ca.certificate:
        yield ("ca", "key"), "expected ca.certificate beside it"


def _proxy_loop(config: Config) -> Iterator[Finding]:
    """HTTPS_PROXY is often set for a whole machine, the one with the proxy included."""
    host, port = parse_address(config.listen)
    own = {config.hostname, host or "localhost"}
    if host in {"", "0.0.0.0", "::"}:  # noqa: S104 - compared, not bound
        own |= {"localhost", "127.0.0.1", "::1"}
    none = "; without a parent proxy write `upstream.proxy: none`, or ENTREPOT_UPSTREAM__PROXY=none"
    proxies: list[tuple[KeyPath, str, str]] = [(("upstream", "proxy"), config.upstream.proxy, none)]
    proxies += [
        (("registries", name, "proxy"), registry.proxy, "; without a parent proxy write `none`")
        for name, registry in config.registries.items()
    ]
    for path, proxy, hint in proxies:
        url = urlsplit(proxy)
        if url.hostname in own and (url.port or {"https": 443}.get(url.scheme, 80)) == port:
            yield path, f"expected another proxy: this is the address of this one{hint}"
