"""The variables of rpardini/docker-registry-proxy, so that its users change the image only."""

import re
from collections.abc import Iterator

from entrepot.config.convert import registry_name
from entrepot.config.kinds import Expected
from entrepot.config.model import DOCKER_HUB
from entrepot.config.overlay import lay
from entrepot.config.patterns import check_regex
from entrepot.config.tree import KeyPath, Mapping, Node, Origin, Report, Scalar, Sequence, get, put
from entrepot.config.variables import Variables, unquoted

# One text, one or more settings. nginx's proxy_read_timeout covers the wait for the answer's
# head as well as each pause in its body.
SETTINGS: dict[str, tuple[KeyPath, ...]] = {
    "CACHE_MAX_SIZE": (("storage", "max_size"),),
    "CACHE_INACTIVE": (("storage", "inactive"),),
    "LOG_LEVEL": (("log", "level"),),
    "SEND_TIMEOUT": (("clients", "send_timeout"),),
    "CLIENT_HEADER_TIMEOUT": (("clients", "header_timeout"),),
    "KEEPALIVE_TIMEOUT": (("clients", "idle_timeout"),),
    "PROXY_READ_TIMEOUT": (("upstream", "read_timeout"), ("upstream", "header_timeout")),
    "PROXY_CONNECT_TIMEOUT": (("upstream", "connect_timeout"),),
    "PROXY_CONNECT_CONNECT_TIMEOUT": (("tunnel", "connect_timeout"),),
    "CA_KEY_FILE": (("ca", "key"),),
    "CA_CRT_FILE": (("ca", "certificate"),),
    "SECRET": (("auth", "secret"),),
    "SECRET_FILE": (("auth", "secret_file"),),
}

_STACKING = "see docs/debugging.md for stacking mitmweb"
_IDLE = "a connection on which nothing happens ends after clients.idle_timeout (KEEPALIVE_TIMEOUT)"
_OWN_LOGIN = "a client's own login is always used before the operator's"
# What no longer means anything, and what to use in its place.
OBSOLETE = {
    "PROXY_REQUEST_BUFFERING": "uploads are always streamed",
    "CLIENT_BODY_TIMEOUT": f"uploads are streamed; {_IDLE}",
    "PROXY_SEND_TIMEOUT": f"uploads are streamed; {_IDLE}",
    "PROXY_CONNECT_READ_TIMEOUT": _IDLE,
    "PROXY_CONNECT_SEND_TIMEOUT": _IDLE,
    "DEBUG": _STACKING,
    "DEBUG_HUB": _STACKING,
    "DEBUG_NGINX": "there is no nginx; use LOG_LEVEL=debug",
    "CA_SRL_FILE": "serial numbers are random; nothing needs to be kept",
    "ALLOW_OWN_AUTH": _OWN_LOGIN,
    "ALLOW_PUSH_WITH_OWN_AUTH": f"{_OWN_LOGIN}; use ALLOW_PUSH or registries.<name>.push",
    "CACHE_DIRECTORY": "use ENTREPOT_DATA, the directory of the CA and the cache",
    "CACHE_MIN_FREE": "use ENTREPOT_STORAGE__MIN_FREE, which evicts and never empties the cache",
}
# Off is what they are anyway; compose files often say so.
_HARMLESS_WHEN_OFF = frozenset(
    {"DEBUG", "DEBUG_HUB", "DEBUG_NGINX", "ALLOW_OWN_AUTH", "ALLOW_PUSH_WITH_OWN_AUTH"}
)

# Defaults of rpardini's image, which people who enable its manifest cache rely on.
_TIERS = {
    "PRIMARY": ("(stable|nightly|production|test)", "10m"),
    "SECONDARY": (r"(.*)(\d|\.)+(.*)(\d|\.)+(.*)(\d|\.)+", "60d"),
}
_DEFAULT_TIME = "1h"
_MANIFEST_CACHE = frozenset(
    {"MANIFEST_CACHE_DEFAULT_TIME"}
    | {f"MANIFEST_CACHE_{tier}_{what}" for tier in _TIERS for what in ("REGEX", "TIME")}
)

KNOWN = frozenset(
    {
        *SETTINGS,
        *OBSOLETE,
        *_MANIFEST_CACHE,
        "ENABLE_MANIFEST_CACHE",
        "REGISTRIES",
        "AUTH_REGISTRIES",
        "AUTH_REGISTRIES_FILE",
        "AUTH_REGISTRIES_DELIMITER",
        "AUTH_REGISTRY_DELIMITER",
        "ALLOW_PUSH",
        "VERIFY_SSL",
        "DISABLE_IPV6",
    }
)

_LOG_LEVELS = {"warn": "warning", "notice": "info", "crit": "error", "critical": "error"}


def apply(tree: Mapping, variables: Variables, report: Report) -> Mapping:
    for name, paths in SETTINGS.items():
        if value := variables.text(name):
            if name == "LOG_LEVEL":
                level = value.text.lower()
                value = Scalar(value.origin, _LOG_LEVELS.get(level, level))
            for path in paths:
                tree = lay(tree, path, value)
    if (no_ipv6 := variables.flag("DISABLE_IPV6")) is not None:
        tree = put(tree, ("upstream", "ipv6"), _flag("DISABLE_IPV6", value=not no_ipv6))
    tree = _manifest_cache(tree, variables, report)
    tree = _registries(tree, variables, report)
    tree = _credentials(tree, variables, report)
    tree = _for_all_registries(tree, variables, report)
    for name, reason in OBSOLETE.items():
        value = variables.text(name)
        if value and not (name in _HARMLESS_WHEN_OFF and value.text.lower() in {"false", "0"}):
            report.warn(f"{name} has no effect: {reason}")
    return tree


def _flag(name: str, *, value: bool) -> Scalar:
    return Scalar(Origin(name), "true" if value else "false")


# ---- manifest cache ------------------------------------------------------------------------


def _manifest_cache(tree: Mapping, variables: Variables, report: Report) -> Mapping:
    enabled = variables.flag("ENABLE_MANIFEST_CACHE")
    if not enabled:
        for name in sorted(_MANIFEST_CACHE):
            if variables.text(name):
                report.warn(f"{name} has no effect without ENABLE_MANIFEST_CACHE=true")
    if enabled is None:
        return tree
    if not enabled:
        return put(tree, ("tags", "ttl"), Scalar(Origin("ENABLE_MANIFEST_CACHE"), "0"))
    origin = Origin("MANIFEST_CACHE_DEFAULT_TIME")
    ttl = variables.text(origin.label) or Scalar(origin, _DEFAULT_TIME)
    rules: tuple[Node, ...] = tuple(_tier_rule(tier, variables, report) for tier in _TIERS)
    written = get(tree, ("tags", "rules"))
    if isinstance(written, Sequence):
        rules += written.items
    tree = put(tree, ("tags", "ttl"), ttl)
    return put(tree, ("tags", "rules"), Sequence(Origin("ENABLE_MANIFEST_CACHE"), rules))


def _tier_rule(tier: str, variables: Variables, report: Report) -> Mapping:
    regex, time = (
        variables.text(f"MANIFEST_CACHE_{tier}_{what}")
        or Scalar(Origin(f"MANIFEST_CACHE_{tier}_{what}"), default)
        for what, default in zip(("REGEX", "TIME"), _TIERS[tier], strict=True)
    )
    try:
        check_regex(regex.text)
    except Expected as expected:
        report.problem(regex.origin, (), f"expected {expected}; got {regex.text!r}")
        regex = Scalar(regex.origin, "")
    # nginx matched what follows /manifests/, from its beginning. The look-ahead finds the colon
    # before the tag: the registry may have one of its own, before the port.
    match = Scalar(regex.origin, rf"/:(?=[^:/]*$)(?:{regex.text})/")
    return Mapping(regex.origin, {"match": match, "ttl": time})


# ---- registries ----------------------------------------------------------------------------


def _registries(tree: Mapping, variables: Variables, report: Report) -> Mapping:
    """REGISTRIES says which; what the file says about one of them stays."""
    value = variables.text("REGISTRIES")
    if value is None:
        return tree
    written = _written(tree)
    names: dict[str, Node] = {}
    for text in (DOCKER_HUB, *unquoted(value.text).split()):
        try:
            name = registry_name(text)
        except Expected as expected:
            report.problem(value.origin, (), f"expected {expected}")
            continue
        names[name] = written.get(name) or Scalar(value.origin, is_null=True)
    return put(tree, ("registries",), Mapping(value.origin, names))


def _written(tree: Mapping) -> dict[str, Node]:
    registries = get(tree, ("registries",))
    return registries.entries if isinstance(registries, Mapping) else {}


def _for_all_registries(tree: Mapping, variables: Variables, report: Report) -> Mapping:
    push, verify = variables.flag("ALLOW_PUSH"), variables.flag("VERIFY_SSL")
    if verify is False:
        report.warn("VERIFY_SSL=false: no upstream's certificate is checked; better is ca_bundle")
    for name in _written(tree):
        path = ("registries", name)
        if push is not None:
            policy = Scalar(Origin("ALLOW_PUSH"), "allow" if push else "deny")
            tree = put(tree, (*path, "push"), policy)
            tree = _push_as_before(tree, path) if push else tree
        if verify is not None:
            tree = put(tree, (*path, "verify"), _flag("VERIFY_SSL", value=verify))
    return tree


def _push_as_before(tree: Mapping, path: KeyPath) -> Mapping:
    """With AUTH_REGISTRIES, whoever asks, as rpardini writes; the file may say otherwise."""
    username = get(tree, (*path, "username"))
    if username is None or username.origin.label not in _CREDENTIALS:
        return tree
    if get(tree, (*path, "push_as")) is not None:
        return tree
    return put(tree, (*path, "push_as"), Scalar(Origin("ALLOW_PUSH"), "operator"))


# ---- credentials ---------------------------------------------------------------------------

_CREDENTIALS = frozenset({"AUTH_REGISTRIES", "AUTH_REGISTRIES_FILE"})
_CREDENTIAL_KEYS = frozenset({"username", "password", "password_file", "helper", "exec"})


def _credentials(tree: Mapping, variables: Variables, report: Report) -> Mapping:
    value = variables.secret("AUTH_REGISTRIES")
    if value is None:
        return tree
    between_entries = unquoted(variables.raw("AUTH_REGISTRIES_DELIMITER")) or " "
    between_fields = unquoted(variables.raw("AUTH_REGISTRY_DELIMITER")) or ":"
    entries = split_entries(value.text, between_entries)
    for number, entry in enumerate(entries, start=1):
        fields = split_fields(entry, between_fields, frozenset(_written(tree)))
        try:
            name = _entry_name(fields, _written(tree))
        except Expected as expected:
            # Nothing of the entry is shown: with a wrong delimiter any part may be a password.
            report.problem(value.origin, (), f"entry {number}: expected {expected}")
            continue
        if name not in _written(tree):
            report.warn(
                f"{value.origin}: {name} is not among the registries and was added; credentials"
                " belong to the registry that images are named after, not to its token service"
            )
        tree = _with_credentials(tree, name, fields, value.origin)
    return tree


def split_entries(text: str, delimiter: str) -> list[str]:
    """Entries without the quotes that Compose and Portainer leave around all or each of them."""
    quote = text[:1]
    if f"{quote}{delimiter}{quote}" not in text:
        text = unquoted(text)
    parts = text.split() if delimiter.isspace() and delimiter != "\n" else text.split(delimiter)
    return [unquoted(part.strip()) for part in parts if part.strip()]


def split_fields(entry: str, delimiter: str, known: frozenset[str]) -> list[str]:
    """[host, user, password]: what follows the second delimiter is the password, all of it."""
    fields = entry.split(delimiter, 2)
    if delimiter != ":":
        return fields
    # registry.lan:5000:user:password, told from registry.lan:user:… by what is configured.
    longer = entry.split(delimiter, 3)
    host = ":".join(longer[:2])
    return [host, *longer[2:]] if len(longer) > len(fields) and host in known else fields


def _entry_name(fields: list[str], known: dict[str, Node]) -> str:
    expected = Expected("registry, user and password between delimiters")
    if len(fields) != len(("host", "user", "password")) or not all(fields):
        raise expected
    try:
        name = registry_name(fields[0])
    except Expected:
        raise expected from None
    # As Docker tells a registry from a repository: a dot, a port, or a name that is known.
    if name not in known and not re.search(r"[.:]", name):
        raise Expected("it to begin with the host of a registry")
    return name


def _with_credentials(tree: Mapping, name: str, fields: list[str], origin: Origin) -> Mapping:
    path = ("registries", name)
    registry = get(tree, path) or Mapping(origin)
    if not isinstance(registry, Mapping):
        return tree  # of the wrong kind: `build` says so
    kept = {key: node for key, node in registry.entries.items() if key not in _CREDENTIAL_KEYS}
    given = dict(_fields(fields, origin))
    return put(tree, path, Mapping(registry.origin, {**kept, **given}))


def _fields(fields: list[str], origin: Origin) -> Iterator[tuple[str, Node]]:
    yield "username", Scalar(origin, fields[1])
    yield "password", Scalar(origin, fields[2])
