"""`load_config`: defaults < file < environment < flags, then what concerns several settings."""

from collections.abc import Mapping as MappingOf
from dataclasses import dataclass, replace
from pathlib import Path

from entrepot.config import environment
from entrepot.config.build import Builder
from entrepot.config.checks import findings
from entrepot.config.convert import registry_name
from entrepot.config.kinds import Expected
from entrepot.config.model import DOCKER_HUB, Config
from entrepot.config.own_address import proxy_loops
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

# Sections whose keys are names of registries.
NAMED = ("registries", "local_registries")
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
    for section in NAMED:
        tree = _name_registries(tree, section, report)
    tree = _with_docker_hub(tree)
    tree = environment.apply(tree, environ, report)
    for key, text in overrides.items():
        keys = tuple(key.split("."))
        tree = put(tree, keys, Scalar(Origin(_FLAGS.get(key, f"--{key}")), text))
    builder = Builder(report)
    config = _settle(builder.config(tree))
    wrong = [*findings(config), *(proxy_loops(config) if serves else ())]
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


def _name_registries(tree: Mapping, section: str, report: Report) -> Mapping:
    """The same with canonical names."""
    written = get(tree, (section,))
    if not isinstance(written, Mapping):
        return tree  # nothing, or of the wrong kind: `build` says so
    entries: dict[str, Node] = {}
    for text, node in written.entries.items():
        try:
            name = registry_name(text)
        except Expected as expected:
            # The text itself may be a URL with a password in it.
            report.problem(node.origin, (section,), f"expected {expected}")
            continue
        if name in entries:
            first = entries[name].origin
            message = f"written twice, first in line {first.line} (names of one registry)"
            report.problem(node.origin, (section, name), message)
        entries[name] = node
    return put(tree, (section,), Mapping(written.origin, entries))


def _with_docker_hub(tree: Mapping) -> Mapping:
    registries = get(tree, ("registries",))
    if isinstance(registries, Mapping) and DOCKER_HUB in registries.entries:
        return tree
    origin = registries.origin if registries else tree.origin
    return put(tree, ("registries", DOCKER_HUB), Scalar(origin, is_null=True))


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
    is_registry = len(place) == len(("registries", "its name")) and place[0] in NAMED
    around = place if is_registry else place[:-1]
    return bool(around) and any(path[: len(around)] == around for path in wrong)
