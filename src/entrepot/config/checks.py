"""What is wrong with a tree whose single values are all right: it concerns several settings."""

from collections.abc import Iterator, Sequence

from entrepot.config.local import AccessRule, RetentionRule
from entrepot.config.local_checks import listener_findings, local_findings
from entrepot.config.model import DOCKER_HUB, Config, Registry, RepositoryRule
from entrepot.config.own_address import local_loops
from entrepot.config.patterns import is_regex
from entrepot.config.people import Finding, people_findings
from entrepot.config.tree import KeyPath

_SOURCES = ("password", "password_file", "helper", "exec")


def findings(config: Config) -> Iterator[Finding]:
    for name, registry in config.registries.items():
        path = ("registries", name)
        yield from _credentials(path, registry)
        yield from _without_credentials(path, registry)
        yield from _silent_rules((*path, "rules"), registry.rules)
        yield from _matches((*path, "rules"), name, registry.rules)
    for name, local in config.local_registries.items():
        path = ("local_registries", name)
        yield from local_findings(path, local)
        yield from _matches((*path, "access"), name, local.access)
        yield from _matches((*path, "retention"), name, local.retention)
    yield from people_findings(("clients",), config.clients)
    yield from _hosts(config)
    yield from listener_findings(config)
    yield from local_loops(config)
    yield from _tag_rules(config)
    yield from _auth(config)
    yield from _ca(config)


# ---- registries ----------------------------------------------------------------------------


def _credentials(path: KeyPath, registry: Registry) -> Iterator[Finding]:
    sources = _sources(registry)
    if len(sources) > 1:
        message = f"expected one source of credentials; got {' and '.join(sources)}"
        yield (*path, sources[-1]), message
    elif registry.username and not sources:
        yield (*path, "username"), "expected password or password_file beside username"
    elif registry.username and sources[0] in {"helper", "exec"}:
        yield (*path, "username"), f"expected no username: {sources[0]} brings one"
    elif sources and sources[0] in {"password", "password_file"} and not registry.username:
        yield (*path, sources[0]), f"expected username beside {sources[0]}"


def _sources(registry: Registry) -> list[str]:
    return [key for key in _SOURCES if getattr(registry, key) not in {None, "", ()}]


def _without_credentials(path: KeyPath, registry: Registry) -> Iterator[Finding]:
    """What says how credentials are used, where there are none."""
    if _sources(registry) or registry.username:
        return
    needed = "expected credentials (username and password_file, helper or exec) beside"
    if registry.push_as == "operator":
        yield (*path, "push_as"), f"{needed} push_as: operator, which writes with them"
    if registry.audience:
        yield (*path, "audience"), f"{needed} audience, which says whom they serve"


def _silent_rules(path: KeyPath, rules: Sequence[RepositoryRule]) -> Iterator[Finding]:
    for number, rule in enumerate(rules):
        if (rule.pull, rule.push, rule.delete) == (None, None, None):
            message = "expected pull, push or delete with allow or deny: the rule says nothing"
            yield (*path, f"[{number}]"), message


def _matches(
    path: KeyPath, registry: str, rules: Sequence[RepositoryRule | AccessRule | RetentionRule]
) -> Iterator[Finding]:
    """Tag rules begin with the registry's name, and so do many who write these."""
    for number, rule in enumerate(rules):
        if not is_regex(rule.match) and rule.match.startswith(f"{registry}/"):
            rest = rule.match.removeprefix(f"{registry}/")
            message = f"expected the repository alone; write {rest}"
            yield (*path, f"[{number}]", "match"), message


def _hosts(config: Config) -> Iterator[Finding]:
    """A request for a host must belong to one registry: its credentials depend on it."""
    owners = {name: name for name in config.registries}
    # Docker Hub's own first: who else claims them is in the wrong.
    for name in sorted(config.registries, key=lambda name: name != DOCKER_HUB):
        yield from _claims(("registries", name), name, config.registries[name].hosts, owners)
    for name in config.local_registries:
        owner = owners.setdefault(name, name)
        if name in config.registries:
            yield ("local_registries", name), "expected a name that is not among registries, too"
        elif owner != name:
            yield ("local_registries", name), f"{name} belongs to registry {owner} already"
    for name, local in config.local_registries.items():
        yield from _claims(("local_registries", name), name, local.hosts, owners)


def _claims(
    path: KeyPath, name: str, hosts: Sequence[str], owners: dict[str, str]
) -> Iterator[Finding]:
    for host in hosts:
        owner = owners.setdefault(host, name)
        if owner != name:
            yield (*path, "hosts"), f"{host} belongs to registry {owner} already"


# ---- the rest ------------------------------------------------------------------------------


def _tag_rules(config: Config) -> Iterator[Finding]:
    for number, rule in enumerate(config.tags.rules):
        if rule.immutable and rule.never:
            yield (
                ("tags", "rules", f"[{number}]", "never"),
                "expected immutable (kept for good) or never (not kept), not both",
            )


def _auth(config: Config) -> Iterator[Finding]:
    if config.auth.secret is not None and config.auth.secret_file is not None:
        yield ("auth", "secret_file"), "expected one of secret and secret_file"


def _ca(config: Config) -> Iterator[Finding]:
    if config.ca.certificate and not config.ca.key:
        yield ("ca", "certificate"), "expected ca.key beside it"
    elif config.ca.key and not config.ca.certificate:
        yield ("ca", "key"), "expected ca.certificate beside it"
